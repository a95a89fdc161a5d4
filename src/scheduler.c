/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *	  The main loop of a scheduler: one database's decisions.
 *
 * At most one per database, held to that by a session lock.  It owns all
 * decisions about what starts, is skipped, waits and was lost; workers only
 * carry out.  Between two looks it sleeps on its latch until the next entry
 * is due, at most LONGEST_SLEEP (the bound on a jump of the clock); whoever
 * touches the queue, and workers when it matters, set the latch.  It leaves
 * when nothing has happened for pg_janitor.worker_idle_timeout and nothing is
 * due soon, having published when the next entry is.
 *
 * Signals: SIGTERM sets a flag, since it has to outlive its workers in a
 * shutdown to record what became of them; it runs no SQL but its own, all of
 * it short.  On a shutdown nothing new starts and the runs in progress have
 * pg_janitor.shutdown_grace.  After pg_terminate_backend it ends at once and
 * the launcher starts another; runs in progress are not touched.
 *
 * An ERROR in a cycle rolls it back, is logged once, and the cycle is repeated
 * after a second with everything read afresh.  FATAL and crash: shmem.c.
 *
 * Memory: scheduler_context for a cycle, reset at its start.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "bgworker.h"

#include <unistd.h>

#include "commands/dbcommands.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/pidfile.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "dispatch.h"
#include "history.h"
#include "ledger.h"
#include "reconcile.h"
#include "replicas.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

#define LONGEST_SLEEP (60 * USECS_PER_SEC)
#define EXACT_SLEEP (2 * USECS_PER_SEC)
#define RETRY_AFTER_ERROR (1 * USECS_PER_SEC)
#define PREPARE_BEFORE (1 * USECS_PER_SEC)
#define LOOK_AT_RING (200 * INT64CONST(1000))
#define RECONCILE_INTERVAL (3600 * USECS_PER_SEC)
#define PRUNE_RETRY (60 * USECS_PER_SEC)

/* Key of the session lock; user locks use other values of the last field. */
#define SCHEDULER_LOCK_CLASS 1000

static volatile sig_atomic_t terminate_requested = false;
static TimeoutId wake_timeout;
static MemoryContext scheduler_context = NULL;

/* What the loop carries from one cycle to the next. */
typedef struct Scheduler
{
	uint64		generation;		/* of the last news */
	TimestampTz look_at;		/* by janitor_clock(); DT_NOEND: when told */
	TimestampTz prepared;		/* workers were started ahead for this time */
	TimestampTz last_activity;
	TimestampTz last_clock;
	bool		waiting;		/* entries wait for a worker or a run's end */
	bool		more;			/* the last look left something: do not sleep */
	bool		pruning;		/* history is left to prune: do not sleep */
	bool		standing_by;	/* switched off */
	TimestampTz no_pruning_until;	/* it failed */
	int			last_error;		/* SQLSTATE logged last; 0: none since */
	TimestampTz no_reconciling_until;	/* it failed, likewise */
	int			last_reconcile_error;
} Scheduler;

static void
terminate_handler(SIGNAL_ARGS)
{
	int			save_errno = errno;

	terminate_requested = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
wake_handler(void)
{
	SetLatch(MyLatch);
}

/*
 * A lock timeout signals its own process with SIGINT.  Nobody else's is
 * heeded.
 */
static void
interrupt_handler(SIGNAL_ARGS)
{
	if (get_timeout_indicator(LOCK_TIMEOUT, false))
		StatementCancelHandler(postgres_signal_arg);
}

/* --- being the only one --- */

/*
 * The lock belongs to the session, by the method whose session locks survive
 * an abort.  It goes with the process.
 */
static bool
lock_database(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, SCHEDULER_LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, true, true) !=
		LOCKACQUIRE_NOT_AVAIL;
}

static bool
extension_exists(void)
{
	bool		exists;

	janitor_begin();
	exists = janitor_extension_exists();
	janitor_commit(true);
	return exists;
}

