/*-------------------------------------------------------------------------
 *
 * test_decide.c
 *	  Every combination of what janitor_decide() looks at, against a truth
 *	  table and against properties; janitor_backoff() at its limits.
 *
 * cc -Wall -Wextra -Werror -Isrc t/unit/test_decide.c src/decide.c
 *
 * Prints TAP; exit code 1 if a test fails.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "decide.h"

#define SECOND INT64_C(1000000)
#define HOUR (3600 * SECOND)
#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* ------------------------------------------------------------------------
 * TAP
 * ------------------------------------------------------------------------
 */

static int	tests = 0;
static int	failures = 0;

static void
report(bool good, const char *name)
{
	tests++;
	if (!good)
		failures++;
	printf("%sok %d - %s\n", good ? "" : "not ", tests, name);
}

static const char *const verdict_names[] = {
	"START", "WAIT", "KEEP_ONE", "SKIP_OVERLAP", "SKIP_MISSED",
	"SKIP_PAUSED", "SKIP_CIRCUIT", "DROP"
};

static void
describe(const JanitorCase *it)
{
	printf("# reason %d enabled %d paused %d open %d catch_up %d within %" PRId64
		   " overlap %d max %d running %d queued %d late %" PRId64
		   " following in %" PRId64 ": %s\n",
		   it->reason, it->enabled, it->paused, it->circuit_open, it->catch_up,
		   it->catch_up_within, it->overlap, it->max_running, it->running,
		   it->queued, it->now - it->scheduled_for,
		   it->following == INT64_MAX ? INT64_MAX : it->following - it->now,
		   verdict_names[janitor_decide(it)]);
}

/* ------------------------------------------------------------------------
 * All cases
 * ------------------------------------------------------------------------
 */

/* How late the occurrence is; the neighbours of each limit. */
static const int64_t lates[] = {
	-HOUR, -1, 0, 1,
	30 * SECOND - 1, 30 * SECOND, 30 * SECOND + 1,
	60 * SECOND - 1, 60 * SECOND, 60 * SECOND + 1,
	HOUR - 1, HOUR, HOUR + 1, 24 * HOUR
};
static const int64_t withins[] = {0, 30 * SECOND, 60 * SECOND, HOUR};

/* When the following occurrence is, seen from now; INT64_MAX: none. */
static const int64_t followings[] = {
	-59 * SECOND, -1, 0, 1, HOUR, INT64_MAX
};
static const int max_runnings[] = {0, 1, 3};

/* Any point in time will do: the first is 2026, the others the ends. */
static const int64_t nows[] = {
	INT64_C(820454400000000), INT64_MIN + 25 * HOUR, INT64_MAX - 2 * HOUR
};

typedef bool (*Check) (const JanitorCase *it);

/* Checks each case; reports the first five that fail. */
static void
for_all_times(JanitorCase *it, Check check, int *bad)
{
	for (int n = 0; n < lengthof(nows); n++)
		for (int l = 0; l < lengthof(lates); l++)
			for (int f = 0; f < lengthof(followings); f++)
			{
				it->now = nows[n];
				it->scheduled_for = it->now - lates[l];
				it->following = followings[f] == INT64_MAX ? INT64_MAX :
					it->now + followings[f];
				if (!check(it) && ++*bad <= 5)
					describe(it);
			}
}

static void
for_all_loads(JanitorCase *it, Check check, int *bad)
{
	for (int m = 0; m < lengthof(max_runnings); m++)
		for (it->running = 0; it->running <= 4; it->running++)
			for (int queued = 0; queued <= 1; queued++)
				for (int o = 0; o <= 1; o++)
				{
					it->max_running = max_runnings[m];
					it->queued = queued;
					it->overlap = (JanitorOverlap) o;
					for_all_times(it, check, bad);
				}
}

static void
for_all(Check check, const char *name)
{
	JanitorCase it;
	int			bad = 0;

	memset(&it, 0, sizeof(it));
	for (int r = JANITOR_REASON_SCHEDULE; r <= JANITOR_REASON_REPLAY; r++)
		for (int flags = 0; flags < 8; flags++)
			for (int c = 0; c <= JANITOR_CATCH_UP_SKIP; c++)
				for (int w = 0; w < lengthof(withins); w++)
				{
					it.reason = (JanitorReason) r;
					it.enabled = (flags & 1) != 0;
					it.paused = (flags & 2) != 0;
					it.circuit_open = (flags & 4) != 0;
					it.catch_up = (JanitorCatchUp) c;
					it.catch_up_within = withins[w];
					for_all_loads(&it, check, &bad);
				}
	report(bad == 0, name);
}

