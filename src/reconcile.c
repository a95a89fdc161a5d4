/*-------------------------------------------------------------------------
 *
 * reconcile.c
 *	  What a scheduler puts right before and between its looks.
 *
 * The tables are the state: after a crash, a restore or a promotion they may
 * say `running` of what nobody runs, and a job may lack the entry of its next
 * occurrence.  The first scheduler of a database after each start of the
 * server closes the former and supplies the latter.  While the server is up
 * both are kept right as they change; an hourly look, and one after the clock
 * went back, finds what was changed behind our back (rows loaded by a restore
 * or by replication, edits by hand).  A scheduler that ends with runs in hand
 * that it could not write leaves word, and the next one looks for them.
 * Of jobs that are disarmed (home.c) the log is told; they have no next
 * occurrence.
 *
 * Runs in the scheduler only, each job or run in a transaction of its own:
 * what cannot be put right for one of them (a row that an open transaction
 * holds) is left for the next time, and is no other job's concern.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "reconcile.h"

#include "commands/dbcommands.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "conclude.h"
#include "dispatch.h"
#include "fault.h"
#include "home.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

/* Jobs put right in one transaction. */
#define JOBS_AT_ONCE 500

/* Steps of the clock up to this are waited out. */
#define CLOCK_SLACK (60 * USECS_PER_SEC)

/* --- ends of runs without a worker --- */

static void
describe_end(JanitorEnd end, JanitorOutcome *outcome, JanitorLoss *loss)
{
	MemSet(outcome, 0, sizeof(JanitorOutcome));
	outcome->started_at = DT_NOBEGIN;
	outcome->completed_at = GetCurrentTimestamp();
	outcome->records = -1;
	*loss = JANITOR_LOSS_NONE;

	switch (end)
	{
		case JANITOR_END_CANCEL:
		case JANITOR_END_TERMINATE:
			outcome->status = JANITOR_CANCELLED;
			outcome->sqlstate = ERRCODE_ADMIN_SHUTDOWN;
			outcome->error_message = "terminated by an administrator";
			break;
		case JANITOR_END_TIMEOUT:
			outcome->status = JANITOR_TIMED_OUT;
			outcome->sqlstate = ERRCODE_QUERY_CANCELED;
			outcome->error_message = "canceled after its timeout";
			break;
		case JANITOR_END_SHUTDOWN:
			outcome->status = JANITOR_INTERRUPTED;
			outcome->sqlstate = ERRCODE_ADMIN_SHUTDOWN;
			outcome->error_message = "the server was shut down";
			*loss = JANITOR_LOSS_ORDERLY;
			break;
		case JANITOR_END_NONE:
			outcome->status = JANITOR_INTERRUPTED;
			outcome->sqlstate = ERRCODE_CRASH_SHUTDOWN;
			outcome->error_message = "the worker process died";
			*loss = JANITOR_LOSS_CRASH;
			break;
	}
	if (outcome->status == JANITOR_INTERRUPTED)
		outcome->detail = outcome->error_message;
}

/* An execution to be closed, and how. */
typedef struct Closing
{
	int64		execution_id;
	JanitorOutcome outcome;
	JanitorLoss loss;
} Closing;

/* The row came with a copy of the database. */
static void
describe_copied(Closing *closing, const JanitorJob *job)
{
	if (job != NULL && closing->outcome.status == JANITOR_INTERRUPTED &&
		janitor_job_disarmed(job) != NULL)
		closing->outcome.error_message = closing->outcome.detail =
			"it was in progress when the database was copied";
}

static void
close_execution(void *arg)
{
	Closing    *closing = arg;
	JanitorExecution execution;
	JanitorJob *job;

	janitor_begin();
	if (janitor_execution_find(closing->execution_id, &execution) &&
		execution.status == JANITOR_RUNNING)
	{
		job = janitor_job_load(execution.job_name);
		describe_copied(closing, job);
		if (janitor_conclude(&execution, job, &closing->outcome,
							 closing->loss))
			janitor_log_outcome(&execution, &closing->outcome);
	}
	janitor_commit(false);
}

