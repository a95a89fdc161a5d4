/*-------------------------------------------------------------------------
 *
 * fault.c
 *	  Runs that have failed, or succeeded after others had, on their way to
 *	  the scheduler.
 *
 * A NOTIFY takes a lock of the whole cluster for the time of a commit, so
 * whoever records the end of a run sends none: it leaves the number of the
 * run here, and the scheduler, which reads what became of it from the tables,
 * sends the notifications of a look together (alert.c).  What is left here
 * are hints: a crash loses them, and a number that leads to nothing, because
 * a savepoint was rolled back, does no harm.
 *
 * Most runs succeed, and of these only one that follows a failure is news.  So
 * the jobs that are failing are noted as well, by hash, each until a run of it
 * has succeeded.  The first scheduler after a start of the server supplies
 * those that were failing before.  Beyond JANITOR_FAILING of them the oldest is
 * forgotten: its recovery will not be told.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "fault.h"

#include "shmem_internal.h"

/* Runs told of by one transaction; of more, it is said that there are. */
#define FAULTS_AT_ONCE 32

/* What this process's transaction will tell when it commits. */
static struct
{
	int			count;
	bool		more;
	JanitorFault faults[FAULTS_AT_ONCE];
}			pending;

/* --- jobs that are failing; the lock is held --- */

static int
find_failing(Oid database, uint64 job_hash)
{
	for (int i = 0; i < janitor_shared->failing_count; i++)
	{
		if (janitor_shared->failing[i].job_hash == job_hash &&
			janitor_shared->failing[i].database == database)
			return i;
	}
	return -1;
}

static void
remove_failing(int place)
{
	janitor_shared->failing_count--;
	memmove(&janitor_shared->failing[place],
			&janitor_shared->failing[place + 1],
			(janitor_shared->failing_count - place) * sizeof(JanitorFailing));
}

static void
add_failing(Oid database, uint64 job_hash)
{
	JanitorFailing *last;

	if (find_failing(database, job_hash) >= 0)
		return;
	if (janitor_shared->failing_count == JANITOR_FAILING)
		remove_failing(0);
	last = &janitor_shared->failing[janitor_shared->failing_count++];
	last->database = database;
	last->job_hash = job_hash;
}

void
janitor_set_failing(uint64 job_hash, bool failing)
{
	int			place;

	janitor_lock(LW_EXCLUSIVE);
	place = find_failing(MyDatabaseId, job_hash);
	if (failing)
		add_failing(MyDatabaseId, job_hash);
	else if (place >= 0)
		remove_failing(place);
	janitor_unlock();
}

/*
 * Asked after each success: where nothing fails at all it costs no lock.  A
 * count that is out of date was so when the run began.
 */
static bool
is_failing(uint64 job_hash)
{
	bool		failing;

	if (janitor_shared->failing_count == 0)
		return false;
	janitor_lock(LW_SHARED);
	failing = find_failing(MyDatabaseId, job_hash) >= 0;
	janitor_unlock();
	return failing;
}

/* --- telling --- */

void
janitor_fault_at_end(uint64 job_hash, int64 execution_id, bool failed)
{
	JanitorFault *fault;

	if (janitor_shared == NULL || (!failed && !is_failing(job_hash)))
		return;
	janitor_wake_at_end(DT_NOEND);
	if (pending.count == FAULTS_AT_ONCE)
	{
		pending.more = true;
		return;
	}
	fault = &pending.faults[pending.count++];
	fault->database = MyDatabaseId;
	fault->job_hash = job_hash;
	fault->execution_id = execution_id;
	fault->failed = failed;
}

void
janitor_faults_forget(void)
{
	pending.count = 0;
	pending.more = false;
}

/* The lock is held. */
void
janitor_faults_tell(JanitorDatabase *database)
{
	for (int i = 0; i < pending.count; i++)
	{
		const JanitorFault *fault = &pending.faults[i];

		if (fault->failed)
			add_failing(fault->database, fault->job_hash);
		if (janitor_shared->fault_count < JANITOR_FAULTS)
			janitor_shared->faults[janitor_shared->fault_count++] = *fault;
		else
			database->faults_lost = true;
	}
	database->faults_lost |= pending.more;
}

int
janitor_faults_take(int64 *execution_ids, int size, bool *lost)
{
	JanitorDatabase *database;
	int			taken = 0;
	int			left = 0;

	janitor_lock(LW_EXCLUSIVE);
	for (int i = 0; i < janitor_shared->fault_count; i++)
	{
		const JanitorFault *fault = &janitor_shared->faults[i];

		if (fault->database == MyDatabaseId && taken < size)
			execution_ids[taken++] = fault->execution_id;
		else
			janitor_shared->faults[left++] = *fault;
	}
	janitor_shared->fault_count = left;
	database = janitor_my_database();
	*lost = database->faults_lost;
	database->faults_lost = false;
	janitor_unlock();
	return taken;
}

/* Of a database that is gone; the lock is held. */
void
janitor_faults_drop(Oid database)
{
	for (int i = janitor_shared->failing_count - 1; i >= 0; i--)
	{
		if (janitor_shared->failing[i].database == database)
			remove_failing(i);
	}
	for (int i = janitor_shared->fault_count - 1; i >= 0; i--)
	{
		if (janitor_shared->faults[i].database == database)
			janitor_shared->faults[i] =
				janitor_shared->faults[--janitor_shared->fault_count];
	}
}
