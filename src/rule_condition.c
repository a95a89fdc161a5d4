/*-------------------------------------------------------------------------
 *
 * rule_condition.c
 *	  Which rows have expired: the forms a rule can have, as SQL.
 *
 *	  time_column and keep				older than that
 *	  ... tier_column and tiers			older than the value's tier says
 *	  ... keep_expression				older than the expression says
 *	  ... keep_last						not among the newest n
 *	  ... keep_last and keep_per		not among the newest n of their kind
 *	  expired_when						what the user wrote
 *
 * Each condition is true for expired rows and false or null for all others: a
 * NULL time compares as null and never expires.
 *
 * keep_last keeps the rows that are as new as the n-th: rows of one instant
 * are all kept or all expired.  With keep_per a row is expired if n rows of
 * its kind are newer, looked for in the whole relation and not in the leaf
 * that the statement is for.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "query.h"

/* From so many rows on keep_per needs its index. */
#define ROWS_WITHOUT_INDEX 100000

typedef struct Condition
{
	JanitorReadyRule *ready;
	const JanitorRule *rule;
	Relation	rel;
	TimestampTz now;
	JanitorTime *time;
	StringInfo	sql;
} Condition;

static void
conjunct(Condition *condition, const char *sql)
{
	if (sql != NULL)
		appendStringInfo(condition->sql, "%s%s",
						 condition->sql->len > 0 ? " AND " : "", sql);
}

static TimestampTz
minus(TimestampTz now, Interval *keep)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
												   TimestampTzGetDatum(now),
												   IntervalPGetDatum(keep)));
}

/* The column's time is before this literal, or before $1. */
static char *
before(const JanitorTime *time, const char *value)
{
	return janitor_time_compare(time, "r", "<", value);
}

/* Nothing at or above this value is expired. */
static void
set_bound(Condition *condition, Datum bound)
{
	JanitorReadyRule *ready = condition->ready;
	JanitorTime *time = condition->time;

	ready->bound_text = janitor_time_text(time, bound);
	if (!time->ordered)
	{
		conjunct(condition, before(time, janitor_time_literal(time, bound)));
		return;
	}
	ready->has_bound = true;
	ready->bound_type = time->type;
	ready->bound = bound;
	conjunct(condition, before(time, "$1"));
}

/* --- keep --- */

static void
keep_condition(Condition *condition)
{
	JanitorReadyRule *ready = condition->ready;

	ready->cutoff = minus(condition->now, condition->rule->keep);
	set_bound(condition, janitor_time_bound(condition->time, ready->cutoff));
	ready->bound_only = true;
}

static void
keep_expression_condition(Condition *condition)
{
	JanitorReadyRule *ready = condition->ready;
	char	   *keep = janitor_expression_condition(condition->rule->keep_expression,
													ready->relid, INTERVALOID,
													"keep_expression", false,
													&ready->remarks);
	char	   *now = janitor_sql_literal(TimestampTzGetDatum(condition->now),
										  TIMESTAMPTZOID);

	conjunct(condition,
			 janitor_time_before(condition->time,
								 psprintf("(%s OPERATOR(pg_catalog.-) (%s))",
										  now, keep)));
}

/* --- tiers --- */

static JanitorTier *
parse_tier(char *key, JsonbValue *value)
{
	JanitorTier *tier = palloc0(sizeof(JanitorTier));

	tier->value = key;
	if (value->type == jbvNull)
		return tier;
	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"tiers\": the value of \"%s\" must be an interval with its unit, such as \"90 days\"",
						key),
				 errhint("null keeps those rows for ever.")));
	tier->keep = DatumGetIntervalP(DirectFunctionCall3(interval_in,
													   CStringGetDatum(pnstrdup(value->val.string.val,
																				value->val.string.len)),
													   ObjectIdGetDatum(InvalidOid),
													   Int32GetDatum(-1)));
	return tier;
}

