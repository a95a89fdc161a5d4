/*-------------------------------------------------------------------------
 *
 * api_replay.c
 *	  SQL functions for the time after a restore: job_receipt_import,
 *	  job_erasure_replay.
 *
 * Receipts that were exported before are imported from a table of the caller's,
 * after those that came with the backup.  They have to continue the chain that
 * is here: each is checked, and one that does not fit is an error.  What was
 * imported is newer than the data, and noted as to be replayed.  A replay is a
 * run of the job in a worker, which starts though the job is paused.
 *
 * They run in the caller's backend and transaction; an import holds the chains
 * of its jobs until the end of it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "api_run.h"
#include "chain.h"
#include "object.h"
#include "query.h"
#include "receipt.h"
#include "replay.h"
#include "rule.h"
#include "session.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_receipt_import);
PG_FUNCTION_INFO_V1(job_erasure_replay);

/* Receipts that are written together. */
#define BATCH 500

/* --- job_receipt_import --- */

typedef struct Import
{
	MemoryContext context;		/* of the whole */
	MemoryContext batch_context;
	char	   *job_name;		/* NULL: none yet */
	JanitorReceipt here;		/* the last that was here before */
	JanitorChain chain;
	JanitorReceipt batch[BATCH];
	int			count;
	int64		total;
	int64		last_execution; /* the newest that a receipt names */
} Import;

static void
flush_batch(Import *import)
{
	if (import->count > 0)
		janitor_receipts_insert(import->batch, import->count);
	import->total += import->count;
	import->count = 0;
	MemoryContextReset(import->batch_context);
}

/* What was imported of a job is to be replayed. */
static void
end_job(Import *import)
{
	flush_batch(import);
	if (import->job_name != NULL &&
		import->chain.number > import->here.number)
		janitor_replay_insert(import->job_name, import->here.number + 1,
							  import->chain.number, janitor_session_user());
}

static void
begin_job(Import *import, const char *job_name)
{
	char	   *name = MemoryContextStrdup(import->context, job_name);
	MemoryContext caller;

	end_job(import);
	caller = MemoryContextSwitchTo(import->context);
	import->job_name = name;
	memset(&import->here, 0, sizeof(import->here));
	janitor_receipt_lock(name);
	(void) janitor_receipt_last(name, &import->here);
	import->chain.number = import->here.number;
	memcpy(import->chain.hash, import->here.hash, JANITOR_DIGEST_LENGTH);
	MemoryContextSwitchTo(caller);
}

static const char *
describe_fault(JanitorChainFault fault)
{
	switch (fault)
	{
		case JANITOR_CHAIN_GAP:
			return "Receipts before it are missing.";
		case JANITOR_CHAIN_REPEATED:
			return "It is there twice.";
		case JANITOR_CHAIN_ALTERED:
			return "It has been altered.";
		case JANITOR_CHAIN_DETACHED:
			return "It does not follow the one before it.";
		case JANITOR_CHAIN_INTACT:
			break;
	}
	return NULL;				/* keep compilers quiet */
}

static void
refuse(const Import *import, int64 number, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("receipt " INT64_FORMAT " of job \"%s\" cannot be imported",
					number, import->job_name),
			 errdetail("%s", detail)));
}

static void
read_bytes(Datum value, uint8 *bytes)
{
	bytea	   *data = DatumGetByteaPP(value);

	memset(bytes, 0, JANITOR_DIGEST_LENGTH);
	memcpy(bytes, VARDATA_ANY(data),
		   Min(VARSIZE_ANY_EXHDR(data), JANITOR_DIGEST_LENGTH));
}

/* A row as janitor_receipt_tuple() makes them; in the current context. */
static void
read_row(const Datum *values, JanitorReceipt *receipt)
{
	receipt->job_name =
		TextDatumGetCString(values[Anum_receipt_job_name - 1]);
	receipt->number = DatumGetInt64(values[Anum_receipt_number - 1]);
	receipt->execution_id =
		DatumGetInt64(values[Anum_receipt_execution_id - 1]);
	receipt->erased_at =
		DatumGetTimestampTz(values[Anum_receipt_erased_at - 1]);
	read_bytes(values[Anum_receipt_subject - 1], receipt->subject);
	memcpy(receipt->key_id, DatumGetUUIDP(values[Anum_receipt_key_id - 1]),
		   JANITOR_KEY_ID_LENGTH);
	receipt->rows = DatumGetJsonbPCopy(values[Anum_receipt_rows - 1]);
	receipt->verified = DatumGetBool(values[Anum_receipt_verified - 1]);
	receipt->policy_version =
		DatumGetInt32(values[Anum_receipt_policy_version - 1]);
	read_bytes(values[Anum_receipt_previous - 1], receipt->previous);
	read_bytes(values[Anum_receipt_hash - 1], receipt->hash);
}

static void
import_receipt(Import *import, JanitorReceipt *receipt)
{
	uint8		computed[JANITOR_DIGEST_LENGTH];
	JanitorChainLink link = {receipt->number, receipt->previous,
	receipt->hash, computed};
	JanitorChainFault fault;

	if (receipt->number <= import->here.number)
	{
		if (receipt->number == import->here.number &&
			memcmp(receipt->hash, import->here.hash,
				   JANITOR_DIGEST_LENGTH) != 0)
			refuse(import, receipt->number,
				   "There is another one here: the job has erased somebody since the restore.");
		return;
	}
	janitor_receipt_hash(receipt, computed);
	fault = janitor_chain_follow(&import->chain, &link);
	if (fault != JANITOR_CHAIN_INTACT)
		refuse(import, receipt->number, describe_fault(fault));
	import->batch[import->count++] = *receipt;
	import->last_execution = Max(import->last_execution,
								 receipt->execution_id);
}