/* ------------------------------------------------------------------------
 * The truth table
 *
 * Each line is a set of cases and their verdict.  The lines are disjoint and
 * together cover everything, which is tested, so their order is of no
 * consequence and nothing hides behind anything.
 * ------------------------------------------------------------------------
 */

/* Questions that are answered by yes and no. */
enum
{
	OCCURRENCE = 1 << 0,
	STARTUP = 1 << 1,
	ENABLED = 1 << 2,
	PAUSED = 1 << 3,
	TOO_OLD = 1 << 4,
	MISSED = 1 << 5,
	ONCE = 1 << 6,
	ALL = 1 << 7,
	FOLLOWED = 1 << 8,
	FULL = 1 << 9,
	QUEUE = 1 << 10,
	QUEUED = 1 << 11,
	REPLAY = 1 << 12
};

typedef struct Line
{
	int			yes;
	int			no;
	JanitorVerdict verdict;
} Line;

static const Line table[] = {
	/* asked for */
	{0, OCCURRENCE | STARTUP | REPLAY | PAUSED | FULL, JANITOR_START},
	{PAUSED, OCCURRENCE | STARTUP | REPLAY, JANITOR_WAIT},
	{FULL, OCCURRENCE | STARTUP | REPLAY | PAUSED, JANITOR_WAIT},
	{REPLAY, FULL, JANITOR_START},
	{REPLAY | FULL, 0, JANITOR_WAIT},
	{STARTUP, ENABLED, JANITOR_DROP},
	{STARTUP | ENABLED, PAUSED | FULL, JANITOR_START},
	{STARTUP | ENABLED | PAUSED, 0, JANITOR_WAIT},
	{STARTUP | ENABLED | FULL, PAUSED, JANITOR_WAIT},

	/* occurrences that are not looked at for their time */
	{OCCURRENCE, ENABLED, JANITOR_DROP},
	{OCCURRENCE | ENABLED | PAUSED, 0, JANITOR_SKIP_PAUSED},
	{OCCURRENCE | ENABLED | TOO_OLD, PAUSED, JANITOR_SKIP_MISSED},

	/* on time */
	{OCCURRENCE | ENABLED, PAUSED | TOO_OLD | MISSED | FULL, JANITOR_START},
	{OCCURRENCE | ENABLED | FULL, PAUSED | TOO_OLD | MISSED | QUEUE,
	JANITOR_SKIP_OVERLAP},
	{OCCURRENCE | ENABLED | FULL | QUEUE, PAUSED | TOO_OLD | MISSED | QUEUED,
	JANITOR_KEEP_ONE},
	{OCCURRENCE | ENABLED | FULL | QUEUE | QUEUED, PAUSED | TOO_OLD | MISSED,
	JANITOR_SKIP_OVERLAP},

	/* missed, catch_up = skip */
	{OCCURRENCE | ENABLED | MISSED, PAUSED | TOO_OLD | ONCE | ALL,
	JANITOR_SKIP_MISSED},

	/* missed, catch_up = all */
	{OCCURRENCE | ENABLED | MISSED | ALL, PAUSED | TOO_OLD | FULL,
	JANITOR_START},
	{OCCURRENCE | ENABLED | MISSED | ALL | FULL, PAUSED | TOO_OLD,
	JANITOR_WAIT},

	/* missed, catch_up = once */
	{OCCURRENCE | ENABLED | MISSED | ONCE | FOLLOWED, PAUSED | TOO_OLD,
	JANITOR_SKIP_MISSED},
	{OCCURRENCE | ENABLED | MISSED | ONCE, PAUSED | TOO_OLD | FOLLOWED | FULL,
	JANITOR_START},
	{OCCURRENCE | ENABLED | MISSED | ONCE | FULL,
		PAUSED | TOO_OLD | FOLLOWED | QUEUE,
	JANITOR_SKIP_OVERLAP},
	{OCCURRENCE | ENABLED | MISSED | ONCE | FULL | QUEUE,
		PAUSED | TOO_OLD | FOLLOWED | QUEUED,
	JANITOR_KEEP_ONE},
	{OCCURRENCE | ENABLED | MISSED | ONCE | FULL | QUEUE | QUEUED,
		PAUSED | TOO_OLD | FOLLOWED,
	JANITOR_SKIP_OVERLAP},
};

