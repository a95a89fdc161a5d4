/*-------------------------------------------------------------------------
 *
 * ledger_rate.c
 *	  job_rate_limit: the limits of jobs; job_rate_hit: what they admitted.
 *
 * An admission is a row that is inserted by the transaction that starts the
 * run, and is gone if that is rolled back.  Admissions are counted with a
 * dirty snapshot, so that those of transactions in progress count too; whoever
 * counts in order to admit holds the job's claim lock, or is the scheduler.
 * The value of an argument is kept as a hash: values may be personal data.
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
#include "access/stratnum.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "settings.h"

/* Rows removed at once for one that is inserted. */
#define PRUNED_ALONG 4

/* ------------------------------------------------------------------------
 * job_rate_limit
 * ------------------------------------------------------------------------
 */

typedef struct LimitScan
{
	JanitorRateLimit *limits;
	int			count;
	int			size;
} LimitScan;

static bool
visit_limit(JanitorTable *table, HeapTuple tuple, void *arg)
{
	LimitScan  *scan = arg;
	JanitorRateLimit *limit;
	JanitorRow	row;

	if (scan->count == scan->size)
	{
		scan->size = scan->size == 0 ? 4 : scan->size * 2;
		scan->limits = scan->limits == NULL ?
			palloc(scan->size * sizeof(JanitorRateLimit)) :
			repalloc(scan->limits, scan->size * sizeof(JanitorRateLimit));
	}
	limit = &scan->limits[scan->count++];
	janitor_row_load(&row, table, tuple);
	limit->tid = tuple->t_self;
	limit->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	limit->id = janitor_row_int8(&row, Anum_rate_limit_id, 0);
	limit->arg = janitor_row_text(&row, Anum_rate_limit_arg);
	limit->max_runs = janitor_row_int4(&row, Anum_rate_limit_max_runs);
	limit->per = janitor_interval_usec(DatumGetIntervalP(row.values[Anum_rate_limit_per - 1]));
	return true;
}

JanitorRateLimit *
janitor_rate_limits(const char *job_name, int *count)
{
	JanitorTable table = janitor_table_open(JANITOR_RATE_LIMIT,
											AccessShareLock);
	LimitScan	scan = {NULL, 0, 0};
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;

	janitor_key_text(&key, Anum_rate_limit_job_name, job_name);
	(void) janitor_table_scan(&table, JANITOR_RATE_LIMIT_JOB, snapshot,
							  ForwardScanDirection, 1, &key,
							  visit_limit, &scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
	*count = scan.count;
	return scan.limits;
}

void
janitor_rate_limit_insert(const char *job_name, const char *arg,
						  int max_runs, const Interval *per)
{
	JanitorTable table = janitor_table_open(JANITOR_RATE_LIMIT,
											RowExclusiveLock);
	JanitorRow	row;

	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_rate_limit_id,
					Int64GetDatum(janitor_next_id(JANITOR_RATE_LIMIT_SEQUENCE)));
	janitor_row_set_text(&row, Anum_rate_limit_job_name, job_name);
	janitor_row_set_text(&row, Anum_rate_limit_arg, arg);
	janitor_row_set(&row, Anum_rate_limit_max_runs, Int32GetDatum(max_runs));
	janitor_row_set(&row, Anum_rate_limit_per, IntervalPGetDatum(per));
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

/* Whoever changes the limits of a job holds its lock: they cannot move. */
static HeapTuple
lock_limit(JanitorTable *table, JanitorRateLimit *limit)
{
	HeapTuple	old;

	if (janitor_row_lock(table, &limit->tid, limit->xmin, limit->id,
						 LockWaitBlock, &old) != JANITOR_LOCKED)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("rate limit was changed by a concurrent transaction"),
				 errhint("Repeat the command.")));
	return old;
}

void
janitor_rate_limit_update(JanitorRateLimit *limit, int max_runs)
{
	JanitorTable table = janitor_table_open(JANITOR_RATE_LIMIT,
											RowExclusiveLock);
	HeapTuple	old = lock_limit(&table, limit);
	JanitorRow	row;

	janitor_row_load(&row, &table, old);
	janitor_row_set(&row, Anum_rate_limit_max_runs, Int32GetDatum(max_runs));
	(void) janitor_row_update(&table, old, &row);
	janitor_table_close(&table);
}

void
janitor_rate_limit_delete(JanitorRateLimit *limit)
{
	JanitorTable table = janitor_table_open(JANITOR_RATE_LIMIT,
											RowExclusiveLock);

	(void) lock_limit(&table, limit);
	janitor_row_delete(&table, &limit->tid);
	janitor_table_close(&table);
}

/* ------------------------------------------------------------------------
 * job_rate_hit
 * ------------------------------------------------------------------------
 */

static bool
delete_hit(JanitorTable *table, HeapTuple tuple)
{
	if (janitor_row_lock(table, &tuple->t_self,
						 HeapTupleHeaderGetRawXmin(tuple->t_data), 0,
						 LockWaitSkip, NULL) != JANITOR_LOCKED)
		return false;
	janitor_row_delete(table, &tuple->t_self);
	return true;
}

typedef struct HitScan
{
	const JanitorRateLimit *limit;
	TimestampTz since;			/* those until then do not count any more */
	int			pruned;
	int64_t    *times;
	int			count;
	int			size;
} HitScan;

