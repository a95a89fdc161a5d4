/*-------------------------------------------------------------------------
 *
 * hold.h
 *	  Legal holds: rows that no rule may touch.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_HOLD_H
#define JANITOR_HOLD_H

#include "compat.h"

#include "nodes/pg_list.h"

/*
 * The holds that a statement on one relation has to respect: those on the
 * relation itself, its parents and its partitions, and those on relations
 * whose rows an ON DELETE CASCADE would take along (followed to any depth;
 * ON DELETE SET NULL and SET DEFAULT change rows too, and count).
 *
 * Who places a hold takes the lock of its relation exclusively, until the end
 * of his transaction.  A batch takes the locks of all relations that matter
 * in share mode, without waiting, and only then reads the holds: a hold that
 * has been committed is respected by every batch that begins after that, and
 * none is in between.
 */
typedef struct JanitorHolds JanitorHolds;

/*
 * Which relations matter for deletes (or, `deletes` false, updates) on this
 * one; in the current context.  Computed once a run.
 */
extern JanitorHolds *janitor_holds_begin(Oid relid, bool deletes);

/*
 * In the batch's transaction, first of all: takes the locks, until its end.
 * false: somebody is placing or releasing a hold; end the transaction, call
 * janitor_holds_wait(), and begin anew.
 */
extern bool janitor_holds_lock(JanitorHolds *holds);

/*
 * Waits, in a transaction that does nothing else, until whoever it is has
 * finished.
 */
extern void janitor_holds_wait(JanitorHolds *holds);

/*
 * With the locks: reads the holds in force.  true: they differ from those of
 * the last call (or it is the first one), so that the statements have to be
 * made anew.
 */
extern bool janitor_holds_read(JanitorHolds *holds);

/*
 * The condition that is true for the rows r of a leaf that are held, as read
 * last; NULL: there are none.
 */
extern char *janitor_holds_condition(JanitorHolds *holds, Oid leaf);

/*
 * The same of one of the holds, the n-th from 0, with its reason; NULL: it is
 * on no row of the leaf, or (*reason NULL) there are no more.
 */
extern char *janitor_holds_condition_of(JanitorHolds *holds, Oid leaf, int n,
										const char **reason);

/* The relations that matter, a copy of the list. */
extern List *janitor_holds_relations(const JanitorHolds *holds);

/* Is there any hold on these relations, as read last? */
extern bool janitor_holds_any(const JanitorHolds *holds);

/*
 * The relation that has the qualified name of a hold now, InvalidOid if there
 * is none.  No privilege is checked.
 */
extern Oid	janitor_hold_relation_named(const char *relation);

/* Locks a relation against batches; by whoever places or releases a hold. */
extern void janitor_hold_lock_exclusively(Oid relid);

#endif							/* JANITOR_HOLD_H */
