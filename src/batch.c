/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  One slice of one relation, batch by batch.
 *
 * Runs in the worker of a retention run and in its helpers, connected as the
 * job's owner.  A batch is one transaction: the locks that keep holds from
 * being placed in between, one statement that changes the expired rows of a
 * range, and the slice's row in job_cursor.  It is committed asynchronously:
 * rows and progress are lost together or not at all, and the commit of the
 * run's record flushes them all.
 *
 * Ranges.  In blocks: the leaf in physical order, so many blocks at a time.
 * In keys: half-open ranges [a, b) of the time column, b being the n-th key
 * after a; the walk never goes back over what it has deleted, so dead index
 * entries that an old snapshot keeps do not slow it down.  More rows of one
 * key than a batch may hold are taken in portions of rows.
 *
 * Sizes.  A batch aims at TARGET_USEC and holds at most MAX_ROWS rows, of
 * blocks so many that full ones would not hold more: what comes after blocks
 * with nothing to do may be full of it.  What takes longer than LIMIT_MS all
 * the same is rolled back and handled as rows, so that whoever waits for a
 * batch (to place a hold, to lock the table) does not wait long.  With
 * batch_rows all this is as the user says.
 *
 * Locks.  The statement waits LOCK_TIMEOUT for a row that somebody has locked
 * (or a row that a foreign key or trigger takes along).  Then the batch is
 * rolled back and repeated over the list of its rows, passing over the locked
 * ones, and if that fails too (a child row is locked) halved until the rows
 * that cannot be had are alone.  Their range is remembered and visited again
 * when everything else is done.
 *
 * What is not expired when the statement meets it is not touched: the
 * predicate is in the statement itself, and the server evaluates it again on
 * the newest version of a row that was changed concurrently.
 *
 * On ERROR the batch's transaction is gone and the cursor tells the truth;
 * whoever called decides.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "batch_internal.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "optimizer/plancat.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "guard.h"
#include "run.h"
#include "session.h"
#include "shmem.h"
#include "tally.h"

#define TARGET_USEC (200 * INT64CONST(1000))
#define LIMIT_MS 800
#define MIN_ROWS 100
#define MAX_ROWS 50000
#define FIRST_ROWS 500

/* The most that a batch grows by from one to the next. */
#define GROWTH 4

#define LOCK_TIMEOUT "20ms"

/* What job_progress says. */
static const char *const phases[] = {
	[JANITOR_DELETE] = "deleting",
	[JANITOR_ARCHIVE] = "archiving",
	[JANITOR_UPDATE] = "updating",
	[JANITOR_ANONYMIZE] = "anonymizing",
};

/* A statement on one leaf, prepared. */
typedef struct JanitorChange
{
	Oid			leaf;
	JanitorRange range;
	bool		skip_locked;
	bool		lists;			/* it reads the rows' places, changes nothing */
	JanitorQuery *query;
} JanitorChange;

static void
forget_changes(JanitorBatching *batching)
{
	ListCell   *cell;

	foreach(cell, batching->changes)
	{
		JanitorChange *change = lfirst(cell);

		janitor_query_free(change->query);
		pfree(change);
	}
	list_free(batching->changes);
	batching->changes = NIL;
}

/* Plans live in no context of ours: they go when the batching does. */
static void
end_batching(void *arg)
{
	forget_changes(arg);
}

static void
call_at_end(JanitorBatching *batching)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	callback->func = end_batching;
	callback->arg = batching;
	MemoryContextRegisterResetCallback(batching->context, callback);
}

JanitorBatching *
janitor_batching_begin(const JanitorReadyRule *ready)
{
	JanitorBatching *batching = palloc0(sizeof(JanitorBatching));
	JanitorAction action = ready->rule->action;

	batching->ready = ready;
	batching->holds = janitor_holds_begin(ready->relid,
										  action == JANITOR_DELETE ||
										  action == JANITOR_ARCHIVE);
	if (ready->has_bound)
		get_typlenbyval(ready->bound_type, &batching->key_length,
						&batching->key_by_value);
	batching->deadline = DT_NOEND;
	batching->budget = PG_INT64_MAX;
	batching->context = CurrentMemoryContext;
	batching->scratch = AllocSetContextCreate(CurrentMemoryContext,
											  "pg_janitor batch",
											  ALLOCSET_DEFAULT_SIZES);
	call_at_end(batching);
	return batching;
}

/* --- statements --- */

static JanitorChange *
find_change(JanitorBatching *batching, Oid leaf, JanitorRange range,
			bool skip_locked, bool lists)
{
	ListCell   *cell;

	foreach(cell, batching->changes)
	{
		JanitorChange *change = lfirst(cell);

		if (change->leaf == leaf && change->range == range &&
			change->skip_locked == skip_locked && change->lists == lists)
			return change;
	}
	return NULL;
}

