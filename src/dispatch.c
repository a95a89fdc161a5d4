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
#include "dispatch.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bgworker.h"
#include "definition.h"
#include "history.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

/* Entries read, and occurrences of one job gone through, in one look. */
#define INTAKE_LIMIT 5000
#define OCCURRENCE_LIMIT 1000

/* Runs claimed in one look. */
#define CLAIM_LIMIT 256

/* A row held by an open transaction is looked at again after this. */
#define HELD_RETRY (1 * USECS_PER_SEC)

/* A job whose owner cannot run it is checked again after this. */
#define PROBLEM_RETRY (60 * USECS_PER_SEC)

/* A claimed run that no worker took for so long is taken back. */
#define STUCK_AFTER (200 * INT64CONST(1000))

/* A role's workers that fail to connect are tried again after 1 to 60 s. */
#define OWNER_RETRY_MAX (60 * USECS_PER_SEC)

/* A job with due entries. */
typedef struct NotedJob
{
	uint64		hash;			/* key */
	char	   *name;
	int			priority;
	TimestampTz run_at;			/* its due entries are after this position */
	int64		id;
	TimestampTz look_at;		/* not before; DT_NOEND: when told */
	bool		problem_logged;
} NotedJob;

/* A role as one look sees its workers. */
typedef struct Crew
{
	Oid			owner;
	int			starting;
	int			room;			/* runs that may still be claimed */
	int			wanted;			/* entries that wait for a worker */
} Crew;

/* A role whose workers could not connect. */
typedef struct FailedOwner
{
	Oid			owner;
	TimestampTz until;
	int64		delay;
} FailedOwner;

typedef struct Claim
{
	int64		execution_id;
	uint64		job_hash;
	Oid			owner;
} Claim;

/* The state of the look in progress. */
typedef struct Look
{
	TimestampTz now;			/* by janitor_clock() */
	JanitorLook *result;
	List	   *crews;			/* of Crew */
	int			ring_room;
	int			claims;
	Claim		claim[CLAIM_LIMIT];
} Look;

/* What service needs to hand from one entry of a job to the next. */
typedef struct Service
{
	Look	   *look;
	NotedJob   *noted;
	JanitorJob *job;
	Crew	   *crew;
	int			running;
	bool		blocked;		/* it has due entries left */
	bool		scheduled;		/* occurrence is its schedule entry */
	JanitorEntry occurrence;
	JanitorEntry *entries;
	int			count;
	int			limit;
} Service;

static MemoryContext dispatch_context = NULL;
static MemoryContext look_context = NULL;
static HTAB *noted_jobs = NULL;
static TimestampTz frontier_run_at = DT_NOBEGIN;
static int64 frontier_id = 0;
static List *failed_owners = NIL;
static bool exhausted_logged = false;

/* Workers that were registered and have not come yet. */
typedef struct StartingWorker
{
	int			slot;
	uint32		serial;
	BackgroundWorkerHandle *handle;
} StartingWorker;
static List *starting_workers = NIL;

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
	control.entrysize = sizeof(NotedJob);
	control.hcxt = dispatch_context;
	noted_jobs = hash_create("pg_janitor noted jobs", 256, &control,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	frontier_run_at = DT_NOBEGIN;
	frontier_id = 0;
}

static void
forget_noted(NotedJob *noted)
{
	pfree(noted->name);
	hash_search(noted_jobs, &noted->hash, HASH_REMOVE, NULL);
}