List *
janitor_tiers_parse(Jsonb *tiers)
{
	JsonbIterator *iterator = JsonbIteratorInit(&tiers->root);
	JsonbIteratorToken token;
	JsonbValue	item;
	List	   *result = NIL;
	JanitorTier *others = NULL;
	char	   *key = NULL;

	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		Assert(key != NULL || token != WJB_VALUE);
		if (token == WJB_KEY)
			key = pnstrdup(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE && strcmp(key, "*") == 0)
		{
			others = parse_tier(key, &item);
			others->value = NULL;
		}
		else if (token == WJB_VALUE)
			result = lappend(result, parse_tier(key, &item));
	}
	return others == NULL ? result : lappend(result, others);
}

/* `r.column = 'value'`, the value read by the column's type. */
static char *
tier_test(Condition *condition, AttrNumber attno, const char *value)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(condition->rel),
											 attno - 1);
	Oid			type = getBaseType(column->atttypid);
	char	   *equals = janitor_sql_equality(type);
	Oid			input;
	Oid			ioparam;
	Datum		datum;

	if (equals == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("option \"tier_column\": values of type %s cannot be compared",
						format_type_be(type)),
				 errhint("Use keep_expression instead.")));
	getTypeInputInfo(type, &input, &ioparam);
	datum = OidInputFunctionCall(input, unconstify(char *, value), ioparam, -1);
	return psprintf("r.%s %s %s", quote_identifier(NameStr(column->attname)),
					equals, janitor_sql_literal(datum, type));
}

/* What a tier says, for the rows in it; NULL of never: nothing. */
static char *
tier_condition(Condition *condition, const JanitorTier *tier,
			   TimestampTz *latest)
{
	TimestampTz cutoff;
	Datum		bound;

	if (tier->keep == NULL)
		return pstrdup("false");
	cutoff = minus(condition->now, tier->keep);
	if (cutoff > *latest)
		*latest = cutoff;
	bound = janitor_time_bound(condition->time, cutoff);
	return before(condition->time, janitor_time_literal(condition->time, bound));
}

static void
tiers_condition(Condition *condition)
{
	AttrNumber	attno = janitor_column_find(condition->rel,
											condition->rule->tier_column,
											"tier_column");
	TimestampTz latest = DT_NOBEGIN;
	const char *others = "false";
	StringInfoData cases;
	JanitorSource source;
	ListCell   *cell;

	initStringInfo(&cases);
	janitor_source_push(&source, "tiers", "", 0);
	foreach(cell, janitor_tiers_parse(condition->rule->tiers))
	{
		JanitorTier *tier = lfirst(cell);
		char	   *expired = tier_condition(condition, tier, &latest);

		if (tier->value == NULL)
			others = expired;
		else
			appendStringInfo(&cases, " WHEN %s THEN %s",
							 tier_test(condition, attno, tier->value), expired);
	}
	janitor_source_pop(&source);
	if (TIMESTAMP_IS_NOBEGIN(latest))
	{
		conjunct(condition, "false");
		return;
	}
	set_bound(condition, janitor_time_bound(condition->time, latest));
	if (cases.len > 0)
		conjunct(condition, psprintf("CASE%s ELSE %s END", cases.data, others));
}

/* --- keep_last --- */

/* The n-th newest time; false: there are not so many. */
static bool
nth_newest(Condition *condition, Datum *value)
{
	JanitorTime *time = condition->time;
	char	   *valid = janitor_time_valid(time, "r");

	return janitor_query_value(psprintf("SELECT r.%s FROM %s AS r WHERE r.%s IS NOT NULL%s%s ORDER BY r.%s%s DESC OFFSET %d LIMIT 1",
										time->name,
										janitor_relation_name(condition->ready->relid),
										time->name, valid ? " AND " : "",
										valid ? valid : "", time->name,
										time->ordered ? "" : " COLLATE pg_catalog.\"C\"",
										condition->rule->keep_last - 1),
							   0, NULL, NULL, value);
}

static void
keep_last_condition(Condition *condition)
{
	Datum		newest;

	if (!nth_newest(condition, &newest))
	{
		conjunct(condition, "false");
		return;
	}
	set_bound(condition, newest);
	condition->ready->bound_only = true;
}

