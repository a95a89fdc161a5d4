/*-------------------------------------------------------------------------
 *
 * lease.h
 *	  Runs of external jobs in the hands of workers outside.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_LEASE_H
#define JANITOR_LEASE_H

#include "definition.h"

#include "utils/uuid.h"

/* --- claiming --- */

/* A run that was handed out. */
typedef struct JanitorHandout
{
	JanitorEntry entry;
	Jsonb	   *args;			/* merged */
	pg_uuid_t	token;
	TimestampTz lease_until;
} JanitorHandout;

/* A claim; palloc'd handouts. */
typedef struct JanitorClaiming
{
	const JanitorJob *job;
	int			max_runs;
	int64		lease;			/* microseconds */
	const char *worker;			/* NULL: unnamed */
	JanitorHandout *handout;	/* what was claimed */
	int			count;
} JanitorClaiming;

extern void janitor_lease_claim(JanitorClaiming *claiming);

/* --- what the holder does with it --- */

/*
 * The lease, if the token is the one it was given with; else ERROR 55000.
 * Without a lock: it may be gone when it is used, which is the same error.
 */
extern void janitor_lease_require(int64 execution_id, const pg_uuid_t *token,
								  JanitorLease *lease);

/* Raises that error. */
extern void janitor_lease_refuse(int64 execution_id);

/* Until `lease` from now; returns until when. */
extern TimestampTz janitor_lease_prolong(JanitorLease *lease,
										 const JanitorJob *job, int64 length);

/* What a worker says of its run. */
typedef struct JanitorWord
{
	bool		success;
	int64		records;		/* -1: not countable */
	const char *error;			/* NULL: none */
	Jsonb	   *result;			/* likewise */
	bool		permanent;
	int64		snooze;			/* microseconds; -1: no */
} JanitorWord;

/* Ends the run, or puts it back; what became of it. */
extern const char *janitor_lease_end(JanitorLease *lease,
									 const JanitorJob *job,
									 const JanitorWord *word);

/* --- others --- */

/*
 * Takes a run from its worker and records it as cancelled; false: it is in
 * nobody's hands any more, or (without waiting) its worker is ending it.
 */
extern bool janitor_lease_cancel(int64 execution_id, bool wait,
								 const char *detail);

/* All of a job's, but for those that are being ended; how many. */
extern int	janitor_lease_cancel_all(const JanitorJob *job,
									 const char *detail);

/*
 * Rescues a run whose lease is over, if it still is.  false: somebody's open
 * transaction has it, try again.  In a transaction of the scheduler.
 */
extern bool janitor_lease_expire(int64 execution_id, TimestampTz now);

#endif							/* JANITOR_LEASE_H */
