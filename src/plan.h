/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  How the work of a rule is done and divided, leaf by leaf.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_PLAN_H
#define JANITOR_PLAN_H

#include "hold.h"
#include "rule.h"

/* How one leaf is worked on. */
typedef struct JanitorLeafPlan
{
	Oid			leaf;
	JanitorMethod method;
	double		rows;			/* expired, as the planner expects */
	double		total;			/* rows in the leaf, likewise */
	int64		blocks;			/* its size now */
	Oid			index;			/* that leads with the time column, or
								 * InvalidOid */
	const char *obstacle;		/* it is expired as a whole, but this keeps it
								 * from being detached; or NULL */
} JanitorLeafPlan;

/*
 * In a transaction, as the job's owner; `holds` as read in it.  In the
 * current context.  Changes nothing.
 */
extern void janitor_plan_leaf(const JanitorReadyRule *ready, Oid leaf,
							  JanitorHolds *holds, JanitorLeafPlan *plan);

/*
 * The slices of a leaf, as rows of job_cursor that are not inserted yet:
 * a list of JanitorCursor, with method, position, until and relation set;
 * empty if there is nothing to look at.
 */
extern List *janitor_plan_slices(const JanitorReadyRule *ready,
								 const JanitorLeafPlan *plan);

/* A btree index that leads with the column, for all rows; or InvalidOid. */
extern Oid	janitor_index_on(Oid leaf, AttrNumber column);

/* The file that a relation is in. */
extern Oid	janitor_relfilenode(Oid relid);

#endif							/* JANITOR_PLAN_H */
