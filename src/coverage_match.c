/*-------------------------------------------------------------------------
 *
 * coverage_match.c
 *	  Conditions for the rows of a subject, as SQL.
 *
 * What is directly linked to the subject is compared with fields of the item;
 * what is further away, with rows that are themselves the subject's, by
 * sub-selects.  These follow only links that have no cycles.  Names are
 * qualified and quoted, so that the text means the same in any search_path.
 *
 * Memory: the current context.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static void append_link(StringInfo sql, const JanitorCoverage *coverage,
						const JanitorCoverageTable *table,
						const JanitorLink *link, const char *row, int level);

/* --- values --- */

/* A type as anybody would write it; another's with its schema. */
static char *
type_name(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	bool		ours = HeapTupleIsValid(tuple) &&
	((Form_pg_type) GETSTRUCT(tuple))->typnamespace ==
	PG_CATALOG_NAMESPACE;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return ours ? format_type_be(type) : format_type_be_qualified(type);
}

/* What an item calls a column of the subject. */
static const char *
field_name(const JanitorCoverage *coverage, const JanitorCoverageColumn *key)
{
	if (coverage->key_name != NULL && list_length(coverage->subject_key) == 1 &&
		linitial(coverage->subject_key) == key)
		return coverage->key_name;
	return key->name;
}

char *
janitor_coverage_parameter(const JanitorCoverage *coverage,
						   const JanitorCoverageColumn *key,
						   const JanitorCoverageColumn *column)
{
	char	   *field = quote_literal_cstr(field_name(coverage, key));

	if (column->shape == JANITOR_SHAPE_STRING ||
		column->shape == JANITOR_SHAPE_DOCUMENT)
		return psprintf("$1 ->> %s", field);
	return psprintf("($1 ->> %s)::%s", field, type_name(column->type));
}

/* A column of a row, or the field of a document there. */
static char *
value_of(const char *row, const JanitorCoverageColumn *column,
		 const char *field)
{
	char	   *value = psprintf("%s.%s", row, quote_identifier(column->name));

	return field == NULL ? value :
		psprintf("(%s ->> %s)", value, quote_literal_cstr(field));
}

/* The other side of a comparison with such a value. */
static char *
comparable(const char *row, const JanitorCoverageColumn *column,
		   const JanitorCoverageColumn *with)
{
	char	   *value = value_of(row, column, NULL);
	bool		as_text = with->shape == JANITOR_SHAPE_DOCUMENT ||
	(with->shape == JANITOR_SHAPE_STRING &&
	 column->shape != JANITOR_SHAPE_STRING);

	return as_text && column->shape != JANITOR_SHAPE_STRING ?
		psprintf("%s::text", value) : value;
}

/* --- rows that are the subject's --- */

/* True for rows of a table that belong to it by any of its links. */
static void
append_any_link(StringInfo sql, const JanitorCoverage *coverage,
				const JanitorCoverageTable *table, const char *row, int level)
{
	const char *separator = "(";
	ListCell   *cell;

	foreach(cell, table->links)
	{
		const JanitorLink *link = lfirst(cell);

		if (link->back)
			continue;
		appendStringInfoString(sql, separator);
		append_link(sql, coverage, table, link, row, level);
		separator = " OR ";
	}
	appendStringInfoChar(sql, ')');
}

/* `a.x = b.y AND ...`; one of the sides is the row, the other the far one. */
static void
append_join(StringInfo sql, const JanitorLink *link, const char *row,
			const char *far)
{
	const char *separator = "";
	ListCell   *near_cell;
	ListCell   *far_cell;

	forboth(near_cell, link->columns, far_cell, link->from_columns)
	{
		const JanitorCoverageColumn *column = lfirst(near_cell);

		appendStringInfo(sql, "%s%s = %s", separator,
						 comparable(far, lfirst(far_cell), column),
						 value_of(row, column, link->field));
		separator = " AND ";
	}
}

