/*-------------------------------------------------------------------------
 *
 * api_wait.c
 *	  Waiting for runs: job_wait, and the procedure job_run.
 *
 * Both sleep on the condition variable that the end of every run signals, and
 * then look at the row: what counts is the committed record, not the signal.
 *
 * What a waiting backend holds.  A function has the snapshot of the statement
 * that calls it for as long as it waits, and whatever its transaction has
 * locked; a run that needs either to be gone (CREATE INDEX CONCURRENTLY waits
 * for old snapshots) waits for the function, and the deadlock detector cannot
 * see it.  Hence job_wait() has a timeout.  job_run commits before it waits
 * and after each look, so that between looks it holds nothing at all, and may
 * wait as long as it takes.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api_run.h"
#include "session.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_wait);
PG_FUNCTION_INFO_V1(job_run);

/*
 * The end of a run, and of a transaction that touches the queue, wakes whoever
 * waits.  Look at least this often all the same (ms).
 */
#define LONGEST_SLEEP 60000

typedef enum RunState
{
	RUN_UNKNOWN,				/* neither in the queue nor recorded */
	RUN_QUEUED,
	RUN_IN_PROGRESS,
	RUN_ENDED
} RunState;

/*
 * The queue first: a claim moves a run from there to job_execution.  Then the
 * queue again: a claim that nobody began is moved back.
 */
static RunState
look_once(int64 id, JanitorEntry *entry, JanitorExecution *execution)
{
	if (janitor_entry_find_execution(id, entry))
		return RUN_QUEUED;
	if (!janitor_execution_find(id, execution))
		return janitor_entry_find_execution(id, entry) ? RUN_QUEUED :
			RUN_UNKNOWN;
	return execution->status == JANITOR_RUNNING ? RUN_IN_PROGRESS : RUN_ENDED;
}

/*
 * A claim that is taken back moves it the other way, and can hide it from one
 * look, not from two.  What is found lives in `scratch` until the next look.
 */
static RunState
look(MemoryContext scratch, int64 id, JanitorEntry *entry,
	 JanitorExecution *execution)
{
	MemoryContext caller;
	RunState	state;

	MemoryContextReset(scratch);
	caller = MemoryContextSwitchTo(scratch);
	PushActiveSnapshot(GetLatestSnapshot());
	state = look_once(id, entry, execution);
	if (state == RUN_UNKNOWN)
		state = look_once(id, entry, execution);
	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
	return state;
}

/* Goes with the context that is current now. */
static MemoryContext
make_scratch(void)
{
	return AllocSetContextCreate(CurrentMemoryContext, "pg_janitor wait",
								 ALLOCSET_SMALL_SIZES);
}

/* --- job_wait --- */

/* A run that this transaction queued cannot start before it commits. */
static void
refuse_own_run(const JanitorEntry *entry)
{
	if (TransactionIdIsCurrentTransactionId(entry->xmin))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for a run that the same transaction has queued"),
				 errdetail("Execution " INT64_FORMAT " can start only when the transaction has been committed.",
						   entry->execution_id),
				 errhint("Commit first, or use CALL job_run().")));
}

static void
check_may_watch(int64 id, const char *job_name)
{
	JanitorJob *job = janitor_job_load(job_name);

	if (superuser() || (job != NULL && janitor_job_visible(job)))
		return;
	janitor_no_execution(id);
}

/* Milliseconds to sleep now; 0: the time is over. */
static long
sleep_time(TimestampTz deadline)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													   deadline);

	return Min(left, LONGEST_SLEEP);
}

/* The status it ended with, or NULL when the deadline has passed. */
static const char *
wait_for_end(int64 id, TimestampTz deadline)
{
	JanitorEntry entry;
	JanitorExecution execution;
	MemoryContext scratch = make_scratch();
	RunState	state;
	long		left;

	state = look(scratch, id, &entry, &execution);
	if (state == RUN_UNKNOWN)
		janitor_no_execution(id);
	check_may_watch(id, state == RUN_QUEUED ? entry.job_name :
					execution.job_name);
	if (state == RUN_QUEUED)
		refuse_own_run(&entry);

	janitor_run_wait_prepare();
	for (;;)
	{
		state = look(scratch, id, &entry, &execution);
		if (state == RUN_ENDED || state == RUN_UNKNOWN)
			break;
		left = sleep_time(deadline);
		if (left <= 0)
			break;
		(void) janitor_run_wait_sleep(left);
	}
	janitor_run_wait_done();

	if (state == RUN_UNKNOWN)
		janitor_no_execution(id);
	return state == RUN_ENDED ? janitor_status_name(execution.status) : NULL;
}

