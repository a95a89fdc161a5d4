/*-------------------------------------------------------------------------
 *
 * window.c
 *	  Policy: exact sliding windows, at most so many in any stretch of time.
 *
 * Pure, and compiled without a server by t/unit.
 *
 * An admission counts for `per` from its time on, that time included and the
 * end excluded: no half-open stretch of that length ever holds more than
 * max_runs.  So the n-th admission may come as soon as the one max_runs before
 * it does not count any more, which also tells where those in line will come.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "window.h"

int64_t
janitor_window_opens(const int64_t *times, int count, int max_runs,
					 int64_t per, int64_t now, int ahead)
{
	int			before = count + ahead - max_runs;
	int64_t		periods = 1;
	int64_t		opens;

	if (before < 0)
		return now;

	/* those in line come as they can, each a period after one before it */
	if (before >= count)
	{
		int			rounds = (before - count) / max_runs + 1;

		before -= rounds * max_runs;
		periods += rounds;
	}
	opens = before < 0 ? now + (periods - 1) * per :
		times[before] + periods * per;
	return opens > now ? opens : now;
}
