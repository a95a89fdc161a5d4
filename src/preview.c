/*-------------------------------------------------------------------------
 *
 * preview.c
 *	  What a rule would do now.
 *
 * Runs in the backend of whoever asks, as the job's owner (janitor_as_role):
 * it goes through the same readiness, plan and conditions as a run does, and
 * takes no lock but those of SELECT.  Nothing is changed.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "preview.h"

#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "advice.h"
#include "discreet.h"
#include "hold_internal.h"
#include "query.h"

/* References are followed so far. */
#define CASCADE_DEPTH 5

/* A rule on one leaf after the other. */
typedef struct Leaf
{
	const JanitorReadyRule *ready;
	JanitorHolds *holds;
	JanitorHoldGraph *graph;
	Oid			oid;
	bool		exact;
	List	   *advice;
	List	   *result;			/* of JanitorPreview */
	int			nargs;
	Oid			types[JANITOR_QUERY_ARGS];
	Datum		values[JANITOR_QUERY_ARGS];
	bool		nulls[JANITOR_QUERY_ARGS];
} Leaf;

static char *
from_where(const Leaf *leaf, const char *held)
{
	return janitor_rule_from_where(leaf->ready, leaf->oid, JANITOR_RANGE_ALL,
								   held);
}

/* How many rows `SELECT 1 ...` has: counted, or as the planner expects. */
static int64
rows_of(Leaf *leaf, const char *from)
{
	JanitorQuery *query;
	Datum		count;
	bool		isnull;
	int64		rows;

	query = janitor_query_prepare(psprintf(leaf->exact ?
										   "SELECT pg_catalog.count(*) %s" :
										   "SELECT 1 %s", from),
								  leaf->nargs, leaf->types);
	if (!leaf->exact)
		rows = (int64) janitor_query_estimate(query, leaf->values,
											  leaf->nulls);
	else
	{
		(void) janitor_query_row(query, leaf->values, leaf->nulls, 1, &count,
								 &isnull);
		rows = DatumGetInt64(count);
	}
	janitor_query_free(query);
	return rows;
}

/* --- cascades --- */

static char *
operator_name(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("OPERATOR(%s.%s)",
					quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

/* parent.k1 = child.fk1 AND ... */
static char *
join_condition(const JanitorHoldEdge *edge, const char *parent,
			   const char *child)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < edge->nkeys; i++)
		appendStringInfo(&text, "%s%s.%s %s %s.%s", i > 0 ? " AND " : "",
						 parent, edge->parent_columns[i],
						 operator_name(edge->operators[i]),
						 child, edge->child_columns[i]);
	return text.data;
}

/*
 * Adds the rows that refer to the rows of a node; `parents` is what selects
 * these: FROM and WHERE, its alias `alias`.  false: somewhere we may not look.
 */
static bool
add_cascades(Leaf *leaf, JanitorHoldNode *node, const char *parents,
			 const char *alias, int depth, int64 *rows)
{
	ListCell   *cell;

	if (depth > CASCADE_DEPTH)
		return false;
	foreach(cell, janitor_hold_edges(node, false))
	{
		JanitorHoldEdge *edge = lfirst(cell);
		char	   *child = psprintf("c%d", depth);
		char	   *from;

		if (!edge->child->deletes || edge->child == node)
			continue;
		if (!janitor_relation_readable(edge->child->relid))
			return false;
		from = psprintf("FROM %s %s WHERE EXISTS (SELECT %s AND %s)",
						janitor_relation_name(edge->child->relid), child,
						parents, join_condition(edge, alias, child));
		*rows += rows_of(leaf, from);
		if (!add_cascades(leaf, edge->child, from, child, depth + 1, rows))
			return false;
	}
	return true;
}

static int64
count_cascades(Leaf *leaf, const char *held)
{
	JanitorAction action = leaf->ready->rule->action;
	int64		rows = 0;

	if (action != JANITOR_DELETE && action != JANITOR_ARCHIVE)
		return 0;
	if (!add_cascades(leaf, janitor_hold_graph_leaf(leaf->graph, leaf->oid),
					  from_where(leaf, held), "r", 1, &rows))
		return -1;
	return rows;
}

