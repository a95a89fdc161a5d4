/*-------------------------------------------------------------------------
 *
 * hold_internal.h
 *	  Which relations matter for holds: what hold_graph.c finds out for hold.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_HOLD_INTERNAL_H
#define JANITOR_HOLD_INTERNAL_H

#include "hold.h"

typedef struct JanitorHoldNode JanitorHoldNode;

/* A foreign key by which a change of one row reaches others. */
typedef struct JanitorHoldEdge
{
	JanitorHoldNode *child;		/* whose rows it reaches */
	int			nkeys;
	char	  **parent_columns; /* quoted */
	char	  **child_columns;
	Oid		   *parent_types;
	Oid		   *child_types;
	Oid		   *operators;		/* parent = child */
} JanitorHoldEdge;

/* A relation whose rows may be deleted, or (deletes false) only changed. */
struct JanitorHoldNode
{
	int			number;
	Oid			relid;
	bool		deletes;

	/*
	 * May its owner's expressions run with our rights?  So may those of the
	 * owner of the relation that the rule is for, whose triggers do too, but
	 * not those of whoever has just a foreign key to it.
	 */
	bool		trusted;
	bool		partitioned;
	List	   *above;			/* nodes of its parents, to the topmost */
	List	   *below;			/* nodes of its partitions, to the leaves; of
								 * its children too if the rule is for it */
	List	   *edges;			/* foreign keys that name this very relation */

	/* for the search for cycles */
	enum
	{
		JANITOR_NODE_UNKNOWN,
		JANITOR_NODE_IN_SEARCH,
		JANITOR_NODE_ACYCLIC,
		JANITOR_NODE_CYCLIC
	}			cycles;
};

typedef struct JanitorHoldGraph
{
	List	   *nodes;			/* the first is that of the rule's relation */
	List	   *keys;			/* the foreign keys of this database */
	Oid			owner;			/* of the rule's relation */
} JanitorHoldGraph;

/* In the current context, as everything that is added to it later. */
extern JanitorHoldGraph *janitor_hold_graph(Oid relid, bool deletes);

/* The node of a leaf of the rule's relation. */
extern JanitorHoldNode *janitor_hold_graph_leaf(JanitorHoldGraph *graph,
												Oid leaf);

/* A relation and all above it. */
extern List *janitor_hold_above(Oid relid);

/*
 * The topmost relations above those in the list, sorted: the locks of holds
 * are taken on these.
 */
extern List *janitor_hold_roots(List *relids);

/*
 * Foreign keys to the rows of a node: those that name it or something above
 * it, and, with `below`, its partitions.
 */
extern List *janitor_hold_edges(JanitorHoldNode *node, bool below);

/* Can rows of a node reach rows that reach themselves again? */
extern bool janitor_hold_is_cyclic(JanitorHoldNode *node);

#endif							/* JANITOR_HOLD_INTERNAL_H */
