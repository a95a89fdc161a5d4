/*-------------------------------------------------------------------------
 *
 * query.c
 *	  Statements on other people's tables: prepared, with parameters, through
 *	  SPI.
 *
 * Whatever pg_janitor does with tables that are not its own goes through
 * here, as the current user: a worker connected as the job's owner, or a
 * function that has become it (janitor_as_role).  Our own tables are never
 * touched this way, see ledger.c.
 *
 * Each call is one SPI connection inside the caller's transaction, with a
 * snapshot of its own; nothing stays open between calls.  On ERROR the abort
 * of the (sub)transaction cleans up; a saved plan survives it.
 *
 * Memory: results are copied into the context that was current at the call.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "query.h"

#include "access/htup_details.h"
#include "executor/spi.h"
#include "nodes/plannodes.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

/* Rows of a result that are in memory at a time. */
#define FETCH_ROWS 1000

struct JanitorQuery
{
	SPIPlanPtr	plan;			/* NULL: freed */
	int			nargs;
	MemoryContextCallback callback; /* of the context that it lives in */
};

static void
begin_spi(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
end_spi(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/* A saved plan belongs to no context of ours. */
static void
free_plan(void *arg)
{
	JanitorQuery *query = arg;

	if (query->plan != NULL)
		SPI_freeplan(query->plan);
	query->plan = NULL;
}

JanitorQuery *
janitor_query_prepare(const char *sql, int nargs, const Oid *types)
{
	JanitorQuery *query = palloc0(sizeof(JanitorQuery));

	/* some callers have an active snapshot, some have none */
	PushActiveSnapshot(GetTransactionSnapshot());
	begin_spi();
	query->nargs = nargs;
	query->plan = SPI_prepare(sql, nargs, unconstify(Oid *, types));
	if (query->plan == NULL)
		elog(ERROR, "could not prepare: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(query->plan);
	end_spi();
	PopActiveSnapshot();
	query->callback.func = free_plan;
	query->callback.arg = query;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &query->callback);
	return query;
}

void
janitor_query_free(JanitorQuery *query)
{
	if (query != NULL)
		free_plan(query);
}

List *
janitor_query_relations(JanitorQuery *query)
{
	List	   *relids = NIL;
	ListCell   *cell;

	foreach(cell, SPI_plan_get_plan_sources(query->plan))
		relids = list_concat(relids,
							 ((CachedPlanSource *) lfirst(cell))->relationOids);
	return relids;
}

/* SPI's way to say which parameters are NULL. */
static void
set_flags(const JanitorQuery *query, const bool *nulls, char *flags)
{
	Assert(query->nargs <= JANITOR_QUERY_ARGS);
	for (int i = 0; i < query->nargs; i++)
		flags[i] = nulls != NULL && nulls[i] ? 'n' : ' ';
}

int64
janitor_query_execute(JanitorQuery *query, const Datum *values,
					  const bool *nulls)
{
	char		flags[JANITOR_QUERY_ARGS] = {0};
	int64		processed;
	int			code;

	set_flags(query, nulls, flags);
	begin_spi();
	code = SPI_execute_plan(query->plan, unconstify(Datum *, values), flags,
							false, 0);
	if (code < 0)
		elog(ERROR, "could not execute: %s", SPI_result_code_string(code));
	processed = SPI_processed;
	end_spi();
	return processed;
}

/* The rows that were fetched last. */
static void
pass_on(MemoryContext context,
		void (*each) (TupleDesc desc, Datum *values, bool *nulls, void *arg),
		void *arg)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	Datum	   *row = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		heap_deform_tuple(SPI_tuptable->vals[i], desc, row, nulls);
		each(desc, row, nulls, arg);
		MemoryContextSwitchTo(spi);
	}
	pfree(row);
	pfree(nulls);
}

int64
janitor_query_execute_each(JanitorQuery *query, const Datum *values,
						   void (*each) (TupleDesc desc, Datum *values,
										 bool *nulls, void *arg),
						   void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	int64		processed;
	int			code;

	begin_spi();
	code = SPI_execute_plan(query->plan, unconstify(Datum *, values), NULL,
							false, 0);
	if (code < 0)
		elog(ERROR, "could not execute: %s", SPI_result_code_string(code));
	processed = SPI_processed;
	pass_on(caller, each, arg);
	end_spi();
	return processed;
}

static Portal
open_cursor(JanitorQuery *query, const Datum *values, const bool *nulls)
{
	char		flags[JANITOR_QUERY_ARGS] = {0};

	set_flags(query, nulls, flags);
	return SPI_cursor_open(NULL, query->plan, unconstify(Datum *, values),
						   flags, false);
}

int64
janitor_query_each(JanitorQuery *query, const Datum *values,
				   const bool *nulls, int64 limit,
				   void (*each) (TupleDesc desc, Datum *values,
								 bool *nulls, void *arg),
				   void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	int64		total = 0;
	Portal		portal;

	begin_spi();
	portal = open_cursor(query, values, nulls);
	for (;;)
	{
		int64		count = limit == 0 ? FETCH_ROWS :
		Min(limit - total, FETCH_ROWS);

		if (count <= 0)
			break;
		SPI_cursor_fetch(portal, true, count);
		pass_on(caller, each, arg);
		total += SPI_processed;
		if (SPI_processed < count)
			break;
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	end_spi();
	return total;
}

/* Where janitor_query_row() leaves the row. */
typedef struct OneRow
{
	int			columns;
	Datum	   *values;
	bool	   *nulls;
} OneRow;

static void
copy_row(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	OneRow	   *one = arg;

	for (int i = 0; i < Min(desc->natts, one->columns); i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		one->nulls[i] = nulls[i];
		one->values[i] = nulls[i] ? (Datum) 0 :
			datumCopy(values[i], attribute->attbyval, attribute->attlen);
	}
}

bool
janitor_query_row(JanitorQuery *query, const Datum *values,
				  const bool *nulls, int columns,
				  Datum *result, bool *result_nulls)
{
	OneRow		one = {columns, result, result_nulls};

	return janitor_query_each(query, values, nulls, 1, copy_row, &one) > 0;
}

bool
janitor_query_value(const char *sql, int nargs, const Oid *types,
					const Datum *values, Datum *result)
{
	JanitorQuery *query = janitor_query_prepare(sql, nargs, types);
	bool		isnull = true;
	bool		found = janitor_query_row(query, values, NULL, 1, result,
										  &isnull);

	janitor_query_free(query);
	return found && !isnull;
}

double
janitor_query_estimate(JanitorQuery *query, const Datum *values,
					   const bool *nulls)
{
	Portal		portal;
	double		rows;

	begin_spi();
	portal = open_cursor(query, values, nulls);
	rows = linitial_node(PlannedStmt, portal->stmts)->planTree->plan_rows;
	SPI_cursor_close(portal);
	end_spi();
	return rows;
}