/* Definitions changed: whatever was in the way may be gone. */
static void
review_noted(void)
{
	HASH_SEQ_STATUS status;
	NotedJob   *noted;

	hash_seq_init(&status, noted_jobs);
	while ((noted = hash_seq_search(&status)) != NULL)
	{
		noted->look_at = DT_NOBEGIN;
		noted->problem_logged = false;
	}
	list_free_deep(failed_owners);
	failed_owners = NIL;
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
	NotedJob   *noted;
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

/* --- workers --- */

static bool
owner_is_failed(Oid owner, TimestampTz now, TimestampTz *until)
{
	ListCell   *cell;

	foreach(cell, failed_owners)
	{
		FailedOwner *failed = lfirst(cell);

		if (failed->owner == owner && failed->until > now)
		{
			*until = failed->until;
			return true;
		}
	}
	return false;
}

void
janitor_owner_failed(Oid owner)
{
	FailedOwner *failed = NULL;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ListCell   *cell;

	foreach(cell, failed_owners)
	{
		if (((FailedOwner *) lfirst(cell))->owner == owner)
			failed = lfirst(cell);
	}
	if (failed == NULL)
	{
		failed = palloc0(sizeof(FailedOwner));
		failed->owner = owner;
		failed_owners = lappend(failed_owners, failed);
	}
	failed->delay = Min(Max(failed->delay * 2, USECS_PER_SEC),
						OWNER_RETRY_MAX);
	failed->until = janitor_clock() + failed->delay;
	MemoryContextSwitchTo(old);
}

/* Frees the places of processes that ended before they came. */
static void
check_starting_workers(void)
{
	ListCell   *cell;

	foreach(cell, starting_workers)
	{
		StartingWorker *starting = lfirst(cell);

		if (janitor_slot_starting(starting->slot, starting->serial) &&
			!janitor_process_ended(starting->handle))
			continue;
		janitor_slot_cancel(starting->slot, starting->serial);
		pfree(starting->handle);
		pfree(starting);
		starting_workers = foreach_delete_current(starting_workers, cell);
	}
}

/* One more worker for the role; false: there is no place or no process. */
static bool
start_worker(Oid owner)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	StartingWorker *starting = palloc0(sizeof(StartingWorker));

	starting->slot = janitor_slot_reserve(owner, &starting->serial);
	if (starting->slot >= 0)
	{
		starting->handle = janitor_start_worker(starting->slot,
												starting->serial);
		if (starting->handle == NULL)
			janitor_slot_cancel(starting->slot, starting->serial);
		else
			starting_workers = lappend(starting_workers, starting);
	}
	MemoryContextSwitchTo(old);

	if (starting->slot < 0)
	{
		pfree(starting);
		janitor_slot_want(owner);
		return false;
	}
	if (starting->handle == NULL)
	{
		pfree(starting);
		if (!exhausted_logged)
			ereport(LOG,
					(errmsg("pg_janitor could not start a worker: no background worker process is free"),
					 errhint("Increase max_worker_processes and restart the server. Due jobs wait; it is tried again every second.")));
		exhausted_logged = true;
		return false;
	}
	exhausted_logged = false;
	return true;
}

static Crew *
find_crew(Look *look, Oid owner)
{
	JanitorCrew seen;
	Crew	   *crew;
	ListCell   *cell;

	foreach(cell, look->crews)
	{
		crew = lfirst(cell);
		if (crew->owner == owner)
			return crew;
	}
	janitor_crew(owner, &seen);
	crew = palloc0(sizeof(Crew));
	crew->owner = owner;
	crew->starting = seen.starting;
	crew->room = seen.idle - seen.ready;
	if (seen.idle + seen.running > 0)
		crew->room += janitor_run_ahead(seen.idle + seen.running);
	crew->room = Max(crew->room, 0);
	look->crews = lappend(look->crews, crew);
	return crew;
}

/* Starts what the look found wanting; by the scheduler's clock, when else? */
static void
start_workers(Look *look)
{
	ListCell   *cell;
	bool		wanting = false;

	foreach(cell, look->crews)
	{
		Crew	   *crew = lfirst(cell);
		TimestampTz until;

		if (crew->wanted <= crew->starting)
			continue;
		wanting = true;
		if (owner_is_failed(crew->owner, look->now, &until))
		{
			look->result->look_at = Min(look->result->look_at, until);
			continue;
		}
		for (int i = crew->starting; i < crew->wanted; i++)
		{
			if (!start_worker(crew->owner))
			{
				look->result->look_at = Min(look->result->look_at,
											look->now + HELD_RETRY);
				break;
			}
		}
	}
	if (!wanting)
		janitor_slot_want_nothing();
}

