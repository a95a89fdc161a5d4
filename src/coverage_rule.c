/*-------------------------------------------------------------------------
 *
 * coverage_rule.c
 *	  What the rules of items jobs cover of a subject.
 *
 * A rule covers the rows of a link if it is for their table and its match
 * names the columns of the link.  A rule that deletes or archives covers all
 * columns, one that anonymizes those that it sets; `update` covers nothing.
 * Rows that go with a foreign key's ON DELETE CASCADE are covered by whatever
 * covers those that they go with.  What a rule archives is somewhere else, and
 * has to be covered there.
 *
 * Expressions are parsed, and no more: nothing in them is looked up or run.
 * So whether a match is true for the right rows is not known here; receipts
 * are what proves it.  Nor is what a filter leaves out.
 *
 * Runs as the user who asks, who sees the rules of jobs that he may see.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "ledger.h"
#include "parse.h"
#include "rule.h"

/* --- what an expression names --- */

typedef struct Names
{
	List	   *columns;		/* of char *: of r, or not qualified */
} Names;

static bool
names_walker(Node *node, Names *names)
{
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
	{
		List	   *fields = ((ColumnRef *) node)->fields;

		if (IsA(llast(fields), String) &&
			(list_length(fields) == 1 ||
			 (list_length(fields) == 2 && IsA(linitial(fields), String) &&
			  strcmp(strVal(linitial(fields)), "r") == 0)))
			names->columns = lappend(names->columns, strVal(llast(fields)));
		return false;
	}
	return raw_expression_tree_walker(node, names_walker, names);
}

static List *
names_in(const char *expression)
{
	Names		names = {NIL};
	List	   *list = janitor_parse(expression, RAW_PARSE_PLPGSQL_EXPR);

	if (list != NIL)
		(void) names_walker(linitial_node(RawStmt, list)->stmt, &names);
	return names.columns;
}

/* The columns that follow SET. */
static Bitmapset *
columns_set(const JanitorCoverageTable *table, const char *set)
{
	List	   *list = janitor_parse(psprintf("UPDATE r SET %s", set),
									 RAW_PARSE_DEFAULT);
	Bitmapset  *columns = NULL;
	ListCell   *cell;

	if (list_length(list) != 1 ||
		!IsA(linitial_node(RawStmt, list)->stmt, UpdateStmt))
		return NULL;
	foreach(cell, ((UpdateStmt *) linitial_node(RawStmt, list)->stmt)->targetList)
	{
		ResTarget  *target = lfirst_node(ResTarget, cell);
		JanitorCoverageColumn *column =
		janitor_coverage_column(table, target->name);

		if (column != NULL)
			columns = bms_add_member(columns, column->attno);
	}
	return columns;
}

Oid
janitor_coverage_lookup(const char *qualified)
{
	List	   *names;
	Oid			schema;

	if (!SplitIdentifierString(pstrdup(qualified), '.', &names) ||
		list_length(names) != 2)
		return InvalidOid;
	schema = get_namespace_oid(linitial(names), true);
	return OidIsValid(schema) ? get_relname_relid(lsecond(names), schema) :
		InvalidOid;
}

/* --- one rule --- */

static bool
names_columns(const List *names, const List *columns)
{
	ListCell   *cell;

	foreach(cell, columns)
	{
		const JanitorCoverageColumn *column = lfirst(cell);
		bool		found = false;
		ListCell   *name;

		foreach(name, names)
			found = found || strcmp(lfirst(name), column->name) == 0;
		if (!found)
			return false;
	}
	return true;
}

static bool
rule_deletes(const JanitorRule *rule)
{
	return rule->action == JANITOR_DELETE || rule->action == JANITOR_ARCHIVE;
}

/*
 * Is the rule for the rows of a link?  Any match is good enough for the
 * subject's own row, which an item may name by whatever it likes.
 */
static bool
is_for(const JanitorLink *link, const List *names)
{
	return link->kind == JANITOR_LINK_SUBJECT ?
		names != NIL : names_columns(names, link->columns);
}

static void
cover(JanitorLink *link, const JanitorCoverageTable *table,
	  const JanitorRule *rule)
{
	char	   *by = psprintf("rule \"%s\" of job \"%s\"", rule->name,
							  rule->job_name);

	link->covered = true;
	link->deleted = link->deleted || rule_deletes(rule);
	if (rule->action == JANITOR_ANONYMIZE)
		link->assigned = bms_add_members(link->assigned,
										 columns_set(table, rule->set));
	link->covered_by = link->covered_by == NULL ? by :
		psprintf("%s, %s", link->covered_by, by);
}

