/*-------------------------------------------------------------------------
 *
 * nearest.c
 *	  Did you mean ...?  The known name nearest to a misspelt one.
 *
 * Distance is Levenshtein's, as the server measures it for column names, and
 * a name counts as near under the server's own rule: at most three edits, and
 * no more than half of what was written.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "utils/varlena.h"

#include "nearest.h"

#define MAX_DISTANCE 3

/* Considers one candidate; the copy it may keep is in the current context. */
void
janitor_nearest_offer(JanitorNearest *nearest, const char *name)
{
	int			length = strlen(nearest->wanted);
	int			limit;
	int			distance;

	limit = nearest->best ? nearest->distance - 1 :
		Min(MAX_DISTANCE, length / 2);
	if (limit < 1)
		return;

	distance = varstr_levenshtein_less_equal(nearest->wanted, length,
											 name, strlen(name),
											 1, 1, 1, limit, true);
	if (distance > limit)
		return;

	nearest->best = pstrdup(name);
	nearest->distance = distance;
}