static void
append_exists(StringInfo sql, const JanitorCoverage *coverage,
			  const JanitorLink *link, const char *row, int level,
			  bool others)
{
	char	   *far = psprintf("s%d", level);

	appendStringInfo(sql, "%s (SELECT FROM %s AS %s WHERE ",
					 others ? "NOT EXISTS" : "EXISTS", link->from->qualified,
					 far);
	append_join(sql, link, row, far);
	appendStringInfoString(sql, " AND ");
	append_any_link(sql, coverage, link->from, far, level + 1);
	appendStringInfoString(sql, others ? " IS NOT TRUE)" : ")");
}

/* Compares with the fields of the item. */
static void
append_parameters(StringInfo sql, const JanitorCoverage *coverage,
				  const JanitorLink *link, const char *row)
{
	const List *keys = link->kind == JANITOR_LINK_SUBJECT ?
	link->columns : link->from_columns;
	const char *separator = "";
	ListCell   *cell;
	ListCell   *key;

	forboth(cell, link->columns, key, keys)
	{
		const JanitorCoverageColumn *column = lfirst(cell);

		appendStringInfo(sql, "%s%s = %s", separator,
						 value_of(row, column, link->field),
						 janitor_coverage_parameter(coverage, lfirst(key),
													column));
		separator = " AND ";
	}
}

/*
 * What the subject refers to, and others might: only if nobody else's row
 * refers to it as well.
 */
static void
append_up(StringInfo sql, const JanitorCoverage *coverage,
		  const JanitorLink *link, const char *row, int level)
{
	append_exists(sql, coverage, link, row, level, false);
	if (link->alone)
		return;
	appendStringInfoString(sql, " AND ");
	append_exists(sql, coverage, link, row, level, true);
}

static void
append_link(StringInfo sql, const JanitorCoverage *coverage,
			const JanitorCoverageTable *table, const JanitorLink *link,
			const char *row, int level)
{
	if (link->kind == JANITOR_LINK_ARCHIVE)
		append_link(sql, coverage, link->from, link->original, row, level);
	else if (link->kind == JANITOR_LINK_UP)
		append_up(sql, coverage, link, row, level);
	else if (link->from == NULL || link->from == coverage->subject)
		append_parameters(sql, coverage, link, row);
	else
		append_exists(sql, coverage, link, row, level, false);
}

char *
janitor_coverage_match(const JanitorCoverage *coverage,
					   const JanitorCoverageTable *table,
					   const JanitorLink *link)
{
	StringInfoData sql;

	initStringInfo(&sql);
	append_link(&sql, coverage, table, link, "r", 1);
	return sql.data;
}

/* --- what the item must have --- */

JanitorCoverageColumn *
janitor_coverage_email(const JanitorCoverageTable *table)
{
	ListCell   *cell;

	foreach(cell, table->columns)
	{
		JanitorCoverageColumn *column = lfirst(cell);

		if (column->personal == JANITOR_PERSONAL_EMAIL &&
			column->shape == JANITOR_SHAPE_STRING)
			return column;
	}
	return NULL;
}

/* Is there a table that only an e-mail address leads to? */
static bool
needs_email(const JanitorCoverage *coverage)
{
	ListCell   *cell;

	foreach(cell, coverage->tables)
	{
		const JanitorCoverageTable *table = lfirst(cell);

		if (table->links == NIL && janitor_coverage_email(table) != NULL)
			return true;
	}
	return false;
}

List *
janitor_coverage_parameters(const JanitorCoverage *coverage)
{
	List	   *columns = list_copy(coverage->subject_key);
	JanitorCoverageColumn *email = janitor_coverage_email(coverage->subject);
	ListCell   *cell;

	foreach(cell, coverage->tables)
	{
		ListCell   *inner;

		foreach(inner, ((JanitorCoverageTable *) lfirst(cell))->links)
		{
			const JanitorLink *link = lfirst(inner);

			if (link->from == coverage->subject &&
				link->kind != JANITOR_LINK_UP)
				columns = list_concat_unique_ptr(columns, link->from_columns);
		}
	}
	if (email != NULL && needs_email(coverage))
		columns = list_append_unique_ptr(columns, email);
	return columns;
}
