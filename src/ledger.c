/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  Our tables by heap access: opening them, finding, locking and writing
 *	  rows.
 *
 * The tables are the state of pg_janitor, and every row of them is read and
 * written through this file: by the other ledger_*.c, one for each table or
 * two, which know the columns.  ledger_catalog.c knows where the tables are.
 * Three kinds of processes do so: a backend that runs one of our SQL functions, the
 * scheduler, and a worker, which records a run in the very transaction that
 * did the work.
 *
 * Why heap access and not SQL.  What a job leaves in its transaction must not
 * reach the record of it: read-only mode, isolation level, search_path,
 * session_replication_role, a temporary schema, row security, a role without
 * rights on our tables, plan cache, statement hooks of other libraries.  None
 * of them exists at this level, so nobody has to be switched to, nothing has
 * to be set and reset, and a record costs microseconds.  The current user does
 * not matter and NO PRIVILEGE IS CHECKED HERE: callers have done that.  Nor
 * do we look at recovery or parallel mode: callers have refused both.
 *
 * What it forbids.  Nothing here evaluates an expression: the tables must
 * have no triggers, no partial or expression indexes, no exclusion or
 * deferrable constraints, no row security that matters, no columns but those
 * in ledger_columns.h; CHECK constraints and defaults are not evaluated, and
 * the one generated column (job_execution.duration) is computed by us.  A table
 * that somebody has altered is refused with an error before anything is
 * written.
 *
 * Which version of a row is meant.  Always the newest committed one, or our
 * own, whatever the isolation level and the age of the transaction's
 * snapshot: rows are looked up with SnapshotSelf.  A row that is replaced
 * while we look for it can be missed so (its new version may precede its old
 * one in the index), hence a miss counts only once a fresh MVCC snapshot has
 * confirmed it.  Scans over many rows use a proper MVCC snapshot.
 *
 * How a row is written.  simple_heap_update() and simple_heap_delete() raise
 * an error when they meet a concurrent writer, so each row is locked first,
 * waiting or not as the caller chooses.  A row is named by its tid, which is
 * worth nothing once the row has been vacuumed away: under a pin, which keeps
 * the line pointer from being reused, we make sure that the version there is
 * live and has the xmin and the id that were read.  Row locks of ours last
 * until the end of the transaction; so do RowExclusiveLocks on the tables.
 * Each write is followed by CommandCounterIncrement(), so that the next one
 * in the same transaction sees it; the active snapshot does not.
 *
 * Waits end by lock_timeout, a deadlock or a cancel, as an ERROR.  On ERROR
 * and FATAL nothing is left to do: relations, pins, locks and snapshots
 * belong to the transaction and go with it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_am.h"
#include "commands/sequence.h"
#include "common/int.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

StaticAssertDecl(Natts_definition <= JANITOR_MAX_COLUMNS &&
				 Natts_queue <= JANITOR_MAX_COLUMNS &&
				 Natts_execution <= JANITOR_MAX_COLUMNS &&
				 Natts_circuit <= JANITOR_MAX_COLUMNS &&
				 Natts_change <= JANITOR_MAX_COLUMNS &&
				 Natts_rule <= JANITOR_MAX_COLUMNS,
				 "JANITOR_MAX_COLUMNS is too small");

/* ------------------------------------------------------------------------
 * Tables
 * ------------------------------------------------------------------------
 */

/* Is this the table that ledger_columns.h describes? */
static void
check_table(Relation rel, JanitorRelation which)
{
	if (RelationGetNumberOfAttributes(rel) != janitor_table_columns(which) ||
		rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has been altered",
						RelationGetRelationName(rel)),
				 errdetail("Tables of extension \"%s\" must use access method \"heap\" and have no columns added or dropped.",
						   JANITOR_EXTENSION_NAME)));
}

/*
 * Opens one of our tables.  The extension can be dropped and created again
 * between the look-up and the lock: once locked, look again.
 */
