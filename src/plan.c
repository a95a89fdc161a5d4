/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  How the work of a rule is done and divided, leaf by leaf.
 *
 * Used by the worker of a retention run and by job_preview(), always as the
 * job's owner.  The server's planner says how many rows are expired; what it
 * says decides about the method only, never about a row.
 *
 *	  the bounds prove that all rows are expired	partition
 *	  few rows are expired, or they lie together,	keys
 *	  and an index leads with the time column
 *	  else											blocks
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "plan.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "partition.h"
#include "query.h"
#include "session.h"

/* Leaves up to this many blocks are simply read through. */
#define SMALL_BLOCKS 128

/*
 * Up to this part of a leaf, its expired rows are found by the index; up to
 * the larger one if rows lie in the order of the index.
 */
#define KEYS_FRACTION 0.1
#define KEYS_FRACTION_CORRELATED 0.5
#define CORRELATED 0.9

/* A slice is no smaller than this. */
#define SLICE_BLOCKS 512
#define SLICE_ROWS 50000

/* With helpers there are so many slices for each of the workers. */
#define SLICES_PER_WORKER 4

Oid
janitor_relfilenode(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	Oid			file = janitor_relation_file(rel);

	relation_close(rel, NoLock);
	return file;
}

static bool
index_serves(Oid index_oid, AttrNumber column)
{
	Relation	index = relation_open(index_oid, AccessShareLock);
	Form_pg_index form = index->rd_index;
	bool		serves = form->indisvalid && form->indisready &&
	index->rd_rel->relam == BTREE_AM_OID &&
	form->indkey.values[0] == column &&
	RelationGetIndexPredicate(index) == NIL;

	relation_close(index, AccessShareLock);
	return serves;
}

Oid
janitor_index_on(Oid leaf, AttrNumber column)
{
	Relation	rel = table_open(leaf, AccessShareLock);
	List	   *indexes = RelationGetIndexList(rel);
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		if (index_serves(lfirst_oid(cell), column))
		{
			found = lfirst_oid(cell);
			break;
		}
	}
	list_free(indexes);
	table_close(rel, NoLock);
	return found;
}

/* Do rows lie in the order of the column? */
static bool
is_correlated(Oid leaf, AttrNumber column)
{
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH,
										ObjectIdGetDatum(leaf),
										Int16GetDatum(column),
										BoolGetDatum(false));
	AttStatsSlot slot;
	bool		correlated = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_CORRELATION, InvalidOid,
						 ATTSTATSSLOT_NUMBERS))
	{
		correlated = slot.nnumbers > 0 &&
			(slot.numbers[0] > CORRELATED || slot.numbers[0] < -CORRELATED);
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return correlated;
}

/* The planner's opinion of a condition on the leaf. */
static double
estimate(const JanitorReadyRule *ready, Oid leaf, const char *held)
{
	Oid			types[JANITOR_QUERY_ARGS];
	int			count = janitor_rule_parameters(ready, JANITOR_RANGE_ALL,
												types);
	Datum		bound = ready->has_bound ? ready->bound : (Datum) 0;
	bool		isnull = !ready->has_bound;
	char	   *sql = psprintf("SELECT 1 %s",
							   janitor_rule_from_where(ready, leaf,
													   JANITOR_RANGE_ALL,
													   held));
	JanitorQuery *query = janitor_query_prepare(sql, count, types);
	double		rows = janitor_query_estimate(query, &bound, &isnull);

	janitor_query_free(query);
	return rows;
}

static JanitorMethod
choose_method(const JanitorReadyRule *ready, const JanitorLeafPlan *plan,
			  AttrNumber column)
{
	double		fraction = plan->rows / Max(plan->total, 1);

	if (!ready->has_bound || !OidIsValid(plan->index) ||
		plan->blocks <= SMALL_BLOCKS)
		return JANITOR_METHOD_BLOCKS;
	if (fraction <= KEYS_FRACTION ||
		(fraction <= KEYS_FRACTION_CORRELATED &&
		 is_correlated(plan->leaf, column)))
		return JANITOR_METHOD_KEYS;
	return JANITOR_METHOD_BLOCKS;
}

void
janitor_plan_leaf(const JanitorReadyRule *ready, Oid leaf,
				  JanitorHolds *holds, JanitorLeafPlan *plan)
{
	Relation	rel = table_open(leaf, AccessShareLock);
	AttrNumber	column = InvalidAttrNumber;

	MemSet(plan, 0, sizeof(JanitorLeafPlan));
	plan->leaf = leaf;
	plan->blocks = RelationGetNumberOfBlocks(rel);
	plan->total = rel->rd_rel->reltuples;
	table_close(rel, NoLock);

	if (ready->time_attno != 0)
		column = get_attnum(leaf, get_attname(ready->relid, ready->time_attno,
											  false));
	if (column != InvalidAttrNumber)
		plan->index = janitor_index_on(leaf, column);
	plan->rows = estimate(ready, leaf, janitor_holds_condition(holds, leaf));
	plan->total = Max(plan->total, plan->rows);

	if (janitor_partition_is_expired(ready, leaf))
	{
		plan->obstacle = janitor_partition_obstacle(ready, leaf, holds);
		if (plan->obstacle == NULL)
		{
			plan->method = JANITOR_METHOD_PARTITION;
			return;
		}
	}
	plan->method = choose_method(ready, plan, column);
}

