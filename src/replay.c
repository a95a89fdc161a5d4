/*-------------------------------------------------------------------------
 *
 * replay.c
 *	  Who has to be erased again after a restore.
 *
 * Receipts are committed with the erasures that they prove.  So a receipt that
 * came with the data of a backup is older than these data, and one that had to
 * be imported afterwards is newer: its subject is there again.  job_replay
 * says which these are.
 *
 * Whom they are about, receipts do not say.  It is found out by digesting the
 * keys of all who may be meant.  The items query does not name these, as a
 * request to be forgotten may be newer than the backup; so there is a query for
 * all subjects.  Its rows take the place of items, hence have to have their
 * columns, but for `due`.  Where the job has no such query, it is all rows of
 * the table that the key of its items comes from, or refers to, if the key is
 * all that there is in an item.
 *
 * A replay can be repeated: who has a receipt that is newer than those to be
 * replayed has been erased again.
 *
 * Runs in the worker of a replay, and as the owner of the job when it is
 * defined; what reads receipts also in the backend of whoever asks for a
 * replay.  It takes 32 bytes for each, and some for the table of hashes.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "replay.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "coverage.h"
#include "item.h"
#include "rule.h"

#define HINT_SUBJECTS \
	"Say with the option \"subjects\" who may ever be an item: SELECT job_alter(%s, '{\"subjects\": \"SELECT ...\"}');"

/* --- who may be a subject --- */

static void
refuse(const JanitorJob *job, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("it is not known who may be a subject of job \"%s\"",
					job->name),
			 errdetail("%s", detail),
			 errhint(HINT_SUBJECTS, quote_literal_cstr(job->name))));
}

static bool
has_column(const List *columns, const char *name)
{
	ListCell   *cell;

	foreach(cell, columns)
		if (strcmp(lfirst(cell), name) == 0)
		return true;
	return false;
}

/* A column of the items that somebody else's row does not have. */
static const char *
column_beyond(const JanitorItemsQuery *items, const List *columns)
{
	ListCell   *cell;

	foreach(cell, items->columns)
		if (strcmp(lfirst(cell), "due") != 0 &&
			!has_column(columns, lfirst(cell)))
		return lfirst(cell);
	return NULL;
}

/* All rows of the table that the items are about. */
static const char *
whole_table(const JanitorJob *job)
{
	JanitorItemsQuery *items = janitor_items_query(job->items, "items query",
												   job->name);
	const char *beyond = column_beyond(items, list_make1(items->key_name));
	AttrNumber	attno;
	Oid			relid = janitor_coverage_key_of(job, &attno);

	if (beyond != NULL)
		refuse(job, psprintf("Its items have a column \"%s\" besides their key.",
							 beyond));
	if (!OidIsValid(relid))
		refuse(job, "The first column of its items query is no column of a table.");
	return psprintf("SELECT r.%s AS %s FROM %s r",
					quote_identifier(get_attname(relid, attno, false)),
					quote_identifier(items->key_name),
					janitor_relation_name(relid));
}

const char *
janitor_replay_query(const JanitorJob *job)
{
	return job->subjects ? job->subjects : whole_table(job);
}

static void
check_stands_for(const JanitorJob *job, const JanitorItemsQuery *subjects,
				 const JanitorItemsQuery *items)
{
	const char *beyond = column_beyond(items, subjects->columns);

	if (subjects->key_type != items->key_type ||
		strcmp(subjects->key_name, items->key_name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the first column of the subjects of job \"%s\" is \"%s\" of type %s, that of its items \"%s\" of type %s",
						job->name, subjects->key_name,
						format_type_be(subjects->key_type), items->key_name,
						format_type_be(items->key_type)),
				 errdetail("A subject is found by the key that it had as an item.")));
	if (beyond != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("the subjects of job \"%s\" have no column \"%s\"",
						job->name, beyond),
				 errdetail("Its rules and command see the row of a subject as they see that of an item.")));
}

