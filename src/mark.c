/*-------------------------------------------------------------------------
 *
 * mark.c
 *	  What clients that claim runs tell each other and the scheduler.
 *
 * Claims and ends of external runs are many, and the scheduler is needed for
 * few of them.  It is woken only when a lease ends before it would look again
 * by itself, or when the end of a run lets somebody start who found nothing
 * before; and when a claim is rolled back.
 *
 * Marks.  Whoever claims looks for entries in the order of the queue, of which
 * the beginning is full of what was claimed before.  So each job that is
 * claimed from has a mark in shared memory: nothing is left at or before it.
 * Whatever makes an entry claimable there (a trigger, a rollback, the end of a
 * run with the same key) says so when its transaction has ended, which moves
 * the mark back; and whoever read the mark before that may not advance it.
 * Marks are hints: one that is lost makes a claim slower.
 *
 * Starved: somebody could not claim what was due, since as many runs as may be
 * were in progress, or one with the same key; or since the job was paused or
 * its circuit open.  The end of the next run of that job, a change of jobs or
 * circuits, or the time when the pause or the cooldown is over tell the
 * scheduler to announce it.
 *
 * All this is told after the commit, when the locks are gone, by a callback
 * that takes the lock, writes and sets latches.  Of a prepared transaction,
 * COMMIT PREPARED tells everything (the utility hook).
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "mark.h"

#include "storage/condition_variable.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "shmem_internal.h"

/* Jobs whose ends are told one by one; of more, all are told. */
#define ENDED_JOBS 16

/* What this process's transaction will tell when it ends. */
static struct
{
	bool		registered;		/* the callbacks, once per process */
	bool		anything;
	bool		alarmed;
	TimestampTz alarm;
	bool		leased;
	TimestampTz lease_until;
	bool		took;
	TimestampTz taken;			/* earliest run_at of what we took */
	int			jobs;
	uint64		ended[ENDED_JOBS];
	int			count[ENDED_JOBS];
	bool		ended_more;
}			pending;

/* --- marks; the lock is held --- */

static JanitorMark *
find_mark(uint64 job_hash)
{
	Assert(LWLockHeldByMe(janitor_shared->lock));

	for (int i = 0; i < JANITOR_MARKS; i++)
	{
		JanitorMark *mark = &janitor_shared->marks[i];

		if (mark->job_hash == job_hash && mark->database == MyDatabaseId)
			return mark;
	}
	return NULL;
}

/* A place for another job: a free one, or that of the one not used longest. */
static JanitorMark *
new_mark(uint64 job_hash, const char *job_name)
{
	JanitorMark *mark = &janitor_shared->marks[0];

	for (int i = 1; i < JANITOR_MARKS && OidIsValid(mark->database); i++)
	{
		JanitorMark *other = &janitor_shared->marks[i];

		if (!OidIsValid(other->database) || other->used < mark->used)
			mark = other;
	}
	MemSet(mark, 0, sizeof(JanitorMark));
	mark->database = MyDatabaseId;
	mark->job_hash = job_hash;
	strlcpy(mark->job_name, job_name, sizeof(mark->job_name));
	mark->run_at = mark->starved_at = DT_NOBEGIN;
	return mark;
}

static void
move_back(JanitorMark *mark, TimestampTz run_at)
{
	mark->told++;
	if (run_at > mark->run_at)
		return;
	mark->run_at = run_at == DT_NOBEGIN ? DT_NOBEGIN : run_at - 1;
	mark->id = PG_INT64_MAX;
}

void
janitor_marks_told(Oid database, TimestampTz run_at)
{
	for (int i = 0; i < JANITOR_MARKS; i++)
	{
		JanitorMark *mark = &janitor_shared->marks[i];

		if (mark->database == database)
			move_back(mark, run_at);
	}
}

/* --- marks, as claims see them --- */

void
janitor_mark_read(uint64 job_hash, const char *job_name,
				  JanitorPosition *position)
{
	JanitorMark *mark;

	janitor_lock(LW_EXCLUSIVE);
	mark = find_mark(job_hash);
	if (mark == NULL)
		mark = new_mark(job_hash, job_name);
	mark->used = GetCurrentTimestamp();
	position->run_at = mark->run_at;
	position->id = mark->id;
	position->told = mark->told;
	janitor_unlock();
}

void
janitor_mark_advance(uint64 job_hash, const JanitorPosition *position)
{
	JanitorMark *mark;

	janitor_lock(LW_EXCLUSIVE);
	mark = find_mark(job_hash);
	if (mark && mark->told == position->told &&
		(position->run_at > mark->run_at ||
		 (position->run_at == mark->run_at && position->id > mark->id)))
	{
		mark->run_at = position->run_at;
		mark->id = position->id;
	}
	janitor_unlock();
}

void
janitor_mark_starved(uint64 job_hash, TimestampTz run_at, TimestampTz until)
{
	JanitorMark *mark;

	janitor_lock(LW_EXCLUSIVE);
	mark = find_mark(job_hash);
	if (mark)
	{
		mark->starved_at = mark->starved ? Min(mark->starved_at, run_at) :
			run_at;
		mark->starved_until = mark->starved ?
			Min(mark->starved_until, until) : until;
		mark->starved = true;
	}
	janitor_unlock();
}

/* --- at the end of the transaction --- */

void
janitor_claims_forget(void)
{
	bool		registered = pending.registered;

	MemSet(&pending, 0, sizeof(pending));
	pending.registered = registered;
}

/* Runs of this job have ended; true: that has to be announced. */
static bool
note_ended(uint64 job_hash, int count)
{
	JanitorMark *mark = find_mark(job_hash);

	if (mark == NULL)
		return false;
	mark->ended += count;
	if (!mark->starved)
		return false;
	move_back(mark, mark->starved_at);
	mark->starved = false;
	mark->announce = true;
	return true;
}

