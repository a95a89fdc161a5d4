/*-------------------------------------------------------------------------
 *
 * coverage.c
 *	  Which data of a person no rule erases.
 *
 * A job that erases people is right on the day it is written.  Then somebody
 * adds a table.  So what its rules leave out is found out from the catalogs,
 * whenever somebody asks: coverage_schema.c reads them, coverage_walk.c goes
 * from the subject to all rows that belong to it, coverage_words.c knows what
 * columns of personal data are called and coverage_label.c what people say of
 * them, coverage_rule.c tells what rules cover, coverage_propose.c writes the
 * rules that are missing; this file puts them together.
 *
 * It finds too much rather than too little, and cannot find everything: see
 * coverage_words.c.  What is no gap is labelled as such.
 *
 * Runs in the backend of whoever asks, with his rights.  The catalogs are
 * open to everybody, so this takes no right on the tables; of rules, it reads
 * those of jobs that he may see.  Nothing is evaluated.  A database of some
 * thousand tables takes some hundredths of a second.
 *
 * Memory: the current context, never given back in parts.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "catalog/pg_class.h"
#include "lib/stringinfo.h"

#include "rule.h"

/* --- what is left --- */

static bool
is_assigned(const JanitorLink *link, const JanitorCoverageColumn *column)
{
	return bms_is_member(column->attno, link->assigned);
}

/* Personal columns that count for the rows of a link (NULL: none). */
static List *
columns_at_stake(const JanitorCoverageTable *table, const JanitorLink *link)
{
	if (link != NULL && link->back)
		return NIL;
	return janitor_coverage_personal(table, link == NULL &&
									 !table->is_personal);
}

/* Those of them that no rule sets. */
static List *
columns_left(const JanitorCoverageTable *table, const JanitorLink *link)
{
	List	   *left = NIL;
	ListCell   *cell;

	if (link != NULL && link->deleted)
		return NIL;
	foreach(cell, columns_at_stake(table, link))
	{
		if (link == NULL || !is_assigned(link, lfirst(cell)))
			left = lappend(left, lfirst(cell));
	}
	return left;
}

static List *
column_names(const List *columns)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, columns)
		names = lappend(names, ((JanitorCoverageColumn *) lfirst(cell))->name);
	return names;
}

/* --- why --- */

static const char *
link_reason(const JanitorLink *link)
{
	switch (link->kind)
	{
		case JANITOR_LINK_SUBJECT:
			return "the subject itself";
		case JANITOR_LINK_KEY:
			return link->back ?
				"foreign key of rows that may be somebody else's" :
				"foreign key";
		case JANITOR_LINK_NAME:
			return "looks like its key";
		case JANITOR_LINK_DOCUMENT:
			return "index on a field that looks like its key";
		case JANITOR_LINK_UP:
			return link->alone ? "it refers to this" :
				"it refers to this, as others may";
		case JANITOR_LINK_ARCHIVE:
			return "archive of such rows";
	}
	return NULL;				/* keep compilers quiet */
}

static const char *
kind_reason(const JanitorCoverageTable *table)
{
	switch (table->relkind)
	{
		case RELKIND_FOREIGN_TABLE:
			return "foreign table";
		case RELKIND_MATVIEW:
			return "materialized view";
		default:
			return NULL;
	}
}

static void
append_reason(StringInfo text, const char *reason)
{
	if (reason == NULL)
		return;
	appendStringInfo(text, "%s%s", text->len > 0 ? "; " : "", reason);
}

static char *
describe_reason(const JanitorCoverageTable *table, const JanitorLink *link,
				const List *columns)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	append_reason(&text, kind_reason(table));
	if (link != NULL && link->columns != NIL)
		append_reason(&text, link_reason(link));
	else if (table->is_personal)
		append_reason(&text, "labelled personal");
	foreach(cell, columns)
	{
		const JanitorCoverageColumn *column = lfirst(cell);

		append_reason(&text,
					  psprintf(column->personal == JANITOR_PERSONAL_LABEL ?
							   "%s is %s" : "%s looks like %s", column->name,
							   janitor_personal_name(column->personal)));
	}
	return text.data;
}