static Relation
open_relation(JanitorRelation which, LOCKMODE mode)
{
	for (;;)
	{
		Oid			oid = janitor_relation(which);
		Relation	rel = try_table_open(oid, mode);

		if (rel != NULL && janitor_relation(which) == oid)
			return rel;
		if (rel != NULL)
			table_close(rel, mode);
		janitor_forget_catalog();
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Opens a table: AccessShareLock to read, RowExclusiveLock to write.  Sees to
 * it that there is an active snapshot, which toasted values need, both to be
 * read and to be replaced.
 */
JanitorTable
janitor_table_open(JanitorRelation which, LOCKMODE mode)
{
	JanitorTable table;

	table.mode = mode;
	table.rel = open_relation(which, mode);
	check_table(table.rel, which);
	table.pushed_snapshot = !ActiveSnapshotSet();
	if (table.pushed_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	return table;
}

/* Closes it; the lock of a writer stays until the end of the transaction. */
void
janitor_table_close(JanitorTable *table)
{
	if (table->pushed_snapshot)
		PopActiveSnapshot();
	table_close(table->rel,
				table->mode == AccessShareLock ? AccessShareLock : NoLock);
}

/*
 * The next value of one of our sequences.  nextval refuses read-only
 * transactions, but a job that made its own read-only is recorded in it all
 * the same.  On ERROR the setting goes back with the (sub)transaction.
 */
int64
janitor_next_id(JanitorRelation sequence)
{
	Oid			oid = janitor_relation(sequence);
	bool		was_read_only = XactReadOnly;
	int64		id;

	XactReadOnly = false;
	id = nextval_internal(oid, false);
	XactReadOnly = was_read_only;
	return id;
}

/* ------------------------------------------------------------------------
 * Finding rows
 * ------------------------------------------------------------------------
 */

/*
 * column = value.  ScanKeyInit uses the collation "C", which is the one of
 * all our text columns that are looked up.
 */
void
janitor_key_text(ScanKey key, AttrNumber column, const char *value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(value));
}

void
janitor_key_int8(ScanKey key, AttrNumber column, int64 value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(value));
}

void
janitor_key_int4(ScanKey key, AttrNumber column, int value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(value));
}