/* Another version's tables are left alone until they are updated. */
static void
report_other_version(void)
{
	char	   *version;
	const char *hint;

	janitor_begin();
	version = janitor_other_version(&hint);
	if (version != NULL)
		ereport(LOG,
				(errmsg("pg_janitor does not serve database \"%s\": its extension is version \"%s\", the library is version \"%s\"",
						get_database_name(MyDatabaseId), version,
						JANITOR_EXTENSION_VERSION),
				 errhint("%s", hint)));
	janitor_commit(true);
}

/* --- shutdown --- */

/* The postmaster writes its status into line 8 before it signals anybody. */
static bool
server_is_stopping(void)
{
	FILE	   *file = AllocateFile("postmaster.pid", "r");
	char		line[MAXPGPATH];
	bool		stopping = false;

	if (file == NULL)
		return true;
	for (int i = 1; i <= LOCK_FILE_LINE_PM_STATUS; i++)
	{
		if (fgets(line, sizeof(line), file) == NULL)
			break;
		if (i == LOCK_FILE_LINE_PM_STATUS)
			stopping = strncmp(line, PM_STATUS_STOPPING,
							   strlen(PM_STATUS_STOPPING)) == 0;
	}
	FreeFile(file);
	return stopping;
}

/*
 * Has this process waited for a lock since the last call?  That uses the latch
 * as well, and arms this timeout.
 */
static bool
has_waited_for_lock(void)
{
	static TimestampTz last = 0;
	TimestampTz start = get_timeout_start_time(DEADLOCK_TIMEOUT);
	bool		waited = start != last;

	last = start;
	return waited;
}

/*
 * The timer sets the latch at the microsecond; the latch's own timeout, in
 * whole milliseconds and rounded up, is there for long sleeps.  After a wait
 * for a lock there may have been something to be woken for.
 */
static void
wait_for_latch(TimestampTz until)
{
	static uint32 wait_event = 0;
	TimestampTz now = GetCurrentTimestamp();
	long		timeout;

	if (wait_event == 0)
		wait_event = janitor_new_wait_event("JanitorSchedulerMain");
	if (has_waited_for_lock())
		until = now;
	until = Min(until, now + LONGEST_SLEEP);
	timeout = TimestampDifferenceMilliseconds(now, until);
	if (until > now && until < now + EXACT_SLEEP)
		enable_timeout_at(wake_timeout, until);
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, wait_event);
	disable_timeout(wake_timeout, false);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Whoever comes next has to see to what is left in its hands. */
static void
leave_word(int code, Datum arg)
{
	if (janitor_has_homeless() || janitor_has_left_open())
		janitor_set_unsettled(true);
}

static void
take_back_all(void *arg)
{
	janitor_take_back_stuck(true);
}

/*
 * Lets the runs in progress end, then ends them, and records what was lost.
 * What cannot be recorded is closed by the next start.
 */
static void
wind_up(void)
{
	TimestampTz deadline = GetCurrentTimestamp() +
	janitor_shutdown_grace * USECS_PER_SEC;
	bool		ended = false;

	janitor_scheduler_set_backlog(true);	/* workers tell of each end */
	(void) janitor_attempt(take_back_all, NULL);
	for (;;)
	{
		/* in this order: whoever dies in between is buried next time */
		int			alive = janitor_runs_alive();

		(void) janitor_bury_dead();
		if (alive == 0)
			return;
		if (!ended && GetCurrentTimestamp() >= deadline)
		{
			janitor_end_all(JANITOR_END_SHUTDOWN);
			ended = true;
		}
		wait_for_latch(ended ? janitor_repeat_ends() : deadline);
	}
}

/*
 * Workers that were sent SIGTERM during a run wait for this: in a shutdown
 * they go on, else it was pg_terminate_backend and they end.
 */
static void
end_terminated_runs(void)
{
	int			slots[64];
	int			count = janitor_terminated(slots, lengthof(slots));

	if (count == 0 || server_is_stopping())
		return;
	for (int i = 0; i < count; i++)
		janitor_terminate_slot(slots[i]);
}