static int
answers(const JanitorCase *it)
{
	int64_t		late = it->now - it->scheduled_for;
	int			yes = 0;

	yes |= it->reason == JANITOR_REASON_SCHEDULE ? OCCURRENCE : 0;
	yes |= it->reason == JANITOR_REASON_STARTUP ? STARTUP : 0;
	yes |= it->reason == JANITOR_REASON_REPLAY ? REPLAY : 0;
	yes |= it->enabled ? ENABLED : 0;
	yes |= it->paused ? PAUSED : 0;
	yes |= it->catch_up_within != 0 && late > it->catch_up_within ?
		TOO_OLD : 0;
	yes |= late >= 60000001 ? MISSED : 0;
	yes |= it->catch_up == JANITOR_CATCH_UP_ONCE ? ONCE : 0;
	yes |= it->catch_up == JANITOR_CATCH_UP_ALL ? ALL : 0;
	yes |= it->now >= it->following ? FOLLOWED : 0;
	yes |= it->max_running != 0 && it->max_running <= it->running ? FULL : 0;
	yes |= it->overlap == JANITOR_OVERLAP_QUEUE ? QUEUE : 0;
	yes |= it->queued ? QUEUED : 0;
	return yes;
}

static bool
agrees_with_table(const JanitorCase *it)
{
	int			yes = answers(it);
	int			matches = 0;
	bool		good = true;

	if (it->circuit_open)
		return true;			/* see an_open_circuit_lets_nothing_start() */
	for (int i = 0; i < lengthof(table); i++)
	{
		if ((yes & table[i].yes) != table[i].yes || (yes & table[i].no) != 0)
			continue;
		matches++;
		good = good && janitor_decide(it) == table[i].verdict;
	}
	return good && matches == 1;
}

/* ------------------------------------------------------------------------
 * Properties
 * ------------------------------------------------------------------------
 */

static bool
is_asked_for(const JanitorCase *it)
{
	return it->reason != JANITOR_REASON_SCHEDULE;
}

static bool
no_run_too_many(const JanitorCase *it)
{
	return janitor_decide(it) != JANITOR_START || it->max_running == 0 ||
		it->running + 1 <= it->max_running;
}

static bool
nothing_of_a_paused_job_starts(const JanitorCase *it)
{
	return !it->paused || it->reason == JANITOR_REASON_REPLAY ||
		janitor_decide(it) != JANITOR_START;
}

/* The verdict is that of a closed one, but where that would be a run's. */
static bool
an_open_circuit_lets_nothing_start(const JanitorCase *it)
{
	JanitorCase closed = *it;
	JanitorVerdict verdict = janitor_decide(it);

	closed.circuit_open = false;
	if (!it->circuit_open)
		return verdict != JANITOR_SKIP_CIRCUIT;
	switch (janitor_decide(&closed))
	{
		case JANITOR_START:
		case JANITOR_WAIT:
			return verdict == (is_asked_for(it) ? JANITOR_WAIT :
							   JANITOR_SKIP_CIRCUIT);
		case JANITOR_KEEP_ONE:
		case JANITOR_SKIP_OVERLAP:
			return verdict == JANITOR_SKIP_CIRCUIT;
		default:
			return verdict == janitor_decide(&closed);
	}
}

static bool
only_the_disabled_is_dropped(const JanitorCase *it)
{
	bool		of_schedule = it->reason == JANITOR_REASON_SCHEDULE ||
	it->reason == JANITOR_REASON_STARTUP;

	return (janitor_decide(it) == JANITOR_DROP) ==
		(of_schedule && !it->enabled);
}

static bool
what_was_asked_for_is_never_skipped(const JanitorCase *it)
{
	JanitorVerdict verdict = janitor_decide(it);

	return !is_asked_for(it) || verdict == JANITOR_START ||
		verdict == JANITOR_WAIT || verdict == JANITOR_DROP;
}

/* A schedule entry that waits holds up the occurrences behind it. */
static bool
only_catching_up_waits(const JanitorCase *it)
{
	return is_asked_for(it) || janitor_decide(it) != JANITOR_WAIT ||
		(it->catch_up == JANITOR_CATCH_UP_ALL &&
		 it->now - it->scheduled_for > JANITOR_MISSED_AFTER);
}

static bool
one_at_most_is_kept(const JanitorCase *it)
{
	return janitor_decide(it) != JANITOR_KEEP_ONE ||
		(it->overlap == JANITOR_OVERLAP_QUEUE && !it->queued &&
		 it->running >= it->max_running);
}