/* --- claiming --- */

static bool
has_room(const Service *service)
{
	const Look *look = service->look;

	return service->crew->room > 0 && look->claims < CLAIM_LIMIT &&
		look->claims < look->ring_room;
}

static void
want_worker(Service *service)
{
	service->crew->wanted = Min(service->crew->wanted + 1,
								janitor_max_workers);
	service->blocked = true;
}

/* The row is somebody else's for now. */
static void
note_held(Service *service)
{
	service->blocked = true;
	service->noted->look_at = Min(service->look->now + HELD_RETRY,
								  service->noted->look_at == DT_NOBEGIN ?
								  DT_NOEND : service->noted->look_at);
}

static bool
lock_entry(Service *service, JanitorEntry *entry)
{
	switch (janitor_entry_try_lock(entry))
	{
		case JANITOR_LOCKED:
			return true;
		case JANITOR_LOCK_HELD:
			note_held(service);
			return false;
		default:
			return false;		/* whoever changed it has told us */
	}
}

/* The definition's arguments with the entry's over them. */
static Jsonb *
merge_args(const JanitorJob *job, Jsonb *args)
{
	if (args == NULL)
		return job->args;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat,
											  JsonbPGetDatum(job->args),
											  JsonbPGetDatum(args)));
}

/* Inserts the `running` row; the caller moves or removes the entry. */
static void
claim(Service *service, const JanitorEntry *entry)
{
	Look	   *look = service->look;
	Claim	   *claimed = &look->claim[look->claims++];
	JanitorEntry copy = *entry;

	copy.args = merge_args(service->job, entry->args);
	janitor_execution_start(&copy, GetCurrentTimestamp(),
							service->job->version, service->job->owner);
	claimed->execution_id = copy.execution_id;
	claimed->job_hash = service->noted->hash;
	claimed->owner = service->crew->owner;
	service->crew->room--;
	service->running++;
	janitor_history_count(service->noted->name);
}

static void
make_case(const Service *service, JanitorCase *it)
{
	const JanitorJob *job = service->job;

	MemSet(it, 0, sizeof(JanitorCase));
	it->enabled = job->enabled;
	it->paused = job->paused;
	it->catch_up = job->catch_up;
	it->catch_up_within = job->catch_up_within;
	it->overlap = job->overlap;
	it->max_running = job->max_running;
	it->running = service->running;
	it->now = service->look->now;
	it->scheduled_for = service->look->now;
	it->following = PG_INT64_MAX;
}

/* --- entries that are not the next occurrence --- */

static void
serve_entry(Service *service, JanitorEntry *entry)
{
	JanitorCase it;

	make_case(service, &it);

	/* an occurrence that was decided on earlier only waits for its turn */
	it.reason = entry->reason == JANITOR_REASON_SCHEDULE ?
		JANITOR_REASON_RETRY : entry->reason;
	switch (janitor_decide(&it))
	{
		case JANITOR_START:
			if (!has_room(service))
				want_worker(service);
			else if (lock_entry(service, entry))
			{
				claim(service, entry);
				janitor_entry_delete(entry);
			}
			break;
		case JANITOR_DROP:
			if (lock_entry(service, entry))
				janitor_entry_delete(entry);
			break;
		default:
			service->blocked = true;
	}
}

static bool
collect_entry(JanitorEntry *entry, void *arg)
{
	Service    *service = arg;

	if (entry->key == NULL || strcmp(entry->key, JANITOR_KEY_SCHEDULE) != 0)
		service->entries[service->count++] = *entry;
	return service->count < service->limit;
}

/*
 * Reads as many as could start, and a few more to see that there are more.
 * Afterwards the job's position is before the first that is still there.
 */
