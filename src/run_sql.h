/*-------------------------------------------------------------------------
 *
 * run_sql.h
 *	  Kind `sql`: the statements of a command.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RUN_SQL_H
#define JANITOR_RUN_SQL_H

#include "run.h"

/*
 * Executes run->command in the open transaction, as the session's user, and
 * adds what it did to *run.  Deferred constraints have been checked when it
 * returns.  A command that commits by itself (a lone CALL, DO or utility
 * statement) returns in the transaction that it left open.  Errors pass.
 */
extern void janitor_run_sql(JanitorRun *run);

/*
 * Executes one utility statement at the top level, as the session's user, in
 * a transaction that janitor_begin_run() has begun and that has done nothing
 * that the statement's own commits would tear apart.  Returns in the
 * transaction that the statement left open.  Errors pass.
 */
extern void janitor_run_utility(const char *sql);

/* Deferred constraints and triggers of the transaction: now, not later. */
extern void janitor_check_deferred(void);

#endif							/* JANITOR_RUN_SQL_H */
