/*-------------------------------------------------------------------------
 *
 * hold.c
 *	  Legal holds: rows that no rule may touch.
 *
 * Runs in the worker of a run, as the job's owner, and in functions that look
 * at what a run would do; janitor_hold_lock_exclusively() in the backend of
 * whoever places or releases a hold.
 *
 * The lock.  A sub-query on job_hold inside the batch's statement would not
 * do: a row that is changed while the batch waits for it is judged again, but
 * with the statement's old snapshot of everything else, and a hold placed
 * meanwhile would be missed.  So holds are part of the statement's text, and
 * a lock sees to it that they do not change as long as the transaction lasts:
 * shared by batches, exclusive for whoever places or releases a hold.  It is
 * an advisory lock tag of a class that the server does not use, as that of
 * jobs (definition.c), on the topmost relation above the one held, so that a
 * batch needs one for a table with all its partitions.  Batches never wait
 * for it, and queue behind whoever does.  The hold's transaction also keeps
 * all relations above its own from being attached elsewhere.
 *
 * The condition.  For a leaf it is true for the rows r that are held:
 * directly, or through a row that refers to them and would go, or change,
 * with them.  A reference is followed by
 *
 *	EXISTS (SELECT FROM (SELECT r.id AS k1) k
 *			WHERE EXISTS (SELECT FROM ONLY child r
 *						  WHERE k.k1 = r.parent_id AND held))
 *
 * where k carries the key over to a scope in which r is the child, as in the
 * predicates of its holds; nested for references to references.  Where these
 * can come back to where they were, a recursive query collects all rows that
 * can be reached, and looks whether one of them is held.  Either way a row
 * that is held directly by a predicate that is true, and only then: NULL does
 * not hold.
 *
 * Whose expressions these are.  Predicates of holds on the rule's relation
 * are its owner's, as are its triggers, and run with the rights of whoever
 * deletes.  Those of relations that only refer to it may be a stranger's, whom
 * nobody expects to run anything, and so may those of holds that were placed on
 * another owner's table of the same name: there a hold counts for all rows.  So does
 * each doubt: more is held, never less.
 *
 * What they mean.  Names in predicates were qualified when the hold was
 * placed; operators and functions of pg_catalog are not: the statement has to
 * be analysed with pg_catalog first.
 *
 * Memory: a JanitorHolds has two contexts below the one in which it began,
 * one for the graph, one for the holds read last.  On ERROR and FATAL there
 * is nothing to do.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "hold_internal.h"

#include "catalog/namespace.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/varlena.h"

#include "ledger.h"
#include "rule.h"

#define HOLD_LOCK_CLASS 8		/* see JOB_LOCK_CLASS in definition.c */

/* A hold in force on a relation of the graph. */
typedef struct InForce
{
	Oid			relid;
	char	   *predicate;		/* NULL: every row */
	char	   *reason;
	bool		trusted;		/* the predicate is its owner's */
} InForce;

struct JanitorHolds
{
	Oid			relid;
	bool		deletes;

	MemoryContext graph_context;
	JanitorHoldGraph *graph;
	List	   *roots;			/* OIDs, sorted: what is locked */
	uint64		graph_version;	/* of catalog_version */

	MemoryContext force_context;
	List	   *in_force;		/* of InForce; NIL: nothing is held */
	char	   *signature;		/* the same as text, to compare; NULL: not
								 * read yet */
	uint64		read_version;	/* of the graph, when they were read */
};

/* Counts what the relcache callback tells: the graph may be out of date. */
static uint64 catalog_version = 0;
static bool callback_registered = false;

/* --- which relations matter --- */

static void
count_change(Datum arg, Oid relid)
{
	catalog_version++;
}

List *
janitor_holds_relations(const JanitorHolds *holds)
{
	List	   *relids = NIL;
	ListCell   *cell;

	foreach(cell, holds->graph->nodes)
		relids = list_append_unique_oid(relids,
										((JanitorHoldNode *) lfirst(cell))->relid);
	return relids;
}

