/*-------------------------------------------------------------------------
 *
 * ledger_receipt.c
 *	  job_receipt: proofs of erasures; job_replay: which of them are newer
 *	  than the data.
 *
 * Receipts are only ever inserted: by the worker that has erased the subjects,
 * in the transaction of their group, or by job_receipt_import().  receipt.c
 * knows what is in them, and sees to it that those of one job come one after
 * the other.
 *
 * See ledger.c for how rows are found, locked and written.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

StaticAssertDecl(JANITOR_KEY_ID_LENGTH == UUID_LEN, "ids of keys are uuids");

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */

/* The columns have no constraint on their length; somebody may edit them. */
static void
read_digest(const JanitorRow *row, AttrNumber column, uint8 *digest)
{
	bytea	   *value = DatumGetByteaPP(row->values[column - 1]);
	Size		length = Min(VARSIZE_ANY_EXHDR(value), JANITOR_DIGEST_LENGTH);

	memset(digest, 0, JANITOR_DIGEST_LENGTH);
	memcpy(digest, VARDATA_ANY(value), length);
}

static Datum
digest_datum(const uint8 *digest)
{
	bytea	   *value = palloc(VARHDRSZ + JANITOR_DIGEST_LENGTH);

	SET_VARSIZE(value, VARHDRSZ + JANITOR_DIGEST_LENGTH);
	memcpy(VARDATA(value), digest, JANITOR_DIGEST_LENGTH);
	return PointerGetDatum(value);
}

/* Everything is copied into the current context. */
static void
receipt_from_tuple(JanitorTable *table, HeapTuple tuple,
				   JanitorReceipt *receipt)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	receipt->job_name = janitor_row_text(&row, Anum_receipt_job_name);
	receipt->number = janitor_row_int8(&row, Anum_receipt_number, 0);
	receipt->execution_id =
		janitor_row_int8(&row, Anum_receipt_execution_id, 0);
	receipt->erased_at = janitor_row_time(&row, Anum_receipt_erased_at);
	read_digest(&row, Anum_receipt_subject, receipt->subject);
	memcpy(receipt->key_id,
		   DatumGetUUIDP(row.values[Anum_receipt_key_id - 1]), UUID_LEN);
	receipt->rows = janitor_row_jsonb(&row, Anum_receipt_rows);
	receipt->verified = DatumGetBool(row.values[Anum_receipt_verified - 1]);
	receipt->policy_version =
		janitor_row_int4(&row, Anum_receipt_policy_version);
	read_digest(&row, Anum_receipt_previous, receipt->previous);
	read_digest(&row, Anum_receipt_hash, receipt->hash);
}

static void
row_from_receipt(const JanitorReceipt *receipt, JanitorRow *row)
{
	janitor_row_clear(row);
	janitor_row_set_text(row, Anum_receipt_job_name, receipt->job_name);
	janitor_row_set(row, Anum_receipt_number, Int64GetDatum(receipt->number));
	janitor_row_set(row, Anum_receipt_execution_id,
					Int64GetDatum(receipt->execution_id));
	janitor_row_set(row, Anum_receipt_erased_at,
					TimestampTzGetDatum(receipt->erased_at));
	janitor_row_set(row, Anum_receipt_subject, digest_datum(receipt->subject));
	janitor_row_set(row, Anum_receipt_key_id,
					UUIDPGetDatum((const pg_uuid_t *) receipt->key_id));
	janitor_row_set_jsonb(row, Anum_receipt_rows, receipt->rows);
	janitor_row_set(row, Anum_receipt_verified,
					BoolGetDatum(receipt->verified));
	janitor_row_set(row, Anum_receipt_policy_version,
					Int32GetDatum(receipt->policy_version));
	janitor_row_set(row, Anum_receipt_previous,
					digest_datum(receipt->previous));
	janitor_row_set(row, Anum_receipt_hash, digest_datum(receipt->hash));
}

HeapTuple
janitor_receipt_tuple(const JanitorReceipt *receipt, TupleDesc desc)
{
	JanitorRow	row;

	row_from_receipt(receipt, &row);
	return heap_form_tuple(desc, row.values, row.nulls);
}

/* ------------------------------------------------------------------------
 * Receipts
 * ------------------------------------------------------------------------
 */

static bool
take_last(JanitorTable *table, HeapTuple tuple, void *arg)
{
	receipt_from_tuple(table, tuple, arg);
	return false;
}

