/*-------------------------------------------------------------------------
 *
 * receipt.h
 *	  Proofs of erasures, without personal data: a chain for each job.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RECEIPT_H
#define JANITOR_RECEIPT_H

#include "ledger.h"

/* A key of receipts: in memory no longer than it takes to use it. */
typedef struct JanitorReceiptKey
{
	uint8		id[JANITOR_KEY_ID_LENGTH];
	uint8		secret[JANITOR_SECRET_LENGTH];
} JanitorReceiptKey;

/*
 * The key for new receipts, which stays as it is until the end of the
 * transaction.  Made if there is none.  To be wiped by the caller.
 */
extern void janitor_receipt_key(JanitorReceiptKey *key);

/* The digest of a subject: what a receipt calls it. */
extern void janitor_receipt_digest(const JanitorReceiptKey *key,
								   const char *job_name,
								   const char *item_key, uint8 *digest);

/* A digest or hash as people write it down; palloc'd. */
extern char *janitor_receipt_hex(const uint8 *digest);

/* The hash of a receipt: of all its columns but number and hash. */
extern void janitor_receipt_hash(const JanitorReceipt *receipt, uint8 *hash);

/*
 * Nobody else appends to the job's chain until the end of the transaction,
 * which should be near.
 */
extern void janitor_receipt_lock(const char *job_name);

/*
 * Appends receipts to the chain of a job, under that lock: sets their number,
 * previous and hash.
 */
extern void janitor_receipts_append(const char *job_name,
									JanitorReceipt *receipts, int count);

/* What became of one chain. */
typedef struct JanitorChainReport
{
	char	   *job_name;
	int64		receipts;		/* up to the last that is good */
	uint8		head[JANITOR_DIGEST_LENGTH];	/* the hash of that */
	int64		broken_at;		/* 0: it is intact */
	char	   *problem;		/* what is wrong there; NULL: nothing */
} JanitorChainReport;

/*
 * Checks the chain of a job, against its hashes and against the heads that
 * the results of its runs have noted.
 */
extern JanitorChainReport *janitor_receipts_verify(const char *job_name);

/* What a run's result calls the length of the chain, and its last hash. */
#define JANITOR_RESULT_RECEIPTS "receipts"
#define JANITOR_RESULT_HEAD "receipts_head"

#endif							/* JANITOR_RECEIPT_H */
