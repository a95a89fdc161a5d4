/*-------------------------------------------------------------------------
 *
 * ledger_cursor.c
 *	  job_cursor: how far the slices of a batched run have come.
 *
 * A slice is written by the worker that carries it out, in the transaction of
 * each batch, so that rows and progress are one commit.  The worker that
 * plans a rule inserts its slices; helpers take open ones by writing their
 * pid; whoever records the end of a run adds the slices up, and the run's own
 * worker deletes what is not needed any more.
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

static const char *const method_names[] = {
	[JANITOR_METHOD_PARTITION] = "partition",
	[JANITOR_METHOD_KEYS] = "keys",
	[JANITOR_METHOD_BLOCKS] = "blocks",
	[JANITOR_METHOD_ITEMS] = "items",
};

static const char *const state_names[] = {
	[JANITOR_CURSOR_OPEN] = "open",
	[JANITOR_CURSOR_DONE] = "done",
	[JANITOR_CURSOR_DETACHED] = "detached",
};

const char *
janitor_method_name(JanitorMethod method)
{
	return method_names[method];
}

static int
position_of(const char *name, const char *const *names, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(name, names[i]) == 0)
			return i;
	}
	elog(ERROR, "unrecognized name \"%s\" in job_cursor", name);
	return -1;					/* keep compilers quiet */
}

/* Everything is copied into the current context. */
static void
cursor_from_tuple(JanitorTable *table, HeapTuple tuple, JanitorCursor *cursor)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	cursor->tid = tuple->t_self;
	cursor->id = janitor_row_int8(&row, Anum_cursor_id, 0);
	cursor->job_name = janitor_row_text(&row, Anum_cursor_job_name);
	cursor->rule = janitor_row_text(&row, Anum_cursor_rule);
	cursor->execution_id = janitor_row_int8(&row, Anum_cursor_execution_id, 0);
	cursor->relation = janitor_row_text(&row, Anum_cursor_relation);
	cursor->relfilenode =
		DatumGetObjectId(row.values[Anum_cursor_relfilenode - 1]);
	cursor->method = (JanitorMethod)
		position_of(janitor_row_text(&row, Anum_cursor_method),
					method_names, lengthof(method_names));
	cursor->state = (JanitorCursorState)
		position_of(janitor_row_text(&row, Anum_cursor_state),
					state_names, lengthof(state_names));
	cursor->position = janitor_row_text(&row, Anum_cursor_position);
	cursor->until = janitor_row_text(&row, Anum_cursor_until);
	cursor->as_of = janitor_row_time(&row, Anum_cursor_as_of);
	cursor->handled = janitor_row_int8(&row, Anum_cursor_handled, 0);
	cursor->locked = janitor_row_int8(&row, Anum_cursor_locked, 0);
	cursor->worker = janitor_row_int4(&row, Anum_cursor_worker);
	cursor->updated_at = janitor_row_time(&row, Anum_cursor_updated_at);
}

static void
row_from_cursor(JanitorCursor *cursor, JanitorRow *row)
{
	cursor->updated_at = GetCurrentTimestamp();
	janitor_row_clear(row);
	janitor_row_set(row, Anum_cursor_id, Int64GetDatum(cursor->id));
	janitor_row_set_text(row, Anum_cursor_job_name, cursor->job_name);
	janitor_row_set_text(row, Anum_cursor_rule, cursor->rule);
	janitor_row_set(row, Anum_cursor_execution_id,
					Int64GetDatum(cursor->execution_id));
	janitor_row_set_text(row, Anum_cursor_relation, cursor->relation);
	janitor_row_set(row, Anum_cursor_relfilenode,
					ObjectIdGetDatum(cursor->relfilenode));
	janitor_row_set_text(row, Anum_cursor_method,
						 method_names[cursor->method]);
	janitor_row_set_text(row, Anum_cursor_state, state_names[cursor->state]);
	janitor_row_set_text(row, Anum_cursor_position, cursor->position);
	janitor_row_set_text(row, Anum_cursor_until, cursor->until);
	janitor_row_set_time(row, Anum_cursor_as_of, cursor->as_of);
	janitor_row_set(row, Anum_cursor_handled, Int64GetDatum(cursor->handled));
	janitor_row_set(row, Anum_cursor_locked, Int64GetDatum(cursor->locked));
	janitor_row_set(row, Anum_cursor_worker, Int32GetDatum(cursor->worker));
	janitor_row_set(row, Anum_cursor_updated_at,
					TimestampTzGetDatum(cursor->updated_at));
}

static HeapTuple
find_by_id(JanitorTable *table, int64 id)
{
	ScanKeyData key;

	janitor_key_int8(&key, Anum_cursor_id, id);
	return janitor_row_find(table, JANITOR_CURSOR_PKEY, 1, &key);
}

/* The newest version, locked; NULL: it is gone. */
static HeapTuple
lock_by_id(JanitorTable *table, int64 id)
{
	for (;;)
	{
		HeapTuple	tuple = find_by_id(table, id);
		HeapTuple	locked;

		if (tuple == NULL)
			return NULL;
		if (janitor_row_lock(table, &tuple->t_self,
							 HeapTupleHeaderGetRawXmin(tuple->t_data), id,
							 LockWaitBlock, &locked) == JANITOR_LOCKED)
			return locked;
		CHECK_FOR_INTERRUPTS();
	}
}

