/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  Policy: what happens to a queue entry that is due.
 *
 * Pure, and compiled without a server by t/unit.  The scheduler asks for each
 * due entry and acts on the verdict in the transaction that claims.
 *
 * An occurrence is the job's schedule entry.  It always makes room for the
 * next occurrence, unless it waits: each ends as exactly one run or one
 * counted skip, or is dropped because nothing of a disabled schedule counts.
 * Every other entry was asked for by somebody and can only start or wait.  So
 * can an occurrence that has been kept as the one queued run (KEEP_ONE): it is
 * judged as asked for, or it would be missed after a minute in the queue.  The
 * scheduler passes such an entry with a reason other than schedule.
 *
 * Asked for (manual, retry, after, failure; startup of an enabled job):
 *
 *		paused, or circuit open		saturated	verdict
 *		yes							any			WAIT
 *		no							yes			WAIT
 *		no							no			START
 *
 * startup of a disabled job: DROP.
 *
 * A replay, which comes after a restore and before anything else, starts
 * though its job is paused.
 *
 * Occurrences; the first line that fits decides:
 *
 *		disabled								DROP
 *		paused									SKIP_PAUSED
 *		later than catch_up_within, if set		SKIP_MISSED
 *		missed, catch_up = skip					SKIP_MISSED
 *		missed, catch_up = once, following due	SKIP_MISSED
 *		circuit open							SKIP_CIRCUIT
 *		not saturated							START
 *		missed, catch_up = all					WAIT
 *		overlap = skip, or one is queued		SKIP_OVERLAP
 *		overlap = queue							KEEP_ONE
 *
 * saturated: max_running runs are in progress.  missed: more than
 * JANITOR_MISSED_AFTER late.  following due: the next occurrence is due too,
 * missed or not.  Were only missed ones looked at, the newest missed one would
 * start and the one that is merely due right behind it: two runs where one
 * makes good for all.
 *
 * Why a missed occurrence of catch_up = all waits, whatever overlap says: it
 * is its own predecessor that saturates the job, and each is to be run, in
 * order.  One that is on time follows overlap also then: catch_up is about
 * what the scheduler missed, not about what the job is too slow for.  While
 * one waits, those behind it become missed, and are made up in turn, until
 * catch_up_within ends it or the job has caught up.
 *
 * An occurrence before its time, after the clock was set back, is not late.
 *
 * The limit JANITOR_CATCH_UP_LIMIT needs a count of what was missed and is
 * the caller's.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "decide.h"

/* By how much an occurrence is late; cannot overflow. */
static uint64_t
lateness(const JanitorCase *it)
{
	if (it->now <= it->scheduled_for)
		return 0;
	return (uint64_t) it->now - (uint64_t) it->scheduled_for;
}

static bool
is_saturated(const JanitorCase *it)
{
	return it->max_running > 0 && it->running >= it->max_running;
}

/* Missed, that is, to be made up if at all. */
static bool
is_missed(const JanitorCase *it)
{
	return lateness(it) > (uint64_t) JANITOR_MISSED_AFTER;
}

static bool
is_too_old(const JanitorCase *it)
{
	return it->catch_up_within > 0 &&
		lateness(it) > (uint64_t) it->catch_up_within;
}

/* Is this missed occurrence one that catch_up leaves out? */
static bool
is_left_out(const JanitorCase *it)
{
	if (it->catch_up == JANITOR_CATCH_UP_ONCE)
		return it->following <= it->now;
	return it->catch_up == JANITOR_CATCH_UP_SKIP;
}

/* An occurrence that should run now and finds no room. */
static JanitorVerdict
decide_overlap(const JanitorCase *it)
{
	if (is_missed(it) && it->catch_up == JANITOR_CATCH_UP_ALL)
		return JANITOR_WAIT;
	if (it->overlap == JANITOR_OVERLAP_QUEUE && !it->queued)
		return JANITOR_KEEP_ONE;
	return JANITOR_SKIP_OVERLAP;
}

static JanitorVerdict
decide_occurrence(const JanitorCase *it)
{
	if (!it->enabled)
		return JANITOR_DROP;
	if (it->paused)
		return JANITOR_SKIP_PAUSED;
	if (is_too_old(it) || (is_missed(it) && is_left_out(it)))
		return JANITOR_SKIP_MISSED;
	if (it->circuit_open)
		return JANITOR_SKIP_CIRCUIT;
	return is_saturated(it) ? decide_overlap(it) : JANITOR_START;
}

JanitorVerdict
janitor_decide(const JanitorCase *it)
{
	if (it->reason == JANITOR_REASON_SCHEDULE)
		return decide_occurrence(it);
	if (it->reason == JANITOR_REASON_STARTUP && !it->enabled)
		return JANITOR_DROP;
	if (it->paused && it->reason != JANITOR_REASON_REPLAY)
		return JANITOR_WAIT;
	return it->circuit_open || is_saturated(it) ? JANITOR_WAIT :
		JANITOR_START;
}

int64_t
janitor_backoff(int attempt, int64_t retry_delay, int64_t max_delay,
				uint64_t random)
{
	int64_t		delay = retry_delay;
	uint64_t	low,
				high;

	if (retry_delay <= 0 || max_delay <= 0)
		return 0;
	for (int i = 2; i < attempt && delay < max_delay; i++)
		delay = delay > max_delay / 2 ? max_delay : delay * 2;
	if (delay > max_delay)
		delay = max_delay;

	/*
	 * Evenly over what the limit leaves of the range, so that jobs at their
	 * limit do not all come back at the same instant.  Unsigned: 5/4 of the
	 * longest delay does not fit otherwise.
	 */
	low = (uint64_t) (delay - delay / 4);
	high = (uint64_t) delay + (uint64_t) (delay / 4);
	if (high > (uint64_t) max_delay)
		high = (uint64_t) max_delay;
	return (int64_t) (low + random % (high - low + 1));
}
