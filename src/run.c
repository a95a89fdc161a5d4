/*-------------------------------------------------------------------------
 *
 * run.c
 *	  The life of one run in its worker: load, execute, record.
 *
 * The statements, the row that says they succeeded and the entries that
 * follow from it are one transaction: audit and effect cannot disagree.  A
 * failure is recorded in a second one, after the abort and after the session
 * has been reset, so that nothing the command set can keep the record from
 * being written.  If that fails as well the ERROR leaves this file, the worker
 * ends, and the scheduler writes the row.
 *
 * A run that changed nothing (it has no transaction id when its statements
 * are done) leaves the flush of its record to the operating system: lost in a
 * crash, the claim is lost with it or the run is found open, and there is no
 * effect that it would have to agree with.
 *
 * The status comes from whoever asked for the end (the slot), never from the
 * SQLSTATE: a run that swallowed its cancel and committed has succeeded.
 *
 * Retention and items runs do their work in many transactions, each with its
 * own progress; the last one records what they add up to.
 *
 * Memory: run_context holds everything of the run, is reset at its end, and is
 * no child of any transaction's.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "run.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "conclude.h"
#include "definition.h"
#include "home.h"
#include "run_items.h"
#include "run_retention.h"
#include "run_sql.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

/* A cancel that the command swallows is repeated, and the third is final. */
#define REPEAT_CANCEL_MS 1000
#define CANCELS_BEFORE_END 3

static MemoryContext run_context = NULL;
static TimeoutId run_timeout;
static TimeoutId statement_timeout;
static TimestampTz timeout_at = DT_NOEND;	/* of the run in hand */
static int	armed_statement_timeout;
static volatile sig_atomic_t timeouts_fired;
static volatile sig_atomic_t statement_timed_out;
static TimeoutId step_timeout;
static volatile sig_atomic_t step_timed_out;

/* What a run works on; NULL job: it is gone. */
typedef struct Work
{
	JanitorExecution execution;
	JanitorJob *job;
	JanitorRun	run;
	TimestampTz started_at;
	const char *unwanted;		/* it is not for this worker to begin, and
								 * why; NULL: it is */
} Work;

/* --- timeouts --- */