static void
make_graph(JanitorHolds *holds)
{
	MemoryContext caller = MemoryContextSwitchTo(holds->graph_context);

	MemoryContextReset(holds->graph_context);
	holds->graph_version = catalog_version;
	holds->graph = janitor_hold_graph(holds->relid, holds->deletes);
	holds->roots = janitor_hold_roots(janitor_holds_relations(holds));
	MemoryContextSwitchTo(caller);
}

JanitorHolds *
janitor_holds_begin(Oid relid, bool deletes)
{
	JanitorHolds *holds = palloc0(sizeof(JanitorHolds));

	if (!callback_registered)
		CacheRegisterRelcacheCallback(count_change, (Datum) 0);
	callback_registered = true;

	holds->relid = relid;
	holds->deletes = deletes;
	holds->graph_context = AllocSetContextCreate(CurrentMemoryContext,
												 "pg_janitor holds: relations",
												 ALLOCSET_SMALL_SIZES);
	holds->force_context = AllocSetContextCreate(CurrentMemoryContext,
												 "pg_janitor holds",
												 ALLOCSET_SMALL_SIZES);
	make_graph(holds);
	return holds;
}

/* --- locks --- */

static bool
take_lock(Oid root, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, root, HOLD_LOCK_CLASS);
	tag.locktag_lockmethodid = DEFAULT_LOCKMETHOD;
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * What has been changed up to now is in the graph; what is being changed has
 * locked what it changes against us, or comes too late for our statement.
 */
bool
janitor_holds_lock(JanitorHolds *holds)
{
	for (;;)
	{
		ListCell   *cell;

		AcceptInvalidationMessages();
		if (holds->graph_version != catalog_version)
			make_graph(holds);
		foreach(cell, holds->roots)
		{
			if (!take_lock(lfirst_oid(cell), ShareLock, false))
				return false;
		}
		AcceptInvalidationMessages();
		if (holds->graph_version == catalog_version)
			return true;
		CHECK_FOR_INTERRUPTS();
	}
}

void
janitor_holds_wait(JanitorHolds *holds)
{
	ListCell   *cell;

	foreach(cell, holds->roots)
		(void) take_lock(lfirst_oid(cell), ShareLock, true);
}

void
janitor_hold_lock_exclusively(Oid relid)
{
	List	   *locked = NIL;
	List	   *roots;
	ListCell   *cell;

	/* once all are locked, nothing above the relation can change any more */
	for (;;)
	{
		List	   *above = janitor_hold_above(relid);
		List	   *unlocked = list_difference_oid(above, locked);

		if (unlocked == NIL)
			break;
		foreach(cell, unlocked)
			LockRelationOid(lfirst_oid(cell), AccessShareLock);
		locked = above;
		CHECK_FOR_INTERRUPTS();
	}
	roots = janitor_hold_roots(list_make1_oid(relid));
	foreach(cell, roots)
		(void) take_lock(lfirst_oid(cell), ExclusiveLock, true);
}

/* --- the holds in force --- */

Oid
janitor_hold_relation_named(const char *relation)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(relation));
	Oid			schema;

	if (list_length(names) != 2)
		return InvalidOid;
	schema = get_namespace_oid(strVal(linitial(names)), true);
	return OidIsValid(schema) ?
		get_relname_relid(strVal(lsecond(names)), schema) : InvalidOid;
}

static bool
is_in_graph(const JanitorHoldGraph *graph, Oid relid)
{
	ListCell   *cell;

	foreach(cell, graph->nodes)
	{
		if (((JanitorHoldNode *) lfirst(cell))->relid == relid)
			return true;
	}
	return false;
}

/* What janitor_hold_scan() collects. */
typedef struct Collect
{
	JanitorHolds *holds;
	List	   *in_force;
	StringInfoData signature;
} Collect;

