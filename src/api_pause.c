/*-------------------------------------------------------------------------
 *
 * api_pause.c
 *	  SQL functions that stop jobs from starting, and let them start again:
 *	  job_pause and job_resume.
 *
 * Nothing of a paused job starts: its occurrences pass and are recorded as
 * skipped, whatever else is queued waits.  A pause is part of the job's row;
 * one with a time at which it ends has simply ended then, without anybody
 * having to write it down.
 *
 * Without a name all jobs are meant that the caller may act for.  That takes
 * one lock, not one for each.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "draft.h"
#include "session.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(job_pause);
PG_FUNCTION_INFO_V1(job_resume);

/* --- one job, or all --- */

typedef struct Owned
{
	List	   *names;
} Owned;

static void
collect_owned(HeapTuple tuple, void *arg)
{
	Owned	   *owned = arg;
	JanitorJob *job = janitor_job_from_tuple(tuple);

	if (superuser() ||
		(janitor_job_visible(job) &&
		 janitor_can_act_for(GetUserId(), job->owner_oid)))
		owned->names = lappend(owned->names, job->name);
}

List *
janitor_jobs_for_change(const char *job_name)
{
	Owned		owned = {NIL};

	if (job_name != NULL)
		return list_make1(janitor_job_for_change(job_name)->name);

	janitor_job_lock_all();
	PushActiveSnapshot(GetLatestSnapshot());
	janitor_definition_scan(collect_owned, &owned);
	PopActiveSnapshot();
	return owned.names;
}

/* --- job_pause --- */

typedef struct Pause
{
	const char *reason;
	TimestampTz until;			/* DT_NOEND: until resumed */
	bool		cancel_running;
} Pause;

/* Does it change anything? */
static bool
pause_job(const char *job_name, const Pause *pause)
{
	JanitorJob *job = janitor_job_for_use(job_name);
	JanitorDraft draft;
	JanitorDraft old;

	janitor_draft_load(&old, job->tuple);
	draft = old;
	janitor_draft_set_text(&draft, Anum_definition_paused_by,
						   janitor_session_user());
	janitor_draft_set_text(&draft, Anum_definition_paused_reason,
						   pause->reason);
	janitor_draft_set(&draft, Anum_definition_paused_until,
					  TimestampTzGetDatum(pause->until),
					  TIMESTAMP_IS_NOEND(pause->until));
	if (pause->cancel_running)
		(void) janitor_cancel_running(job);
	if (janitor_draft_same(&draft, &old))
		return false;
	(void) janitor_draft_save(&draft, job->tuple, "pause");
	return true;
}

/*
 * job_pause(job_name text, reason text, until timestamptz,
 * cancel_running boolean) returns int
 */
Datum
job_pause(PG_FUNCTION_ARGS)
{
	Pause		pause;
	ListCell   *cell;
	int			count = 0;

	janitor_prevent_misuse("job_pause()");
	pause.reason = janitor_arg_text(fcinfo, 1);
	pause.until = PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2);
	pause.cancel_running = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	if (pause.until <= janitor_clock())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"until\" must be in the future")));

	foreach(cell, janitor_jobs_for_change(janitor_arg_text(fcinfo, 0)))
	{
		CHECK_FOR_INTERRUPTS();
		if (pause_job(lfirst(cell), &pause))
			count++;
	}
	PG_RETURN_INT32(count);
}

/* --- job_resume --- */

typedef struct Missed
{
	TimestampTz since;			/* begin of the pause */
	TimestampTz occurrence;		/* DT_NOBEGIN: none */
} Missed;

/*
 * Newest rows first: those of a pause are cancelled triggers and one row of
 * skipped occurrences.
 */
static bool
look_for_missed(JanitorExecution *execution, void *arg)
{
	Missed	   *missed = arg;

	if (execution->status == JANITOR_CANCELLED)
		return true;
	if (execution->status == JANITOR_SKIPPED &&
		execution->detail != NULL &&
		strcmp(execution->detail, JANITOR_DETAIL_PAUSED) == 0 &&
		execution->scheduled_for >= missed->since)
		missed->occurrence = execution->scheduled_for;
	return false;
}

/* One run for whatever was skipped, in the queue as a kept occurrence is. */
static void
make_up(const JanitorJob *job, TimestampTz paused_since)
{
	Missed		missed = {paused_since, DT_NOBEGIN};
	JanitorEntry entry = {0};

	janitor_execution_scan(job->name, look_for_missed, &missed);
	if (TIMESTAMP_IS_NOBEGIN(missed.occurrence) ||
		janitor_entry_find_key(job->name, JANITOR_KEY_QUEUED, &entry))
		return;

	memset(&entry, 0, sizeof(entry));
	entry.job_name = job->name;
	entry.run_at = janitor_clock();
	entry.scheduled_for = missed.occurrence;
	entry.reason = JANITOR_REASON_SCHEDULE;
	entry.attempt = 1;
	entry.key = pstrdup(JANITOR_KEY_QUEUED);
	janitor_entry_insert(&entry);
}

/*
 * Occurrences that passed in the pause and have not been looked at yet.  The
 * entry goes on to the one that follows them, so that `every` keeps its grid;
 * if the scheduler was faster, it has done the same.
 */
static void
pass_over(const JanitorJob *job)
{
	TimestampTz now = janitor_clock();
	TimestampTz last = DT_NOBEGIN;
	TimestampTz next;
	JanitorEntry entry;
	int64		count = 0;

	if (!janitor_entry_find_key(job->name, JANITOR_KEY_SCHEDULE, &entry) ||
		entry.run_at > now)
		return;
	for (next = entry.scheduled_for; next <= now;
		 next = janitor_job_occurrence(job, next, next))
	{
		CHECK_FOR_INTERRUPTS();
		last = next;
		count++;
	}
	if (TIMESTAMP_IS_NOEND(next) || count == 0)
		return;					/* the scheduler's next look ends it */
	entry.scheduled_for = next;
	entry.run_at = next + janitor_job_delay(job);
	if (janitor_entry_update(&entry))
		janitor_execution_skip(job->name, last, JANITOR_DETAIL_PAUSED, count,
							   job->owner);
}

static bool
resume_job(const char *job_name, bool catch_up)
{
	JanitorJob *job = janitor_job_for_use(job_name);
	JanitorDraft draft;
	TimestampTz since;

	janitor_draft_load(&draft, job->tuple);
	if (draft_is_null(&draft, paused_by))
		return false;
	since = DatumGetTimestampTz(draft_value(&draft, updated_at));
	janitor_draft_set_text(&draft, Anum_definition_paused_by, NULL);
	janitor_draft_set_text(&draft, Anum_definition_paused_reason, NULL);
	janitor_draft_set_text(&draft, Anum_definition_paused_until, NULL);
	(void) janitor_draft_save(&draft, job->tuple, "resume");

	if (!job->paused)
		return true;			/* it had ended by itself */
	if (catch_up)
		make_up(job, since);
	else
		pass_over(job);
	return true;
}

/* job_resume(job_name text, catch_up boolean) returns int */
Datum
job_resume(PG_FUNCTION_ARGS)
{
	bool		catch_up = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	ListCell   *cell;
	int			count = 0;

	janitor_prevent_misuse("job_resume()");
	foreach(cell, janitor_jobs_for_change(janitor_arg_text(fcinfo, 0)))
	{
		CHECK_FOR_INTERRUPTS();
		if (resume_job(lfirst(cell), catch_up))
			count++;
	}
	PG_RETURN_INT32(count);
}