/*
 * What cannot be written now (the disk is full, somebody holds the row) stays
 * dead in its slot and is tried again; the others are not kept from it.
 */
JanitorError *
janitor_bury_dead(void)
{
	JanitorDeath death = {.slot = -1};
	JanitorError *error = NULL;

	while (janitor_next_death(&death))
	{
		if (death.execution_id != 0)
		{
			Closing		closing = {.execution_id = death.execution_id};
			JanitorError *failed;

			describe_end(death.end, &closing.outcome, &closing.loss);
			failed = janitor_attempt(close_execution, &closing);
			if (failed)
			{
				error = failed;
				continue;
			}
		}
		else if (!death.served)
			janitor_owner_failed(death.owner);
		janitor_slot_bury(death.slot);
	}
	return error;
}

/* --- runs that nobody carries --- */

/* An execution that says `running`. */
typedef struct OpenRun
{
	int64		id;
	bool		unbegun;
} OpenRun;

typedef struct OpenRuns
{
	JanitorRunInfo *live;
	int			live_count;
	TimestampTz unbegun_since;	/* none claimed from then on was begun */
	List	   *runs;			/* of OpenRun */
} OpenRuns;

/* Those whose rows somebody held; in TopMemoryContext. */
static List *left_open = NIL;

static bool
is_carried(const OpenRuns *open, const JanitorExecution *execution)
{
	JanitorLease lease;

	/*
	 * A worker outside has it until its lease is over, which a restore may
	 * not have loaded yet.
	 */
	if (execution->lease_until > janitor_clock() ||
		(execution->lease_until != DT_NOBEGIN &&
		 janitor_lease_find(execution->id, &lease)))
		return true;
	for (int i = 0; i < open->live_count; i++)
	{
		if (open->live[i].execution_id == execution->id)
			return true;
	}
	return janitor_is_homeless(execution->id);
}

static void
collect_open_run(JanitorExecution *execution, void *arg)
{
	OpenRuns   *open = arg;
	OpenRun    *run;

	if (is_carried(open, execution) ||
		(janitor_job_load(execution->job_name) == NULL &&
		 !janitor_was_removed(execution->job_name)))
		return;					/* or a restore comes to its job later */
	run = palloc(sizeof(OpenRun));
	run->id = execution->id;
	run->unbegun = execution->started_at >= open->unbegun_since;
	open->runs = lappend(open->runs, run);
}

/* Nobody was left to say how it ended. */
static void
describe_open(Closing *closing)
{
	if (janitor_was_standby())
	{
		describe_end(JANITOR_END_SHUTDOWN, &closing->outcome, &closing->loss);
		closing->outcome.error_message = closing->outcome.detail =
			"the server it ran on was replaced by this one";
	}
	else
	{
		describe_end(JANITOR_END_NONE, &closing->outcome, &closing->loss);
		closing->outcome.error_message = closing->outcome.detail =
			"the server crashed or was stopped immediately";
	}
}

static void
leave_open(const OpenRun *run, const JanitorError *error)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	OpenRun    *copy = palloc(sizeof(OpenRun));

	*copy = *run;
	left_open = lappend(left_open, copy);
	MemoryContextSwitchTo(caller);
	ereport(LOG,
			(errmsg("execution " INT64_FORMAT " could not be closed: %s",
					run->id, error->message),
			 errdetail("It is tried again.")));
}

/* In the scheduler nothing waits for a row that somebody holds. */
static void
close_unless_held(void *arg)
{
	const OpenRun *run = arg;
	Closing		closing = {.execution_id = run->id};

	janitor_begin();
	if (janitor_execution_try_lock(run->id) == JANITOR_LOCK_HELD)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("its row is locked by another transaction")));
	if (run->unbegun)
		janitor_unclaim(run->id);
	janitor_commit(true);

	describe_open(&closing);
	close_execution(&closing);
}

