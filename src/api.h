/*-------------------------------------------------------------------------
 *
 * api.h
 *	  What the SQL functions in api_*.c share.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_API_H
#define JANITOR_API_H

#include "compat.h"

#include "fmgr.h"
#include "nodes/pg_list.h"

#include "draft.h"
#include "definition.h"

/* --- arguments --- */

extern char *janitor_arg_text(FunctionCallInfo fcinfo, int n);	/* or NULL */
extern char *janitor_arg_text_required(FunctionCallInfo fcinfo, int n,
									   const char *name);
extern int64 janitor_arg_int64_required(FunctionCallInfo fcinfo, int n,
										const char *name);
extern Jsonb *janitor_arg_object(FunctionCallInfo fcinfo, int n,
								 const char *name); /* or NULL */

/*
 * A new draft from `count` arguments, the first at `first`, and from options
 * (NULL: none).
 */
extern void janitor_arg_draft(FunctionCallInfo fcinfo, JanitorKind kind,
							  const AttrNumber *columns, int first, int count,
							  Jsonb *options, JanitorDraft *draft);

/* What a function returns that answers with a job's next run. */
extern Datum janitor_next_run(FunctionCallInfo fcinfo, TimestampTz next);

/* Name of the session's user. */
extern char *janitor_session_user(void);

/* --- jobs --- */

/*
 * Creates a job or replaces its definition, all but what such a call keeps;
 * returns its next run.
 */
extern TimestampTz janitor_define_job(JanitorDraft *draft,
									  const char *job_name);

/* A change of its rules makes a new version of a job. */
extern void janitor_job_bump(const JanitorJob *job);

/* The job, which the current user may change, locked against changes. */
extern JanitorJob *janitor_job_for_change(const char *job_name);

/* The same of all jobs that a name means; NULL: every one he may act for. */
extern List *janitor_jobs_for_change(const char *job_name);

/* The job, which the current user may run. */
extern JanitorJob *janitor_job_for_use(const char *job_name);

/*
 * The same of the job that an execution belongs to.  ERROR 42704 that names
 * the execution alone if the user may not see the job; NULL if it is gone.
 */
extern JanitorJob *janitor_job_of_execution(int64 execution_id,
											const char *job_name);

/* Raises ERROR 42704: the caller knows of no such execution. */
extern void janitor_no_execution(int64 execution_id);

/* --- rules (api_rule.c) --- */

/* Are the job's rules good for its owner and settings as they are now? */
extern void janitor_rules_check(const JanitorJob *job);

/* Removes them, with their progress; for job_unschedule(). */
extern void janitor_rules_remove(const JanitorJob *job);

/* --- items (api_items.c) --- */

/* Can each item of the job be locked, by its owner? */
extern void janitor_items_check(JanitorJob *job);

/* Forgets which failed; for job_unschedule(). */
extern void janitor_items_remove(const JanitorJob *job);

/* --- work outside (api_external.c, api_limit.c) --- */

/* The external job, of which the current user may claim runs. */
extern JanitorJob *janitor_job_for_work(const char *job_name);

/* The caller holds the job's lock. */
extern void janitor_drop_limits(const char *job_name);

/* --- cancelling (api_cancel.c) --- */

/* Waiting runs; key NULL: all but the schedule entry.  How many. */
extern int	janitor_cancel_waiting(const JanitorJob *job, const char *key,
								   const char *detail);

/* Runs in progress, at once.  How many. */
extern int	janitor_cancel_running(const JanitorJob *job);

#endif							/* JANITOR_API_H */