/* --- one cycle --- */

static void
log_once(int *last_error, const JanitorError *error)
{
	if (*last_error == error->sqlstate)
		return;
	*last_error = error->sqlstate;
	ereport(LOG,
			(errmsg("pg_janitor scheduler could not look at the queue: %s",
					error->message),
			 errdetail("SQLSTATE %s. It is tried again every second.",
					   unpack_sql_state(error->sqlstate))));
}

/* The clock went back: what was due later may be due earlier again. */
static bool
clock_went_back(Scheduler *scheduler)
{
	TimestampTz now = janitor_clock();
	bool		back = now < scheduler->last_clock;

	scheduler->last_clock = now;
	return back;
}

/*
 * At the start of the server before the first look; later in a quiet moment,
 * once an hour.
 */
static void
reconcile(void *arg)
{
	TimestampTz *last = arg;

	janitor_reconcile(*last == DT_NOBEGIN, *last == 0);
	janitor_set_reconciled(GetCurrentTimestamp());
}

static void
reconcile_if_due(Scheduler *scheduler, bool now)
{
	TimestampTz at = janitor_reconciled_at();
	bool		at_start = at == DT_NOBEGIN;
	JanitorError *error;

	if (!at_start && !now && at <= GetCurrentTimestamp() &&
		GetCurrentTimestamp() - at < RECONCILE_INTERVAL)
		return;
	if (!now && scheduler->no_reconciling_until > GetCurrentTimestamp())
		return;
	error = janitor_attempt(reconcile, &at);
	if (error)
	{
		scheduler->no_reconciling_until =
			GetCurrentTimestamp() + RETRY_AFTER_ERROR;
		log_once(&scheduler->last_reconcile_error, error);
	}
	else
		scheduler->last_reconcile_error = 0;
}

/* Returns the news; leaves where the database is not ours any more. */
static void
take_news(Scheduler *scheduler, JanitorNews *news)
{
	janitor_scheduler_news(news);
	if (news->leave)
	{
		janitor_take_back_stuck(true);
		janitor_retire_all();
		proc_exit(0);
	}
	if (news->generation != scheduler->generation)
		scheduler->last_activity = GetCurrentTimestamp();
	scheduler->generation = news->generation;
}

/* Dropped, and there is nothing left to be recorded anywhere. */
static void
leave_for_good(Scheduler *scheduler)
{
	report_other_version();
	janitor_retire_all();
	janitor_forget_dead();
	(void) janitor_scheduler_leave(scheduler->generation, DT_NOEND, false);
	proc_exit(0);
}

static void
prune_history(void *arg)
{
	Scheduler  *scheduler = arg;

	scheduler->pruning = janitor_history_prune();
}

/* In a quiet moment.  What fails is no reason to keep jobs waiting. */
static void
prune(Scheduler *scheduler)
{
	JanitorError *error;

	scheduler->pruning = false;
	if (scheduler->no_pruning_until > GetCurrentTimestamp())
		return;
	error = janitor_attempt(prune_history, scheduler);
	if (error)
	{
		scheduler->no_pruning_until = GetCurrentTimestamp() + PRUNE_RETRY;
		ereport(LOG,
				(errmsg("pg_janitor could not prune job_execution: %s",
						error->message)));
	}
}

/*
 * One look.  If it leaves more the next cycle comes at once, but it is a cycle
 * like any other: what was told meanwhile, and who has died, does not wait
 * until a long row of occurrences has been gone through.
 */
