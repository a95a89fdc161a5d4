/*-------------------------------------------------------------------------
 *
 * items_list.c
 *	  The keys of an items run: a list of what there was when it began.
 *
 * Only keys are kept, in the order of the query, spilled to a file when they
 * are many: a million items take no more memory than a thousand.  Each item is
 * read again when its turn comes, so the list may grow old.
 *
 * A run that is shared has its keys in slices, by a hash of their text, and
 * each worker makes the list for itself: all agree on the slice of a key,
 * whatever has changed between their lists.  A slice is in the hands of one
 * worker at a time (job_cursor says whose), so no item is handled by two.
 *
 * The stores live across transactions.  Whatever they put into files is put
 * there in the transaction that makes them, whose resource owner they
 * remember.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "items_internal.h"

#include "common/hashfn.h"
#include "utils/datum.h"
#include "utils/memutils.h"

/* A key that job_item_failure has, or another one with the same hash. */
typedef struct KnownKey
{
	uint64		hash;			/* must be first */
	bool		listed;			/* it is still an item */
} KnownKey;

static uint64
key_hash(const char *key_text)
{
	return hash_bytes_extended((const unsigned char *) key_text,
							   strlen(key_text), 0);
}

/* --- failures of earlier runs --- */

static void
note_known(JanitorItemFailure *failure, void *arg)
{
	JanitorItems *items = arg;
	uint64		hash = key_hash(failure->item_key);
	KnownKey   *known = hash_search(items->known, &hash, HASH_ENTER, NULL);

	known->listed = false;
}

static void
load_known(JanitorItems *items)
{
	HASHCTL		control = {
		.keysize = sizeof(uint64),.entrysize = sizeof(KnownKey),
		.hcxt = items->context
	};

	items->known = hash_create("pg_janitor items that failed", 1024, &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	janitor_item_failure_scan(items->job->name, note_known, items);
}

bool
janitor_items_is_known(JanitorItems *items, const char *key_text)
{
	uint64		hash = key_hash(key_text);

	return hash_search(items->known, &hash, HASH_FIND, NULL) != NULL;
}

static void
sweep_failure(JanitorItemFailure *failure, void *arg)
{
	JanitorItems *items = arg;
	uint64		hash = key_hash(failure->item_key);
	KnownKey   *known = hash_search(items->known, &hash, HASH_FIND, NULL);

	if (known != NULL && !known->listed)
		(void) janitor_item_failure_delete(failure->job_name,
										   failure->item_key);
}

void
janitor_items_sweep(JanitorItems *items)
{
	if (hash_get_num_entries(items->known) > 0)
		janitor_item_failure_scan(items->job->name, sweep_failure, items);
}

/* --- the list --- */

/* In which slice a key is; notes that it is listed. */
static int
place_key(JanitorItems *items, Datum key)
{
	uint64		hash;
	KnownKey   *known;

	if (items->slice_count == 1 && hash_get_num_entries(items->known) == 0)
		return 0;
	hash = key_hash(janitor_item_key_text(items->query, key));
	known = hash_search(items->known, &hash, HASH_FIND, NULL);
	if (known != NULL)
		known->listed = true;
	return hash % items->slice_count;
}

static void
add_key(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	JanitorItems *items = arg;
	MemoryContext caller = MemoryContextSwitchTo(items->scratch);
	int			slice;

	MemoryContextReset(items->scratch);
	if (nulls[0])
		items->without_key++;
	else if (items->replay == NULL ||
			 janitor_replay_seeks(items->replay,
								  janitor_item_key_text(items->query,
														values[0])))
	{
		slice = place_key(items, values[0]);
		tuplestore_putvalues(items->slices[slice].keys, items->key_desc,
							 values, nulls);
		items->listed++;
	}
	MemoryContextSwitchTo(caller);
}

static void
make_stores(JanitorItems *items)
{
	int			kilobytes = Max(64, work_mem / items->slice_count);

	items->key_desc = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(items->key_desc, 1, "key", items->query->key_type,
					   -1, 0);
	items->key_slot = MakeSingleTupleTableSlot(items->key_desc,
											   &TTSOpsMinimalTuple);
	for (int i = 0; i < items->slice_count; i++)
		items->slices[i].keys = tuplestore_begin_heap(false, true, kilobytes);
}

/* Reads once and goes back, so that all of it is written. */
static void
finish_stores(JanitorItems *items)
{
	for (int i = 0; i < items->slice_count; i++)
	{
		(void) tuplestore_gettupleslot(items->slices[i].keys, true, false,
									   items->key_slot);
		ExecClearTuple(items->key_slot);
		tuplestore_rescan(items->slices[i].keys);
	}
}

void
janitor_items_list(JanitorItems *items)
{
	MemoryContext caller = MemoryContextSwitchTo(items->context);
	JanitorQuery *keys;

	load_known(items);
	make_stores(items);
	keys = janitor_query_prepare(items->query->keys, 0, NULL);
	(void) janitor_query_each(keys, NULL, NULL, 0, add_key, items);
	janitor_query_free(keys);
	finish_stores(items);
	MemoryContextSwitchTo(caller);
}

void
janitor_items_forget(JanitorItems *items)
{
	for (int i = 0; i < items->slice_count; i++)
	{
		if (items->slices[i].keys != NULL)
			tuplestore_end(items->slices[i].keys);
		items->slices[i].keys = NULL;
	}
}

bool
janitor_items_next_key(JanitorItems *items, JanitorItemSlice *slice,
					   Datum *key)
{
	bool		isnull;
	Form_pg_attribute type = TupleDescAttr(items->key_desc, 0);

	if (!tuplestore_gettupleslot(slice->keys, true, false, items->key_slot))
		return false;
	*key = datumCopy(slot_getattr(items->key_slot, 1, &isnull),
					 type->attbyval, type->attlen);
	ExecClearTuple(items->key_slot);
	return true;
}
