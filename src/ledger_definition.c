/*-------------------------------------------------------------------------
 *
 * ledger_definition.c
 *	  job_definition and job_change, as raw rows; definition.c knows what they
 *	  mean.
 *
 * Whoever changes a definition holds janitor_job_lock() on its name from
 * before it is read, be it a SQL function or the scheduler that pauses a job.
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
#include "shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* The row type of job_definition, as of the table with this OID. */
static TupleDesc definition_tupdesc = NULL;
static Oid	definition_tupdesc_oid = InvalidOid;

HeapTuple
janitor_definition_find(const char *job_name)
{
	JanitorTable table = janitor_table_open(JANITOR_DEFINITION,
											AccessShareLock);
	ScanKeyData key;
	HeapTuple	tuple;

	janitor_key_text(&key, Anum_definition_name, job_name);
	tuple = janitor_row_find(&table, JANITOR_DEFINITION_PKEY, 1, &key);
	janitor_table_close(&table);
	return tuple;
}

void
janitor_definition_scan(void (*each) (HeapTuple tuple, void *arg), void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_DEFINITION,
											AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = systable_beginscan(table.rel, InvalidOid, false,
							  GetActiveSnapshot(), 0, NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		each(tuple, arg);
	}
	systable_endscan(scan);
	janitor_table_close(&table);
}

void
janitor_definition_scan_children(const char *job_name,
								 void (*each) (const char *child, void *arg),
								 void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_DEFINITION,
											AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	janitor_key_text(&key, Anum_definition_run_after, job_name);
	scan = systable_beginscan(table.rel,
							  janitor_relation(JANITOR_DEFINITION_RUN_AFTER),
							  true, snapshot, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		JanitorRow	row;

		janitor_row_load(&row, &table, tuple);
		each(janitor_row_text(&row, Anum_definition_name), arg);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}

/* Belongs to this file; good until the extension is created again. */
TupleDesc
janitor_definition_tupdesc(void)
{
	Oid			oid = janitor_relation(JANITOR_DEFINITION);
	JanitorTable table;
	MemoryContext caller;

	if (definition_tupdesc != NULL && definition_tupdesc_oid == oid)
		return definition_tupdesc;

	table = janitor_table_open(JANITOR_DEFINITION, AccessShareLock);
	if (definition_tupdesc != NULL)
		FreeTupleDesc(definition_tupdesc);
	definition_tupdesc = NULL;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	definition_tupdesc = CreateTupleDescCopy(RelationGetDescr(table.rel));
	MemoryContextSwitchTo(caller);
	definition_tupdesc_oid = RelationGetRelid(table.rel);
	janitor_table_close(&table);
	return definition_tupdesc;
}

/* A row for writing from plain arrays of Natts_definition columns. */
static void
definition_row(JanitorRow *row, const Datum *values, const bool *nulls,
			   const bool *replaces)
{
	janitor_row_clear(row);
	memcpy(row->values, values, Natts_definition * sizeof(Datum));
	memcpy(row->nulls, nulls, Natts_definition * sizeof(bool));
	if (replaces)
		memcpy(row->replaces, replaces, Natts_definition * sizeof(bool));
}

void
janitor_definition_insert(Datum *values, bool *nulls)
{
	JanitorTable table = janitor_table_open(JANITOR_DEFINITION,
											RowExclusiveLock);
	JanitorRow	row;

	janitor_wake_all_at_end();
	definition_row(&row, values, nulls, NULL);
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

/*
 * Locks a definition as it was read.  Whoever changes one holds
 * janitor_job_lock() while reading and writing it, so it cannot have moved;
 * should it have, the caller's decision rests on an old row and is void.
 */
static void
lock_definition(JanitorTable *table, HeapTuple old)
{
	bool		isnull;

	if (janitor_row_lock(table, &old->t_self,
						 HeapTupleHeaderGetRawXmin(old->t_data), 0,
						 LockWaitBlock, NULL) == JANITOR_LOCKED)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("job \"%s\" was changed by a concurrent transaction",
					TextDatumGetCString(heap_getattr(old,
													 Anum_definition_name,
													 RelationGetDescr(table->rel),
													 &isnull))),
			 errhint("Repeat the command.")));
}

void
janitor_definition_update(HeapTuple old, Datum *values, bool *nulls,
						  bool *replaces)
{
	JanitorTable table = janitor_table_open(JANITOR_DEFINITION,
											RowExclusiveLock);
	JanitorRow	row;

	janitor_wake_all_at_end();
	lock_definition(&table, old);
	definition_row(&row, values, nulls, replaces);
	(void) janitor_row_update(&table, old, &row);
	janitor_table_close(&table);
}

void
janitor_definition_delete(HeapTuple old)
{
	JanitorTable table = janitor_table_open(JANITOR_DEFINITION,
											RowExclusiveLock);

	janitor_wake_all_at_end();
	lock_definition(&table, old);
	janitor_row_delete(&table, &old->t_self);
	janitor_table_close(&table);
}

/* The session's user by name; by number, should the role be gone. */
static char *
session_user_name(void)
{
	Oid			role = GetSessionUserId();
	char	   *name = GetUserNameFromId(role, true);

	return name ? name : psprintf("%u", role);
}

static bool
visit_newest_change(JanitorTable *table, HeapTuple tuple, void *arg)
{
	bool	   *removed = arg;
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	*removed = strcmp(janitor_row_text(&row, Anum_change_action),
					  "unschedule") == 0;
	return false;
}

bool
janitor_was_removed(const char *job_name)
{
	JanitorTable table = janitor_table_open(JANITOR_CHANGE, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	bool		removed = false;

	janitor_key_text(&key, Anum_change_job_name, job_name);
	(void) janitor_table_scan(&table, JANITOR_CHANGE_JOB, snapshot,
							  BackwardScanDirection, 1, &key,
							  visit_newest_change, &removed);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
	return removed;
}

void
janitor_change_insert(const char *job_name, const char *action,
					  Jsonb *before, Jsonb *after)
{
	JanitorTable table = janitor_table_open(JANITOR_CHANGE, RowExclusiveLock);
	JanitorRow	row;

	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_change_id,
					Int64GetDatum(janitor_next_id(JANITOR_CHANGE_SEQUENCE)));
	janitor_row_set_time(&row, Anum_change_changed_at, GetCurrentTimestamp());
	janitor_row_set_text(&row, Anum_change_changed_by, session_user_name());
	janitor_row_set_text(&row, Anum_change_job_name, job_name);
	janitor_row_set_text(&row, Anum_change_action, action);
	janitor_row_set_jsonb(&row, Anum_change_before, before);
	janitor_row_set_jsonb(&row, Anum_change_after, after);
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}
