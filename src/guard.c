/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  What keeps a rule from going further than was meant.
 *
 * A wrong column, a wrong unit, a clock that was set: each makes a rule find
 * nearly everything expired.  So before the first row is touched what it would
 * handle is compared with the rule's own limits and with what earlier runs
 * handled.
 *
 * Limits that the user gave are counted exactly, the table itself too where
 * they are a part of it.  The comparison with earlier runs counts only where
 * the planner's estimate comes near the limit: counting can cost as much as
 * the rest of the run.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "guard.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "object.h"
#include "query.h"
#include "session.h"

/* The comparison with earlier runs. */
#define JUMP_RUNS 10			/* so many successes are looked at */
#define JUMP_TIMES 10			/* more than so many times the largest */
#define JUMP_FRACTION 0.2		/* and more than this part of a table */
#define JUMP_TABLE_ROWS 100000	/* of at least so many rows */

/* An estimate below this part of the limit is believed. */
#define BELIEVED 0.5

static int64
count_in_leaf(const JanitorReadyRule *ready, JanitorHolds *holds, Oid leaf,
			  int64 limit)
{
	Oid			types[JANITOR_QUERY_ARGS];
	Datum		values[JANITOR_QUERY_ARGS] = {0};
	bool		nulls[JANITOR_QUERY_ARGS] = {0};
	char	   *held = janitor_holds_condition(holds, leaf);
	int			count = janitor_rule_parameters(ready, JANITOR_RANGE_ALL,
												types);
	JanitorQuery *query;
	Datum		result;
	bool		isnull;

	values[0] = ready->has_bound ? ready->bound : (Datum) 0;
	nulls[0] = !ready->has_bound;
	query = janitor_query_prepare(psprintf("SELECT pg_catalog.count(*) FROM (SELECT 1 %s LIMIT " INT64_FORMAT ") x",
										   janitor_rule_from_where(ready, leaf, JANITOR_RANGE_ALL, held),
										   limit),
								  count, types);
	(void) janitor_query_row(query, values, nulls, 1, &result, &isnull);
	janitor_query_free(query);
	return DatumGetInt64(result);
}

int64
janitor_count_expired(const JanitorReadyRule *ready, JanitorHolds *holds,
					  List *leaves, int64 limit)
{
	int64		count = 0;
	ListCell   *cell;

	foreach(cell, leaves)
	{
		if (count >= limit)
			break;
		count += count_in_leaf(ready, holds, lfirst_oid(cell), limit - count);
	}
	return count;
}

/* The rows there are, expired or not. */
static int64
count_all(List *leaves)
{
	int64		count = 0;
	ListCell   *cell;

	foreach(cell, leaves)
	{
		Datum		rows;

		if (janitor_query_value(psprintf("SELECT pg_catalog.count(*) FROM ONLY %s",
										 janitor_relation_name(lfirst_oid(cell))),
								0, NULL, NULL, &rows))
			count += DatumGetInt64(rows);
	}
	return count;
}

/* --- earlier runs --- */

typedef struct History
{
	const char *rule;
	int			runs;
	int64		largest;
} History;

/* {"rules": {"name": {"rows": n}}} */
static int64
rows_of_rule(Jsonb *result, const char *rule)
{
	Datum		path[3] = {CStringGetTextDatum("rules"),
		CStringGetTextDatum(rule),
	CStringGetTextDatum("rows")};
	bool		isnull;
	Datum		value;

	value = jsonb_get_element(result, path, 3, &isnull, true);
	return isnull ? -1 : pg_strtoint64(TextDatumGetCString(value));
}

static bool
look_at_run(JanitorExecution *execution, void *arg)
{
	History    *history = arg;
	int64		rows;

	if (execution->status != JANITOR_SUCCEEDED || execution->result == NULL)
		return true;
	rows = rows_of_rule(execution->result, history->rule);
	if (rows < 0)
		return true;
	history->largest = Max(history->largest, rows);
	return ++history->runs < JUMP_RUNS;
}

/*
 * The most that this run may handle without being confirmed.  One that stops
 * before that anyway, by rows_per_run, works off what there is bit by bit.
 */
static int64
jump_limit(const JanitorRule *rule, double total)
{
	History		history = {.rule = rule->name};
	double		limit;

	if (total <= JUMP_TABLE_ROWS)
		return PG_INT64_MAX;
	janitor_execution_scan(rule->job_name, look_at_run, &history);
	if (history.runs == 0)
		return PG_INT64_MAX;
	limit = Max(history.largest * (double) JUMP_TIMES, total * JUMP_FRACTION);
	if (limit >= (double) PG_INT64_MAX ||
		(rule->rows_per_run > 0 && rule->rows_per_run <= limit))
		return PG_INT64_MAX;
	return (int64) limit;
}

/* --- the guards --- */

void
janitor_guard_refuse(const JanitorRule *rule, const JanitorGuard *guard)
{
	char	   *job_name = quote_literal_cstr(rule->job_name);

	if (guard->kind != JANITOR_GUARD_JUMP)
		janitor_ereport_plain(ERROR,
							  (errcode(ERRCODE_CHECK_VIOLATION),
							   errmsg("more rows of %s are expired than the " INT64_FORMAT " that %s allows",
									  rule->relation, guard->limit,
									  guard->kind == JANITOR_GUARD_ROWS ?
									  "abort_above_rows" : "abort_above_fraction"),
							   errhint("SELECT * FROM job_preview(%s); shows what it would do.",
									   job_name)));
	janitor_ereport_plain(ERROR,
						  (errcode(ERRCODE_CHECK_VIOLATION),
						   errmsg("more than " INT64_FORMAT " rows of %s are expired, far more than earlier runs have handled",
								  guard->limit, rule->relation),
						   errhint("If this is meant, run it once with SELECT job_trigger(%s, '{\"confirm\": true}');",
								   job_name)));
}

/* The smaller of two limits, with what it is of. */
static void
lower_to(JanitorGuard *guard, int64 limit, JanitorGuardKind kind)
{
	if (limit >= guard->limit)
		return;
	guard->limit = limit;
	guard->kind = kind;
}

static void
check(const JanitorReadyRule *ready, JanitorHolds *holds, List *leaves,
	  const JanitorGuard *guard)
{
	if (janitor_count_expired(ready, holds, leaves,
							  guard->limit + 1) > guard->limit)
		janitor_guard_refuse(ready->rule, guard);
}

JanitorGuard
janitor_guard(const JanitorReadyRule *ready, JanitorHolds *holds,
			  List *leaves, double rows, double total, bool confirmed)
{
	const JanitorRule *rule = ready->rule;
	JanitorGuard guard = {PG_INT64_MAX, JANITOR_GUARD_JUMP};
	int64		jump;

	if (rule->abort_above_rows >= 0)
		lower_to(&guard, rule->abort_above_rows, JANITOR_GUARD_ROWS);
	if (rule->abort_above_fraction >= 0)
		lower_to(&guard,
				 (int64) (rule->abort_above_fraction * count_all(leaves)),
				 JANITOR_GUARD_FRACTION);
	if (guard.limit < PG_INT64_MAX)
		check(ready, holds, leaves, &guard);

	jump = confirmed ? PG_INT64_MAX : jump_limit(rule, total);
	if (jump < guard.limit)
	{
		lower_to(&guard, jump, JANITOR_GUARD_JUMP);
		if (rows > guard.limit * BELIEVED)
			check(ready, holds, leaves, &guard);
	}
	return guard;
}