/* --- gaps --- */

/* NULL: nothing is left, and nobody asked for more. */
static JanitorGap *
make_gap(JanitorCoverage *coverage, JanitorCoverageTable *table,
		 JanitorLink *link, bool all)
{
	List	   *left = columns_left(table, link);
	bool		covered = link != NULL && link->covered && left == NIL;
	JanitorGap *gap;

	if (covered && !all)
		return NULL;
	if (left == NIL)
		left = columns_at_stake(table, link);
	gap = palloc0(sizeof(JanitorGap));
	gap->relid = table->relid;
	gap->relation = table->qualified;
	gap->columns = column_names(left != NIL ? left :
								link != NULL ? link->columns : NIL);
	if (link != NULL && link->columns != NIL)
		gap->path = janitor_coverage_path(table, link);
	gap->reason = describe_reason(table, link, left);
	gap->covered_by = link != NULL ? link->covered_by : NULL;
	gap->covered = covered;
	if (!covered)
		gap->proposal = janitor_coverage_proposal(coverage, table, link);
	return gap;
}

/* Nearest to the subject first; those that no path leads to last. */
static int
compare_distance(const ListCell *a, const ListCell *b)
{
	const JanitorCoverageTable *first = lfirst(a);
	const JanitorCoverageTable *second = lfirst(b);

	if ((first->depth < 0) != (second->depth < 0))
		return first->depth < 0 ? 1 : -1;
	if (first->depth != second->depth)
		return first->depth - second->depth;
	return strcmp(first->qualified, second->qualified);
}

static List *
table_gaps(JanitorCoverage *coverage, JanitorCoverageTable *table, bool all)
{
	List	   *gaps = NIL;
	ListCell   *cell;

	if (table->links == NIL &&
		(table->is_personal || columns_at_stake(table, NULL) != NIL))
		return list_make1(make_gap(coverage, table, NULL, all));
	foreach(cell, table->links)
	{
		JanitorGap *gap = make_gap(coverage, table, lfirst(cell), all);

		if (gap != NULL)
			gaps = lappend(gaps, gap);
	}
	return gaps;
}

/* How the job's query calls the subject's key. */
static void
note_job(JanitorCoverage *coverage, const JanitorJob *job)
{
	if (job == NULL)
		return;
	coverage->job_name = job->name;
	coverage->key_name = janitor_coverage_key_name(job);
}

List *
janitor_coverage_gaps(Oid subject, const JanitorJob *job, bool all)
{
	JanitorCoverage *coverage = janitor_coverage_read();
	List	   *gaps = NIL;
	ListCell   *cell;

	note_job(coverage, job);
	janitor_coverage_walk(coverage, subject);
	janitor_coverage_rules(coverage, job);
	(void) janitor_coverage_order(coverage);
	list_sort(coverage->tables, compare_distance);
	foreach(cell, coverage->tables)
		gaps = list_concat(gaps, table_gaps(coverage, lfirst(cell), all));
	return gaps;
}

bool
janitor_coverage_erases(const JanitorJob *job)
{
	Oid			subject = InvalidOid;
	bool		known = false;
	ListCell   *cell;

	if (job->kind != JANITOR_KIND_ITEMS)
		return false;
	foreach(cell, janitor_rules_load(job->name))
	{
		const JanitorRule *rule = lfirst(cell);

		if (rule->action == JANITOR_ANONYMIZE)
			return true;
		if (rule->action == JANITOR_UPDATE)
			continue;
		if (!known)
			subject = janitor_coverage_subject(job);
		known = true;
		if (OidIsValid(subject) &&
			janitor_coverage_lookup(rule->relation) == subject)
			return true;
	}
	return false;
}
