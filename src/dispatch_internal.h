/*-------------------------------------------------------------------------
 *
 * dispatch_internal.h
 *	  What the parts of a look share; for dispatch.c, serve.c, offer.c,
 *	  late.c, alert.c and recruit.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_DISPATCH_INTERNAL_H
#define JANITOR_DISPATCH_INTERNAL_H

#include "dispatch.h"

#include "definition.h"
#include "gate.h"
#include "shmem.h"

/* Runs claimed in one look. */
#define CLAIM_LIMIT 256

/* A row held by an open transaction is looked at again after this. */
#define HELD_RETRY (1 * USECS_PER_SEC)

/* Where and how often the scheduler notifies. */
#define JANITOR_CHANNEL "pg_janitor"
#define JANITOR_NOTIFY_INTERVAL (20 * INT64CONST(1000))

/* What has been due for so long, and does not run, is overdue. */
#define JANITOR_OVERDUE_AFTER (60 * USECS_PER_SEC)

/* A job with due entries. */
typedef struct JanitorNotedJob
{
	uint64		hash;			/* key */
	char	   *name;
	int			priority;
	TimestampTz run_at;			/* its due entries are after this position */
	int64		id;
	TimestampTz look_at;		/* not before; DT_NOEND: when told */
	TimestampTz overdue_at;		/* see then whether it is; DT_NOEND: told */
	Oid			owner;			/* as last served; InvalidOid: not yet */
	bool		problem_logged;
	TimestampTz orphan_until;	/* it has no definition, and that long to get
								 * one; DT_NOBEGIN: it has */
} JanitorNotedJob;

/* A role as one look sees its workers. */
typedef struct JanitorStaff
{
	Oid			owner;
	bool		present;		/* it has a worker, or one on its way */
	int			starting;
	int			room;			/* runs that may still be claimed */
	int			wanted;			/* entries that wait for a worker */
} JanitorStaff;

/* The state of the look in progress. */
typedef struct JanitorRound
{
	TimestampTz now;			/* by janitor_clock() */
	JanitorLook *result;
	List	   *staffs;			/* of JanitorStaff */
	TimestampTz off_since;		/* switched off from here to there */
	TimestampTz off_until;
	int			heavy_room;		/* heavy runs that may still be claimed */
	bool		heavy_wanted;	/* an entry waits for nothing else */
	int			claim_limit;
	int			claims;
	JanitorClaim claim[CLAIM_LIMIT];
} JanitorRound;

/* What service needs to hand from one entry of a job to the next. */
typedef struct JanitorService
{
	JanitorRound *round;
	JanitorNotedJob *noted;
	JanitorJob *job;
	bool		heavy;			/* the job's runs are */
	JanitorStaff *staff;
	int			running;
	JanitorGate gate;
	bool		blocked;		/* it has due entries left */
	bool		replays;		/* one of them is a replay, which no pause
								 * stops */
	bool		unclaimed;		/* its last occurrence still waits for a
								 * worker outside */
	bool		scheduled;		/* occurrence is its schedule entry */
	JanitorEntry occurrence;
	TimestampTz limit_ahead;	/* JANITOR_CATCH_UP_LIMIT occurrences after
								 * it; DT_NOBEGIN: not counted yet */
	JanitorEntry *entries;
	int			count;
	int			limit;
} JanitorService;

/* --- serve.c --- */

/*
 * Gives the due entries of one job their verdicts and claims what starts.
 * false: none of its entries is left due, it need not be noted any more.
 */
extern bool janitor_serve(JanitorRound *round, JanitorNotedJob *noted);

/* The due occurrences of a service that is set up. */
extern void janitor_serve_schedule(JanitorService *service);

/* --- offer.c --- */

/*
 * The same for an external job, of which clients claim the entries: its
 * occurrences become entries that can be claimed, and what can be claimed is
 * announced.
 */
extern bool janitor_offer(JanitorService *service);

/* Announces what the look found claimable, at its commit. */
extern void janitor_announce(JanitorRound *round, bool everything);

/*
 * Rescues runs whose lease is over, each in a transaction of its own; returns
 * when the next one may be.  `told`: the earliest of those claimed since.
 */
extern TimestampTz janitor_expire_leases(TimestampTz told, bool everything);

/* After an error: nothing is known of leases. */
extern void janitor_offer_reset(void);

/* --- late.c --- */

/* Tells if the job is overdue; sees to it that the next look is in time. */
extern void janitor_watch_noted(JanitorRound *round, JanitorNotedJob *noted);

/* Entries of an external job, of which this is the earliest, were offered. */
extern void janitor_watch_offer(const JanitorNotedJob *noted,
								TimestampTz run_at);
extern void janitor_watch_offers(JanitorRound *round);

/* --- alert.c --- */

/* Tells of runs that failed and of jobs that recovered, at the commit... */
extern void janitor_alert(JanitorRound *round);

/* ... which has come. */
extern void janitor_alerts_sent(void);

/* At the commit: some job is overdue. */
extern void janitor_alert_overdue(void);

/* --- recruit.c --- */

/* The owner's staff as this look knows it. */
extern JanitorStaff *janitor_find_staff(JanitorRound *round, Oid owner);

/* Starts workers for whatever the look found wanting. */
extern void janitor_recruit(JanitorRound *round);

/* Frees the places of workers that ended before they came. */
extern void janitor_check_recruits(void);

/* Forgets that roles could not connect: something has changed. */
extern void janitor_forgive_owners(void);

#endif							/* JANITOR_DISPATCH_INTERNAL_H */
