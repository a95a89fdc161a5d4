/*-------------------------------------------------------------------------
 *
 * rule_constraint.c
 *	  What the constraints of a table say about rows that a rule changes.
 *
 * As SQL over the row r, to be looked at without changing anything: by
 * rule_trial.c, which is the only one to ask.  Only constraints that have to
 * do with a column that is assigned to matter; those of partitions that their
 * parent does not have are not known here.
 *
 * Runs as the job's owner.  Foreign keys lead to tables that he may not be
 * allowed to read, or whose policies would be run with his rights; these are
 * left out, as are those where it would mean to read through a large table
 * without an index.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Rows of a table without an index that are looked through all the same. */
#define ROWS_WITHOUT_INDEX 10000

typedef struct Search
{
	Relation	rel;
	const Bitmapset *assigned;
	List	   *found;			/* of JanitorConstraint */
} Search;

/* --- small things --- */

static Bitmapset *
columns_of(Node *expression)
{
	Bitmapset  *shifted = NULL;
	Bitmapset  *columns = NULL;
	int			bit = -1;

	pull_varattnos(expression, 1, &shifted);
	while ((bit = bms_next_member(shifted, bit)) >= 0)
		columns = bms_add_member(columns,
								 Max(bit + FirstLowInvalidHeapAttributeNumber,
									 0));
	return columns;
}

static JanitorConstraint *
add(Search *search, JanitorConstraintKind kind, const char *name,
	Bitmapset *columns)
{
	JanitorConstraint *constraint = palloc0(sizeof(JanitorConstraint));

	constraint->kind = kind;
	constraint->name = pstrdup(name);
	constraint->columns = columns;
	search->found = lappend(search->found, constraint);
	return constraint;
}

static char *
column_name(Oid relid, AttrNumber attno)
{
	return psprintf("%s", quote_identifier(get_attname(relid, attno, false)));
}

/* `a.x = b.y AND ...`, by these operators. */
static char *
keys_equal(const char *left, char **left_names, const char *right,
		   char **right_names, const Oid *operators, int count)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < count; i++)
		appendStringInfo(&text, "%s%s.%s %s %s.%s", i > 0 ? " AND " : "",
						 left, left_names[i], janitor_sql_operator(operators[i]),
						 right, right_names[i]);
	return text.data;
}

/* --- of the table alone --- */

static void
add_not_null(Search *search)
{
	TupleDesc	desc = RelationGetDescr(search->rel);
	int			attno = -1;

	while ((attno = bms_next_member(search->assigned, attno)) >= 0)
	{
		Form_pg_attribute column = TupleDescAttr(desc, attno - 1);

		if (column->attnotnull)
			add(search, JANITOR_NOT_NULL, NameStr(column->attname),
				bms_make_singleton(attno))->holds =
				psprintf("r.%s IS NOT NULL",
						 quote_identifier(NameStr(column->attname)));
	}
}

/* One that was not validated may not hold for the rows that are there. */
static void
add_checks(Search *search)
{
	TupleConstr *constr = RelationGetDescr(search->rel)->constr;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
	{
		Node	   *check = stringToNode(constr->check[i].ccbin);
		Bitmapset  *columns = columns_of(check);

		if (!constr->check[i].ccvalid ||
			!bms_overlap(columns, search->assigned))
			continue;
		add(search, JANITOR_CHECK, constr->check[i].ccname, columns)->holds =
			janitor_expression_text(check, RelationGetRelid(search->rel),
									false);
	}
}

/* --- unique indexes --- */

/* Its key over r: columns and expressions, in their order. */
static List *
index_keys(Relation index, Oid relid)
{
	List	   *expressions = RelationGetIndexExpressions(index);
	List	   *keys = NIL;

	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		AttrNumber	attno = index->rd_index->indkey.values[i];

		if (attno != 0)
			keys = lappend(keys, psprintf("r.%s", column_name(relid, attno)));
		else
		{
			keys = lappend(keys, psprintf("(%s)",
										  janitor_expression_text(linitial(expressions),
																  relid, false)));
			expressions = list_delete_first(expressions);
		}
	}
	return keys;
}

static Bitmapset *
index_columns(Relation index)
{
	Bitmapset  *columns =
	bms_union(columns_of((Node *) RelationGetIndexExpressions(index)),
			  columns_of((Node *) RelationGetIndexPredicate(index)));

	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		if (index->rd_index->indkey.values[i] != 0)
			columns = bms_add_member(columns,
									 index->rd_index->indkey.values[i]);
	}
	return columns;
}

static void
add_index(Search *search, Relation index)
{
	Oid			relid = RelationGetRelid(search->rel);
	Bitmapset  *columns = index_columns(index);
	List	   *predicate = RelationGetIndexPredicate(index);
	JanitorConstraint *constraint;

	if (!bms_overlap(columns, search->assigned))
		return;
	constraint = add(search, JANITOR_UNIQUE, RelationGetRelationName(index),
					 columns);
	constraint->keys = index_keys(index, relid);
	constraint->nulls_are_equal = index->rd_index->indnullsnotdistinct;
	if (predicate != NIL)
		constraint->among =
			janitor_expression_text((Node *) make_ands_explicit(predicate),
									relid, false);
}

static void
add_unique(Search *search)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(search->rel))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisunique && index->rd_index->indisvalid)
			add_index(search, index);
		index_close(index, AccessShareLock);
	}
}

