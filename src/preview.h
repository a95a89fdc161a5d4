/*-------------------------------------------------------------------------
 *
 * preview.h
 *	  What a rule would do now.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_PREVIEW_H
#define JANITOR_PREVIEW_H

#include "plan.h"

/* One leaf of one rule. */
typedef struct JanitorPreview
{
	const char *rule;
	const char *action;
	char	   *relation;
	const char *method;
	TimestampTz cutoff;			/* DT_NOBEGIN: the rule has none */
	int64		rows;			/* to be handled */
	int64		held;			/* expired, but held; -1: unknown */
	int64		cascaded;		/* taken along by foreign keys; -1: unknown */
	char	   *oldest;			/* of the expired ones' time column, as text; */
	char	   *newest;			/* NULL: none, or costs too much to know */
	char	   *index;			/* of the time column; NULL: none */
	char	   *warnings;		/* NULL: none */
} JanitorPreview;

/*
 * The leaves of one rule, in the current context; reads only.  In a
 * transaction, as the job's owner.  `exact`: rows are counted, not estimated.
 * Errors of the rule pass.
 */
extern List *janitor_preview_rule(const JanitorRule *rule,
								  const JanitorJob *job, TimestampTz now,
								  bool exact);

#endif							/* JANITOR_PREVIEW_H */
