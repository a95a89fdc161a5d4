/*-------------------------------------------------------------------------
 *
 * window.h
 *	  Policy: exact sliding windows, at most so many in any stretch of time.
 *
 * Pure: no server state, no clock, no allocation; compiles and is tested
 * without a server.  All times are microseconds since 2000-01-01 UTC.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_WINDOW_H
#define JANITOR_WINDOW_H

#include <stdint.h>

/*
 * When the window admits one more: `now`, or the moment that it opens.
 * `times` are the admissions of the last `per`, oldest first; `ahead` runs
 * are in line already, each to be admitted as soon as it can be.
 */
extern int64_t janitor_window_opens(const int64_t *times, int count,
									int max_runs, int64_t per,
									int64_t now, int ahead);

#endif							/* JANITOR_WINDOW_H */
