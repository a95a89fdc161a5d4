/*-------------------------------------------------------------------------
 *
 * throttle.c
 *	  Pauses between batches: rate, replicas, slots, archiver.
 *
 * Runs in the worker of a run and in its helpers, each with a throttle of its
 * own.  The rate is divided among the workers that are at the rule: what one
 * has handled takes so much longer as there are others.  The other limits are
 * judged by the scheduler's samples (replicas.c), each of which sets the latch
 * of whoever waits.
 *
 * Before the first sample a run waits for it, but not for ever: there may be
 * no scheduler.  A sample that is older than SAMPLE_LASTS says nothing.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "throttle.h"

#include "utils/timestamp.h"

#include "replicas.h"
#include "shmem.h"
#include "tally.h"

/* Time not used for rows may be used later, up to this. */
#define RATE_CREDIT (1 * USECS_PER_SEC)

#define SAMPLE_LASTS (5 * USECS_PER_SEC)

void
janitor_throttle_begin(JanitorThrottle *throttle, int max_rows_per_second,
					   int64 max_replica_lag)
{
	MemSet(throttle, 0, sizeof(JanitorThrottle));
	throttle->max_rows_per_second = max_rows_per_second;
	throttle->max_replica_lag = max_replica_lag;
	throttle->begun = throttle->paid_until = GetCurrentTimestamp();
	janitor_replicas_ask(max_replica_lag > 0);
}

static void
account(JanitorThrottle *throttle, int64 rows)
{
	if (throttle->max_rows_per_second == 0)
		return;
	throttle->paid_until = Max(throttle->paid_until,
							   GetCurrentTimestamp() - RATE_CREDIT);
	throttle->paid_until += (int64)
		(rows * (double) USECS_PER_SEC * janitor_tally_workers() /
		 throttle->max_rows_per_second);
}

/*
 * What the replicas are a reason for; JANITOR_PAUSES: nothing.  *until is when
 * to look again if nobody tells of a new sample.
 */
static JanitorPause
judge_replicas(const JanitorThrottle *throttle, TimestampTz now,
			   TimestampTz *until)
{
	JanitorReplicas replicas;

	if (throttle->max_replica_lag == 0)
		return JANITOR_PAUSES;
	janitor_replicas_get(&replicas);
	if (replicas.sampled_at + SAMPLE_LASTS <= now ||
		replicas.sampled_at > now + SAMPLE_LASTS)
	{
		*until = throttle->begun + SAMPLE_LASTS;
		return *until > now ? JANITOR_PAUSE_LAG : JANITOR_PAUSES;
	}
	*until = replicas.sampled_at + SAMPLE_LASTS;
	if (replicas.lag > throttle->max_replica_lag)
		return JANITOR_PAUSE_LAG;
	if (replicas.slot_bytes > 0)
		return JANITOR_PAUSE_SLOT;
	return replicas.archiver_failing ? JANITOR_PAUSE_ARCHIVER : JANITOR_PAUSES;
}

static JanitorPause
judge(const JanitorThrottle *throttle, TimestampTz now, TimestampTz *until)
{
	JanitorPause pause = judge_replicas(throttle, now, until);

	if (pause == JANITOR_PAUSES && throttle->max_rows_per_second > 0 &&
		throttle->paid_until > now)
	{
		*until = throttle->paid_until;
		return JANITOR_PAUSE_RATE;
	}
	return pause;
}

static void
sleep_on_latch(TimestampTz now, TimestampTz until)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = janitor_new_wait_event("JanitorThrottle");
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 TimestampDifferenceMilliseconds(now, until), wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

void
janitor_throttle(JanitorThrottle *throttle, int64 rows, TimestampTz deadline)
{
	JanitorPause shown = JANITOR_PAUSES;
	TimestampTz now = GetCurrentTimestamp();

	account(throttle, rows);
	while (now < deadline && !janitor_helper_should_leave())
	{
		TimestampTz before = now;
		TimestampTz until;
		JanitorPause pause = judge(throttle, now, &until);

		if (pause == JANITOR_PAUSES)
			break;
		if (pause != shown)
			janitor_progress_wait(janitor_pause_name(pause));
		shown = pause;
		sleep_on_latch(now, Min(until, deadline));
		now = GetCurrentTimestamp();
		janitor_tally_pause(pause, now - before);
	}
	if (shown != JANITOR_PAUSES)
		janitor_progress_wait(NULL);
}
