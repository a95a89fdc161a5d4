/*-------------------------------------------------------------------------
 *
 * replicas.c
 *	  How far behind standbys, replication slots and the archiver are.
 *
 * Only roles with pg_read_all_stats may see this, and workers are connected as
 * any role.  So the scheduler looks, once a second and only while a run in its
 * database asks for it, straight into the server's shared memory, and
 * publishes no more than three numbers, for the whole cluster.  Where several
 * schedulers are asked, whoever comes first in a second does it for all.
 *
 * Lag of a standby: what pg_stat_replication calls replay_lag, as of the last
 * message from it.  The server measures that from when it began to send, and
 * not at all before the first measurement; so a standby that comes back an
 * hour behind has none.  Therefore the scheduler notes, with each sample, how
 * far the log reached at that time: a standby that has not replayed what was
 * written REPORT_INTERVAL ago (when idle, it says no more often how far it is)
 * is behind by the age of that.  Whoever has replayed everything is not
 * behind, and neither are receivers that replay nothing (pg_receivewal,
 * backups).  Logical subscribers count like standbys.
 *
 * Slots: one that holds back more than max_wal_size, or than
 * max_slot_wal_keep_size allows (wal_status `extended` or `unreserved`).
 * Archiver: its last attempt failed.
 *
 * The lock protects what is published and the notes; the server's own
 * structures are read by their own rules.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "shmem_internal.h"

#include "access/xlog.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "utils/timestamp.h"

#define SAMPLE_INTERVAL (1 * USECS_PER_SEC)

/* The default of wal_receiver_status_interval. */
#define REPORT_INTERVAL (10 * USECS_PER_SEC)

/* --- by a worker --- */

void
janitor_replicas_ask(bool asks)
{
	JanitorSlot *mine = janitor_my_slot();

	janitor_lock(LW_EXCLUSIVE);
	mine->asks_replicas = asks;
	if (asks)
		janitor_wake_my_scheduler();
	janitor_unlock();
}

void
janitor_replicas_get(JanitorReplicas *replicas)
{
	janitor_lock(LW_EXCLUSIVE);
	*replicas = janitor_shared->replicas;
	janitor_my_slot()->awaits_replicas = true;
	janitor_unlock();
}

/* --- how far the log reached when; the lock is held --- */

/* When there is no place left, every other note goes. */
static void
note_log(TimestampTz now, XLogRecPtr flushed)
{
	JanitorLogNote *notes = janitor_shared->log_notes;
	int			count = janitor_shared->log_note_count;

	if (count > 0 && notes[count - 1].flushed >= flushed)
		return;
	if (count == JANITOR_LOG_NOTES)
	{
		count /= 2;
		for (int i = 0; i < count; i++)
			notes[i] = notes[2 * i + 1];
	}
	notes[count].at = now;
	notes[count].flushed = flushed;
	janitor_shared->log_note_count = count + 1;
}

/* Age of the oldest noted part of the log that is after this position. */
static int64
age_of_rest(XLogRecPtr replayed, TimestampTz now)
{
	for (int i = 0; i < janitor_shared->log_note_count; i++)
	{
		const JanitorLogNote *note = &janitor_shared->log_notes[i];

		if (note->flushed > replayed)
			return now - note->at;
	}
	return 0;
}

/* --- what the server knows --- */

/* Of one standby: how far it is, and its lag as the server has it. */
static bool
read_standby(WalSnd *sender, XLogRecPtr *replayed, int64 *lag)
{
	bool		counts;

	SpinLockAcquire(&sender->mutex);
	counts = sender->pid != 0 &&
		(sender->state == WALSNDSTATE_CATCHUP ||
		 sender->state == WALSNDSTATE_STREAMING) &&
		!XLogRecPtrIsInvalid(sender->apply);
	*replayed = sender->apply;
	*lag = sender->applyLag;
	SpinLockRelease(&sender->mutex);
	return counts;
}

/* The lock is held. */
static int64
slowest_standby(TimestampTz now, XLogRecPtr flushed)
{
	int64		slowest = -1;

	for (int i = 0; i < max_wal_senders; i++)
	{
		XLogRecPtr	replayed;
		int64		lag;
		int64		age;

		if (!read_standby(&WalSndCtl->walsnds[i], &replayed, &lag) ||
			replayed >= flushed)
			continue;
		age = age_of_rest(replayed, now);
		slowest = Max(slowest, lag);
		if (age > REPORT_INTERVAL)
			slowest = Max(slowest, age);
	}
	return slowest;
}

static int64
laziest_slot(XLogRecPtr flushed)
{
	int64		most = 0;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		XLogRecPtr	from = InvalidXLogRecPtr;
		WALAvailability availability;

		if (!slot->in_use)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (janitor_slot_is_valid(slot))
			from = slot->data.restart_lsn;
		SpinLockRelease(&slot->mutex);

		availability = GetWALAvailability(from);
		if (availability == WALAVAIL_EXTENDED ||
			availability == WALAVAIL_UNRESERVED)
			most = Max(most, (int64) (flushed - from));
	}
	LWLockRelease(ReplicationSlotControlLock);
	return most;
}

/* Statistics are cached until the end of a transaction, and there is none. */
static bool
archiver_fails(void)
{
	PgStat_ArchiverStats *stats;

	if (!XLogArchivingActive())
		return false;
	pgstat_clear_snapshot();
	stats = pgstat_fetch_stat_archiver();
	return stats->last_failed_timestamp > stats->last_archived_timestamp;
}

/* --- by the scheduler --- */

TimestampTz
janitor_replicas_due(void)
{
	TimestampTz due = DT_NOEND;

	janitor_lock(LW_SHARED);
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		const JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->state == JANITOR_SLOT_RUNNING && slot->asks_replicas &&
			slot->database == MyDatabaseId)
			due = janitor_shared->replicas.sampled_at + SAMPLE_INTERVAL;
	}
	janitor_unlock();

	/* the clock may have been set back */
	return due == DT_NOEND ? due :
		Min(due, GetCurrentTimestamp() + SAMPLE_INTERVAL);
}

void
janitor_replicas_sample(void)
{
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	JanitorReplicas replicas;

	replicas.sampled_at = now;
	replicas.slot_bytes = laziest_slot(flushed);
	replicas.archiver_failing = archiver_fails();

	janitor_lock(LW_EXCLUSIVE);
	note_log(now, flushed);
	replicas.lag = slowest_standby(now, flushed);
	janitor_shared->replicas = replicas;
	for (int i = 0; i < janitor_shared->slot_count; i++)
	{
		JanitorSlot *slot = &janitor_shared->slots[i];

		if (slot->awaits_replicas)
			janitor_wake_process(&slot->worker);
		slot->awaits_replicas = false;
	}
	janitor_unlock();
}
