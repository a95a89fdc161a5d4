/*-------------------------------------------------------------------------
 *
 * coverage_walk.c
 *	  From a subject to all tables with rows that belong to it.
 *
 * The walk goes breadth first.  From a table it reaches
 *
 *	- tables with a foreign key to it, whatever its columns, also itself;
 *	- tables with a column that looks like its key and has no foreign key:
 *	  by the table's name (user_id, "userId"), for the subject also by the
 *	  part that a person plays (author_id, created_by), or as a field of a
 *	  document that has an index;
 *	- upwards, from the subject and from tables that only join others, tables
 *	  it refers to, if they look personal.  Rows there may belong to several
 *	  subjects, so the walk goes on from them only where that cannot be.
 *
 * Each foreign key is a link of its own: a message belongs to its sender and
 * to its recipient.  Links from a table that was reached earlier have no
 * cycles.  The others, among them those of a table to itself, lead back to
 * rows of other people that refer to the subject's: all that is personal in
 * them is the reference.
 *
 * Memory: that of the coverage.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

typedef struct Walk
{
	JanitorCoverage *coverage;
	List	   *reached;		/* of JanitorCoverageTable *, in their order */
	int			count;			/* of these, and those not followed further */
} Walk;

static bool
same_columns(const List *a, const List *b)
{
	ListCell   *one;
	ListCell   *other;

	forboth(one, a, other, b)
	{
		if (lfirst(one) != lfirst(other))
			return false;
	}
	return list_length(a) == list_length(b);
}

static bool
has_link(const JanitorCoverageTable *table, const List *columns)
{
	ListCell   *cell;

	foreach(cell, table->links)
	{
		JanitorLink *link = lfirst(cell);

		if (same_columns(link->columns, columns))
			return true;
	}
	return false;
}

/* Adds a link; further: the walk goes on from the table. */
static JanitorLink *
add_link(Walk *walk, JanitorCoverageTable *table, JanitorLinkKind kind,
		 JanitorCoverageTable *from, List *columns, List *from_columns,
		 bool further)
{
	JanitorLink *link = palloc0(sizeof(JanitorLink));

	link->kind = kind;
	link->from = from;
	link->columns = columns;
	link->from_columns = from_columns;
	table->links = lappend(table->links, link);
	if (table->depth < 0)
	{
		table->depth = from == NULL ? 0 : from->depth + 1;
		table->order = walk->count++;
	}
	link->back = from != NULL && from->order >= table->order;
	if (further && !list_member_ptr(walk->reached, table))
		walk->reached = lappend(walk->reached, table);
	return link;
}

/* --- by foreign keys --- */

static void
follow_children(Walk *walk, JanitorCoverageTable *table)
{
	ListCell   *cell;

	foreach(cell, table->children)
	{
		JanitorCoverageKey *key = lfirst(cell);
		JanitorLink *link;
		JanitorCoverageColumn *first = linitial(key->columns);

		if (key->child->not_personal || has_link(key->child, key->columns))
			continue;
		link = add_link(walk, key->child, JANITOR_LINK_KEY, table,
						key->columns, key->parent_columns, true);
		link->on_delete = key->on_delete;
		(void) janitor_words_role(first->name, &link->actor);
	}
}

/* Has it no columns of its own, so that it only joins others? */
static bool
joins(const JanitorCoverageTable *table)
{
	ListCell   *cell;

	if (list_length(table->parents) < 2)
		return false;
	foreach(cell, table->columns)
	{
		JanitorCoverageColumn *column = lfirst(cell);

		if (!column->in_key && column->shape != JANITOR_SHAPE_DATE &&
			!list_member_ptr(table->primary_key, column) &&
			column->shape != JANITOR_SHAPE_INTEGER &&
			column->shape != JANITOR_SHAPE_ENUM)
			return false;
	}
	return true;
}

static void
follow_parents(Walk *walk, JanitorCoverageTable *table)
{
	ListCell   *cell;

	if (table != walk->coverage->subject && !joins(table))
		return;
	foreach(cell, table->parents)
	{
		JanitorCoverageKey *key = lfirst(cell);
		JanitorCoverageTable *parent = key->parent;
		JanitorLink *link;

		if (parent->depth >= 0 || parent->not_personal ||
			(!parent->is_personal &&
			 janitor_coverage_personal(parent, !key->unique) == NIL))
			continue;
		link = add_link(walk, parent, JANITOR_LINK_UP, table,
						key->parent_columns, key->columns, key->unique);
		link->alone = key->unique;
	}
}