bool
janitor_receipt_last(const char *job_name, JanitorReceipt *receipt)
{
	JanitorTable table = janitor_table_open(JANITOR_RECEIPT, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	bool		none;

	janitor_key_text(&key, Anum_receipt_job_name, job_name);
	none = janitor_table_scan(&table, JANITOR_RECEIPT_PKEY, snapshot,
							  BackwardScanDirection, 1, &key,
							  take_last, receipt);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
	return !none;
}

void
janitor_receipts_insert(const JanitorReceipt *receipts, int count)
{
	JanitorTable table = janitor_table_open(JANITOR_RECEIPT, RowExclusiveLock);
	HeapTuple  *tuples = palloc(count * sizeof(HeapTuple));

	for (int i = 0; i < count; i++)
		tuples[i] = janitor_receipt_tuple(&receipts[i],
										  RelationGetDescr(table.rel));
	janitor_tuples_insert(&table, tuples, count);
	janitor_table_close(&table);
}

typedef struct ReceiptScan
{
	bool		(*each) (const JanitorReceipt *receipt, void *arg);
	void	   *arg;
	MemoryContext context;		/* of one receipt */
} ReceiptScan;

/* In the context of one receipt. */
static bool
visit_receipt(JanitorTable *table, HeapTuple tuple, void *arg)
{
	ReceiptScan *scan = arg;
	MemoryContext caller = MemoryContextSwitchTo(scan->context);
	JanitorReceipt receipt;
	bool		goes_on;

	receipt_from_tuple(table, tuple, &receipt);
	goes_on = scan->each(&receipt, scan->arg);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(scan->context);
	return goes_on;
}

void
janitor_receipt_scan(const char *job_name, int64 from,
					 bool (*each) (const JanitorReceipt *receipt, void *arg),
					 void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_RECEIPT, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ReceiptScan scan = {each, arg};
	ScanKeyData keys[2];

	scan.context = AllocSetContextCreate(CurrentMemoryContext,
										 "pg_janitor receipt",
										 ALLOCSET_SMALL_SIZES);
	janitor_key_text(&keys[0], Anum_receipt_job_name, job_name);
	ScanKeyInit(&keys[1], Anum_receipt_number, BTGreaterEqualStrategyNumber,
				F_INT8GE, Int64GetDatum(from));
	(void) janitor_table_scan(&table, JANITOR_RECEIPT_PKEY, snapshot,
							  ForwardScanDirection, 2, keys,
							  visit_receipt, &scan);
	MemoryContextDelete(scan.context);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}

static bool
take_name(JanitorTable *table, HeapTuple tuple, void *arg)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	*(char **) arg = janitor_row_text(&row, Anum_receipt_job_name);
	return false;
}

/* From one name to the next, by the index. */
List *
janitor_receipt_jobs(void)
{
	JanitorTable table = janitor_table_open(JANITOR_RECEIPT, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	List	   *names = NIL;
	char	   *name = "";
	ScanKeyData key;

	for (;;)
	{
		ScanKeyInit(&key, Anum_receipt_job_name, BTGreaterStrategyNumber,
					F_TEXT_GT, CStringGetTextDatum(name));
		if (janitor_table_scan(&table, JANITOR_RECEIPT_PKEY, snapshot,
							   ForwardScanDirection, 1, &key, take_name,
							   &name))
			break;
		names = lappend(names, name);
	}
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
	return names;
}

/* ------------------------------------------------------------------------
 * Replays
 * ------------------------------------------------------------------------
 */

void
janitor_replay_insert(const char *job_name, int64 first, int64 last,
					  const char *requested_by)
{
	JanitorTable table = janitor_table_open(JANITOR_REPLAY, RowExclusiveLock);
	JanitorRow	row;

	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_replay_id,
					Int64GetDatum(janitor_next_id(JANITOR_REPLAY_SEQUENCE)));
	janitor_row_set_text(&row, Anum_replay_job_name, job_name);
	janitor_row_set(&row, Anum_replay_first, Int64GetDatum(first));
	janitor_row_set(&row, Anum_replay_last, Int64GetDatum(last));
	janitor_row_set_text(&row, Anum_replay_requested_by, requested_by);
	janitor_row_set_time(&row, Anum_replay_requested_at,
						 GetCurrentTimestamp());
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

typedef struct PendingReplays
{
	const char *job_name;		/* NULL: of all jobs */
	List	   *replays;
} PendingReplays;

static bool
collect_pending(JanitorTable *table, HeapTuple tuple, void *arg)
{
	PendingReplays *pending = arg;
	JanitorRow	row;
	JanitorReplay *replay;
	char	   *job_name;

	janitor_row_load(&row, table, tuple);
	job_name = janitor_row_text(&row, Anum_replay_job_name);
	if (!row.nulls[Anum_replay_replayed_at - 1] ||
		(pending->job_name != NULL && strcmp(job_name, pending->job_name) != 0))
		return true;
	replay = palloc(sizeof(JanitorReplay));
	replay->id = janitor_row_int8(&row, Anum_replay_id, 0);
	replay->job_name = job_name;
	replay->first = janitor_row_int8(&row, Anum_replay_first, 0);
	replay->last = janitor_row_int8(&row, Anum_replay_last, 0);
	pending->replays = lappend(pending->replays, replay);
	return true;
}

List *
janitor_replays_pending(const char *job_name)
{
	JanitorTable table = janitor_table_open(JANITOR_REPLAY, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PendingReplays pending = {job_name, NIL};

	(void) janitor_table_scan(&table, JANITOR_REPLAY_PKEY, snapshot,
							  ForwardScanDirection, 0, NULL,
							  collect_pending, &pending);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
	return pending.replays;
}

void
janitor_replay_finish(int64 id, int64 execution_id)
{
	JanitorTable table = janitor_table_open(JANITOR_REPLAY, RowExclusiveLock);
	ScanKeyData key;
	HeapTuple	old;
	JanitorRow	row;

	janitor_key_int8(&key, Anum_replay_id, id);
	old = janitor_row_find(&table, JANITOR_REPLAY_PKEY, 1, &key);
	if (old != NULL &&
		janitor_row_lock(&table, &old->t_self,
						 HeapTupleHeaderGetRawXmin(old->t_data), id,
						 LockWaitBlock, NULL) == JANITOR_LOCKED)
	{
		janitor_row_clear(&row);
		janitor_row_set(&row, Anum_replay_execution_id,
						Int64GetDatum(execution_id));
		janitor_row_set_time(&row, Anum_replay_replayed_at,
							 GetCurrentTimestamp());
		(void) janitor_row_update(&table, old, &row);
	}
	janitor_table_close(&table);
}
