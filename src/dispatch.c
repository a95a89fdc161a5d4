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

#include "conclude.h"
#include "home.h"
#include "mark.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

/*
 * Entries read in one look; fewer while workers stand idle, so that the first
 * claims are not kept waiting by the last.
 */
#define INTAKE_LIMIT 5000
#define INTAKE_LIMIT_IDLE 64

/* So long after a start of the server claims are flushed. */
#define FLUSH_CLAIMS (60 * USECS_PER_SEC)

/*
 * A job that could not be served for an error is left alone for this long,
 * doubled each time.
 */
#define TROUBLE_RETRY (1 * USECS_PER_SEC)
#define TROUBLE_RETRY_MAX (60 * USECS_PER_SEC)

/* A claimed run that no worker took for so long is taken back. */
#define STUCK_AFTER (200 * INT64CONST(1000))

static MemoryContext dispatch_context = NULL;
static MemoryContext look_context = NULL;
static HTAB *noted_jobs = NULL;
static TimestampTz frontier_run_at = DT_NOBEGIN;
static int64 frontier_id = 0;

/*
 * Claims on their way into the ring, or back into the queue.  Whoever comes
 * after this process has to see to them (janitor_settle).
 */
static JanitorClaim homeless[JANITOR_RING_SIZE + CLAIM_LIMIT];
static int	homeless_count = 0;

/* When pg_janitor was last switched off here; see dispatch.h. */
static TimestampTz off_since = 0;
static TimestampTz off_until = 0;

/* The job being served, should there be an error; 0: none is. */
static uint64 serving = 0;
static char serving_name[4 * JANITOR_NAME_LIMIT + 1];

/* Jobs whose service raised an error, until when they are left alone. */
typedef struct Trouble
{
	uint64		hash;
	TimestampTz until;
	int64		delay;
} Trouble;
static List *troubles = NIL;	/* in TopMemoryContext */

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
	serving = 0;
	janitor_offer_reset();
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
	list_free_deep(troubles);
	troubles = NIL;
}

void
janitor_dispatch_was_off(TimestampTz since, TimestampTz until)
{
	off_since = since;
	off_until = until;
}

/* --- jobs that cannot be served --- */

static Trouble *
find_trouble(uint64 hash)
{
	ListCell   *cell;

	foreach(cell, troubles)
	{
		if (((Trouble *) lfirst(cell))->hash == hash)
			return lfirst(cell);
	}
	return NULL;
}

/* The job could be served. */
static void
forget_trouble(uint64 hash)
{
	Trouble    *trouble = troubles == NIL ? NULL : find_trouble(hash);

	if (trouble == NULL)
		return;
	troubles = list_delete_ptr(troubles, trouble);
	pfree(trouble);
}

static void
log_trouble(const JanitorError *error)
{
	ereport(LOG,
			(errmsg("job \"%s\" cannot be served: %s", serving_name,
					error->message),
			 errdetail("SQLSTATE %s. It is tried again, at last every %d s.",
					   unpack_sql_state(error->sqlstate),
					   (int) (TROUBLE_RETRY_MAX / USECS_PER_SEC))));
}

/*
 * After an ERROR in a look.  If it came from one job, that job is left alone
 * for a while and the others go on; true.  Else the look itself is at fault.
 */
bool
janitor_dispatch_blame(const JanitorError *error)
{
	Trouble    *trouble;

	if (serving == 0 || error->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		ERRCODE_TO_CATEGORY(error->sqlstate) ==
		ERRCODE_INSUFFICIENT_RESOURCES)
		return false;
	trouble = find_trouble(serving);
	if (trouble == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		trouble = palloc0(sizeof(Trouble));
		trouble->hash = serving;
		troubles = lappend(troubles, trouble);
		MemoryContextSwitchTo(old);
		log_trouble(error);
	}
	trouble->delay = Min(Max(trouble->delay * 2, TROUBLE_RETRY),
						 TROUBLE_RETRY_MAX);
	trouble->until = janitor_clock() + trouble->delay;
	return true;
}

/* Is the job left alone?  Until when. */
static bool
is_troubled(uint64 hash, TimestampTz now, TimestampTz *until)
{
	const Trouble *trouble = troubles == NIL ? NULL : find_trouble(hash);

	if (trouble == NULL || trouble->until <= now)
		return false;
	*until = trouble->until;
	return true;
}

/* --- intake --- */

