/*-------------------------------------------------------------------------
 *
 * run_retention.h
 *	  Kind `retention`: the rules of a job, one after the other.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RUN_RETENTION_H
#define JANITOR_RUN_RETENTION_H

#include "definition.h"
#include "run.h"

/*
 * Carries out the rules, in many transactions: called and returns outside
 * one, the job's settings applied.  The outcome says how it went, also if
 * rules failed; what ends the run (a cancel, a timeout) leaves as an ERROR.
 * Either way job_cursor tells what was handled.
 */
extern void janitor_run_retention(JanitorRun *run,
								  const JanitorExecution *execution,
								  const JanitorJob *job,
								  JanitorOutcome *outcome);

/*
 * In the transaction that records its end: removes what is not needed any
 * more.
 */
extern void janitor_retention_tidy(const JanitorExecution *execution,
								   const JanitorOutcome *outcome);

/* A helper's part of a run in progress; outside a transaction. */
extern void janitor_help_retention(JanitorRun *run,
								   const JanitorExecution *execution,
								   const JanitorJob *job);

#endif							/* JANITOR_RUN_RETENTION_H */
