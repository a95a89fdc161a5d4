/*-------------------------------------------------------------------------
 *
 * ledger_mask.c
 *	  job_mask_key and job_mask_secret: the keys of the masking functions.
 *
 * What is known of a key and its secret are two tables, since pg_dump is to
 * carry the one and never the other.  A key whose row is here and whose
 * secret is not was made in the database that the dump came from: it is lost,
 * and masking with it an error, until somebody asks for a new one under its
 * name.  So a restored database never goes on with other pseudonyms unnoticed,
 * and knows what was forgotten.  One name may have several rows for the same
 * reason: the one that CREATE EXTENSION made, those that the dump brought,
 * those that were forgotten; ids, which are random, tell them apart.
 *
 * Forgetting has to destroy.  A deleted or replaced row stays in its page
 * until something overwrites it, so job_mask_secret is truncated, which gives
 * it a new file, and the other secrets are inserted again.  That is as
 * transactional as anything, and the old file goes with the commit; what is
 * left are WAL, standbys and backups.  It needs an AccessExclusiveLock, and
 * whoever works with a secret holds a RowShareLock to the end of its
 * transaction: once a key is forgotten, nobody works with it any more.  It
 * also sends relcache invalidation, which empties the caches of others.
 *
 * Because of these locks no row moves while it is looked for, and a miss needs
 * no second look under a fresh snapshot (see ledger.c), which parallel mode
 * would refuse.
 *
 * See ledger.c for how rows are found, locked and written.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "commands/tablecmds.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* ------------------------------------------------------------------------
 * Secrets
 * ------------------------------------------------------------------------
 */

Oid
janitor_mask_hold_secrets(void)
{
	JanitorTable table = janitor_table_open(JANITOR_MASK_SECRET, RowShareLock);
	Oid			oid = RelationGetRelid(table.rel);

	janitor_table_close(&table);
	return oid;
}

static bool
read_secret(JanitorTable *table, HeapTuple tuple, void *arg)
{
	JanitorRow	row;
	bytea	   *secret;

	janitor_row_load(&row, table, tuple);
	secret = DatumGetByteaPP(row.values[Anum_mask_secret_secret - 1]);
	if (VARSIZE_ANY_EXHDR(secret) != JANITOR_SECRET_LENGTH)
		elog(ERROR, "malformed row in job_mask_secret");
	memcpy(arg, VARDATA_ANY(secret), JANITOR_SECRET_LENGTH);
	return false;
}

/* false: there is none in this database */
static bool
find_secret(Datum id, uint8 *secret)
{
	JanitorTable table = janitor_table_open(JANITOR_MASK_SECRET, RowShareLock);
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, Anum_mask_secret_id, BTEqualStrategyNumber, F_UUID_EQ,
				id);
	found = !janitor_table_scan(&table, JANITOR_MASK_SECRET_PKEY, SnapshotSelf,
								ForwardScanDirection, 1, &key,
								read_secret, secret);
	janitor_table_close(&table);
	return found;
}

static void
insert_secret(JanitorTable *table, Datum id, const uint8 *secret)
{
	bytea	   *value = palloc(VARHDRSZ + JANITOR_SECRET_LENGTH);
	JanitorRow	row;
	HeapTuple	tuple;

	SET_VARSIZE(value, VARHDRSZ + JANITOR_SECRET_LENGTH);
	memcpy(VARDATA(value), secret, JANITOR_SECRET_LENGTH);
	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_mask_secret_id, id);
	janitor_row_set(&row, Anum_mask_secret_secret, PointerGetDatum(value));
	tuple = janitor_row_insert(table, &row);
	explicit_bzero(tuple->t_data, tuple->t_len);
	explicit_bzero(value, VARSIZE(value));
}

static bool
keep_copy(JanitorTable *table, HeapTuple tuple, void *arg)
{
	List	  **copies = arg;

	*copies = lappend(*copies, heap_copytuple(tuple));
	return true;
}

