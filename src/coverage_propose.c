/*-------------------------------------------------------------------------
 *
 * coverage_propose.c
 *	  Rules for what is not covered, as SQL to be reviewed.
 *
 * Rows that are the subject's alone are deleted if nothing else needs them:
 * every foreign key to them must see to itself (CASCADE, SET NULL) or come
 * from rows that a rule before this one deletes.  The subject's own row, rows
 * of tables that look like records to be kept (invoices, logs), and rows that
 * somebody else has a part in are anonymized: columns become NULL where they
 * may, and else what a masking function makes of them.
 *
 * Rules run in the order of their creation.  So the rule of a table comes
 * after all whose conditions look at its rows, which it may delete, and after
 * those of tables that refer to it, whose foreign keys would not let it go.
 *
 * Proposals are texts.  Nothing is defined here; whoever runs them goes
 * through the checks of job_set_rule() as anybody does.
 *
 * Memory: the current context.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "ledger.h"

#define MAX_RULE_NAME 100		/* bytes; a name may have 128 characters */

/* A name of ours, for whatever search_path. */
static char *
ours(const char *function)
{
	return quote_qualified_identifier(get_namespace_name(janitor_extension_schema()),
									  function);
}

/* --- order --- */

static bool
is_ordinary(const JanitorCoverageTable *table)
{
	return table->relkind == RELKIND_RELATION ||
		table->relkind == RELKIND_PARTITIONED_TABLE;
}

/* Does a condition for the rows of one table look at those of another? */
static bool
looks_at(const JanitorCoverageTable *table, const JanitorCoverageTable *other)
{
	ListCell   *cell;

	foreach(cell, table->links)
	{
		const JanitorLink *link = lfirst(cell);

		if (link->from == other && !link->back)
			return true;
	}
	return false;
}

/* Have all conditions been looked at that need its rows? */
static bool
is_free_of_conditions(const JanitorCoverage *coverage,
					  const JanitorCoverageTable *table)
{
	ListCell   *cell;

	foreach(cell, coverage->tables)
	{
		const JanitorCoverageTable *other = lfirst(cell);

		if (other != table && !other->placed && looks_at(other, table))
			return false;
	}
	return true;
}

/* Have all rows been handled that refer to it? */
static bool
is_free_of_keys(const JanitorCoverageTable *table)
{
	ListCell   *cell;

	if (((JanitorLink *) linitial(table->links))->kind == JANITOR_LINK_UP)
		return true;
	foreach(cell, table->children)
	{
		const JanitorCoverageTable *child =
		((JanitorCoverageKey *) lfirst(cell))->child;

		if (child != table && child->depth >= 0 && !child->placed)
			return false;
	}
	return true;
}

/*
 * Of those not placed yet: one that is free, and of these the furthest.
 * Conditions have no cycles; where keys have one they cannot be heeded.
 */
static JanitorCoverageTable *
next_table(const JanitorCoverage *coverage)
{
	JanitorCoverageTable *best = NULL;
	bool		best_free = false;
	ListCell   *cell;

	foreach(cell, coverage->tables)
	{
		JanitorCoverageTable *table = lfirst(cell);
		bool		free_of_keys;

		if (table->depth < 0 || table->placed ||
			!is_free_of_conditions(coverage, table))
			continue;
		free_of_keys = is_free_of_keys(table);
		if (best == NULL || (free_of_keys && !best_free) ||
			(free_of_keys == best_free && table->depth > best->depth))
		{
			best = table;
			best_free = free_of_keys;
		}
	}
	return best;
}

/* --- what is to be done --- */

/* Are the rows that a foreign key comes from deleted before? */
static bool
gone_before(const JanitorCoverageKey *key)
{
	ListCell   *cell;

	if (!key->child->placed || !key->child->deletes)
		return false;
	foreach(cell, key->child->links)
	{
		const JanitorLink *link = lfirst(cell);

		if (link->from == key->parent && !link->back && !link->actor &&
			link->columns == key->columns)
			return true;
	}
	return false;
}