static void
serve_entries(Service *service)
{
	NotedJob   *noted = service->noted;
	int			saturated = service->job->max_running > 0 ?
	Max(service->job->max_running - service->running, 0) : CLAIM_LIMIT;

	service->limit = Min(saturated, service->crew->room) + 4;
	service->entries = palloc(service->limit * sizeof(JanitorEntry));
	service->count = 0;
	janitor_entry_scan(noted->name, noted->run_at, noted->id,
					   service->look->now, collect_entry, service);
	for (int i = 0; i < service->count; i++)
	{
		bool		before = service->blocked;
		JanitorEntry *entry = &service->entries[i];

		serve_entry(service, entry);
		if (!before && !service->blocked)
		{
			noted->run_at = entry->run_at;
			noted->id = entry->id;
		}
	}
	if (service->count == service->limit)
		service->blocked = true;
}

/* --- the next occurrence --- */

typedef struct Skips
{
	int64		count[JANITOR_DROP + 1];
	TimestampTz last[JANITOR_DROP + 1];
} Skips;

static const char *
skip_detail(JanitorVerdict verdict)
{
	switch (verdict)
	{
		case JANITOR_SKIP_OVERLAP:
			return "the job was still running";
		case JANITOR_SKIP_MISSED:
			return "missed, and not made up";
		case JANITOR_SKIP_PAUSED:
			return "the job was paused";
		default:
			return NULL;
	}
}

static void
record_skips(const Service *service, const Skips *skips)
{
	for (JanitorVerdict verdict = 0; verdict <= JANITOR_DROP; verdict++)
	{
		if (skips->count[verdict] > 0)
			janitor_execution_skip(service->noted->name,
								   skips->last[verdict],
								   skip_detail(verdict),
								   skips->count[verdict],
								   service->job->owner);
	}
}

/* catch_up = all makes up for the newest occurrences, so many and no more. */
static bool
is_beyond_limit(const Service *service, const JanitorEntry *entry)
{
	TimestampTz next = entry->scheduled_for;

	if (service->job->catch_up != JANITOR_CATCH_UP_ALL ||
		service->look->now - next <= JANITOR_MISSED_AFTER)
		return false;
	for (int i = 0; i < JANITOR_CATCH_UP_LIMIT; i++)
	{
		next = janitor_job_occurrence(service->job, next, next);
		if (next > service->look->now)
			return false;
	}
	return true;
}

static JanitorVerdict
decide_occurrence(const Service *service, const JanitorEntry *entry,
				  TimestampTz following)
{
	JanitorCase it;
	JanitorEntry queued;

	if (is_beyond_limit(service, entry))
		return JANITOR_SKIP_MISSED;
	make_case(service, &it);
	it.reason = JANITOR_REASON_SCHEDULE;
	it.scheduled_for = entry->scheduled_for;
	it.following = following;
	it.queued = service->job->overlap == JANITOR_OVERLAP_QUEUE &&
		janitor_entry_find_key(service->noted->name, JANITOR_KEY_QUEUED,
							   &queued);
	return janitor_decide(&it);
}

/* overlap = queue: one occurrence is kept for when the job is free. */
static void
keep_one(Service *service, const JanitorEntry *entry)
{
	JanitorEntry kept = *entry;

	kept.id = 0;
	kept.key = JANITOR_KEY_QUEUED;
	janitor_entry_insert(&kept);
	service->blocked = true;
}

/*
 * One occurrence.  true: the entry was moved on to the following one, which
 * may be due as well.
 */
static bool
serve_occurrence(Service *service, JanitorEntry *entry, Skips *skips)
{
	TimestampTz following = janitor_job_occurrence(service->job,
												   entry->scheduled_for,
												   entry->scheduled_for);
	JanitorVerdict verdict = decide_occurrence(service, entry, following);

	switch (verdict)
	{
		case JANITOR_START:
			if (!has_room(service))
			{
				want_worker(service);
				return false;
			}
			claim(service, entry);
			break;
		case JANITOR_KEEP_ONE:
			keep_one(service, entry);
			break;
		case JANITOR_SKIP_OVERLAP:
		case JANITOR_SKIP_MISSED:
		case JANITOR_SKIP_PAUSED:
			skips->count[verdict]++;
			skips->last[verdict] = entry->scheduled_for;
			break;
		case JANITOR_WAIT:
			service->blocked = true;
			return false;
		case JANITOR_DROP:
			following = DT_NOEND;
			break;
	}
	entry->scheduled_for = following;
	entry->run_at = following == DT_NOEND ? DT_NOEND :
		following + janitor_job_delay(service->job);
	return true;
}

