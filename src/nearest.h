/*-------------------------------------------------------------------------
 *
 * nearest.h
 *	  Did you mean ...?  The known name nearest to a misspelt one.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_NEAREST_H
#define JANITOR_NEAREST_H

/* Start with {wanted}, offer every candidate, read best (NULL: none). */
typedef struct JanitorNearest
{
	const char *wanted;
	char	   *best;			/* palloc'd */
	int			distance;		/* of best */
} JanitorNearest;

extern void janitor_nearest_offer(JanitorNearest *nearest, const char *name);

#endif							/* JANITOR_NEAREST_H */
