/*-------------------------------------------------------------------------
 *
 * batch_rows.c
 *	  Ranges in which somebody holds rows: row by row, and again at the end.
 *
 * The rows of the range are listed, by their places; the statement then names
 * places and passes over those that are locked.  If that fails too (a row
 * that a foreign key takes along is locked, or it takes too long) the list is
 * halved, until the rows that cannot be had are alone.  A place that holds another row by then
 * is no danger: the statement has the predicate.
 *
 * Errors, memory: see batch.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "batch_internal.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "session.h"

/* Ranges to come back to that are kept in memory. */
#define MAX_CONFLICTS 1000

/* A range to come back to. */
typedef struct Conflict
{
	JanitorCursor *cursor;
	Oid			leaf;
	JanitorBatchRange range;
} Conflict;

/* Where the expired rows of a range lie. */
typedef struct Listing
{
	JanitorBatching *batching;
	Oid			leaf;
	JanitorBatchRange range;
	int64		limit;			/* 0: all */
	ItemPointerData *places;	/* result, in the batching's scratch */
	int64		count;
	int64		room;
} Listing;

static void
append_place(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	Listing    *listing = arg;

	if (listing->count == listing->room)
	{
		listing->room *= 2;
		listing->places = repalloc_huge(listing->places, listing->room *
										sizeof(ItemPointerData));
	}
	listing->places[listing->count++] = *(ItemPointer) DatumGetPointer(values[0]);
}

static void
list_rows(void *arg)
{
	Listing    *listing = arg;
	JanitorBatching *batching = listing->batching;
	Datum		values[3];
	bool		nulls[3];

	janitor_batch_begin(batching);
	janitor_batch_parameters(batching, &listing->range, values, nulls);
	listing->count = 0;
	listing->room = 1024;
	listing->places = palloc(listing->room * sizeof(ItemPointerData));
	(void) janitor_query_each(janitor_batch_query(batching, listing->leaf,
												  listing->range.kind, false, true),
							  values, nulls, listing->limit,
							  append_place, listing);
	janitor_commit(true);
}

static void
list_range(Listing *listing)
{
	JanitorError *error = janitor_attempt(list_rows, listing);

	if (error)
		janitor_rethrow(error);
}

static Datum
tid_array(const ItemPointerData *places, int64 count)
{
	Datum	   *elements = palloc(Max(count, 1) * sizeof(Datum));

	for (int64 i = 0; i < count; i++)
		elements[i] = PointerGetDatum(places + i);
	return PointerGetDatum(construct_array(elements, (int) count, TIDOID,
										   sizeof(ItemPointerData), false,
										   TYPALIGN_SHORT));
}

/*
 * Handles rows by their places, passing over those that are locked if we may
 * lock rows at all; those whose children are, one by one in the end.  Returns how many it handled.
 */
static int64
handle_places(const Listing *listing, JanitorCursor *cursor,
			  const ItemPointerData *places, int64 count)
{
	JanitorBatch batch = {
		.batching = listing->batching,
		.cursor = cursor,
		.leaf = listing->leaf,
		.range = {.kind = JANITOR_RANGE_ROWS},
		.skip_locked = listing->batching->ready->may_lock,
		.patient = count == 1
	};

	if (count == 0)
		return 0;
	batch.range.from = tid_array(places, count);
	if (janitor_batch_attempt(&batch))
		return batch.rows;
	if (count == 1)
		return 0;
	return handle_places(listing, cursor, places, count / 2) +
		handle_places(listing, cursor, places + count / 2, count - count / 2);
}

/*
 * Handles a range as rows, in portions; *left: how many of those it found it
 * could not handle.  false: it had to stop before the end.
 */
bool
janitor_batch_as_rows(JanitorBatching *batching, JanitorCursor *cursor,
					  Oid leaf, const JanitorBatchRange *range, int64 *left)
{
	int			fixed = batching->ready->rule->batch_rows;
	int64		portion = fixed > 0 ? Min(fixed, JANITOR_PORTION) :
	JANITOR_PORTION;
	bool		limited = batching->budget < PG_INT64_MAX;
	Listing		listing = {
		.batching = batching,.leaf = leaf,.range = *range,
		.limit = limited ? batching->budget : 0
	};

	*left = 0;
	list_range(&listing);
	for (int64 at = 0; at < listing.count; at += portion)
	{
		int64		count = Min(portion, listing.count - at);
		int64		handled;

		if (at > 0 && janitor_batch_must_stop(batching))
			return false;
		handled = handle_places(&listing, cursor, listing.places + at, count);
		*left += count - handled;
		janitor_throttle(&batching->throttle, handled, batching->deadline);
	}

	/* there may be more than were listed */
	return !limited || listing.count < listing.limit;
}

/* Remembers a range for the end; beyond a number, its rows just count. */
void
janitor_batch_remember(JanitorBatching *batching, JanitorCursor *cursor, Oid leaf,
					   const JanitorBatchRange *range, int64 rows)
{
	MemoryContext caller;
	Conflict   *conflict;

	if (rows == 0)
		return;
	if (list_length(batching->conflicts) >= MAX_CONFLICTS)
	{
		cursor->locked += rows;
		return;
	}
	caller = MemoryContextSwitchTo(batching->context);
	conflict = palloc0(sizeof(Conflict));
	conflict->cursor = cursor;
	conflict->leaf = leaf;
	conflict->range.kind = range->kind;
	conflict->range.from = janitor_batch_keep_value(batching, range->kind, range->from);
	conflict->range.to = janitor_batch_keep_value(batching, range->kind, range->to);
	batching->conflicts = lappend(batching->conflicts, conflict);
	MemoryContextSwitchTo(caller);
}

static void
revisit(JanitorBatching *batching, Conflict *conflict)
{
	int64		left;

	if (!janitor_batch_as_rows(batching, conflict->cursor, conflict->leaf,
							   &conflict->range, &left) || left == 0)
		return;
	conflict->cursor->locked += left;
	janitor_batch_write_cursor(conflict->cursor);
}

void
janitor_batch_revisit(JanitorBatching *batching)
{
	MemoryContext caller = CurrentMemoryContext;
	ListCell   *cell;

	foreach(cell, batching->conflicts)
	{
		if (janitor_batch_must_stop(batching))
			break;
		MemoryContextReset(batching->scratch);
		MemoryContextSwitchTo(batching->scratch);
		revisit(batching, lfirst(cell));
	}
	MemoryContextSwitchTo(caller);
	list_free_deep(batching->conflicts);
	batching->conflicts = NIL;
}
