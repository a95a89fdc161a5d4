/*-------------------------------------------------------------------------
 *
 * partition.h
 *	  Partitions that are expired as a whole.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_PARTITION_H
#define JANITOR_PARTITION_H

#include "hold.h"
#include "rule.h"

/*
 * Do the bounds of this leaf prove that every row in it is expired?
 */
extern bool janitor_partition_is_expired(const JanitorReadyRule *ready,
										 Oid leaf);

/*
 * Why such a leaf cannot be detached as a whole, for people (holds, triggers
 * on delete, inbound foreign keys, ownership, the rule says rows, the action
 * is not delete); NULL: it can be.  `holds` as read in this transaction.
 */
extern const char *janitor_partition_obstacle(const JanitorReadyRule *ready,
											  Oid leaf, JanitorHolds *holds);

/*
 * Detaches (or detaches and drops) one leaf and records it in its cursor, all
 * in transactions of its own: called outside a transaction, returns outside
 * one.  The cursor's row exists and is open.  In the transaction that leaves
 * the table: its rows are counted and added to cursor->handled, state becomes
 * JANITOR_CURSOR_DETACHED or JANITOR_CURSOR_DONE, and the row is written.
 * Whatever the cursor gets points into the current context.
 *
 * false: it could not be had (locks, a hold; try rows instead), nothing is
 * changed.  true, and the cursor is still open: it is half-done, its rows are
 * gone from the parent but not counted yet; the next call, of this run or a
 * later one, with the same row of job_cursor, goes on.  So an open cursor
 * with a position has to be kept.
 */
extern bool janitor_partition_detach(const JanitorReadyRule *ready, Oid leaf,
									 JanitorHolds *holds,
									 JanitorCursor *cursor);

/*
 * The partition that a slice is about: by its OID once its detach has begun,
 * else by its name.  InvalidOid: it is gone, which janitor_partition_detach()
 * has to be told.
 */
extern Oid	janitor_partition_find(const JanitorCursor *cursor);

/*
 * Half-done detaches of partitions of this relation, by their OIDs: whatever
 * has left them there.
 */
extern List *janitor_partitions_pending(Oid relid);

/*
 * Drops the partitions of a job whose time has come (cursors in the state
 * JANITOR_CURSOR_DETACHED, older than their rule's drop_after), each in a
 * transaction of its own; outside a transaction.  A table that was attached
 * again, is gone, or is not as it was left (another name, owner or file) is
 * forgotten: its cursor is done.  One that is held, by itself or with the
 * relation of the rule, stays, and so does one whose rule is gone.  Returns
 * how many it dropped.
 */
extern int	janitor_partitions_drop_detached(const JanitorJob *job,
											 List *rules, TimestampTz now);

#endif							/* JANITOR_PARTITION_H */