/* The first row with the keys as the snapshot sees it: a copy, or NULL. */
static HeapTuple
find_as_of(JanitorTable *table, Oid index, Snapshot snapshot,
		   int nkeys, const ScanKeyData *keys)
{
	SysScanDesc scan;
	ScanKeyData own_keys[INDEX_MAX_KEYS];
	HeapTuple	tuple;

	/* below 18, systable_beginscan changes the keys it is given */
	memcpy(own_keys, keys, nkeys * sizeof(ScanKeyData));
	scan = systable_beginscan(table->rel, index, true, snapshot,
							  nkeys, own_keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

/*
 * The newest version, committed or ours, of the row with these unique keys: a
 * copy in the current context, or NULL.
 *
 * SnapshotSelf judges each version at another instant.  When a transaction
 * that moves the row commits between two of them, the new one may have been
 * passed by as not yet committed and the old one as deleted: a miss has to be
 * confirmed.  (Not at once with the fresh snapshot: in a serializable
 * transaction that would leave predicate locks, hence needless failures.)
 */
HeapTuple
janitor_row_find(JanitorTable *table, JanitorRelation index,
				 int nkeys, const ScanKeyData *keys)
{
	Oid			index_oid = janitor_relation(index);
	Snapshot	snapshot;
	HeapTuple	tuple;

	tuple = find_as_of(table, index_oid, SnapshotSelf, nkeys, keys);
	if (tuple == NULL)
	{
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		tuple = find_as_of(table, index_oid, snapshot, nkeys, keys);
		UnregisterSnapshot(snapshot);
	}
	return tuple;
}

/*
 * Visits rows in the order of an index; false if the visitor stopped it.
 * The keys are used up.
 */
bool
janitor_table_scan(JanitorTable *table, JanitorRelation index,
				   Snapshot snapshot, ScanDirection direction,
				   int nkeys, ScanKey keys, JanitorVisit visit, void *arg)
{
	Relation	index_rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		going_on = true;

	index_rel = index_open(janitor_relation(index), AccessShareLock);
	scan = systable_beginscan_ordered(table->rel, index_rel, snapshot,
									  nkeys, keys);
	while (going_on &&
		   (tuple = systable_getnext_ordered(scan, direction)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		going_on = visit(table, tuple, arg);
	}
	systable_endscan_ordered(scan);
	index_close(index_rel, AccessShareLock);
	return going_on;
}

/* ------------------------------------------------------------------------
 * Writing rows
 * ------------------------------------------------------------------------
 */

/*
 * Fetches the version at tid if it is live (or deleted by a transaction still
 * in progress) and is the one that was read.  The raw xmin tells: freezing
 * keeps it, and no transaction writes twice at the same place.  The id guards
 * readers that did not keep the xmin; 0 if there is none.  Pinned on success.
 */
static bool
fetch_version(JanitorTable *table, ItemPointer tid, TransactionId xmin,
			  int64 id, HeapTuple tuple, Buffer *pinned)
{
	bool		isnull;

	/* the table may have been truncated since */
	if (ItemPointerGetBlockNumber(tid) >= RelationGetNumberOfBlocks(table->rel))
		return false;
	tuple->t_self = *tid;
	if (!heap_fetch(table->rel, SnapshotSelf, tuple, pinned, false))
		return false;
	if ((!TransactionIdIsValid(xmin) ||
		 xmin == HeapTupleHeaderGetRawXmin(tuple->t_data)) &&
		(id == 0 ||
		 id == DatumGetInt64(heap_getattr(tuple, 1,
										  RelationGetDescr(table->rel),
										  &isnull))))
		return true;
	ReleaseBuffer(*pinned);
	return false;
}

/*
 * Locks the version of a row that was read at tid, until the end of the
 * transaction.  JANITOR_LOCK_HELD only with LockWaitSkip.  On success *copy,
 * unless NULL, is a copy of it.
 */
JanitorLock
janitor_row_lock(JanitorTable *table, ItemPointer tid, TransactionId xmin,
				 int64 id, LockWaitPolicy policy, HeapTuple *copy)
{
	HeapTupleData tuple;
	Buffer		pinned;
	Buffer		buffer;
	TM_FailureData failure;
	TM_Result	result;

	if (!fetch_version(table, tid, xmin, id, &tuple, &pinned))
		return JANITOR_LOCK_GONE;
	result = heap_lock_tuple(table->rel, &tuple, GetCurrentCommandId(true),
							 LockTupleExclusive, policy, false,
							 &buffer, &failure);
	if (result == TM_Ok && copy)
		*copy = heap_copytuple(&tuple);
	ReleaseBuffer(buffer);
	ReleaseBuffer(pinned);

	if (result == TM_Ok)
		return JANITOR_LOCKED;
	return result == TM_WouldBlock ? JANITOR_LOCK_HELD : JANITOR_LOCK_GONE;
}

/*
 * Deletes the version of a row that was read at tid, unless somebody's open
 * transaction has it; then *pinned says that it is only locked, so that
 * nothing need follow from the end of that transaction.
 */
JanitorLock
janitor_row_take(JanitorTable *table, ItemPointer tid, TransactionId xmin,
				 int64 id, bool *pinned)
{
	HeapTupleData tuple;
	Buffer		buffer;
	TM_FailureData failure;
	TM_Result	result;

	*pinned = false;
	if (!fetch_version(table, tid, xmin, id, &tuple, &buffer))
		return JANITOR_LOCK_GONE;
	*pinned = HEAP_XMAX_IS_LOCKED_ONLY(tuple.t_data->t_infomask);
	result = heap_delete(table->rel, tid, GetCurrentCommandId(true),
						 InvalidSnapshot, false, &failure, false);
	ReleaseBuffer(buffer);
	if (result == TM_Ok)
	{
		CommandCounterIncrement();
		return JANITOR_LOCKED;
	}
	return result == TM_BeingModified ? JANITOR_LOCK_HELD : JANITOR_LOCK_GONE;
}

/*
 * Opens the indexes of a table for writing.  CatalogTuple...() would crash on
 * an index that needs an expression evaluated, and somebody with the right to
 * do so may well have created one.
 */
static CatalogIndexState
open_indexes(Relation rel)
{
	CatalogIndexState state = CatalogOpenIndexes(rel);

	for (int i = 0; i < state->ri_NumIndices; i++)
	{
		IndexInfo  *info = state->ri_IndexRelationInfo[i];
		Relation	index = state->ri_IndexRelationDescs[i];

		if (info->ii_Expressions != NIL || info->ii_Predicate != NIL ||
			info->ii_ExclusionOps != NULL || !index->rd_index->indimmediate)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("index \"%s\" on table \"%s\" is not supported",
							RelationGetRelationName(index),
							RelationGetRelationName(rel)),
					 errdetail("Tables of extension \"%s\" cannot have partial, expression, exclusion or deferrable indexes.",
							   JANITOR_EXTENSION_NAME),
					 errhint("Drop the index.")));
	}
	return state;
}

/*
 * Inserts a row and returns it, with its tid.  Waits for a transaction in
 * progress that inserts or deletes the same unique key.
 */
HeapTuple
janitor_row_insert(JanitorTable *table, JanitorRow *row)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(table->rel),
										row->values, row->nulls);
	CatalogIndexState indexes = open_indexes(table->rel);

	CatalogTupleInsertWithInfo(table->rel, tuple, indexes);
	CatalogCloseIndexes(indexes);
	CommandCounterIncrement();
	return tuple;
}

/* Inserts many rows at once, which takes less WAL than one by one. */
void
janitor_tuples_insert(JanitorTable *table, HeapTuple *tuples, int count)
{
	CatalogIndexState indexes = open_indexes(table->rel);
	TupleTableSlot **slots = palloc(count * sizeof(TupleTableSlot *));

	for (int i = 0; i < count; i++)
	{
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(table->rel),
											&TTSOpsHeapTuple);
		ExecStoreHeapTuple(tuples[i], slots[i], false);
	}
	CatalogTuplesMultiInsertWithInfo(table->rel, slots, count, indexes);
	for (int i = 0; i < count; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	CatalogCloseIndexes(indexes);
	CommandCounterIncrement();
}

