/*-------------------------------------------------------------------------
 *
 * hold_graph.c
 *	  Which relations matter for holds.
 *
 * The rows of a relation are held by holds on it, on its parents and on its
 * partitions; and by holds on rows that would go with them, or change, by
 * ON DELETE or ON UPDATE actions of foreign keys.  This file follows both
 * through the catalogs and makes of it a graph: nodes are relations, edges
 * are foreign keys.
 *
 * A foreign key stands in the catalogs once for each partition on either
 * side; only the one that was declared counts here, since rows of partitions
 * are found through their parents.  Partitions whose detachment is pending
 * are still counted with their parents.
 *
 * Runs inside a transaction, in the worker of a run or in a function that
 * looks what a run would do; takes no locks on what it looks up.  The graph is
 * made anew when the server says that any relation has changed, see hold.c.
 * Memory: the context that was current when the graph was made, or when it
 * was asked for a leaf.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "hold_internal.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "rule.h"

/* A foreign key that does something to the rows that refer to a row. */
typedef struct ForeignKey
{
	Oid			child;
	Oid			parent;
	char		on_delete;
	char		on_update;
	int			nkeys;
	AttrNumber	child_columns[INDEX_MAX_KEYS];
	AttrNumber	parent_columns[INDEX_MAX_KEYS];
	Oid			operators[INDEX_MAX_KEYS];
} ForeignKey;

/* --- the catalogs --- */

static bool
acts(char action)
{
	return action == FKCONSTR_ACTION_CASCADE ||
		action == FKCONSTR_ACTION_SETNULL ||
		action == FKCONSTR_ACTION_SETDEFAULT;
}

static ForeignKey *
foreign_key(HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	ForeignKey *key = palloc0(sizeof(ForeignKey));

	key->child = form->conrelid;
	key->parent = form->confrelid;
	key->on_delete = form->confdeltype;
	key->on_update = form->confupdtype;
	DeconstructFkConstraintRow(tuple, &key->nkeys, key->child_columns,
							   key->parent_columns, key->operators,
							   NULL, NULL, NULL, NULL);
	return key;
}

/* Those that were declared, not their shadows on partitions. */
static List *
foreign_keys(void)
{
	Relation	rel = table_open(ConstraintRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL,
										  0, NULL);
	List	   *keys = NIL;
	HeapTuple	tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

		if (form->contype == CONSTRAINT_FOREIGN &&
			!OidIsValid(form->conparentid) &&
			(acts(form->confdeltype) || acts(form->confupdtype)))
			keys = lappend(keys, foreign_key(tuple));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return keys;
}

