/*-------------------------------------------------------------------------
 *
 * ledger_internal.h
 *	  Rows of our tables by heap access: what ledger.c and ledger_catalog.c
 *	  lend to the other ledger_*.c, and to nobody else.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_LEDGER_INTERNAL_H
#define JANITOR_LEDGER_INTERNAL_H

#include "ledger.h"

#include "access/sdir.h"
#include "access/skey.h"
#include "nodes/lockoptions.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* One of our tables, open.  Closed by an ERROR like any other relation. */
typedef struct JanitorTable
{
	Relation	rel;
	LOCKMODE	mode;
	bool		pushed_snapshot;
} JanitorTable;

/*
 * The columns of one row, taken apart or to be put together.  A fresh one is
 * all NULL; setting a column marks it as replaced.
 */
#define JANITOR_MAX_COLUMNS 48

typedef struct JanitorRow
{
	Datum		values[JANITOR_MAX_COLUMNS];
	bool		nulls[JANITOR_MAX_COLUMNS];
	bool		replaces[JANITOR_MAX_COLUMNS];
} JanitorRow;

/* Visits one row of a scan, which it must not keep; false to stop. */
typedef bool (*JanitorVisit) (JanitorTable *table, HeapTuple tuple,
							  void *arg);

/* --- where they are (ledger_catalog.c) --- */

extern void janitor_forget_catalog(void);
extern int	janitor_table_columns(JanitorRelation which);

/* --- tables --- */

extern JanitorTable janitor_table_open(JanitorRelation which, LOCKMODE mode);
extern void janitor_table_close(JanitorTable *table);
extern int64 janitor_next_id(JanitorRelation sequence);

/* --- finding rows --- */

extern void janitor_key_text(ScanKey key, AttrNumber column,
							 const char *value);
extern void janitor_key_int8(ScanKey key, AttrNumber column, int64 value);
extern void janitor_key_int4(ScanKey key, AttrNumber column, int value);
extern HeapTuple janitor_row_find(JanitorTable *table, JanitorRelation index,
								  int nkeys, const ScanKeyData *keys);
extern bool janitor_table_scan(JanitorTable *table, JanitorRelation index,
							   Snapshot snapshot, ScanDirection direction,
							   int nkeys, ScanKey keys,
							   JanitorVisit visit, void *arg);

/* --- writing rows --- */

extern JanitorLock janitor_row_lock(JanitorTable *table, ItemPointer tid,
									TransactionId xmin, int64 id,
									LockWaitPolicy policy, HeapTuple *copy);
extern JanitorLock janitor_row_take(JanitorTable *table, ItemPointer tid,
									TransactionId xmin, int64 id,
									bool *pinned);
extern HeapTuple janitor_row_insert(JanitorTable *table, JanitorRow *row);
extern void janitor_tuples_insert(JanitorTable *table, HeapTuple *tuples,
								  int count);
extern HeapTuple janitor_row_update(JanitorTable *table, HeapTuple old,
									JanitorRow *row);
extern void janitor_row_delete(JanitorTable *table, ItemPointer tid);

/* --- columns --- */

extern void janitor_row_load(JanitorRow *row, JanitorTable *table,
							 HeapTuple tuple);
extern void janitor_row_clear(JanitorRow *row);

/* NULL, or the given default, where the column is NULL.  Copies. */
extern char *janitor_row_text(const JanitorRow *row, AttrNumber column);
extern Jsonb *janitor_row_jsonb(const JanitorRow *row, AttrNumber column);
extern int64 janitor_row_int8(const JanitorRow *row, AttrNumber column,
							  int64 if_null);
extern int	janitor_row_int4(const JanitorRow *row, AttrNumber column);
extern TimestampTz janitor_row_time(const JanitorRow *row, AttrNumber column);

extern void janitor_row_set(JanitorRow *row, AttrNumber column, Datum value);
extern void janitor_row_set_null(JanitorRow *row, AttrNumber column);

/* These store NULL for NULL; for if_null; for DT_NOBEGIN. */
extern void janitor_row_set_text(JanitorRow *row, AttrNumber column,
								 const char *value);
extern void janitor_row_set_jsonb(JanitorRow *row, AttrNumber column,
								  Jsonb *value);
extern void janitor_row_set_int8(JanitorRow *row, AttrNumber column,
								 int64 value, int64 if_null);
extern void janitor_row_set_time(JanitorRow *row, AttrNumber column,
								 TimestampTz value);

#endif							/* JANITOR_LEDGER_INTERNAL_H */
