/*-------------------------------------------------------------------------
 *
 * advice.c
 *	  What a rule would do now, and what should be known about it.
 *
 * For definitions and previews.  Counting reads the tables, with the rule's
 * own condition, as the current user, who is the job's owner; where that would
 * take long it is left to the planner's estimate.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "advice.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "nodes/parsenodes.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "query.h"
#include "rule_internal.h"

/*
 * Rows are counted in tables of few pages, which the planner knows little of,
 * and where it thinks that this costs no more than reading some 60,000 pages.
 * From so many rows on an index is worth having.
 */
#define BLOCKS_COUNTED 20
#define COST_COUNTED 60000
#define ROWS_WORTH_INDEX 10000

/* --- how many rows --- */

/* The only parameter of a range over everything: the bound. */
static JanitorQuery *
prepare(const JanitorReadyRule *ready, const char *sql)
{
	Oid			types[JANITOR_QUERY_ARGS];
	int			count = janitor_rule_parameters(ready, JANITOR_RANGE_ALL,
												types);

	return janitor_query_prepare(sql, count, types);
}

static Datum
value_of(const JanitorReadyRule *ready, const char *sql)
{
	JanitorQuery *query = prepare(ready, sql);
	bool		isnull = !ready->has_bound;
	Datum		value = ready->bound;
	Datum		result;
	bool		result_null;

	if (!janitor_query_row(query, &value, &isnull, 1, &result, &result_null) ||
		result_null)
		elog(ERROR, "query returned no value");
	janitor_query_free(query);
	return result;
}

static int64
count_leaf(const JanitorReadyRule *ready, Oid leaf)
{
	return DatumGetInt64(value_of(ready,
								  psprintf("SELECT pg_catalog.count(*)%s",
										   janitor_rule_from_where(ready, leaf,
																   JANITOR_RANGE_ALL,
																   NULL))));
}

typedef struct Estimate
{
	int64		blocks;
	double		rows;
	double		cost;
} Estimate;

static int64
blocks_of(Oid leaf)
{
	Relation	rel = table_open(leaf, AccessShareLock);
	int64		blocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, NoLock);
	return blocks;
}

/* The first number of that name in the planner's JSON is the whole plan's. */
static double
plan_number(const char *plan, const char *name)
{
	const char *found = strstr(plan, name);

	return found == NULL ? 0 : strtod(found + strlen(name), NULL);
}

static void
estimate_leaf(const JanitorReadyRule *ready, Oid leaf, Estimate *total)
{
	char	   *sql = psprintf("EXPLAIN (FORMAT JSON) SELECT 1%s",
							   janitor_rule_from_where(ready, leaf,
													   JANITOR_RANGE_ALL,
													   NULL));
	char	   *plan = TextDatumGetCString(value_of(ready, sql));

	total->blocks += blocks_of(leaf);
	total->rows += plan_number(plan, "\"Plan Rows\":");
	total->cost += plan_number(plan, "\"Total Cost\":");
}

int64
janitor_rule_rows(const JanitorReadyRule *ready, bool *exact)
{
	Estimate	estimate = {0};
	ListCell   *cell;

	foreach(cell, janitor_relation_leaves(ready->relid))
		estimate_leaf(ready, lfirst_oid(cell), &estimate);
	*exact = estimate.blocks <= BLOCKS_COUNTED ||
		estimate.cost <= COST_COUNTED;
	return *exact ? janitor_rule_count(ready) : (int64) estimate.rows;
}

/* To explain a statement is to begin it: rights are looked at, too. */
void
janitor_rule_try(const JanitorReadyRule *ready)
{
	List	   *leaves = janitor_relation_leaves(ready->relid);

	if (leaves != NIL)
		(void) value_of(ready,
						psprintf("EXPLAIN (FORMAT JSON) %s",
								 janitor_rule_statement(ready,
														linitial_oid(leaves),
														JANITOR_RANGE_ALL, NULL,
														ready->may_lock)));
}

int64
janitor_rule_count(const JanitorReadyRule *ready)
{
	int64		rows = 0;
	ListCell   *cell;

	foreach(cell, janitor_relation_leaves(ready->relid))
		rows += count_leaf(ready, lfirst_oid(cell));
	return rows;
}

/* --- what would be better --- */

static void
advise_time_index(const JanitorReadyRule *ready, Relation rel, List **advice)
{
	if (!ready->has_bound ||
		janitor_index_serves(rel, NIL, ready->time_attno) ||
		janitor_rows_estimated(ready->relid) < ROWS_WORTH_INDEX)
		return;
	*advice = lappend(*advice,
					  psprintf("%s has no index that begins with %s, so each run reads all of it: %s",
							   janitor_relation_name(ready->relid),
							   ready->time_column,
							   janitor_index_statement(rel, NIL,
													   ready->time_attno)));
}

