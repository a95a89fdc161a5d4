/*-------------------------------------------------------------------------
 *
 * api_run.h
 *	  Queueing a run; shared by job_trigger() and job_run().
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_API_RUN_H
#define JANITOR_API_RUN_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "definition.h"

/*
 * Queues one run of a job that the current user may run, and returns its
 * execution id.  args and key may be NULL; DT_NOBEGIN: at once.
 */
extern int64 janitor_trigger(const char *job_name, Jsonb *args,
							 TimestampTz run_at, char *key);

/* The same for one that erases again what a restore has brought back. */
extern int64 janitor_trigger_replay(const JanitorJob *job);

#endif							/* JANITOR_API_RUN_H */
