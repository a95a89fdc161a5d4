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
 * the table: its rows are counted, cursor->handled is set, state becomes
 * JANITOR_CURSOR_DETACHED or JANITOR_CURSOR_DONE, and the row is written.
 *
 * false: it could not be had (locks; try rows instead), nothing is changed.
 * A detach that was left half-done, by this run or an earlier one, is
 * finished.
 */
extern bool janitor_partition_detach(const JanitorReadyRule *ready, Oid leaf,
									 JanitorHolds *holds,
									 JanitorCursor *cursor);

/*
 * Half-done detaches of partitions of this relation, by their OIDs: whatever
 * has left them there.
 */
extern List *janitor_partitions_pending(Oid relid);

/*
 * Drops the partitions of a job whose time has come (cursors in the state
 * JANITOR_CURSOR_DETACHED, older than their rule's drop_after), each in a
 * transaction of its own; outside a transaction.  A table that was attached
 * again, or is gone, is forgotten; one that is held (see hold.h) stays.
 * Returns how many it dropped.
 */
extern int	janitor_partitions_drop_detached(const JanitorJob *job,
											 List *rules, TimestampTz now);

#endif							/* JANITOR_PARTITION_H */
