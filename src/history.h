/*-------------------------------------------------------------------------
 *
 * history.h
 *	  How much of job_execution is kept.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_HISTORY_H
#define JANITOR_HISTORY_H

#include "compat.h"

/* So many runs of the job were claimed. */
extern void janitor_history_count(const char *job_name, int runs);

/*
 * Prunes the history of one job, if that of any is due; in transactions of
 * its own.  true: there is more to do.
 */
extern bool janitor_history_prune(void);

#endif							/* JANITOR_HISTORY_H */