static char *
statement_text(JanitorBatching *batching, Oid leaf, JanitorRange range,
			   bool skip_locked, bool lists)
{
	char	   *held = janitor_holds_condition(batching->holds, leaf);

	if (!lists)
		return janitor_rule_statement(batching->ready, leaf, range, held,
									  skip_locked);
	return psprintf("SELECT r.ctid %s",
					janitor_rule_from_where(batching->ready, leaf, range,
											held));
}

/* Statements are kept until the leaf or the holds change. */
JanitorQuery *
janitor_batch_query(JanitorBatching *batching, Oid leaf, JanitorRange range,
					bool skip_locked, bool lists)
{
	JanitorChange *change = find_change(batching, leaf, range, skip_locked,
										lists);
	MemoryContext caller;
	Oid			types[JANITOR_QUERY_ARGS];
	int			count;

	if (change != NULL)
		return change->query;
	count = janitor_rule_parameters(batching->ready, range, types);
	caller = MemoryContextSwitchTo(batching->context);
	change = palloc0(sizeof(JanitorChange));
	change->leaf = leaf;
	change->range = range;
	change->skip_locked = skip_locked;
	change->lists = lists;
	change->query =
		janitor_query_prepare(statement_text(batching, leaf, range,
											 skip_locked, lists),
							  count, types);
	batching->changes = lappend(batching->changes, change);
	MemoryContextSwitchTo(caller);
	return change->query;
}

/* The parameters: the bound, and what the range has. */
void
janitor_batch_parameters(const JanitorBatching *batching, const JanitorBatchRange *range,
						 Datum *values, bool *nulls)
{
	const JanitorReadyRule *ready = batching->ready;

	values[0] = ready->has_bound ? ready->bound : (Datum) 0;
	nulls[0] = !ready->has_bound;
	values[1] = range->from;
	values[2] = range->to;
	nulls[1] = nulls[2] = false;
}

/* --- transactions --- */

/*
 * Begins the transaction of a batch.  While somebody places a hold there is
 * nothing to be done but to wait for him, in a transaction that holds nothing.
 */
void
janitor_batch_begin(JanitorBatching *batching)
{
	TimestampTz since = 0;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		janitor_begin();
		if (janitor_holds_lock(batching->holds))
			break;
		janitor_commit(true);
		if (since == 0)
		{
			since = GetCurrentTimestamp();
			janitor_progress_wait(janitor_pause_name(JANITOR_PAUSE_HOLD));
		}
		janitor_begin();
		janitor_session_set_local("lock_timeout", "0");
		janitor_holds_wait(batching->holds);
		janitor_commit(true);
	}
	if (since != 0)
	{
		janitor_tally_pause(JANITOR_PAUSE_HOLD, GetCurrentTimestamp() - since);
		janitor_progress_wait(NULL);
	}
	if (janitor_holds_read(batching->holds))
		forget_changes(batching);
	janitor_session_set_local("lock_timeout", LOCK_TIMEOUT);
}

/*
 * With what all workers have handled, these may be more rows than the guard
 * allows: then nothing of this batch stays.
 */
static void
check_limit(JanitorBatch *batch)
{
	JanitorGuard guard;

	batch->reserved = batch->rows;
	if (!janitor_tally_reserve(batch->rows, &guard))
		janitor_guard_refuse(batch->batching->ready->rule, &guard);
}

/* It found more than was expected: undone, to be repeated row by row. */
static void
check_budget(const JanitorBatching *batching, int64 rows)
{
	if (rows > batching->budget)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("batch of " INT64_FORMAT " rows exceeds what is left of rows_per_run",
						rows)));
}

/* The cursor outlives the batch, and so does its position. */
void
janitor_batch_set_position(JanitorBatching *batching, JanitorCursor *cursor,
						   const char *position)
{
	char	   *old = cursor->position;

	cursor->position = MemoryContextStrdup(batching->context, position);
	if (old != NULL)
		pfree(old);
}

/* Has the user said how many rows are one transaction? */
static bool
is_fixed(const JanitorBatching *batching)
{
	return batching->ready->rule->batch_rows > 0;
}

