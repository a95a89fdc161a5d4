/*-------------------------------------------------------------------------
 *
 * bgworker.h
 *	  Registering and connecting pg_janitor's processes.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_BGWORKER_H
#define JANITOR_BGWORKER_H

#include "compat.h"

/* From _PG_init. */
extern void janitor_register_launcher(void);

/*
 * NULL: max_worker_processes is exhausted.  The handle is palloc'd in the
 * current context; the registrant's latch is set when the process starts and
 * when it ends.
 */
extern BackgroundWorkerHandle *janitor_start_scheduler(Oid database);
extern BackgroundWorkerHandle *janitor_start_worker(int slot, uint32 serial);

/* Has the process that was registered ended? */
extern bool janitor_process_ended(BackgroundWorkerHandle *handle);

/* What a process was given by the two above. */
extern Oid	janitor_scheduler_argument(Datum argument);
extern void janitor_worker_argument(Datum argument, int *slot, uint32 *serial);

/* To no database: shared catalogs only. */
extern void janitor_connect_launcher(void);

/* As the bootstrap superuser. */
extern void janitor_connect_scheduler(Oid database);

/* As the owner of the jobs it will run; FATAL where that may not connect. */
extern void janitor_connect_worker(Oid database, Oid owner);

/* Entry points, named to the postmaster. */
extern PGDLLEXPORT void janitor_launcher_main(Datum argument);
extern PGDLLEXPORT void janitor_scheduler_main(Datum argument);
extern PGDLLEXPORT void janitor_worker_main(Datum argument);

#endif							/* JANITOR_BGWORKER_H */