void
janitor_cursor_insert(JanitorCursor *cursor)
{
	JanitorTable table = janitor_table_open(JANITOR_CURSOR, RowExclusiveLock);
	JanitorRow	row;

	if (cursor->id == 0)
		cursor->id = janitor_next_id(JANITOR_CURSOR_SEQUENCE);
	row_from_cursor(cursor, &row);
	cursor->tid = janitor_row_insert(&table, &row)->t_self;
	janitor_table_close(&table);
}

void
janitor_cursor_update(JanitorCursor *cursor)
{
	JanitorTable table = janitor_table_open(JANITOR_CURSOR, RowExclusiveLock);
	HeapTuple	old = lock_by_id(&table, cursor->id);
	JanitorRow	row;

	if (old == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("slice " INT64_FORMAT " of job \"%s\" was deleted from job_cursor",
						cursor->id, cursor->job_name)));
	row_from_cursor(cursor, &row);
	cursor->tid = janitor_row_update(&table, old, &row)->t_self;
	janitor_table_close(&table);
}

void
janitor_cursor_delete(int64 id)
{
	JanitorTable table = janitor_table_open(JANITOR_CURSOR, RowExclusiveLock);
	HeapTuple	old = lock_by_id(&table, id);

	if (old != NULL)
		janitor_row_delete(&table, &old->t_self);
	janitor_table_close(&table);
}

bool
janitor_cursor_find(int64 id, JanitorCursor *cursor)
{
	JanitorTable table = janitor_table_open(JANITOR_CURSOR, AccessShareLock);
	HeapTuple	tuple = find_by_id(&table, id);

	if (tuple != NULL)
		cursor_from_tuple(&table, tuple, cursor);
	janitor_table_close(&table);
	return tuple != NULL;
}

bool
janitor_cursor_claim(int64 id, JanitorCursor *cursor,
					 bool (*is_alive) (int pid))
{
	JanitorTable table = janitor_table_open(JANITOR_CURSOR, RowExclusiveLock);
	HeapTuple	old = lock_by_id(&table, id);
	bool		claimed = false;

	if (old != NULL)
	{
		cursor_from_tuple(&table, old, cursor);
		claimed = cursor->state == JANITOR_CURSOR_OPEN &&
			(cursor->worker == 0 || cursor->worker == MyProcPid ||
			 !is_alive(cursor->worker));
	}
	if (claimed)
	{
		JanitorRow	row;

		cursor->worker = MyProcPid;
		row_from_cursor(cursor, &row);
		cursor->tid = janitor_row_update(&table, old, &row)->t_self;
	}
	janitor_table_close(&table);
	return claimed;
}

typedef struct CursorScan
{
	bool		(*each) (JanitorCursor *cursor, void *arg);
	void	   *arg;
} CursorScan;

static bool
visit_cursor(JanitorTable *table, HeapTuple tuple, void *arg)
{
	CursorScan *scan = arg;
	JanitorCursor cursor;

	cursor_from_tuple(table, tuple, &cursor);
	return scan->each(&cursor, scan->arg);
}

void
janitor_cursor_scan(const char *job_name,
					bool (*each) (JanitorCursor *cursor, void *arg),
					void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_CURSOR, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	CursorScan	scan = {each, arg};
	ScanKeyData key;

	janitor_key_text(&key, Anum_cursor_job_name, job_name);
	(void) janitor_table_scan(&table, JANITOR_CURSOR_JOB, snapshot,
							  ForwardScanDirection, 1, &key,
							  visit_cursor, &scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}

typedef struct Sum
{
	int64		execution_id;
	int64		handled;		/* -1: there is none */
} Sum;

static bool
add_up(JanitorCursor *cursor, void *arg)
{
	Sum		   *sum = arg;

	if (cursor->execution_id == sum->execution_id)
		sum->handled = Max(sum->handled, 0) + cursor->handled;
	return true;
}

int64
janitor_cursor_handled(const char *job_name, int64 execution_id)
{
	Sum			sum = {execution_id, -1};

	janitor_cursor_scan(job_name, add_up, &sum);
	return sum.handled;
}

typedef struct Collection
{
	int64		execution_id;
	List	   *ids;			/* of int64 * */
} Collection;

static bool
collect(JanitorCursor *cursor, void *arg)
{
	Collection *collection = arg;
	int64	   *id = palloc(sizeof(int64));

	*id = cursor->id;
	if (cursor->execution_id == collection->execution_id)
		collection->ids = lappend(collection->ids, id);
	return true;
}

void
janitor_cursor_forget(const char *job_name, int64 execution_id)
{
	Collection	collection = {execution_id, NIL};
	ListCell   *cell;

	janitor_cursor_scan(job_name, collect, &collection);
	foreach(cell, collection.ids)
		janitor_cursor_delete(*(int64 *) lfirst(cell));
}