typedef struct Intake
{
	int			limit;
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
		noted->overdue_at = entry->run_at + JANITOR_OVERDUE_AFTER;
		noted->owner = InvalidOid;
		noted->orphan_until = DT_NOBEGIN;
		noted->problem_logged = false;
	}
	else if (entry->run_at < noted->run_at ||
			 (entry->run_at == noted->run_at && entry->id <= noted->id))
	{
		noted->run_at = entry->run_at;
		noted->id = entry->id - 1;
	}

	/* it may be there because somebody let go of what was in the way */
	noted->look_at = DT_NOBEGIN;
	frontier_run_at = entry->run_at;
	frontier_id = entry->id;
	intake->full = ++intake->read >= intake->limit;
	return !intake->full;
}

/* Notes the jobs of all that has become due; true: there is more. */
static bool
take_in(TimestampTz now, int limit)
{
	Intake		intake = {limit, 0, false};

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

/*
 * A job whose owner's workers have no room is not served again and again: it
 * would only be found waiting.
 */
static bool
is_pointless(JanitorRound *round, const JanitorNotedJob *noted)
{
	JanitorStaff *staff;

	if (!OidIsValid(noted->owner))
		return false;
	staff = janitor_find_staff(round, noted->owner);
	return staff->room == 0 && staff->wanted >= janitor_max_workers;
}

static void
serve_noted(JanitorRound *round, JanitorNotedJob *noted)
{
	TimestampTz until = noted->look_at;
	bool		left;

	if ((until != DT_NOBEGIN && until > round->now) ||
		is_troubled(noted->hash, round->now, &until))
	{
		round->result->look_at = Min(round->result->look_at, until);
		return;
	}
	if (is_pointless(round, noted))
	{
		round->result->waiting = true;
		return;
	}
	serving = noted->hash;
	strlcpy(serving_name, noted->name, sizeof(serving_name));
	left = janitor_serve(round, noted);
	serving = 0;
	forget_trouble(noted->hash);
	if (!left)
		forget_noted(noted);
	else if (noted->look_at != DT_NOBEGIN)
		round->result->look_at = Min(round->result->look_at, noted->look_at);
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
		if (round->claims > 0 && round->claims >= round->claim_limit)
		{
			round->result->more = true;
			return;
		}
		serve_noted(round, jobs[i]);
	}
}

/* What waits longer than it should is told. */
static void
watch_all(JanitorRound *round)
{
	HASH_SEQ_STATUS status;
	JanitorNotedJob *noted;

	hash_seq_init(&status, noted_jobs);
	while ((noted = hash_seq_search(&status)) != NULL)
		janitor_watch_noted(round, noted);
	janitor_watch_offers(round);
}

/* It was cancelled before anybody began it. */
static void
close_cancelled(int64 execution_id)
{
	JanitorOutcome outcome;

	janitor_outcome_cancelled(&outcome, ERRCODE_QUERY_CANCELED,
							  "canceled before it began");
	(void) janitor_execution_finish(execution_id, &outcome);
}

static void
unclaim_one(void *arg)
{
	JanitorClaim *claimed = arg;

	janitor_begin();
	if (claimed->end != JANITOR_END_NONE)
		close_cancelled(claimed->execution_id);
	else
		janitor_unclaim(claimed->execution_id);
	janitor_commit(true);
}

bool
janitor_has_homeless(void)
{
	return homeless_count > 0;
}

bool
janitor_is_homeless(int64 execution_id)
{
	for (int i = 0; i < homeless_count; i++)
	{
		if (homeless[i].execution_id == execution_id)
			return true;
	}
	return false;
}

/*
 * Claims that are in the ring no more, or never came there.  They are kept
 * until their return to the queue is committed.
 */
static void
put_back(void)
{
	int			left = 0;

	for (int i = 0; i < homeless_count; i++)
	{
		JanitorError *error = janitor_attempt(unclaim_one, &homeless[i]);

		if (error)
			homeless[left++] = homeless[i];
	}
	if (homeless_count > left)
		janitor_runs_have_ended();
	homeless_count = left;
}

/*
 * After the commit.  Another database's scheduler may have filled the ring, or
 * the room for heavy runs, in the meantime: what has no room goes back into
 * the queue.
 */
