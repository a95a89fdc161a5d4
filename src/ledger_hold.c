/*-------------------------------------------------------------------------
 *
 * ledger_hold.c
 *	  job_hold: legal holds.
 *
 * Holds are placed and released by SQL functions, which hold the lock of the
 * relation exclusively (hold.c), and read by every batch of every rule, under
 * the same lock: whoever reads sees all that has been committed, and nothing
 * is committed while it matters.
 *
 * See ledger.c for how rows are found, locked and written.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/htup_details.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Everything is copied into the current context. */
static void
hold_from_tuple(JanitorTable *table, HeapTuple tuple, JanitorHold *hold)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	hold->id = janitor_row_int8(&row, Anum_hold_id, 0);
	hold->relation = janitor_row_text(&row, Anum_hold_relation);
	hold->relation_oid =
		janitor_row_int8(&row, Anum_hold_home, 0) != janitor_home() ?
		InvalidOid :
		DatumGetObjectId(row.values[Anum_hold_relation_oid - 1]);
	hold->relation_owner = janitor_row_text(&row, Anum_hold_relation_owner);
	hold->predicate = janitor_row_text(&row, Anum_hold_predicate);
	hold->reason = janitor_row_text(&row, Anum_hold_reason);
	hold->until = row.nulls[Anum_hold_until - 1] ? DT_NOEND :
		janitor_row_time(&row, Anum_hold_until);
	hold->placed_by = janitor_row_text(&row, Anum_hold_placed_by);
	hold->placed_at = janitor_row_time(&row, Anum_hold_placed_at);
	hold->released_by = janitor_row_text(&row, Anum_hold_released_by);
	hold->released_at = janitor_row_time(&row, Anum_hold_released_at);
}

static HeapTuple
find_by_id(JanitorTable *table, int64 id)
{
	ScanKeyData key;

	janitor_key_int8(&key, Anum_hold_id, id);
	return janitor_row_find(table, JANITOR_HOLD_PKEY, 1, &key);
}

int64
janitor_hold_insert(JanitorHold *hold)
{
	JanitorTable table = janitor_table_open(JANITOR_HOLD, RowExclusiveLock);
	JanitorRow	row;

	hold->id = janitor_next_id(JANITOR_HOLD_SEQUENCE);
	hold->placed_at = GetCurrentTimestamp();
	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_hold_id, Int64GetDatum(hold->id));
	janitor_row_set_text(&row, Anum_hold_relation, hold->relation);
	janitor_row_set(&row, Anum_hold_relation_oid,
					ObjectIdGetDatum(hold->relation_oid));
	janitor_row_set_text(&row, Anum_hold_relation_owner,
						 hold->relation_owner);
	janitor_row_set_text(&row, Anum_hold_predicate, hold->predicate);
	janitor_row_set_text(&row, Anum_hold_reason, hold->reason);
	if (!TIMESTAMP_IS_NOEND(hold->until))
		janitor_row_set_time(&row, Anum_hold_until, hold->until);
	janitor_row_set_text(&row, Anum_hold_placed_by, hold->placed_by);
	janitor_row_set_time(&row, Anum_hold_placed_at, hold->placed_at);
	janitor_row_set(&row, Anum_hold_home, Int64GetDatum(janitor_home()));
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
	return hold->id;
}

bool
janitor_hold_find(int64 id, JanitorHold *hold)
{
	JanitorTable table = janitor_table_open(JANITOR_HOLD, AccessShareLock);
	HeapTuple	tuple = find_by_id(&table, id);

	if (tuple != NULL)
		hold_from_tuple(&table, tuple, hold);
	janitor_table_close(&table);
	return tuple != NULL;
}

/* Writes the end of a hold that the caller has locked. */
static void
write_release(JanitorTable *table, HeapTuple old, JanitorHold *hold,
			  const char *released_by)
{
	JanitorRow	row;

	hold->released_by = pstrdup(released_by);
	hold->released_at = GetCurrentTimestamp();
	janitor_row_clear(&row);
	janitor_row_set_text(&row, Anum_hold_released_by, hold->released_by);
	janitor_row_set_time(&row, Anum_hold_released_at, hold->released_at);
	(void) janitor_row_update(table, old, &row);
}

bool
janitor_hold_release(int64 id, const char *released_by, JanitorHold *hold)
{
	JanitorTable table = janitor_table_open(JANITOR_HOLD, RowExclusiveLock);
	bool		released = false;

	for (;;)
	{
		HeapTuple	tuple = find_by_id(&table, id);
		HeapTuple	locked;

		if (tuple == NULL)
			break;
		hold_from_tuple(&table, tuple, hold);
		if (hold->released_by != NULL)
			break;
		if (janitor_row_lock(&table, &tuple->t_self,
							 HeapTupleHeaderGetRawXmin(tuple->t_data), id,
							 LockWaitBlock, &locked) == JANITOR_LOCKED)
		{
			write_release(&table, locked, hold, released_by);
			released = true;
			break;
		}
		CHECK_FOR_INTERRUPTS();
	}
	janitor_table_close(&table);
	return released;
}

typedef struct HoldScan
{
	void		(*each) (JanitorHold *hold, void *arg);
	void	   *arg;
	TimestampTz now;
} HoldScan;

static bool
visit_hold(JanitorTable *table, HeapTuple tuple, void *arg)
{
	HoldScan   *scan = arg;
	JanitorHold hold;

	hold_from_tuple(table, tuple, &hold);
	if (hold.released_by == NULL && hold.until > scan->now)
		scan->each(&hold, scan->arg);
	return true;
}

void
janitor_hold_scan(void (*each) (JanitorHold *hold, void *arg), void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_HOLD, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	HoldScan	scan = {each, arg, GetCurrentTimestamp()};

	(void) janitor_table_scan(&table, JANITOR_HOLD_PKEY, snapshot,
							  ForwardScanDirection, 0, NULL,
							  visit_hold, &scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}
