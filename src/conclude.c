/*-------------------------------------------------------------------------
 *
 * conclude.c
 *	  What follows from the end of a run.
 *
 * Called by the worker, for runs that it carried out, and by the scheduler,
 * for runs whose worker is gone; always inside the transaction that records
 * the end, so that a retry or a dependent run exists exactly if the end it
 * follows from was recorded.
 *
 *	  ended		  another attempt							told
 *	  succeeded	  -											run_after (not
 *															after a replay)
 *	  failed,	  at once, the same attempt, up to 3 times	on_failure
 *	  timed_out	  for deadlock, serialization and lock
 *				  timeout; else after the backoff while
 *				  attempt < max_attempts
 *	  cancelled	  -											-
 *	  interrupted shutdown: the same attempt; if the		on_failure (not
 *				  command may have committed in between,	at shutdown)
 *				  like failed; crash, and a lease that
 *				  ended: like failed
 *
 * A failure that its worker calls permanent has no other attempt.  A run with
 * a key is not repeated if another one waits under that key: that one does
 * what it was to do.
 *
 * The outcome is reported to the job's circuit.  A conflict is no failure of
 * the other side; a permanent failure is an answer, hence a success for it.
 *
 * The third crash in a row pauses the job.
 *
 * What was in progress in the original of this database has its consequences
 * there: of the loss of a disarmed job's run nothing follows.
 *
 * A run that was itself started by on_failure tells nobody of its failure,
 * and no further attempt of it does: two jobs that name each other would never
 * end.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "conclude.h"

#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "announce.h"
#include "draft.h"
#include "fault.h"
#include "gate.h"
#include "home.h"
#include "object.h"
#include "settings.h"

#define CONFLICT_RETRIES 3
#define CRASHES_BEFORE_PAUSE 3

/* How far back the consecutive failures of a job are counted. */
#define FAILURES_COUNTED 1000

/* --- queueing --- */

static void
enqueue(JanitorEntry *entry, const char *job_name, JanitorReason reason,
		int64 parent_id)
{
	MemSet(entry, 0, sizeof(JanitorEntry));
	entry->job_name = pstrdup(job_name);
	entry->run_at = janitor_clock();
	entry->scheduled_for = DT_NOBEGIN;
	entry->reason = reason;
	entry->attempt = 1;
	entry->parent_id = parent_id;
}

/*
 * Queues an entry under a key; false: another one waits under that.  Where
 * somebody's transaction is about to put one there, it has to do without.
 */
static bool
queue_with_key(JanitorEntry *entry, char *key, JanitorEntry *waiting)
{
	bool		found;

	if (!janitor_trigger_try_lock(entry->job_name, key))
	{
		janitor_entry_insert(entry);
		return true;
	}
	found = janitor_entry_find_key(entry->job_name, key, waiting);
	if (!found)
	{
		if (!TransactionIdIsValid(janitor_entry_key_writer(entry->job_name,
														   key)))
			entry->key = key;
		janitor_entry_insert(entry);
	}
	janitor_trigger_unlock(entry->job_name, key);
	return !found;
}

/* What a run waits under, should it wait again; NULL: nothing. */
static char *
key_of(const JanitorExecution *execution)
{
	return execution->reason == JANITOR_REASON_REPLAY ?
		JANITOR_KEY_REPLAY : execution->key;
}

static void
queue_retry(const JanitorExecution *execution, int attempt, int conflicts,
			int64 delay)
{
	JanitorEntry entry;
	JanitorEntry waiting;

	/* a replay goes on as what it is */
	enqueue(&entry, execution->job_name,
			execution->reason == JANITOR_REASON_REPLAY ?
			JANITOR_REASON_REPLAY : JANITOR_REASON_RETRY,
			execution->parent_id);
	entry.run_at += delay;
	entry.scheduled_for = execution->scheduled_for;
	entry.attempt = attempt;
	entry.conflicts = conflicts;
	entry.retry_of = execution->id;
	entry.args = execution->args;
	entry.triggered_by = execution->triggered_by;
	if (key_of(execution) == NULL)
		janitor_entry_insert(&entry);
	else
		(void) queue_with_key(&entry, key_of(execution), &waiting);
}

static void
record_replaced(JanitorEntry *entry, const JanitorEntry *by)
{
	JanitorJob *job = janitor_job_load(entry->job_name);
	JanitorOutcome outcome;

	janitor_outcome_cancelled(&outcome, ERRCODE_QUERY_CANCELED,
							  "another run waits under its key");
	outcome.detail = psprintf("replaced by execution " INT64_FORMAT,
							  by->execution_id);
	janitor_execution_never_ran(entry, &outcome, job ? job->owner : NULL);
}

