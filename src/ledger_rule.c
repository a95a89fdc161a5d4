/*-------------------------------------------------------------------------
 *
 * ledger_rule.c
 *	  job_rule: what retention and items jobs do with which rows.
 *
 * Rules are changed by SQL functions that hold the lock of their job, and
 * read by these, by previews and by the workers that run the job.  Like
 * definitions they are read in their newest version.
 *
 * See ledger.c for how rows are found, locked and written.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/htup_details.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

HeapTuple
janitor_rule_find(const char *job_name, const char *rule)
{
	JanitorTable table = janitor_table_open(JANITOR_RULE, AccessShareLock);
	ScanKeyData keys[2];
	HeapTuple	tuple;

	janitor_key_text(&keys[0], Anum_rule_job_name, job_name);
	janitor_key_text(&keys[1], Anum_rule_rule, rule);
	tuple = janitor_row_find(&table, JANITOR_RULE_PKEY, 2, keys);
	janitor_table_close(&table);
	return tuple;
}

typedef struct RuleScan
{
	void		(*each) (HeapTuple tuple, void *arg);
	void	   *arg;
} RuleScan;

static bool
visit_rule(JanitorTable *table, HeapTuple tuple, void *arg)
{
	RuleScan   *scan = arg;

	scan->each(tuple, scan->arg);
	return true;
}

void
janitor_rule_scan(const char *job_name,
				  void (*each) (HeapTuple tuple, void *arg), void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_RULE, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	RuleScan	scan = {each, arg};
	ScanKeyData key;

	janitor_key_text(&key, Anum_rule_job_name, job_name);
	(void) janitor_table_scan(&table, JANITOR_RULE_PKEY, snapshot,
							  ForwardScanDirection, 1, &key,
							  visit_rule, &scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}

/* A copy in the current context. */
TupleDesc
janitor_rule_tupdesc(void)
{
	JanitorTable table = janitor_table_open(JANITOR_RULE, AccessShareLock);
	TupleDesc	desc = CreateTupleDescCopy(RelationGetDescr(table.rel));

	janitor_table_close(&table);
	return desc;
}

static void
row_from_values(JanitorRow *row, Datum *values, bool *nulls)
{
	memcpy(row->values, values, Natts_rule * sizeof(Datum));
	memcpy(row->nulls, nulls, Natts_rule * sizeof(bool));
	memset(row->replaces, true, sizeof(row->replaces));
}

void
janitor_rule_insert(Datum *values, bool *nulls)
{
	JanitorTable table = janitor_table_open(JANITOR_RULE, RowExclusiveLock);
	JanitorRow	row;

	row_from_values(&row, values, nulls);
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

/*
 * The job's lock keeps other changes away; an update by hand of the same row
 * is waited for.
 */
static void
lock_rule(JanitorTable *table, HeapTuple old)
{
	if (janitor_row_lock(table, &old->t_self,
						 HeapTupleHeaderGetRawXmin(old->t_data), 0,
						 LockWaitBlock, NULL) != JANITOR_LOCKED)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change a rule: it was changed meanwhile")));
}

void
janitor_rule_update(HeapTuple old, Datum *values, bool *nulls)
{
	JanitorTable table = janitor_table_open(JANITOR_RULE, RowExclusiveLock);
	JanitorRow	row;

	lock_rule(&table, old);
	row_from_values(&row, values, nulls);
	(void) janitor_row_update(&table, old, &row);
	janitor_table_close(&table);
}

void
janitor_rule_delete(HeapTuple old)
{
	JanitorTable table = janitor_table_open(JANITOR_RULE, RowExclusiveLock);

	lock_rule(&table, old);
	janitor_row_delete(&table, &old->t_self);
	janitor_table_close(&table);
}
