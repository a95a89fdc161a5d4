/*-------------------------------------------------------------------------
 *
 * advice.h
 *	  What a rule would do now, and what should be known about it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_ADVICE_H
#define JANITOR_ADVICE_H

#include "rule.h"

/*
 * What would make the rule faster or safer, for people; of char *, each with
 * the statement to type where there is one.
 */
extern List *janitor_advice(const JanitorReadyRule *ready);

/*
 * How many rows the rule would handle now, holds not counted; *exact: they
 * were counted, and not estimated.  Runs, or plans, its condition: as the
 * owner, inside janitor_with_now().
 */
extern int64 janitor_rule_rows(const JanitorReadyRule *ready, bool *exact);

/* The same, counted whatever it takes. */
extern int64 janitor_rule_count(const JanitorReadyRule *ready);

/* Plans a statement of the rule, so that what is wrong with it is an error. */
extern void janitor_rule_try(const JanitorReadyRule *ready);

/*
 * Refuses keep '0' on a column that knows no future, unless it is meant: it
 * is probably a time of creation, and all rows would go.
 */
extern void janitor_check_zero_keep(const JanitorReadyRule *ready,
									TimestampTz now);

#endif							/* JANITOR_ADVICE_H */
