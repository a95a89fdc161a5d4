/*-------------------------------------------------------------------------
 *
 * digest.c
 *	  SHA-256, plain and keyed, by the server's own code.
 *
 * Runs in any process, inside a transaction or not.
 *
 * The server's contexts are made once per process and used again: making one
 * costs more than a digest.  A context is palloc'd or, with OpenSSL, remembered
 * by a resource owner, and would be gone with the transaction; ours are in
 * TopMemoryContext and get an owner of their own, which both live as long as the
 * process.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "digest.h"

#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

StaticAssertDecl(JANITOR_DIGEST_LENGTH == PG_SHA256_DIGEST_LENGTH,
				 "digests are those of SHA-256");

static pg_hmac_ctx *hmac = NULL;
static pg_cryptohash_ctx *hash = NULL;

static void
make_contexts(void)
{
	ResourceOwner caller = CurrentResourceOwner;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	CurrentResourceOwner = ResourceOwnerCreate(NULL, "pg_janitor digests");
	if (hmac == NULL)
		hmac = pg_hmac_create(PG_SHA256);
	if (hash == NULL)
		hash = pg_cryptohash_create(PG_SHA256);
	CurrentResourceOwner = caller;
	MemoryContextSwitchTo(old);
	if (hmac == NULL || hash == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
}

static void
check_hash(int result)
{
	if (result < 0)
		elog(ERROR, "could not compute SHA-256: %s",
			 pg_cryptohash_error(hash));
}

void
janitor_digest_begin(void)
{
	if (hash == NULL)
		make_contexts();
	check_hash(pg_cryptohash_init(hash));
}

void
janitor_digest_add(const void *data, size_t length)
{
	check_hash(pg_cryptohash_update(hash, data, length));
}

void
janitor_digest_end(uint8 *digest)
{
	check_hash(pg_cryptohash_final(hash, digest, JANITOR_DIGEST_LENGTH));
}

void
janitor_keyed_digest(const uint8 *secret, char purpose, const void *data,
					 size_t length, uint8 *digest)
{
	if (hmac == NULL)
		make_contexts();
	if (pg_hmac_init(hmac, secret, JANITOR_SECRET_LENGTH) < 0 ||
		pg_hmac_update(hmac, (const uint8 *) &purpose, 1) < 0 ||
		pg_hmac_update(hmac, data, length) < 0 ||
		pg_hmac_final(hmac, digest, JANITOR_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute HMAC: %s", pg_hmac_error(hmac));
}