/* Rows that say `running` though no worker and no ring entry carries them. */
static void
close_open_runs(TimestampTz unbegun_since)
{
	OpenRuns	open = {.unbegun_since = unbegun_since};
	ListCell   *cell;
	JanitorError *error;

	open.live = janitor_runs(&open.live_count);
	janitor_begin();
	janitor_execution_scan_running(collect_open_run, &open);
	janitor_commit(true);

	list_free_deep(left_open);
	left_open = NIL;
	foreach(cell, open.runs)
	{
		error = janitor_attempt(close_unless_held, lfirst(cell));
		if (error)
			leave_open(lfirst(cell), error);
	}
	janitor_set_unsettled(false);
	janitor_runs_have_ended();
}

/*
 * What was claimed since the server started and is not carried has not been
 * begun: else there would be a slot.  (A standby may have replayed it.)
 */
void
janitor_settle(void)
{
	close_open_runs(janitor_was_standby() ? DT_NOEND : janitor_started_at());
}

bool
janitor_has_left_open(void)
{
	return left_open != NIL;
}

bool
janitor_close_left_open(void)
{
	ListCell   *cell;
	int			closed = 0;

	foreach(cell, left_open)
	{
		if (janitor_attempt(close_unless_held, lfirst(cell)) != NULL)
			continue;
		pfree(lfirst(cell));
		left_open = foreach_delete_current(left_open, cell);
		closed++;
	}
	if (closed > 0)
		janitor_runs_have_ended();
	return left_open != NIL;
}

/* run_on_start; not if a missed occurrence of the job will be made up. */
static void
queue_start(const JanitorJob *job, TimestampTz now)
{
	JanitorEntry entry;

	if (janitor_entry_find_key(job->name, JANITOR_KEY_STARTUP, &entry))
		return;
	if (job->catch_up != JANITOR_CATCH_UP_SKIP &&
		janitor_entry_find_key(job->name, JANITOR_KEY_SCHEDULE, &entry) &&
		entry.run_at <= now)
		return;
	MemSet(&entry, 0, sizeof(entry));
	entry.job_name = job->name;
	entry.run_at = now;
	entry.scheduled_for = DT_NOBEGIN;
	entry.reason = JANITOR_REASON_STARTUP;
	entry.attempt = 1;
	entry.key = JANITOR_KEY_STARTUP;
	janitor_entry_insert(&entry);
}

/*
 * Jobs that need something; most do not, and are not kept in memory.  On the
 * way those are noted that were failing before the start.
 */
typedef struct Needy
{
	MemoryContext scratch;
	MemoryContext keep;
	List	   *names;
	TimestampTz now;			/* by janitor_clock() */
	bool		at_start;
	int			disarmed;		/* jobs, and why the first one is */
	char	   *problem;

	/* the one that is looked at */
	const JanitorJob *job;
	bool		needs;
	const char *name;
} Needy;

/*
 * A clock that went back leaves entries behind that are later than the
 * schedule says.  What is due within a minute is left as it is: it may have
 * run just before the step, and a small step is waited out.
 */
static bool
is_too_late(const JanitorJob *job, const JanitorEntry *entry, TimestampTz now)
{
	return entry->scheduled_for >
		janitor_job_occurrence(job, DT_NOBEGIN, now + CLOCK_SLACK);
}

static bool
needs_something(const JanitorJob *job, const Needy *needy)
{
	JanitorEntry entry;

	if (!janitor_job_runs_by_itself(job))
		return janitor_entry_find_key(job->name, JANITOR_KEY_SCHEDULE,
									  &entry);
	if (job->run_on_start && needy->at_start)
		return true;
	if (job->schedule == NULL)
		return false;
	return !janitor_entry_find_key(job->name, JANITOR_KEY_SCHEDULE, &entry) ||
		is_too_late(job, &entry, needy->now);
}

