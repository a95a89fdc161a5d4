/*-------------------------------------------------------------------------
 *
 * alert.c
 *	  What the scheduler tells whoever listens: runs that failed, jobs that
 *	  have recovered, jobs that are overdue.
 *
 * Runs in the scheduler only, in the transaction of a look: one commit sends
 * all that has come together since the last one, at most once in
 * JANITOR_NOTIFY_INTERVAL.  Workers and other backends say which runs to look
 * at (fault.c); what became of them is read here, from the tables.
 *
 * Every role can listen, so notifications name no job: the number of the run
 * leads whoever may see it to its row in job_runs, and job_status has what is
 * overdue.  They are hints, as all notifications are: who does not listen, or
 * was not there before a crash, looks there as well.
 *
 * What is not sent yet is kept in static variables, and stays there until the
 * transaction that sends it has committed.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "dispatch_internal.h"

#include "commands/async.h"
#include "utils/timestamp.h"

#include "conclude.h"
#include "fault.h"
#include "object.h"

#define ALERTS_AT_ONCE 128

/* Runs to be looked at. */
static int64 unsent[ALERTS_AT_ONCE];
static int	unsent_count = 0;
static bool unsent_lost = false;

/* What this look has found of them; counts when it has committed. */
static uint64 looked_at[ALERTS_AT_ONCE];
static bool has_failed[ALERTS_AT_ONCE];
static int	looked_at_count = 0;
static bool sent = false;
static TimestampTz last_sent = DT_NOBEGIN;

static void
begin(JanitorObject *event, const char *name)
{
	janitor_object_begin(event);
	janitor_object_text(event, "event", name);
}

static void
notify(JanitorObject *event)
{
	Jsonb	   *payload = janitor_object_end(event);

	Async_Notify(JANITOR_CHANNEL,
				 JsonbToCString(NULL, &payload->root, VARSIZE(payload)));
}

static void
tell_failed(const JanitorExecution *execution)
{
	JanitorObject event;

	begin(&event, "failed");
	janitor_object_number(&event, "execution_id", execution->id);
	janitor_object_text(&event, "status",
						janitor_status_name(execution->status));
	janitor_object_text(&event, "sqlstate", execution->sqlstate);
	janitor_object_number(&event, "attempt", execution->attempt);
	janitor_object_number(&event, "consecutive_failures",
						  janitor_failures_before(execution->job_name,
												  execution->id + 1));
	notify(&event);
}

static void
tell_recovered(const JanitorExecution *execution)
{
	JanitorObject event;
	int			failures = janitor_failures_before(execution->job_name,
												   execution->id);

	if (failures == 0)
		return;					/* another run was faster */
	begin(&event, "recovered");
	janitor_object_number(&event, "execution_id", execution->id);
	janitor_object_number(&event, "consecutive_failures", failures);
	notify(&event);
}

static void
tell_of_run(int64 execution_id)
{
	JanitorExecution execution;

	if (!janitor_execution_find(execution_id, &execution))
		return;
	switch (execution.status)
	{
		case JANITOR_FAILED:
		case JANITOR_TIMED_OUT:
		case JANITOR_INTERRUPTED:
			tell_failed(&execution);
			break;
		case JANITOR_SUCCEEDED:
			tell_recovered(&execution);
			break;
		default:
			return;
	}
	looked_at[looked_at_count] = janitor_job_hash(execution.job_name);
	has_failed[looked_at_count++] = execution.status != JANITOR_SUCCEEDED;
}

/* More has failed than could be told one by one. */
static void
tell_of_more(void)
{
	JanitorObject event;

	begin(&event, "failed");
	notify(&event);
}

void
janitor_alert(JanitorRound *round)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		lost;

	looked_at_count = 0;
	sent = false;
	unsent_count += janitor_faults_take(unsent + unsent_count,
										ALERTS_AT_ONCE - unsent_count, &lost);
	unsent_lost |= lost;
	if (unsent_count == 0 && !unsent_lost)
		return;
	if (now < last_sent + JANITOR_NOTIFY_INTERVAL && now >= last_sent)
	{
		round->result->look_at = Min(round->result->look_at,
									 round->now + JANITOR_NOTIFY_INTERVAL);
		return;
	}
	for (int i = 0; i < unsent_count; i++)
		tell_of_run(unsent[i]);
	if (unsent_lost)
		tell_of_more();
	sent = true;
	last_sent = now;

	/* there may be more than were taken */
	round->result->more |= unsent_count == ALERTS_AT_ONCE;
}

void
janitor_alerts_sent(void)
{
	if (!sent)
		return;
	for (int i = 0; i < looked_at_count; i++)
		janitor_set_failing(looked_at[i], has_failed[i]);
	unsent_count = looked_at_count = 0;
	unsent_lost = sent = false;
}

/* The server sends it once, however many jobs call for it in one look. */
void
janitor_alert_overdue(void)
{
	JanitorObject event;

	begin(&event, "overdue");
	notify(&event);
}
