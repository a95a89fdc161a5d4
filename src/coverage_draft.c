/*-------------------------------------------------------------------------
 *
 * coverage_draft.c
 *	  A first draft of a job that erases people.
 *
 * As if there were no rules at all: a job, and a rule for each link that the
 * walk finds, in an order in which they can work.  The job is disabled, so
 * that nothing happens before somebody has read it.
 *
 * Memory: the current context.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "ledger.h"

/* --- who is to be erased --- */

/* A column of a table that says when, and that no null is compared with. */
static JanitorCoverageColumn *
erasure_time(const JanitorCoverageTable *table)
{
	ListCell   *cell;

	foreach(cell, table->columns)
	{
		JanitorCoverageColumn *column = lfirst(cell);

		if (column->shape == JANITOR_SHAPE_DATE &&
			janitor_words_erasure_time(column->name))
			return column;
	}
	return NULL;
}

/* The key by which a table of requests refers to the subject; NULL: none. */
static JanitorCoverageKey *
find_requests(const JanitorCoverage *coverage)
{
	ListCell   *cell;

	foreach(cell, coverage->subject->children)
	{
		JanitorCoverageKey *key = lfirst(cell);

		if (key->child != coverage->subject &&
			erasure_time(key->child) != NULL)
			return key;
	}
	return NULL;
}

static char *
select_list(const JanitorCoverage *coverage)
{
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	foreach(cell, janitor_coverage_parameters(coverage))
		appendStringInfo(&sql, "%su.%s", sql.len > 0 ? ", " : "",
						 quote_identifier(((JanitorCoverageColumn *) lfirst(cell))->name));
	return sql.data;
}

static char *
join_condition(const JanitorCoverageKey *key)
{
	StringInfoData sql;
	ListCell   *one;
	ListCell   *other;

	initStringInfo(&sql);
	forboth(one, key->columns, other, key->parent_columns)
		appendStringInfo(&sql, "%su.%s = d.%s", sql.len > 0 ? " AND " : "",
						 quote_identifier(((JanitorCoverageColumn *) lfirst(other))->name),
						 quote_identifier(((JanitorCoverageColumn *) lfirst(one))->name));
	return sql.data;
}

static char *
items_query(const JanitorCoverage *coverage)
{
	JanitorCoverageColumn *time = erasure_time(coverage->subject);
	JanitorCoverageKey *requests = find_requests(coverage);
	const char *subject = coverage->subject->qualified;
	const char *name;

	if (time != NULL)
	{
		name = quote_identifier(time->name);
		return psprintf("SELECT %s, u.%s AS due FROM %s AS u WHERE u.%s <= now() ORDER BY u.%s",
						select_list(coverage), name, subject, name, name);
	}
	if (requests != NULL)
	{
		name = quote_identifier(erasure_time(requests->child)->name);
		return psprintf("SELECT %s, d.%s AS due FROM %s AS d JOIN %s AS u ON %s WHERE d.%s <= now() ORDER BY d.%s",
						select_list(coverage), name,
						requests->child->qualified, subject,
						join_condition(requests), name, name);
	}
	return psprintf("SELECT %s FROM %s AS u WHERE false /* who is to be erased? */",
					select_list(coverage), subject);
}

/* --- lines --- */

static List *
add_line(List *lines, char *line)
{
	return lappend(lines, line);
}

static List *
add_job(List *lines, const JanitorCoverage *coverage)
{
	char	   *function = quote_qualified_identifier(get_namespace_name(janitor_extension_schema()),
													  "job_schedule_items");

	return add_line(lines,
					psprintf("SELECT %s(%s, '0 */15 * * * *', %s, enabled => false);",
							 function, quote_literal_cstr(coverage->job_name),
							 quote_literal_cstr(items_query(coverage))));
}

static List *
add_table(List *lines, JanitorCoverage *coverage,
		  JanitorCoverageTable *table)
{
	ListCell   *cell;

	foreach(cell, table->links)
	{
		JanitorLink *link = lfirst(cell);

		lines = add_line(lines, psprintf("-- %s",
										 janitor_coverage_path(table, link)));
		lines = add_line(lines, janitor_coverage_proposal(coverage, table,
														  link));
	}
	return lines;
}

/* Tables with personal data that no path leads to. */
static List *
add_lone_tables(List *lines, JanitorCoverage *coverage)
{
	ListCell   *cell;

	foreach(cell, coverage->tables)
	{
		JanitorCoverageTable *table = lfirst(cell);

		if (table->links != NIL ||
			(!table->is_personal &&
			 janitor_coverage_personal(table, true) == NIL))
			continue;
		lines = add_line(lines, psprintf("-- no path leads to %s",
										 table->qualified));
		lines = add_line(lines, janitor_coverage_proposal(coverage, table,
														  NULL));
	}
	return lines;
}

List *
janitor_coverage_draft(Oid subject, const char *job_name)
{
	JanitorCoverage *coverage = janitor_coverage_read();
	List	   *lines = NIL;
	List	   *order;
	ListCell   *cell;

	janitor_coverage_walk(coverage, subject);
	coverage->job_name = job_name != NULL ? job_name :
		psprintf("erase %s", coverage->subject->name);
	order = janitor_coverage_order(coverage);
	lines = add_line(lines, psprintf("-- A draft, to be reviewed: what names and foreign keys tell about %s.",
									 coverage->subject->qualified));
	lines = add_job(lines, coverage);
	lines = add_lone_tables(lines, coverage);
	foreach(cell, order)
		lines = add_table(lines, coverage, lfirst(cell));
	return add_line(lines, psprintf("-- When it is right: SELECT %s(%s);",
									quote_qualified_identifier(get_namespace_name(janitor_extension_schema()),
															   "job_enable"),
									quote_literal_cstr(coverage->job_name)));
}