static void
cancel_self(void)
{
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
run_timeout_handler(void)
{
	janitor_worker_set_end(JANITOR_END_TIMEOUT);
	if (++timeouts_fired >= CANCELS_BEFORE_END)
		ProcDiePending = true;
	cancel_self();
}

static void
statement_timeout_handler(void)
{
	statement_timed_out = true;
	cancel_self();
}

static void
step_timeout_handler(void)
{
	step_timed_out = true;
	cancel_self();
}

void
janitor_run_limit(int milliseconds)
{
	step_timed_out = false;
	if (milliseconds > 0)
		enable_timeout_after(step_timeout, milliseconds);
}

/* It may have come to its end in the very moment in which it was to stop. */
void
janitor_run_limit_end(void)
{
	disable_timeout(step_timeout, false);
	if (janitor_run_overdue())
		QueryCancelPending = false;
	step_timed_out = false;
}

bool
janitor_run_overdue(void)
{
	return step_timed_out && janitor_worker_end() == JANITOR_END_NONE;
}

void
janitor_run_init(void)
{
	run_timeout = RegisterTimeout(USER_TIMEOUT, run_timeout_handler);
	statement_timeout = RegisterTimeout(USER_TIMEOUT,
										statement_timeout_handler);
	step_timeout = RegisterTimeout(USER_TIMEOUT, step_timeout_handler);
	run_context = AllocSetContextCreate(TopMemoryContext, "pg_janitor run",
										ALLOCSET_DEFAULT_SIZES);
}

/* The job's own timeout covers the whole run. */
static void
arm_run_timeout(const JanitorJob *job)
{
	timeouts_fired = 0;
	statement_timed_out = false;
	timeout_at = job->timeout > 0 ? GetCurrentTimestamp() + job->timeout :
		DT_NOEND;
	janitor_run_rearm_timeout();
}

void
janitor_run_rearm_timeout(void)
{
	if (timeout_at != DT_NOEND)
		enable_timeout_every(run_timeout, timeout_at, REPEAT_CANCEL_MS);
}

/*
 * The server's statement_timeout is armed for client messages only; a command
 * is what a message would be.
 */
static void
arm_timeouts(const JanitorJob *job)
{
	arm_run_timeout(job);
	armed_statement_timeout = StatementTimeout;
	if (StatementTimeout > 0)
		enable_timeout_after(statement_timeout, StatementTimeout);
}

static void
disarm_timeouts(void)
{
	disable_timeout(run_timeout, false);
	disable_timeout(statement_timeout, false);
	timeout_at = DT_NOEND;
}

/* --- success --- */

/* Reads the execution and its job; in the run's transaction. */
static bool
load(Work *work)
{
	if (!janitor_execution_find(work->execution.id, &work->execution) ||
		work->execution.status != JANITOR_RUNNING)
		return false;
	work->job = janitor_job_load(work->execution.job_name);
	return true;
}

static void
set_up_run(Work *work)
{
	JanitorRun *run = &work->run;

	run->execution_id = work->execution.id;
	run->job_name = work->execution.job_name;
	run->command = work->job->command;
	run->args = work->execution.args;
	run->scheduled_for = work->execution.scheduled_for;
	run->now = work->started_at;
	run->records = -1;
	run->context = run_context;
	janitor_current_run = run;
}

/* Reasons not to begin, found at the last moment; raised as errors. */
static void
check_may_begin(Work *work)
{
	if (janitor_worker_end() != JANITOR_END_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceled before it began")));
	if (work->job == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job \"%s\" was dropped before the run began",
						work->execution.job_name)));
	if (work->job->owner_oid != GetSessionUserId())
		work->unwanted = "the job was given to another role";
	else if (janitor_job_disarmed(work->job) != NULL)
		work->unwanted = "the job was disarmed";
	if (work->unwanted != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s before the run began", work->unwanted)));
}

static void
describe_success(const Work *work, JanitorOutcome *outcome)
{
	const JanitorRun *run = &work->run;

	MemSet(outcome, 0, sizeof(JanitorOutcome));
	outcome->status = JANITOR_SUCCEEDED;
	outcome->started_at = work->started_at;
	outcome->completed_at = GetCurrentTimestamp();
	outcome->records = run->reported ? run->reported_records : run->records;
	outcome->result = run->result;
	outcome->definition_version = work->job->version;
	outcome->pid = MyProcPid;
}

/*
 * Loads the run and applies the job's settings, in a transaction of its own:
 * settings of transactions count for those that begin after them.  false:
 * there is nothing to do, the execution has been ended by somebody else.
 */
static bool
prepare(Work *work)
{
	bool		found;

	/* a cancel cannot be recorded of a run whose row has not been read */
	HOLD_CANCEL_INTERRUPTS();
	janitor_begin_run();
	found = load(work);
	RESUME_CANCEL_INTERRUPTS();
	if (found)
	{
		check_may_begin(work);
		set_up_run(work);
		janitor_session_apply(work->job->settings);
	}
	janitor_commit_run(true);
	return found;
}

/*
 * The last transaction of a run: its record, what follows from it, and the
 * commit.  Whatever arrives from here on comes too late.
 */
static void
record(Work *work, const JanitorOutcome *outcome, bool flush)
{
	janitor_current_run = NULL;
	HOLD_CANCEL_INTERRUPTS();
	janitor_conclude(&work->execution, work->job, outcome,
					 JANITOR_LOSS_NONE);
	janitor_commit_run(!flush);
	QueryCancelPending = false;
	RESUME_CANCEL_INTERRUPTS();
	janitor_log_outcome(&work->execution, outcome);
}

/* Statements, record and commit: one transaction. */
static void
execute_sql(Work *work)
{
	bool		non_atomic = janitor_job_is_non_atomic(work->job);
	JanitorOutcome outcome;

	janitor_begin_run();
	pgstat_report_activity(STATE_RUNNING, work->run.command);
	arm_timeouts(work->job);
	work->started_at = work->run.now = GetCurrentTimestamp();
	janitor_run_sql(&work->run);
	disarm_timeouts();

	if (!janitor_extension_exists())
	{
		janitor_commit_run(false);
		ereport(LOG,
				(errmsg("job \"%s\" dropped the extension pg_janitor",
						work->execution.job_name)));
		return;
	}
	describe_success(work, &outcome);
	record(work, &outcome, non_atomic || work->run.foreign ||
		   TransactionIdIsValid(GetTopTransactionIdIfAny()));
}

/* Batches that commit with their progress, then the record that adds it up. */
static void
execute_retention(Work *work)
{
	JanitorOutcome outcome;

	pgstat_report_activity(STATE_RUNNING, "retention");
	arm_run_timeout(work->job);
	work->started_at = work->run.now = GetCurrentTimestamp();
	describe_success(work, &outcome);
	janitor_run_retention(&work->run, &work->execution, work->job, &outcome);
	disarm_timeouts();

	janitor_begin();
	outcome.completed_at = GetCurrentTimestamp();
	outcome.records = janitor_cursor_handled(work->execution.job_name,
											 work->execution.id);
	outcome.records = Max(outcome.records, 0);
	janitor_retention_tidy(&work->execution, &outcome);
	PopActiveSnapshot();
	record(work, &outcome, true);
}

/* Groups of items that commit by themselves, then the record of them all. */
static void
execute_items(Work *work)
{
	JanitorOutcome outcome;

	pgstat_report_activity(STATE_RUNNING, "items");
	arm_run_timeout(work->job);
	work->started_at = work->run.now = GetCurrentTimestamp();
	describe_success(work, &outcome);
	janitor_run_items(&work->run, &work->execution, work->job, &outcome);
	disarm_timeouts();

	janitor_begin();
	outcome.completed_at = GetCurrentTimestamp();
	PopActiveSnapshot();
	record(work, &outcome, true);
}

static void
execute(void *arg)
{
	Work	   *work = arg;

	if (!prepare(work))
		return;
	switch (work->job->kind)
	{
		case JANITOR_KIND_SQL:
			execute_sql(work);
			break;
		case JANITOR_KIND_RETENTION:
			execute_retention(work);
			break;
		case JANITOR_KIND_ITEMS:
			execute_items(work);
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("jobs of kind \"%s\" cannot be run",
							janitor_kind_name(work->job->kind))));
	}
}