static bool
can_be_deleted(const JanitorCoverageTable *table)
{
	ListCell   *cell;

	foreach(cell, table->children)
	{
		const JanitorCoverageKey *key = lfirst(cell);

		if (key->on_delete != FKCONSTR_ACTION_CASCADE &&
			key->on_delete != FKCONSTR_ACTION_SETNULL &&
			key->on_delete != FKCONSTR_ACTION_SETDEFAULT &&
			!gone_before(key))
			return false;
	}
	return true;
}

static bool
should_be_deleted(const JanitorCoverage *coverage,
				  const JanitorCoverageTable *table)
{
	const JanitorLink *first = linitial(table->links);

	return table != coverage->subject && is_ordinary(table) &&
		(first->kind != JANITOR_LINK_UP || first->alone) &&
		!janitor_words_record(table->name) && can_be_deleted(table);
}

List *
janitor_coverage_order(JanitorCoverage *coverage)
{
	List	   *order = NIL;
	JanitorCoverageTable *table;

	while ((table = next_table(coverage)) != NULL)
	{
		table->deletes = should_be_deleted(coverage, table);
		table->placed = true;
		order = lappend(order, table);
	}
	return order;
}

/* --- what becomes of a column --- */

static char *
masked(const char *function, const JanitorCoverageColumn *column,
	   const char *more)
{
	return psprintf("%s(r.%s%s)", ours(function),
					quote_identifier(column->name), more);
}

/* A string that must not be NULL. */
static char *
masked_string(const JanitorCoverageColumn *column)
{
	switch (column->personal)
	{
		case JANITOR_PERSONAL_EMAIL:
			return masked("job_mask_email", column, "");
		case JANITOR_PERSONAL_NAME:
		case JANITOR_PERSONAL_ACCOUNT:
			return masked("job_mask_name", column, "");
		case JANITOR_PERSONAL_PHONE:
			if (!column->unique)
				return masked("job_mask_phone", column, "");
			break;
		case JANITOR_PERSONAL_TEXT:
			if (!column->unique)
				return masked("job_mask_text", column, "");
			break;
		default:
			break;
	}
	return masked("job_mask_hash", column, "");
}

/* What it is set to; NULL: that is for people to say. */
static char *
new_value(const JanitorCoverageColumn *column)
{
	if (column->fixed)
		return NULL;
	if (!column->not_null)
		return pstrdup("NULL");
	switch (column->shape)
	{
		case JANITOR_SHAPE_STRING:
			return masked_string(column);
		case JANITOR_SHAPE_STRINGS:
			return pstrdup("'{}'");
		case JANITOR_SHAPE_DOCUMENT:
			return getBaseType(column->type) == XMLOID ? NULL :
				getBaseType(column->type) == JSONOID ||
				getBaseType(column->type) == JSONBOID ? pstrdup("'{}'") :
				pstrdup("''");
		case JANITOR_SHAPE_NETWORK:
			return masked("job_mask_ip", column, "");
		case JANITOR_SHAPE_DATE:
			return masked("job_mask_date", column, ", 'year'");
		case JANITOR_SHAPE_INTEGER:
			return pstrdup("0");
		case JANITOR_SHAPE_HARDWARE:
			return getBaseType(column->type) == MACADDROID ?
				pstrdup("'00:00:00:00:00:00'") :
				pstrdup("'00:00:00:00:00:00:00:00'");
		case JANITOR_SHAPE_POINT:
			return getBaseType(column->type) == POINTOID ?
				pstrdup("'(0,0)'") : NULL;
		default:
			return NULL;
	}
}

static void
append_assignment(StringInfo set, const JanitorCoverageColumn *column)
{
	char	   *value = new_value(column);

	if (value != NULL)
		appendStringInfo(set, "%s%s = %s", set->len > 0 ? ", " : "",
						 quote_identifier(column->name), value);
}

/* The reference itself, where it may be NULL. */
static void
append_release(StringInfo set, const JanitorLink *link)
{
	ListCell   *cell;

	foreach(cell, link->columns)
	{
		JanitorCoverageColumn *column = lfirst(cell);

		if (!column->not_null && column->shape != JANITOR_SHAPE_DOCUMENT)
			append_assignment(set, column);
	}
}