/* The direct parents, or children, by pg_inherits; pending ones too. */
static List *
relatives(Oid relid, bool up)
{
	Relation	rel = table_open(InheritsRelationId, AccessShareLock);
	List	   *result = NIL;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, up ? Anum_pg_inherits_inhrelid :
				Anum_pg_inherits_inhparent,
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, up ? InheritsRelidSeqnoIndexId :
							  InheritsParentIndexId, true, NULL, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_inherits form = (Form_pg_inherits) GETSTRUCT(tuple);

		result = lappend_oid(result, up ? form->inhparent : form->inhrelid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* All of them, to the topmost, or to the leaves; without itself. */
static List *
all_relatives(Oid relid, bool up)
{
	List	   *result = relatives(relid, up);

	/* the list grows while we walk it */
	for (int i = 0; i < list_length(result); i++)
		result = list_concat_unique_oid(result,
										relatives(list_nth_oid(result, i),
												  up));
	return result;
}

List *
janitor_hold_above(Oid relid)
{
	return lcons_oid(relid, all_relatives(relid, true));
}

List *
janitor_hold_roots(List *relids)
{
	List	   *roots = NIL;
	ListCell   *cell;

	foreach(cell, relids)
	{
		ListCell   *upper;

		foreach(upper, janitor_hold_above(lfirst_oid(cell)))
		{
			if (relatives(lfirst_oid(upper), true) == NIL)
				roots = list_append_unique_oid(roots, lfirst_oid(upper));
		}
	}
	list_sort(roots, list_oid_cmp);
	return roots;
}

/* --- nodes and edges --- */

static bool
is_trusted(const JanitorHoldGraph *graph, Oid relid)
{
	Oid			owner = janitor_relation_owner(relid);

	return owner == graph->owner || owner == GetUserId() ||
		superuser_arg(owner);
}

/* The node of a relation; a new one has no neighbours yet. */
static JanitorHoldNode *
get_node(JanitorHoldGraph *graph, Oid relid, bool deletes)
{
	JanitorHoldNode *node;
	ListCell   *cell;

	foreach(cell, graph->nodes)
	{
		node = lfirst(cell);
		if (node->relid == relid && node->deletes == deletes)
			return node;
	}
	node = palloc0(sizeof(JanitorHoldNode));
	node->number = list_length(graph->nodes);
	node->relid = relid;
	node->deletes = deletes;
	node->trusted = is_trusted(graph, relid);
	node->partitioned = get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE;
	graph->nodes = lappend(graph->nodes, node);
	return node;
}

static List *
get_nodes(JanitorHoldGraph *graph, List *relids, bool deletes, bool trusted)
{
	List	   *nodes = NIL;
	ListCell   *cell;

	foreach(cell, relids)
	{
		JanitorHoldNode *node = get_node(graph, lfirst_oid(cell), deletes);

		node->trusted |= trusted;
		nodes = lappend(nodes, node);
	}
	return nodes;
}

static JanitorHoldEdge *
make_edge(JanitorHoldGraph *graph, const ForeignKey *key, bool deletes)
{
	JanitorHoldEdge *edge = palloc(sizeof(JanitorHoldEdge));

	edge->child = get_node(graph, key->child, deletes);
	edge->nkeys = key->nkeys;
	edge->parent_columns = palloc(key->nkeys * sizeof(char *));
	edge->child_columns = palloc(key->nkeys * sizeof(char *));
	edge->parent_types = palloc(key->nkeys * sizeof(Oid));
	edge->child_types = palloc(key->nkeys * sizeof(Oid));
	edge->operators = palloc(key->nkeys * sizeof(Oid));
	for (int i = 0; i < key->nkeys; i++)
	{
		AttrNumber	parent = key->parent_columns[i];
		AttrNumber	child = key->child_columns[i];

		edge->parent_columns[i] = pstrdup(quote_identifier(get_attname(key->parent, parent, false)));
		edge->child_columns[i] = pstrdup(quote_identifier(get_attname(key->child, child, false)));
		edge->parent_types[i] = get_atttype(key->parent, parent);
		edge->child_types[i] = get_atttype(key->child, child);
		edge->operators[i] = key->operators[i];
	}
	return edge;
}

/* What a delete or an update of the node's rows does to others. */
static void
find_edges(JanitorHoldGraph *graph, JanitorHoldNode *node)
{
	ListCell   *cell;

	foreach(cell, graph->keys)
	{
		ForeignKey *key = lfirst(cell);
		char		action = node->deletes ? key->on_delete : key->on_update;

		if (key->parent == node->relid && acts(action) &&
			SearchSysCacheExists1(RELOID, ObjectIdGetDatum(key->child)))
			node->edges = lappend(node->edges,
								  make_edge(graph, key, node->deletes &&
											action == FKCONSTR_ACTION_CASCADE));
	}
}

/*
 * A node's neighbours, which may be new nodes.  Foreign keys of a parent that
 * is not partitioned do not concern its children.
 */
static void
explore(JanitorHoldGraph *graph, JanitorHoldNode *node, bool children,
		bool trusted)
{
	node->above = get_nodes(graph, all_relatives(node->relid, true),
							node->deletes, trusted);
	if (node->partitioned || children)
		node->below = get_nodes(graph, all_relatives(node->relid, false),
								node->deletes, trusted);
	find_edges(graph, node);
}

/* Explores all nodes from a number on, also those that this adds. */
static void
explore_rest(JanitorHoldGraph *graph, int from)
{
	for (int i = from; i < list_length(graph->nodes); i++)
		explore(graph, list_nth(graph->nodes, i), false, false);
}

JanitorHoldGraph *
janitor_hold_graph(Oid relid, bool deletes)
{
	JanitorHoldGraph *graph = palloc0(sizeof(JanitorHoldGraph));
	JanitorHoldNode *node;

	graph->owner = janitor_relation_owner(relid);
	graph->keys = foreign_keys();
	node = get_node(graph, relid, deletes);
	explore(graph, node, true, true);
	explore_rest(graph, 1);
	return graph;
}

JanitorHoldNode *
janitor_hold_graph_leaf(JanitorHoldGraph *graph, Oid leaf)
{
	JanitorHoldNode *first = linitial(graph->nodes);
	int			known = list_length(graph->nodes);
	JanitorHoldNode *node = get_node(graph, leaf, first->deletes);

	if (node->number >= known)
		explore_rest(graph, known);
	return node;
}

/* --- walking it --- */

List *
janitor_hold_edges(JanitorHoldNode *node, bool below)
{
	List	   *edges = list_copy(node->edges);
	ListCell   *cell;

	foreach(cell, node->above)
	{
		JanitorHoldNode *upper = lfirst(cell);

		if (upper->partitioned)
			edges = list_concat(edges, upper->edges);
	}
	if (below)
	{
		foreach(cell, node->below)
			edges = list_concat(edges, ((JanitorHoldNode *) lfirst(cell))->edges);
	}
	return edges;
}

bool
janitor_hold_is_cyclic(JanitorHoldNode *node)
{
	ListCell   *cell;

	if (node->cycles == JANITOR_NODE_IN_SEARCH)
		return true;
	if (node->cycles != JANITOR_NODE_UNKNOWN)
		return node->cycles == JANITOR_NODE_CYCLIC;

	node->cycles = JANITOR_NODE_IN_SEARCH;
	foreach(cell, janitor_hold_edges(node, true))
	{
		JanitorHoldEdge *edge = lfirst(cell);

		if (janitor_hold_is_cyclic(edge->child))
		{
			node->cycles = JANITOR_NODE_CYCLIC;
			return true;
		}
	}
	node->cycles = JANITOR_NODE_ACYCLIC;
	return false;
}
