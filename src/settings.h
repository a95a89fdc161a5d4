/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The settings pg_janitor.*, and the clock they can shift.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_SETTINGS_H
#define JANITOR_SETTINGS_H

#include "compat.h"

#include "datatype/timestamp.h"

typedef enum JanitorLogRuns
{
	JANITOR_LOG_NONE,
	JANITOR_LOG_FAILURES,
	JANITOR_LOG_ALL
} JanitorLogRuns;

extern bool janitor_enabled;
extern int	janitor_max_workers;
extern int	janitor_worker_idle_timeout;	/* seconds */
extern int	janitor_shutdown_grace; /* seconds */
extern int	janitor_log_runs;	/* JanitorLogRuns */
extern bool janitor_allow_superuser_jobs;
extern char *janitor_on_failure;	/* name of a job; "": none */
extern bool janitor_store_error_detail;
extern bool janitor_restore_guard;
extern char *janitor_environment;
extern int	janitor_debug_clock_offset; /* seconds */

/* Defines them; from _PG_init. */
extern void janitor_define_settings(void);

/*
 * Reads the configuration again.  true: jobs that were armed may be disarmed,
 * or the reverse.
 */
extern bool janitor_reload_settings(void);

/*
 * The scheduler's clock: now, shifted by pg_janitor.debug_clock_offset.  What
 * is due is read off this clock; what is recorded as having happened (started
 * and completed times) is read off the real one.
 */
extern TimestampTz janitor_clock(void);

/*
 * The instant that job_now() answers with while a rule is analysed, planned
 * or previewed: inside a run and outside.  DT_NOBEGIN: none, job_now() is
 * that of the run.
 */
extern TimestampTz janitor_frozen_now(void);

/* Calls function(arg) with a frozen instant; nests. */
extern void janitor_with_now(TimestampTz now, void (*function) (void *arg),
							 void *arg);

#endif							/* JANITOR_SETTINGS_H */
