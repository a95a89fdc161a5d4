/*-------------------------------------------------------------------------
 *
 * serve.c
 *	  One job's due entries: their verdicts, and the claims.
 *
 * Runs in the scheduler only, inside the transaction of a look.  First the
 * next occurrence, then whatever else is queued, in order.  decide() says
 * what happens to each; what starts, moves or goes is locked first, without
 * waiting: a row that somebody's open transaction holds is passed over, and
 * its job looked at again a second later.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "dispatch_internal.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "history.h"
#include "home.h"
#include "settings.h"
#include "shmem.h"

/* Occurrences of one job gone through in one look. */
#define OCCURRENCE_LIMIT 250

/* Entries read of a job with rate limits, which may refuse them all. */
#define REFUSED_AT_ONCE 500

/* A job whose owner cannot run it is checked again after this. */
#define PROBLEM_RETRY (60 * USECS_PER_SEC)

/* Entries without a job go after this, so many in one look. */
#define ORPHAN_GRACE (60 * USECS_PER_SEC)
#define ORPHANS_AT_ONCE 500

/* --- claiming --- */

static bool
has_room(const JanitorService *service)
{
	const JanitorRound *round = service->round;

	return service->staff->room > 0 && round->claims < round->claim_limit &&
		(!service->heavy || round->heavy_room > 0);
}

static void
want_worker(JanitorService *service)
{
	service->blocked = true;
	if (service->heavy && service->round->heavy_room <= 0)
	{
		/* a worker would be of no use; we are told when others end */
		service->round->heavy_wanted = true;
		return;
	}
	if (service->staff->room > 0)
	{
		/* no more than so many claims in one look: in the next, then */
		if (service->round->claims > 0)
			service->round->result->more = true;
		return;
	}
	service->staff->wanted = Min(service->staff->wanted + 1,
								 janitor_max_workers);
	service->blocked = true;
}

/* The row is somebody else's for now. */
static void
note_held(JanitorService *service)
{
	service->blocked = true;
	service->noted->look_at = Min(service->round->now + HELD_RETRY,
								  service->noted->look_at == DT_NOBEGIN ?
								  DT_NOEND : service->noted->look_at);
}

static bool
lock_entry(JanitorService *service, JanitorEntry *entry)
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

/* Inserts the `running` row; the caller moves or removes the entry. */
static void
claim(JanitorService *service, const JanitorEntry *entry)
{
	JanitorRound *round = service->round;
	JanitorClaim *claimed = &round->claim[round->claims++];
	JanitorEntry copy = *entry;

	copy.args = janitor_job_merge_args(service->job, entry->args);
	janitor_execution_start(&copy, GetCurrentTimestamp(),
							service->job->version, service->job->owner);
	claimed->execution_id = copy.execution_id;
	claimed->job_hash = service->noted->hash;
	claimed->owner = service->staff->owner;
	claimed->heavy = service->heavy;
	if (service->heavy)
		round->heavy_room--;
	service->staff->room--;
	service->running++;
	service->noted->overdue_at = round->now + JANITOR_OVERDUE_AFTER;
	janitor_history_count(service->noted->name, 1);
}

static void
make_case(const JanitorService *service, JanitorCase *it)
{
	const JanitorJob *job = service->job;

	MemSet(it, 0, sizeof(JanitorCase));
	it->enabled = job->enabled;
	it->paused = job->paused;
	it->circuit_open = service->gate.passage == JANITOR_NO_PASS;
	it->catch_up = job->catch_up;
	it->catch_up_within = job->catch_up_within;
	it->overlap = job->overlap;
	it->max_running = job->max_running;
	it->running = service->running;
	it->now = service->round->now;
	it->scheduled_for = service->round->now;
	it->following = PG_INT64_MAX;
}

/* --- entries that are not the next occurrence --- */

/*
 * Is a run with the entry's key in progress?  It has to wait for that, though
 * the job may have more runs at the same time.
 */