/*
 * Replaces the marked columns of a row that the caller has locked; returns
 * the new version, with its tid.
 */
HeapTuple
janitor_row_update(JanitorTable *table, HeapTuple old, JanitorRow *row)
{
	HeapTuple	tuple = heap_modify_tuple(old, RelationGetDescr(table->rel),
										  row->values, row->nulls,
										  row->replaces);
	CatalogIndexState indexes = open_indexes(table->rel);

	CatalogTupleUpdateWithInfo(table->rel, &old->t_self, tuple, indexes);
	CatalogCloseIndexes(indexes);
	CommandCounterIncrement();
	return tuple;
}

/* Deletes a row that the caller has locked. */
void
janitor_row_delete(JanitorTable *table, ItemPointer tid)
{
	CatalogTupleDelete(table->rel, tid);
	CommandCounterIncrement();
}

/* ------------------------------------------------------------------------
 * Columns
 * ------------------------------------------------------------------------
 */

/* The values point into the tuple. */
void
janitor_row_load(JanitorRow *row, JanitorTable *table, HeapTuple tuple)
{
	heap_deform_tuple(tuple, RelationGetDescr(table->rel),
					  row->values, row->nulls);
	memset(row->replaces, false, sizeof(row->replaces));
}

void
janitor_row_clear(JanitorRow *row)
{
	memset(row->values, 0, sizeof(row->values));
	memset(row->nulls, true, sizeof(row->nulls));
	memset(row->replaces, false, sizeof(row->replaces));
}

char *
janitor_row_text(const JanitorRow *row, AttrNumber column)
{
	return row->nulls[column - 1] ? NULL :
		TextDatumGetCString(row->values[column - 1]);
}

Jsonb *
janitor_row_jsonb(const JanitorRow *row, AttrNumber column)
{
	return row->nulls[column - 1] ? NULL :
		DatumGetJsonbPCopy(row->values[column - 1]);
}

int64
janitor_row_int8(const JanitorRow *row, AttrNumber column, int64 if_null)
{
	return row->nulls[column - 1] ? if_null :
		DatumGetInt64(row->values[column - 1]);
}

int
janitor_row_int4(const JanitorRow *row, AttrNumber column)
{
	return row->nulls[column - 1] ? 0 :
		DatumGetInt32(row->values[column - 1]);
}

TimestampTz
janitor_row_time(const JanitorRow *row, AttrNumber column)
{
	return row->nulls[column - 1] ? DT_NOBEGIN :
		DatumGetTimestampTz(row->values[column - 1]);
}

void
janitor_row_set(JanitorRow *row, AttrNumber column, Datum value)
{
	row->values[column - 1] = value;
	row->nulls[column - 1] = false;
	row->replaces[column - 1] = true;
}

void
janitor_row_set_null(JanitorRow *row, AttrNumber column)
{
	row->values[column - 1] = (Datum) 0;
	row->nulls[column - 1] = true;
	row->replaces[column - 1] = true;
}

void
janitor_row_set_text(JanitorRow *row, AttrNumber column, const char *value)
{
	if (value)
		janitor_row_set(row, column, CStringGetTextDatum(value));
	else
		janitor_row_set_null(row, column);
}

void
janitor_row_set_jsonb(JanitorRow *row, AttrNumber column, Jsonb *value)
{
	if (value)
		janitor_row_set(row, column, JsonbPGetDatum(value));
	else
		janitor_row_set_null(row, column);
}

void
janitor_row_set_int8(JanitorRow *row, AttrNumber column, int64 value,
					 int64 if_null)
{
	if (value != if_null)
		janitor_row_set(row, column, Int64GetDatum(value));
	else
		janitor_row_set_null(row, column);
}

void
janitor_row_set_time(JanitorRow *row, AttrNumber column, TimestampTz value)
{
	if (!TIMESTAMP_IS_NOBEGIN(value))
		janitor_row_set(row, column, TimestampTzGetDatum(value));
	else
		janitor_row_set_null(row, column);
}

/*
 * An interval as microseconds, a month counting as 30 days.  Intervals beyond
 * the 290,000 years of an int64, infinite ones too, become its limits.
 */
int64
janitor_interval_usec(const Interval *interval)
{
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	int64		result;

	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &result) ||
		pg_add_s64_overflow(result, interval->time, &result))
		return days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	return result;
}
