/*-------------------------------------------------------------------------
 *
 * rule_trial.c
 *	  What `set` would make of rows: tried out when a rule is defined.
 *
 * A mask that is wrong is best found out before it has met half a table.  So
 * its assignments are applied, in SELECTs that change nothing, to rows that
 * are made up (names, addresses, numbers: whatever the columns can hold) and
 * to some that are there, and the outcome is looked at:
 *
 * - Is it at rest?  Applied to its own result, `set` must leave that as it is,
 *   else every run changes all rows once more.  With done_when it is the user
 *   who says what is done.
 * - Do the constraints hold?  A mask that makes a NULL where there must be
 *   none, or of two values one where they must differ, fails some night; the
 *   error names the constraint.  What depends on other columns is asked of
 *   rows that the rule would change now, not of those made up.  Of items none
 *   are known, and one that cannot be erased does not speak against the rule.
 *
 * What cannot be told (an error in an expression, a type without a value made
 * up) is no reason to refuse.  Rows of the table are those of persons: errors
 * that they cause are told discreetly.
 *
 * Runs as the job's owner, inside janitor_with_now().
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "discreet.h"
#include "query.h"
#include "session.h"

/* Rows that are made up, and rows of the table: looked at, and tried. */
#define ROWS_MADE_UP 4
#define ROWS_LOOKED_AT 1000
#define ROWS_TRIED 100

/* A column of ours beside those of the table. */
#define OLD "\"pg_janitor old\""

typedef struct Trial
{
	const JanitorReadyRule *ready;
	Relation	rel;
	const char *rows;			/* SELECT of the rows that are tried */
	bool		real;			/* they are there */
} Trial;

/* --- rows that are made up --- */

/* The i-th value of a type, as text; NULL: none comes to mind. */
static char *
made_up(Oid type, int i)
{
	static const char *const texts[ROWS_MADE_UP] = {
		"anna.schmidt@example.com", "+49 171 1234567", "Zo\303\253 M\303\274ller", "x"
	};

	switch (type)
	{
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return pstrdup(texts[i]);
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case FLOAT4OID:
		case FLOAT8OID:
			return psprintf("%d", 13 + 17 * i);
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return psprintf("198%d-0%d-17 12:34:56", i, i + 3);
		case TIMEOID:
			return psprintf("12:34:5%d", i);
		case INETOID:
			return psprintf("192.0.2.7%d", i);
		case CIDROID:
			return psprintf("192.0.%d.0/24", i);
		case UUIDOID:
			return psprintf("7d444840-9dc0-4bd1-b245-5ffdce74fad%d", i);
		case JSONOID:
		case JSONBOID:
			return psprintf("{\"name\": \"Anna %d\", \"email\": \"anna@example.com\", \"n\": %d}",
							i, i);
		case BOOLOID:
			return pstrdup(i % 2 ? "true" : "false");
		case BYTEAOID:
			return psprintf("\\x0%d", i);
		default:
			return NULL;
	}
}

/*
 * Of a domain the type behind it: made-up values need not be allowed.  Neither
 * two rows nor two columns of one have the same value.
 */
static void
append_made_up(StringInfo sql, Form_pg_attribute column, int row)
{
	Oid			type = getBaseType(column->atttypid);
	char	   *text = made_up(type, (row + column->attnum) % ROWS_MADE_UP);

	appendStringInfo(sql, ", %s::%s AS %s",
					 text ? quote_literal_cstr(text) : "NULL",
					 format_type_extended(type, column->atttypmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN |
										  FORMAT_TYPE_FORCE_QUALIFY),
					 quote_identifier(NameStr(column->attname)));
}

static char *
rows_made_up(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < ROWS_MADE_UP; i++)
	{
		appendStringInfo(&sql, "%sSELECT %u::pg_catalog.oid AS tableoid",
						 i > 0 ? " UNION ALL " : "", RelationGetRelid(rel));
		for (int j = 0; j < desc->natts; j++)
		{
			if (!TupleDescAttr(desc, j)->attisdropped)
				append_made_up(&sql, TupleDescAttr(desc, j), i);
		}
	}
	return sql.data;
}

/* --- rows of the table --- */

static char *
rows_there(Relation rel, int count)
{
	return psprintf("SELECT r.tableoid, r.* FROM %s AS r LIMIT %d",
					janitor_relation_name(RelationGetRelid(rel)), count);
}