static bool
nothing_older_than_within_starts(const JanitorCase *it)
{
	JanitorVerdict verdict = janitor_decide(it);

	return is_asked_for(it) || it->catch_up_within == 0 ||
		it->now - it->scheduled_for <= it->catch_up_within ||
		(verdict != JANITOR_START && verdict != JANITOR_WAIT &&
		 verdict != JANITOR_KEEP_ONE);
}

/* Room can only help: what starts in a full job starts in an empty one. */
static bool
an_unlimited_idle_job_never_waits(const JanitorCase *it)
{
	JanitorCase idle = *it;
	JanitorVerdict verdict = janitor_decide(it);

	idle.max_running = 0;
	idle.running = 0;
	if (verdict == JANITOR_START)
		return janitor_decide(&idle) == JANITOR_START;
	return it->paused || it->circuit_open || janitor_decide(&idle) != JANITOR_WAIT;
}

static bool
on_time_catch_up_is_irrelevant(const JanitorCase *it)
{
	JanitorCase other = *it;

	if (it->now - it->scheduled_for > 60 * SECOND)
		return true;
	other.catch_up = JANITOR_CATCH_UP_ALL;
	return janitor_decide(it) == janitor_decide(&other);
}

static bool
asked_for_time_is_irrelevant(const JanitorCase *it)
{
	JanitorCase other = *it;

	if (!is_asked_for(it))
		return true;
	other.scheduled_for = other.following = other.now = 0;
	return janitor_decide(it) == janitor_decide(&other);
}

/* ------------------------------------------------------------------------
 * Whole stories: an every-minute job after a pause of the scheduler
 * ------------------------------------------------------------------------
 */

#define MINUTE (60 * SECOND)

typedef struct Story
{
	int			started;
	int			skipped;
	int64_t		last_started;
	bool		in_order;
} Story;

/*
 * The occurrences of minutes 1 to 10 are looked at at minute 10 and some
 * seconds.  A run takes no time; a job that waits goes on at once.
 */
static Story
tell(JanitorCatchUp catch_up, int64_t within, int64_t seconds)
{
	Story		story = {0, 0, INT64_MIN, true};
	JanitorCase it;

	memset(&it, 0, sizeof(it));
	it.enabled = true;
	it.catch_up = catch_up;
	it.catch_up_within = within;
	it.max_running = 1;
	it.now = 10 * MINUTE + seconds;
	for (it.scheduled_for = MINUTE; it.scheduled_for <= it.now;
		 it.scheduled_for = it.following)
	{
		JanitorVerdict verdict;

		it.following = it.scheduled_for + MINUTE;
		it.running = 0;
		verdict = janitor_decide(&it);
		if (verdict == JANITOR_START)
		{
			story.started++;
			story.in_order &= it.scheduled_for > story.last_started;
			story.last_started = it.scheduled_for;
		}
		else
			story.skipped++;
	}
	return story;
}

static void
test_stories(void)
{
	Story		once = tell(JANITOR_CATCH_UP_ONCE, 0, 5 * SECOND);
	Story		all = tell(JANITOR_CATCH_UP_ALL, 0, 5 * SECOND);
	Story		skip = tell(JANITOR_CATCH_UP_SKIP, 0, 5 * SECOND);
	Story		within = tell(JANITOR_CATCH_UP_ALL, 3 * MINUTE, 0);

	report(once.started == 1 && once.skipped == 9 &&
		   once.last_started == 10 * MINUTE,
		   "once: of ten occurrences the latest runs, nine are skipped");
	report(all.started == 10 && all.skipped == 0 && all.in_order,
		   "all: ten occurrences run, in order");
	report(skip.started == 1 && skip.last_started == 10 * MINUTE,
		   "skip: only what is not over a minute late runs");
	report(within.started == 4 && within.skipped == 6,
		   "all: exactly catch_up_within ago still runs, nothing older");
}

/* The last occurrence ever, found a day later. */
static void
test_last_occurrence(void)
{
	JanitorCase it;

	memset(&it, 0, sizeof(it));
	it.enabled = true;
	it.scheduled_for = 0;
	it.now = 24 * HOUR;
	it.following = INT64_MAX;
	report(janitor_decide(&it) == JANITOR_START,
		   "once: a missed occurrence that none follows runs");

	it.scheduled_for = INT64_MIN;
	it.now = INT64_MAX - 1;
	it.catch_up_within = INT64_MAX;
	report(janitor_decide(&it) == JANITOR_SKIP_MISSED,
		   "the age of an occurrence does not overflow");
}

/* ------------------------------------------------------------------------
 * janitor_backoff()
 * ------------------------------------------------------------------------
 */