/* One batch, from its beginning to its commit. */
static void
carry_out(void *arg)
{
	JanitorBatch *batch = arg;
	JanitorBatching *batching = batch->batching;
	JanitorCursor cursor = *batch->cursor;
	TimestampTz start = GetCurrentTimestamp();
	JanitorQuery *query;
	Datum		values[3];
	bool		nulls[3];

	janitor_batch_begin(batching);

	/* a walk by keys that reads the table once a batch would be no good */
	if (batch->range.kind == JANITOR_RANGE_KEYS)
		janitor_session_set_local("enable_seqscan", "off");
	janitor_batch_parameters(batching, &batch->range, values, nulls);
	query = janitor_batch_query(batching, batch->leaf, batch->range.kind,
								batch->skip_locked, false);
	janitor_run_limit(is_fixed(batching) || batch->patient ? 0 : LIMIT_MS);
	batch->rows = janitor_query_execute(query, values, nulls);
	janitor_run_limit_end();
	check_limit(batch);
	check_budget(batching, batch->rows);

	cursor.handled += batch->rows;
	if (batch->position != NULL)
		cursor.position = batch->position;
	if (batch->last)
		cursor.state = JANITOR_CURSOR_DONE;
	janitor_cursor_update(&cursor);
	janitor_commit(true);

	batch->took = GetCurrentTimestamp() - start;
	batch->cursor->handled = cursor.handled;
	batch->cursor->state = cursor.state;
	if (batch->position != NULL)
		janitor_batch_set_position(batching, batch->cursor, batch->position);
	batching->budget -= batch->rows;
	janitor_tally_batch(batch->took);
	janitor_progress_add(batch->rows);
}

