/*-------------------------------------------------------------------------
 *
 * api_receipt.c
 *	  SQL functions for receipts: job_receipt_verify, job_receipt_find.
 *
 * Run in the caller's backend and transaction.  Chains can be checked by
 * whoever may see the job.  Whether a certain subject is among the erased is
 * for those to know who may act for the owner of the job: he could look for it
 * himself before it was erased.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "item.h"
#include "receipt.h"
#include "session.h"

PG_FUNCTION_INFO_V1(job_receipt_verify);
PG_FUNCTION_INFO_V1(job_receipt_find);

static Datum
bytes_datum(const uint8 *bytes, int length)
{
	bytea	   *value = palloc(VARHDRSZ + length);

	SET_VARSIZE(value, VARHDRSZ + length);
	memcpy(VARDATA(value), bytes, length);
	return PointerGetDatum(value);
}

/* --- job_receipt_verify --- */

#define VERIFY_COLUMNS 6

/* Chains outlive their jobs; then they are for those who see all jobs. */
static bool
is_visible(const char *job_name)
{
	JanitorJob *job = janitor_job_load(job_name);

	if (job != NULL)
		return janitor_job_visible(job);
	return superuser() ||
		pg_class_aclcheck(janitor_relation(JANITOR_RECEIPT), GetUserId(),
						  ACL_SELECT) == ACLCHECK_OK;
}

static void
note_items_job(HeapTuple tuple, void *arg)
{
	List	  **names = arg;
	JanitorJob *job = janitor_job_from_tuple(tuple);

	if (job->kind == JANITOR_KIND_ITEMS)
		*names = lappend(*names, job->name);
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* Every job that has receipts, or should have. */
static List *
all_chains(void)
{
	List	   *names = janitor_receipt_jobs();

	janitor_definition_scan(note_items_job, &names);
	list_sort(names, compare_names);
	return names;
}

static void
put_report(ReturnSetInfo *result, const JanitorChainReport *report)
{
	Datum		values[VERIFY_COLUMNS] = {0};
	bool		nulls[VERIFY_COLUMNS] = {false};

	values[0] = CStringGetTextDatum(report->job_name);
	values[1] = Int64GetDatum(report->receipts);
	values[2] = bytes_datum(report->head, JANITOR_DIGEST_LENGTH);
	nulls[2] = report->receipts == 0;
	values[3] = BoolGetDatum(report->problem == NULL);
	values[4] = Int64GetDatum(report->broken_at);
	nulls[4] = nulls[5] = report->problem == NULL;
	if (report->problem != NULL)
		values[5] = CStringGetTextDatum(report->problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * job_receipt_verify(job_name text) returns table (job_name text,
 * receipts bigint, head bytea, intact boolean, broken_at bigint, problem text)
 */
Datum
job_receipt_verify(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *wanted = janitor_arg_text(fcinfo, 0);
	List	   *names = wanted ? list_make1(wanted) : all_chains();
	const char *before = NULL;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	if (wanted != NULL && !is_visible(wanted))
		(void) janitor_job_require(wanted);
	foreach(cell, names)
	{
		const char *name = lfirst(cell);
		JanitorChainReport *report;

		if ((before != NULL && strcmp(name, before) == 0) ||
			!is_visible(name))
			continue;
		before = name;
		report = janitor_receipts_verify(name);
		if (report->receipts > 0 || report->problem != NULL)
			put_report(result, report);
	}
	return (Datum) 0;
}

/* --- job_receipt_find --- */

typedef struct Search
{
	ReturnSetInfo *result;
	const char *job_name;
	const char *item_key;
	JanitorReceiptKey key;		/* the one used last */
	bool		known;			/* its secret is here */
	uint8		digest[JANITOR_DIGEST_LENGTH];	/* of the subject, with it */
} Search;

/* Neighbours were made with one key, but for where it was renewed. */
static void
use_key(Search *search, const uint8 *id)
{
	if (memcmp(search->key.id, id, JANITOR_KEY_ID_LENGTH) == 0)
		return;
	memcpy(search->key.id, id, JANITOR_KEY_ID_LENGTH);
	search->known = janitor_mask_secret_find(id, search->key.secret);
	if (search->known)
		janitor_receipt_digest(&search->key, search->job_name,
							   search->item_key, search->digest);
}

static bool
put_if_found(const JanitorReceipt *receipt, void *arg)
{
	Search	   *search = arg;

	use_key(search, receipt->key_id);
	if (search->known && memcmp(search->digest, receipt->subject,
								JANITOR_DIGEST_LENGTH) == 0)
		tuplestore_puttuple(search->result->setResult,
							janitor_receipt_tuple(receipt,
												  search->result->setDesc));
	return true;
}

/* job_receipt_find(job_name text, item_key text) returns setof job_receipt */
Datum
job_receipt_find(PG_FUNCTION_ARGS)
{
	Search		search = {(ReturnSetInfo *) fcinfo->resultinfo};

	InitMaterializedSRF(fcinfo, 0);
	search.job_name = janitor_arg_text_required(fcinfo, 0, "job_name");
	if (!superuser())
		(void) janitor_job_for_use(search.job_name);
	search.item_key =
		janitor_item_key_shorten(janitor_arg_text_required(fcinfo, 1,
														   "item_key"));
	janitor_receipt_scan(search.job_name, 1, put_if_found, &search);
	explicit_bzero(&search.key, sizeof(search.key));
	return (Datum) 0;
}