/* Newest first. */
static bool
visit_hit(JanitorTable *table, HeapTuple tuple, void *arg)
{
	HitScan    *scan = arg;
	bool		isnull;
	TimestampTz at;

	at = DatumGetTimestampTz(heap_getattr(tuple, Anum_rate_hit_at,
										  RelationGetDescr(table->rel),
										  &isnull));
	if (at <= scan->since)
	{
		(void) delete_hit(table, tuple);
		return ++scan->pruned < PRUNED_ALONG;
	}
	if (scan->count == scan->size)
	{
		scan->size *= 2;
		scan->times = repalloc(scan->times, scan->size * sizeof(int64_t));
	}
	scan->times[scan->count++] = at;
	return scan->count < scan->limit->max_runs;
}

/* What stopped counting longer than a window ago is left: it is rare. */
int64_t *
janitor_rate_hits(const JanitorRateLimit *limit, int64 value, TimestampTz now,
				  bool prune, int *count, int *size)
{
	JanitorTable table = janitor_table_open(JANITOR_RATE_HIT, prune ?
											RowExclusiveLock : AccessShareLock);
	HitScan		scan = {
		.limit = limit,
		.since = now - limit->per,
		.times = palloc(8 * sizeof(int64_t)),
		.size = 8
	};
	SnapshotData dirty;
	ScanKeyData keys[3];

	InitDirtySnapshot(dirty);
	janitor_key_int8(&keys[0], Anum_rate_hit_limit_id, limit->id);
	janitor_key_int8(&keys[1], Anum_rate_hit_value, value);
	ScanKeyInit(&keys[2], Anum_rate_hit_at, BTGreaterStrategyNumber,
				F_TIMESTAMPTZ_GT,
				TimestampTzGetDatum(prune ? scan.since - limit->per :
									scan.since));
	(void) janitor_table_scan(&table, JANITOR_RATE_HIT_INDEX, &dirty,
							  BackwardScanDirection, 3, keys,
							  visit_hit, &scan);
	janitor_table_close(&table);

	for (int i = 0; i < scan.count / 2; i++)
	{
		int64_t		other = scan.times[i];

		scan.times[i] = scan.times[scan.count - 1 - i];
		scan.times[scan.count - 1 - i] = other;
	}
	*count = scan.count;
	*size = scan.size;
	return scan.times;
}

void
janitor_rate_hit_insert(int64 limit_id, int64 value, TimestampTz at)
{
	JanitorTable table = janitor_table_open(JANITOR_RATE_HIT,
											RowExclusiveLock);
	JanitorRow	row;

	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_rate_hit_limit_id, Int64GetDatum(limit_id));
	janitor_row_set(&row, Anum_rate_hit_value, Int64GetDatum(value));
	janitor_row_set_time(&row, Anum_rate_hit_at, at);
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

/* --- all of them --- */

/* How long the admissions of each limit count, by its id. */
typedef struct Period
{
	int64		id;
	int64		per;
} Period;

static Period *
all_periods(int *count)
{
	JanitorTable table = janitor_table_open(JANITOR_RATE_LIMIT,
											AccessShareLock);
	int			size = 16;
	Period	   *periods = palloc(size * sizeof(Period));
	SysScanDesc scan;
	HeapTuple	tuple;

	*count = 0;
	scan = systable_beginscan(table.rel, InvalidOid, false,
							  GetActiveSnapshot(), 0, NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		JanitorRow	row;

		janitor_row_load(&row, &table, tuple);
		if (*count == size)
		{
			size *= 2;
			periods = repalloc(periods, size * sizeof(Period));
		}
		periods[*count].id = janitor_row_int8(&row, Anum_rate_limit_id, 0);
		periods[(*count)++].per = janitor_interval_usec(DatumGetIntervalP(row.values[Anum_rate_limit_per - 1]));
	}
	systable_endscan(scan);
	janitor_table_close(&table);
	return periods;
}

/* A limit that is gone counts nothing. */
static bool
still_counts(const JanitorRow *row, const Period *periods, int count,
			 TimestampTz now)
{
	int64		id = janitor_row_int8(row, Anum_rate_hit_limit_id, 0);

	for (int i = 0; i < count; i++)
		if (periods[i].id == id)
			return janitor_row_time(row, Anum_rate_hit_at) >
				now - periods[i].per;
	return false;
}

int
janitor_rate_hit_prune(int most)
{
	TimestampTz now = janitor_clock();
	int			count;
	Period	   *periods = all_periods(&count);
	JanitorTable table = janitor_table_open(JANITOR_RATE_HIT,
											RowExclusiveLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	int			deleted = 0;

	scan = systable_beginscan(table.rel, InvalidOid, false,
							  GetActiveSnapshot(), 0, NULL);
	while (deleted < most && (tuple = systable_getnext(scan)) != NULL)
	{
		JanitorRow	row;

		CHECK_FOR_INTERRUPTS();
		janitor_row_load(&row, &table, tuple);
		if (!still_counts(&row, periods, count, now) &&
			delete_hit(&table, tuple))
			deleted++;
	}
	systable_endscan(scan);
	janitor_table_close(&table);
	return deleted;
}
