/*-------------------------------------------------------------------------
 *
 * pg_janitor.c
 *	  Loading: settings, shared memory, the launcher, the utility hook.
 *
 * The hook changes no statement.  It only tells our processes what ended: a
 * prepared transaction that may have touched the queue, tables of ours that
 * were loaded by COPY, an extension that is of another version now, databases
 * that came or went, roles that changed; and asks idle processes to leave a
 * database that somebody is about to drop, rename, move or copy.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/inval.h"

#include "bgworker.h"
#include "coverage.h"
#include "ledger.h"
#include "settings.h"
#include "shmem.h"

JANITOR_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static ProcessUtility_hook_type previous_utility_hook = NULL;

/* Only for who could do it: else anybody could keep jobs from running. */
static void
clear_database(const char *name)
{
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && janitor_owns_database(database, GetUserId()))
		janitor_clear_database(database);
}

/* CREATE DATABASE ... TEMPLATE copies a database that nobody may be in. */
static void
clear_template(const CreatedbStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg)
			clear_database(defGetString(option));
	}
}

static bool
sets_tablespace(const AlterDatabaseStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		if (strcmp(((DefElem *) lfirst(cell))->defname, "tablespace") == 0)
			return true;
	}
	return false;
}

/* A restore fills our tables by COPY. */
static bool
loads_jobs(const CopyStmt *statement)
{
	Oid			relation;

	if (!statement->is_from || statement->relation == NULL ||
		(strcmp(statement->relation->relname, "job_definition") != 0 &&
		 strcmp(statement->relation->relname, "job_execution") != 0 &&
		 strcmp(statement->relation->relname, "job_lease") != 0 &&
		 strcmp(statement->relation->relname, "job_queue") != 0) ||
		!janitor_extension_exists())
		return false;
	relation = RangeVarGetRelid(statement->relation, NoLock, true);
	return relation == janitor_relation(JANITOR_DEFINITION) ||
		relation == janitor_relation(JANITOR_EXECUTION) ||
		relation == janitor_relation(JANITOR_LEASE) ||
		relation == janitor_relation(JANITOR_QUEUE);
}

/* What our idle processes must do before the statement can work. */
static void
before_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			clear_database(((DropdbStmt *) statement)->dbname);
			break;
		case T_CreatedbStmt:
			clear_template((CreatedbStmt *) statement);
			break;
		case T_AlterDatabaseStmt:
			if (sets_tablespace((AlterDatabaseStmt *) statement))
				clear_database(((AlterDatabaseStmt *) statement)->dbname);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				clear_database(((RenameStmt *) statement)->subname);
			break;
		default:
			break;
	}
}

static void
note_database_settings(const char *name)
{
	janitor_roles_changed_at_end();
	janitor_settings_changed_at_end(get_database_oid(name, true));
}

/* It may have changed no table of ours that would tell. */
static void
note_other_version(void)
{
	CacheInvalidateRelcacheAll();
	janitor_tables_loaded_at_end();
}

/* What our processes must know once it is committed. */
static void
after_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_TransactionStmt:
			if (((TransactionStmt *) statement)->kind ==
				TRANS_STMT_COMMIT_PREPARED ||
				((TransactionStmt *) statement)->kind ==
				TRANS_STMT_ROLLBACK_PREPARED)
				janitor_wake_now(MyDatabaseId);
			break;
		case T_CopyStmt:
			if (loads_jobs((CopyStmt *) statement))
				janitor_tables_loaded_at_end();
			break;
		case T_AlterExtensionStmt:
			if (strcmp(((AlterExtensionStmt *) statement)->extname,
					   JANITOR_EXTENSION_NAME) == 0)
				note_other_version();
			break;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
			janitor_databases_changed_at_end();
			break;
		case T_AlterDatabaseSetStmt:
			note_database_settings(((AlterDatabaseSetStmt *) statement)->dbname);
			break;
		case T_DropStmt:
			if (((DropStmt *) statement)->removeType == OBJECT_EXTENSION)
				janitor_wake_all_at_end();
			break;
		case T_AlterRoleSetStmt:
		case T_AlterRoleStmt:
		case T_DropRoleStmt:
		case T_GrantRoleStmt:
			janitor_roles_changed_at_end();
			break;
		case T_GrantStmt:
			if (((GrantStmt *) statement)->objtype == OBJECT_DATABASE)
				janitor_roles_changed_at_end();
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_ROLE)
				janitor_roles_changed_at_end();
			break;
		default:
			break;
	}
}

static void
utility_hook(PlannedStmt *plan, const char *query_string,
			 bool read_only_tree, ProcessUtilityContext context,
			 ParamListInfo params, QueryEnvironment *environment,
			 DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *statement = plan->utilityStmt;
	NodeTag		tag = nodeTag(statement);
	bool		interesting = tag == T_TransactionStmt ||
	tag == T_CreatedbStmt || tag == T_DropdbStmt ||
	tag == T_AlterDatabaseStmt || tag == T_AlterDatabaseSetStmt ||
	tag == T_AlterRoleSetStmt || tag == T_AlterRoleStmt ||
	tag == T_DropRoleStmt || tag == T_GrantRoleStmt ||
	tag == T_GrantStmt || tag == T_RenameStmt || tag == T_CopyStmt ||
	tag == T_DropStmt || tag == T_AlterExtensionStmt;

	if (interesting)
		before_statement(statement);
	if (previous_utility_hook)
		previous_utility_hook(plan, query_string, read_only_tree, context,
							  params, environment, dest, completion);
	else
		standard_ProcessUtility(plan, query_string, read_only_tree, context,
								params, environment, dest, completion);
	if (interesting)
		after_statement(statement);
}

void
_PG_init(void)
{
	janitor_define_settings();
	janitor_coverage_init();
	if (!process_shared_preload_libraries_in_progress)
		return;

	janitor_shmem_install();
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;

	/* pg_upgrade's servers have the settings, and no processes */
	if (!IsBinaryUpgrade)
		janitor_register_launcher();
}