static bool
note_all_ended(void)
{
	bool		announce = pending.ended_more;

	if (pending.ended_more)
		for (int i = 0; i < JANITOR_MARKS; i++)
			if (janitor_shared->marks[i].database == MyDatabaseId)
				(void) note_ended(janitor_shared->marks[i].job_hash, 0);
	for (int i = 0; i < pending.jobs; i++)
		announce |= note_ended(pending.ended[i], pending.count[i]);
	return announce;
}

/* After the commit; nothing that can fail. */
static void
tell_committed(void)
{
	TimestampTz now = janitor_clock();
	JanitorDatabase *database;
	JanitorProcess woken = {0, 0};
	bool		wake = false;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (database)
	{
		if (pending.leased)
			database->lease_until = Min(database->lease_until,
										pending.lease_until);
		if (pending.alarmed && pending.alarm < database->alarm)
		{
			database->alarm = pending.alarm;
			janitor_tell(database, pending.alarm, false);
			wake = true;
		}
		if (note_all_ended())
		{
			janitor_tell(database, now, false);
			wake = true;
		}
		if (wake)
			woken = *janitor_who_serves(database);
	}
	janitor_unlock();
	janitor_wake_process(&woken);
	if (pending.jobs > 0)
		ConditionVariableBroadcast(&janitor_shared->run_ended);
}

/* What we took is back, and the scheduler may have passed it by. */
static void
tell_rolled_back(TimestampTz taken)
{
	JanitorDatabase *database;
	JanitorProcess woken = {0, 0};

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	if (database)
	{
		janitor_tell(database, taken, false);
		woken = *janitor_who_serves(database);
	}
	janitor_unlock();
	janitor_wake_process(&woken);
}

static void
tell_at_end(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
			void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level ||
		!pending.anything || IsTransactionState())
		return;
	if (is_commit)
		tell_committed();
	else if (pending.took)
		tell_rolled_back(pending.taken);
	janitor_claims_forget();
}

static void
forget_prepared(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PREPARE)
		janitor_claims_forget();
}

/* A savepoint that is rolled back: that it was is told at the end. */
static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine,
					 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && pending.took)
		janitor_wake_at_end(pending.taken);
}

static bool
prepare_to_tell(void)
{
	if (janitor_shared == NULL)
		return false;
	if (!pending.registered)
	{
		RegisterXactCallback(forget_prepared, NULL);
		RegisterSubXactCallback(subtransaction_ended, NULL);
		RegisterResourceReleaseCallback(tell_at_end, NULL);
		pending.registered = true;
	}
	pending.anything = true;
	return true;
}

void
janitor_alarm_at_end(TimestampTz at)
{
	if (!prepare_to_tell())
		return;
	pending.alarm = pending.alarmed ? Min(pending.alarm, at) : at;
	pending.alarmed = true;
}

void
janitor_lease_at_end(TimestampTz lease_until)
{
	janitor_alarm_at_end(lease_until);
	pending.lease_until = pending.leased ?
		Min(pending.lease_until, lease_until) : lease_until;
	pending.leased = true;
}

void
janitor_wake_at_abort(TimestampTz run_at)
{
	if (!prepare_to_tell())
		return;
	pending.taken = pending.took ? Min(pending.taken, run_at) : run_at;
	pending.took = true;
}

void
janitor_run_ended_at_end(uint64 job_hash)
{
	if (!prepare_to_tell())
		return;
	for (int i = 0; i < pending.jobs; i++)
		if (pending.ended[i] == job_hash)
		{
			pending.count[i]++;
			return;
		}
	if (pending.jobs == ENDED_JOBS)
	{
		pending.ended_more = true;
		return;
	}
	pending.ended[pending.jobs] = job_hash;
	pending.count[pending.jobs++] = 1;
}

/* --- the scheduler --- */

/* From here on whoever has an earlier time wakes it. */
TimestampTz
janitor_alarm_clear(void)
{
	JanitorDatabase *database;
	TimestampTz lease_until;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	lease_until = database->lease_until;
	database->alarm = database->lease_until = DT_NOEND;
	janitor_unlock();
	return lease_until;
}

/* Returns when it really has to look. */
TimestampTz
janitor_alarm_set(TimestampTz at)
{
	JanitorDatabase *database;

	janitor_lock(LW_EXCLUSIVE);
	database = janitor_my_database();
	at = database->alarm = Min(database->alarm, at);
	janitor_unlock();
	return at;
}

TimestampTz
janitor_marks_visit(bool all, int many,
					void (*each) (const char *job_name, bool claimable,
								  int ended, void *arg),
					void *arg)
{
	TimestampTz now = janitor_clock();
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < JANITOR_MARKS; i++)
	{
		JanitorMark *mark = &janitor_shared->marks[i];
		char		job_name[sizeof(mark->job_name)];
		bool		claimable = false;
		int			ended = 0;

		janitor_lock(LW_EXCLUSIVE);
		if (mark->database == MyDatabaseId)
		{
			claimable = mark->announce ||
				(mark->starved && (all || mark->starved_until <= now));
			mark->announce = false;
			if (claimable && mark->starved)
			{
				mark->starved = false;
				move_back(mark, mark->starved_at);
			}
			else if (mark->starved)
				next = Min(next, mark->starved_until);
			if (mark->ended >= many)
			{
				ended = mark->ended;
				mark->ended = 0;
			}
			strlcpy(job_name, mark->job_name, sizeof(job_name));
		}
		janitor_unlock();
		if (claimable || ended > 0)
			each(job_name, claimable, ended, arg);
	}
	return next;
}