static void
find_need(void *arg)
{
	Needy	   *needy = arg;

	needy->needs = needs_something(needy->job, needy);
}

/*
 * What is wrong with one job (edited by hand, a time zone that is gone) is no
 * reason to leave the others as they are.
 */
static bool
succeeds(void (*step) (void *arg), Needy *needy, const char *job_name)
{
	JanitorError *error = janitor_attempt_inside(step, needy);

	if (error != NULL)
		ereport(LOG,
				(errmsg("job \"%s\" cannot be served: %s", job_name,
						error->message),
				 errdetail("SQLSTATE %s. It is looked at again after an hour.",
						   unpack_sql_state(error->sqlstate))));
	return error == NULL;
}

static void
collect_needy(HeapTuple tuple, void *arg)
{
	Needy	   *needy = arg;
	MemoryContext caller = MemoryContextSwitchTo(needy->scratch);
	JanitorJob *job = janitor_job_from_tuple(tuple);
	const char *problem = janitor_job_disarmed(job);

	if (needy->at_start && janitor_job_is_failing(job->name))
		janitor_set_failing(janitor_job_hash(job->name), true);
	if (problem != NULL && needy->disarmed++ == 0)
		needy->problem = MemoryContextStrdup(needy->keep, problem);
	needy->job = job;
	if (succeeds(find_need, needy, job->name) && needy->needs)
	{
		MemoryContextSwitchTo(needy->keep);
		needy->names = lappend(needy->names, pstrdup(job->name));
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(needy->scratch);
}

static void
reconcile_job(void *arg)
{
	const Needy *needy = arg;
	JanitorJob *job;
	JanitorEntry entry;

	/* whoever is changing the job brings its entry into line himself */
	if (!janitor_job_try_lock(needy->name))
		return;
	job = janitor_job_load(needy->name);
	if (job == NULL)
		return;
	if (job->run_on_start && needy->at_start &&
		janitor_job_runs_by_itself(job))
		queue_start(job, needy->now);
	(void) janitor_job_sync_entry(job, needy->now,
								  janitor_entry_find_key(job->name, JANITOR_KEY_SCHEDULE, &entry) &&
								  is_too_late(job, &entry, needy->now));
}

/* Once, and again when their number is another one. */
static void
log_disarmed(const Needy *needy)
{
	static int	logged = 0;

	if (needy->disarmed > 0 && needy->disarmed != logged)
		ereport(LOG,
				(errmsg_plural("%d job of database \"%s\" is disarmed and does not run",
							   "%d jobs of database \"%s\" are disarmed and do not run",
							   needy->disarmed, needy->disarmed,
							   get_database_name(MyDatabaseId)),
				 errdetail("Of the first one: %s.", needy->problem),
				 errhint("SELECT job_rearm(); in that database lets them run.")));
	logged = needy->disarmed;
}

/* In transactions of bounded size: each job takes a lock. */
static void
reconcile_jobs(bool at_start)
{
	Needy		needy;
	ListCell   *cell;
	int			count = 0;

	MemSet(&needy, 0, sizeof(needy));
	needy.keep = CurrentMemoryContext;
	needy.now = janitor_clock();
	needy.at_start = at_start;
	needy.scratch = AllocSetContextCreate(CurrentMemoryContext,
										  "pg_janitor reconcile",
										  ALLOCSET_DEFAULT_SIZES);
	janitor_begin();
	janitor_definition_scan(collect_needy, &needy);
	log_disarmed(&needy);
	foreach(cell, needy.names)
	{
		needy.name = lfirst(cell);
		(void) succeeds(reconcile_job, &needy, needy.name);
		if (++count % JOBS_AT_ONCE == 0)
		{
			janitor_commit(true);
			janitor_begin();
		}
	}
	janitor_commit(false);
	MemoryContextDelete(needy.scratch);
}

void
janitor_reconcile(bool at_start, bool loaded)
{
	if (at_start || loaded)
		close_open_runs(DT_NOEND);
	reconcile_jobs(at_start);
}