/* Those that the rule would change now. */
static char *
rows_due(const JanitorReadyRule *ready, Relation rel)
{
	return psprintf("SELECT * FROM (%s) AS r WHERE %s LIMIT %d",
					rows_there(rel, ROWS_LOOKED_AT), ready->predicate,
					ROWS_TRIED);
}

/* --- the same rows, changed --- */

static const JanitorAssignment *
find_assignment(const JanitorAssignments *set, AttrNumber attno)
{
	ListCell   *cell;

	foreach(cell, set->list)
	{
		const JanitorAssignment *assignment = lfirst(cell);

		if (assignment->attno == attno)
			return assignment;
	}
	return NULL;
}

/*
 * FROM, whose row r is as `set` makes it.  What is unknown, and may be a
 * sequence, is left as it was.  `more`: over the old row, as OLD.
 */
static char *
changed(const Trial *trial, const char *more)
{
	TupleDesc	desc = RelationGetDescr(trial->rel);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "FROM (SELECT r.tableoid");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		const JanitorAssignment *assignment =
		find_assignment(trial->ready->set, column->attnum);
		const char *name = quote_identifier(NameStr(column->attname));

		if (column->attisdropped)
			continue;
		if (assignment != NULL && !assignment->unknown)
			appendStringInfo(&sql, ", (%s) AS %s", assignment->value, name);
		else
			appendStringInfo(&sql, ", r.%s", name);
	}
	if (more != NULL)
		appendStringInfo(&sql, ", %s AS " OLD, more);
	appendStringInfo(&sql, " FROM (%s) AS r) AS r", trial->rows);
	return sql.data;
}

/* --- asking --- */

typedef struct Question
{
	const Trial *trial;
	const char *sql;
	bool		answer;
} Question;

static void
ask(void *arg)
{
	Question   *question = arg;
	const JanitorReadyRule *ready = question->trial->ready;
	Oid			types[JANITOR_QUERY_ARGS];
	int			count = janitor_rule_parameters(ready, JANITOR_RANGE_ALL,
												types);
	JanitorQuery *query = janitor_query_prepare(question->sql, count, types);
	bool		isnull = !ready->has_bound;
	Datum		value = ready->bound;
	Datum		result;
	bool		result_null;

	question->answer = janitor_query_row(query, &value, &isnull, 1, &result,
										 &result_null);
	janitor_query_free(query);
}

/* What is wrong whatever the rows, or has nothing to do with them. */
static bool
is_general(const JanitorError *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlstate);

	return category == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		category == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE ||
		category == ERRCODE_INSUFFICIENT_RESOURCES ||
		category == ERRCODE_OPERATOR_INTERVENTION;
}

/* Has the query a row?  *error: it could not be told. */
static bool
has_row(const Trial *trial, const char *sql, JanitorError **error)
{
	Question	question = {trial, sql, false};

	*error = janitor_attempt_inside(ask, &question);
	return *error == NULL && question.answer;
}

static bool
is_so(const Trial *trial, const char *sql)
{
	JanitorError *error;
	bool		answer = has_row(trial, sql, &error);

	if (error != NULL && ERRCODE_TO_CATEGORY(error->sqlstate) ==
		ERRCODE_OPERATOR_INTERVENTION)
		janitor_rethrow(error);
	return answer;
}

/* --- can it be computed at all? --- */

/* A whole row is asked for, so that no expression is left out. */
static void
try_values(const Trial *trial, bool must_work)
{
	JanitorError *error;

	(void) has_row(trial, psprintf("SELECT pg_catalog.count(r) %s",
								   changed(trial, NULL)), &error);
	if (error == NULL)
		return;
	if (is_general(error) && !trial->real)
		janitor_rethrow(error);
	if (is_general(error))
		janitor_rethrow_discreetly(error);
	if (must_work)
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("rows of %s cannot be changed in this way: %s",
						janitor_relation_name(trial->ready->relid),
						janitor_error_discreetly(error))));
}

/* Constants are nobody's: their errors may be shown. */
static void
try_constants(const JanitorReadyRule *ready)
{
	Trial		trial = {ready};
	StringInfoData sql;
	Question	question = {&trial};
	ListCell   *cell;

	initStringInfo(&sql);
	foreach(cell, ready->set->list)
	{
		const JanitorAssignment *assignment = lfirst(cell);

		if (assignment->constant)
			appendStringInfo(&sql, ", (%s)", assignment->value);
	}
	question.sql = psprintf("SELECT true%s", sql.data);
	ask(&question);
}

/* --- is it at rest? --- */