static const uint64_t randoms[] = {
	0, 1, 12345, UINT64_MAX / 3, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX
};

/* Within [3/4, 5/4] of the nominal delay, and not above the limit? */
static bool
is_spread(int attempt, int64_t delay, int64_t max_delay, int64_t nominal)
{
	for (int i = 0; i < lengthof(randoms); i++)
	{
		int64_t		got = janitor_backoff(attempt, delay, max_delay,
										  randoms[i]);

		if (got < nominal - nominal / 4 || got > max_delay ||
			(uint64_t) got > (uint64_t) nominal + (uint64_t) (nominal / 4))
		{
			printf("# attempt %d of %" PRId64 ", at most %" PRId64 ": %"
				   PRId64 "\n", attempt, delay, max_delay, got);
			return false;
		}
	}
	return true;
}

static bool
doubles(void)
{
	int64_t		nominal = 10 * SECOND;
	bool		good = true;

	for (int attempt = 2; attempt <= 20; attempt++)
	{
		good = good && is_spread(attempt, 10 * SECOND, HOUR,
								 nominal < HOUR ? nominal : HOUR);
		nominal *= 2;
	}
	return good;
}

/* Do the values reach both ends of the range, and not one of them mostly? */
static bool
reaches(int64_t max_delay, int64_t low, int64_t high)
{
	int64_t		least = INT64_MAX;
	int64_t		most = 0;
	int			at_most = 0;

	for (uint64_t random = 0; random < 2000; random++)
	{
		int64_t		got = janitor_backoff(2, 400, max_delay, random);

		least = got < least ? got : least;
		at_most = got > most ? 1 : at_most + (got == most);
		most = got > most ? got : most;
	}
	return least == low && most == high && at_most < 100;
}

static void
test_backoff(void)
{
	report(doubles(), "backoff doubles from the second attempt to the limit");
	report(is_spread(1, SECOND, HOUR, SECOND) &&
		   is_spread(0, SECOND, HOUR, SECOND) &&
		   is_spread(INT32_MIN, SECOND, HOUR, SECOND),
		   "backoff of attempts below the second is the second's");
	report(is_spread(INT32_MAX, SECOND, HOUR, HOUR) &&
		   is_spread(INT32_MAX, 1, INT64_MAX, INT64_MAX) &&
		   is_spread(64, INT64_MAX, INT64_MAX, INT64_MAX) &&
		   is_spread(3, INT64_MAX / 2 + 1, INT64_MAX, INT64_MAX),
		   "backoff does not overflow");
	report(is_spread(2, HOUR, SECOND, SECOND),
		   "backoff: the limit is below the first delay");
	report(janitor_backoff(2, 0, HOUR, UINT64_MAX) == 0 &&
		   janitor_backoff(99, 0, HOUR, 7) == 0 &&
		   janitor_backoff(99, SECOND, 0, UINT64_MAX) == 0 &&
		   janitor_backoff(2, -SECOND, HOUR, 1) == 0 &&
		   janitor_backoff(2, SECOND, -HOUR, 1) == 0 &&
		   is_spread(2, 1, HOUR, 1),
		   "backoff of no delay is none");
	report(reaches(1000, 300, 500), "backoff is spread over 3/4 to 5/4");
	report(reaches(400, 300, 400), "backoff at the limit is spread below it");
}

int
main(void)
{
	for_all(agrees_with_table, "each case is one line of the truth table");
	for_all(no_run_too_many, "never more than max_running runs");
	for_all(nothing_of_a_paused_job_starts, "nothing of a paused job starts but a replay");
	for_all(an_open_circuit_lets_nothing_start,
			"an open circuit lets nothing start, and changes nothing else");
	for_all(only_the_disabled_is_dropped,
			"dropped: what a disabled schedule would start, nothing else");
	for_all(what_was_asked_for_is_never_skipped,
			"what was asked for starts or waits");
	for_all(only_catching_up_waits,
			"an occurrence waits only to be made up in order");
	for_all(one_at_most_is_kept, "overlap keeps one occurrence at most");
	for_all(nothing_older_than_within_starts,
			"nothing older than catch_up_within is made up");
	for_all(an_unlimited_idle_job_never_waits,
			"a job without runs and limit waits only when paused, or for its circuit");
	for_all(on_time_catch_up_is_irrelevant,
			"catch_up does not matter up to 60 s late");
	for_all(asked_for_time_is_irrelevant,
			"time does not matter for what was asked for");
	test_stories();
	test_last_occurrence();
	test_backoff();
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