void
janitor_requeue(const JanitorExecution *was, TimestampTz run_at,
				const char *detail)
{
	JanitorEntry entry;
	JanitorEntry waiting;

	MemSet(&entry, 0, sizeof(entry));
	entry.execution_id = was->id;
	entry.job_name = was->job_name;
	entry.run_at = run_at;
	entry.scheduled_for = was->scheduled_for;
	entry.reason = was->reason;
	entry.attempt = was->attempt;
	entry.conflicts = was->conflicts;
	entry.retry_of = was->retry_of;
	entry.parent_id = was->parent_id;
	entry.args = was->args;
	entry.triggered_by = was->triggered_by;
	entry.detail = detail;
	if (was->reason == JANITOR_REASON_STARTUP)
		entry.key = JANITOR_KEY_STARTUP;
	if (key_of(was) == NULL || entry.key != NULL)
		janitor_entry_insert(&entry);
	else if (!queue_with_key(&entry, key_of(was), &waiting))
	{
		entry.key = key_of(was);
		record_replaced(&entry, &waiting);
	}
}

void
janitor_unclaim(int64 execution_id)
{
	JanitorExecution was;

	if (janitor_execution_unstart(execution_id, &was))
		janitor_requeue(&was, janitor_clock(), NULL);
}

/* Of a disabled job nothing does. */
static bool
runs_by_itself(const char *job_name)
{
	JanitorJob *job = janitor_job_load(job_name);

	return job != NULL && janitor_job_runs_by_itself(job);
}

static void
queue_child(const char *job_name, void *arg)
{
	JanitorEntry entry;

	if (!runs_by_itself(job_name))
		return;
	enqueue(&entry, job_name, JANITOR_REASON_AFTER,
			((const JanitorExecution *) arg)->id);
	janitor_entry_insert(&entry);
}

/* --- failures --- */

static bool
has_sqlstate(const JanitorExecution *execution, int sqlstate)
{
	return execution->sqlstate != NULL &&
		strcmp(execution->sqlstate, unpack_sql_state(sqlstate)) == 0;
}

typedef struct Failures
{
	int64		before;			/* of older runs only */
	int			count;
} Failures;

static bool
count_failure(JanitorExecution *execution, void *arg)
{
	Failures   *failures = arg;

	if (execution->id >= failures->before)
		return true;
	switch (execution->status)
	{
		case JANITOR_FAILED:
		case JANITOR_TIMED_OUT:
		case JANITOR_INTERRUPTED:
			return ++failures->count < FAILURES_COUNTED;
		case JANITOR_SUCCEEDED:
			return false;
		default:
			return true;
	}
}

int
janitor_failures_before(const char *job_name, int64 execution_id)
{
	Failures	failures = {execution_id, 0};

	janitor_execution_scan(job_name, count_failure, &failures);
	return failures.count;
}

static bool
judge_newest(JanitorExecution *execution, void *arg)
{
	bool	   *failing = arg;

	switch (execution->status)
	{
		case JANITOR_FAILED:
		case JANITOR_TIMED_OUT:
			*failing = true;
			return false;
		case JANITOR_INTERRUPTED:
			*failing = !has_sqlstate(execution, ERRCODE_ADMIN_SHUTDOWN);
			return !*failing;
		case JANITOR_SUCCEEDED:
			return false;
		default:
			return true;
	}
}

bool
janitor_job_is_failing(const char *job_name)
{
	bool		failing = false;

	janitor_execution_scan(job_name, judge_newest, &failing);
	return failing;
}

/* The arguments of the job that is told of a failure. */
static Jsonb *
failure_args(const JanitorExecution *execution, const JanitorOutcome *outcome)
{
	JanitorObject object;

	janitor_object_begin(&object);
	janitor_object_text(&object, "job_name", execution->job_name);
	janitor_object_number(&object, "execution_id", execution->id);
	janitor_object_text(&object, "status",
						janitor_status_name(outcome->status));
	janitor_object_text(&object, "sqlstate", outcome->sqlstate ?
						unpack_sql_state(outcome->sqlstate) : "");
	janitor_object_number(&object, "consecutive_failures",
						  janitor_failures_before(execution->job_name,
												  PG_INT64_MAX));
	return janitor_object_end(&object);
}

/* Its first attempt, or the run that this one tries again, was told. */
static bool
follows_failure(const JanitorExecution *execution)
{
	JanitorExecution parent;

	if (execution->reason == JANITOR_REASON_FAILURE)
		return true;
	return execution->parent_id != 0 &&
		janitor_execution_find(execution->parent_id, &parent) &&
		parent.status != JANITOR_SUCCEEDED;
}