/* --- foreign keys --- */

typedef struct Reference
{
	int			count;
	AttrNumber	columns[INDEX_MAX_KEYS];	/* of the one that refers */
	AttrNumber	others[INDEX_MAX_KEYS]; /* of the one that is referred to */
	Oid			across[INDEX_MAX_KEYS]; /* operators: other = column */
	Oid			among[INDEX_MAX_KEYS];	/* other = other */
	char	   *names[INDEX_MAX_KEYS];
	char	   *other_names[INDEX_MAX_KEYS];
} Reference;

static Bitmapset *
take_apart(HeapTuple tuple, bool of_other, Reference *reference)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	Bitmapset  *columns = NULL;

	DeconstructFkConstraintRow(tuple, &reference->count, reference->columns,
							   reference->others, reference->across,
							   reference->among, NULL, NULL, NULL);
	for (int i = 0; i < reference->count; i++)
	{
		reference->names[i] = column_name(form->conrelid,
										  reference->columns[i]);
		reference->other_names[i] = column_name(form->confrelid,
												reference->others[i]);
		columns = bms_add_member(columns, of_other ? reference->others[i] :
								 reference->columns[i]);
	}
	return columns;
}

/* What the row refers to must be there; with a NULL in it, it is no matter. */
static void
add_reference(Search *search, HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	Reference	reference;
	Bitmapset  *columns = take_apart(tuple, false, &reference);
	StringInfoData holds;

	if (!form->convalidated || !bms_overlap(columns, search->assigned) ||
		!janitor_relation_readable(form->confrelid))
		return;
	initStringInfo(&holds);
	for (int i = 0; i < reference.count; i++)
		appendStringInfo(&holds, "r.%s IS NULL OR ", reference.names[i]);
	appendStringInfo(&holds, "EXISTS (SELECT 1 FROM %s AS o WHERE %s)",
					 janitor_relation_name(form->confrelid),
					 keys_equal("o", reference.other_names, "r",
								reference.names, reference.across,
								reference.count));
	add(search, JANITOR_REFERENCE, NameStr(form->conname), columns)->holds =
		holds.data;
}

static bool
is_quickly_found(Oid relid, const Reference *reference)
{
	Relation	rel = table_open(relid, AccessShareLock);
	List	   *columns = NIL;
	bool		result;

	for (int i = 0; i < reference->count; i++)
		columns = lappend_int(columns, reference->columns[i]);
	result = janitor_index_serves(rel, columns, 0) ||
		janitor_rows_estimated(relid) < ROWS_WITHOUT_INDEX;
	table_close(rel, AccessShareLock);
	return result;
}

/* What others refer to must stay, unless they follow. */
static void
add_referenced(Search *search, HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	Reference	reference;
	Bitmapset  *columns = take_apart(tuple, true, &reference);
	JanitorConstraint *constraint;

	if ((form->confupdtype != FKCONSTR_ACTION_NOACTION &&
		 form->confupdtype != FKCONSTR_ACTION_RESTRICT) ||
		!bms_overlap(columns, search->assigned) ||
		!janitor_relation_readable(form->conrelid) ||
		!is_quickly_found(form->conrelid, &reference))
		return;
	constraint = add(search, JANITOR_REFERENCED, NameStr(form->conname),
					 columns);
	constraint->other = janitor_relation_name(form->conrelid);
	constraint->referred = psprintf("EXISTS (SELECT 1 FROM %s AS o WHERE %s)",
									constraint->other,
									keys_equal("r", reference.other_names, "o",
											   reference.names,
											   reference.across,
											   reference.count));
	for (int i = 0; i < reference.count; i++)
	{
		constraint->keys = lappend(constraint->keys,
								   psprintf("r.%s", reference.other_names[i]));
		constraint->equals = lappend(constraint->equals,
									 janitor_sql_operator(reference.among[i]));
	}
}

/* Those from the table, by its OID as conrelid, or those to it. */
static void
add_foreign_keys(Search *search, AttrNumber side,
				 void (*each) (Search *search, HeapTuple tuple))
{
	Relation	constraints = table_open(ConstraintRelationId,
										 AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], side, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(search->rel)));
	ScanKeyInit(&keys[1], Anum_pg_constraint_contype, BTEqualStrategyNumber,
				F_CHAREQ, CharGetDatum(CONSTRAINT_FOREIGN));
	scan = systable_beginscan(constraints,
							  side == Anum_pg_constraint_conrelid ?
							  ConstraintRelidTypidNameIndexId : InvalidOid,
							  side == Anum_pg_constraint_conrelid,
							  NULL, side == Anum_pg_constraint_conrelid ? 1 : 2,
							  keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

		/* those of partitions to us follow from their parent's */
		if (form->contype == CONSTRAINT_FOREIGN &&
			(side == Anum_pg_constraint_conrelid ||
			 !OidIsValid(form->conparentid)))
			each(search, tuple);
	}
	systable_endscan(scan);
	table_close(constraints, AccessShareLock);
}

List *
janitor_constraints_of(Relation rel, const Bitmapset *assigned)
{
	Search		search = {rel, assigned, NIL};

	add_not_null(&search);
	add_checks(&search);
	add_unique(&search);
	add_foreign_keys(&search, Anum_pg_constraint_conrelid, add_reference);
	add_foreign_keys(&search, Anum_pg_constraint_confrelid, add_referenced);
	return search.found;
}
