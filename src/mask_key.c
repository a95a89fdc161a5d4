/*-------------------------------------------------------------------------
 *
 * mask_key.c
 *	  Keys of the masking functions: making, using, forgetting them;
 *	  job_mask_create_key, job_mask_forget_key.
 *
 * Masking functions run for each row of whatever statement calls them, in any
 * backend or worker, also in read-only transactions and on standbys.  So the
 * secrets that a process has used are kept in its memory (the list `keys`,
 * in TopMemoryContext), and a call costs one HMAC, or none where it is for the
 * value that the one before was for.  The first use of a key in
 * a transaction takes a lock that whoever wants to forget a key has to wait
 * for (ledger_mask.c) and looks at the caller's rights; further ones compare
 * a few numbers.  Relcache invalidation of job_mask_secret wipes the secrets
 * from memory; they are read again when they are needed.  A process that is
 * idle learns of it when its next transaction begins.
 *
 * Who may use a key.  With a keyed mask and a guess at the original anybody
 * who sees the pseudonym can find out whether the guess is right.  Hence a
 * key has an owner, and only who may act for that role may use or forget it.
 * The key "default" belongs to all: it can be used by the statements of jobs,
 * the only place where a role without any right on pg_janitor needs it, and
 * elsewhere by roles that may make keys; superusers may forget it.
 *
 * On ERROR nothing is left to do: a key whose row could not be read has no
 * secret, and locks belong to the transaction.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "mask_key.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "ledger.h"
#include "run.h"
#include "session.h"
#include "siphash.h"

PG_FUNCTION_INFO_V1(job_mask_create_key);
PG_FUNCTION_INFO_V1(job_mask_forget_key);

/* Keys that belong to all: of masks, unless told otherwise; of receipts. */
#define DEFAULT_KEY "default"
#define RECEIPTS_KEY "receipts"

#define MAX_NAME_LENGTH 128

/*
 * What was asked for last: a rule first compares a column with its mask, and
 * then sets it.
 */
#define LAST_LENGTH 64
typedef struct LastDigest
{
	char		purpose;
	uint8		length;			/* 0: there is none */
	uint8		value[LAST_LENGTH];
	uint8		digest[JANITOR_DIGEST_LENGTH];
} LastDigest;

struct JanitorMaskKey
{
	char	   *name;
	size_t		name_length;
	bool		valid;			/* the rest is filled in */
	uint8		secret[JANITOR_SECRET_LENGTH];
	uint8		tag_key[JANITOR_SIPHASH_KEY_LENGTH];
	LastDigest	last;
	char	   *owner;			/* NULL: everybody's */
	Oid			owner_oid;

	/* for whom it was checked last, in which (sub)transaction, for a job? */
	LocalTransactionId lxid;
	SubTransactionId subxid;
	Oid			user;
	bool		for_job;
};

static List *keys = NIL;		/* of JanitorMaskKey */
static Oid	secrets_oid = InvalidOid;	/* job_mask_secret when last locked */
static bool callback_registered = false;

/* ------------------------------------------------------------------------
 * Digests
 * ------------------------------------------------------------------------
 */

void
janitor_mask_digest(JanitorMaskKey *key, char purpose,
					const void *data, size_t length, uint8 *digest)
{
	LastDigest *last = &key->last;

	if (length == 0 || length > LAST_LENGTH)
	{
		janitor_keyed_digest(key->secret, purpose, data, length, digest);
		return;
	}
	if (last->purpose != purpose || last->length != length ||
		memcmp(last->value, data, length) != 0)
	{
		last->length = 0;		/* until it is there */
		janitor_keyed_digest(key->secret, purpose, data, length,
							 last->digest);
		memcpy(last->value, data, length);
		last->purpose = purpose;
		last->length = length;
	}
	memcpy(digest, last->digest, JANITOR_DIGEST_LENGTH);
}

void
janitor_mask_tag(const JanitorMaskKey *key, char purpose,
				 const uint8 *data, size_t length,
				 uint8 *tag, size_t tag_length)
{
	uint8		input[32];
	uint64		hash;

	Assert(length < sizeof(input) && tag_length <= sizeof(hash));
	input[0] = (uint8) purpose;
	memcpy(input + 1, data, length);
	hash = janitor_siphash(key->tag_key, input, length + 1);
	for (size_t i = 0; i < tag_length; i++)
		tag[i] = (uint8) (hash >> (8 * i));
}

/* ------------------------------------------------------------------------
 * Using keys
 * ------------------------------------------------------------------------
 */

static void
wipe_key(JanitorMaskKey *key)
{
	explicit_bzero(key->secret, sizeof(key->secret));
	explicit_bzero(key->tag_key, sizeof(key->tag_key));
	explicit_bzero(&key->last, sizeof(key->last));
	key->valid = false;
}

