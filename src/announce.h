/*-------------------------------------------------------------------------
 *
 * announce.h
 *	  What a job tells on its channel.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_ANNOUNCE_H
#define JANITOR_ANNOUNCE_H

#include "definition.h"

/*
 * A notification on the job's channel, if it has one; delivered when the
 * transaction commits.
 *
 * Of an item: its key, and `status`: done, failed, dead or held.
 */
extern void janitor_announce_item(const JanitorJob *job, int64 execution_id,
								  const char *key, const char *status);

/* Of the end of a run. */
extern void janitor_announce_run(const JanitorJob *job, int64 execution_id,
								 const JanitorOutcome *outcome);

#endif							/* JANITOR_ANNOUNCE_H */