/* --- slices --- */

static JanitorCursor *
new_slice(const JanitorReadyRule *ready, const JanitorLeafPlan *plan)
{
	JanitorCursor *cursor = palloc0(sizeof(JanitorCursor));

	cursor->job_name = ready->rule->job_name;
	cursor->rule = ready->rule->name;
	cursor->relation = janitor_relation_name(plan->leaf);
	cursor->relfilenode = janitor_relfilenode(plan->leaf);
	cursor->method = plan->method;
	return cursor;
}

static List *
slices_of_blocks(const JanitorReadyRule *ready, const JanitorLeafPlan *plan)
{
	int			workers = ready->rule->parallel;
	int64		count = workers > 1 ? workers * SLICES_PER_WORKER : 1;
	List	   *slices = NIL;

	count = Max(1, Min(count, plan->blocks / SLICE_BLOCKS));
	for (int64 i = 0; i < count; i++)
	{
		JanitorCursor *cursor = new_slice(ready, plan);

		if (i > 0)
			cursor->position = psprintf(INT64_FORMAT, plan->blocks * i / count);
		cursor->until = psprintf(INT64_FORMAT,
								 plan->blocks * (i + 1) / count);
		slices = lappend(slices, cursor);
	}
	return slices;
}

/* Collects keys as text, in the current context. */
static void
collect_key(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	List	  **keys = arg;
	Oid			output;
	bool		varlena;
	int			level = janitor_settings_neutral();

	getTypeOutputInfo(TupleDescAttr(desc, 0)->atttypid, &output, &varlena);
	*keys = lappend(*keys, OidOutputFunctionCall(output, values[0]));
	janitor_settings_restore(level);
}

/* Every n-th expired key, by the index. */
static List *
dividing_keys(const JanitorReadyRule *ready, const JanitorLeafPlan *plan,
			  int64 every)
{
	char	   *column = ready->time_column;
	char	   *sql;
	Oid			types[2] = {ready->bound_type, INT8OID};
	Datum		values[2] = {ready->bound, Int64GetDatum(every)};
	JanitorQuery *query;
	List	   *keys = NIL;

	sql = psprintf("SELECT DISTINCT k FROM (SELECT r.%s, pg_catalog.row_number() OVER (ORDER BY r.%s) FROM ONLY %s r WHERE r.%s OPERATOR(pg_catalog.<) $1) r (k, n) WHERE n OPERATOR(pg_catalog.%%) $2 OPERATOR(pg_catalog.=) 0 ORDER BY k",
				   column, column, janitor_relation_name(plan->leaf), column);
	query = janitor_query_prepare(sql, 2, types);
	(void) janitor_query_each(query, values, NULL, 0, collect_key, &keys);
	janitor_query_free(query);
	return keys;
}

static List *
slices_of_keys(const JanitorReadyRule *ready, const JanitorLeafPlan *plan)
{
	int64		count = ready->rule->parallel * SLICES_PER_WORKER;
	List	   *slices = NIL;
	char	   *position = NULL;
	JanitorCursor *cursor;

	if (ready->rule->parallel > 1 && plan->rows >= 2 * SLICE_ROWS)
	{
		ListCell   *cell;
		List	   *keys = dividing_keys(ready, plan,
										 Max(SLICE_ROWS, (int64) plan->rows / count));

		foreach(cell, keys)
		{
			cursor = new_slice(ready, plan);
			cursor->position = position;
			cursor->until = position = lfirst(cell);
			slices = lappend(slices, cursor);
		}
	}
	cursor = new_slice(ready, plan);
	cursor->position = position;
	return lappend(slices, cursor);
}

List *
janitor_plan_slices(const JanitorReadyRule *ready,
					const JanitorLeafPlan *plan)
{
	switch (plan->method)
	{
		case JANITOR_METHOD_PARTITION:
			return list_make1(new_slice(ready, plan));
		case JANITOR_METHOD_KEYS:
			return slices_of_keys(ready, plan);
		case JANITOR_METHOD_BLOCKS:
		case JANITOR_METHOD_ITEMS:
			break;
	}
	return plan->blocks == 0 ? NIL : slices_of_blocks(ready, plan);
}
