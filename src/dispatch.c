/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *	  The scheduler's look at the queue: what is due, what starts.
 *
 * Runs in the scheduler only.  A look is one transaction in two steps:
 *
 * Intake reads the entries that have become due, in (run_at, id) order, from
 * where the last look ended (the frontier), and notes their jobs.  It takes no
 * locks.  Whoever inserts or changes an entry below the frontier says so when
 * its transaction ends (shmem.c), and the frontier is moved back to there.
 *
 * Service goes over the noted jobs by priority.  Each entry gets its verdict
 * from decide(); what starts is locked without waiting, its `running` row is
 * inserted, the entry moved on or removed.  After the commit the claimed runs
 * are handed to the workers through the ring.
 *
 * A job that cannot start its entries (it runs already, no worker is free,
 * somebody's open transaction holds the row, its owner cannot connect) stays
 * noted, and its entries are not read again until it is served: 200,000
 * waiting entries of one job cost another one nothing.  What is noted is a
 * cache of the queue; after an error it is thrown away and read again.
 *
 * Nothing here waits: rows held by open transactions are passed over and
 * looked at again a second later.
 *
 * Memory: noted jobs live in dispatch_context; a look's own data in
 * look_context, reset at its end.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "dispatch_internal.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "session.h"
#include "settings.h"
#include "shmem.h"

/* Entries read in one look. */
#define INTAKE_LIMIT 5000

/* A claimed run that no worker took for so long is taken back. */
#define STUCK_AFTER (200 * INT64CONST(1000))

static MemoryContext dispatch_context = NULL;
static MemoryContext look_context = NULL;
static HTAB *noted_jobs = NULL;
static TimestampTz frontier_run_at = DT_NOBEGIN;
static int64 frontier_id = 0;

/* Claims on their way back into the queue. */
static int64 homeless[JANITOR_RING_SIZE + CLAIM_LIMIT];
static int	homeless_count = 0;

/* --- state --- */

void
janitor_dispatch_reset(void)
{
	HASHCTL		control;

	if (dispatch_context == NULL)
	{
		dispatch_context = AllocSetContextCreate(TopMemoryContext,
												 "pg_janitor dispatch",
												 ALLOCSET_DEFAULT_SIZES);
		look_context = AllocSetContextCreate(TopMemoryContext,
											 "pg_janitor look",
											 ALLOCSET_DEFAULT_SIZES);
	}
	MemoryContextReset(dispatch_context);
	MemoryContextReset(look_context);
	MemSet(&control, 0, sizeof(control));
	control.keysize = sizeof(uint64);
	control.entrysize = sizeof(JanitorNotedJob);
	control.hcxt = dispatch_context;
	noted_jobs = hash_create("pg_janitor noted jobs", 256, &control,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	frontier_run_at = DT_NOBEGIN;
	frontier_id = 0;
}

static void
forget_noted(JanitorNotedJob *noted)
{
	pfree(noted->name);
	hash_search(noted_jobs, &noted->hash, HASH_REMOVE, NULL);
}

/* Definitions changed: whatever was in the way may be gone. */
static void
review_noted(void)
{
	HASH_SEQ_STATUS status;
	JanitorNotedJob *noted;

	hash_seq_init(&status, noted_jobs);
	while ((noted = hash_seq_search(&status)) != NULL)
	{
		noted->look_at = DT_NOBEGIN;
		noted->problem_logged = false;
	}
	janitor_forgive_owners();
}

/* --- intake --- */

typedef struct Intake
{
	int			read;
	bool		full;
} Intake;

static bool
note_entry(JanitorEntry *entry, void *arg)
{
	Intake	   *intake = arg;
	uint64		hash = janitor_job_hash(entry->job_name);
	JanitorNotedJob *noted;
	bool		found;

	noted = hash_search(noted_jobs, &hash, HASH_ENTER, &found);
	if (!found)
	{
		JanitorJob *job = janitor_job_load(entry->job_name);

		noted->name = MemoryContextStrdup(dispatch_context, entry->job_name);
		noted->priority = job ? job->priority : 0;
		noted->run_at = entry->run_at;
		noted->id = entry->id - 1;
		noted->look_at = DT_NOBEGIN;
		noted->problem_logged = false;
	}
	else if (entry->run_at < noted->run_at ||
			 (entry->run_at == noted->run_at && entry->id <= noted->id))
	{
		noted->run_at = entry->run_at;
		noted->id = entry->id - 1;
	}
	frontier_run_at = entry->run_at;
	frontier_id = entry->id;
	intake->full = ++intake->read >= INTAKE_LIMIT;
	return !intake->full;
}

/* Notes the jobs of all that has become due; true: there is more. */
static bool
take_in(TimestampTz now)
{
	Intake		intake = {0, false};

	janitor_entry_scan(NULL, frontier_run_at, frontier_id, now,
					   note_entry, &intake);
	if (!intake.full)
	{
		frontier_run_at = Max(frontier_run_at, now);
		frontier_id = PG_INT64_MAX;
	}
	return intake.full;
}

static void
move_frontier_back(TimestampTz told)
{
	if (told == DT_NOBEGIN)
		frontier_run_at = DT_NOBEGIN;
	else if (told <= frontier_run_at)
		frontier_run_at = told - 1;
	else
		return;
	frontier_id = PG_INT64_MAX;
}

/* --- a look --- */

static int
compare_noted(const void *a, const void *b)
{
	const JanitorNotedJob *x = *(JanitorNotedJob *const *) a;
	const JanitorNotedJob *y = *(JanitorNotedJob *const *) b;

	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	if (x->run_at != y->run_at)
		return x->run_at < y->run_at ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void
serve_all(JanitorRound *round)
{
	long		count = hash_get_num_entries(noted_jobs);
	JanitorNotedJob **jobs = palloc((count + 1) * sizeof(JanitorNotedJob *));
	HASH_SEQ_STATUS status;
	JanitorNotedJob *noted;
	long		n = 0;

	hash_seq_init(&status, noted_jobs);
	while ((noted = hash_seq_search(&status)) != NULL)
		jobs[n++] = noted;
	qsort(jobs, n, sizeof(JanitorNotedJob *), compare_noted);

	for (long i = 0; i < n; i++)
	{
		if (jobs[i]->look_at != DT_NOBEGIN && jobs[i]->look_at > round->now)
		{
			round->result->look_at = Min(round->result->look_at,
										 jobs[i]->look_at);
			continue;
		}
		if (!janitor_serve(round, jobs[i]))
			forget_noted(jobs[i]);
	}
}

/* Undoes a claim that nobody began: the entry is back, free of charge. */
static void
unclaim(int64 execution_id)
{
	JanitorExecution was;
	JanitorEntry entry;

	if (!janitor_execution_unstart(execution_id, &was))
		return;
	MemSet(&entry, 0, sizeof(entry));
	entry.execution_id = was.id;
	entry.job_name = was.job_name;
	entry.run_at = janitor_clock();
	entry.scheduled_for = was.scheduled_for;
	entry.reason = was.reason;
	entry.attempt = was.attempt;
	entry.conflicts = was.conflicts;
	entry.retry_of = was.retry_of;
	entry.parent_id = was.parent_id;
	entry.args = was.args;
	entry.triggered_by = was.triggered_by;
	janitor_entry_insert(&entry);
}

static void
unclaim_homeless(void *arg)
{
	janitor_begin();
	for (int i = 0; i < homeless_count; i++)
		unclaim(homeless[i]);
	janitor_commit(false);
}

/*
 * Claims that are in the ring no more, or never came there.  They are kept
 * here until their return to the queue is committed.
 */
static void
put_back(void)
{
	JanitorError *error;

	if (homeless_count == 0)
		return;
	error = janitor_attempt(unclaim_homeless, NULL);
	if (error)
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("claimed runs could not be put back: %s",
						error->message)));
	homeless_count = 0;
}

/*
 * After the commit.  Another database's scheduler may have filled the ring in
 * the meantime: what has no room goes back into the queue.
 */
static void
hand_over(const JanitorRound *round)
{
	for (int i = 0; i < round->claims; i++)
	{
		const JanitorClaim *claimed = &round->claim[i];

		if (!janitor_ring_push(claimed->execution_id, claimed->job_hash,
							   claimed->owner))
			homeless[homeless_count++] = claimed->execution_id;
	}
	put_back();
}

void
janitor_dispatch(TimestampTz told, bool everything, JanitorLook *result)
{
	MemoryContext caller = MemoryContextSwitchTo(look_context);
	JanitorRound *round = palloc0(sizeof(JanitorRound));

	MemSet(result, 0, sizeof(JanitorLook));
	result->look_at = DT_NOEND;
	round->result = result;
	round->now = janitor_clock();
	round->ring_room = janitor_ring_free();
	janitor_check_recruits();
	if (everything)
		review_noted();
	move_frontier_back(told);

	janitor_begin();
	result->more = take_in(round->now);
	serve_all(round);
	result->look_at = Min(result->look_at,
						  janitor_entry_earliest(frontier_run_at,
												 frontier_id));
	janitor_wake_forget();
	janitor_commit(true);

	hand_over(round);
	janitor_recruit(round);
	janitor_scheduler_set_backlog(result->waiting);
	result->claimed = round->claims;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(look_context);
}

/* --- workers ahead of time --- */

#define PREPARE_LIMIT 64

static bool
prepare_for_entry(JanitorEntry *entry, void *arg)
{
	JanitorRound *round = arg;
	JanitorJob *job = janitor_job_load(entry->job_name);

	if (job != NULL && job->enabled && !job->paused &&
		janitor_job_owner_problem(job) == NULL)
	{
		JanitorStaff *staff = janitor_find_staff(round, job->owner_oid);

		/* what is there already is enough to begin with */
		if (staff->room == 0 && staff->starting == 0)
			staff->wanted = 1;
	}
	return ++round->claims < PREPARE_LIMIT;
}

void
janitor_prepare_workers(TimestampTz due)
{
	MemoryContext caller = MemoryContextSwitchTo(look_context);
	JanitorLook result = {.look_at = DT_NOEND};
	JanitorRound *round = palloc0(sizeof(JanitorRound));

	round->now = janitor_clock();
	round->result = &result;
	janitor_begin();
	janitor_entry_scan(NULL, frontier_run_at, frontier_id, due,
					   prepare_for_entry, round);
	janitor_commit(true);
	janitor_recruit(round);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(look_context);
}

/* --- taking back --- */

void
janitor_take_back_stuck(bool all)
{
	MemoryContext caller = MemoryContextSwitchTo(look_context);
	TimestampTz before = all ? DT_NOEND : GetCurrentTimestamp() - STUCK_AFTER;

	homeless_count +=
		janitor_ring_take_back(before, homeless + homeless_count,
							   lengthof(homeless) - homeless_count);
	put_back();
	MemoryContextSwitchTo(caller);
	MemoryContextReset(look_context);
}
