/*-------------------------------------------------------------------------
 *
 * receipt.c
 *	  Proofs of erasures, without personal data: a chain for each job.
 *
 * A receipt says that a subject was erased, by which run, how many rows of
 * which tables, under which rules, and whether they were looked at again.  Whom
 * it is about only the holder of a key can tell, who knows for whom to look:
 * the subject is a keyed digest of its key.  Once the key is forgotten
 * (job_mask_forget_key), a receipt says that somebody was erased.
 *
 * Each holds the hash of the one before it, so that none can be changed, left
 * out or put elsewhere without a trace in those that follow; and the results
 * of runs hold the hash of the last, so that these cannot go unnoticed either.
 * Hashes are not keyed: everybody can check them, also those of a restored
 * dump, in which there are no secrets.  Whoever can write our tables can write
 * a whole chain anew, with all results; against that only a head helps that
 * was noted outside.
 *
 * The lock.  A link needs the hash of the one before, hence that one's commit.
 * Each appends under a lock of the job's chain, an advisory lock tag of a class
 * that the server does not use (see definition.c), which goes with the
 * transaction.  The worker takes it last, when everything for its items is
 * done and deferred constraints have been checked, so what is done under it
 * are the insert and the commit; workers that share a run do all else at the
 * same time.  Whoever waits for it waits for somebody who waits for nothing.
 *
 * What is hashed and digested is UTF-8 whatever the encoding of the database,
 * so that it can be checked wherever it is restored.
 *
 * Runs in the worker, and in functions that verify, find and import receipts.
 * Secrets are in memory only while they are used.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "receipt.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "chain.h"
#include "definition.h"
#include "object.h"

StaticAssertDecl(JANITOR_CHAIN_HASH == JANITOR_DIGEST_LENGTH,
				 "the hashes of chains are SHA-256");

/* What the key of receipts is called among those of masks. */
#define KEY_NAME "receipts"

/* Sets these digests apart from those of masks with the same secret. */
#define PURPOSE 'r'

#define CHAIN_LOCK_CLASS 9		/* see JOB_LOCK_CLASS in definition.c */

#define UNIX_EPOCH ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* --- keys and digests --- */