/* The job itself is never told, not even by the setting. */
static const char *
whom_to_tell(const JanitorJob *job)
{
	if (job->on_failure != NULL)
		return job->on_failure;
	return strcmp(janitor_on_failure, job->name) == 0 ? "" :
		janitor_on_failure;
}

static void
tell_of_failure(const JanitorExecution *execution, const JanitorJob *job,
				const JanitorOutcome *outcome)
{
	const char *other = whom_to_tell(job);
	JanitorEntry entry;

	if (other[0] == '\0' || follows_failure(execution) ||
		!runs_by_itself(other))
		return;
	enqueue(&entry, other, JANITOR_REASON_FAILURE, execution->id);
	entry.args = failure_args(execution, outcome);
	janitor_entry_insert(&entry);
}

static bool
is_conflict(int sqlstate)
{
	return sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

static void
retry_failure(const JanitorExecution *execution, const JanitorJob *job,
			  const JanitorOutcome *outcome)
{
	if (outcome->status == JANITOR_FAILED && outcome->failed_records > 0)
		return;					/* the items have attempts of their own */
	if (outcome->status == JANITOR_FAILED && is_conflict(outcome->sqlstate) &&
		execution->conflicts < CONFLICT_RETRIES)
		queue_retry(execution, execution->attempt, execution->conflicts + 1,
					0);
	else if (execution->attempt < job->max_attempts && !outcome->permanent)
	{
		int			attempt = execution->attempt + 1;

		queue_retry(execution, attempt, 0,
					janitor_backoff(attempt, job->retry_delay,
									job->retry_max_delay,
									pg_prng_uint64(&pg_global_prng_state)));
	}
}

/* --- the circuit --- */

/* When the run began, by the clock of circuits. */
static TimestampTz
begin_of(const JanitorExecution *execution, const JanitorOutcome *outcome)
{
	TimestampTz began = outcome->started_at == DT_NOBEGIN ?
	execution->started_at : outcome->started_at;

	return began == DT_NOBEGIN ? DT_NOBEGIN :
		janitor_clock() - (outcome->completed_at - began);
}

static void
feed_circuit(const JanitorExecution *execution, const JanitorJob *job,
			 const JanitorOutcome *outcome)
{
	bool		success;

	if (job->circuit == NULL)
		return;
	switch (outcome->status)
	{
		case JANITOR_SUCCEEDED:
			success = true;
			break;
		case JANITOR_FAILED:
		case JANITOR_TIMED_OUT:
			if (is_conflict(outcome->sqlstate))
				return;
			success = outcome->permanent;
			break;
		default:
			return;
	}
	janitor_circuit_feed(job->circuit, success, begin_of(execution, outcome),
						 execution->id);
}

/* --- who else is told --- */

/* Is this an end that somebody has to hear of? */
static bool
is_failure(JanitorStatus status, JanitorLoss loss)
{
	return status == JANITOR_FAILED || status == JANITOR_TIMED_OUT ||
		(status == JANITOR_INTERRUPTED &&
		 (loss == JANITOR_LOSS_CRASH || loss == JANITOR_LOSS_LEASE));
}

/* The scheduler is told of failures, and of successes after them. */
static void
tell_scheduler(const JanitorExecution *execution, JanitorStatus status,
			   JanitorLoss loss)
{
	bool		failed = is_failure(status, loss);

	if (failed || status == JANITOR_SUCCEEDED)
		janitor_fault_at_end(janitor_job_hash(execution->job_name),
							 execution->id, failed);
}

/* --- crashes --- */

/* Crashes of one job, newest first. */
typedef struct Crashes
{
	int			count;
	TimestampTz since;			/* earliest start of a run that ended in the
								 * one counted last */
} Crashes;

/* Runs that were in progress together ended in one crash. */
static bool
count_crash(JanitorExecution *execution, void *arg)
{
	Crashes    *crashes = arg;

	if (execution->status == JANITOR_SKIPPED)
		return true;
	if (execution->status != JANITOR_INTERRUPTED ||
		!has_sqlstate(execution, ERRCODE_CRASH_SHUTDOWN))
		return false;
	if (crashes->count == 0 || execution->completed_at < crashes->since)
	{
		crashes->count++;
		crashes->since = execution->started_at;
	}
	else
		crashes->since = Min(crashes->since, execution->started_at);
	return crashes->count < CRASHES_BEFORE_PAUSE;
}

/*
 * A job that crashes its server must not do so for ever.  Whoever holds the
 * job's lock is changing it and so knows of it; then the next crash pauses.
 */
static void
pause_after_crashes(const JanitorJob *job)
{
	JanitorDraft draft;
	Crashes		crashes = {0, DT_NOEND};

	janitor_execution_scan(job->name, count_crash, &crashes);
	if (crashes.count < CRASHES_BEFORE_PAUSE || job->paused ||
		!janitor_job_try_lock(job->name))
		return;
	janitor_draft_load(&draft, job->tuple);
	janitor_draft_set_text(&draft, Anum_definition_paused_by, "pg_janitor");
	janitor_draft_set_text(&draft, Anum_definition_paused_reason,
						   psprintf("its last %d runs ended in a crash",
									CRASHES_BEFORE_PAUSE));
	janitor_draft_set(&draft, Anum_definition_paused_until, (Datum) 0, true);
	(void) janitor_draft_save(&draft, job->tuple, "pause");
	ereport(LOG,
			(errmsg("job \"%s\" is paused: its last %d runs ended in a crash",
					job->name, CRASHES_BEFORE_PAUSE),
			 errhint("When the cause is mended, SELECT job_resume(%s);",
					 quote_literal_cstr(job->name))));
}

/* --- the end --- */

/*
 * Of what was committed bit by bit, the tables tell.  Items need no progress
 * to go on from.
 */
static void
count_batches(const JanitorExecution *execution, const JanitorJob *job,
			  JanitorOutcome *outcome)
{
	if (job != NULL && !janitor_job_is_heavy(job))
		return;
	if (outcome->records < 0)
	{
		outcome->records = janitor_cursor_handled(execution->job_name,
												  execution->id);
		outcome->failed_records =
			janitor_item_failures_of(execution->job_name, execution->id);
	}
	if (job != NULL && job->kind == JANITOR_KIND_ITEMS)
		janitor_cursor_forget(execution->job_name, execution->id);
}

static bool
is_of_the_original(const JanitorJob *job, JanitorLoss loss)
{
	return loss != JANITOR_LOSS_NONE && loss != JANITOR_LOSS_UNBEGUN &&
		janitor_job_disarmed(job) != NULL;
}

bool
janitor_conclude(const JanitorExecution *execution, const JanitorJob *job,
				 const JanitorOutcome *outcome, JanitorLoss loss)
{
	JanitorOutcome counted = *outcome;

	count_batches(execution, job, &counted);
	if (!janitor_execution_finish(execution->id, &counted))
		return false;
	if (job == NULL || is_of_the_original(job, loss))
		return true;
	janitor_announce_run(job, execution->id, &counted);
	tell_scheduler(execution, outcome->status, loss);

	feed_circuit(execution, job, outcome);
	switch (outcome->status)
	{
		case JANITOR_SUCCEEDED:
			if (execution->reason != JANITOR_REASON_REPLAY)
				janitor_definition_scan_children(job->name, queue_child,
												 unconstify(JanitorExecution *, execution));
			break;
		case JANITOR_FAILED:
		case JANITOR_TIMED_OUT:
			retry_failure(execution, job, outcome);
			tell_of_failure(execution, job, outcome);
			break;
		case JANITOR_INTERRUPTED:
			if (loss == JANITOR_LOSS_UNBEGUN ||
				(loss == JANITOR_LOSS_ORDERLY &&
				 !janitor_job_is_non_atomic(job)))
				queue_retry(execution, execution->attempt,
							execution->conflicts, 0);
			else
				retry_failure(execution, job, outcome);
			if (is_failure(outcome->status, loss))
				tell_of_failure(execution, job, outcome);
			if (loss == JANITOR_LOSS_CRASH)
				pause_after_crashes(job);
			break;
		default:
			break;
	}
	return true;
}

void
janitor_log_outcome(const JanitorExecution *execution,
					const JanitorOutcome *outcome)
{
	bool		failed = outcome->status != JANITOR_SUCCEEDED;

	if (janitor_log_runs == JANITOR_LOG_NONE ||
		(janitor_log_runs == JANITOR_LOG_FAILURES && !failed))
		return;
	if (failed)
		ereport(LOG,
				(errmsg("job \"%s\" %s: %s", execution->job_name,
						janitor_status_name(outcome->status),
						outcome->error_message ? outcome->error_message :
						outcome->detail ? outcome->detail : ""),
				 errdetail("Execution " INT64_FORMAT ", attempt %d.",
						   execution->id, execution->attempt)));
	else
		ereport(LOG,
				(errmsg("job \"%s\" succeeded", execution->job_name),
				 errdetail("Execution " INT64_FORMAT ", records processed: " INT64_FORMAT ".",
						   execution->id, outcome->records)));
}