/* Writes the table anew without the secrets of these keys (uuids). */
static void
rewrite_secrets(List *forgotten)
{
	JanitorTable table = janitor_table_open(JANITOR_MASK_SECRET,
											AccessExclusiveLock);
	List	   *copies = NIL;
	ListCell   *cell;

	CheckTableNotInUse(table.rel, "TRUNCATE");
	(void) janitor_table_scan(&table, JANITOR_MASK_SECRET_PKEY, SnapshotSelf,
							  ForwardScanDirection, 0, NULL,
							  keep_copy, &copies);
	janitor_truncate(table.rel);
	foreach(cell, copies)
	{
		HeapTuple	tuple = lfirst(cell);
		JanitorRow	row;
		Datum		id;
		bool		goes = false;
		ListCell   *other;

		janitor_row_load(&row, &table, tuple);
		id = row.values[Anum_mask_secret_id - 1];
		foreach(other, forgotten)
			goes = goes || memcmp(lfirst(other), DatumGetUUIDP(id),
								  UUID_LEN) == 0;
		if (!goes)
			(void) janitor_row_insert(&table, &row);
		explicit_bzero(tuple->t_data, tuple->t_len);
	}
	janitor_table_close(&table);
}

/* ------------------------------------------------------------------------
 * Keys
 * ------------------------------------------------------------------------
 */

void
janitor_mask_lock_keys(void)
{
	JanitorTable table = janitor_table_open(JANITOR_MASK_KEY,
											ShareRowExclusiveLock);

	janitor_table_close(&table);
}

/* Visits the rows of one name. */
static void
scan_keys(JanitorTable *table, const char *name, JanitorVisit visit, void *arg)
{
	ScanKeyData key;

	janitor_key_text(&key, Anum_mask_key_name, name);
	(void) janitor_table_scan(table, JANITOR_MASK_KEY_PKEY, SnapshotSelf,
							  ForwardScanDirection, 1, &key, visit, arg);
}

/* One that is lost decides for its name; then one that is live. */
static bool
consider_key(JanitorTable *table, HeapTuple tuple, void *arg)
{
	JanitorMaskKeyRow *key = arg;
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	if (!row.nulls[Anum_mask_key_forgotten_at - 1])
	{
		if (key->state == JANITOR_MASK_ABSENT)
			key->state = JANITOR_MASK_FORGOTTEN;
		return true;
	}
	key->owner = janitor_row_text(&row, Anum_mask_key_owner);
	key->owner_oid = row.nulls[Anum_mask_key_owner_oid - 1] ? InvalidOid :
		DatumGetObjectId(row.values[Anum_mask_key_owner_oid - 1]);
	key->state = find_secret(row.values[Anum_mask_key_id - 1], key->secret) ?
		JANITOR_MASK_LIVE : JANITOR_MASK_LOST;
	return key->state != JANITOR_MASK_LOST;
}

bool
janitor_mask_secret_find(const uint8 *id, uint8 *secret)
{
	return find_secret(UUIDPGetDatum((const pg_uuid_t *) id), secret);
}

/* The key that was made last, as far as we have come. */
typedef struct NewestKey
{
	TimestampTz created_at;		/* DT_NOBEGIN: none yet */
	uint8	   *id;
	uint8	   *secret;
} NewestKey;

static bool
consider_newest(JanitorTable *table, HeapTuple tuple, void *arg)
{
	NewestKey  *newest = arg;
	JanitorRow	row;
	TimestampTz created_at;
	Datum		id;

	janitor_row_load(&row, table, tuple);
	created_at = janitor_row_time(&row, Anum_mask_key_created_at);
	id = row.values[Anum_mask_key_id - 1];
	if (row.nulls[Anum_mask_key_forgotten_at - 1] &&
		created_at > newest->created_at && find_secret(id, newest->secret))
	{
		newest->created_at = created_at;
		memcpy(newest->id, DatumGetUUIDP(id), UUID_LEN);
	}
	return true;
}

