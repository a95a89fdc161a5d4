/*-------------------------------------------------------------------------
 *
 * coverage_schema.c
 *	  What is in the database, as far as it may hold personal data: tables,
 *	  their columns, foreign keys, indexed fields of documents.
 *
 * Partitions and children by inheritance count as the topmost table above
 * them, which is what rules name: a foreign key of a partition is one of its
 * parent.  Foreign tables and materialized views are looked at too, since
 * they show or hold copies of what is elsewhere.  Left out are the server's
 * own tables, those of extensions and temporary ones.
 *
 * Reads the catalogs alone, which everybody may, takes no locks on what it
 * finds and evaluates nothing.  A table that is dropped meanwhile is missing,
 * or has no columns.  Memory: the current context.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* While the catalogs are read. */
typedef struct Reading
{
	JanitorCoverage *coverage;
	List	   *labels;
	HTAB	   *parents;		/* of ParentEntry */
	HTAB	   *tables;			/* of TableEntry */
} Reading;

typedef struct ParentEntry
{
	Oid			child;			/* the key */
	Oid			parent;
} ParentEntry;

typedef struct TableEntry
{
	Oid			relid;			/* the key */
	JanitorCoverageTable *table;
} TableEntry;

static HTAB *
make_hash(const char *name, Size entry_size)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = entry_size,
	.hcxt = CurrentMemoryContext};

	return hash_create(name, 256, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Calls `each` for every row of a catalog. */
static void
scan_catalog(Oid catalog, void (*each) (Reading *reading, Relation rel,
										HeapTuple tuple), Reading *reading)
{
	Relation	rel = table_open(catalog, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL,
										  0, NULL);
	HeapTuple	tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
		each(reading, rel, tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* --- parents --- */

static void
note_parent(Reading *reading, Relation rel, HeapTuple tuple)
{
	Form_pg_inherits form = (Form_pg_inherits) GETSTRUCT(tuple);
	ParentEntry *entry;
	bool		found;

	entry = hash_search(reading->parents, &form->inhrelid, HASH_ENTER, &found);
	if (!found || form->inhseqno == 1)
		entry->parent = form->inhparent;
}

static Oid
topmost(Reading *reading, Oid relid)
{
	ParentEntry *entry;

	while ((entry = hash_search(reading->parents, &relid, HASH_FIND,
								NULL)) != NULL)
		relid = entry->parent;
	return relid;
}

static JanitorCoverageTable *
find_table(Reading *reading, Oid relid)
{
	Oid			top = topmost(reading, relid);
	TableEntry *entry = hash_search(reading->tables, &top, HASH_FIND, NULL);

	return entry ? entry->table : NULL;
}

/* --- columns --- */

static JanitorCoverageColumn *
make_column(Reading *reading, JanitorCoverageTable *table,
			Form_pg_attribute form)
{
	JanitorCoverageColumn *column = palloc0(sizeof(JanitorCoverageColumn));
	JanitorLabel label = janitor_labels_find(reading->labels, table->relid,
											 form->attnum);

	column->attno = form->attnum;
	column->name = pstrdup(NameStr(form->attname));
	column->type = form->atttypid;
	column->typmod = form->atttypmod;
	column->shape = janitor_shape(form->atttypid);
	column->not_null = form->attnotnull;
	column->fixed = form->attgenerated != '\0' || form->attidentity != '\0';
	column->personal = janitor_words_column(reading->coverage->words,
											column->name, column->shape,
											&column->strong);
	if (label == JANITOR_LABEL_PERSONAL &&
		column->personal == JANITOR_NOT_PERSONAL)
		column->personal = JANITOR_PERSONAL_LABEL;
	if (label == JANITOR_LABEL_PERSONAL)
		column->strong = true;

	/* what is generated follows what it is generated from */
	if (label == JANITOR_LABEL_NOT_PERSONAL || table->not_personal ||
		form->attgenerated != '\0')
		column->personal = JANITOR_NOT_PERSONAL;
	return column;
}

static void
read_columns(Reading *reading, JanitorCoverageTable *table, int natts)
{
	for (int attno = 1; attno <= natts; attno++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM,
											ObjectIdGetDatum(table->relid),
											Int16GetDatum(attno));

		if (!HeapTupleIsValid(tuple))
			continue;
		if (!((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
			table->columns = lappend(table->columns,
									 make_column(reading, table,
												 (Form_pg_attribute) GETSTRUCT(tuple)));
		ReleaseSysCache(tuple);
	}
}

static JanitorCoverageColumn *
column_by_number(const JanitorCoverageTable *table, AttrNumber attno)
{
	ListCell   *cell;

	foreach(cell, table->columns)
	{
		JanitorCoverageColumn *column = lfirst(cell);

		if (column->attno == attno)
			return column;
	}
	return NULL;
}

JanitorCoverageColumn *
janitor_coverage_column(const JanitorCoverageTable *table, const char *name)
{
	ListCell   *cell;

	foreach(cell, table->columns)
	{
		JanitorCoverageColumn *column = lfirst(cell);

		if (strcmp(column->name, name) == 0)
			return column;
	}
	return NULL;
}

List *
janitor_coverage_personal(const JanitorCoverageTable *table, bool only_strong)
{
	List	   *columns = NIL;
	ListCell   *cell;

	foreach(cell, table->columns)
	{
		JanitorCoverageColumn *column = lfirst(cell);

		if (column->personal != JANITOR_NOT_PERSONAL && !column->in_key &&
			(column->strong || !only_strong))
			columns = lappend(columns, column);
	}
	return columns;
}

/* --- tables --- */

static bool
is_candidate(Reading *reading, Form_pg_class form)
{
	char	   *schema;

	if ((form->relkind != RELKIND_RELATION &&
		 form->relkind != RELKIND_PARTITIONED_TABLE &&
		 form->relkind != RELKIND_FOREIGN_TABLE &&
		 form->relkind != RELKIND_MATVIEW) ||
		form->relpersistence == RELPERSISTENCE_TEMP ||
		IsCatalogNamespace(form->relnamespace) ||
		topmost(reading, form->oid) != form->oid ||
		OidIsValid(getExtensionOfObject(RelationRelationId, form->oid)))
		return false;
	schema = get_namespace_name(form->relnamespace);
	return schema != NULL && strcmp(schema, "information_schema") != 0 &&
		strcmp(schema, "pg_toast") != 0;
}

static void
note_table(Reading *reading, Relation rel, HeapTuple tuple)
{
	Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
	JanitorCoverageTable *table;
	TableEntry *entry;
	JanitorLabel label;

	if (!is_candidate(reading, form))
		return;
	label = janitor_labels_find(reading->labels, form->oid, 0);
	table = palloc0(sizeof(JanitorCoverageTable));
	table->relid = form->oid;
	table->relkind = form->relkind;
	table->name = pstrdup(NameStr(form->relname));
	table->qualified = quote_qualified_identifier(get_namespace_name(form->relnamespace),
												  table->name);
	table->not_personal = label == JANITOR_LABEL_NOT_PERSONAL;
	table->is_personal = label == JANITOR_LABEL_PERSONAL;
	table->depth = -1;
	read_columns(reading, table, form->relnatts);
	reading->coverage->tables = lappend(reading->coverage->tables, table);
	entry = hash_search(reading->tables, &table->relid, HASH_ENTER, NULL);
	entry->table = table;
}

/* Their order must not depend on that of pg_class. */
static int
compare_tables(const ListCell *a, const ListCell *b)
{
	return strcmp(((JanitorCoverageTable *) lfirst(a))->qualified,
				  ((JanitorCoverageTable *) lfirst(b))->qualified);
}

JanitorCoverageTable *
janitor_coverage_table(const JanitorCoverage *coverage, Oid relid)
{
	ListCell   *cell;

	foreach(cell, coverage->tables)
	{
		JanitorCoverageTable *table = lfirst(cell);

		if (table->relid == relid)
			return table;
	}
	return NULL;
}

/* --- keys --- */

/* Columns of a table by those of itself or of a partition of it. */
static List *
columns_of(JanitorCoverageTable *table, Oid relid, const int16 *attnos,
		   int count)
{
	List	   *columns = NIL;

	for (int i = 0; i < count; i++)
	{
		char	   *name = get_attname(relid, attnos[i], true);
		JanitorCoverageColumn *column = name == NULL ? NULL :
		janitor_coverage_column(table, name);

		if (column == NULL)
			return NIL;
		columns = lappend(columns, column);
	}
	return columns;
}

static void
note_foreign_key(Reading *reading, HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	JanitorCoverageKey *key = palloc0(sizeof(JanitorCoverageKey));
	AttrNumber	child_columns[INDEX_MAX_KEYS];
	AttrNumber	parent_columns[INDEX_MAX_KEYS];
	int			count;
	ListCell   *cell;

	key->child = find_table(reading, form->conrelid);
	key->parent = find_table(reading, form->confrelid);
	if (key->child == NULL || key->parent == NULL)
		return;
	DeconstructFkConstraintRow(tuple, &count, child_columns, parent_columns,
							   NULL, NULL, NULL, NULL, NULL);
	key->on_delete = form->confdeltype;
	key->columns = columns_of(key->child, form->conrelid, child_columns,
							  count);
	key->parent_columns = columns_of(key->parent, form->confrelid,
									 parent_columns, count);
	if (key->columns == NIL || key->parent_columns == NIL)
		return;
	foreach(cell, key->columns)
		((JanitorCoverageColumn *) lfirst(cell))->in_key = true;
	reading->coverage->keys = lappend(reading->coverage->keys, key);
}

static void
note_primary_key(Reading *reading, Relation rel, HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	JanitorCoverageTable *table = find_table(reading, form->conrelid);
	bool		isnull;
	Datum		numbers = heap_getattr(tuple, Anum_pg_constraint_conkey,
									   RelationGetDescr(rel), &isnull);
	ArrayType  *array;

	if (table == NULL || table->relid != form->conrelid || isnull)
		return;
	array = DatumGetArrayTypeP(numbers);
	table->primary_key = columns_of(table, form->conrelid,
									(int16 *) ARR_DATA_PTR(array),
									ARR_DIMS(array)[0]);
}

/* Of a foreign key, the one that was declared, not its shadows. */
static void
note_constraint(Reading *reading, Relation rel, HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

	if (form->contype == CONSTRAINT_PRIMARY)
		note_primary_key(reading, rel, tuple);
	else if (form->contype == CONSTRAINT_FOREIGN &&
			 !OidIsValid(form->conparentid))
		note_foreign_key(reading, tuple);
}

/* Of equal ones, on several partitions, the first stays. */
static int
compare_keys(const ListCell *a, const ListCell *b)
{
	const JanitorCoverageKey *first = lfirst(a);
	const JanitorCoverageKey *second = lfirst(b);
	int			difference = strcmp(first->child->qualified,
									second->child->qualified);
	ListCell   *one;
	ListCell   *other;

	if (difference == 0)
		difference = strcmp(first->parent->qualified,
							second->parent->qualified);
	if (difference != 0)
		return difference;
	forboth(one, first->columns, other, second->columns)
	{
		difference = ((JanitorCoverageColumn *) lfirst(one))->attno -
			((JanitorCoverageColumn *) lfirst(other))->attno;
		if (difference != 0)
			return difference;
	}
	return list_length(first->columns) - list_length(second->columns);
}

static void
connect_tables(JanitorCoverage *coverage)
{
	List	   *keys = NIL;
	ListCell   *cell;
	const ListCell *previous = NULL;

	list_sort(coverage->keys, compare_keys);
	foreach(cell, coverage->keys)
	{
		JanitorCoverageKey *key = lfirst(cell);

		if (previous != NULL && compare_keys(previous, cell) == 0)
			continue;
		previous = cell;
		keys = lappend(keys, key);
		key->parent->children = lappend(key->parent->children, key);
		key->child->parents = lappend(key->child->parents, key);
	}
	coverage->keys = keys;
}

/* --- indexes --- */

typedef struct FieldSearch
{
	JanitorCoverageTable *table;
	JanitorCoverageColumn *column;
	char	   *name;
} FieldSearch;

/* A document, and a text beside it: the name of a field. */
static bool
field_walker(Node *node, FieldSearch *search)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		JanitorCoverageColumn *column =
		column_by_number(search->table, ((Var *) node)->varattno);

		if (column != NULL && column->shape == JANITOR_SHAPE_DOCUMENT)
			search->column = column;
	}
	else if (IsA(node, Const) && ((Const *) node)->consttype == TEXTOID &&
			 !((Const *) node)->constisnull)
		search->name = TextDatumGetCString(((Const *) node)->constvalue);
	return expression_tree_walker(node, field_walker, search);
}

static void
note_fields(JanitorCoverageTable *table, List *expressions)
{
	ListCell   *cell;

	foreach(cell, expressions)
	{
		FieldSearch search = {table};
		JanitorCoverageField *field;

		(void) field_walker(lfirst(cell), &search);
		if (search.column == NULL || search.name == NULL)
			continue;
		field = palloc(sizeof(JanitorCoverageField));
		field->column = search.column;
		field->name = search.name;
		table->fields = lappend(table->fields, field);
	}
}

/* Does a unique index on exactly these columns belong to a foreign key? */
static bool
serves(const JanitorCoverageKey *key, const Form_pg_index index)
{
	if (index->indnkeyatts != list_length(key->columns))
		return false;
	for (int i = 0; i < index->indnkeyatts; i++)
	{
		bool		found = false;
		ListCell   *cell;

		foreach(cell, key->columns)
			found = found || ((JanitorCoverageColumn *) lfirst(cell))->attno ==
			index->indkey.values[i];
		if (!found)
			return false;
	}
	return true;
}

static void
note_unique(JanitorCoverageTable *table, const Form_pg_index index)
{
	JanitorCoverageColumn *column = index->indnkeyatts != 1 ? NULL :
	column_by_number(table, index->indkey.values[0]);
	ListCell   *cell;

	if (column != NULL)
		column->unique = true;
	foreach(cell, table->parents)
	{
		JanitorCoverageKey *key = lfirst(cell);

		key->unique = key->unique || serves(key, index);
	}
}

static void
note_index(Reading *reading, Relation rel, HeapTuple tuple)
{
	Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
	JanitorCoverageTable *table = find_table(reading, form->indrelid);
	bool		isnull;
	Datum		expressions;

	if (table == NULL || table->relid != form->indrelid || !form->indisvalid)
		return;
	expressions = heap_getattr(tuple, Anum_pg_index_indexprs,
							   RelationGetDescr(rel), &isnull);
	if (!isnull)
		note_fields(table,
					castNode(List,
							 stringToNode(TextDatumGetCString(expressions))));
	else if (form->indisunique &&
			 heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
		note_unique(table, form);
}

/* --- all of it --- */

JanitorCoverage *
janitor_coverage_read(void)
{
	Reading		reading = {palloc0(sizeof(JanitorCoverage))};
	JanitorCoverage *coverage = reading.coverage;

	coverage->words = janitor_words();
	reading.labels = janitor_labels_read();
	reading.parents = make_hash("pg_janitor parents", sizeof(ParentEntry));
	reading.tables = make_hash("pg_janitor tables", sizeof(TableEntry));
	scan_catalog(InheritsRelationId, note_parent, &reading);
	scan_catalog(RelationRelationId, note_table, &reading);
	list_sort(coverage->tables, compare_tables);
	scan_catalog(ConstraintRelationId, note_constraint, &reading);
	connect_tables(coverage);
	scan_catalog(IndexRelationId, note_index, &reading);
	hash_destroy(reading.parents);
	hash_destroy(reading.tables);
	return coverage;
}
