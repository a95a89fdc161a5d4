/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings pg_janitor.*, and the clock they can shift.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "settings.h"

#include <limits.h>

#include "utils/guc.h"
#include "utils/timestamp.h"

bool		janitor_enabled = true;
int			janitor_max_workers = 4;
int			janitor_worker_idle_timeout = 90;
int			janitor_shutdown_grace = 10;
int			janitor_log_runs = JANITOR_LOG_FAILURES;
bool		janitor_allow_superuser_jobs = true;
char	   *janitor_on_failure = NULL;
bool		janitor_store_error_detail = false;
bool		janitor_restore_guard = true;
char	   *janitor_environment = NULL;
int			janitor_debug_clock_offset = 0;

/* Belongs to whoever is inside janitor_with_now(). */
static TimestampTz frozen_now = DT_NOBEGIN;

static const struct config_enum_entry log_runs_options[] = {
	{"none", JANITOR_LOG_NONE, false},
	{"failures", JANITOR_LOG_FAILURES, false},
	{"all", JANITOR_LOG_ALL, false},
	{NULL, 0, false}
};

static void
define_switches(void)
{
	DefineCustomBoolVariable("pg_janitor.enabled",
							 "Lets jobs run.",
							 "Off: nothing starts; triggers wait. Can be set for one database with ALTER DATABASE.",
							 &janitor_enabled, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pg_janitor.allow_superuser_jobs",
							 "Allows jobs to be defined that run as a superuser.",
							 NULL,
							 &janitor_allow_superuser_jobs, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pg_janitor.store_error_detail",
							 "Keeps the server's error messages of items and of rules that anonymize.",
							 "Off: a text that shows no row values, made from the error code and the objects concerned.",
							 &janitor_store_error_detail, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("pg_janitor.on_failure",
							   "Name of the job that is triggered when a run fails whose job has no on_failure.",
							   "In databases with a job of that name.",
							   &janitor_on_failure, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("pg_janitor.log_runs",
							 "Which ends of runs go to the server log.",
							 "Every run is recorded in job_execution whatever this says.",
							 &janitor_log_runs, JANITOR_LOG_FAILURES,
							 log_runs_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/*
 * Settings of the server alone: what one gives to a database or a role goes
 * with its dump.
 */
static void
define_guard(void)
{
	DefineCustomBoolVariable("pg_janitor.restore_guard",
							 "Keeps jobs that were made in another database from running.",
							 "Off: in a database that was copied, or restored from a dump, jobs run at once.",
							 &janitor_restore_guard, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("pg_janitor.environment",
							   "Name of what this server is for, such as prod or staging.",
							   "Jobs that were made or armed under another name do not run.",
							   &janitor_environment, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
janitor_define_settings(void)
{
	define_switches();
	define_guard();
	DefineCustomIntVariable("pg_janitor.max_workers",
							"Worker processes that run jobs, in the whole cluster.",
							"They come out of max_worker_processes, as do one launcher and one scheduler for each active database.",
							&janitor_max_workers, 4, 1, 1024,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_janitor.worker_idle_timeout",
							"How long a worker or scheduler with nothing to do stays.",
							NULL,
							&janitor_worker_idle_timeout, 90, 1, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_janitor.shutdown_grace",
							"How long runs in progress may go on in a fast shutdown.",
							NULL,
							&janitor_shutdown_grace, 10, 0, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("pg_janitor.debug_clock_offset",
							"Shifts the clock that decides what is due, for tests.",
							"Never the recorded start and end of a run.",
							&janitor_debug_clock_offset, 0,
							INT_MIN, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S | GUC_NOT_IN_SAMPLE,
							NULL, NULL, NULL);
	MarkGUCPrefixReserved("pg_janitor");
}

bool
janitor_reload_settings(void)
{
	bool		guard = janitor_restore_guard;
	char	   *environment = pstrdup(janitor_environment);
	bool		changed;

	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	changed = guard != janitor_restore_guard ||
		strcmp(environment, janitor_environment) != 0;
	pfree(environment);
	return changed;
}

TimestampTz
janitor_clock(void)
{
	return GetCurrentTimestamp() +
		janitor_debug_clock_offset * USECS_PER_SEC;
}

TimestampTz
janitor_frozen_now(void)
{
	return frozen_now;
}

void
janitor_with_now(TimestampTz now, void (*function) (void *arg), void *arg)
{
	TimestampTz before = frozen_now;

	frozen_now = now;
	PG_TRY();
	{
		function(arg);
	}
	PG_FINALLY();
	{
		frozen_now = before;
	}
	PG_END_TRY();
}
