/*-------------------------------------------------------------------------
 *
 * rule_check.c
 *	  What must hold of a rule's relations: their kinds, the owner's rights,
 *	  the columns of an archive.
 *
 * Checked when a rule is defined and again by each run, as the job's owner:
 * tables change, rights are taken back.  Statements address each leaf by its
 * own name, so rights on the parent are not enough.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#define NAMES_IN_HINT 20		/* tables in a GRANT that is proposed */

/* --- kinds of relations --- */

static const char *
kind_problem(char relkind)
{
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			return NULL;
		case RELKIND_VIEW:
			return "is a view";
		case RELKIND_MATVIEW:
			return "is a materialized view";
		case RELKIND_FOREIGN_TABLE:
			return "is a foreign table";
		default:
			return "is not a table";
	}
}

static bool
is_ours(Oid relid)
{
	Oid			extension = getExtensionOfObject(RelationRelationId, relid);

	return OidIsValid(extension) &&
		extension == get_extension_oid(JANITOR_EXTENSION_NAME, true);
}

static const char *
relation_problem(Relation rel)
{
	const char *schema = get_namespace_name(RelationGetNamespace(rel));

	if (kind_problem(rel->rd_rel->relkind) != NULL)
		return kind_problem(rel->rd_rel->relkind);
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		return "is a temporary table of this session";
	if (IsSystemRelation(rel) || strcmp(schema, "information_schema") == 0)
		return "is a system catalog";
	if (is_ours(RelationGetRelid(rel)))
		return "belongs to pg_janitor";
	return NULL;
}

static const char *
relation_hint(const char *problem, char relkind)
{
	if (relkind == RELKIND_VIEW || relkind == RELKIND_MATVIEW)
		return "Name the table that the rows are stored in.";
	if (relkind == RELKIND_FOREIGN_TABLE)
		return "Use a job of kind sql, or a rule on the server that has the table.";
	if (strstr(problem, "pg_janitor") != NULL)
		return "The options keep_history and keep_runs of a job say how long its history is kept.";
	return "Rules are for ordinary tables.";
}

void
janitor_relation_check(Oid relid, const char *option)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	const char *problem = relation_problem(rel);

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("option \"%s\": %s %s", option,
						janitor_relation_name(relid), problem),
				 errhint("%s", relation_hint(problem, rel->rd_rel->relkind))));
	relation_close(rel, NoLock);
}

/* --- rights --- */

/* Which right a rule needs beside that to read. */
static const char *
right_of(JanitorAction action)
{
	return action == JANITOR_DELETE || action == JANITOR_ARCHIVE ?
		"DELETE" : "UPDATE";
}

static bool
may(Oid relid, AclMode right)
{
	return pg_class_aclcheck(relid, GetUserId(), right) == ACLCHECK_OK;
}

/* Rights on columns do too; which ones are needed the statement will see. */
static bool
may_read(Oid relid)
{
	return may(relid, ACL_SELECT) ||
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT,
								  ACLMASK_ANY) == ACLCHECK_OK;
}

/* Columns by their names: a leaf may number them otherwise. */
static bool
may_update(Oid relid, Oid leaf, Bitmapset *columns)
{
	int			attno = -1;

	if (may(leaf, ACL_UPDATE))
		return true;
	while ((attno = bms_next_member(columns, attno)) >= 0)
	{
		char	   *name = get_attname(relid, attno, false);

		if (pg_attribute_aclcheck(leaf, get_attnum(leaf, name), GetUserId(),
								  ACL_UPDATE) != ACLCHECK_OK)
			return false;
	}
	return true;
}

static bool
may_handle(const JanitorReadyRule *ready, Oid leaf, Bitmapset *assigned)
{
	if (!may_read(leaf))
		return false;
	if (strcmp(right_of(ready->rule->action), "DELETE") == 0)
		return may(leaf, ACL_DELETE);
	return may_update(ready->relid, leaf, assigned);
}

static void
no_right(const char *rights, List *names)
{
	char	   *user = GetUserNameFromId(GetUserId(), false);
	StringInfoData list;
	ListCell   *cell;

	initStringInfo(&list);
	foreach(cell, names)
		appendStringInfo(&list, "%s%s", foreach_current_index(cell) ? ", " : "",
						 (char *) lfirst(cell));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" needs the rights %s on table %s",
					user, rights, (char *) linitial(names)),
			 errhint("GRANT %s ON %s TO %s;", rights, list.data,
					 quote_identifier(user))));
}

/*
 * Rows that policies hide are left alone, silently: that must be said.  Those
 * of a partitioned table do not hold for partitions addressed by their names.
 */
static void
note_row_security(JanitorReadyRule *ready, Oid relid)
{
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ready->remarks = lappend(ready->remarks,
								 psprintf(get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ?
										  "row security on %s applies to role \"%s\", but a rule works on the partitions, where only their own policies apply" :
										  "row security on %s applies to role \"%s\": rows that its policies hide are not touched",
										  janitor_relation_name(relid),
										  GetUserNameFromId(GetUserId(), false)));
}

/*
 * Triggers, policies and the like are run with the rights of whoever changes
 * the rows; with all rights there are, if that is a superuser.
 */
