/*-------------------------------------------------------------------------
 *
 * rule_index.c
 *	  Which indexes a rule has, and which it should have.
 *
 * Looks at the catalogs only.  Of a partitioned table its own indexes count,
 * which every partition has a part of.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Are the first key columns those of `equal`, in any order, then `next`? */
static bool
keys_serve(const FormData_pg_index *form, List *equal, AttrNumber next)
{
	int			count = list_length(equal);

	if (form->indnkeyatts < count + (next != 0 ? 1 : 0))
		return false;
	for (int i = 0; i < count; i++)
		if (!list_member_int(equal, form->indkey.values[i]))
			return false;
	return next == 0 || form->indkey.values[count] == next;
}

/* Whole tables, in order; one that is being built will do soon. */
static bool
index_serves(Oid index, List *equal, AttrNumber next)
{
	Relation	rel = index_open(index, AccessShareLock);
	bool		result = rel->rd_rel->relam == BTREE_AM_OID &&
	heap_attisnull(rel->rd_indextuple, Anum_pg_index_indpred, NULL) &&
	keys_serve(rel->rd_index, equal, next);

	index_close(rel, AccessShareLock);
	return result;
}

bool
janitor_index_serves(Relation rel, List *equal, AttrNumber next)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(rel))
		if (index_serves(lfirst_oid(cell), equal, next))
		return true;
	return false;
}

static void
append_column(StringInfo to, Relation rel, AttrNumber attno)
{
	appendStringInfo(to, "%s%s", to->len > 0 ? ", " : "",
					 quote_identifier(get_attname(RelationGetRelid(rel), attno,
												  false)));
}

/* CONCURRENTLY is not to be had for a partitioned table. */
char *
janitor_index_statement(Relation rel, List *equal, AttrNumber next)
{
	StringInfoData columns;
	ListCell   *cell;

	initStringInfo(&columns);
	foreach(cell, equal)
		append_column(&columns, rel, lfirst_int(cell));
	if (next != 0)
		append_column(&columns, rel, next);
	return psprintf("CREATE INDEX %sON %s (%s);",
					rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ?
					"" : "CONCURRENTLY ",
					janitor_relation_name(RelationGetRelid(rel)),
					columns.data);
}

/* As of the last VACUUM or ANALYZE, scaled to the size the table has now. */
static double
leaf_rows(Oid leaf)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(leaf));
	Form_pg_class form;
	double		rows;
	BlockNumber pages;
	Relation	rel;

	if (!HeapTupleIsValid(tuple))
		return 0;
	form = (Form_pg_class) GETSTRUCT(tuple);
	rows = form->reltuples;
	pages = form->relpages;
	ReleaseSysCache(tuple);

	rel = table_open(leaf, AccessShareLock);
	if (rows < 0 || pages == 0)
	{
		rows = 100;				/* a guess; a page holds about so many */
		pages = 1;
	}
	rows = rows / pages * RelationGetNumberOfBlocks(rel);
	table_close(rel, NoLock);
	return rows;
}

double
janitor_rows_estimated(Oid relid)
{
	double		rows = 0;
	ListCell   *cell;

	foreach(cell, janitor_relation_leaves(relid))
		rows += leaf_rows(lfirst_oid(cell));
	return rows;
}