/* --- by names --- */

/* Is there another table whose key the column looks like? */
static bool
refers_elsewhere(const Walk *walk, const JanitorCoverageTable *table,
				 const char *column)
{
	ListCell   *cell;

	foreach(cell, walk->coverage->tables)
	{
		const JanitorCoverageTable *other = lfirst(cell);

		if (other != table && janitor_words_refer(column, other->name))
			return true;
	}
	return false;
}

/* Can values of the two be compared, when one is written as text? */
static bool
types_fit(const JanitorCoverageColumn *column,
		  const JanitorCoverageColumn *key)
{
	return column->type == key->type ||
		column->shape == JANITOR_SHAPE_STRING ||
		(column->shape == key->shape &&
		 column->shape == JANITOR_SHAPE_INTEGER);
}

/* The columns that the table is referred to by: its key, if it has one. */
static List *
key_of(const Walk *walk, const JanitorCoverageTable *table)
{
	return table == walk->coverage->subject ? walk->coverage->subject_key :
		table->primary_key;
}

static bool
looks_like_key(const Walk *walk, const JanitorCoverageTable *table,
			   const JanitorCoverageColumn *key,
			   const JanitorCoverageColumn *column, bool *actor)
{
	bool		is_subject = table == walk->coverage->subject;

	*actor = false;
	if (column->in_key || column->shape == JANITOR_SHAPE_DOCUMENT ||
		!types_fit(column, key))
		return false;
	if (janitor_words_refer(column->name, table->name))
		return true;
	if (!is_subject)
		return false;

	/* the same name as that of a key that says more than "id" */
	if (strcmp(column->name, key->name) == 0 &&
		key->shape == JANITOR_SHAPE_STRING && strlen(key->name) > 4)
		return true;
	return column->type == key->type &&
		janitor_words_role(column->name, actor) &&
		!refers_elsewhere(walk, table, column->name);
}

static bool
is_primary_key(const JanitorCoverageTable *table,
			   const JanitorCoverageColumn *column)
{
	return list_length(table->primary_key) == 1 &&
		linitial(table->primary_key) == column;
}

static void
follow_column(Walk *walk, JanitorCoverageTable *table,
			  JanitorCoverageColumn *key, JanitorCoverageTable *other,
			  JanitorCoverageColumn *column)
{
	List	   *columns = list_make1(column);
	bool		actor;
	JanitorLink *link;

	if (!looks_like_key(walk, table, key, column, &actor) ||
		has_link(other, columns) ||
		(is_primary_key(other, column) &&
		 !janitor_words_refer(column->name, table->name)))
		return;
	link = add_link(walk, other, JANITOR_LINK_NAME, table, columns,
					list_make1(key), true);
	link->actor = actor;
}

static void
follow_fields(Walk *walk, JanitorCoverageTable *table,
			  JanitorCoverageColumn *key, JanitorCoverageTable *other)
{
	ListCell   *cell;

	foreach(cell, other->fields)
	{
		JanitorCoverageField *field = lfirst(cell);
		List	   *columns = list_make1(field->column);
		bool		actor;

		if (has_link(other, columns) ||
			(!janitor_words_refer(field->name, table->name) &&
			 !(table == walk->coverage->subject &&
			   janitor_words_role(field->name, &actor) &&
			   !refers_elsewhere(walk, table, field->name))))
			continue;
		add_link(walk, other, JANITOR_LINK_DOCUMENT, table, columns,
				 list_make1(key), true)->field = field->name;
	}
}

static void
follow_names(Walk *walk, JanitorCoverageTable *table)
{
	List	   *keys = key_of(walk, table);
	ListCell   *cell;

	if (list_length(keys) != 1)
		return;
	foreach(cell, walk->coverage->tables)
	{
		JanitorCoverageTable *other = lfirst(cell);
		ListCell   *inner;

		if (other->not_personal || other == table)
			continue;
		foreach(inner, other->columns)
			follow_column(walk, table, linitial(keys), other, lfirst(inner));
		follow_fields(walk, table, linitial(keys), other);
	}
}

