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
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

struct JanitorQuery
{
	SPIPlanPtr	plan;
	int			nargs;
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

JanitorQuery *
janitor_query_prepare(const char *sql, int nargs, const Oid *types)
{
	JanitorQuery *query = palloc(sizeof(JanitorQuery));

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
	return query;
}

void
janitor_query_free(JanitorQuery *query)
{
	if (query == NULL)
		return;
	SPI_freeplan(query->plan);
	pfree(query);
}

/* Executes inside an open connection; the result is in SPI_tuptable. */
static void
execute(JanitorQuery *query, const Datum *values, const bool *nulls,
		int64 limit)
{
	char		flags[JANITOR_QUERY_ARGS] = {0};
	int			code;

	Assert(query->nargs <= JANITOR_QUERY_ARGS);
	for (int i = 0; i < query->nargs; i++)
		flags[i] = nulls != NULL && nulls[i] ? 'n' : ' ';
	code = SPI_execute_plan(query->plan, unconstify(Datum *, values), flags,
							false, limit);
	if (code < 0)
		elog(ERROR, "could not execute: %s", SPI_result_code_string(code));
}

int64
janitor_query_execute(JanitorQuery *query, const Datum *values,
					  const bool *nulls)
{
	int64		processed;

	begin_spi();
	execute(query, values, nulls, 0);
	processed = SPI_processed;
	end_spi();
	return processed;
}

int64
janitor_query_each(JanitorQuery *query, const Datum *values,
				   const bool *nulls, int64 limit,
				   void (*each) (TupleDesc desc, Datum *values,
								 bool *nulls, void *arg),
				   void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	int64		processed;
	TupleDesc	desc;
	Datum	   *row;
	bool	   *row_nulls;

	begin_spi();
	execute(query, values, nulls, limit);
	processed = SPI_tuptable ? SPI_processed : 0;
	if (processed > 0)
	{
		desc = SPI_tuptable->tupdesc;
		row = palloc(desc->natts * sizeof(Datum));
		row_nulls = palloc(desc->natts * sizeof(bool));
	}
	for (int64 i = 0; i < processed; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);

		heap_deform_tuple(SPI_tuptable->vals[i], desc, row, row_nulls);
		each(desc, row, row_nulls, arg);
		MemoryContextSwitchTo(spi);
	}
	end_spi();
	return processed;
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