static void
look(void *arg)
{
	Scheduler  *scheduler = arg;
	JanitorNews news;
	JanitorLook seen;

	take_news(scheduler, &news);
	if (clock_went_back(scheduler))
	{
		reconcile_if_due(scheduler, true);
		news.due = DT_NOBEGIN;
	}
	if (news.unsettled)
		janitor_settle();
	janitor_take_back_stuck(false);
	janitor_dispatch(news.due, news.everything, &seen);
	if (seen.gone)
		leave_for_good(scheduler);
	if (seen.claimed > 0)
		scheduler->last_activity = GetCurrentTimestamp();
	scheduler->more = seen.more;
	scheduler->look_at = seen.look_at;
	scheduler->waiting = seen.waiting;
	ereport(DEBUG1,
			(errmsg_internal("look: claimed %d, waiting %d, next in %.3f s",
							 seen.claimed, seen.waiting,
							 seen.look_at == DT_NOEND ? -1.0 :
							 (seen.look_at - janitor_clock()) /
							 (double) USECS_PER_SEC)));

	if (seen.claimed == 0 && !seen.more && !terminate_requested)
	{
		reconcile_if_due(scheduler, false);
		prune(scheduler);
	}
}

static void
look_for_extension(void *arg)
{
	*(bool *) arg = extension_exists();
}

/* Was the extension dropped under a look?  The next one finds it gone. */
static bool
was_dropped(void)
{
	bool		exists = true;

	(void) janitor_attempt(look_for_extension, &exists);
	return !exists;
}

/*
 * One cycle.  What fails is logged once and tried again after a second, with
 * the queue read afresh.
 */
static void
cycle(Scheduler *scheduler)
{
	JanitorError *unburied = janitor_bury_dead();
	JanitorError *error;

	scheduler->more = false;
	end_terminated_runs();
	error = janitor_attempt(look, scheduler);
	if (error)
	{
		if (janitor_dispatch_blame(error) || was_dropped())
			error = NULL;
		janitor_dispatch_reset();
		scheduler->pruning = false;
		scheduler->look_at = error ? DT_NOEND : janitor_clock();
	}
	if (error || unburied)
		log_once(&scheduler->last_error, error ? error : unburied);
	else
		scheduler->last_error = 0;
	if (janitor_close_left_open())
		scheduler->waiting = true;
	else if (!error && !unburied)
		return;
	scheduler->look_at = Min(scheduler->look_at,
							 janitor_clock() + RETRY_AFTER_ERROR);
}

/* --- between cycles --- */

static int64
idle_limit(void)
{
	return janitor_needed_elsewhere() ? USECS_PER_SEC :
		janitor_worker_idle_timeout * USECS_PER_SEC;
}

/*
 * Shortly before something is due, see to it that a worker is there.  Returns
 * until when to sleep, on the real clock.
 */
static TimestampTz
sleep_until(Scheduler *scheduler)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = now + LONGEST_SLEEP;
	TimestampTz oldest;

	if (scheduler->more)
		return now;
	if (scheduler->look_at != DT_NOEND)
	{
		TimestampTz look_at = scheduler->look_at -
		janitor_debug_clock_offset * USECS_PER_SEC;

		if (scheduler->prepared != scheduler->look_at)
		{
			if (look_at - PREPARE_BEFORE <= now)
			{
				scheduler->prepared = scheduler->look_at;
				janitor_prepare_workers(scheduler->look_at);
			}
			else
				look_at -= PREPARE_BEFORE;
		}
		until = Min(until, look_at);
	}
	if (scheduler->pruning)
		return now;
	if (scheduler->last_activity + idle_limit() > now)
		until = Min(until, scheduler->last_activity + idle_limit());
	until = Min(until, janitor_repeat_ends());
	until = Min(until, janitor_replicas_due());
	if (janitor_ring_oldest(&oldest))
		until = Min(until, Max(oldest, now) + LOOK_AT_RING);
	return until;
}

/* For runs that pause while standbys are behind. */
static void
sample_if_due(void)
{
	if (janitor_replicas_due() <= GetCurrentTimestamp())
		janitor_replicas_sample();
}

/* In want of processes it makes room for others that is not needed. */
static bool
must_make_room(void)
{
	return janitor_needed_elsewhere() && !janitor_scheduler_is_eldest();
}