/* --- failure --- */

static JanitorStatus
failure_status(const Work *work, const JanitorError *error)
{
	switch (janitor_worker_end())
	{
		case JANITOR_END_CANCEL:
		case JANITOR_END_TERMINATE:
			return JANITOR_CANCELLED;
		case JANITOR_END_TIMEOUT:
			return JANITOR_TIMED_OUT;
		case JANITOR_END_SHUTDOWN:
			return JANITOR_INTERRUPTED;
		case JANITOR_END_NONE:
			break;
	}
	if (work->job == NULL)
		return JANITOR_CANCELLED;
	if (work->unwanted != NULL)
		return JANITOR_INTERRUPTED; /* and queued again, free of charge */
	if (error->sqlstate == ERRCODE_QUERY_CANCELED && !statement_timed_out)
		return JANITOR_CANCELLED;	/* pg_cancel_backend() */
	return JANITOR_FAILED;
}

static void
describe_failure(const Work *work, const JanitorError *error,
				 JanitorOutcome *outcome)
{
	MemSet(outcome, 0, sizeof(JanitorOutcome));
	outcome->status = failure_status(work, error);
	outcome->started_at = work->started_at;
	outcome->completed_at = GetCurrentTimestamp();
	outcome->records = -1;
	outcome->sqlstate = error->sqlstate;
	outcome->error_message = error->message;
	outcome->pid = MyProcPid;
	if (work->job)
		outcome->definition_version = work->job->version;

	if (outcome->status == JANITOR_TIMED_OUT && work->job)
		outcome->error_message =
			psprintf("canceled after its timeout of %g s",
					 work->job->timeout / (double) USECS_PER_SEC);
	else if (statement_timed_out && outcome->status == JANITOR_FAILED)
		outcome->error_message =
			psprintf("canceled after the statement_timeout of %d ms",
					 armed_statement_timeout);
	else if (outcome->status == JANITOR_INTERRUPTED)
		outcome->detail = work->unwanted ? work->unwanted :
			"the server was shut down";
}

