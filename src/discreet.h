/*-------------------------------------------------------------------------
 *
 * discreet.h
 *	  Error texts that show no row values.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_DISCREET_H
#define JANITOR_DISCREET_H

#include "session.h"

/*
 * What may be stored and shown of an error that was raised while rows of
 * persons were in hand; in the current context.  The server's own message with
 * pg_janitor.store_error_detail.
 */
extern char *janitor_error_discreetly(const JanitorError *error);

/* Raises it again as that text, without a hint of others. */
pg_noreturn extern void janitor_rethrow_discreetly(const JanitorError *error);

/*
 * Calls a function that reads rows of persons for somebody who only asks what
 * there is: in a subtransaction, its errors told discreetly.
 */
extern void janitor_discreetly(void (*function) (void *arg), void *arg);

/*
 * From now on, to the end of the session's run, the server log of this process
 * has nothing that could show values: no warnings of the job's functions, no
 * context, no statements with their parameters.
 */
extern void janitor_session_discreet(void);

/* When nothing but ours is run any more: our own messages may be heard. */
extern void janitor_session_heard(void);

#endif							/* JANITOR_DISCREET_H */