static bool
may_leave(const Scheduler *scheduler)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		idle = idle_limit();

	return now - scheduler->last_activity >= idle &&
		!scheduler->waiting && !scheduler->more && !scheduler->pruning &&
		(scheduler->look_at == DT_NOEND ||
		 scheduler->look_at > janitor_clock() + idle) &&
		janitor_runs_in_progress() == 0;
}

static void
reload_if_asked(void)
{
	if (ConfigReloadPending && janitor_reload_settings())
	{
		janitor_set_reconciled(0);
		janitor_wake_now(MyDatabaseId);
	}
}

static void
set_up(Oid database)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, interrupt_handler);
	pqsignal(SIGTERM, terminate_handler);
	BackgroundWorkerUnblockSignals();
	janitor_connect_scheduler(database);
	wake_timeout = RegisterTimeout(USER_TIMEOUT, wake_handler);
	janitor_session_pin();
	if (!lock_database() || !janitor_scheduler_attach())
		proc_exit(0);
	before_shmem_exit(leave_word, (Datum) 0);
	scheduler_context = AllocSetContextCreate(TopMemoryContext,
											  "pg_janitor scheduler",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scheduler_context);
	janitor_dispatch_reset();
}

/* It is switched on: nothing is made up for when it was not. */
static void
serve(Scheduler *scheduler)
{
	TimestampTz since;
	TimestampTz until;

	janitor_scheduler_serves(&since, &until);
	janitor_dispatch_was_off(since, until);
	scheduler->standing_by = false;
}

/* Leaves at once where there is nothing to do for it. */
static void
leave_unless_needed(Scheduler *scheduler)
{
	JanitorNews news;

	janitor_scheduler_news(&news);
	scheduler->generation = news.generation;
	if (janitor_enabled && extension_exists())
	{
		serve(scheduler);
		return;
	}
	if (janitor_enabled)
		report_other_version();
	if (janitor_scheduler_leave(news.generation, DT_NOEND, !janitor_enabled))
		proc_exit(0);
	proc_exit(1);				/* something was told meanwhile: once more */
}

/* Switched off: nothing starts; it leaves when the last run has ended. */
static void
stand_by(Scheduler *scheduler)
{
	scheduler->standing_by = true;
	janitor_scheduler_stands_by();
	janitor_scheduler_set_backlog(true);	/* workers tell of each end */
	(void) janitor_attempt(take_back_all, NULL);
	(void) janitor_bury_dead();
	end_terminated_runs();
	if (janitor_runs_in_progress() == 0)
		leave_unless_needed(scheduler);
}

void
janitor_scheduler_main(Datum argument)
{
	Scheduler	scheduler;

	MemSet(&scheduler, 0, sizeof(scheduler));
	scheduler.prepared = DT_NOBEGIN;
	set_up(janitor_scheduler_argument(argument));
	leave_unless_needed(&scheduler);
	reconcile_if_due(&scheduler, false);
	scheduler.last_activity = GetCurrentTimestamp();
	scheduler.last_clock = janitor_clock();

	/* the first look reads everything */
	janitor_wake_now(MyDatabaseId);

	for (;;)
	{
		MemoryContextReset(scheduler_context);
		MemoryContextSwitchTo(scheduler_context);
		CHECK_FOR_INTERRUPTS();
		reload_if_asked();
		if (terminate_requested)
		{
			if (server_is_stopping())
				wind_up();
			proc_exit(1);
		}
		if (!janitor_enabled)
		{
			stand_by(&scheduler);
			sample_if_due();
			wait_for_latch(Min(janitor_repeat_ends(),
							   janitor_replicas_due()));
			continue;
		}
		if (scheduler.standing_by)
			serve(&scheduler);
		sample_if_due();
		cycle(&scheduler);
		if (may_leave(&scheduler) &&
			janitor_scheduler_leave(scheduler.generation, scheduler.look_at,
									false))
			proc_exit(0);
		if (must_make_room() && janitor_runs_in_progress() == 0)
			proc_exit(0);		/* somebody will look here again */
		wait_for_latch(sleep_until(&scheduler));
	}
}
