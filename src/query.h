/*-------------------------------------------------------------------------
 *
 * query.h
 *	  Statements on other people's tables: prepared, with parameters, through
 *	  SPI.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_QUERY_H
#define JANITOR_QUERY_H

#include "compat.h"

#include "access/tupdesc.h"
#include "nodes/pg_list.h"

#define JANITOR_QUERY_ARGS 8	/* parameters of one statement, at most */

/*
 * A prepared statement.  It outlives transactions; the server plans it again
 * when what it depends on has changed.
 */
typedef struct JanitorQuery JanitorQuery;

/*
 * Inside a transaction.  The handle lives in the current context, its plan
 * until janitor_query_free() or the end of that context.
 */
extern JanitorQuery *janitor_query_prepare(const char *sql, int nargs,
										   const Oid *types);
extern void janitor_query_free(JanitorQuery *query);

/* The relations that it names, as OIDs. */
extern List *janitor_query_relations(JanitorQuery *query);

/*
 * Executes it, with a fresh snapshot, and makes its effects visible; returns
 * the rows it processed.  nulls may be NULL: none is.
 */
extern int64 janitor_query_execute(JanitorQuery *query, const Datum *values,
								   const bool *nulls);

/* The same, of a statement that returns rows: `each` is called as below. */
extern int64 janitor_query_execute_each(JanitorQuery *query,
										const Datum *values,
										void (*each) (TupleDesc desc,
													  Datum *values,
													  bool *nulls, void *arg),
										void *arg);

/*
 * Calls `each` for every row of the result, up to `limit` (0: all); values
 * passed by reference are gone after the call.  Returns the number of rows.
 */
extern int64 janitor_query_each(JanitorQuery *query, const Datum *values,
								const bool *nulls, int64 limit,
								void (*each) (TupleDesc desc, Datum *values,
											  bool *nulls, void *arg),
								void *arg);

/*
 * The first row, of at most `columns` columns, copied into the current
 * context; false: there is none.
 */
extern bool janitor_query_row(JanitorQuery *query, const Datum *values,
							  const bool *nulls, int columns,
							  Datum *result, bool *result_nulls);

/* How many rows the planner expects of a SELECT with these parameters. */
extern double janitor_query_estimate(JanitorQuery *query, const Datum *values,
									 const bool *nulls);

/* Prepares, executes for one value of a known type, frees; false: none. */
extern bool janitor_query_value(const char *sql, int nargs, const Oid *types,
								const Datum *values, Datum *result);

#endif							/* JANITOR_QUERY_H */