/* The columns of a foreign key, of the table that has it. */
static List *
key_columns(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, Anum_pg_constraint_conkey, desc,
									 &isnull);
	ArrayType  *array = DatumGetArrayTypeP(datum);
	int16	   *values = (int16 *) ARR_DATA_PTR(array);
	List	   *result = NIL;

	for (int i = 0; i < ARR_DIMS(array)[0]; i++)
		result = lappend_int(result, values[i]);
	return result;
}

static void
advise_key_index(const JanitorReadyRule *ready, Oid referencing,
				 List *columns, List **advice)
{
	Relation	rel = table_open(referencing, AccessShareLock);

	if (!janitor_index_serves(rel, columns, 0) &&
		janitor_rows_estimated(referencing) >= ROWS_WORTH_INDEX / 10.0)
		*advice = lappend(*advice,
						  psprintf("each row deleted from %s is looked for in all of %s, whose foreign key has no index: %s",
								   janitor_relation_name(ready->relid),
								   janitor_relation_name(referencing),
								   janitor_index_statement(rel, columns, 0)));
	table_close(rel, NoLock);
}

/* What a DELETE does by a foreign key. */
static const char *
consequence(char action)
{
	switch (action)
	{
		case FKCONSTR_ACTION_CASCADE:
			return "are deleted with it";
		case FKCONSTR_ACTION_SETNULL:
		case FKCONSTR_ACTION_SETDEFAULT:
			return "are changed with it";
		default:
			return "keep it from being deleted, and make the rule fail";
	}
}

static void
tell_reference(const JanitorReadyRule *ready, Form_pg_constraint form,
			   List **advice)
{
	*advice = lappend(*advice,
					  psprintf("rows of %s that refer to a row of %s %s",
							   janitor_relation_name(form->conrelid),
							   janitor_relation_name(ready->relid),
							   consequence(form->confdeltype)));
}

/*
 * Those of a table's partitions follow from the one that was declared, unless
 * the rule is for one of the partitions that it refers to.
 */
static bool
is_shadow(Form_pg_constraint form)
{
	HeapTuple	tuple;
	Oid			referenced;

	if (!OidIsValid(form->conparentid))
		return false;
	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(form->conparentid));
	if (!HeapTupleIsValid(tuple))
		return false;
	referenced = ((Form_pg_constraint) GETSTRUCT(tuple))->confrelid;
	ReleaseSysCache(tuple);
	return referenced == form->confrelid;
}

/* pg_constraint has no index on what a key refers to; it is read through. */
static void
advise_inbound_keys(const JanitorReadyRule *ready, List **advice)
{
	Relation	constraints = table_open(ConstraintRelationId,
										 AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_constraint_confrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ready->relid));
	ScanKeyInit(&keys[1], Anum_pg_constraint_contype, BTEqualStrategyNumber,
				F_CHAREQ, CharGetDatum(CONSTRAINT_FOREIGN));
	scan = systable_beginscan(constraints, InvalidOid, false, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

		if (is_shadow(form))
			continue;
		tell_reference(ready, form, advice);
		advise_key_index(ready, form->conrelid,
						 key_columns(tuple, RelationGetDescr(constraints)),
						 advice);
	}
	systable_endscan(scan);
	table_close(constraints, AccessShareLock);
}

List *
janitor_advice(const JanitorReadyRule *ready)
{
	Relation	rel = table_open(ready->relid, AccessShareLock);
	List	   *advice = list_copy(ready->remarks);

	advise_time_index(ready, rel, &advice);
	if (ready->rule->action == JANITOR_DELETE ||
		ready->rule->action == JANITOR_ARCHIVE)
		advise_inbound_keys(ready, &advice);
	table_close(rel, NoLock);
	return advice;
}

/* --- a trap --- */

/* Is there a time, and none of them in the future? */
static bool
only_past(const JanitorReadyRule *ready, TimestampTz now)
{
	Relation	rel = table_open(ready->relid, AccessShareLock);
	JanitorTime *time = janitor_time_find(ready->rule, rel);
	char	   *literal = janitor_time_literal(time,
											   janitor_time_bound(time, now));
	char	   *relation = janitor_relation_name(ready->relid);
	Datum		result;

	table_close(rel, NoLock);
	return janitor_query_value(psprintf("SELECT EXISTS (SELECT 1 FROM %s AS r WHERE r.%s IS NOT NULL) AND NOT EXISTS (SELECT 1 FROM %s AS r WHERE %s)",
										relation, time->name, relation,
										janitor_time_compare(time, "r", ">=",
															 literal)),
							   0, NULL, NULL, &result) && DatumGetBool(result);
}

void
janitor_check_zero_keep(const JanitorReadyRule *ready, TimestampTz now)
{
	const JanitorRule *rule = ready->rule;

	if (rule->keep == NULL || rule->short_keep ||
		janitor_interval_usec(rule->keep) != 0 || !only_past(ready, now))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"keep\" is 0, but no value of column %s of %s lies in the future",
					ready->time_column, rule->relation),
			 errhint("keep => '0' is for a column that says when a row expires. If this one says when the row was made, say how long it is kept: '90 days'. If all rows are to go, say short_keep => true.")));
}