/* `a = ..., b = ...`; NULL: there is nothing to be set. */
static char *
assignments(const JanitorCoverageTable *table, const JanitorLink *link)
{
	bool		back = link != NULL && link->back;
	StringInfoData set;
	ListCell   *cell;

	initStringInfo(&set);
	foreach(cell, back ? NIL :
			janitor_coverage_personal(table, link == NULL &&
									  !table->is_personal))
		append_assignment(&set, lfirst(cell));
	if (link != NULL && (back || link->actor || set.len == 0) &&
		(link->kind == JANITOR_LINK_KEY || link->kind == JANITOR_LINK_NAME))
		append_release(&set, link);
	return set.len > 0 ? set.data : NULL;
}

/* --- the rule --- */

/* The table, and the columns by which its rows are found. */
static char *
rule_name(const JanitorCoverageTable *table, const JanitorLink *link)
{
	StringInfoData name;
	ListCell   *cell;

	initStringInfo(&name);
	appendStringInfoString(&name, table->name);
	if (link != NULL && link->kind != JANITOR_LINK_SUBJECT)
	{
		const char *separator = " by ";

		foreach(cell, link->columns)
		{
			appendStringInfo(&name, "%s%s", separator,
							 ((JanitorCoverageColumn *) lfirst(cell))->name);
			separator = ", ";
		}
	}
	if (name.len > MAX_RULE_NAME)
		name.data[pg_mbcliplen(name.data, name.len, MAX_RULE_NAME)] = '\0';
	return name.data;
}

static char *
rule(const JanitorCoverage *coverage, const JanitorCoverageTable *table,
	 const JanitorLink *link, const char *match, const char *set)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s(%s, %s, %s, action => %s, match => %s",
					 ours("job_set_rule"),
					 quote_literal_cstr(coverage->job_name ?
										coverage->job_name :
										psprintf("erase %s",
												 coverage->subject->name)),
					 quote_literal_cstr(rule_name(table, link)),
					 quote_literal_cstr(table->qualified),
					 set ? "'anonymize'" : "'delete'",
					 quote_literal_cstr(match));
	if (set != NULL)
		appendStringInfo(&sql, ", set => %s", quote_literal_cstr(set));
	appendStringInfoString(&sql, ");");
	return sql.data;
}

/* Nothing to be done but to say so. */
static char *
label_proposal(const JanitorCoverageTable *table)
{
	return psprintf("-- nothing in %s looks as if it had to be changed; if so: SECURITY LABEL FOR pg_janitor ON TABLE %s IS 'not personal';",
					table->qualified, table->qualified);
}

/* What no path leads to. */
static char *
lone_proposal(const JanitorCoverage *coverage,
			  const JanitorCoverageTable *table)
{
	JanitorCoverageColumn *own = janitor_coverage_email(table);
	JanitorCoverageColumn *email = janitor_coverage_email(coverage->subject);
	char	   *set = assignments(table, NULL);

	if (set == NULL)
		return label_proposal(table);
	if (own != NULL && email != NULL)
		return rule(coverage, table, NULL,
					psprintf("r.%s = %s", quote_identifier(own->name),
							 janitor_coverage_parameter(coverage, email, own)),
					set);
	return psprintf("-- say which rows of %s belong to a subject, in match; or: SECURITY LABEL FOR pg_janitor ON TABLE %s IS 'not personal';",
					table->qualified, table->qualified);
}

char *
janitor_coverage_proposal(const JanitorCoverage *coverage,
						  const JanitorCoverageTable *table,
						  const JanitorLink *link)
{
	char	   *match;
	char	   *set;

	if (table->relkind == RELKIND_MATVIEW)
		return psprintf("-- REFRESH MATERIALIZED VIEW %s; when the tables it shows are done",
						table->qualified);
	if (table->relkind == RELKIND_FOREIGN_TABLE)
		return psprintf("-- %s is elsewhere: erase it there, or with a job of kind sql or external",
						table->qualified);
	if (link == NULL || link->columns == NIL)
		return lone_proposal(coverage, table);

	match = janitor_coverage_match(coverage, table, link);
	if (table->deletes && !link->actor && !link->back)
		return rule(coverage, table, link, match, NULL);
	set = assignments(table, link);
	return set == NULL ? label_proposal(table) :
		rule(coverage, table, link, match, set);
}
