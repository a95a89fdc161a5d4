/*-------------------------------------------------------------------------
 *
 * items_steps.c
 *	  What is done for each item: the job's rules, then its command.
 *
 * Each is a statement with the item as $1, prepared once and executed for each
 * item.  Rules come in the order of their creation.  A command may have
 * several statements; one that follows a utility statement (a table that the
 * command itself creates) is only prepared when it is reached.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "items_internal.h"

#include "catalog/pg_type.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"

#include "command.h"
#include "rule.h"

static JanitorStep *
add_step(JanitorItems *items, const char *name, const char *sql)
{
	JanitorStep *step = palloc0(sizeof(JanitorStep));

	step->name = name;
	step->sql = sql;
	items->steps = lappend(items->steps, step);
	return step;
}

JanitorQuery *
janitor_step_query(JanitorItems *items, JanitorStep *step)
{
	Oid			type = JSONBOID;

	if (step->query == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(items->context);

		step->query = janitor_query_prepare(step->sql, 1, &type);
		MemoryContextSwitchTo(caller);
	}
	return step->query;
}

/* --- rules --- */

static JanitorQuery *
prepare_many(JanitorItems *items, const char *sql)
{
	Oid			type = JSONBARRAYOID;

	return sql == NULL ? NULL : janitor_query_prepare(sql, 1, &type);
}

static bool
deletes(const JanitorRule *rule)
{
	return rule->action == JANITOR_DELETE || rule->action == JANITOR_ARCHIVE;
}

static void
add_rules(JanitorItems *items)
{
	ListCell   *cell;

	foreach(cell, janitor_rules_load(items->job->name))
	{
		const JanitorRule *rule = lfirst(cell);
		JanitorReadyRule *ready = janitor_rule_ready(rule, items->job,
													 items->run->now);
		JanitorStep *step = add_step(items, rule->name,
									 janitor_rule_item_statement(ready));

		step->rule = rule;
		step->relid = ready->relid;
		step->many = prepare_many(items, janitor_rule_items_statement(ready));
		step->deletes = deletes(rule);
		if (rule->action != JANITOR_UPDATE)
			step->residue = janitor_rule_items_residue(ready);
		step->predicate = ready->predicate;
		(void) janitor_step_query(items, step);
	}
}

/* --- the command --- */

/* The text of one statement; a length of 0 means up to the end. */
static char *
statement_text(const char *command, const RawStmt *raw)
{
	const char *start = command + Max(raw->stmt_location, 0);

	return raw->stmt_len > 0 ? pnstrdup(start, raw->stmt_len) :
		pstrdup(start);
}

/* Statements that can be planned need nothing but what is there already. */
static bool
is_utility(const RawStmt *raw)
{
	switch (nodeTag(raw->stmt))
	{
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			return false;
		default:
			return true;
	}
}

static void
add_command(JanitorItems *items)
{
	const char *command = items->job->command;
	bool		after_utility = false;
	ListCell   *cell;

	if (command == NULL)
		return;
	foreach(cell, janitor_command_parse(command))
	{
		const RawStmt *raw = lfirst_node(RawStmt, cell);
		JanitorStep *step = add_step(items, NULL,
									 statement_text(command, raw));

		after_utility = after_utility || is_utility(raw);
		if (!after_utility)
			(void) janitor_step_query(items, step);
	}
}

void
janitor_items_add_steps(JanitorItems *items)
{
	add_rules(items);
	add_command(items);
	if (items->steps == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" does not say what is to be done for an item",
						items->job->name),
				 errhint("Give it a command with job_alter(), or rules with job_set_rule().")));
}
