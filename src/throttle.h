/*-------------------------------------------------------------------------
 *
 * throttle.h
 *	  Pauses between batches: rate, replicas, slots, archiver.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_THROTTLE_H
#define JANITOR_THROTTLE_H

#include "compat.h"

#include "datatype/timestamp.h"

typedef struct JanitorThrottle
{
	int			max_rows_per_second;	/* 0: no limit */
	int64		max_replica_lag;	/* microseconds; 0: no limit */
	TimestampTz begun;
	TimestampTz paid_until;		/* the rows so far take until then */
} JanitorThrottle;

/*
 * In a worker, at the beginning of a rule.  max_replica_lag also turns on the
 * pauses for slots and the archiver.
 */
extern void janitor_throttle_begin(JanitorThrottle *throttle,
								   int max_rows_per_second,
								   int64 max_replica_lag);

/*
 * Between batches, outside a transaction: accounts for the rows of the last
 * one and waits as long as the limits ask, on the latch, told by the
 * scheduler's samples; shows the reason in job_progress.  Cancels and timeouts
 * get through; a helper that should leave waits no longer.  `deadline`: no
 * longer than that (DT_NOEND).
 */
extern void janitor_throttle(JanitorThrottle *throttle, int64 rows,
							 TimestampTz deadline);

#endif							/* JANITOR_THROTTLE_H */
