/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  What keeps a rule from going further than was meant.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_GUARD_H
#define JANITOR_GUARD_H

#include "hold.h"
#include "rule.h"
#include "tally.h"

/*
 * Before the first row is touched: raises an error if more rows are expired
 * than abort_above_rows, abort_above_fraction or, unless confirmed, the
 * comparison with earlier runs allow.  Else the limit, to be enforced during
 * the run.  `rows` and `total`: what the planner expects.  In a transaction,
 * as the job's owner, the holds read in it.
 */
extern JanitorGuard janitor_guard(const JanitorReadyRule *ready,
								  JanitorHolds *holds, List *leaves,
								  double rows, double total, bool confirmed);

/* ERROR: there are more rows than that. */
pg_noreturn extern void janitor_guard_refuse(const JanitorRule *rule,
											 const JanitorGuard *guard);

/* How many rows are expired in these leaves, counted up to a limit. */
extern int64 janitor_count_expired(const JanitorReadyRule *ready,
								   JanitorHolds *holds, List *leaves,
								   int64 limit);

#endif							/* JANITOR_GUARD_H */
