/*-------------------------------------------------------------------------
 *
 * home.h
 *	  Which jobs may run in this database: those that were made in it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_HOME_H
#define JANITOR_HOME_H

#include "definition.h"

/* Why a job that was armed so is disarmed here; NULL: it is not. */
extern const char *janitor_home_problem(int64 home, Oid database,
										const char *environment);
extern const char *janitor_job_disarmed(const JanitorJob *job);

/* Enabled and armed: has it a next occurrence, does it follow others? */
extern bool janitor_job_runs_by_itself(const JanitorJob *job);

/* Did it come with a dump?  Then no OID in its rows means anything here. */
extern bool janitor_job_is_restored(const JanitorJob *job);

/* Tells the client, if the job is disarmed. */
extern void janitor_job_warn_disarmed(const JanitorJob *job);

#endif							/* JANITOR_HOME_H */
