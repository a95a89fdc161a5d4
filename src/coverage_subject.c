/*-------------------------------------------------------------------------
 *
 * coverage_subject.c
 *	  Whom an items job is about, by its query.
 *
 * The first column of an items query is the key of the item.  It names the
 * table that the item comes from; if it is a foreign key there, as in a table
 * of requests to be deleted, the subject is what it refers to.
 *
 * The query is parsed, and its tables looked up in the job's search_path;
 * nothing is analysed, planned or run.  A query that is more involved (its key
 * comes out of a sub-select or an expression) does not tell.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "access/genam.h"
#include "access/table.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "object.h"
#include "parse.h"

/* --- the query --- */

static SelectStmt *
parse_query(const char *text)
{
	List	   *list = janitor_parse(text, RAW_PARSE_DEFAULT);
	SelectStmt *select;

	if (list_length(list) != 1 ||
		!IsA(linitial_node(RawStmt, list)->stmt, SelectStmt))
		return NULL;
	select = castNode(SelectStmt, linitial_node(RawStmt, list)->stmt);
	return select->targetList == NIL ? NULL : select;
}

/* The first column of the query; NULL: it is no plain column. */
static ColumnRef *
first_column(const SelectStmt *select)
{
	ResTarget  *target = linitial_node(ResTarget, select->targetList);
	Node	   *value = target->val;

	while (IsA(value, TypeCast))
		value = ((TypeCast *) value)->arg;
	return IsA(value, ColumnRef) ? (ColumnRef *) value : NULL;
}

/* What the item calls it; NULL if that cannot be told: `*`. */
static char *
first_name(const SelectStmt *select)
{
	ResTarget  *target = linitial_node(ResTarget, select->targetList);
	ColumnRef  *column = first_column(select);

	if (target->name != NULL)
		return target->name;
	return column != NULL && IsA(llast(column->fields), String) ?
		strVal(llast(column->fields)) : NULL;
}

/* All tables of a FROM, through its joins. */
static List *
tables_in(Node *from, List *tables)
{
	if (IsA(from, RangeVar))
		return lappend(tables, from);
	if (IsA(from, JoinExpr))
	{
		tables = tables_in(((JoinExpr *) from)->larg, tables);
		return tables_in(((JoinExpr *) from)->rarg, tables);
	}
	return tables;
}

/* --- names --- */

/* Where there is no such schema there is no such table. */
static Oid
look_in_path(const JanitorJob *job, const char *name)
{
	char	   *path = janitor_object_get_text(job->settings, "search_path");
	List	   *schemas;
	ListCell   *cell;

	if (path == NULL || !SplitIdentifierString(path, ',', &schemas))
		return InvalidOid;
	foreach(cell, schemas)
	{
		const char *schema_name = strcmp(lfirst(cell), "$user") == 0 ?
		job->owner : lfirst(cell);
		Oid			schema = get_namespace_oid(schema_name, true);
		Oid			found = OidIsValid(schema) ?
		get_relname_relid(name, schema) : InvalidOid;

		if (OidIsValid(found))
			return found;
	}
	return InvalidOid;
}

static Oid
find_table(const JanitorJob *job, const RangeVar *table)
{
	Oid			schema;

	if (table->schemaname == NULL)
		return look_in_path(job, table->relname);
	schema = get_namespace_oid(table->schemaname, true);
	return OidIsValid(schema) ? get_relname_relid(table->relname, schema) :
		InvalidOid;
}

static bool
is_called(const RangeVar *table, const char *name)
{
	return strcmp(table->alias ? table->alias->aliasname : table->relname,
				  name) == 0;
}

/* The table that a column comes from, and its number there. */
static Oid
find_column(const JanitorJob *job, const SelectStmt *select,
			const ColumnRef *column, AttrNumber *attno)
{
	int			count = list_length(column->fields);
	List	   *tables = NIL;
	ListCell   *cell;

	foreach(cell, select->fromClause)
		tables = tables_in(lfirst(cell), tables);
	foreach(cell, tables)
	{
		const RangeVar *table = lfirst(cell);
		Oid			relid = find_table(job, table);

		if (!OidIsValid(relid) ||
			(count > 1 && !is_called(table, strVal(list_nth(column->fields,
															count - 2)))))
			continue;
		if (IsA(llast(column->fields), A_Star))
			*attno = 1;
		else
			*attno = get_attnum(relid, strVal(llast(column->fields)));
		if (*attno > 0)
			return relid;
	}
	return InvalidOid;
}

/* --- foreign keys --- */

/* The table and the column that a column refers to; InvalidOid: none. */
static Oid
referred_by(Oid relid, AttrNumber attno, AttrNumber *parent_attno)
{
	Relation	rel = table_open(ConstraintRelationId, AccessShareLock);
	Oid			found = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_constraint_conrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, ConstraintRelidTypidNameIndexId, true,
							  NULL, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
		AttrNumber	columns[INDEX_MAX_KEYS];
		AttrNumber	parent_columns[INDEX_MAX_KEYS];
		int			count;

		if (form->contype != CONSTRAINT_FOREIGN ||
			OidIsValid(form->conparentid))
			continue;
		DeconstructFkConstraintRow(tuple, &count, columns, parent_columns,
								   NULL, NULL, NULL, NULL, NULL);
		if (count == 1 && columns[0] == attno && form->confrelid != relid)
		{
			found = form->confrelid;
			*parent_attno = parent_columns[0];
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

Oid
janitor_coverage_key_of(const JanitorJob *job, AttrNumber *attno)
{
	SelectStmt *select = job->items ? parse_query(job->items) : NULL;
	ColumnRef  *column = select ? first_column(select) : NULL;
	Oid			relid;
	Oid			parent;

	if (column == NULL)
		return InvalidOid;
	relid = find_column(job, select, column, attno);
	if (!OidIsValid(relid))
		return InvalidOid;
	parent = referred_by(relid, *attno, attno);
	return OidIsValid(parent) ? parent : relid;
}

Oid
janitor_coverage_subject(const JanitorJob *job)
{
	AttrNumber	attno;

	return janitor_coverage_key_of(job, &attno);
}

char *
janitor_coverage_key_name(const JanitorJob *job)
{
	SelectStmt *select = job->items ? parse_query(job->items) : NULL;

	return select ? first_name(select) : NULL;
}
