/*-------------------------------------------------------------------------
 *
 * dispatch.h
 *	  The scheduler's look at the queue: what is due, what starts.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_DISPATCH_H
#define JANITOR_DISPATCH_H

#include "compat.h"

#include "datatype/timestamp.h"

#include "session.h"

/* What a look found. */
typedef struct JanitorLook
{
	bool		more;			/* not all that is due was read: look again */
	int			claimed;
	TimestampTz look_at;		/* the next one, by janitor_clock(); DT_NOEND:
								 * when told */
	bool		gone;			/* there is no extension any more */
	bool		waiting;		/* entries are due that wait for a run to end,
								 * or for a worker */
} JanitorLook;

/*
 * One look, in one transaction.  `told` is the lowest run_at that somebody
 * touched since the last look (DT_NOEND: nobody; DT_NOBEGIN: look at all),
 * `everything` that definitions or roles changed.
 */
extern void janitor_dispatch(TimestampTz told, bool everything,
							 JanitorLook *look);

/*
 * Nothing is made up for the time between: pg_janitor was switched off.  By
 * janitor_clock().
 */
extern void janitor_dispatch_was_off(TimestampTz since, TimestampTz until);

/* Starts workers for entries that become due within a second. */
extern void janitor_prepare_workers(TimestampTz due);

/*
 * Whose fault was the error that a look has raised?  true: one job's, which
 * is left alone for a while.  Before janitor_dispatch_reset().
 */
extern bool janitor_dispatch_blame(const JanitorError *error);

/* Forgets what is known of the queue; after an error. */
extern void janitor_dispatch_reset(void);

/* Claimed runs that no worker has taken for long go back into the queue. */
extern void janitor_take_back_stuck(bool all);

/*
 * Has the scheduler claims in hand that are neither in the ring nor in the
 * queue?  Is this one of them?
 */
extern bool janitor_has_homeless(void);
extern bool janitor_is_homeless(int64 execution_id);

/* A worker of that role died while connecting: not again at once. */
extern void janitor_owner_failed(Oid owner);

#endif							/* JANITOR_DISPATCH_H */
