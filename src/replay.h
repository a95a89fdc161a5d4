/*-------------------------------------------------------------------------
 *
 * replay.h
 *	  Who has to be erased again after a restore.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_REPLAY_H
#define JANITOR_REPLAY_H

#include "compat.h"

#include "utils/hsearch.h"

#include "definition.h"
#include "receipt.h"

/*
 * The query for everybody who may be a subject of an items job, as it is
 * given or as it follows from its items query; an error if neither.  In the
 * job's search_path, as its owner.
 */
extern const char *janitor_replay_query(const JanitorJob *job);

/*
 * Can it stand for the items query?  Errors say why not.  Likewise; for a
 * definition.
 */
extern void janitor_replay_check(const JanitorJob *job);

/* Subjects whose receipts are newer than the data, by their digests. */
typedef struct JanitorReplaySet
{
	const char *job_name;
	List	   *replays;		/* of JanitorReplay, those to be done */
	HTAB	   *sought;			/* digests */
	List	   *keys;			/* of JanitorReceiptKey */
} JanitorReplaySet;

/*
 * Reads them, into the current context.  An error if a key that their receipts
 * were made with is not here; it stays until the end of the transaction.
 */
extern JanitorReplaySet *janitor_replay_read(const char *job_name);

/* Is it one of them? */
extern bool janitor_replay_seeks(const JanitorReplaySet *set,
								 const char *item_key);

/* Forgets the keys: nobody is sought any more. */
extern void janitor_replay_wipe(JanitorReplaySet *set);

/* All of them have been erased again, by this run. */
extern void janitor_replay_done(const JanitorReplaySet *set,
								int64 execution_id);

#endif							/* JANITOR_REPLAY_H */