/* Relcache invalidation.  Called in the middle of anything. */
static void
wipe_keys(Datum arg, Oid relid)
{
	ListCell   *cell;

	if (relid != InvalidOid && relid != secrets_oid)
		return;
	foreach(cell, keys)
		wipe_key(lfirst(cell));
}

static void
error_no_key(const char *name, JanitorMaskState state)
{
	char	   *again = psprintf("SELECT job_mask_create_key(%s, anew => true);",
								 quote_literal_cstr(name));

	if (state == JANITOR_MASK_FORGOTTEN)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("mask key \"%s\" has been forgotten", name),
				 errdetail("Its pseudonyms can be neither made nor recognized any more."),
				 errhint("Use a key of another name, or make a new one under this name: %s", again)));
	if (state == JANITOR_MASK_LOST)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the secret of mask key \"%s\" is not in this database",
						name),
				 errdetail("The key was made in the database that a dump was taken from. Dumps do not contain secrets."),
				 errhint("With a new key values get pseudonyms that they did not have before: %s", again)));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("mask key \"%s\" does not exist", name),
			 errhint("SELECT job_mask_create_key(%s);",
					 quote_literal_cstr(name))));
}

/* Is this role still the one that the key was made for? */
static bool
may_act_for(const char *owner, Oid owner_oid)
{
	char	   *name;

	if (superuser())
		return true;
	name = owner ? GetUserNameFromId(owner_oid, true) : NULL;
	return name != NULL && strcmp(name, owner) == 0 &&
		janitor_can_act_for(GetUserId(), owner_oid);
}

/* May the current user call job_mask_create_key()? */
static bool
may_make_keys(void)
{
	Oid			types[] = {TEXTOID, TEXTOID, BOOLOID};
	Oid			function;

	function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
							   CStringGetDatum("job_mask_create_key"),
							   PointerGetDatum(buildoidvector(types, 3)),
							   ObjectIdGetDatum(janitor_extension_schema()));
	return OidIsValid(function) &&
		janitor_function_aclcheck(function, GetUserId()) == ACLCHECK_OK;
}

static void
check_right(const char *name, const char *owner, Oid owner_oid, bool allowed)
{
	if (allowed)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for mask key \"%s\"", name),
			 owner ?
			 errdetail("It belongs to role \"%s\".", owner) :
			 errdetail("Outside the runs of jobs it is for roles that may define jobs; superusers may forget it.")));
}

/* Are these the statements of a job, run or looked at before they run? */
static bool
is_for_job(void)
{
	return janitor_current_run != NULL || janitor_acting_for(GetUserId());
}

static void
check_use(const JanitorMaskKey *key)
{
	check_right(key->name, key->owner, key->owner_oid,
				may_act_for(key->owner, key->owner_oid) ||
				(key->owner == NULL &&
				 (is_for_job() || may_make_keys())));
}

/* A new entry in our list, which is not valid yet. */
static JanitorMaskKey *
add_key(const char *name)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	JanitorMaskKey *key = palloc0(sizeof(JanitorMaskKey));

	key->name = pstrdup(name);
	key->name_length = strlen(name);
	keys = lcons(key, keys);
	MemoryContextSwitchTo(caller);
	return key;
}

/* Reads the key from its table. */
static void
load_key(JanitorMaskKey *key)
{
	JanitorMaskKeyRow row;
	uint8		digest[JANITOR_DIGEST_LENGTH];

	janitor_mask_key_find(key->name, &row);
	if (row.state != JANITOR_MASK_LIVE)
		error_no_key(key->name, row.state);
	if (key->owner)
		pfree(key->owner);
	key->owner = NULL;
	if (row.owner)
		key->owner = MemoryContextStrdup(TopMemoryContext, row.owner);
	key->owner_oid = row.owner_oid;

	memcpy(key->secret, row.secret, sizeof(key->secret));
	janitor_keyed_digest(key->secret, 't', NULL, 0, digest);
	memcpy(key->tag_key, digest, sizeof(key->tag_key));
	key->valid = true;
	explicit_bzero(&row, sizeof(row));
	explicit_bzero(digest, sizeof(digest));
}

/*
 * The first use in a subtransaction, or by another user.  The lock comes
 * first: afterwards what is in memory is as the tables are, invalidation
 * having been received, and the tables stay so.
 */
static void
attach_key(JanitorMaskKey *key)
{
	if (!callback_registered)
		CacheRegisterRelcacheCallback(wipe_keys, (Datum) 0);
	callback_registered = true;

	key->lxid = InvalidLocalTransactionId;
	secrets_oid = janitor_mask_hold_secrets();
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!key->valid)
			load_key(key);
		check_use(key);
	} while (!key->valid);		/* wiped while the catalogs were read */
	key->lxid = janitor_my_lxid();
	key->subxid = GetCurrentSubTransactionId();
	key->user = GetUserId();
	key->for_job = is_for_job();
}

