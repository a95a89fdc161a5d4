/*-------------------------------------------------------------------------
 *
 * bgworker.c
 *	  Registering and connecting pg_janitor's processes.
 *
 * The launcher is static and is restarted by the postmaster one second after
 * it fails.  Schedulers and workers are dynamic and never restarted: whether
 * and when there is another is decided by the launcher and the scheduler,
 * from what the tables say.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "bgworker.h"

#include "utils/guc.h"

#define LAUNCHER_RESTART 1		/* seconds */

static void
describe(BackgroundWorker *worker, const char *type, const char *entry_point)
{
	MemSet(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "pg_janitor", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, entry_point, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
}

void
janitor_register_launcher(void)
{
	BackgroundWorker worker;

	describe(&worker, "pg_janitor launcher", "janitor_launcher_main");
	worker.bgw_restart_time = LAUNCHER_RESTART;
	RegisterBackgroundWorker(&worker);
}

static BackgroundWorkerHandle *
start(BackgroundWorker *worker)
{
	BackgroundWorkerHandle *handle;

	worker->bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(worker, &handle))
		return NULL;
	return handle;
}

BackgroundWorkerHandle *
janitor_start_scheduler(Oid database)
{
	BackgroundWorker worker;

	describe(&worker, "pg_janitor scheduler", "janitor_scheduler_main");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	return start(&worker);
}

/* Slot in the upper, serial number in the lower half of the argument. */
BackgroundWorkerHandle *
janitor_start_worker(int slot, uint32 serial)
{
	BackgroundWorker worker;

	describe(&worker, "pg_janitor worker", "janitor_worker_main");
	StaticAssertStmt(sizeof(Datum) == sizeof(uint64),
					 "the argument of a worker needs a Datum of 8 bytes");
	worker.bgw_main_arg = UInt64GetDatum(((uint64) slot << 32) | serial);
	return start(&worker);
}

bool
janitor_process_ended(BackgroundWorkerHandle *handle)
{
	pid_t		pid;

	return GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED;
}

Oid
janitor_scheduler_argument(Datum argument)
{
	return DatumGetObjectId(argument);
}

void
janitor_worker_argument(Datum argument, int *slot, uint32 *serial)
{
	*slot = (int) (DatumGetUInt64(argument) >> 32);
	*serial = (uint32) DatumGetUInt64(argument);
}

void
janitor_connect_launcher(void)
{
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
}

void
janitor_connect_scheduler(Oid database)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("application_name", "pg_janitor scheduler",
					PGC_USERSET, PGC_S_OVERRIDE);
}

void
janitor_connect_worker(Oid database, Oid owner)
{
	BackgroundWorkerInitializeConnectionByOid(database, owner,
											  JANITOR_BYPASS_LOGIN);
	SetConfigOption("application_name", "pg_janitor worker",
					PGC_USERSET, PGC_S_OVERRIDE);
}