/* --- all of it --- */

/* The columns by which rows of the subject are told apart. */
static void
find_subject_key(JanitorCoverage *coverage)
{
	JanitorCoverageTable *subject = coverage->subject;

	coverage->subject_key = subject->primary_key;
	if (coverage->subject_key == NIL && subject->children != NIL)
		coverage->subject_key =
			((JanitorCoverageKey *) linitial(subject->children))->parent_columns;
	if (coverage->subject_key == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s has no primary key", subject->qualified),
				 errhint("A subject is told apart from others by the primary key of its table.")));
}

static void
find_subject(JanitorCoverage *coverage, Oid relid)
{
	coverage->subject = janitor_coverage_table(coverage, relid);
	if (coverage->subject == NULL ||
		(coverage->subject->relkind != RELKIND_RELATION &&
		 coverage->subject->relkind != RELKIND_PARTITIONED_TABLE))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a subject must be a row of an ordinary table"),
				 errhint("Name the table that has one row for each person; of a partitioned table, its parent.")));
	find_subject_key(coverage);
}

void
janitor_coverage_walk(JanitorCoverage *coverage, Oid subject)
{
	Walk		walk = {coverage};

	find_subject(coverage, subject);
	(void) add_link(&walk, coverage->subject, JANITOR_LINK_SUBJECT, NULL,
					coverage->subject_key, NIL, true);

	/* the list grows while we walk it */
	for (int i = 0; i < list_length(walk.reached); i++)
	{
		JanitorCoverageTable *table = list_nth(walk.reached, i);

		CHECK_FOR_INTERRUPTS();
		follow_children(&walk, table);
		follow_names(&walk, table);
		follow_parents(&walk, table);
	}
}

void
janitor_coverage_add_copy(JanitorCoverage *coverage,
						  JanitorCoverageTable *table,
						  JanitorCoverageTable *copy)
{
	JanitorLink *link;
	ListCell   *cell;

	if (copy->depth >= 0 || copy->not_personal || table->depth < 0)
		return;
	foreach(cell, table->links)
	{
		JanitorLink *original = lfirst(cell);
		List	   *columns = NIL;
		ListCell   *inner;

		foreach(inner, original->columns)
		{
			JanitorCoverageColumn *same =
			janitor_coverage_column(copy,
									((JanitorCoverageColumn *) lfirst(inner))->name);

			if (same != NULL)
				columns = lappend(columns, same);
		}
		if (list_length(columns) != list_length(original->columns))
			continue;
		link = palloc0(sizeof(JanitorLink));
		*link = *original;
		link->kind = JANITOR_LINK_ARCHIVE;
		link->original = original;
		link->columns = columns;
		link->from = table;
		link->from_columns = original->columns;
		copy->links = lappend(copy->links, link);
		copy->depth = table->depth + 1;
	}
}

/* --- paths --- */

static void
append_columns(StringInfo text, const JanitorLink *link, const List *columns)
{
	const char *separator = " (";
	ListCell   *cell;

	foreach(cell, columns)
	{
		JanitorCoverageColumn *column = lfirst(cell);

		appendStringInfo(text, "%s%s", separator,
						 quote_identifier(column->name));
		separator = ", ";
	}
	if (link->field != NULL)
		appendStringInfo(text, " ->> %s", quote_literal_cstr(link->field));
	appendStringInfoChar(text, ')');
}

char *
janitor_coverage_path(const JanitorCoverageTable *table,
					  const JanitorLink *link)
{
	StringInfoData text;

	initStringInfo(&text);
	if (link->from == NULL)
		return pstrdup(table->qualified);
	appendStringInfoString(&text,
						   janitor_coverage_path(link->from,
												 linitial(link->from->links)));
	switch (link->kind)
	{
		case JANITOR_LINK_UP:
			appendStringInfo(&text, " -> %s", table->qualified);
			append_columns(&text, link, link->from_columns);
			break;
		case JANITOR_LINK_ARCHIVE:
			appendStringInfo(&text, " => %s", table->qualified);
			break;
		default:
			appendStringInfo(&text, " <- %s", table->qualified);
			append_columns(&text, link, link->columns);
			break;
	}
	return text.data;
}
