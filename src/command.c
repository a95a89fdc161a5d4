/*-------------------------------------------------------------------------
 *
 * command.c
 *	  What a command is, seen from its raw parse alone.
 *
 * A command is analysed only when it runs, in its owner's own process: even
 * planning may execute a stranger's functions.  What can be said of it before
 * is said here, from the grammar.  Used by whoever defines a job and by the
 * worker that runs it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "command.h"

#include "nodes/parsenodes.h"

#include "parse.h"

static void
check_statement(const Node *statement)
{
	if (IsA(statement, TransactionStmt))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("transaction control is not allowed in the command of a job"),
				 errhint("The statements of a command are one transaction already; to commit in between, let the command be a single CALL of a procedure that commits.")));
	if (IsA(statement, CopyStmt) &&
		((const CopyStmt *) statement)->filename == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("COPY from or to the client is not allowed in the command of a job"),
				 errhint("A job has no client.")));
}

List *
janitor_command_parse(const char *command)
{
	List	   *statements = janitor_parse(command, RAW_PARSE_DEFAULT);
	ListCell   *cell;

	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the command of a job must not be empty")));
	foreach(cell, statements)
		check_statement(lfirst_node(RawStmt, cell)->stmt);
	return statements;
}

static bool
detaches_concurrently(const AlterTableStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->subtype == AT_DetachPartition &&
			castNode(PartitionCmd, command->def)->concurrent)
			return true;
	}
	return false;
}

/*
 * Statements that commit by themselves when they are run alone, and so must
 * be at the top level.  All others, also when alone, run as in a transaction
 * block.
 */
bool
janitor_statements_non_atomic(List *statements)
{
	Node	   *statement;

	if (list_length(statements) != 1)
		return false;
	statement = linitial_node(RawStmt, statements)->stmt;
	switch (nodeTag(statement))
	{
		case T_CallStmt:
		case T_DoStmt:
		case T_VacuumStmt:
		case T_ReindexStmt:
		case T_ClusterStmt:
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterSystemStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterDatabaseStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
		case T_DropSubscriptionStmt:
			return true;
		case T_IndexStmt:
			return ((IndexStmt *) statement)->concurrent;
		case T_DropStmt:
			return ((DropStmt *) statement)->concurrent;
		case T_AlterTableStmt:
			return detaches_concurrently((AlterTableStmt *) statement);
		default:
			return false;
	}
}

bool
janitor_command_is_non_atomic(const char *command)
{
	return janitor_statements_non_atomic(janitor_parse(command, RAW_PARSE_DEFAULT));
}
