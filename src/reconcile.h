/*-------------------------------------------------------------------------
 *
 * reconcile.h
 *	  What a scheduler puts right before and between its looks.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RECONCILE_H
#define JANITOR_RECONCILE_H

#include "compat.h"

#include "session.h"

/*
 * Gives every enabled scheduled job its entry, and one that is not later than
 * its schedule says.  At the start of the server, or when rows were loaded,
 * also closes executions that no process carries; at the start queues what
 * runs on start.
 */
extern void janitor_reconcile(bool at_start, bool loaded);

/*
 * Sees to the executions that no process carries because the scheduler that
 * had them in hand has ended.
 */
extern void janitor_settle(void);

/*
 * Tries again to close what could not be closed then, because somebody held
 * the row; false: nothing is left.
 */
extern bool janitor_close_left_open(void);

/* Are there any? */
extern bool janitor_has_left_open(void);

/*
 * Records the ends of runs whose worker is gone, and frees their slots.
 * Returns the last error, NULL if none: what could not be recorded is left
 * for the next call.
 */
extern JanitorError *janitor_bury_dead(void);

#endif							/* JANITOR_RECONCILE_H */
