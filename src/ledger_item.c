/*-------------------------------------------------------------------------
 *
 * ledger_item.c
 *	  job_item_failure: items that failed, wait for another attempt, are dead,
 *	  or are under a hold.
 *
 * A row is written by the worker that handled the item, in the transaction of
 * its group, and goes when the item is done or is no item any more.  SQL
 * functions bring dead ones back.  At most one worker has an item in hand;
 * those who change the same row wait for each other.
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

/* Everything is copied into the current context. */
static void
failure_from_tuple(JanitorTable *table, HeapTuple tuple,
				   JanitorItemFailure *failure)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	failure->job_name = janitor_row_text(&row, Anum_item_failure_job_name);
	failure->item_key = janitor_row_text(&row, Anum_item_failure_item_key);
	failure->attempts = janitor_row_int4(&row, Anum_item_failure_attempts);
	failure->sqlstate = janitor_row_text(&row, Anum_item_failure_sqlstate);
	failure->error_message =
		janitor_row_text(&row, Anum_item_failure_error_message);
	failure->next_attempt_at =
		janitor_row_time(&row, Anum_item_failure_next_attempt_at);
	failure->dead =
		DatumGetBool(row.values[Anum_item_failure_dead - 1]);
	failure->held =
		DatumGetBool(row.values[Anum_item_failure_held - 1]);
	failure->due = janitor_row_time(&row, Anum_item_failure_due);
	failure->execution_id =
		janitor_row_int8(&row, Anum_item_failure_execution_id, 0);
	failure->first_at = janitor_row_time(&row, Anum_item_failure_first_at);
	failure->last_at = janitor_row_time(&row, Anum_item_failure_last_at);
}

static void
row_from_failure(const JanitorItemFailure *failure, JanitorRow *row)
{
	janitor_row_clear(row);
	janitor_row_set_text(row, Anum_item_failure_job_name, failure->job_name);
	janitor_row_set_text(row, Anum_item_failure_item_key, failure->item_key);
	janitor_row_set(row, Anum_item_failure_attempts,
					Int32GetDatum(failure->attempts));
	janitor_row_set_text(row, Anum_item_failure_sqlstate, failure->sqlstate);
	janitor_row_set_text(row, Anum_item_failure_error_message,
						 failure->error_message);
	janitor_row_set_time(row, Anum_item_failure_next_attempt_at,
						 failure->next_attempt_at);
	janitor_row_set(row, Anum_item_failure_dead, BoolGetDatum(failure->dead));
	janitor_row_set(row, Anum_item_failure_held, BoolGetDatum(failure->held));
	janitor_row_set_time(row, Anum_item_failure_due, failure->due);
	janitor_row_set_int8(row, Anum_item_failure_execution_id,
						 failure->execution_id, 0);
	janitor_row_set_time(row, Anum_item_failure_first_at, failure->first_at);
	janitor_row_set_time(row, Anum_item_failure_last_at, failure->last_at);
}

static HeapTuple
find_by_key(JanitorTable *table, const char *job_name, const char *item_key)
{
	ScanKeyData keys[2];

	janitor_key_text(&keys[0], Anum_item_failure_job_name, job_name);
	janitor_key_text(&keys[1], Anum_item_failure_item_key, item_key);
	return janitor_row_find(table, JANITOR_ITEM_FAILURE_PKEY, 2, keys);
}

/* The newest version, locked; NULL: it is gone. */
static HeapTuple
lock_by_key(JanitorTable *table, const char *job_name, const char *item_key)
{
	for (;;)
	{
		HeapTuple	tuple = find_by_key(table, job_name, item_key);
		HeapTuple	locked;

		if (tuple == NULL)
			return NULL;
		if (janitor_row_lock(table, &tuple->t_self,
							 HeapTupleHeaderGetRawXmin(tuple->t_data), 0,
							 LockWaitBlock, &locked) == JANITOR_LOCKED)
			return locked;
		CHECK_FOR_INTERRUPTS();
	}
}

bool
janitor_item_failure_find(const char *job_name, const char *item_key,
						  JanitorItemFailure *failure)
{
	JanitorTable table = janitor_table_open(JANITOR_ITEM_FAILURE,
											AccessShareLock);
	HeapTuple	tuple = find_by_key(&table, job_name, item_key);

	if (tuple != NULL)
		failure_from_tuple(&table, tuple, failure);
	janitor_table_close(&table);
	return tuple != NULL;
}

void
janitor_item_failure_put(const JanitorItemFailure *failure)
{
	JanitorTable table = janitor_table_open(JANITOR_ITEM_FAILURE,
											RowExclusiveLock);
	HeapTuple	old = lock_by_key(&table, failure->job_name,
								  failure->item_key);
	JanitorRow	row;

	row_from_failure(failure, &row);
	if (old == NULL)
		(void) janitor_row_insert(&table, &row);
	else
		(void) janitor_row_update(&table, old, &row);
	janitor_table_close(&table);
}

bool
janitor_item_failure_delete(const char *job_name, const char *item_key)
{
	JanitorTable table = janitor_table_open(JANITOR_ITEM_FAILURE,
											RowExclusiveLock);
	HeapTuple	old = lock_by_key(&table, job_name, item_key);

	if (old != NULL)
		janitor_row_delete(&table, &old->t_self);
	janitor_table_close(&table);
	return old != NULL;
}

typedef struct FailureScan
{
	void		(*each) (JanitorItemFailure *failure, void *arg);
	void	   *arg;
} FailureScan;

static bool
visit_failure(JanitorTable *table, HeapTuple tuple, void *arg)
{
	FailureScan *scan = arg;
	JanitorItemFailure failure;

	failure_from_tuple(table, tuple, &failure);
	scan->each(&failure, scan->arg);
	return true;
}

void
janitor_item_failure_scan(const char *job_name,
						  void (*each) (JanitorItemFailure *failure,
										void *arg),
						  void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_ITEM_FAILURE,
											AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	FailureScan scan = {each, arg};
	ScanKeyData key;

	janitor_key_text(&key, Anum_item_failure_job_name, job_name);
	(void) janitor_table_scan(&table, JANITOR_ITEM_FAILURE_PKEY, snapshot,
							  ForwardScanDirection, 1, &key,
							  visit_failure, &scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}

typedef struct Count
{
	int64		execution_id;
	int64		failed;
} Count;

static void
count_failure(JanitorItemFailure *failure, void *arg)
{
	Count	   *count = arg;

	if (failure->execution_id == count->execution_id && !failure->held)
		count->failed++;
}

int64
janitor_item_failures_of(const char *job_name, int64 execution_id)
{
	Count		count = {execution_id, 0};

	janitor_item_failure_scan(job_name, count_failure, &count);
	return count.failed;
}