static TimestampTz
deadline_after(const Interval *timeout)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		usec = janitor_interval_usec(timeout);

	return usec > DT_NOEND - 1 - now ? DT_NOEND : now + usec;
}

/* job_wait(execution_id bigint, timeout interval) returns text */
Datum
job_wait(PG_FUNCTION_ARGS)
{
	int64		id = janitor_arg_int64_required(fcinfo, 0, "execution_id");
	TimestampTz deadline = PG_ARGISNULL(1) ? DT_NOEND :
	deadline_after(PG_GETARG_INTERVAL_P(1));
	const char *status;

	janitor_shmem_require();
	status = wait_for_end(id, deadline);
	if (status == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(status));
}

/* --- job_run --- */

static void
require_nonatomic(FunctionCallInfo fcinfo)
{
	if (fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg("job_run cannot be called inside a transaction block or a function"),
			 errdetail("It must commit before the run can start."),
			 errhint("Use job_trigger(), and job_wait() after the commit.")));
}

/*
 * Waits without limit.  Each round is a transaction of its own, begun by the
 * commit of the one before.
 */
static RunState
wait_outside_transactions(int64 id, JanitorExecution *execution)
{
	JanitorEntry entry;
	MemoryContext scratch = make_scratch();
	RunState	state;

	janitor_run_wait_prepare();
	for (;;)
	{
		state = look(scratch, id, &entry, execution);
		if (state == RUN_ENDED || state == RUN_UNKNOWN)
			break;
		janitor_procedure_commit();
		(void) janitor_run_wait_sleep(LONGEST_SLEEP);
	}
	janitor_run_wait_done();
	return state;
}

static const char *
failure_text(JanitorStatus status)
{
	switch (status)
	{
		case JANITOR_TIMED_OUT:
			return "timed out";
		case JANITOR_CANCELLED:
			return "was canceled";
		case JANITOR_INTERRUPTED:
			return "was interrupted";
		default:
			return "failed";
	}
}

static int
failure_sqlstate(const JanitorExecution *execution)
{
	const char *state = execution->sqlstate;

	if (state != NULL && strlen(state) == 5)
		return MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	return execution->status == JANITOR_FAILED ?
		ERRCODE_EXTERNAL_ROUTINE_EXCEPTION : ERRCODE_OPERATOR_INTERVENTION;
}

static void
raise_failure(const JanitorExecution *execution)
{
	const char *message = execution->error_message ?
	execution->error_message : execution->detail;

	ereport(ERROR,
			(errcode(failure_sqlstate(execution)),
			 message == NULL ?
			 errmsg("job \"%s\" %s", execution->job_name,
					failure_text(execution->status)) :
			 errmsg("job \"%s\" %s: %s", execution->job_name,
					failure_text(execution->status), message),
			 errdetail("This was execution " INT64_FORMAT ".",
					   execution->id)));
}

/* Triggers, commits, waits; raises an error unless the run succeeded. */
static void
run_and_wait(const char *job_name, Jsonb *args, JanitorExecution *execution)
{
	int64		id = janitor_trigger(job_name, args, DT_NOBEGIN, NULL);

	janitor_procedure_commit();
	if (wait_outside_transactions(id, execution) == RUN_UNKNOWN)
		janitor_no_execution(id);
	if (execution->status != JANITOR_SUCCEEDED)
		raise_failure(execution);
}

static Datum
run_result(TupleDesc desc, const JanitorExecution *execution)
{
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	values[0] = Int64GetDatum(execution->id);
	values[1] = CStringGetTextDatum(janitor_status_name(execution->status));
	values[2] = Int64GetDatum(execution->records);
	nulls[2] = execution->records < 0;
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/*
 * CALL job_run(job_name text, args jsonb, INOUT execution_id bigint,
 * INOUT status text, INOUT records_processed bigint)
 *
 * The arguments are read before the first commit.  What is allocated here
 * outlives the commits: the context is that of the CALL's portal.
 */
Datum
job_run(PG_FUNCTION_ARGS)
{
	char	   *job_name;
	Jsonb	   *args;
	TupleDesc	desc;
	JanitorExecution execution;

	janitor_prevent_misuse("job_run");
	require_nonatomic(fcinfo);
	job_name = janitor_arg_text_required(fcinfo, 0, "job_name");
	args = janitor_arg_object(fcinfo, 1, "args");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(CreateTupleDescCopy(desc));

	janitor_procedure_begin();
	run_and_wait(job_name, args, &execution);
	janitor_procedure_end();
	return run_result(desc, &execution);
}