static bool
key_is_running(const JanitorService *service, const JanitorEntry *entry)
{
	int			n;
	JanitorRunInfo *runs;

	if (entry->key == NULL || entry->key[0] == '@' || service->running == 0)
		return false;
	runs = janitor_runs(&n);
	for (int i = 0; i < n; i++)
	{
		JanitorExecution execution;

		if (runs[i].execution_id != 0 &&
			runs[i].job_hash == service->noted->hash &&
			janitor_execution_find(runs[i].execution_id, &execution) &&
			execution.status == JANITOR_RUNNING && execution.key != NULL &&
			strcmp(execution.key, entry->key) == 0)
			return true;
	}
	return false;
}

/*
 * Does the gate let this run through, now that there is room for it?  If a
 * rate limit does not, *opens is when it will.
 */
static bool
passes(JanitorService *service, Jsonb *args, TimestampTz *opens)
{
	JanitorGate *gate = &service->gate;
	TimestampTz now = service->round->now;

	*opens = DT_NOEND;
	if (!janitor_gate_admit(gate, args, now, opens))
		return false;
	if (gate->passage == JANITOR_PASS)
		return true;

	/* the one probe; nothing else passes until it has ended */
	gate->passage = JANITOR_NO_PASS;
	return janitor_circuit_take_probe(&gate->circuit, now);
}

/* The verdict is to start it. */
static void
start_entry(JanitorService *service, JanitorEntry *entry)
{
	TimestampTz opens;

	if (key_is_running(service, entry))
		service->blocked = true;
	else if (!has_room(service))
		want_worker(service);
	else if (!lock_entry(service, entry))
		return;
	else if (passes(service, janitor_job_merge_args(service->job,
													entry->args), &opens))
	{
		claim(service, entry);
		janitor_entry_delete(entry);
	}
	else if (opens != DT_NOEND)
		janitor_entry_postpone(entry, opens, JANITOR_DETAIL_WAITS_RATE);
	else
		service->blocked = true;
}