void
janitor_replay_check(const JanitorJob *job)
{
	JanitorItemsQuery *subjects =
	janitor_items_query(janitor_replay_query(job), "subjects query",
						job->name);

	check_stands_for(job, subjects,
					 janitor_items_query(job->items, "items query",
										 job->name));
	janitor_items_query_check(subjects, "subjects query", job->name);
}

/* --- whom to look for --- */

static bool
is_pending(const JanitorReplaySet *set, int64 number)
{
	ListCell   *cell;

	foreach(cell, set->replays)
	{
		const JanitorReplay *replay = lfirst(cell);

		if (number >= replay->first && number <= replay->last)
			return true;
	}
	return false;
}

static void
load_key(const JanitorReplaySet *set, const uint8 *id, JanitorReceiptKey *key)
{
	Datum		uuid = UUIDPGetDatum((const pg_uuid_t *) id);

	memcpy(key->id, id, JANITOR_KEY_ID_LENGTH);
	if (!janitor_mask_secret_find(id, key->secret))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("receipts of job \"%s\" were made with a key that is not in this database",
						set->job_name),
				 errdetail("It is key %s.",
						   DatumGetCString(DirectFunctionCall1(uuid_out,
															   uuid))),
				 errhint("Unless it was forgotten, copy its row of job_mask_secret from where they were made.")));
}

/* One is enough for very many receipts. */
static void
note_key(JanitorReplaySet *set, const uint8 *id)
{
	MemoryContext caller;
	JanitorReceiptKey *key;
	ListCell   *cell;

	foreach(cell, set->keys)
		if (memcmp(((JanitorReceiptKey *) lfirst(cell))->id, id,
				   JANITOR_KEY_ID_LENGTH) == 0)
		return;
	caller = MemoryContextSwitchTo(GetMemoryChunkContext(set));
	key = palloc(sizeof(JanitorReceiptKey));
	load_key(set, id, key);
	set->keys = lappend(set->keys, key);
	MemoryContextSwitchTo(caller);
}

/* The last receipt of a subject decides. */
static bool
read_receipt(const JanitorReceipt *receipt, void *arg)
{
	JanitorReplaySet *set = arg;
	bool		pending = is_pending(set, receipt->number);

	(void) hash_search(set->sought, receipt->subject,
					   pending ? HASH_ENTER : HASH_REMOVE, NULL);
	if (pending)
		note_key(set, receipt->key_id);
	return true;
}

JanitorReplaySet *
janitor_replay_read(const char *job_name)
{
	JanitorReplaySet *set = palloc0(sizeof(JanitorReplaySet));
	HASHCTL		control = {
		.keysize = JANITOR_DIGEST_LENGTH,.entrysize = JANITOR_DIGEST_LENGTH,
		.hcxt = CurrentMemoryContext
	};
	int64		first = PG_INT64_MAX;
	ListCell   *cell;

	set->job_name = pstrdup(job_name);
	set->replays = janitor_replays_pending(job_name);
	set->sought = hash_create("pg_janitor subjects erased before", 1024,
							  &control,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	foreach(cell, set->replays)
		first = Min(first, ((JanitorReplay *) lfirst(cell))->first);
	if (set->replays != NIL)
		janitor_receipt_scan(job_name, first, read_receipt, set);
	return set;
}

bool
janitor_replay_seeks(const JanitorReplaySet *set, const char *item_key)
{
	ListCell   *cell;

	foreach(cell, set->keys)
	{
		uint8		digest[JANITOR_DIGEST_LENGTH];

		janitor_receipt_digest(lfirst(cell), set->job_name, item_key, digest);
		if (hash_search(set->sought, digest, HASH_FIND, NULL) != NULL)
			return true;
	}
	return false;
}

void
janitor_replay_wipe(JanitorReplaySet *set)
{
	ListCell   *cell;

	foreach(cell, set->keys)
		explicit_bzero(lfirst(cell), sizeof(JanitorReceiptKey));
	set->keys = NIL;
}

void
janitor_replay_done(const JanitorReplaySet *set, int64 execution_id)
{
	ListCell   *cell;

	foreach(cell, set->replays)
		janitor_replay_finish(((JanitorReplay *) lfirst(cell))->id,
							  execution_id);
}