static JanitorMaskKey *
find_key(const text *name)
{
	size_t		length = VARSIZE_ANY_EXHDR(name);
	ListCell   *cell;

	foreach(cell, keys)
	{
		JanitorMaskKey *key = lfirst(cell);

		if (key->name_length == length &&
			memcmp(key->name, VARDATA_ANY(name), length) == 0)
			return key;
	}
	return NULL;
}

JanitorMaskKey *
janitor_mask_key(const text *name)
{
	JanitorMaskKey *key = find_key(name);

	if (key && key->valid && key->lxid == janitor_my_lxid() &&
		key->subxid == GetCurrentSubTransactionId() &&
		key->user == GetUserId() && key->for_job == is_for_job())
		return key;

	if (key == NULL)
	{
		char	   *string = text_to_cstring(name);
		JanitorMaskKeyRow row;

		/* names of keys that do not exist must not fill our memory */
		janitor_mask_key_find(string, &row);
		explicit_bzero(row.secret, sizeof(row.secret));
		if (row.state != JANITOR_MASK_LIVE)
			error_no_key(string, row.state);
		key = add_key(string);
	}
	attach_key(key);
	return key;
}

/* ------------------------------------------------------------------------
 * Making and forgetting them
 * ------------------------------------------------------------------------
 */

static void
check_name(const char *name)
{
	size_t		length = strlen(name);
	bool		good = length >= 1 && length <= MAX_NAME_LENGTH;

	for (const char *c = name; *c; c++)
		good = good && (unsigned char) *c >= ' ' && *c != 0x7f;
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a mask key"),
				 errdetail("It must have 1 to %d bytes and no control characters.",
						   MAX_NAME_LENGTH)));
}

/* The role that a new key is for: by its name, or the current one. */
static Oid
new_owner(const char *name)
{
	Oid			owner = name ? get_role_oid(name, false) : GetUserId();

	if (!janitor_can_act_for(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to make a mask key for role \"%s\"",
						name)));
	return owner;
}

static void
create_key(const char *name, Oid owner)
{
	uint8		secret[JANITOR_SECRET_LENGTH];

	if (!pg_strong_random(secret, sizeof(secret)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	janitor_mask_key_insert(name,
							OidIsValid(owner) ?
							GetUserNameFromId(owner, false) : NULL,
							owner, secret);
	explicit_bzero(secret, sizeof(secret));
}

/* The newest state of a key, which nobody changes before we are done. */
static void
find_for_change(const char *name, JanitorMaskKeyRow *row)
{
	janitor_mask_lock_keys();
	janitor_mask_key_find(name, row);
	explicit_bzero(row->secret, sizeof(row->secret));
}

/* Of a key from elsewhere the OID means nothing here. */
static void
check_change(const char *name, const JanitorMaskKeyRow *row)
{
	Oid			owner_oid = row->owner_oid;

	if (row->state == JANITOR_MASK_LOST && row->owner)
		owner_oid = get_role_oid(row->owner, true);
	check_right(name, row->owner, owner_oid,
				may_act_for(row->owner, owner_oid));
}

/* job_mask_create_key(name text, owner text, anew boolean) returns boolean */
Datum
job_mask_create_key(PG_FUNCTION_ARGS)
{
	char	   *name;
	bool		anew = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	Oid			owner;
	JanitorMaskKeyRow row;

	janitor_prevent_misuse("job_mask_create_key()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "name")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	check_name(name);

	/* everybody's, hence not anybody's to make */
	if (strcmp(name, DEFAULT_KEY) == 0 || strcmp(name, RECEIPTS_KEY) == 0)
	{
		check_right(name, NULL, InvalidOid, superuser());
		owner = InvalidOid;
	}
	else
		owner = new_owner(PG_ARGISNULL(1) ? NULL :
						  text_to_cstring(PG_GETARG_TEXT_PP(1)));

	find_for_change(name, &row);
	if (row.state == JANITOR_MASK_LIVE)
	{
		check_change(name, &row);
		PG_RETURN_BOOL(false);
	}
	if (row.state != JANITOR_MASK_ABSENT && !anew)
		error_no_key(name, row.state);
	if (row.state == JANITOR_MASK_LOST)
	{
		check_change(name, &row);
		janitor_mask_key_forget(name);
	}
	create_key(name, owner);
	PG_RETURN_BOOL(true);
}

/* job_mask_forget_key(name text) returns void */
Datum
job_mask_forget_key(PG_FUNCTION_ARGS)
{
	char	   *name;
	JanitorMaskKeyRow row;

	janitor_prevent_misuse("job_mask_forget_key()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "name")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	find_for_change(name, &row);
	if (row.state == JANITOR_MASK_ABSENT)
		error_no_key(name, row.state);
	if (row.state != JANITOR_MASK_FORGOTTEN)
	{
		check_change(name, &row);
		janitor_mask_key_forget(name);
	}
	PG_RETURN_VOID();
}