static void
note_foreign_owner(JanitorReadyRule *ready)
{
	Oid			owner = janitor_relation_owner(ready->relid);

	if (!superuser_arg(GetUserId()) || superuser_arg(owner))
		return;
	ready->remarks = lappend(ready->remarks,
							 psprintf("triggers and expressions of %s, which role \"%s\" can change, run as superuser \"%s\": let \"%s\" own the job",
									  janitor_relation_name(ready->relid),
									  GetUserNameFromId(owner, false),
									  GetUserNameFromId(GetUserId(), false),
									  GetUserNameFromId(owner, false)));
}

/* A GRANT for all tables at once: they are looked at before the error. */
void
janitor_rights_check(JanitorReadyRule *ready, Bitmapset *assigned)
{
	List	   *leaves = janitor_relation_leaves(ready->relid);
	List	   *lacking = NIL;
	ListCell   *cell;

	if (!may_read(ready->relid))
		lacking = list_make1(janitor_relation_name(ready->relid));
	if (get_rel_relkind(ready->relid) == RELKIND_PARTITIONED_TABLE)
		note_row_security(ready, ready->relid);
	note_foreign_owner(ready);
	ready->may_lock = true;
	foreach(cell, leaves)
	{
		Oid			leaf = lfirst_oid(cell);

		janitor_relation_check(leaf, "relation");
		janitor_schema_check(get_rel_namespace(leaf));
		if (!may_handle(ready, leaf, assigned) &&
			!(leaf == ready->relid && lacking != NIL) &&
			list_length(lacking) < NAMES_IN_HINT)
			lacking = lappend(lacking, janitor_relation_name(leaf));
		if (!may(leaf, ACL_UPDATE))
			ready->may_lock = false;
		note_row_security(ready, leaf);
	}
	if (lacking != NIL)
		no_right(psprintf("SELECT, %s", right_of(ready->rule->action)), lacking);
}

/* --- archives --- */

static Form_pg_attribute
find_column(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (!column->attisdropped && strcmp(NameStr(column->attname), name) == 0)
			return column;
	}
	return NULL;
}

static void
archive_lacks(const char *archive, const char *columns)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("option \"archive_to\": %s lacks columns of the table: %s",
					archive, columns),
			 errhint("ALTER TABLE %s ADD COLUMN ...;", archive)));
}

static void
check_archive_column(Form_pg_attribute source, Form_pg_attribute target,
					 const char *archive)
{
	if (target->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("option \"archive_to\": column \"%s\" of %s is generated",
						NameStr(target->attname), archive),
				 errhint("Make it an ordinary column.")));
	if (!can_coerce_type(1, &source->atttypid, &target->atttypid,
						 COERCION_ASSIGNMENT))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("option \"archive_to\": column \"%s\" of %s is of type %s, which %s cannot be assigned to",
						NameStr(target->attname), archive,
						format_type_be(target->atttypid),
						format_type_be(source->atttypid)),
				 errhint("Give it the type %s.",
						 format_type_with_typemod(source->atttypid,
												  source->atttypmod))));
}

/* Columns that would stay empty and must not. */
static void
check_archive_rest(TupleDesc source, TupleDesc target, const char *archive)
{
	for (int i = 0; i < target->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(target, i);

		if (column->attisdropped || !column->attnotnull || column->atthasdef ||
			column->attidentity != '\0' ||
			find_column(source, NameStr(column->attname)) != NULL)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("option \"archive_to\": column \"%s\" of %s must not be null, and the table has no such column",
						NameStr(column->attname), archive),
				 errhint("Give it a default.")));
	}
}

/* A generated column is copied where the archive stores it as a plain one. */
static char *
archive_columns(TupleDesc source, TupleDesc target, const char *archive)
{
	StringInfoData columns;
	StringInfoData missing;

	initStringInfo(&columns);
	initStringInfo(&missing);
	for (int i = 0; i < source->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(source, i);
		Form_pg_attribute other;
		const char *name = quote_identifier(NameStr(column->attname));

		if (column->attisdropped)
			continue;
		other = find_column(target, NameStr(column->attname));
		if (column->attgenerated != '\0' &&
			(other == NULL || other->attgenerated != '\0'))
			continue;
		if (other == NULL)
		{
			appendStringInfo(&missing, "%s%s", missing.len ? ", " : "", name);
			continue;
		}
		check_archive_column(column, other, archive);
		appendStringInfo(&columns, "%s%s", columns.len ? ", " : "", name);
	}
	if (missing.len > 0)
		archive_lacks(archive, missing.data);
	return columns.data;
}

void
janitor_archive_ready(JanitorReadyRule *ready, Relation rel)
{
	Oid			relid = janitor_relation_find(ready->rule->archive_to);
	Relation	archive;

	janitor_relation_check(relid, "archive_to");
	if (list_member_oid(janitor_relation_leaves(ready->relid), relid) ||
		list_member_oid(janitor_relation_leaves(relid), ready->relid) ||
		relid == ready->relid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"archive_to\" names the table itself"),
				 errhint("Rows would be copied into the table that they are deleted from.")));
	if (!may(relid, ACL_INSERT))
		no_right("INSERT", list_make1(janitor_relation_name(relid)));
	archive = table_open(relid, AccessShareLock);
	ready->archive_to = janitor_relation_name(relid);
	ready->archive_columns = archive_columns(RelationGetDescr(rel),
											 RelationGetDescr(archive),
											 ready->archive_to);
	check_archive_rest(RelationGetDescr(rel), RelationGetDescr(archive),
					   ready->archive_to);
	table_close(archive, NoLock);
}
