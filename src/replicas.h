/*-------------------------------------------------------------------------
 *
 * replicas.h
 *	  How far behind standbys, replication slots and the archiver are.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_REPLICAS_H
#define JANITOR_REPLICAS_H

#include "compat.h"

#include "datatype/timestamp.h"

typedef struct JanitorReplicas
{
	TimestampTz sampled_at;		/* 0: never */
	int64		lag;			/* of the slowest standby, microseconds; -1:
								 * all have caught up, or there is none */
	int64		slot_bytes;		/* held back by the laziest slot that holds
								 * more than max_wal_size; 0: there is none */
	bool		archiver_failing;
} JanitorReplicas;

/* --- by a worker --- */

/* Samples are taken while its run asks for them. */
extern void janitor_replicas_ask(bool asks);

/* The newest sample; the latch will be set at the next one. */
extern void janitor_replicas_get(JanitorReplicas *replicas);

/* --- by the scheduler --- */

/* When the next sample is to be taken; DT_NOEND: nobody asks for any. */
extern TimestampTz janitor_replicas_due(void);
extern void janitor_replicas_sample(void);

#endif							/* JANITOR_REPLICAS_H */
