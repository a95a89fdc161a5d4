/*-------------------------------------------------------------------------
 *
 * batch_keys.c
 *	  A slice walked in the order of the time column, by its index.
 *
 * A batch is a half-open range [a, b) of keys, b being the n-th key after a.
 * The walk keeps its place: it never goes over keys again whose rows it has
 * deleted, so dead index entries that an old snapshot keeps do not slow it
 * down.  Where more rows have one key than a batch may hold they are listed
 * once and handled as rows, in portions.
 *
 * Errors, memory: see batch.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "batch_internal.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "session.h"

/* A key as text, and back, the same in every session.  In a transaction. */
static char *
key_text(const JanitorBatching *batching, Datum key)
{
	Oid			output;
	bool		varlena;
	int			level = janitor_settings_neutral();
	char	   *text;

	getTypeOutputInfo(batching->ready->bound_type, &output, &varlena);
	text = OidOutputFunctionCall(output, key);
	janitor_settings_restore(level);
	return text;
}

static Datum
key_value(const JanitorBatching *batching, char *text)
{
	Oid			input;
	Oid			ioparam;
	int			level = janitor_settings_neutral();
	Datum		key;

	getTypeInputInfo(batching->ready->bound_type, &input, &ioparam);
	key = OidInputFunctionCall(input, text, ioparam, -1);
	janitor_settings_restore(level);
	return key;
}

/* What find_key() looks for. */
typedef struct KeySearch
{
	JanitorBatching *batching;
	Oid			leaf;
	Datum		from;			/* the keys begin here; unless first */
	bool		first;
	bool		beyond;			/* the next after it, not itself */
	Datum		until;			/* below this */
	int64		offset;
	bool		found;			/* results, in the current context */
	Datum		key;
	char	   *text;
} KeySearch;

/* The key at an offset in a range of keys, by the index. */
static void
find_key(void *arg)
{
	KeySearch  *search = arg;
	const JanitorReadyRule *ready = search->batching->ready;
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData sql;
	Oid			types[3] = {ready->bound_type, ready->bound_type, INT8OID};
	Datum		values[3] = {search->from, search->until,
	Int64GetDatum(search->offset)};
	bool		nulls[3] = {search->first, false, false};
	JanitorQuery *query;
	bool		isnull;

	janitor_begin();
	janitor_session_set_local("enable_seqscan", "off");
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s FROM ONLY %s r WHERE r.%s OPERATOR(pg_catalog.<) $2",
					 psprintf("r.%s", ready->time_column),
					 janitor_relation_name(search->leaf),
					 ready->time_column);
	if (!search->first)
		appendStringInfo(&sql, " AND r.%s OPERATOR(pg_catalog.%s) $1",
						 ready->time_column, search->beyond ? ">" : ">=");
	appendStringInfo(&sql, " ORDER BY r.%s OFFSET $3 LIMIT 1",
					 ready->time_column);
	query = janitor_query_prepare(sql.data, 3, types);
	MemoryContextSwitchTo(caller);
	search->found = janitor_query_row(query, values, nulls, 1,
									  &search->key, &isnull);
	if (search->found)
		search->text = key_text(search->batching, search->key);
	janitor_query_free(query);
	janitor_commit(true);
}

static bool
look_for_key(KeySearch *search)
{
	JanitorError *error = janitor_attempt(find_key, search);

	if (error)
		janitor_rethrow(error);
	return search->found;
}

static bool
same_key(const JanitorBatching *batching, Datum a, Datum b)
{
	return datumIsEqual(a, b, batching->key_by_value, batching->key_length);
}

/*
 * All rows of one key, of which there are more than a batch should have, as
 * rows.
 */
static bool
work_off_ties(JanitorBatch *batch)
{
	JanitorBatching *batching = batch->batching;
	int64		left;

	if (!janitor_batch_as_rows(batching, batch->cursor, batch->leaf,
							   &batch->range, &left))
		return false;
	janitor_batch_remember(batching, batch->cursor, batch->leaf, &batch->range,
						   left);
	janitor_batch_move_cursor(batching, batch->cursor, batch->position,
							  batch->last);
	return true;
}

/*
 * Where the range that begins at `from` ends, and whether that is one key with
 * more rows than a batch may have.  Nothing found: it is the last one, and
 * ends where the slice does.
 */
static void
find_end(KeySearch *search, Datum from, bool *ties)
{
	search->from = from;
	search->offset = search->batching->size;
	*ties = look_for_key(search) &&
		same_key(search->batching, search->key, from);
	if (!*ties)
		return;
	search->beyond = true;
	search->offset = 0;
	(void) look_for_key(search);
}

/* Where the slice begins and ends, as its cursor says. */
static void
read_limits(JanitorBatching *batching, const JanitorCursor *cursor,
			KeySearch *search)
{
	janitor_begin();
	search->until = cursor->until != NULL ?
		key_value(batching, cursor->until) : batching->ready->bound;
	search->first = cursor->position == NULL;
	if (!search->first)
		search->from = key_value(batching, cursor->position);
	janitor_commit(true);
}

static void
replace_key(JanitorBatching *batching, Datum *key, Datum value)
{
	Datum		old = *key;

	*key = janitor_batch_keep_value(batching, JANITOR_RANGE_KEYS, value);
	if (!batching->key_by_value)
		pfree(DatumGetPointer(old));
}

/* The range of keys from here on; *from becomes its end. */
static bool
next_range(JanitorBatching *batching, JanitorCursor *cursor, Oid leaf,
		   Datum *from, Datum until)
{
	KeySearch	search = {.batching = batching,.leaf = leaf,.until = until};
	JanitorBatch batch = {
		.batching = batching,.cursor = cursor,.leaf = leaf
	};
	bool		ties;

	find_end(&search, *from, &ties);
	batch.last = !search.found;
	batch.range.kind = JANITOR_RANGE_KEYS;
	batch.range.from = *from;
	batch.range.to = search.found ? search.key : until;
	batch.position = search.found ? search.text : NULL;
	if (!(ties ? work_off_ties(&batch) :
		  janitor_batch_work_off(&batch, JANITOR_METHOD_KEYS)))
		return false;
	replace_key(batching, from, batch.range.to);
	return true;
}

bool
janitor_batch_keys(JanitorBatching *batching, JanitorCursor *cursor, Oid leaf)
{
	KeySearch	first = {.batching = batching,.leaf = leaf};
	Datum		from;

	read_limits(batching, cursor, &first);
	if (!look_for_key(&first))
	{
		janitor_batch_move_cursor(batching, cursor, NULL, true);
		return true;
	}
	from = first.key;
	while (cursor->state == JANITOR_CURSOR_OPEN)
	{
		if (janitor_batch_must_stop(batching))
			return false;
		MemoryContextReset(batching->scratch);
		MemoryContextSwitchTo(batching->scratch);
		if (!next_range(batching, cursor, leaf, &from, first.until))
			return false;
	}
	return true;
}