static void
hand_over(JanitorRound *round)
{
	JanitorClaim *claims = homeless + homeless_count;
	int			taken;

	memcpy(claims, round->claim, round->claims * sizeof(JanitorClaim));
	homeless_count += round->claims;
	taken = janitor_ring_push(claims, round->claims);
	homeless_count -= taken;
	memmove(claims, claims + taken,
			(round->claims - taken) * sizeof(JanitorClaim));
	put_back();
}

/*
 * A claim that a crash loses takes everything after it along, so it need not
 * be flushed; but then nobody counts what a job does that crashes the server
 * as soon as it starts.  After a start of the server claims are flushed, until
 * it has held out for a while.
 */
static bool
must_flush(const JanitorRound *round)
{
	return round->claims > 0 &&
		GetCurrentTimestamp() - janitor_started_at() < FLUSH_CLAIMS;
}

static void
begin_round(JanitorRound *round, JanitorLook *result)
{
	int			idle = janitor_idle_workers();
	int			ring_room = janitor_ring_free();

	MemSet(result, 0, sizeof(JanitorLook));
	result->look_at = DT_NOEND;
	round->result = result;
	round->now = janitor_clock();
	round->off_since = off_since;
	round->off_until = off_until;
	round->claim_limit = Min(Min(CLAIM_LIMIT, ring_room),
							 lengthof(homeless) - homeless_count);
	if (idle > 0)
		round->claim_limit = Min(round->claim_limit, idle);
}

/*
 * The backlog is announced before anything is looked at and recalled at the
 * end: a run that ends in between may be what an entry waits for.  So is that
 * heavy runs are waited for.
 */
void
janitor_dispatch(TimestampTz told, bool everything, JanitorLook *result)
{
	MemoryContext caller = MemoryContextSwitchTo(look_context);
	JanitorRound *round = palloc0(sizeof(JanitorRound));

	janitor_scheduler_set_backlog(true);
	round->heavy_room = janitor_heavy_announce();
	begin_round(round, result);
	janitor_check_recruits();
	if (everything)
		review_noted();
	move_frontier_back(told);
	result->look_at = janitor_expire_leases(janitor_alarm_clear(),
											everything);

	janitor_begin();
	if (janitor_extension_exists())
	{
		if (everything)
			janitor_circuits_settle();
		result->more = take_in(round->now,
							   round->claim_limit < CLAIM_LIMIT ?
							   INTAKE_LIMIT_IDLE : INTAKE_LIMIT);
		serve_all(round);
		result->look_at = Min(result->look_at,
							  janitor_entry_earliest(frontier_run_at,
													 frontier_id));
		janitor_announce(round, everything);
		watch_all(round);
		janitor_alert(round);
	}
	else
		result->gone = true;
	janitor_wake_forget();
	janitor_claims_forget();
	janitor_commit(!must_flush(round));
	janitor_alerts_sent();

	hand_over(round);
	janitor_heavy_recall(round->heavy_wanted);
	janitor_recruit(round);
	if (homeless_count > 0)
	{
		result->waiting = true;
		result->look_at = Min(result->look_at, round->now + HELD_RETRY);
	}
	if (!result->waiting)
		janitor_scheduler_set_backlog(false);
	result->claimed = round->claims;
	result->look_at = janitor_alarm_set(result->look_at);
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

	if (job != NULL && job->kind != JANITOR_KIND_EXTERNAL &&
		!job->paused && janitor_job_runs_by_itself(job) &&
		janitor_job_owner_problem(job) == NULL)
	{
		JanitorStaff *staff = janitor_find_staff(round, job->owner_oid);

		/* what is there already is enough to begin with */
		if (staff->room == 0 && staff->starting == 0)
			staff->wanted = 1;
	}
	return ++round->claims < PREPARE_LIMIT;
}

static void
prepare_workers(void *arg)
{
	TimestampTz *due = arg;
	JanitorLook result = {.look_at = DT_NOEND};
	JanitorRound *round = palloc0(sizeof(JanitorRound));

	round->now = janitor_clock();
	round->result = &result;
	janitor_begin();
	janitor_entry_scan(NULL, frontier_run_at, frontier_id, *due,
					   prepare_for_entry, round);
	janitor_commit(true);
	janitor_recruit(round);
}

/* A failure here is of no consequence. */
void
janitor_prepare_workers(TimestampTz due)
{
	MemoryContext caller = MemoryContextSwitchTo(look_context);

	(void) janitor_attempt(prepare_workers, &due);
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
