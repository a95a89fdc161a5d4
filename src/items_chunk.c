/*-------------------------------------------------------------------------
 *
 * items_chunk.c
 *	  Many items with one statement for each rule.
 *
 * What an item costs is mostly statements that begin and end.  So items are
 * handled together while nothing speaks against it: locked and read by one
 * statement, which passes over rows that somebody else has locked, and then
 * each rule is one statement for all of them, in one subtransaction.  The
 * statements say which item each row belongs to, so everything is known of
 * each that is known when it is handled by itself.
 *
 * If anything goes wrong, the subtransaction is rolled back, and they are
 * handled one by one: which item failed, and how, is found out then, and the
 * others are done.  So are items that were not read, being locked or none any
 * more, and those under a hold.  While items fail now and then, fewer are
 * taken together.
 *
 * Items of jobs that have a command, or a rule whose `set` depends on the
 * item, are all handled one by one.
 *
 * Memory: the context of the group, which is current.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "items_internal.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* After a failure the size is halved; it then grows by one with each success. */
#define LEAST_CHUNK 4

/* Those in hand, for the functions that rows are passed to. */
typedef struct Chunk
{
	JanitorItems *items;
	JanitorSubject **members;
	int			count;
	int		   *seen;			/* rows of each */
	int			next;			/* member that a row is looked for at first */
	int			step;
} Chunk;

void
janitor_items_chunk_begin(JanitorItems *items)
{
	Oid			array = get_array_type(items->query->key_type);
	ListCell   *cell;

	items->chunk = 1;
	if (items->query->subjects == NULL)
		return;
	foreach(cell, items->steps)
	{
		if (((JanitorStep *) lfirst(cell))->many == NULL)
			return;
	}
	items->subjects = janitor_query_prepare(items->query->subjects, 1, &array);
	items->chunk = JANITOR_ITEMS_PER_GROUP;
}

/* --- reading --- */

static Datum
keys_array(const Chunk *chunk)
{
	Form_pg_attribute type = TupleDescAttr(chunk->items->key_desc, 0);
	Datum	   *keys = palloc(chunk->count * sizeof(Datum));

	for (int i = 0; i < chunk->count; i++)
		keys[i] = chunk->members[i]->key;
	return PointerGetDatum(construct_array(keys, chunk->count,
										   type->atttypid, type->attlen,
										   type->attbyval, type->attalign));
}

/*
 * The member that a row is of; -1: none.  Rows mostly come in the order of the
 * keys.  Equal keys that are written differently are not found, and handled
 * one by one.
 */
static int
find_member(Chunk *chunk, Datum key)
{
	Form_pg_attribute type = TupleDescAttr(chunk->items->key_desc, 0);

	for (int i = 0; i < chunk->count; i++)
	{
		int			at = (chunk->next + i) % chunk->count;

		if (datumIsEqual(chunk->members[at]->key, key, type->attbyval,
						 type->attlen))
		{
			chunk->next = at + 1;
			return at;
		}
	}
	return -1;
}

static void
take_row(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	Chunk	   *chunk = arg;
	int			at = nulls[2] ? -1 : find_member(chunk, values[2]);
	JanitorSubject *member;

	if (at < 0)
		return;
	member = chunk->members[at];
	chunk->seen[at]++;
	member->item = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[0]));
	member->due = nulls[1] ? DT_NOBEGIN : DatumGetTimestampTz(values[1]);
}

/* Locks and reads them; those that have no row, or several, are left. */
static void
read_items(Chunk *chunk)
{
	Datum		keys = keys_array(chunk);
	int			left = 0;

	chunk->seen = palloc0(chunk->count * sizeof(int));
	chunk->next = 0;
	(void) janitor_query_execute_each(chunk->items->subjects, &keys, take_row,
									  chunk);
	for (int i = 0; i < chunk->count; i++)
	{
		if (chunk->seen[i] == 1)
			chunk->members[left++] = chunk->members[i];
	}
	chunk->count = left;
}

/* Those under a hold are left, too. */
static void
leave_held(Chunk *chunk)
{
	int			left = 0;

	for (int i = 0; i < chunk->count; i++)
	{
		if (janitor_items_held(chunk->items, chunk->members[i]) == NULL)
			chunk->members[left++] = chunk->members[i];
	}
	chunk->count = left;
}

/* --- the rules --- */

static Datum
items_array(const Chunk *chunk)
{
	Datum	   *values = palloc(chunk->count * sizeof(Datum));

	for (int i = 0; i < chunk->count; i++)
		values[i] = chunk->members[i]->item;
	return PointerGetDatum(construct_array(values, chunk->count,
										   JSONBOID, -1, false,
										   TYPALIGN_INT));
}

static void
count_row(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	Chunk	   *chunk = arg;

	chunk->members[DatumGetInt64(values[0]) - 1]->rows[chunk->step]++;
}

static void
take_steps(Chunk *chunk)
{
	JanitorItems *items = chunk->items;
	Datum		array = items_array(chunk);
	ListCell   *cell;

	for (int i = 0; i < chunk->count; i++)
		chunk->members[i]->rows = palloc0(list_length(items->steps) *
										  sizeof(int64));
	foreach(cell, items->steps)
	{
		chunk->step = foreach_current_index(cell);
		(void) janitor_query_execute_each(((JanitorStep *) lfirst(cell))->many,
										  &array, count_row, chunk);
	}
}

/* In the subtransaction. */
static void
handle(void *arg)
{
	Chunk	   *chunk = arg;

	CHECK_FOR_INTERRUPTS();
	read_items(chunk);
	if (chunk->items->query->looks_elsewhere)
		read_items(chunk);		/* why see items_subject.c */
	leave_held(chunk);
	if (chunk->count > 0)
		take_steps(chunk);
}

JanitorError *
janitor_items_chunk(JanitorItems *items, JanitorSubject *subjects, int count)
{
	Chunk		chunk = {items};
	JanitorError *error;

	chunk.members = palloc(count * sizeof(JanitorSubject *));
	for (int i = 0; i < count; i++)
	{
		if (subjects[i].state == JANITOR_SUBJECT_LEFT)
			chunk.members[chunk.count++] = &subjects[i];
	}
	error = janitor_attempt_inside(handle, &chunk);
	if (error != NULL)
	{
		items->chunk = Max(LEAST_CHUNK, items->chunk / 2);
		return janitor_items_ended(error) ? error : NULL;
	}
	items->chunk = Min(JANITOR_ITEMS_PER_GROUP, items->chunk + 1);
	for (int i = 0; i < chunk.count; i++)
		chunk.members[i]->state = JANITOR_SUBJECT_DONE;
	return NULL;
}
