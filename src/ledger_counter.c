/*-------------------------------------------------------------------------
 *
 * ledger_counter.c
 *	  job_counter: how often each job has ended how; for job_metrics.
 *
 * Whatever gives a row of job_execution its end counts it here in the same
 * transaction, so that the counters say what the rows said, whatever becomes
 * of the rows: pruning takes them, the counters stay.
 *
 * A row belongs to one process, by its place among all processes: nobody
 * waits for the counters of another one, however long that one's transaction
 * stays open.  (But for a prepared transaction, which leaves its process and
 * its place to others.)  What is asked for is their sum.
 *
 * See ledger.c for how rows are found, locked and written.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/rel.h"

/*
 * The version that was written last: one transaction may end many runs of a
 * job (job_cancel of a long queue), and none of the versions that it leaves
 * behind can be pruned meanwhile.  To go through all of them for each new one
 * would take the square of their number.
 */
static struct
{
	TransactionId top;			/* written by this one */
	Oid			relid;
	TransactionId xmin;
	ItemPointerData tid;
}			last;

static AttrNumber
column_of(JanitorStatus status)
{
	switch (status)
	{
		case JANITOR_SUCCEEDED:
			return Anum_counter_succeeded;
		case JANITOR_FAILED:
			return Anum_counter_failed;
		case JANITOR_TIMED_OUT:
			return Anum_counter_timed_out;
		case JANITOR_CANCELLED:
			return Anum_counter_cancelled;
		case JANITOR_INTERRUPTED:
			return Anum_counter_interrupted;
		case JANITOR_SKIPPED:
			return Anum_counter_skipped;
		case JANITOR_RUNNING:
			break;
	}
	elog(ERROR, "a run in progress is not counted");
	return InvalidAttrNumber;
}

static void
add(JanitorRow *row, AttrNumber column, int64 value)
{
	if (value != 0)
		janitor_row_set(row, column,
						Int64GetDatum(janitor_row_int8(row, column, 0) +
									  value));
}

static void
add_ended(JanitorRow *row, const JanitorEnded *ended)
{
	add(row, column_of(ended->status), ended->count);
	add(row, Anum_counter_retries, ended->is_retry ? 1 : 0);
	add(row, Anum_counter_records_processed, ended->records);
	add(row, Anum_counter_failed_records, ended->failed_records);
	add(row, Anum_counter_run_usecs, ended->run_usecs);
}

/* All 0. */
static void
new_row(JanitorRow *row, const char *job_name, int writer)
{
	janitor_row_clear(row);
	janitor_row_set_text(row, Anum_counter_job_name, job_name);
	janitor_row_set(row, Anum_counter_writer, Int32GetDatum(writer));
	for (int i = Anum_counter_succeeded; i <= Natts_counter; i++)
		janitor_row_set(row, i, Int64GetDatum(0));
}

static bool
is_of(JanitorTable *table, HeapTuple tuple, const char *job_name, int writer)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	return janitor_row_int4(&row, Anum_counter_writer) == writer &&
		strcmp(janitor_row_text(&row, Anum_counter_job_name), job_name) == 0;
}

/* NULL: it is another job's, or gone with the subtransaction. */
static HeapTuple
find_last(JanitorTable *table, const char *job_name, int writer)
{
	HeapTuple	locked;

	if (!TransactionIdIsValid(last.top) ||
		last.top != GetTopTransactionIdIfAny() ||
		last.relid != RelationGetRelid(table->rel))
		return NULL;
	if (janitor_row_lock(table, &last.tid, last.xmin, 0, LockWaitBlock,
						 &locked) != JANITOR_LOCKED)
		return NULL;
	return is_of(table, locked, job_name, writer) ? locked : NULL;
}

static void
note_last(JanitorTable *table, HeapTuple tuple)
{
	last.top = GetTopTransactionId();
	last.relid = RelationGetRelid(table->rel);
	last.xmin = GetCurrentTransactionId();
	last.tid = tuple->t_self;
}

/*
 * The newest version, free to be written; NULL: there is none.  Nobody else
 * writes it, so it need not be locked, unless somebody has locked it by hand.
 */
static HeapTuple
find_own(JanitorTable *table, const char *job_name, int writer)
{
	for (;;)
	{
		ScanKeyData keys[2];
		HeapTuple	tuple;
		HeapTuple	locked;

		janitor_key_text(&keys[0], Anum_counter_job_name, job_name);
		janitor_key_int4(&keys[1], Anum_counter_writer, writer);
		tuple = janitor_row_find(table, JANITOR_COUNTER_PKEY, 2, keys);
		if (tuple == NULL ||
			(tuple->t_data->t_infomask & HEAP_XMAX_INVALID) != 0)
			return tuple;
		if (janitor_row_lock(table, &tuple->t_self,
							 HeapTupleHeaderGetRawXmin(tuple->t_data), 0,
							 LockWaitBlock, &locked) == JANITOR_LOCKED)
			return locked;
		CHECK_FOR_INTERRUPTS();
	}
}

void
janitor_counter_add(const char *job_name, const JanitorEnded *ended)
{
	JanitorTable table = janitor_table_open(JANITOR_COUNTER,
											RowExclusiveLock);
	int			writer = janitor_my_proc_number();
	HeapTuple	old = find_last(&table, job_name, writer);
	JanitorRow	row;

	if (old == NULL)
		old = find_own(&table, job_name, writer);
	if (old == NULL)
		new_row(&row, job_name, writer);
	else
		janitor_row_load(&row, &table, old);
	add_ended(&row, ended);
	note_last(&table, old == NULL ? janitor_row_insert(&table, &row) :
			  janitor_row_update(&table, old, &row));
	if (old != NULL)
		heap_freetuple(old);
	janitor_table_close(&table);
}
