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

/*
 * Once per start of the server, before the first look: closes executions
 * that no process carries, gives every enabled scheduled job its entry,
 * queues what runs on start.
 */
extern void janitor_reconcile(void);

/*
 * Records the ends of runs whose worker is gone, and frees their slots.
 * Returns how many there were.
 */
extern int	janitor_bury_dead(void);

#endif							/* JANITOR_RECONCILE_H */