static void
add_in_force(Collect *collect, Oid relid, const JanitorHold *hold,
			 bool trusted)
{
	InForce    *one;

	if (!OidIsValid(relid) || !is_in_graph(collect->holds->graph, relid))
		return;
	one = palloc(sizeof(InForce));
	one->relid = relid;
	one->predicate = hold->predicate;
	one->reason = hold->reason;
	one->trusted = trusted;
	collect->in_force = lappend(collect->in_force, one);
	appendStringInfo(&collect->signature, "%u %d %s;", relid, trusted,
					 hold->predicate ? hold->predicate : "");
}

/* Has a relation the same owner as that which the hold was placed on? */
static bool
is_of_owner(const JanitorHold *hold, Oid relid)
{
	char	   *owner = OidIsValid(relid) ?
	GetUserNameFromId(janitor_relation_owner(relid), true) : NULL;

	return owner != NULL && strcmp(owner, hold->relation_owner) == 0;
}

/*
 * A hold belongs to the relation that has the name, and to the one that had
 * it when it was placed: a table may have been renamed.  Of one that came with
 * a dump only the name is known.
 */
static void
collect_hold(JanitorHold *hold, void *arg)
{
	Oid			named = janitor_hold_relation_named(hold->relation);

	if (hold->relation_oid != named)
		add_in_force(arg, named, hold, is_of_owner(hold, named));
	add_in_force(arg, hold->relation_oid, hold, true);
}

bool
janitor_holds_read(JanitorHolds *holds)
{
	MemoryContext context = AllocSetContextCreate(MemoryContextGetParent(holds->force_context),
												  "pg_janitor holds",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Collect		collect = {holds};
	bool		changed;

	initStringInfo(&collect.signature);
	janitor_hold_scan(collect_hold, &collect);
	MemoryContextSwitchTo(caller);

	changed = holds->signature == NULL ||
		strcmp(holds->signature, collect.signature.data) != 0 ||
		(collect.in_force != NIL &&
		 holds->read_version != holds->graph_version);
	if (!changed)
	{
		MemoryContextDelete(context);
		return false;
	}
	MemoryContextDelete(holds->force_context);
	holds->force_context = context;
	holds->in_force = collect.in_force;
	holds->signature = collect.signature.data;
	holds->read_version = holds->graph_version;
	return true;
}

bool
janitor_holds_any(const JanitorHolds *holds)
{
	return holds->in_force != NIL;
}

/* --- the condition --- */

static char *edge_condition(JanitorHolds *holds, JanitorHoldEdge *edge);

static void
add_term(StringInfo terms, const char *term)
{
	if (term == NULL)
		return;
	if (terms->len > 0)
		appendStringInfoString(terms, " OR ");
	appendStringInfoString(terms, term);
}

static char *
terms_or_null(StringInfo terms)
{
	return terms->len > 0 ? terms->data : NULL;
}

/* Rows r held directly, by holds on this very relation; NULL: none. */
static char *
own_holds(const JanitorHolds *holds, const JanitorHoldNode *node)
{
	StringInfoData terms;
	ListCell   *cell;

	initStringInfo(&terms);
	foreach(cell, holds->in_force)
	{
		InForce    *one = lfirst(cell);

		if (one->relid != node->relid)
			continue;
		if (one->predicate == NULL || !node->trusted || !one->trusted)
			add_term(&terms, "true");
		else
			add_term(&terms, psprintf("(%s) IS TRUE", one->predicate));
	}
	return terms_or_null(&terms);
}

/* The same with holds on the relations above it. */
static char *
direct_holds(const JanitorHolds *holds, const JanitorHoldNode *node,
			 bool above)
{
	StringInfoData terms;
	ListCell   *cell;

	initStringInfo(&terms);
	add_term(&terms, own_holds(holds, node));
	if (above)
	{
		foreach(cell, node->above)
			add_term(&terms, own_holds(holds, lfirst(cell)));
	}
	return terms_or_null(&terms);
}

/*
 * Rows r held in any way.  With `above`, also by holds on the relations above
 * it, and through references to these.
 */
static char *
node_condition(JanitorHolds *holds, JanitorHoldNode *node, bool above)
{
	StringInfoData terms;
	List	   *edges = above ? janitor_hold_edges(node, false) : node->edges;
	ListCell   *cell;

	initStringInfo(&terms);
	add_term(&terms, direct_holds(holds, node, above));
	foreach(cell, edges)
		add_term(&terms, edge_condition(holds, lfirst(cell)));
	return terms_or_null(&terms);
}

/*
 * A relation whose rows are looked at because they refer to others.  Row
 * security must not hide a row that is held.
 */
static const char *
from_item(const JanitorHoldNode *node)
{
	char	   *name = janitor_relation_name(node->relid);

	if (check_enable_rls(node->relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row security of table %s may hide rows that are held",
						name),
				 errhint("Let a role own the job that row security of the table does not apply to.")));
	return node->partitioned ? name : psprintf("ONLY %s", name);
}