static void
import_row(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	Import	   *import = arg;
	MemoryContext caller = MemoryContextSwitchTo(import->batch_context);
	JanitorReceipt receipt;
	char	   *job_name;

	for (int i = 0; i < Natts_receipt; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("a receipt has no \"%s\"",
							NameStr(TupleDescAttr(desc, i)->attname))));
	job_name = TextDatumGetCString(values[Anum_receipt_job_name - 1]);
	if (import->job_name == NULL ||
		strcmp(import->job_name, job_name) != 0)
		begin_job(import, job_name);
	read_row(values, &receipt);
	import_receipt(import, &receipt);
	if (import->count == BATCH)
		flush_batch(import);
	MemoryContextSwitchTo(caller);
}

static JanitorQuery *
source_query(const char *source)
{
	return janitor_query_prepare(psprintf("SELECT job_name::pg_catalog.text, number::pg_catalog.int8, execution_id::pg_catalog.int8,"
										  " erased_at::pg_catalog.timestamptz, subject::pg_catalog.bytea, key_id::pg_catalog.uuid,"
										  " rows::pg_catalog.jsonb, verified::pg_catalog.bool, policy_version::pg_catalog.int4,"
										  " previous::pg_catalog.bytea, hash::pg_catalog.bytea"
										  " FROM %s ORDER BY job_name COLLATE pg_catalog.\"C\", number",
										  source), 0, NULL);
}

/* job_receipt_import(source text) returns bigint */
Datum
job_receipt_import(PG_FUNCTION_ARGS)
{
	Import	   *import = palloc0(sizeof(Import));
	char	   *source;

	janitor_prevent_misuse("job_receipt_import()");
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to import receipts"),
				 errhint("Only superusers can: whoever writes receipts can write any.")));
	source = janitor_relation_qualify(janitor_arg_text_required(fcinfo, 0,
																"source"));
	import->context = CurrentMemoryContext;
	import->batch_context = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_janitor import",
												  ALLOCSET_DEFAULT_SIZES);
	(void) janitor_query_each(source_query(source), NULL, NULL, 0, import_row,
							  import);
	end_job(import);
	if (import->total > 0)
		janitor_pass_execution_id(import->last_execution);
	PG_RETURN_INT64(import->total);
}

/* --- job_erasure_replay --- */

#define REPLAY_COLUMNS 3

typedef struct Since
{
	TimestampTz since;
	int64		first;			/* receipt that is not older; 0: none */
	int64		last;
} Since;

static bool
find_since(const JanitorReceipt *receipt, void *arg)
{
	Since	   *since = arg;

	if (since->first == 0 && receipt->erased_at >= since->since)
		since->first = receipt->number;
	since->last = receipt->number;
	return true;
}

/* The caller says how old the data are, whatever was imported. */
static void
note_since(const JanitorJob *job, TimestampTz time)
{
	Since		since = {time, 0, 0};

	janitor_receipt_scan(job->name, 1, find_since, &since);
	if (since.first > 0)
		janitor_replay_insert(job->name, since.first, since.last,
							  janitor_session_user());
}

static void
check_subjects(void *arg)
{
	janitor_replay_check(arg);
}

static void
put_replay(ReturnSetInfo *result, const JanitorJob *job, int64 execution_id,
		   int64 subjects)
{
	Datum		values[REPLAY_COLUMNS];
	bool		nulls[REPLAY_COLUMNS] = {false};

	values[0] = CStringGetTextDatum(job->name);
	values[1] = Int64GetDatum(execution_id);
	values[2] = Int64GetDatum(subjects);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Whatever keeps its run from doing it is found out now, if it can be. */
static void
replay_job(ReturnSetInfo *result, JanitorJob *job)
{
	JanitorReplaySet *set = janitor_replay_read(job->name);

	if (set->replays == NIL)
		return;
	janitor_as_role(job->owner_oid,
					janitor_object_get_text(job->settings, "search_path"),
					job->time_zone, check_subjects, job);
	put_replay(result, job, janitor_trigger_replay(job),
			   hash_get_num_entries(set->sought));
	janitor_replay_wipe(set);
}

/* Those with something to be replayed, once each. */
static List *
jobs_to_replay(void)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, janitor_replays_pending(NULL))
	{
		char	   *name = ((JanitorReplay *) lfirst(cell))->job_name;
		bool		known = false;
		ListCell   *other;

		foreach(other, names)
			known = known || strcmp(lfirst(other), name) == 0;
		if (!known)
			names = lappend(names, name);
	}
	return names;
}

/* The receipts are here, but nobody knows any more what to do. */
static bool
is_without_job(const char *job_name)
{
	if (janitor_job_load(job_name) != NULL)
		return false;
	ereport(WARNING,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("receipts of job \"%s\" cannot be replayed: there is no such job",
					job_name)));
	return true;
}

/*
 * job_erasure_replay(job_name text, since timestamptz) returns table
 * (job_name text, execution_id bigint, subjects bigint)
 */
Datum
job_erasure_replay(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *wanted = janitor_arg_text(fcinfo, 0);
	List	   *names;
	ListCell   *cell;

	janitor_prevent_misuse("job_erasure_replay()");
	janitor_shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(1) && wanted == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"since\" needs the name of a job")));
	names = wanted ? list_make1(wanted) : jobs_to_replay();
	foreach(cell, names)
	{
		JanitorJob *job;

		if (wanted == NULL && is_without_job(lfirst(cell)))
			continue;
		job = janitor_job_for_use(lfirst(cell));
		if (!PG_ARGISNULL(1))
			note_since(job, PG_GETARG_TIMESTAMPTZ(1));
		replay_job(result, job);
	}
	return (Datum) 0;
}