static void
try_twice(const Trial *trial)
{
	const char *from = changed(trial, NULL);
	ListCell   *cell;

	foreach(cell, trial->ready->set->list)
	{
		const JanitorAssignment *assignment = lfirst(cell);

		if (assignment->differs == NULL || assignment->unknown ||
			!is_so(trial, psprintf("SELECT true %s WHERE %s LIMIT 1", from,
								   assignment->differs)))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"set\" does not come to rest: applied once more, it changes column \"%s\" again",
						get_attname(trial->ready->relid, assignment->attno,
									false)),
				 errhint("Every run would change all rows. Write an expression that leaves its own result as it is, as the job_mask_ functions do, or say with done_when how a row is recognized that needs no change, such as done_when => 'r.erased_at IS NOT NULL'.")));
	}
}

/* --- do the constraints hold? --- */

/* Are all columns of the constraint set to constants? */
static bool
is_about_constants(const Trial *trial, const JanitorConstraint *constraint)
{
	int			attno = -1;

	while ((attno = bms_next_member(constraint->columns, attno)) >= 0)
	{
		const JanitorAssignment *assignment =
		find_assignment(trial->ready->set, attno);

		if (assignment == NULL || !assignment->constant)
			return false;
	}
	return true;
}

static bool
is_unknown(const Trial *trial, const JanitorConstraint *constraint)
{
	int			attno = -1;

	while ((attno = bms_next_member(constraint->columns, attno)) >= 0)
	{
		const JanitorAssignment *assignment =
		find_assignment(trial->ready->set, attno);

		if (assignment != NULL && assignment->unknown)
			return true;
	}
	return false;
}

/* A row that was not allowed before proves nothing. */
static char *
broken_condition(const Trial *trial, const JanitorConstraint *constraint)
{
	bool		any = is_about_constants(trial, constraint);

	return psprintf("SELECT true %s WHERE (%s) IS FALSE AND r." OLD " LIMIT 1",
					changed(trial, any ? "true" :
							psprintf("((%s) IS TRUE)", constraint->holds)),
					constraint->holds);
}

static char *
join_texts(const List *texts, const char *separator, const char *after)
{
	StringInfoData joined;
	ListCell   *cell;

	initStringInfo(&joined);
	foreach(cell, texts)
		appendStringInfo(&joined, "%s%s%s", joined.len > 0 ? separator : "",
						 (char *) lfirst(cell), after);
	return joined.data;
}

/* Have several rows become one, of those that count? */
static char *
lost_distinction(const Trial *trial, const JanitorConstraint *constraint)
{
	char	   *key = psprintf("ROW(%s)", join_texts(constraint->keys, ", ", ""));
	StringInfoData among;

	initStringInfo(&among);
	appendStringInfo(&among, "(%s)", constraint->among ? constraint->among :
					 "true");
	if (!constraint->nulls_are_equal)
		appendStringInfo(&among, " AND %s",
						 join_texts(constraint->keys, " AND ",
									" IS NOT NULL"));
	return psprintf("SELECT true %s WHERE %s HAVING pg_catalog.count(DISTINCT %s) OPERATOR(pg_catalog.<) pg_catalog.count(DISTINCT r." OLD ")",
					changed(trial, key), among.data, key);
}

/* Has something changed that somebody refers to? */
static char *
lost_reference(const Trial *trial, const JanitorConstraint *constraint)
{
	StringInfoData same;
	StringInfoData old;
	ListCell   *cell;
	ListCell   *equals;

	initStringInfo(&same);
	initStringInfo(&old);
	forboth(cell, constraint->keys, equals, constraint->equals)
	{
		int			number = foreach_current_index(cell) + 1;
		char	   *key = lfirst(cell);

		appendStringInfo(&same, "%s%s %s r.\"pg_janitor old %d\"",
						 number > 1 ? " AND " : "", key,
						 (char *) lfirst(equals), number);
		appendStringInfo(&old, "%s AS \"pg_janitor old %d\", ", key, number);
	}
	appendStringInfo(&old, "%s", constraint->referred);
	return psprintf("SELECT true %s WHERE r." OLD " AND (%s) IS NOT TRUE LIMIT 1",
					changed(trial, old.data), same.data);
}

static char *
violation(const Trial *trial, const JanitorConstraint *constraint)
{
	switch (constraint->kind)
	{
		case JANITOR_UNIQUE:
			return lost_distinction(trial, constraint);
		case JANITOR_REFERENCED:
			return lost_reference(trial, constraint);
		default:
			return broken_condition(trial, constraint);
	}
}

