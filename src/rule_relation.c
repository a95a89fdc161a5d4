/*-------------------------------------------------------------------------
 *
 * rule_relation.c
 *	  Relations by their names.
 *
 * A user writes a relation as anywhere in SQL, and it is looked up once, in
 * the search_path of the session that defines the rule.  What is stored is
 * its schema and name, quoted: OIDs do not survive a dump, and a bare name
 * would mean another table in another search_path.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

/* --- names --- */

char *
janitor_relation_name(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	if (schema == NULL || name == NULL)
		elog(ERROR, "relation with OID %u does not exist", relid);
	return quote_qualified_identifier(schema, name);
}

/* As an input of type regclass is read, numbers apart. */
Oid
janitor_relation_look_up(const char *name)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(name));

	return RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
}

/*
 * The relation that has this very name, letter by letter, be it quoted or
 * not; InvalidOid if there is none.
 */
static Oid
look_up_literally(const char *name)
{
	const char *dot = strchr(name, '.');
	List	   *schemas;
	ListCell   *cell;

	if (dot != NULL)
		schemas = list_make1_oid(get_namespace_oid(pnstrdup(name, dot - name),
												   true));
	else
		schemas = fetch_search_path(false);
	foreach(cell, schemas)
	{
		Oid			found = get_relname_relid(dot ? dot + 1 : name,
											  lfirst_oid(cell));

		if (OidIsValid(found))
			return found;
	}
	return InvalidOid;
}

static void
no_such_relation(const char *name)
{
	Oid			meant = look_up_literally(name);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("relation \"%s\" does not exist", name),
			 OidIsValid(meant) ?
			 errhint("Names that are not all lower case need quotes: '%s'.",
					 janitor_relation_name(meant)) :
			 strchr(name, '.') == NULL ?
			 errhint("It was looked for in the search_path; write schema.table.") :
			 0));
}

char *
janitor_relation_qualify(const char *name)
{
	Oid			relid = janitor_relation_look_up(name);

	if (!OidIsValid(relid))
		no_such_relation(name);
	return janitor_relation_name(relid);
}

void
janitor_schema_check(Oid schema)
{
	char	   *user = GetUserNameFromId(GetUserId(), false);
	char	   *name = get_namespace_name(schema);

	if (!janitor_may_use_schema(schema, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" needs the right USAGE on schema \"%s\"",
						user, name),
				 errhint("GRANT USAGE ON SCHEMA %s TO %s;",
						 quote_identifier(name), quote_identifier(user))));
}

/* A schema that the user cannot look into gets a better error than lookup's. */
Oid
janitor_relation_find(const char *qualified)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(qualified));
	Oid			schema = get_namespace_oid(strVal(linitial(names)), true);
	Oid			relid;

	if (OidIsValid(schema))
		janitor_schema_check(schema);
	relid = janitor_relation_look_up(qualified);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation %s does not exist", qualified),
				 errhint("If it has another name now, define the rule again; if it is gone for good, drop the rule with job_drop_rule() or the job with job_unschedule().")));
	return relid;
}

/* --- leaves --- */

typedef struct Leaf
{
	Oid			relid;
	char	   *name;
} Leaf;

static int
compare_leaves(const void *a, const void *b)
{
	return strcmp(((const Leaf *) a)->name, ((const Leaf *) b)->name);
}

Oid
janitor_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

bool
janitor_relation_readable(Oid relid)
{
	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(relid, InvalidOid, true) != RLS_ENABLED;
}

List *
janitor_relation_leaves(Oid relid)
{
	List	   *all;
	List	   *result = NIL;
	ListCell   *cell;
	Leaf	   *leaves;
	int			count = 0;

	LockRelationOid(relid, AccessShareLock);
	all = find_all_inheritors(relid, AccessShareLock, NULL);
	leaves = palloc(list_length(all) * sizeof(Leaf));
	foreach(cell, all)
	{
		Oid			child = lfirst_oid(cell);

		if (get_rel_relkind(child) == RELKIND_PARTITIONED_TABLE)
			continue;
		leaves[count].relid = child;
		leaves[count++].name = janitor_relation_name(child);
	}
	qsort(leaves, count, sizeof(Leaf), compare_leaves);
	for (int i = 0; i < count; i++)
		result = lappend_oid(result, leaves[i].relid);
	return result;
}