/* Two rows are of one kind; nulls are a kind of their own. */
static char *
same_kind(Condition *condition, AttrNumber attno)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(condition->rel),
											 attno - 1);
	const char *name = quote_identifier(NameStr(column->attname));
	char	   *equals = janitor_sql_equality(column->atttypid);
	char	   *same;

	if (equals == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("option \"keep_per\": values of type %s cannot be compared",
						format_type_be(column->atttypid)),
				 errhint("Leave column %s out.", name)));
	same = psprintf("k.%s %s r.%s", name, equals, name);
	return column->attnotnull ? same :
		psprintf("(%s OR (k.%s IS NULL AND r.%s IS NULL))", same, name, name);
}

/* Each row looks for n others: without an index that is a scan a row. */
static void
check_index(Condition *condition, List *columns)
{
	Relation	rel = condition->rel;
	AttrNumber	attno = condition->time->attno;
	char	   *relation = janitor_relation_name(RelationGetRelid(rel));
	char	   *statement;

	if (janitor_index_serves(rel, columns, attno))
		return;
	statement = janitor_index_statement(rel, columns, attno);
	if (janitor_rows_estimated(RelationGetRelid(rel)) > ROWS_WITHOUT_INDEX)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s is too large for keep_per without an index",
						relation),
				 errhint("%s", statement)));
	condition->ready->remarks =
		lappend(condition->ready->remarks,
				psprintf("keep_per on %s is slow without an index: %s",
						 relation, statement));
}

static void
keep_per_condition(Condition *condition)
{
	JanitorTime *time = condition->time;
	char	   *valid = janitor_time_valid(time, "k");
	StringInfoData kind;
	List	   *columns = NIL;
	ListCell   *cell;

	initStringInfo(&kind);
	foreach(cell, condition->rule->keep_per)
	{
		AttrNumber	attno = janitor_column_find(condition->rel, lfirst(cell),
												"keep_per");

		columns = list_append_unique_int(columns, attno);
		appendStringInfo(&kind, " AND %s", same_kind(condition, attno));
	}
	check_index(condition, columns);
	conjunct(condition,
			 psprintf("EXISTS (SELECT 1 FROM %s AS k WHERE %s%s%s%s OFFSET %d)",
					  janitor_relation_name(condition->ready->relid),
					  janitor_time_compare(time, "k", ">",
										   psprintf("r.%s", time->name)),
					  kind.data, valid ? " AND " : "", valid ? valid : "",
					  condition->rule->keep_last - 1));
}

/* --- all of them --- */

static void
timed_condition(Condition *condition)
{
	JanitorReadyRule *ready = condition->ready;
	const JanitorRule *rule = condition->rule;
	char	   *valid;

	condition->time = janitor_time_find(rule, condition->rel);
	ready->time_attno = condition->time->attno;
	ready->time_column = condition->time->name;
	if (rule->keep != NULL)
		keep_condition(condition);
	else if (rule->keep_expression != NULL)
		keep_expression_condition(condition);
	else if (rule->tiers != NULL)
		tiers_condition(condition);
	else if (rule->keep_per != NIL)
		keep_per_condition(condition);
	else
		keep_last_condition(condition);

	valid = janitor_time_valid(condition->time, "r");
	conjunct(condition, valid);
	if (valid != NULL)
		ready->bound_only = false;
	if (valid != NULL && condition->time->kind != JANITOR_TIME_EPOCH)
		ready->malformed = psprintf("NOT (%s)", valid);
}

void
janitor_condition_ready(JanitorReadyRule *ready, Relation rel,
						TimestampTz now, StringInfo predicate)
{
	Condition	condition = {ready, ready->rule, rel, now, NULL, predicate};

	ready->cutoff = DT_NOBEGIN;
	if (ready->rule->match != NULL)
		conjunct(&condition,
				 psprintf("(%s)",
						  janitor_expression_condition(ready->rule->match,
													   ready->relid, BOOLOID,
													   "match", true,
													   &ready->remarks)));
	else if (ready->rule->expired_when != NULL)
		conjunct(&condition,
				 psprintf("(%s)",
						  janitor_expression_condition(ready->rule->expired_when,
													   ready->relid, BOOLOID,
													   "expired_when", false,
													   &ready->remarks)));
	else
		timed_condition(&condition);
}