static void
serve_entry(JanitorService *service, JanitorEntry *entry)
{
	JanitorCase it;

	make_case(service, &it);

	/* an occurrence that was decided on earlier only waits for its turn */
	it.reason = entry->reason == JANITOR_REASON_SCHEDULE ?
		JANITOR_REASON_RETRY : entry->reason;
	switch (janitor_decide(&it))
	{
		case JANITOR_START:
			start_entry(service, entry);
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
	JanitorService *service = arg;

	if (entry->key == NULL ||
		(strcmp(entry->key, JANITOR_KEY_SCHEDULE) != 0 &&
		 !(service->replays && strcmp(entry->key, JANITOR_KEY_REPLAY) == 0)))
		service->entries[service->count++] = *entry;
	return service->count < service->limit;
}

static bool
collect_any(JanitorEntry *entry, void *arg)
{
	JanitorService *service = arg;

	service->entries[service->count++] = *entry;
	return service->count < service->limit;
}

/*
 * Reads as many as could start, and a few more to see that there are more.
 * Afterwards the job's position is before the first that is still there.
 */
static void
serve_entries(JanitorService *service)
{
	JanitorNotedJob *noted = service->noted;
	int			saturated = service->job->max_running > 0 ?
	Max(service->job->max_running - service->running, 0) : CLAIM_LIMIT;

	service->limit = Min(saturated, service->staff->room) + 4 +
		service->running;
	if (service->gate.limits > 0)
		service->limit = Max(service->limit, REFUSED_AT_ONCE);
	service->entries = palloc(service->limit * sizeof(JanitorEntry));
	service->count = 0;
	janitor_entry_scan(noted->name, noted->run_at, noted->id,
					   service->round->now, collect_entry, service);
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
	{
		if (!service->blocked)
			service->round->result->more = true;
		service->blocked = true;
	}
}

/*
 * A paused job may have any number of entries that wait; but its replay does
 * not, and is not to be looked for behind them.
 */
static void
serve_replay(JanitorService *service)
{
	int			claims = service->round->claims;
	JanitorEntry entry;

	if (!service->job->paused ||
		!janitor_entry_find_key(service->noted->name, JANITOR_KEY_REPLAY,
								&entry) ||
		entry.run_at > service->round->now)
		return;
	serve_entry(service, &entry);
	service->replays = service->round->claims == claims;
}

/* --- the next occurrence --- */

typedef struct Skips
{
	int64		count[JANITOR_DROP + 1];
	TimestampTz last[JANITOR_DROP + 1];
	int64		off;			/* while pg_janitor was switched off */
	TimestampTz last_off;
	int64		refused;		/* by a rate limit, and one waits already */
	TimestampTz last_refused;
} Skips;

static const char *
skip_detail(const JanitorService *service, JanitorVerdict verdict)
{
	switch (verdict)
	{
		case JANITOR_SKIP_OVERLAP:
			return service->unclaimed ? JANITOR_DETAIL_UNCLAIMED :
				JANITOR_DETAIL_OVERLAP;
		case JANITOR_SKIP_CIRCUIT:
			return JANITOR_DETAIL_CIRCUIT;
		case JANITOR_SKIP_MISSED:
			return JANITOR_DETAIL_MISSED;
		case JANITOR_SKIP_PAUSED:
			return JANITOR_DETAIL_PAUSED;
		default:
			return NULL;
	}
}

static void
record_skips(const JanitorService *service, const Skips *skips)
{
	if (skips->off > 0)
		janitor_execution_skip(service->noted->name, skips->last_off,
							   JANITOR_DETAIL_OFF, skips->off,
							   service->job->owner);
	if (skips->refused > 0)
		janitor_execution_skip(service->noted->name, skips->last_refused,
							   JANITOR_DETAIL_RATE, skips->refused,
							   service->job->owner);
	for (JanitorVerdict verdict = 0; verdict <= JANITOR_DROP; verdict++)
	{
		if (skips->count[verdict] > 0)
			janitor_execution_skip(service->noted->name,
								   skips->last[verdict],
								   skip_detail(service, verdict),
								   skips->count[verdict],
								   service->job->owner);
	}
}

/*
 * catch_up = all makes up for the newest occurrences, so many and no more.
 * The count is made once and then moves along with the entry.
 */
static bool
is_beyond_limit(JanitorService *service, const JanitorEntry *entry)
{
	const JanitorJob *job = service->job;
	TimestampTz ahead = service->limit_ahead;

	if (job->catch_up != JANITOR_CATCH_UP_ALL ||
		service->round->now - entry->scheduled_for <= JANITOR_MISSED_AFTER)
		return false;
	if (ahead == DT_NOBEGIN)
	{
		ahead = entry->scheduled_for;
		for (int i = 0; i < JANITOR_CATCH_UP_LIMIT &&
			 ahead <= service->round->now; i++)
			ahead = janitor_job_occurrence(job, ahead, ahead);
	}
	else if (ahead <= service->round->now)
		ahead = janitor_job_occurrence(job, ahead, ahead);
	service->limit_ahead = ahead;
	return ahead <= service->round->now;
}

static JanitorVerdict
decide_occurrence(JanitorService *service, const JanitorEntry *entry,
				  TimestampTz following)
{
	bool		external = service->job->kind == JANITOR_KIND_EXTERNAL;
	JanitorCase it;
	JanitorEntry queued;

	if (is_beyond_limit(service, entry))
		return JANITOR_SKIP_MISSED;
	make_case(service, &it);
	it.reason = JANITOR_REASON_SCHEDULE;
	it.scheduled_for = entry->scheduled_for;
	it.following = following;
	it.queued = (external ||
				 service->job->overlap == JANITOR_OVERLAP_QUEUE) &&
		janitor_entry_find_key(service->noted->name, JANITOR_KEY_QUEUED,
							   &queued);

	/* one occurrence at a time waits for a worker outside */
	service->unclaimed = external && it.queued;
	if (service->unclaimed)
		it.max_running = it.running = 1;
	return janitor_decide(&it);
}

/*
 * One occurrence is kept: overlap = queue, for when the job is free; refused
 * by a rate limit; of an external job, to be claimed.
 */
static void
keep_one(JanitorService *service, const JanitorEntry *entry,
		 TimestampTz run_at, const char *detail)
{
	JanitorEntry kept = *entry;

	kept.id = 0;
	kept.key = JANITOR_KEY_QUEUED;
	kept.run_at = run_at;
	kept.detail = detail;
	janitor_entry_insert(&kept);
	if (run_at <= service->round->now)
		service->blocked = true;
}

/* The verdict is to start it; false: there is no room. */
static bool
start_occurrence(JanitorService *service, JanitorEntry *entry, Skips *skips)
{
	JanitorEntry queued;
	TimestampTz opens;

	if (service->job->kind == JANITOR_KIND_EXTERNAL)
	{
		keep_one(service, entry, entry->run_at, NULL);
		return true;
	}
	if (!has_room(service))
	{
		want_worker(service);
		return false;
	}
	if (passes(service, service->job->args, &opens))
		claim(service, entry);
	else if (opens == DT_NOEND)
	{
		skips->count[JANITOR_SKIP_CIRCUIT]++;
		skips->last[JANITOR_SKIP_CIRCUIT] = entry->scheduled_for;
	}
	else if (janitor_entry_find_key(service->noted->name, JANITOR_KEY_QUEUED,
									&queued))
	{
		skips->refused++;
		skips->last_refused = entry->scheduled_for;
	}
	else
		keep_one(service, entry, opens, JANITOR_DETAIL_WAITS_RATE);
	return true;
}

static bool
was_switched_off(const JanitorRound *round, TimestampTz occurrence)
{
	return occurrence >= round->off_since && occurrence < round->off_until;
}

static void
move_on(const JanitorService *service, JanitorEntry *entry,
		TimestampTz following)
{
	entry->scheduled_for = following;
	entry->run_at = following == DT_NOEND ? DT_NOEND :
		following + janitor_job_delay(service->job);
}

/*
 * One occurrence.  true: the entry was moved on to the following one, which
 * may be due as well.
 */
static bool
serve_occurrence(JanitorService *service, JanitorEntry *entry, Skips *skips)
{
	TimestampTz following = janitor_job_occurrence(service->job,
												   entry->scheduled_for,
												   entry->scheduled_for);
	JanitorVerdict verdict;

	if (was_switched_off(service->round, entry->scheduled_for))
	{
		skips->off++;
		skips->last_off = entry->scheduled_for;
		move_on(service, entry, following);
		return true;
	}
	verdict = decide_occurrence(service, entry, following);
	switch (verdict)
	{
		case JANITOR_START:
			if (!start_occurrence(service, entry, skips))
				return false;
			break;
		case JANITOR_KEEP_ONE:
			keep_one(service, entry, entry->run_at, NULL);
			break;
		case JANITOR_SKIP_OVERLAP:
		case JANITOR_SKIP_MISSED:
		case JANITOR_SKIP_PAUSED:
		case JANITOR_SKIP_CIRCUIT:
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
	move_on(service, entry, following);
	return true;
}

/*
 * Gives the schedule entry's due occurrences their verdicts, one after the
 * other, and writes the entry once, at its new place.  Ends after a start:
 * whether the following occurrence overlaps with that run is seen when it is
 * really there.
 */
void
janitor_serve_schedule(JanitorService *service)
{
	JanitorEntry *entry = &service->occurrence;
	Skips		skips;
	int			claims = service->round->claims;
	bool		moved = false;

	if (!service->scheduled || entry->run_at > service->round->now ||
		!lock_entry(service, entry))
		return;
	MemSet(&skips, 0, sizeof(skips));
	service->limit_ahead = DT_NOBEGIN;
	for (int i = 0; i < OCCURRENCE_LIMIT; i++)
	{
		if (!serve_occurrence(service, entry, &skips))
			break;
		moved = true;
		if (entry->run_at > service->round->now ||
			service->round->claims > claims)
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
	service->round->result->look_at = Min(service->round->result->look_at,
										  Max(entry->run_at,
											  service->round->now + 1));
	if (entry->run_at <= service->round->now)
	{
		service->blocked = true;
		if (service->round->claims == claims)
			service->round->result->more = true;
	}
}

/* --- the job --- */

/* An entry without a job, and without a run if nobody was promised one. */
static void
drop_orphan(JanitorEntry *entry)
{
	JanitorOutcome outcome;

	if (entry->execution_id != 0)
	{
		janitor_outcome_cancelled(&outcome, ERRCODE_UNDEFINED_OBJECT,
								  "there is no such job any more");
		janitor_execution_never_ran(entry, &outcome, NULL);
	}
	janitor_entry_delete(entry);
}

/*
 * The definition is gone, and so shall be the entries, if it is known that the
 * job was removed: a restore may have filled the queue and, hours of other
 * tables later, come to the definitions.  And not at first sight, should it be
 * the same database that is restored.  What somebody holds is left for the
 * next time.
 */
static bool
serve_orphans(JanitorService *service)
{
	JanitorNotedJob *noted = service->noted;

	if (!janitor_was_removed(noted->name))
	{
		noted->look_at = DT_NOEND;	/* a definition tells of itself */
		return true;
	}
	if (noted->orphan_until == DT_NOBEGIN)
		noted->orphan_until = service->round->now + ORPHAN_GRACE;
	if (noted->orphan_until > service->round->now)
	{
		noted->look_at = noted->orphan_until;
		return true;
	}
	service->limit = ORPHANS_AT_ONCE;
	service->entries = palloc(service->limit * sizeof(JanitorEntry));
	janitor_entry_scan(noted->name, DT_NOBEGIN, 0, DT_NOEND,
					   collect_any, service);
	for (int i = 0; i < service->count; i++)
	{
		if (lock_entry(service, &service->entries[i]))
			drop_orphan(&service->entries[i]);
	}
	return service->blocked || service->count == service->limit;
}

static bool
has_problem(JanitorRound *round, JanitorNotedJob *noted, const JanitorJob *job)
{
	const char *problem = janitor_job_owner_problem(job);

	if (problem == NULL)
		return false;
	if (!noted->problem_logged)
		ereport(LOG,
				(errmsg("job \"%s\" is held: %s", noted->name, problem),
				 errhint("SELECT * FROM job_why(%s) says what to do.",
						 quote_literal_cstr(noted->name))));
	noted->problem_logged = true;
	noted->look_at = round->now + PROBLEM_RETRY;
	return true;
}

/*
 * Its next occurrence goes; whatever else is queued waits.  When it is armed,
 * the queue is read afresh; that it is not, reconcile.c has logged.
 */
static bool
leave_disarmed(JanitorService *service)
{
	if (service->scheduled && lock_entry(service, &service->occurrence))
		(void) janitor_entry_delete(&service->occurrence);
	return service->blocked;
}

bool
janitor_serve(JanitorRound *round, JanitorNotedJob *noted)
{
	JanitorService service;

	MemSet(&service, 0, sizeof(service));
	service.round = round;
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
		return serve_orphans(&service);
	noted->orphan_until = DT_NOBEGIN;
	noted->priority = service.job->priority;
	noted->look_at = DT_NOBEGIN;
	if (janitor_job_disarmed(service.job) != NULL)
		return leave_disarmed(&service);
	janitor_gate_open(&service.gate, service.job, round->now);
	if (service.job->kind == JANITOR_KIND_EXTERNAL)
		return janitor_offer(&service);
	noted->owner = service.job->owner_oid;
	if (has_problem(round, noted, service.job))
		return true;
	service.heavy = janitor_job_is_heavy(service.job);
	service.staff = janitor_find_staff(round, service.job->owner_oid);
	service.running = janitor_job_running(noted->hash);

	serve_replay(&service);
	janitor_serve_schedule(&service);
	serve_entries(&service);
	if (service.blocked && service.job->paused && !service.replays)
		noted->look_at = Min(service.job->paused_until,
							 service.scheduled ? service.occurrence.run_at :
							 DT_NOEND);
	else if (service.blocked && noted->look_at == DT_NOBEGIN &&
			 service.gate.passage == JANITOR_NO_PASS)
		noted->look_at = Min(janitor_gate_probe_at(&service.gate),
							 service.scheduled ? service.occurrence.run_at :
							 DT_NOEND);
	else if (service.blocked && noted->look_at == DT_NOBEGIN)
		round->result->waiting = true;
	return service.blocked;
}
