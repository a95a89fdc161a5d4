/*-------------------------------------------------------------------------
 *
 * session.h
 *	  Transaction brackets, session reset, errors as data.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_SESSION_H
#define JANITOR_SESSION_H

#include "compat.h"

#include "utils/jsonb.h"
#include "utils/palloc.h"

/* An error that was caught, copied out of ErrorContext. */
typedef struct JanitorError
{
	int			sqlstate;
	char	   *message;		/* primary message only, clipped */
	bool		plain;			/* raised by janitor_ereport_plain() */
	char	   *hint;			/* NULL: none; likewise what follows */

	/* the objects it names */
	char	   *schema;
	char	   *table;
	char	   *column;
	char	   *datatype;
	char	   *constraint;
} JanitorError;

/*
 * ereport() for errors in the middle of a run that name no values of rows, so
 * that their message and hint may be shown where others' may not (discreet.h).
 * Statements of users cannot raise such errors.
 */
#define JANITOR_PLAIN_DOMAIN "pg_janitor plain"
#define janitor_ereport_plain(elevel, ...) \
	ereport_domain(elevel, JANITOR_PLAIN_DOMAIN, __VA_ARGS__)

/*
 * Begins a transaction of pg_janitor's own: read committed, read-write, a
 * fresh statement timestamp, an active snapshot.  The memory context that was
 * current stays current.
 */
extern void janitor_begin(void);

/* Commits it; asynchronously if asked.  The context stays current. */
extern void janitor_commit(bool asynchronously);

/* After a caught ERROR: rolls back whatever is open.  Likewise. */
extern void janitor_abort(void);

/*
 * In PG_CATCH, before janitor_abort(): the error as data in `context`, which
 * becomes current; the error state is cleared.
 */
extern JanitorError *janitor_catch_error(MemoryContext context);

/*
 * Calls a function that begins and commits its own transactions.  On ERROR:
 * whatever is open is rolled back, and the error is returned, in the context
 * that was current; NULL: there was none.
 */
extern JanitorError *janitor_attempt(void (*function) (void *arg), void *arg);

/*
 * The same for a function that works inside the caller's transaction: it is
 * called in a subtransaction, which is rolled back on ERROR.  Settings that it
 * changes, the role among them, are put back in either case.
 */
extern JanitorError *janitor_attempt_inside(void (*function) (void *arg),
											void *arg);

/* A copy of a message, without its end if it is very long. */
extern char *janitor_clip(const char *text);

/* Raises an error that was caught, once more. */
pg_noreturn extern void janitor_rethrow(const JanitorError *error);

/* What this session did to tables, for autovacuum: now, not some time. */
extern void janitor_report_statistics(void);

/*
 * The same for a job's own statements, with the session's settings for
 * isolation and read-only as the owner has them.  No snapshot is pushed.
 */
extern void janitor_begin_run(void);
extern void janitor_commit_run(bool asynchronously);

/*
 * Puts the session back as it was after connecting: settings, role, temporary
 * tables, prepared statements, cursors, advisory locks.  Outside a
 * transaction; on error the process should end.
 */
extern void janitor_session_reset(void);

/* Applies a job's settings, {"name": "value", ...}; inside a transaction. */
extern void janitor_session_apply(Jsonb *settings);

/*
 * Calls function(arg) as another role, in the current transaction, with a
 * search_path and a time zone (NULL: pg_catalog, pg_temp; the session's own)
 * and whatever settings it changes undone.  Like a security-restricted
 * operation of the server: it cannot leave temporary tables, cursors or
 * settings behind, nor become anybody else.  On error the (sub)transaction's
 * abort puts everything back.
 *
 * For analysing, explaining and running a job's expressions where no worker
 * of its owner does it: they may call functions of strangers.
 */
extern void janitor_as_role(Oid role, const char *search_path,
							const char *time_zone,
							void (*function) (void *arg), void *arg);

/* Are we in that function, as this role? */
extern bool janitor_acting_for(Oid role);

/* One setting, for the session; or until the end of the transaction. */
extern void janitor_session_set(const char *name, const char *value);
extern void janitor_session_set_local(const char *name, const char *value);

/*
 * Between these two, values turn into text and back in the same way whatever
 * the session's settings are.
 */
extern int	janitor_settings_neutral(void);
extern void janitor_settings_restore(int level);

/* Settings that the scheduler pins after connecting. */
extern void janitor_session_pin(void);

/*
 * In a procedure that was called outside a transaction block: begin, commits
 * in between (each starts a new transaction, without a snapshot), end.
 */
extern void janitor_procedure_begin(void);
extern void janitor_procedure_commit(void);
extern void janitor_procedure_end(void);

/*
 * First in every function that changes something.  Refuses read-only
 * transactions, standbys, parallel workers; and what the server runs for
 * somebody in another one's session (to analyse a table, to refresh a
 * materialized view, to preview a job), who would be named as the author.
 */
extern void janitor_prevent_misuse(const char *function_name);

#endif							/* JANITOR_SESSION_H */
