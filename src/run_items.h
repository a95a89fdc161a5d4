/*-------------------------------------------------------------------------
 *
 * run_items.h
 *	  Kind `items`: one subtransaction for each item.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RUN_ITEMS_H
#define JANITOR_RUN_ITEMS_H

#include "definition.h"
#include "run.h"

/*
 * Handles the items, in many transactions: called and returns outside one,
 * the job's settings applied.  The outcome says how it went, also if items
 * failed; what ends the run leaves as an ERROR, whose message shows no row
 * values.  Either way job_cursor tells how many were done, and
 * job_item_failure which were not.
 */
extern void janitor_run_items(JanitorRun *run,
							  const JanitorExecution *execution,
							  const JanitorJob *job, JanitorOutcome *outcome);

/* A helper's part of a run in progress; outside a transaction. */
extern void janitor_help_items(JanitorRun *run,
							   const JanitorExecution *execution,
							   const JanitorJob *job);

#endif							/* JANITOR_RUN_ITEMS_H */