static void
make_key(void)
{
	uint8		secret[JANITOR_SECRET_LENGTH];

	if (!pg_strong_random(secret, sizeof(secret)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	janitor_mask_key_insert(KEY_NAME, NULL, InvalidOid, secret);
	explicit_bzero(secret, sizeof(secret));
}

void
janitor_receipt_key(JanitorReceiptKey *key)
{
	if (janitor_mask_key_newest(KEY_NAME, key->id, key->secret))
		return;
	janitor_mask_lock_keys();
	if (janitor_mask_key_newest(KEY_NAME, key->id, key->secret))
		return;
	make_key();
	if (!janitor_mask_key_newest(KEY_NAME, key->id, key->secret))
		elog(ERROR, "the key of receipts is gone");
}

/* The same text, of a database of any encoding. */
static char *
to_utf8(char *text)
{
	return pg_server_to_any(text, strlen(text), PG_UTF8);
}

void
janitor_receipt_digest(const JanitorReceiptKey *key, const char *job_name,
					   const char *item_key, uint8 *digest)
{
	char	   *text = to_utf8(psprintf("%s\n%s", job_name, item_key));

	janitor_keyed_digest(key->secret, PURPOSE, text, strlen(text), digest);
	pfree(text);
}

/* --- hashes --- */

char *
janitor_receipt_hex(const uint8 *digest)
{
	char	   *text = palloc(2 * JANITOR_DIGEST_LENGTH + 1);

	text[hex_encode((const char *) digest, JANITOR_DIGEST_LENGTH, text)] = '\0';
	return text;
}

static char *
key_id_text(const uint8 *id)
{
	Datum		uuid = UUIDPGetDatum((const pg_uuid_t *) id);

	return DatumGetCString(DirectFunctionCall1(uuid_out, uuid));
}

/* Microseconds since 1970. */
static int64
unix_time(TimestampTz time)
{
	return TIMESTAMP_NOT_FINITE(time) ? 0 : time + UNIX_EPOCH;
}

/*
 * What is in it, one column a line.  The README spells this out as SQL, for
 * whoever wants to check a chain without us.
 */
void
janitor_receipt_hash(const JanitorReceipt *receipt, uint8 *hash)
{
	StringInfoData text;
	char	   *utf8;

	initStringInfo(&text);
	appendStringInfo(&text, "%s\n" INT64_FORMAT "\n" INT64_FORMAT "\n%s\n%s\n",
					 receipt->job_name, receipt->execution_id,
					 unix_time(receipt->erased_at),
					 janitor_receipt_hex(receipt->subject),
					 key_id_text(receipt->key_id));
	(void) JsonbToCString(&text, &receipt->rows->root,
						  VARSIZE(receipt->rows));
	appendStringInfo(&text, "\n%s\n%d", receipt->verified ? "true" : "false",
					 receipt->policy_version);

	utf8 = to_utf8(text.data);
	janitor_digest_begin();
	janitor_digest_add(receipt->previous, JANITOR_DIGEST_LENGTH);
	janitor_digest_add(utf8, strlen(utf8));
	janitor_digest_end(hash);
}

/* --- appending --- */

void
janitor_receipt_lock(const char *job_name)
{
	uint64		hash = janitor_job_hash(job_name);
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32),
						 (uint32) hash, CHAIN_LOCK_CLASS);
	tag.locktag_lockmethodid = DEFAULT_LOCKMETHOD;
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
janitor_receipts_append(const char *job_name, JanitorReceipt *receipts,
						int count)
{
	JanitorReceipt last = {0};
	const JanitorReceipt *before = &last;

	(void) janitor_receipt_last(job_name, &last);
	for (int i = 0; i < count; i++)
	{
		receipts[i].number = before->number + 1;
		memcpy(receipts[i].previous, before->hash, JANITOR_DIGEST_LENGTH);
		janitor_receipt_hash(&receipts[i], receipts[i].hash);
		before = &receipts[i];
	}
	janitor_receipts_insert(receipts, count);
}

/* --- verifying --- */

/* The head of a chain as the result of a run has it. */
typedef struct NotedHead
{
	int64		execution_id;
	int64		number;
	char	   *hash;			/* in hex */
} NotedHead;

typedef struct Verification
{
	JanitorChainReport *report;
	JanitorChain chain;
	List	   *heads;			/* of NotedHead */
	int			compared;		/* so many of them */
} Verification;

static bool
note_head(JanitorExecution *execution, void *arg)
{
	Verification *verification = arg;
	char	   *number = janitor_object_get_text(execution->result,
												 JANITOR_RESULT_RECEIPTS);
	char	   *hash = janitor_object_get_text(execution->result,
											   JANITOR_RESULT_HEAD);
	NotedHead  *head;

	if (number == NULL || hash == NULL)
		return true;
	head = palloc(sizeof(NotedHead));
	head->execution_id = execution->id;
	head->number = strtoi64(number, NULL, 10);
	head->hash = hash;
	verification->heads = lappend(verification->heads, head);
	return true;
}

static int
compare_heads(const ListCell *a, const ListCell *b)
{
	const NotedHead *left = lfirst(a);
	const NotedHead *right = lfirst(b);

	return left->number < right->number ? -1 : left->number > right->number;
}

static void
break_at(Verification *verification, int64 number, char *problem)
{
	MemoryContext context = GetMemoryChunkContext(verification->report);

	verification->report->broken_at = number;
	verification->report->problem = MemoryContextStrdup(context, problem);
}

typedef struct Predecessor
{
	const uint8 *hash;
	int64		number;			/* 0: there is none */
} Predecessor;

static bool
is_predecessor(const JanitorReceipt *receipt, void *arg)
{
	Predecessor *wanted = arg;

	if (memcmp(receipt->hash, wanted->hash, JANITOR_DIGEST_LENGTH) != 0)
		return true;
	wanted->number = receipt->number;
	return false;
}

/* It does not follow the one before it; which one, then? */
static char *
describe_detached(const JanitorReceipt *receipt)
{
	Predecessor wanted = {receipt->previous, 0};

	janitor_receipt_scan(receipt->job_name, 1, is_predecessor, &wanted);
	return wanted.number == 0 ?
		"missing: the receipt that it follows is not there" :
		psprintf("reordered: it follows receipt " INT64_FORMAT,
				 wanted.number);
}

static void
note_fault(Verification *verification, const JanitorReceipt *receipt,
		   JanitorChainFault fault)
{
	int64		next = verification->chain.number + 1;

	switch (fault)
	{
		case JANITOR_CHAIN_GAP:
			break_at(verification, next,
					 next == receipt->number - 1 ? "missing" :
					 psprintf("missing, up to " INT64_FORMAT,
							  receipt->number - 1));
			break;
		case JANITOR_CHAIN_REPEATED:
			break_at(verification, receipt->number, "there twice");
			break;
		case JANITOR_CHAIN_ALTERED:
			break_at(verification, receipt->number, "altered");
			break;
		case JANITOR_CHAIN_DETACHED:
			break_at(verification, receipt->number,
					 describe_detached(receipt));
			break;
		case JANITOR_CHAIN_INTACT:
			break;
	}
}

/* Those who noted the head of the chain when it ended here. */
static void
compare_noted(Verification *verification)
{
	while (verification->compared < list_length(verification->heads))
	{
		const NotedHead *head = list_nth(verification->heads,
										 verification->compared);

		if (head->number > verification->chain.number)
			return;
		if (strcmp(head->hash,
				   janitor_receipt_hex(verification->chain.hash)) != 0)
		{
			break_at(verification, head->number,
					 psprintf("altered: execution " INT64_FORMAT " has noted another hash",
							  head->execution_id));
			return;
		}
		verification->compared++;
	}
}

static bool
follow(const JanitorReceipt *receipt, void *arg)
{
	Verification *verification = arg;
	uint8		computed[JANITOR_DIGEST_LENGTH];
	JanitorChainLink link = {receipt->number, receipt->previous,
	receipt->hash, computed};
	JanitorChain before = verification->chain;
	JanitorChainFault fault;

	janitor_receipt_hash(receipt, computed);
	fault = janitor_chain_follow(&verification->chain, &link);
	if (fault == JANITOR_CHAIN_INTACT)
		compare_noted(verification);
	else
		note_fault(verification, receipt, fault);
	if (verification->report->problem == NULL)
		return true;
	verification->chain = before;
	return false;
}

JanitorChainReport *
janitor_receipts_verify(const char *job_name)
{
	JanitorChainReport *report = palloc0(sizeof(JanitorChainReport));
	Verification verification = {report};

	report->job_name = pstrdup(job_name);
	janitor_execution_scan(job_name, note_head, &verification);
	list_sort(verification.heads, compare_heads);
	janitor_receipt_scan(job_name, 1, follow, &verification);
	report->receipts = verification.chain.number;
	memcpy(report->head, verification.chain.hash, JANITOR_DIGEST_LENGTH);
	if (report->problem == NULL &&
		verification.compared < list_length(verification.heads))
	{
		const NotedHead *head = llast(verification.heads);

		break_at(&verification, report->receipts + 1,
				 psprintf("missing, up to " INT64_FORMAT ", which execution " INT64_FORMAT " has noted",
						  head->number, head->execution_id));
	}
	return report;
}
