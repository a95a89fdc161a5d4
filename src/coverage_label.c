/*-------------------------------------------------------------------------
 *
 * coverage_label.c
 *	  Security labels: what people know about columns and tables, and names
 *	  do not tell.
 *
 *	  SECURITY LABEL FOR pg_janitor ON COLUMN t.c IS 'personal';
 *	  SECURITY LABEL FOR pg_janitor ON TABLE t IS 'not personal';
 *
 * A label belongs to the object, may be set by its owner alone, goes with it
 * and is carried by pg_dump: the right place for such a statement.  A label
 * on a table that it is not personal is one on all its columns, too.
 *
 * The provider is registered when the library is loaded, by every process.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_seclabel.h"
#include "commands/seclabel.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#define PROVIDER "pg_janitor"
#define PERSONAL "personal"
#define NOT_PERSONAL "not personal"

typedef struct Label
{
	Oid			relid;
	AttrNumber	attno;			/* 0: of the table */
	JanitorLabel label;
} Label;

static void
check_label(const ObjectAddress *object, const char *label)
{
	if (object->classId != RelationRelationId)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("labels of %s are for tables and columns", PROVIDER)));
	if (label != NULL && strcmp(label, PERSONAL) != 0 &&
		strcmp(label, NOT_PERSONAL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid security label \"%s\"", label),
				 errhint("Valid labels are \"%s\" and \"%s\".", PERSONAL,
						 NOT_PERSONAL)));
}

void
janitor_coverage_init(void)
{
	register_label_provider(PROVIDER, check_label);
}

static List *
add_label(List *labels, Relation rel, HeapTuple tuple)
{
	FormData_pg_seclabel *form = (FormData_pg_seclabel *) GETSTRUCT(tuple);
	TupleDesc	desc = RelationGetDescr(rel);
	bool		isnull;
	Datum		provider = heap_getattr(tuple, Anum_pg_seclabel_provider, desc,
										&isnull);
	Datum		value = heap_getattr(tuple, Anum_pg_seclabel_label, desc,
									 &isnull);
	Label	   *label;

	if (form->classoid != RelationRelationId ||
		strcmp(TextDatumGetCString(provider), PROVIDER) != 0)
		return labels;
	label = palloc(sizeof(Label));
	label->relid = form->objoid;
	label->attno = form->objsubid;
	label->label = strcmp(TextDatumGetCString(value), PERSONAL) == 0 ?
		JANITOR_LABEL_PERSONAL : JANITOR_LABEL_NOT_PERSONAL;
	return lappend(labels, label);
}

List *
janitor_labels_read(void)
{
	Relation	rel = table_open(SecLabelRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL,
										  0, NULL);
	List	   *labels = NIL;
	HeapTuple	tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
		labels = add_label(labels, rel, tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return labels;
}

JanitorLabel
janitor_labels_find(const List *labels, Oid relid, AttrNumber attno)
{
	ListCell   *cell;

	foreach(cell, labels)
	{
		const Label *label = lfirst(cell);

		if (label->relid == relid && label->attno == attno)
			return label->label;
	}
	return JANITOR_UNLABELLED;
}