/*
 * Gives the schedule entry's due occurrences their verdicts, one after the
 * other, and writes the entry once, at its new place.  Ends after a start:
 * whether the following occurrence overlaps with that run is seen when it is
 * really there.
 */
static void
serve_schedule(Service *service)
{
	JanitorEntry *entry = &service->occurrence;
	Skips		skips;
	int			claims = service->look->claims;
	bool		moved = false;

	if (!service->scheduled || entry->run_at > service->look->now ||
		!lock_entry(service, entry))
		return;
	MemSet(&skips, 0, sizeof(skips));
	for (int i = 0; i < OCCURRENCE_LIMIT; i++)
	{
		if (!serve_occurrence(service, entry, &skips))
			break;
		moved = true;
		if (entry->run_at > service->look->now ||
			service->look->claims > claims)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	record_skips(service, &skips);
	if (!moved)
		return;
	if (entry->run_at == DT_NOEND)
		janitor_entry_delete(entry);
	else
		janitor_entry_update(entry);
	if (entry->run_at <= service->look->now)
	{
		service->blocked = true;
		if (service->look->claims == claims)
			service->look->result->more = true;
	}
}

/* --- service --- */

/* The definition is gone: so are its entries, unless somebody holds them. */
static void
serve_orphans(NotedJob *noted)
{
	(void) janitor_entry_delete_all(noted->name);
	forget_noted(noted);
}

static bool
has_problem(Look *look, NotedJob *noted, const JanitorJob *job)
{
	const char *problem = janitor_job_owner_problem(job);

	if (problem == NULL)
		return false;
	if (!noted->problem_logged)
		ereport(LOG,
				(errmsg("job \"%s\" is held: %s", noted->name, problem),
				 errhint("SELECT * FROM job_why('%s') says what to do.",
						 noted->name)));
	noted->problem_logged = true;
	noted->look_at = look->now + PROBLEM_RETRY;
	return true;
}

static void
serve(Look *look, NotedJob *noted)
{
	Service		service;

	MemSet(&service, 0, sizeof(service));
	service.look = look;
	service.noted = noted;

	/*
	 * In this order: a change of the job rewrites its schedule entry in the
	 * same transaction, so an old entry with a new definition cannot be
	 * locked, and a new entry with an old definition cannot be read.
	 */
	service.scheduled = janitor_entry_find_key(noted->name,
											   JANITOR_KEY_SCHEDULE,
											   &service.occurrence);
	service.job = janitor_job_load(noted->name);
	if (service.job == NULL)
	{
		serve_orphans(noted);
		return;
	}
	noted->priority = service.job->priority;
	noted->look_at = DT_NOBEGIN;
	if (has_problem(look, noted, service.job))
		return;
	service.crew = find_crew(look, service.job->owner_oid);
	service.running = janitor_job_running(noted->hash);
	if (service.job->paused)
		noted->look_at = service.job->paused_until;

	serve_schedule(&service);
	serve_entries(&service);
	if (!service.blocked)
		forget_noted(noted);
	else if (noted->look_at == DT_NOBEGIN)
		look->result->waiting = true;
}

static int
compare_noted(const void *a, const void *b)
{
	const NotedJob *x = *(NotedJob *const *) a;
	const NotedJob *y = *(NotedJob *const *) b;

	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	if (x->run_at != y->run_at)
		return x->run_at < y->run_at ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void
serve_all(Look *look)
{
	long		count = hash_get_num_entries(noted_jobs);
	NotedJob  **jobs = palloc((count + 1) * sizeof(NotedJob *));
	HASH_SEQ_STATUS status;
	NotedJob   *noted;
	long		n = 0;

	hash_seq_init(&status, noted_jobs);
	while ((noted = hash_seq_search(&status)) != NULL)
		jobs[n++] = noted;
	qsort(jobs, n, sizeof(NotedJob *), compare_noted);

	for (long i = 0; i < n; i++)
	{
		if (jobs[i]->look_at != DT_NOBEGIN && jobs[i]->look_at > look->now)
		{
			look->result->look_at = Min(look->result->look_at,
										jobs[i]->look_at);
			continue;
		}
		serve(look, jobs[i]);
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
put_back(const int64 *execution_ids, int count)
{
	if (count == 0)
		return;
	janitor_begin();
	for (int i = 0; i < count; i++)
		unclaim(execution_ids[i]);
	janitor_commit(false);
}

/*
 * After the commit.  Another database's scheduler may have filled the ring in
 * the meantime: what has no room goes back into the queue.
 */
static void
hand_over(const Look *look)
{
	int64		refused[CLAIM_LIMIT];
	int			count = 0;

	for (int i = 0; i < look->claims; i++)
	{
		const Claim *claimed = &look->claim[i];

		if (!janitor_ring_push(claimed->execution_id, claimed->job_hash,
							   claimed->owner))
			refused[count++] = claimed->execution_id;
	}
	put_back(refused, count);
}

void
janitor_dispatch(TimestampTz told, bool everything, JanitorLook *result)
{
	MemoryContext caller = MemoryContextSwitchTo(look_context);
	Look	   *look = palloc0(sizeof(Look));

	MemSet(result, 0, sizeof(JanitorLook));
	result->look_at = DT_NOEND;
	look->result = result;
	look->now = janitor_clock();
	look->ring_room = janitor_ring_free();
	check_starting_workers();
	if (everything)
		review_noted();
	move_frontier_back(told);

	janitor_begin();
	result->more = take_in(look->now);
	serve_all(look);
	result->look_at = Min(result->look_at,
						  janitor_entry_earliest(frontier_run_at,
												 frontier_id));
	janitor_wake_forget();
	janitor_commit(true);

	hand_over(look);
	start_workers(look);
	janitor_scheduler_set_backlog(result->waiting);
	result->claimed = look->claims;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(look_context);
}

/* --- workers ahead of time --- */

#define PREPARE_LIMIT 64

static bool
prepare_for_entry(JanitorEntry *entry, void *arg)
{
	Look	   *look = arg;
	JanitorJob *job = janitor_job_load(entry->job_name);

	if (job != NULL && job->enabled && !job->paused &&
		janitor_job_owner_problem(job) == NULL)
	{
		Crew	   *crew = find_crew(look, job->owner_oid);

		/* what is there already is enough to begin with */
		if (crew->room == 0 && crew->starting == 0)
			crew->wanted = 1;
	}
	return ++look->claims < PREPARE_LIMIT;
}

void
janitor_prepare_workers(TimestampTz due)
{
	MemoryContext caller = MemoryContextSwitchTo(look_context);
	JanitorLook result = {.look_at = DT_NOEND};
	Look	   *look = palloc0(sizeof(Look));

	look->now = janitor_clock();
	look->result = &result;
	janitor_begin();
	janitor_entry_scan(NULL, frontier_run_at, frontier_id, due,
					   prepare_for_entry, look);
	janitor_commit(true);
	start_workers(look);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(look_context);
}

/* --- taking back --- */

void
janitor_take_back_stuck(bool all)
{
	MemoryContext caller = MemoryContextSwitchTo(look_context);
	int64		ids[JANITOR_RING_SIZE];
	TimestampTz before = all ? DT_NOEND : GetCurrentTimestamp() - STUCK_AFTER;

	put_back(ids, janitor_ring_take_back(before, ids, lengthof(ids)));
	MemoryContextSwitchTo(caller);
	MemoryContextReset(look_context);
}
