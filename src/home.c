/*-------------------------------------------------------------------------
 *
 * home.c
 *	  Which jobs may run in this database: those that were made in it.
 *
 * Whoever restores last night's dump to look at something, or clones a
 * database for a test, must not have it delete and anonymize, call and notify
 * as the original does.  So each definition carries where it was armed, that
 * is, defined or handed to job_rearm():
 *
 *	home			the random number in the sequence job_home.  CREATE EXTENSION
 *					draws it, and so a restore draws another one; pg_upgrade,
 *					standbys and backups of the files keep it.
 *	home_database	the database's OID.  CREATE DATABASE ... TEMPLATE copies
 *					the number but has another OID; pg_upgrade keeps it.
 *	environment		pg_janitor.environment at that time.  A clone made from
 *					the files differs in nothing else.
 *
 * Where one of them is not what it is here, the job is disarmed.  It has no
 * next occurrence, as if it were disabled; what is queued waits, as if it were
 * paused; of runs that were in progress in the original nothing follows.  The
 * scheduler inserts nothing for it, so that tables that are just being loaded,
 * or are replicated from the original, do not get into each other's way.
 *
 * Only job_rearm() arms a definition that is there already: a migration that
 * defines the same job once more does not.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "home.h"

#include "settings.h"

const char *
janitor_home_problem(int64 home, Oid database, const char *environment)
{
	if (janitor_restore_guard &&
		(home != janitor_home() || database != MyDatabaseId))
		return "it was made in another database";
	if (environment == NULL)
		environment = "";
	if (strcmp(environment, janitor_environment) != 0)
		return psprintf("it was armed in environment \"%s\", and here pg_janitor.environment is \"%s\"",
						environment, janitor_environment);
	return NULL;
}

const char *
janitor_job_disarmed(const JanitorJob *job)
{
	return janitor_home_problem(job->home, job->home_database,
								job->environment);
}

bool
janitor_job_runs_by_itself(const JanitorJob *job)
{
	return job->enabled && janitor_job_disarmed(job) == NULL;
}

bool
janitor_job_is_restored(const JanitorJob *job)
{
	return job->home != janitor_home();
}

/* Not to the log: that would get a line for each of a million triggers. */
void
janitor_job_warn_disarmed(const JanitorJob *job)
{
	const char *problem = janitor_job_disarmed(job);

	if (problem != NULL)
		ereport(WARNING_CLIENT_ONLY,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" will not run: %s", job->name, problem),
				 errhint("SELECT job_rearm(); lets the jobs of this database run.")));
}
