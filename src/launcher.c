/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The launcher: starts a database's scheduler when something is due there.
 *
 * One process for the cluster.  It starts when recovery has finished, so it
 * never runs on a standby and starts by itself after a promotion.  It is
 * connected to no database and runs no SQL: all it reads is pg_database, to
 * know which databases there are, at its start and when one was created or
 * dropped.  Each database is probed once by its own scheduler, which leaves
 * at once where there is no extension.
 *
 * Between two events it sleeps until the earliest database is due.  It never
 * ends by itself: after an ERROR it exits with status 1 and the postmaster
 * starts it again; everything it knows is in shared memory.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "bgworker.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "session.h"
#include "settings.h"
#include "shmem.h"

/*
 * Databases probed or starting at the same time; one that takes long (it
 * waits for a lock on the database) holds up nobody else.
 */
#define STARTS_AT_ONCE 2
#define START_TAKES_LONG (5 * USECS_PER_SEC)
#define STARTS_KNOWN 64

/* The longest sleep, and so the bound on what a jump of the clock can hide. */
#define LONGEST_SLEEP_MS 60000L

typedef struct Start
{
	Oid			database;
	TimestampTz at;
	BackgroundWorkerHandle *handle; /* NULL: the place is free */
} Start;

/* Only this process uses it. */
static Start starts[STARTS_KNOWN];

/* --- which databases are there --- */

/* Databases that can be connected to and are nobody's template. */
static void
read_databases(void)
{
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	Oid		   *oids = palloc(JANITOR_MAX_DATABASES * sizeof(Oid));
	int			count = 0;
	int			room = JANITOR_MAX_DATABASES;

	janitor_begin();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (!database->datallowconn || database->datistemplate)
			continue;
		if (count == room)
		{
			room *= 2;
			oids = repalloc(oids, room * sizeof(Oid));
		}
		oids[count++] = database->oid;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	janitor_commit(true);

	janitor_databases_set(oids, count);
	pfree(oids);
}

/* --- starting schedulers --- */

/*
 * Forgets the starts that have come to something: the scheduler is there, or
 * its process has ended (it could not connect, or had nothing to do).
 */
static int
finish_starts(void)
{
	TimestampTz long_ago = GetCurrentTimestamp() - START_TAKES_LONG;
	int			places = 0;
	int			under_way = 0;

	for (int i = 0; i < STARTS_KNOWN; i++)
	{
		Start	   *start = &starts[i];

		if (start->handle != NULL)
		{
			bool		ended = janitor_process_ended(start->handle);

			if (!ended && !janitor_scheduler_alive(start->database))
			{
				if (start->at > long_ago)
					under_way++;
				continue;
			}
			if (ended)
				janitor_database_start_failed(start->database);
			pfree(start->handle);
			start->handle = NULL;
		}
		places++;
	}
	return Min(places, STARTS_AT_ONCE - under_way);
}

static void
start_one(Oid database)
{
	BackgroundWorkerHandle *handle;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	handle = janitor_start_scheduler(database);
	MemoryContextSwitchTo(old);

	if (handle == NULL)
	{
		janitor_database_start_failed(database);
		if (janitor_report_shortage())
			ereport(LOG,
					(errmsg("pg_janitor could not start a scheduler: no background worker process is free"),
					 errhint("Increase max_worker_processes and restart the server. It is tried again every second.")));
		return;
	}
	for (int i = 0; i < STARTS_KNOWN; i++)
	{
		if (starts[i].handle == NULL)
		{
			starts[i].database = database;
			starts[i].at = GetCurrentTimestamp();
			starts[i].handle = handle;
			return;
		}
	}
}

/* Starts what is due; returns when to look again. */
static TimestampTz
start_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz wake_at = DT_NOEND;
	int			free = finish_starts();

	if (!janitor_enabled)
		return DT_NOEND;
	while (free-- > 0)
	{
		Oid			database = janitor_database_to_start(now, &wake_at);

		if (!OidIsValid(database))
			return wake_at;
		start_one(database);
	}

	/* the start or end of one of ours sets the latch; this is the fallback */
	return now + USECS_PER_SEC;
}

/* By the scheduler's clock; small steps are nobody's concern. */
static void
watch_clock(void)
{
	static TimestampTz last = 0;
	TimestampTz now = janitor_clock();

	if (now < last - USECS_PER_SEC)
		janitor_databases_recheck(false);
	last = now;
}

static void
sleep_until(TimestampTz wake_at)
{
	static uint32 wait_event = 0;
	long		timeout = LONGEST_SLEEP_MS;

	if (wait_event == 0)
		wait_event = janitor_new_wait_event("JanitorLauncherMain");
	if (wake_at != DT_NOEND)
		timeout = Min(timeout,
					  TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													  wake_at));
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, wait_event);
	ResetLatch(MyLatch);
}

void
janitor_launcher_main(Datum argument)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, SIG_IGN);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	janitor_connect_launcher();
	janitor_launcher_attach();
	ereport(LOG, (errmsg("pg_janitor launcher started")));
	if (janitor_debug_clock_offset != 0)
		ereport(LOG,
				(errmsg("pg_janitor decides what is due by a clock that is shifted by %d s",
						janitor_debug_clock_offset),
				 errhint("pg_janitor.debug_clock_offset is for tests.")));

	context = AllocSetContextCreate(TopMemoryContext, "pg_janitor launcher",
									ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			if (janitor_reload_settings())
				janitor_databases_recheck(true);
			janitor_databases_recheck_disabled();
		}
		if (janitor_launcher_take_rescan())
			read_databases();
		watch_clock();
		sleep_until(start_due());
	}
}
