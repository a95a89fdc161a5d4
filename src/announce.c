/*-------------------------------------------------------------------------
 *
 * announce.c
 *	  What a job tells on its channel.
 *
 * Notifications, so that an application can log a user out, or drop what it
 * keeps in memory, the moment that it has happened: they are delivered by the
 * commit that makes it so.  They hold nothing of a row but the key of an item.
 * Nobody who listens later hears of them; what must not be missed has to be
 * read from the tables.
 *
 * Called in the transaction of a group of items, or in the one that records
 * the end of a run.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "announce.h"

#include "commands/async.h"
#include "utils/jsonb.h"

#include "object.h"

static void
begin(JanitorObject *event, const JanitorJob *job, const char *name,
	  int64 execution_id)
{
	janitor_object_begin(event);
	janitor_object_text(event, "event", name);
	janitor_object_text(event, "job", job->name);
	janitor_object_number(event, "execution_id", execution_id);
}

static void
tell(JanitorObject *event, const JanitorJob *job)
{
	Jsonb	   *payload = janitor_object_end(event);

	Async_Notify(job->channel,
				 JsonbToCString(NULL, &payload->root, VARSIZE(payload)));
}

void
janitor_announce_item(const JanitorJob *job, int64 execution_id,
					  const char *key, const char *status)
{
	JanitorObject event;

	if (job->channel == NULL)
		return;
	begin(&event, job, "item", execution_id);
	janitor_object_text(&event, "key", key);
	janitor_object_text(&event, "status", status);
	tell(&event, job);
}

void
janitor_announce_run(const JanitorJob *job, int64 execution_id,
					 const JanitorOutcome *outcome)
{
	JanitorObject event;

	if (job->channel == NULL)
		return;
	begin(&event, job, "run", execution_id);
	janitor_object_text(&event, "status",
						janitor_status_name(outcome->status));
	if (outcome->records >= 0)
		janitor_object_number(&event, "records", outcome->records);
	if (outcome->failed_records > 0)
		janitor_object_number(&event, "failed", outcome->failed_records);
	tell(&event, job);
}