static void
refuse(const Trial *trial, const JanitorConstraint *constraint)
{
	static const struct
	{
		int			sqlstate;
		const char *detail;
	}			reasons[] = {
		[JANITOR_NOT_NULL] = {ERRCODE_NOT_NULL_VIOLATION, NULL},
		[JANITOR_CHECK] = {ERRCODE_CHECK_VIOLATION, NULL},
		[JANITOR_UNIQUE] = {ERRCODE_UNIQUE_VIOLATION, "Different rows would get the same value."},
		[JANITOR_REFERENCE] = {ERRCODE_FOREIGN_KEY_VIOLATION, "What it would refer to is not there."},
		[JANITOR_REFERENCED] = {ERRCODE_FOREIGN_KEY_VIOLATION, "Rows that refer to the old value would not follow."},
	};
	const char *table = janitor_relation_name(trial->ready->relid);
	const char *detail = reasons[constraint->kind].detail;

	ereport(ERROR,
			(errcode(reasons[constraint->kind].sqlstate),
			 constraint->kind == JANITOR_NOT_NULL ?
			 errmsg("option \"set\" would make column \"%s\" of table %s null, which must not be",
					constraint->name, table) :
			 errmsg("option \"set\" would violate constraint \"%s\" of table %s",
					constraint->name,
					constraint->other ? constraint->other : table),
			 detail ? errdetail("%s", detail) : 0));
}

/* Of rows that are not due only what `set` alone decides counts. */
static void
try_constraints(const Trial *trial, const List *constraints, bool due)
{
	const Bitmapset *assigned = trial->ready->set->columns;
	ListCell   *cell;

	foreach(cell, constraints)
	{
		const JanitorConstraint *constraint = lfirst(cell);

		if (is_unknown(trial, constraint) ||
			!(due || constraint->kind == JANITOR_UNIQUE ||
			  constraint->kind == JANITOR_REFERENCED ||
			  bms_is_subset(constraint->columns, assigned)))
			continue;
		if (is_so(trial, violation(trial, constraint)))
			refuse(trial, constraint);
	}
}

/* --- beside another rule --- */

/* Does it alone decide, by age, which rows it is for? */
static bool
is_for_all_ages(const JanitorRule *rule)
{
	return rule->filter == NULL && rule->done_when == NULL &&
		rule->expired_when == NULL && rule->match == NULL;
}

char *
janitor_set_undone(const JanitorReadyRule *first,
				   const JanitorReadyRule *second)
{
	Trial		trial = {first};
	char	   *column = NULL;
	ListCell   *cell;

	if (first->relid != second->relid || first->set == NULL ||
		second->set == NULL || !is_for_all_ages(first->rule))
		return NULL;
	trial.rel = table_open(first->relid, AccessShareLock);
	trial.rows = rows_made_up(trial.rel);
	trial.rows = psprintf("SELECT * %s", changed(&trial, NULL));
	trial.ready = second;
	trial.rows = psprintf("SELECT * %s", changed(&trial, NULL));
	trial.ready = first;
	foreach(cell, first->set->list)
	{
		const JanitorAssignment *assignment = lfirst(cell);

		if (assignment->differs != NULL &&
			bms_is_member(assignment->attno, second->set->columns) &&
			is_so(&trial, psprintf("SELECT true FROM (%s) AS r WHERE %s LIMIT 1",
								   trial.rows, assignment->differs)))
			column = get_attname(first->relid, assignment->attno, false);
	}
	table_close(trial.rel, NoLock);
	return column;
}

/* --- all of it --- */

static void
try_on(Trial *trial, const List *constraints, bool due)
{
	try_values(trial, due);
	if (trial->ready->rule->done_when == NULL && !due)
		try_twice(trial);
	try_constraints(trial, constraints, due);
}

void
janitor_set_try(const JanitorReadyRule *ready)
{
	Trial		trial = {ready};
	List	   *constraints;

	if (ready->set == NULL)
		return;
	try_constants(ready);
	trial.rel = table_open(ready->relid, AccessShareLock);
	constraints = janitor_constraints_of(trial.rel, ready->set->columns);
	trial.rows = rows_made_up(trial.rel);
	try_on(&trial, constraints, false);
	trial.real = true;
	trial.rows = rows_there(trial.rel, ROWS_TRIED);
	try_on(&trial, constraints, false);
	if (ready->rule->match == NULL)
	{
		trial.rows = rows_due(ready, trial.rel);
		try_on(&trial, constraints, true);
	}
	table_close(trial.rel, NoLock);
}