/*
 * Of a table that no path leads to, any rule is for its rows.  It gets a link
 * for that, without columns.
 */
static void
cover_unreached(JanitorCoverageTable *table, const JanitorRule *rule)
{
	JanitorLink *link;

	if (table->links == NIL)
	{
		link = palloc0(sizeof(JanitorLink));
		link->kind = JANITOR_LINK_NAME;
		table->links = list_make1(link);
	}
	cover(linitial(table->links), table, rule);
}

static void
note_copy(JanitorCoverage *coverage, JanitorCoverageTable *table,
		  const JanitorRule *rule)
{
	JanitorCoverageTable *copy;

	if (rule->action != JANITOR_ARCHIVE)
		return;
	copy = janitor_coverage_table(coverage,
								  janitor_coverage_lookup(rule->archive_to));
	if (copy != NULL && copy != table)
		janitor_coverage_add_copy(coverage, table, copy);
}

static void
apply_rule(JanitorCoverage *coverage, const JanitorRule *rule)
{
	JanitorCoverageTable *table;
	List	   *names;
	ListCell   *cell;

	if (rule->match == NULL || rule->action == JANITOR_UPDATE)
		return;
	table = janitor_coverage_table(coverage,
								   janitor_coverage_lookup(rule->relation));
	if (table == NULL)
		return;
	names = names_in(rule->match);
	if (table->depth < 0)
		cover_unreached(table, rule);
	foreach(cell, table->links)
	{
		if (table->depth >= 0 && is_for(lfirst(cell), names))
			cover(lfirst(cell), table, rule);
	}
}

/* --- rows that go with others --- */

static bool
all_deleted(const JanitorCoverageTable *table)
{
	ListCell   *cell;

	foreach(cell, table->links)
	{
		JanitorLink *link = lfirst(cell);

		if (!link->deleted && !link->back)
			return false;
	}
	return table->links != NIL;
}

/* true: it was not, and now is */
static bool
cascade(JanitorLink *link)
{
	const JanitorLink *first;

	if (link->kind != JANITOR_LINK_KEY || link->deleted ||
		!all_deleted(link->from))
		return false;
	if (link->on_delete != FKCONSTR_ACTION_CASCADE &&
		!(link->back && (link->on_delete == FKCONSTR_ACTION_SETNULL ||
						 link->on_delete == FKCONSTR_ACTION_SETDEFAULT)))
		return false;
	first = linitial(link->from->links);
	link->deleted = true;
	link->covered = true;
	link->covered_by = psprintf("%s, by its foreign key",
								first->covered_by ? first->covered_by :
								link->from->qualified);
	return true;
}

static void
cascade_all(JanitorCoverage *coverage)
{
	bool		changed = true;

	while (changed)
	{
		ListCell   *cell;

		changed = false;
		foreach(cell, coverage->tables)
		{
			ListCell   *inner;

			foreach(inner, ((JanitorCoverageTable *) lfirst(cell))->links)
				changed = cascade(lfirst(inner)) || changed;
		}
	}
}

/* --- all rules --- */

static void
note_job(HeapTuple tuple, void *arg)
{
	List	  **jobs = arg;
	JanitorJob *job = janitor_job_from_tuple(heap_copytuple(tuple));

	if (job->kind == JANITOR_KIND_ITEMS && janitor_job_visible(job))
		*jobs = lappend(*jobs, job);
}

static List *
rules_of(const JanitorJob *job)
{
	List	   *jobs = NIL;
	List	   *rules = NIL;
	ListCell   *cell;

	if (job != NULL)
		return janitor_rules_load(job->name);
	janitor_definition_scan(note_job, &jobs);
	foreach(cell, jobs)
		rules = list_concat(rules,
							janitor_rules_load(((JanitorJob *) lfirst(cell))->name));
	return rules;
}

/* Copies are found first, so that rules for them find their links. */
void
janitor_coverage_rules(JanitorCoverage *coverage, const JanitorJob *job)
{
	List	   *rules = rules_of(job);
	ListCell   *cell;

	foreach(cell, rules)
	{
		const JanitorRule *rule = lfirst(cell);
		JanitorCoverageTable *table =
		janitor_coverage_table(coverage,
							   janitor_coverage_lookup(rule->relation));

		if (table != NULL)
			note_copy(coverage, table, rule);
	}
	foreach(cell, rules)
		apply_rule(coverage, lfirst(cell));
	cascade_all(coverage);
	if (coverage->job_name == NULL && rules != NIL)
		coverage->job_name = ((JanitorRule *) linitial(rules))->job_name;
}
