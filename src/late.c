/*-------------------------------------------------------------------------
 *
 * late.c
 *	  Jobs that are overdue: something of them has been due for long, and no
 *	  run of them is in progress.
 *
 * Runs in the scheduler only, in the transaction of a look.  Each job whose
 * due entries wait has a time at which to see whether they still do; so have
 * external jobs whose entries were offered and that no worker has claimed.
 * It is told once, until a run of the job has begun; and again by the next
 * scheduler, which does not know.  Looked at is what job_status looks at, so
 * that both agree.
 *
 * Memory: offers live in TopMemoryContext.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "dispatch_internal.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

/* An external job whose entries can be claimed. */
typedef struct Offer
{
	uint64		hash;
	char	   *name;
	TimestampTz look_at;
} Offer;

static List *offers = NIL;

static bool
take_first(JanitorEntry *entry, void *arg)
{
	*(JanitorEntry *) arg = *entry;
	return false;
}

static int
count_running(const JanitorJob *job, uint64 hash)
{
	return job->kind == JANITOR_KIND_EXTERNAL ?
		janitor_lease_count(job->name) : janitor_job_running(hash);
}

/*
 * Is the earliest entry after this position due for long?  Returns when to
 * look again; DT_NOEND: nothing waits, or it has been told.
 */
static TimestampTz
look_at_job(JanitorRound *round, const char *name, uint64 hash,
			TimestampTz run_at, int64 id)
{
	JanitorEntry entry = {.run_at = DT_NOEND};
	JanitorJob *job;

	janitor_entry_scan(name, run_at, id, round->now, take_first, &entry);
	if (entry.run_at == DT_NOEND)
		return DT_NOEND;
	if (entry.run_at + JANITOR_OVERDUE_AFTER > round->now)
		return entry.run_at + JANITOR_OVERDUE_AFTER;
	job = janitor_job_load(name);
	if (job == NULL)
		return DT_NOEND;
	if (job->paused || count_running(job, hash) > 0)
		return round->now + JANITOR_OVERDUE_AFTER;
	janitor_alert_overdue();
	return DT_NOEND;
}

void
janitor_watch_noted(JanitorRound *round, JanitorNotedJob *noted)
{
	if (noted->overdue_at <= round->now)
		noted->overdue_at = look_at_job(round, noted->name, noted->hash,
										noted->run_at, noted->id);
	round->result->look_at = Min(round->result->look_at, noted->overdue_at);
}

void
janitor_watch_offer(const JanitorNotedJob *noted, TimestampTz run_at)
{
	MemoryContext caller;
	ListCell   *cell;
	Offer	   *offer;

	foreach(cell, offers)
	{
		if (((Offer *) lfirst(cell))->hash == noted->hash)
			return;
	}
	caller = MemoryContextSwitchTo(TopMemoryContext);
	offer = palloc(sizeof(Offer));
	offer->hash = noted->hash;
	offer->name = pstrdup(noted->name);
	offer->look_at = run_at + JANITOR_OVERDUE_AFTER;
	offers = lappend(offers, offer);
	MemoryContextSwitchTo(caller);
}

void
janitor_watch_offers(JanitorRound *round)
{
	ListCell   *cell;

	foreach(cell, offers)
	{
		Offer	   *offer = lfirst(cell);

		if (offer->look_at <= round->now)
			offer->look_at = look_at_job(round, offer->name, offer->hash,
										 DT_NOBEGIN, 0);
		if (offer->look_at != DT_NOEND)
		{
			round->result->look_at = Min(round->result->look_at,
										 offer->look_at);
			continue;
		}
		pfree(offer->name);
		pfree(offer);
		offers = foreach_delete_current(offers, cell);
	}
}
