/*-------------------------------------------------------------------------
 *
 * api_run.c
 *	  SQL functions that queue runs: job_trigger, job_retry.
 *
 * They insert one row into job_queue in the caller's transaction and return
 * the execution id that the run will have.  The scheduler is told at commit;
 * a transaction that is rolled back has triggered nothing.  None of them
 * waits: see api_wait.c for those that do.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "mb/pg_wchar.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api_run.h"
#include "home.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_trigger);
PG_FUNCTION_INFO_V1(job_retry);

#define KEY_LIMIT 255			/* characters in a trigger's key */

static void
check_key(const char *key)
{
	int			length = pg_mbstrlen(key);

	if (length < 1 || length > KEY_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key of a run must have 1 to %d characters",
						KEY_LIMIT)));
	if (key[0] == '@')
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("key of a run must not begin with \"@\""),
				 errdetail("Such keys belong to pg_janitor itself.")));
}

/* A run cannot be due before now: the scheduler would look past it. */
static TimestampTz
due_time(TimestampTz asked)
{
	TimestampTz now = janitor_clock();

	return asked < now ? now : asked;
}

/* Of an entry that has its key. */
static void
fill_trigger(JanitorEntry *entry, Jsonb *args, TimestampTz run_at)
{
	bool		replay = entry->key != NULL &&
	strcmp(entry->key, JANITOR_KEY_REPLAY) == 0;

	entry->run_at = run_at;
	entry->scheduled_for = DT_NOBEGIN;
	entry->reason = replay ? JANITOR_REASON_REPLAY : JANITOR_REASON_MANUAL;
	entry->attempt = 1;
	entry->conflicts = 0;
	entry->retry_of = 0;
	entry->parent_id = 0;
	entry->args = args;
	entry->triggered_by = janitor_session_user();
}

/*
 * Puts a new trigger in the place of the waiting one with its key; false if
 * there is none.
 */
static bool
replace_waiting(const JanitorJob *job, const char *key, Jsonb *args,
				TimestampTz run_at, int64 *execution_id)
{
	JanitorEntry entry;

	while (janitor_entry_find_key(job->name, key, &entry))
	{
		CHECK_FOR_INTERRUPTS();
		fill_trigger(&entry, args, run_at);
		if (entry.execution_id == 0)
			entry.execution_id = janitor_next_execution_id();
		if (janitor_entry_update(&entry))
		{
			*execution_id = entry.execution_id;
			return true;
		}
	}
	return false;
}

static int64
insert_trigger(const JanitorJob *job, char *key, Jsonb *args,
			   TimestampTz run_at, int64 retry_of)
{
	JanitorEntry entry = {0};

	entry.key = key;
	fill_trigger(&entry, args, run_at);
	entry.execution_id = janitor_next_execution_id();
	entry.job_name = job->name;
	entry.retry_of = retry_of;
	janitor_entry_insert(&entry);
	return entry.execution_id;
}

/*
 * Triggers with one key come one after the other, which the unique index would
 * see to as well, but with an error.  The lock is given back as soon as the
 * entry is there: whoever comes next sees the entry, and waits for us.
 */
static int64
trigger_with_key(const JanitorJob *job, char *key, Jsonb *args,
				 TimestampTz run_at)
{
	int64		execution_id;

	for (;;)
	{
		TransactionId writer;

		janitor_trigger_lock(job->name, key);
		if (replace_waiting(job, key, args, run_at, &execution_id))
			break;
		writer = janitor_entry_key_writer(job->name, key);
		if (!TransactionIdIsValid(writer))
		{
			execution_id = insert_trigger(job, key, args, run_at, 0);
			break;
		}
		janitor_trigger_unlock(job->name, key);
		XactLockTableWait(writer, NULL, NULL, XLTW_None);
	}
	janitor_trigger_unlock(job->name, key);
	return execution_id;
}

int64
janitor_trigger(const char *job_name, Jsonb *args, TimestampTz run_at,
				char *key)
{
	JanitorJob *job;

	janitor_shmem_require();
	job = janitor_job_for_use(job_name);
	janitor_job_warn_disarmed(job);
	run_at = due_time(run_at);
	if (key == NULL)
		return insert_trigger(job, NULL, args, run_at, 0);
	check_key(key);
	return trigger_with_key(job, key, args, run_at);
}

int64
janitor_trigger_replay(const JanitorJob *job)
{
	janitor_job_warn_disarmed(job);
	return trigger_with_key(job, JANITOR_KEY_REPLAY, NULL,
							due_time(DT_NOBEGIN));
}

/*
 * job_trigger(job_name text, args jsonb, run_at timestamptz, key text)
 * returns bigint
 */
Datum
job_trigger(PG_FUNCTION_ARGS)
{
	char	   *job_name;
	Jsonb	   *args;

	janitor_prevent_misuse("job_trigger()");
	job_name = janitor_arg_text_required(fcinfo, 0, "job_name");
	args = janitor_arg_object(fcinfo, 1, "args");
	PG_RETURN_INT64(janitor_trigger(job_name, args,
									PG_ARGISNULL(2) ? DT_NOBEGIN :
									PG_GETARG_TIMESTAMPTZ(2),
									janitor_arg_text(fcinfo, 3)));
}

static void
check_can_retry(const JanitorExecution *execution)
{
	if (execution->status == JANITOR_RUNNING ||
		execution->status == JANITOR_SUCCEEDED ||
		execution->status == JANITOR_SKIPPED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("execution " INT64_FORMAT " of job \"%s\" did not fail",
						execution->id, execution->job_name),
				 errdetail("Its status is \"%s\".",
						   janitor_status_name(execution->status)),
				 errhint("To run the job again, use job_trigger().")));
	if (execution->reason == JANITOR_REASON_REPLAY)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("execution " INT64_FORMAT " of job \"%s\" was a replay",
						execution->id, execution->job_name),
				 errhint("SELECT * FROM job_erasure_replay(%s);",
						 quote_literal_cstr(execution->job_name))));
}

/* job_retry(execution_id bigint) returns bigint */
Datum
job_retry(PG_FUNCTION_ARGS)
{
	int64		id;
	JanitorExecution execution;
	JanitorJob *job;

	janitor_prevent_misuse("job_retry()");
	id = janitor_arg_int64_required(fcinfo, 0, "execution_id");
	janitor_shmem_require();
	if (!janitor_execution_find(id, &execution))
		janitor_no_execution(id);
	job = janitor_job_of_execution(id, execution.job_name);
	if (job == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the job of execution " INT64_FORMAT " does not exist any more",
						id)));
	check_can_retry(&execution);
	janitor_job_warn_disarmed(job);
	PG_RETURN_INT64(insert_trigger(job, NULL, execution.args,
								   due_time(DT_NOBEGIN), id));
}
