/*-------------------------------------------------------------------------
 *
 * offer.c
 *	  External jobs as the scheduler sees them: what it offers to workers
 *	  outside, and what it takes back from them.
 *
 * Runs in the scheduler only.  It does not hand out runs, workers claim them
 * (lease.c); it decides when there is something to claim, and says so: one
 * NOTIFY in the transaction of a look, on the channel `pg_janitor`.  It names
 * no job, since anybody can listen.  A notification is a hint, sent at most
 * once in JANITOR_NOTIFY_INTERVAL; whoever finds nothing to claim waits for
 * the next one, and also asks when it starts to listen.
 *
 * Leases are rescued at their time.  The earliest one there may be is kept in
 * memory, so that what has been finished in the meantime is not read again;
 * whoever claims with an earlier end says so (mark.c).
 *
 * What is kept between looks lives in static variables; after an error the
 * leases are read afresh.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "dispatch_internal.h"

#include "commands/async.h"
#include "utils/timestamp.h"

#include "history.h"
#include "lease.h"
#include "mark.h"
#include "session.h"
#include "settings.h"

#define PAYLOAD "{\"event\": \"claimable\"}"

/* Leases rescued in one look. */
#define EXPIRED_AT_ONCE 500

/* Ends of runs after which a job's history is looked at. */
#define ENDED_PER_LOOK 2000

static bool unsent = false;		/* there is something to be announced */
static TimestampTz last_sent = DT_NOBEGIN;

/* No lease ends before; DT_NOBEGIN: not known. */
static TimestampTz next_expiry = DT_NOBEGIN;

void
janitor_offer_reset(void)
{
	next_expiry = DT_NOBEGIN;
}

/* --- what there is to claim --- */

static bool
take_claimable(JanitorEntry *entry, void *arg)
{
	if (entry->key != NULL && strcmp(entry->key, JANITOR_KEY_SCHEDULE) == 0)
		return true;
	*(TimestampTz *) arg = entry->run_at;
	return false;
}

/* Since when has there been something?  DT_NOEND: there is nothing. */
static TimestampTz
claimable_since(const JanitorService *service)
{
	TimestampTz since = DT_NOEND;

	janitor_entry_scan(service->noted->name, service->noted->run_at,
					   service->noted->id, service->round->now,
					   take_claimable, &since);
	return since;
}

/*
 * With max_running runs in progress there is nothing to claim: the end of one
 * of them announces it.  Said before it is counted for good.
 */
static bool
is_saturated(const JanitorService *service)
{
	const JanitorJob *job = service->job;
	uint64		hash = service->noted->hash;
	JanitorPosition position;

	if (job->max_running == 0 || service->running < job->max_running)
		return false;
	janitor_mark_read(hash, job->name, &position);
	janitor_mark_starved(hash, DT_NOEND, DT_NOEND);
	return janitor_lease_count(job->name) >= job->max_running;
}

bool
janitor_offer(JanitorService *service)
{
	JanitorNotedJob *noted = service->noted;
	const JanitorJob *job = service->job;
	JanitorRound *round = service->round;
	TimestampTz occurrence;
	TimestampTz since;
	bool		waits;

	noted->owner = InvalidOid;
	if (job->max_running > 0)
		service->running = janitor_lease_count(job->name);
	janitor_serve_schedule(service);
	occurrence = service->scheduled ? service->occurrence.run_at : DT_NOEND;
	waits = service->scheduled && occurrence <= round->now;

	since = claimable_since(service);
	if (since != DT_NOEND)
	{
		if (job->paused || service->gate.passage == JANITOR_NO_PASS)
		{
			TimestampTz until = job->paused ? job->paused_until :
			janitor_gate_probe_at(&service->gate);

			if (noted->look_at == DT_NOBEGIN)
				noted->look_at = Min(until, waits ? DT_NOEND : occurrence);
			return true;
		}
		if (!is_saturated(service))
			unsent = true;
		janitor_watch_offer(noted, since);
	}
	else if (noted->look_at != DT_NOBEGIN)
		return true;			/* somebody holds the next occurrence */
	noted->run_at = Max(noted->run_at, round->now);
	return waits;
}

/* --- telling workers --- */

/* What other backends left for us. */
static void
take_mark(const char *job_name, bool claimable, int ended, void *arg)
{
	if (claimable)
		unsent = true;
	if (ended > 0)
		janitor_history_count(job_name, ended);
}

void
janitor_announce(JanitorRound *round, bool everything)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;

	next = janitor_marks_visit(everything, ENDED_PER_LOOK, take_mark, NULL);
	round->result->look_at = Min(round->result->look_at, next);
	if (!unsent)
		return;
	if (now < last_sent + JANITOR_NOTIFY_INTERVAL && now >= last_sent)
	{
		round->result->look_at = Min(round->result->look_at,
									 round->now + JANITOR_NOTIFY_INTERVAL);
		return;
	}
	Async_Notify(JANITOR_CHANNEL, PAYLOAD);
	last_sent = now;
	unsent = false;
}

/* --- leases that are over --- */

typedef struct Expired
{
	TimestampTz now;
	int64		ids[EXPIRED_AT_ONCE];
	int			count;
	TimestampTz next;			/* the first one that is not over; or that we
								 * have no room for */
} Expired;

static bool
collect_expired(JanitorLease *lease, void *arg)
{
	Expired    *expired = arg;

	if (lease->lease_until > expired->now ||
		expired->count == EXPIRED_AT_ONCE)
	{
		expired->next = lease->lease_until;
		return false;
	}
	expired->ids[expired->count++] = lease->execution_id;
	return true;
}

typedef struct Expiring
{
	int64		execution_id;
	TimestampTz now;
	bool		held;
} Expiring;

/*
 * Committed asynchronously: should a crash lose it, the lease is back, and
 * whatever was claimed after it is lost as well.
 */
static void
expire(void *arg)
{
	Expiring   *expiring = arg;

	janitor_begin();
	expiring->held = !janitor_lease_expire(expiring->execution_id,
										   expiring->now);
	janitor_commit(true);
}

static void
expire_all(Expired *expired, TimestampTz *retry)
{
	for (int i = 0; i < expired->count; i++)
	{
		Expiring	expiring = {expired->ids[i], expired->now, false};
		JanitorError *error = janitor_attempt(expire, &expiring);

		if (error)
			ereport(LOG,
					(errmsg("execution " INT64_FORMAT " could not be taken from its worker: %s",
							expired->ids[i], error->message)));
		if (error || expiring.held)
			*retry = expired->now + HELD_RETRY;
	}
}

/*
 * What somebody holds (its worker is ending it) is looked for again a second
 * later, from where this look began.
 */
TimestampTz
janitor_expire_leases(TimestampTz told, bool everything)
{
	Expired    *expired;
	TimestampTz retry = DT_NOEND;
	TimestampTz from;

	from = everything ? DT_NOBEGIN : Min(next_expiry, told);
	next_expiry = from;
	if (from > janitor_clock())
		return from;

	expired = palloc(sizeof(Expired));
	expired->now = janitor_clock();
	expired->count = 0;
	expired->next = DT_NOEND;
	janitor_begin();
	if (janitor_extension_exists())
		janitor_lease_scan(from, DT_NOEND, collect_expired, expired);
	janitor_commit(true);
	expire_all(expired, &retry);
	if (retry == DT_NOEND)
		next_expiry = expired->next;
	return Min(retry, expired->next);
}
