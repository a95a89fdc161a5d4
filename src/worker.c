/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The main loop of a worker: takes claimed runs and carries them out.
 *
 * A worker is connected as the owner of the jobs it runs, for its whole life:
 * whatever a command does to its session (RESET ROLE, SET SESSION
 * AUTHORIZATION) leads back to that role and nowhere else.  It stays warm for
 * pg_janitor.worker_idle_timeout and leaves sooner when its place is wanted
 * for another owner.
 *
 * Signals: SIGINT (pg_cancel_backend, job_cancel) cancels the run in progress
 * and is ignored between runs.  SIGTERM while idle ends the process.  SIGTERM
 * during a run is passed to the scheduler, which knows whether the server is
 * shutting down (then the run has pg_janitor.shutdown_grace) or somebody
 * called pg_terminate_backend (then it ends at once); without a live scheduler
 * it ends the process.
 *
 * On FATAL the exit callback in crew.c hands the run to the scheduler, which
 * records what became of it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "bgworker.h"

#include <signal.h>

#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "run.h"
#include "settings.h"
#include "shmem.h"

/* For work, when processes are short and another database needs one. */
#define SHORT_WAIT_MS 1000L

/* Set around a run; read by the SIGINT handler. */
static volatile sig_atomic_t run_in_progress = false;

static void
cancel_handler(SIGNAL_ARGS)
{
	if (run_in_progress)
		StatementCancelHandler(postgres_signal_arg);
}

static void
terminate_handler(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (!janitor_worker_term_requested())
		die(postgres_signal_arg);
	errno = save_errno;
}

/* Either a run of its own, or what another worker's leaves to helpers. */
static void
carry_out(int64 execution_id, bool helping)
{
	run_in_progress = true;
	if (helping)
		janitor_run_help(execution_id);
	else
		janitor_run_execution(execution_id);
	run_in_progress = false;

	/* a cancel that came too late is not for the next run */
	QueryCancelPending = false;
	janitor_worker_done();
}

/* Returns false when there was nothing for the whole idle timeout. */
static bool
wait_for_work(void)
{
	static uint32 wait_event = 0;
	int			events;

	if (wait_event == 0)
		wait_event = janitor_new_wait_event("JanitorWorkerMain");
	events = WaitLatch(MyLatch,
					   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   janitor_needed_elsewhere() ? SHORT_WAIT_MS :
					   janitor_worker_idle_timeout * 1000L, wait_event);
	ResetLatch(MyLatch);
	return (events & WL_LATCH_SET) != 0;
}

static void
reload_if_asked(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
janitor_worker_main(Datum argument)
{
	int			slot;
	uint32		serial;
	Oid			database;
	Oid			owner;
	int64		execution_id = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, cancel_handler);
	pqsignal(SIGTERM, terminate_handler);
	BackgroundWorkerUnblockSignals();

	janitor_worker_argument(argument, &slot, &serial);
	if (!janitor_worker_attach(slot, serial, &database, &owner))
		proc_exit(0);
	janitor_connect_worker(database, owner);
	janitor_run_init();
	MemoryContextSwitchTo(TopMemoryContext);
	janitor_worker_ready();

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		reload_if_asked();
		switch (janitor_worker_take(&execution_id))
		{
			case JANITOR_TAKE_RUN:
				carry_out(execution_id, false);
				break;
			case JANITOR_TAKE_HELP:
				carry_out(execution_id, true);
				break;
			case JANITOR_TAKE_NOTHING:
				if (!wait_for_work() && janitor_worker_try_leave())
					proc_exit(0);
				break;
			case JANITOR_TAKE_LEAVE:
				proc_exit(0);
		}
	}
}