bool
janitor_mask_key_newest(const char *name, uint8 *id, uint8 *secret)
{
	JanitorTable table = janitor_table_open(JANITOR_MASK_KEY, AccessShareLock);
	NewestKey	newest = {DT_NOBEGIN, id, secret};

	scan_keys(&table, name, consider_newest, &newest);
	janitor_table_close(&table);
	return newest.created_at != DT_NOBEGIN;
}

void
janitor_mask_key_find(const char *name, JanitorMaskKeyRow *key)
{
	JanitorTable table = janitor_table_open(JANITOR_MASK_KEY, AccessShareLock);

	memset(key, 0, sizeof(*key));
	key->state = JANITOR_MASK_ABSENT;
	scan_keys(&table, name, consider_key, key);
	janitor_table_close(&table);
}

/* A new uuid, of version 4. */
static Datum
random_uuid(void)
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	if (!pg_strong_random(uuid->data, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	uuid->data[6] = (uuid->data[6] & 0x0f) | 0x40;
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
	return UUIDPGetDatum(uuid);
}

void
janitor_mask_key_insert(const char *name, const char *owner, Oid owner_oid,
						const uint8 *secret)
{
	JanitorTable table = janitor_table_open(JANITOR_MASK_KEY,
											RowExclusiveLock);
	JanitorTable secrets = janitor_table_open(JANITOR_MASK_SECRET,
											  RowExclusiveLock);
	Datum		id = random_uuid();
	JanitorRow	row;

	insert_secret(&secrets, id, secret);
	janitor_row_clear(&row);
	janitor_row_set_text(&row, Anum_mask_key_name, name);
	janitor_row_set(&row, Anum_mask_key_id, id);
	if (owner)
	{
		janitor_row_set_text(&row, Anum_mask_key_owner, owner);
		janitor_row_set(&row, Anum_mask_key_owner_oid,
						ObjectIdGetDatum(owner_oid));
	}
	janitor_row_set_text(&row, Anum_mask_key_created_by,
						 GetUserNameFromId(GetSessionUserId(), false));
	janitor_row_set_time(&row, Anum_mask_key_created_at,
						 GetCurrentTimestamp());
	(void) janitor_row_insert(&table, &row);

	/* should this be rolled back, we must not keep what was never made */
	CacheInvalidateRelcacheByRelid(RelationGetRelid(secrets.rel));
	janitor_table_close(&secrets);
	janitor_table_close(&table);
}

static void
mark_forgotten(JanitorTable *table, HeapTuple old)
{
	JanitorRow	row;

	if (janitor_row_lock(table, &old->t_self,
						 HeapTupleHeaderGetRawXmin(old->t_data), 0,
						 LockWaitBlock, NULL) != JANITOR_LOCKED)
		elog(ERROR, "a row of job_mask_key was changed in spite of its lock");
	janitor_row_clear(&row);
	janitor_row_set_text(&row, Anum_mask_key_forgotten_by,
						 GetUserNameFromId(GetSessionUserId(), false));
	janitor_row_set_time(&row, Anum_mask_key_forgotten_at,
						 GetCurrentTimestamp());
	(void) janitor_row_update(table, old, &row);
}

/* The caller has made sure that there is one, under janitor_mask_lock_keys. */
void
janitor_mask_key_forget(const char *name)
{
	JanitorTable table = janitor_table_open(JANITOR_MASK_KEY,
											RowExclusiveLock);
	List	   *copies = NIL;
	List	   *forgotten = NIL;
	ListCell   *cell;

	scan_keys(&table, name, keep_copy, &copies);
	foreach(cell, copies)
	{
		HeapTuple	tuple = lfirst(cell);
		JanitorRow	row;

		janitor_row_load(&row, &table, tuple);
		if (!row.nulls[Anum_mask_key_forgotten_at - 1])
			continue;
		forgotten = lappend(forgotten,
							DatumGetUUIDP(row.values[Anum_mask_key_id - 1]));
		mark_forgotten(&table, tuple);
	}
	rewrite_secrets(forgotten);
	janitor_table_close(&table);
}
