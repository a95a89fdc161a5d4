/*-------------------------------------------------------------------------
 *
 * api_cancel.c
 *	  Cancelling runs: the two forms of job_cancel().
 *
 * A run that waits is cancelled by taking its entry out of the queue and
 * leaving its row, `cancelled`, in job_execution: in the caller's
 * transaction, so that a rollback lets it run after all.  A run in progress
 * is told to end at once, by a signal, which no rollback takes back; its
 * worker records it.  Of an external job it is taken from its worker, who
 * learns of it when he wants to finish it; this a rollback does take back.
 *
 * Between the two a run passes through the scheduler's claim, one
 * transaction that removes the entry and writes the row.  Whoever wants the
 * entry while that is going on waits for it, finds the entry gone, and looks
 * for the run in progress instead.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "session.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_cancel_execution);
PG_FUNCTION_INFO_V1(job_cancel_job);

/* --- waiting runs --- */

static void
record_cancelled(JanitorEntry *entry, const char *run_as, const char *detail)
{
	JanitorOutcome outcome = {0};

	outcome.status = JANITOR_CANCELLED;
	outcome.started_at = DT_NOBEGIN;
	outcome.completed_at = GetCurrentTimestamp();
	outcome.records = -1;
	outcome.sqlstate = ERRCODE_QUERY_CANCELED;
	outcome.error_message = "canceled before it started";
	outcome.detail = detail;
	janitor_execution_never_ran(entry, &outcome, run_as);
}

static char *
cancelled_by(void)
{
	return psprintf("canceled by user \"%s\"", janitor_session_user());
}

static bool
is_schedule_entry(const JanitorEntry *entry)
{
	return entry->key != NULL &&
		strcmp(entry->key, JANITOR_KEY_SCHEDULE) == 0;
}

static bool
collect_entry(JanitorEntry *entry, void *arg)
{
	List	  **entries = arg;

	if (!is_schedule_entry(entry))
	{
		JanitorEntry *copy = palloc(sizeof(JanitorEntry));

		*copy = *entry;
		*entries = lappend(*entries, copy);
	}
	return true;
}

/* Entries that wait now, also those committed since the statement began. */
static List *
waiting_entries(const char *job_name)
{
	List	   *entries = NIL;

	PushActiveSnapshot(GetLatestSnapshot());
	janitor_entry_scan(job_name, DT_NOBEGIN, 0, DT_NOEND,
					   collect_entry, &entries);
	PopActiveSnapshot();
	return entries;
}

/* Once taken out of the queue it is ours to record. */
static bool
cancel_entry(JanitorEntry *entry, const char *run_as, const char *detail)
{
	if (!janitor_entry_delete(entry))
		return false;
	record_cancelled(entry, run_as, detail);
	return true;
}

static int
cancel_key(const JanitorJob *job, const char *key, const char *detail)
{
	JanitorEntry entry;

	while (janitor_entry_find_key(job->name, key, &entry))
	{
		CHECK_FOR_INTERRUPTS();
		if (cancel_entry(&entry, job->owner, detail))
			return 1;
	}
	return 0;
}

int
janitor_cancel_waiting(const JanitorJob *job, const char *key,
					   const char *detail)
{
	ListCell   *cell;
	int			count = 0;

	if (key != NULL)
		return cancel_key(job, key, detail);
	foreach(cell, waiting_entries(job->name))
	{
		CHECK_FOR_INTERRUPTS();
		if (cancel_entry(lfirst(cell), job->owner, detail))
			count++;
	}
	return count;
}

/* --- runs in progress --- */

int
janitor_cancel_running(const JanitorJob *job)
{
	uint64		hash = janitor_job_hash(job->name);
	int			n;
	JanitorRunInfo *runs = janitor_runs(&n);
	int			count = 0;

	if (job->kind == JANITOR_KIND_EXTERNAL)
		return janitor_lease_cancel_all(job, cancelled_by());
	for (int i = 0; i < n; i++)
	{
		JanitorExecution execution;

		/* a hash is no proof: ask the row */
		if (runs[i].execution_id != 0 && runs[i].job_hash == hash &&
			janitor_execution_find(runs[i].execution_id, &execution) &&
			strcmp(execution.job_name, job->name) == 0 &&
			janitor_run_end(runs[i].execution_id, JANITOR_END_CANCEL))
			count++;
	}
	return count;
}

/*
 * May the caller cancel this run?  Its job may be gone already; then the role
 * that it runs as decides.
 */
static void
check_may_cancel(const JanitorExecution *execution)
{
	int			n;
	JanitorRunInfo *runs;

	if (superuser() ||
		janitor_job_of_execution(execution->id, execution->job_name) != NULL)
		return;
	runs = janitor_runs(&n);
	for (int i = 0; i < n; i++)
		if (runs[i].execution_id == execution->id &&
			janitor_can_act_for(GetUserId(), runs[i].owner))
			return;
	janitor_no_execution(execution->id);
}

static int
cancel_execution(int64 id)
{
	JanitorEntry entry;
	JanitorExecution execution;

	while (janitor_entry_find_execution(id, &entry))
	{
		JanitorJob *job = janitor_job_of_execution(id, entry.job_name);

		CHECK_FOR_INTERRUPTS();
		if (job == NULL)
			janitor_no_execution(id);
		else if (cancel_entry(&entry, job->owner, cancelled_by()))
			return 1;
	}
	if (!janitor_execution_find(id, &execution))
		janitor_no_execution(id);
	check_may_cancel(&execution);
	if (execution.status != JANITOR_RUNNING)
		return 0;
	if (execution.lease_until != DT_NOBEGIN)
		return janitor_lease_cancel(id, true, cancelled_by()) ? 1 : 0;
	return janitor_run_end(id, JANITOR_END_CANCEL) ? 1 : 0;
}

/* job_cancel(execution_id bigint) returns int */
Datum
job_cancel_execution(PG_FUNCTION_ARGS)
{
	janitor_prevent_misuse("job_cancel()");
	PG_RETURN_INT32(cancel_execution(janitor_arg_int64_required(fcinfo, 0,
																"execution_id")));
}

/* job_cancel(job_name text, key text) returns int */
Datum
job_cancel_job(PG_FUNCTION_ARGS)
{
	JanitorJob *job;
	char	   *key;
	int			count;

	janitor_prevent_misuse("job_cancel()");
	job = janitor_job_for_use(janitor_arg_text_required(fcinfo, 0,
														"job_name"));
	key = janitor_arg_text(fcinfo, 1);
	if (key != NULL && key[0] == '@')
		PG_RETURN_INT32(0);		/* not keys of triggers */
	count = janitor_cancel_waiting(job, key, cancelled_by());
	if (key == NULL)
		count += janitor_cancel_running(job);
	PG_RETURN_INT32(count);
}