/* `parent.key = child.key AND ...`; with parent NULL the keys are k.k1, ... */
static void
append_match(StringInfo buf, const JanitorHoldEdge *edge, const char *parent,
			 const char *child)
{
	for (int i = 0; i < edge->nkeys; i++)
	{
		char	   *left = parent ?
		psprintf("%s.%s", parent, edge->parent_columns[i]) :
		psprintf("k.k%d", i + 1);
		char	   *right = psprintf("%s.%s", child, edge->child_columns[i]);

		if (i > 0)
			appendStringInfoString(buf, " AND ");
		generate_operator_clause(buf, left, edge->parent_types[i],
								 edge->operators[i],
								 right, edge->child_types[i]);
	}
}

/* `EXISTS (SELECT FROM (SELECT r.key AS k1, ...) k WHERE `, to be closed */
static void
append_keys(StringInfo buf, const JanitorHoldEdge *edge)
{
	appendStringInfoString(buf, "EXISTS (SELECT FROM (SELECT ");
	for (int i = 0; i < edge->nkeys; i++)
		appendStringInfo(buf, "%sr.%s AS k%d", i > 0 ? ", " : "",
						 edge->parent_columns[i], i + 1);
	appendStringInfoString(buf, ") k WHERE ");
}

/* --- references that may come back to where they were --- */

/* Those whose rows can be reached from these by foreign keys, themselves too. */
static List *
reachable(JanitorHoldNode *node)
{
	List	   *nodes = list_make1(node);

	for (int i = 0; i < list_length(nodes); i++)
	{
		ListCell   *cell;

		foreach(cell, janitor_hold_edges(list_nth(nodes, i), true))
			nodes = list_append_unique_ptr(nodes,
										   ((JanitorHoldEdge *) lfirst(cell))->child);
	}
	return nodes;
}

/* From the rows of a relation at (w.o, w.t), as rows of `node`, to the next. */
static void
append_steps(StringInfo steps, const JanitorHoldNode *node,
			 const JanitorHoldNode *relation, List *edges)
{
	ListCell   *cell;

	foreach(cell, edges)
	{
		JanitorHoldEdge *edge = lfirst(cell);

		if (steps->len > 0)
			appendStringInfoString(steps, " UNION ALL ");
		appendStringInfo(steps,
						 "SELECT %d, c.tableoid, c.ctid FROM %s p, %s c WHERE w.n = %d AND p.tableoid = w.o AND p.ctid = w.t AND ",
						 edge->child->number, from_item(relation),
						 from_item(edge->child), node->number);
		append_match(steps, edge, "p", "c");
	}
}

/* Is the row of a relation at (w.o, w.t), as one of `node`, held? */
static void
add_reached(StringInfo terms, const JanitorHoldNode *node,
			const JanitorHoldNode *relation, const char *held)
{
	if (held != NULL)
		add_term(terms,
				 psprintf("w.n = %d AND EXISTS (SELECT FROM %s r WHERE r.tableoid = w.o AND r.ctid = w.t AND (%s))",
						  node->number, from_item(relation), held));
}

