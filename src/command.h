/*-------------------------------------------------------------------------
 *
 * command.h
 *	  What a command is, seen from its raw parse alone.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_COMMAND_H
#define JANITOR_COMMAND_H

#include "compat.h"

#include "nodes/pg_list.h"

/*
 * The statements of a command, a list of RawStmt in the current context.
 * Refuses what no run could execute: nothing at all, transaction control,
 * COPY from or to a client.  Syntax errors pass.
 */
extern List *janitor_command_parse(const char *command);

/*
 * May they commit on their own?  Then they run at the top level, and an
 * interrupted run is not simply repeated.
 */
extern bool janitor_statements_non_atomic(List *statements);

/* The same of a command's text. */
extern bool janitor_command_is_non_atomic(const char *command);

#endif							/* JANITOR_COMMAND_H */
