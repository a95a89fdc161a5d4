/*-------------------------------------------------------------------------
 *
 * run_sql.c
 *	  Kind `sql`: the statements of a command, as the server itself would run
 *	  them for a client that sends them in one message.  Also single utility
 *	  statements of ours that commit by themselves.
 *
 * Every statement goes through a portal, the only code here that does, and
 * not through SPI: a lone VACUUM, REINDEX CONCURRENTLY or a CALL that commits
 * must be a top-level statement, and one path for all keeps their meaning the
 * same.  Several statements are one transaction; in them, what needs the top
 * level raises the server's own error.
 *
 * Memory: parse trees live in the run's context, which outlives the commits
 * that the statement may do.
 *
 * Errors, cancels and timeouts leave through ereport; the worker catches
 * them.  Nothing here survives an abort.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "run_sql.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "parser/analyze.h"
#include "tcop/cmdtag.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "command.h"

JanitorRun *janitor_current_run = NULL;

JanitorRun *
janitor_require_run(const char *function_name)
{
	if (janitor_current_run == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s can only be called inside a run of a job",
						function_name)));
	return janitor_current_run;
}

/* --- a receiver that keeps one integer --- */

/*
 * Looks at the rows of one SELECT: how many there were and, if it was one of
 * one integer column, its value.
 */
typedef struct IntegerReceiver
{
	DestReceiver pub;			/* must be first */
	Oid			type;			/* of the single column, else InvalidOid */
	int64		rows;
	int64		value;
	bool		is_null;
} IntegerReceiver;

static void
integer_startup(DestReceiver *self, int operation, TupleDesc tupdesc)
{
	IntegerReceiver *receiver = (IntegerReceiver *) self;
	Oid			type;

	receiver->type = InvalidOid;
	receiver->rows = 0;
	if (tupdesc->natts != 1)
		return;
	type = getBaseType(TupleDescAttr(tupdesc, 0)->atttypid);
	if (type == INT2OID || type == INT4OID || type == INT8OID)
		receiver->type = type;
}

static bool
integer_receive(TupleTableSlot *slot, DestReceiver *self)
{
	IntegerReceiver *receiver = (IntegerReceiver *) self;
	Datum		value;

	if (receiver->rows++ > 0 || !OidIsValid(receiver->type))
		return true;
	value = slot_getattr(slot, 1, &receiver->is_null);
	if (receiver->is_null)
		return true;
	switch (receiver->type)
	{
		case INT2OID:
			receiver->value = DatumGetInt16(value);
			break;
		case INT4OID:
			receiver->value = DatumGetInt32(value);
			break;
		default:
			receiver->value = DatumGetInt64(value);
	}
	return true;
}

static void
integer_nothing(DestReceiver *self)
{
}

static void
integer_receiver_init(IntegerReceiver *receiver)
{
	MemSet(receiver, 0, sizeof(IntegerReceiver));
	receiver->pub.receiveSlot = integer_receive;
	receiver->pub.rStartup = integer_startup;
	receiver->pub.rShutdown = integer_nothing;
	receiver->pub.rDestroy = integer_nothing;
	receiver->pub.mydest = DestNone;
}

/* --- counting --- */

static void
count_result(JanitorRun *run, const QueryCompletion *completion,
			 const Node *statement, const IntegerReceiver *receiver)
{
	bool		changes;

	switch (completion->commandTag)
	{
		case CMDTAG_INSERT:
		case CMDTAG_UPDATE:
		case CMDTAG_DELETE:
		case CMDTAG_MERGE:
			changes = true;
			break;
		case CMDTAG_COPY:
			changes = ((const CopyStmt *) statement)->is_from;
			break;
		default:
			changes = false;
	}

	if (changes)
	{
		run->records = (run->changed ? run->records : 0) +
			completion->nprocessed;
		run->changed = true;
	}
	else if (!run->changed)
	{
		/* only the last statement's single integer counts */
		bool		integer = completion->commandTag == CMDTAG_SELECT &&
		receiver->rows == 1 && OidIsValid(receiver->type) &&
		!receiver->is_null;

		run->records = integer ? receiver->value : -1;
	}
}

/* A commit may be left to the operating system only if nothing went out. */
static void
note_foreign(JanitorRun *run, List *plans)
{
	ListCell   *cell;

	foreach(cell, plans)
	{
		PlannedStmt *plan = lfirst_node(PlannedStmt, cell);
		ListCell   *relation;

		foreach(relation, plan->relationOids)
		{
			if (get_rel_relkind(lfirst_oid(relation)) == RELKIND_FOREIGN_TABLE)
				run->foreign = true;
		}
	}
}

/* --- executing --- */

/* Analysis and planning of one statement; some utilities need no snapshot. */
static List *
plan_statement(JanitorRun *run, RawStmt *raw)
{
	List	   *queries;
	List	   *plans;
	bool		snapshot = analyze_requires_snapshot(raw);

	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(raw, run->command,
												 NULL, 0, NULL);
	plans = pg_plan_queries(queries, run->command,
							CURSOR_OPT_PARALLEL_OK, NULL);
	if (snapshot)
		PopActiveSnapshot();
	note_foreign(run, plans);
	return plans;
}

static void
execute_statement(JanitorRun *run, RawStmt *raw, bool top_level)
{
	QueryCompletion completion;
	IntegerReceiver receiver;
	List	   *plans;
	Portal		portal;

	CHECK_FOR_INTERRUPTS();
	plans = plan_statement(run, raw);

	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, run->command,
					  CreateCommandTag(raw->stmt), plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);

	InitializeQueryCompletion(&completion);
	integer_receiver_init(&receiver);
	(void) janitor_portal_run(portal, FETCH_ALL, top_level,
							  &receiver.pub, &receiver.pub, &completion);
	PortalDrop(portal, false);

	count_result(run, &completion, raw->stmt, &receiver);
	CommandCounterIncrement();
}

/* What SET CONSTRAINTS ALL IMMEDIATE does, while the timeout still counts. */
void
janitor_check_deferred(void)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);

	statement->constraints = NIL;
	statement->deferred = false;
	PushActiveSnapshot(GetTransactionSnapshot());
	AfterTriggerSetState(statement);
	PopActiveSnapshot();
}

void
janitor_run_sql(JanitorRun *run)
{
	MemoryContext caller = MemoryContextSwitchTo(run->context);
	List	   *statements = janitor_command_parse(run->command);
	bool		top_level = janitor_statements_non_atomic(statements);
	ListCell   *cell;

	run->records = -1;
	foreach(cell, statements)
	{
		RawStmt    *raw = lfirst_node(RawStmt, cell);

		execute_statement(run, raw, top_level);
		MemoryContextSwitchTo(run->context);
	}
	janitor_check_deferred();
	MemoryContextSwitchTo(caller);
}

void
janitor_run_utility(const char *sql)
{
	JanitorRun	run = {0};
	List	   *statements;

	run.command = sql;
	run.context = CurrentMemoryContext;
	statements = pg_parse_query(sql);
	Assert(list_length(statements) == 1);
	execute_statement(&run, linitial_node(RawStmt, statements), true);
	MemoryContextSwitchTo(run.context);
}