/*
 * w collects the rows that can be reached: as rows of which node, and where
 * they are.
 */
static char *
recursive_condition(JanitorHolds *holds, JanitorHoldEdge *edge)
{
	StringInfoData buf;
	StringInfoData steps;
	StringInfoData terms;
	ListCell   *cell;

	initStringInfo(&steps);
	initStringInfo(&terms);
	foreach(cell, reachable(edge->child))
	{
		JanitorHoldNode *node = lfirst(cell);
		ListCell   *lower;

		append_steps(&steps, node, node, janitor_hold_edges(node, false));
		add_reached(&terms, node, node, direct_holds(holds, node, true));
		foreach(lower, node->below)
		{
			JanitorHoldNode *relation = lfirst(lower);

			append_steps(&steps, node, relation, relation->edges);
			add_reached(&terms, node, relation, own_holds(holds, relation));
		}
	}
	if (terms.len == 0)
		return NULL;

	initStringInfo(&buf);
	append_keys(&buf, edge);
	appendStringInfo(&buf,
					 "EXISTS (WITH RECURSIVE w (n, o, t) AS (SELECT %d, r.tableoid, r.ctid FROM %s r WHERE ",
					 edge->child->number, from_item(edge->child));
	append_match(&buf, edge, NULL, "r");
	appendStringInfo(&buf,
					 " UNION SELECT s.n, s.o, s.t FROM w CROSS JOIN LATERAL (%s) s (n, o, t)) SELECT FROM w WHERE %s))",
					 steps.data, terms.data);
	return buf.data;
}

/* --- and those that cannot --- */

static void
add_referring(StringInfo terms, const JanitorHoldEdge *edge,
			  const JanitorHoldNode *relation, const char *held)
{
	StringInfoData buf;

	if (held == NULL)
		return;
	initStringInfo(&buf);
	append_keys(&buf, edge);
	appendStringInfo(&buf, "EXISTS (SELECT FROM %s r WHERE ",
					 from_item(relation));
	append_match(&buf, edge, NULL, "r");
	appendStringInfo(&buf, " AND (%s)))", held);
	add_term(terms, buf.data);
}

/* Rows r that are held through this foreign key; NULL: none. */
static char *
edge_condition(JanitorHolds *holds, JanitorHoldEdge *edge)
{
	JanitorHoldNode *child = edge->child;
	StringInfoData terms;
	ListCell   *cell;

	if (janitor_hold_is_cyclic(child))
		return recursive_condition(holds, edge);

	initStringInfo(&terms);
	add_referring(&terms, edge, child, node_condition(holds, child, true));
	foreach(cell, child->below)
	{
		JanitorHoldNode *relation = lfirst(cell);

		add_referring(&terms, edge, relation,
					  node_condition(holds, relation, false));
	}
	return terms_or_null(&terms);
}

char *
janitor_holds_condition(JanitorHolds *holds, Oid leaf)
{
	MemoryContext caller;
	JanitorHoldNode *node;

	if (holds->in_force == NIL)
		return NULL;
	caller = MemoryContextSwitchTo(holds->graph_context);
	node = janitor_hold_graph_leaf(holds->graph, leaf);
	MemoryContextSwitchTo(caller);
	return node_condition(holds, node, true);
}

char *
janitor_holds_condition_of(JanitorHolds *holds, Oid leaf, int n,
						   const char **reason)
{
	List	   *all = holds->in_force;
	InForce    *one;
	char	   *condition;

	*reason = NULL;
	if (n >= list_length(all))
		return NULL;
	one = list_nth(all, n);
	*reason = one->reason;
	holds->in_force = list_make1(one);
	condition = janitor_holds_condition(holds, leaf);
	holds->in_force = all;
	return condition;
}