/* In a transaction; NULL: nobody by name. */
static const char *
who_cancelled(void)
{
	Oid			role = janitor_worker_ended_by();
	char	   *name = OidIsValid(role) ? GetUserNameFromId(role, true) : NULL;

	return name ? psprintf("canceled by user \"%s\"", name) : NULL;
}

/* In a second transaction, from a clean session. */
static void
record_failure(Work *work, const JanitorError *error)
{
	JanitorOutcome outcome;

	describe_failure(work, error, &outcome);
	janitor_session_reset();
	janitor_begin();
	if (outcome.status == JANITOR_CANCELLED && outcome.detail == NULL)
		outcome.detail = who_cancelled();
	janitor_conclude(&work->execution, work->job, &outcome,
					 work->unwanted ? JANITOR_LOSS_UNBEGUN :
					 outcome.status == JANITOR_INTERRUPTED ?
					 JANITOR_LOSS_ORDERLY : JANITOR_LOSS_NONE);
	janitor_commit(false);
	janitor_log_outcome(&work->execution, &outcome);
}

/* --- helping --- */

static void
help(void *arg)
{
	Work	   *work = arg;

	if (!prepare(work))
		return;
	if (work->job->kind == JANITOR_KIND_RETENTION)
	{
		pgstat_report_activity(STATE_RUNNING, "retention, helping");
		janitor_help_retention(&work->run, &work->execution, work->job);
	}
	else if (work->job->kind == JANITOR_KIND_ITEMS)
	{
		pgstat_report_activity(STATE_RUNNING, "items, helping");
		janitor_help_items(&work->run, &work->execution, work->job);
	}
}

static Work *
new_work(int64 execution_id)
{
	Work	   *work;

	MemoryContextSwitchTo(run_context);
	work = palloc0(sizeof(Work));
	work->execution.id = execution_id;
	work->started_at = GetCurrentTimestamp();
	return work;
}

/*
 * What comes after a run, until leave_work(): a cancel finds nothing to end
 * there, and must not end the worker.
 */
static void
begin_aftermath(void)
{
	HOLD_CANCEL_INTERRUPTS();
	janitor_current_run = NULL;
}

static void
leave_work(void)
{
	QueryCancelPending = false;
	RESUME_CANCEL_INTERRUPTS();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(run_context);
}

void
janitor_run_help(int64 execution_id)
{
	Work	   *work = new_work(execution_id);
	JanitorError *error = janitor_attempt(help, work);

	begin_aftermath();
	timeout_at = DT_NOEND;
	if (error != NULL && error->sqlstate != ERRCODE_QUERY_CANCELED)
		ereport(LOG,
				(errmsg("a helper of job \"%s\" failed: %s",
						work->execution.job_name ?
						work->execution.job_name : "?", error->message)));
	janitor_session_reset();
	leave_work();
}

void
janitor_run_execution(int64 execution_id)
{
	Work	   *work = new_work(execution_id);
	JanitorError *error = janitor_attempt(execute, work);

	begin_aftermath();
	if (error)
		janitor_helpers_dismiss(true);
	if (error && work->execution.job_name != NULL)
		record_failure(work, error);
	else if (error)
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("execution " INT64_FORMAT " could not be read: %s",
						execution_id, error->message)));
	else
		janitor_session_reset();
	leave_work();
}