/* --- a leaf --- */

/* The first expired value of the time column in an order, as text. */
static char *
first_time(Leaf *leaf, const char *held, const char *order)
{
	char	   *column = leaf->ready->time_column;
	JanitorQuery *query;
	Datum		value;
	bool		isnull = true;
	bool		found;

	query = janitor_query_prepare(psprintf("SELECT r.%s::pg_catalog.text %s ORDER BY r.%s %s LIMIT 1",
										   column, from_where(leaf, held),
										   column, order),
								  leaf->nargs, leaf->types);
	found = janitor_query_row(query, leaf->values, leaf->nulls, 1, &value,
							  &isnull);
	janitor_query_free(query);
	return found && !isnull ? TextDatumGetCString(value) : NULL;
}

static char *
join_warnings(const JanitorLeafPlan *plan, List *advice)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	if (plan->obstacle != NULL)
		appendStringInfo(&text, "not detached as a whole: %s", plan->obstacle);
	foreach(cell, advice)
	{
		if (text.len > 0)
			appendStringInfoChar(&text, '\n');
		appendStringInfoString(&text, lfirst(cell));
	}
	return text.len > 0 ? text.data : NULL;
}

static JanitorPreview *
preview_leaf(Leaf *leaf)
{
	const JanitorReadyRule *ready = leaf->ready;
	JanitorPreview *preview = palloc0(sizeof(JanitorPreview));
	char	   *held = janitor_holds_condition(leaf->holds, leaf->oid);
	JanitorLeafPlan plan;

	janitor_plan_leaf(ready, leaf->oid, leaf->holds, &plan);
	preview->rule = ready->rule->name;
	preview->action = janitor_action_name(ready->rule->action);
	preview->relation = janitor_relation_name(leaf->oid);
	preview->method = janitor_method_name(plan.method);
	preview->cutoff = ready->cutoff;
	preview->rows = rows_of(leaf, from_where(leaf, held));
	if (held != NULL)
		preview->held = Max(0, rows_of(leaf, from_where(leaf, NULL)) -
							preview->rows);
	preview->cascaded = count_cascades(leaf, held);
	if (OidIsValid(plan.index))
		preview->index = get_rel_name(plan.index);
	if (ready->time_column != NULL && (leaf->exact || OidIsValid(plan.index)))
	{
		preview->oldest = first_time(leaf, held, "ASC");
		preview->newest = first_time(leaf, held, "DESC");
	}
	preview->warnings = join_warnings(&plan, leaf->advice);
	leaf->advice = NIL;			/* once */
	return preview;
}

static void
preview_leaves(void *arg)
{
	Leaf	   *leaf = arg;
	ListCell   *cell;

	foreach(cell, janitor_relation_leaves(leaf->ready->relid))
	{
		leaf->oid = lfirst_oid(cell);
		leaf->result = lappend(leaf->result, preview_leaf(leaf));
	}
}

List *
janitor_preview_rule(const JanitorRule *rule, const JanitorJob *job,
					 TimestampTz now, bool exact)
{
	JanitorReadyRule *ready = janitor_rule_ready(rule, job, now);
	bool		deletes = rule->action == JANITOR_DELETE ||
	rule->action == JANITOR_ARCHIVE;
	Leaf		leaf = {.ready = ready,.exact = exact};

	leaf.advice = janitor_advice(ready);
	leaf.holds = janitor_holds_begin(ready->relid, deletes);
	(void) janitor_holds_read(leaf.holds);
	leaf.graph = janitor_hold_graph(ready->relid, deletes);
	leaf.nargs = janitor_rule_parameters(ready, JANITOR_RANGE_ALL, leaf.types);
	leaf.values[0] = ready->has_bound ? ready->bound : (Datum) 0;
	leaf.nulls[0] = !ready->has_bound;
	if (rule->action == JANITOR_ANONYMIZE)
		janitor_discreetly(preview_leaves, &leaf);
	else
		preview_leaves(&leaf);
	return leaf.result;
}