/* Is there hope for the rows one by one? */
static bool
is_conflict(const JanitorBatching *batching, const JanitorError *error)
{
	return (error->sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED &&
			batching->budget < PG_INT64_MAX) ||
		(error->sqlstate == ERRCODE_QUERY_CANCELED && janitor_run_overdue()) ||
		error->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

bool
janitor_batch_attempt(JanitorBatch *batch)
{
	JanitorError *error = janitor_attempt(carry_out, batch);

	if (error == NULL)
		return true;
	janitor_tally_release(batch->reserved);
	batch->reserved = 0;
	janitor_run_rearm_timeout();
	if (!is_conflict(batch->batching, error))
		janitor_rethrow(error);
	return false;
}

/* Between batches: has this slice to end here? */
bool
janitor_batch_must_stop(const JanitorBatching *batching)
{
	return batching->budget <= 0 ||
		(batching->deadline != DT_NOEND &&
		 GetCurrentTimestamp() >= batching->deadline) ||
		janitor_tally_is_closed() || janitor_helper_should_leave();
}

/* A copy of a parameter that outlives the batch. */
Datum
janitor_batch_keep_value(JanitorBatching *batching, JanitorRange kind,
						 Datum value)
{
	MemoryContext caller = MemoryContextSwitchTo(batching->context);
	Datum		copy;

	if (kind == JANITOR_RANGE_BLOCKS)
		copy = datumCopy(value, false, sizeof(ItemPointerData));
	else
		copy = datumCopy(value, batching->key_by_value, batching->key_length);
	MemoryContextSwitchTo(caller);
	return copy;
}

void
janitor_batch_write_cursor(JanitorCursor *cursor)
{
	janitor_begin();
	janitor_cursor_update(cursor);
	janitor_commit(true);
}

/* Moves the cursor over a range that was worked off in other ways. */
void
janitor_batch_move_cursor(JanitorBatching *batching, JanitorCursor *cursor,
						  const char *position, bool last)
{
	if (position != NULL)
		janitor_batch_set_position(batching, cursor, position);
	if (last)
		cursor->state = JANITOR_CURSOR_DONE;
	janitor_batch_write_cursor(cursor);
}

/* --- sizes --- */

/* So many rows at most, in the unit of sizes: themselves, or blocks. */
static int64
size_for(const JanitorBatching *batching, JanitorMethod method, int64 rows)
{
	return method == JANITOR_METHOD_KEYS ? rows :
		Max(1, (int64) (rows / batching->rows_per_block));
}

static int64
first_size(const JanitorBatching *batching, JanitorMethod method)
{
	return size_for(batching, method, is_fixed(batching) ?
					batching->ready->rule->batch_rows : FIRST_ROWS);
}

/*
 * The next size, in the unit of the last: aims at the target duration, and
 * at no more rows than a batch may have.
 */
static int64
next_size(const JanitorBatching *batching, const JanitorBatch *batch,
		  JanitorMethod method)
{
	double		factor = (double) TARGET_USEC / Max(batch->took, 1);
	int64		size;

	if (is_fixed(batching))
		return first_size(batching, method);
	factor = Max(1.0 / GROWTH, Min(GROWTH, factor));
	if (batch->rows > 0)
		factor = Min(factor, (double) MAX_ROWS / batch->rows);
	size = (int64) (batching->size * factor);
	return Min(Max(size, size_for(batching, method, MIN_ROWS)),
			   size_for(batching, method, MAX_ROWS));
}

/* The rows that a batch of the present size would have, at most. */
static double
rows_expected(const JanitorBatching *batching, JanitorMethod method)
{
	return batching->size *
		(method == JANITOR_METHOD_BLOCKS ? batching->rows_per_block : 1);
}

/*
 * One range of a slice, whatever it takes; false: the slice has to stop within
 * it.  The size of the next follows from it only if it went straight.
 */
bool
janitor_batch_work_off(JanitorBatch *batch, JanitorMethod method)
{
	JanitorBatching *batching = batch->batching;
	int64		left;

	if (batching->budget >= rows_expected(batching, method))
	{
		if (janitor_batch_attempt(batch))
		{
			batching->size = next_size(batching, batch, method);
			janitor_throttle(&batching->throttle, batch->rows,
							 batching->deadline);
			return true;
		}
		batching->size = Max(1, batching->size / GROWTH);
	}
	if (!janitor_batch_as_rows(batching, batch->cursor, batch->leaf,
							   &batch->range, &left))
		return false;
	janitor_batch_remember(batching, batch->cursor, batch->leaf, &batch->range,
						   left);
	janitor_batch_move_cursor(batching, batch->cursor, batch->position, batch->last);
	return true;
}

/* --- blocks --- */

static Datum
block_start(BlockNumber block)
{
	ItemPointer place = palloc(sizeof(ItemPointerData));

	ItemPointerSet(place, block, 0);
	return PointerGetDatum(place);
}

static BlockNumber
read_block(const char *text, BlockNumber otherwise)
{
	return text == NULL ? otherwise : (BlockNumber) strtoul(text, NULL, 10);
}

static bool
slice_of_blocks(JanitorBatching *batching, JanitorCursor *cursor, Oid leaf)
{
	int64		at = read_block(cursor->position, 0);
	int64		end = read_block(cursor->until, MaxBlockNumber);

	while (cursor->state == JANITOR_CURSOR_OPEN)
	{
		JanitorBatch batch = {
			.batching = batching,.cursor = cursor,.leaf = leaf
		};
		int64		next;

		if (janitor_batch_must_stop(batching))
			return false;
		MemoryContextReset(batching->scratch);
		MemoryContextSwitchTo(batching->scratch);
		next = Min(end, at + batching->size);
		batch.range.kind = JANITOR_RANGE_BLOCKS;
		batch.range.from = block_start(at);
		batch.range.to = block_start(next);
		batch.position = psprintf(INT64_FORMAT, next);
		batch.last = next >= end;
		if (!janitor_batch_work_off(&batch, JANITOR_METHOD_BLOCKS))
			return false;
		at = next;
	}
	return true;
}

/* --- a slice --- */

/*
 * As the planner thinks where it knows no better: from the widths of columns.
 * Rows may be smaller than that, as far as they have been counted.
 */
static double
rows_in_full_block(Relation rel)
{
	double		width = MAXALIGN(get_rel_data_width(rel, NULL)) +
	MAXALIGN(SizeofHeapTupleHeader) + sizeof(ItemIdData);
	double		rows = (BLCKSZ - SizeOfPageHeaderData) / width;

	if (rel->rd_rel->reltuples > 0 && rel->rd_rel->relpages > 0)
		rows = Max(rows, rel->rd_rel->reltuples / rel->rd_rel->relpages);
	return Max(rows, 1);
}

/* The leaf of a slice, and how its rows lie. */
static Oid
open_leaf(JanitorBatching *batching, const JanitorCursor *cursor)
{
	Oid			leaf;
	Relation	rel;

	janitor_begin();
	leaf = janitor_relation_find(cursor->relation);
	rel = relation_open(leaf, AccessShareLock);
	batching->rows_per_block = rows_in_full_block(rel);
	relation_close(rel, AccessShareLock);
	janitor_commit(true);
	return leaf;
}

bool
janitor_batch_slice(JanitorBatching *batching, JanitorCursor *cursor)
{
	MemoryContext caller = MemoryContextSwitchTo(batching->context);
	Oid			leaf = open_leaf(batching, cursor);
	bool		done;

	forget_changes(batching);
	batching->size = first_size(batching, cursor->method);
	janitor_progress_phase(phases[batching->ready->rule->action], leaf);
	if (cursor->method == JANITOR_METHOD_KEYS)
		done = janitor_batch_keys(batching, cursor, leaf);
	else
		done = slice_of_blocks(batching, cursor, leaf);
	MemoryContextSwitchTo(caller);
	return done;
}
