/*-------------------------------------------------------------------------
 *
 * ledger_lease.c
 *	  job_lease: runs of external jobs that workers outside have claimed;
 *	  job_work: the roles that may claim them.
 *
 * A lease is inserted by the transaction that claims and deleted by the one
 * that ends the run: the worker's own with job_finish(), or the scheduler's
 * when its time is over.  Both lock the row first, so that exactly one of them
 * ends it.  While a worker's transaction is open, its row is locked and nobody
 * waits for it but whoever wants that very run.
 *
 * Limits of concurrency have to hold over transactions that are still open.
 * Hence leases are counted with a dirty snapshot: one that is being inserted
 * counts already, one that is being deleted counts still.  An update in
 * progress shows both versions, so they are told apart by their ids.
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
#include "mark.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

StaticAssertDecl(JANITOR_TOKEN_SIZE == UUID_LEN, "tokens are uuids");

/* ------------------------------------------------------------------------
 * job_lease
 * ------------------------------------------------------------------------
 */

static void
lease_from_tuple(JanitorTable *table, HeapTuple tuple, JanitorLease *lease)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	lease->tid = tuple->t_self;
	lease->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	lease->execution_id = janitor_row_int8(&row, Anum_lease_execution_id, 0);
	lease->job_name = janitor_row_text(&row, Anum_lease_job_name);
	lease->key = janitor_row_text(&row, Anum_lease_key);
	lease->lease_until = janitor_row_time(&row, Anum_lease_lease_until);
	lease->claimed_at = janitor_row_time(&row, Anum_lease_claimed_at);
	memcpy(lease->token_hash,
		   DatumGetUUIDP(row.values[Anum_lease_token_hash - 1])->data,
		   JANITOR_TOKEN_SIZE);
}

void
janitor_lease_insert(const JanitorLease *lease)
{
	JanitorTable table = janitor_table_open(JANITOR_LEASE, RowExclusiveLock);
	JanitorRow	row;

	janitor_lease_at_end(lease->lease_until);
	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_lease_execution_id,
					Int64GetDatum(lease->execution_id));
	janitor_row_set_text(&row, Anum_lease_job_name, lease->job_name);
	janitor_row_set_text(&row, Anum_lease_key, lease->key);
	janitor_row_set_time(&row, Anum_lease_lease_until, lease->lease_until);
	janitor_row_set_time(&row, Anum_lease_claimed_at, lease->claimed_at);
	janitor_row_set(&row, Anum_lease_token_hash,
					UUIDPGetDatum((pg_uuid_t *) lease->token_hash));
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

bool
janitor_lease_find(int64 execution_id, JanitorLease *lease)
{
	JanitorTable table = janitor_table_open(JANITOR_LEASE, AccessShareLock);
	ScanKeyData key;
	HeapTuple	tuple;

	janitor_key_int8(&key, Anum_lease_execution_id, execution_id);
	tuple = janitor_row_find(&table, JANITOR_LEASE_PKEY, 1, &key);
	if (tuple != NULL)
	{
		lease_from_tuple(&table, tuple, lease);
		heap_freetuple(tuple);
	}
	janitor_table_close(&table);
	return tuple != NULL;
}

JanitorLock
janitor_lease_lock(JanitorLease *lease, bool wait)
{
	JanitorTable table = janitor_table_open(JANITOR_LEASE, RowExclusiveLock);
	JanitorLock result;

	result = janitor_row_lock(&table, &lease->tid, lease->xmin,
							  lease->execution_id,
							  wait ? LockWaitBlock : LockWaitSkip, NULL);
	janitor_table_close(&table);
	return result;
}

void
janitor_lease_extend(JanitorLease *lease, TimestampTz until)
{
	JanitorTable table = janitor_table_open(JANITOR_LEASE, RowExclusiveLock);
	HeapTuple	old;
	JanitorRow	row;

	janitor_lease_at_end(until);
	if (janitor_row_lock(&table, &lease->tid, lease->xmin,
						 lease->execution_id, LockWaitBlock,
						 &old) != JANITOR_LOCKED)
		elog(ERROR, "lease of execution " INT64_FORMAT " is not locked",
			 lease->execution_id);
	janitor_row_load(&row, &table, old);
	janitor_row_set_time(&row, Anum_lease_lease_until, until);
	(void) janitor_row_update(&table, old, &row);
	lease->lease_until = until;
	janitor_table_close(&table);
}

void
janitor_lease_delete(JanitorLease *lease)
{
	JanitorTable table = janitor_table_open(JANITOR_LEASE, RowExclusiveLock);

	janitor_row_delete(&table, &lease->tid);
	janitor_table_close(&table);
}

/* --- counting, dirty --- */

typedef struct LeaseCount
{
	int64	   *ids;
	int			count;
	int			size;
} LeaseCount;

static bool
count_lease(JanitorTable *table, HeapTuple tuple, void *arg)
{
	LeaseCount *count = arg;
	bool		isnull;
	int64		id = DatumGetInt64(heap_getattr(tuple,
												Anum_lease_execution_id,
												RelationGetDescr(table->rel),
												&isnull));

	if (count->count == count->size)
	{
		count->size *= 2;
		count->ids = repalloc(count->ids, count->size * sizeof(int64));
	}
	count->ids[count->count++] = id;
	return true;
}

static int
compare_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* How many different ids. */
static int
count_dirty(int nkeys, ScanKeyData *keys)
{
	JanitorTable table = janitor_table_open(JANITOR_LEASE, AccessShareLock);
	LeaseCount	count = {palloc(64 * sizeof(int64)), 0, 64};
	int			different = 0;
	SnapshotData dirty;

	InitDirtySnapshot(dirty);
	(void) janitor_table_scan(&table, JANITOR_LEASE_JOB_KEY, &dirty,
							  ForwardScanDirection, nkeys, keys,
							  count_lease, &count);
	janitor_table_close(&table);

	qsort(count.ids, count.count, sizeof(int64), compare_ids);
	for (int i = 0; i < count.count; i++)
		if (i == 0 || count.ids[i] != count.ids[i - 1])
			different++;
	pfree(count.ids);
	return different;
}

int
janitor_lease_count(const char *job_name)
{
	ScanKeyData key;

	janitor_key_text(&key, Anum_lease_job_name, job_name);
	return count_dirty(1, &key);
}

bool
janitor_lease_has_key(const char *job_name, const char *key)
{
	ScanKeyData keys[2];

	janitor_key_text(&keys[0], Anum_lease_job_name, job_name);
	janitor_key_text(&keys[1], Anum_lease_key, key);
	return count_dirty(2, keys) > 0;
}

/* --- scans of what is committed --- */

typedef struct LeaseScan
{
	bool		(*each) (JanitorLease *lease, void *arg);
	void	   *arg;
} LeaseScan;

static bool
visit_lease(JanitorTable *table, HeapTuple tuple, void *arg)
{
	LeaseScan  *scan = arg;
	JanitorLease lease;

	lease_from_tuple(table, tuple, &lease);
	return scan->each(&lease, scan->arg);
}

static void
scan_leases(JanitorRelation index, int nkeys, ScanKeyData *keys,
			LeaseScan *scan)
{
	JanitorTable table = janitor_table_open(JANITOR_LEASE, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	(void) janitor_table_scan(&table, index, snapshot, ForwardScanDirection,
							  nkeys, keys, visit_lease, scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}

void
janitor_lease_scan(TimestampTz from, TimestampTz until,
				   bool (*each) (JanitorLease *lease, void *arg), void *arg)
{
	LeaseScan	scan = {each, arg};
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_lease_lease_until,
				BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	ScanKeyInit(&keys[1], Anum_lease_lease_until,
				BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(until));
	scan_leases(JANITOR_LEASE_UNTIL, 2, keys, &scan);
}

void
janitor_lease_scan_job(const char *job_name,
					   bool (*each) (JanitorLease *lease, void *arg),
					   void *arg)
{
	LeaseScan	scan = {each, arg};
	ScanKeyData key;

	janitor_key_text(&key, Anum_lease_job_name, job_name);
	scan_leases(JANITOR_LEASE_JOB_KEY, 1, &key, &scan);
}

/* ------------------------------------------------------------------------
 * job_work
 * ------------------------------------------------------------------------
 */

static HeapTuple
find_work(JanitorTable *table, const char *job_name, const char *role)
{
	ScanKeyData keys[2];

	janitor_key_text(&keys[0], Anum_work_job_name, job_name);
	janitor_key_text(&keys[1], Anum_work_role, role);
	return janitor_row_find(table, JANITOR_WORK_PKEY, 2, keys);
}

void
janitor_work_insert(const char *job_name, const char *role, Oid role_oid)
{
	JanitorTable table = janitor_table_open(JANITOR_WORK, RowExclusiveLock);
	JanitorRow	row;

	janitor_row_clear(&row);
	janitor_row_set_text(&row, Anum_work_job_name, job_name);
	janitor_row_set_text(&row, Anum_work_role, role);
	janitor_row_set(&row, Anum_work_role_oid, ObjectIdGetDatum(role_oid));
	janitor_row_set_text(&row, Anum_work_granted_by,
						 GetUserNameFromId(GetSessionUserId(), false));
	janitor_row_set_time(&row, Anum_work_granted_at, GetCurrentTimestamp());
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

/* Whoever changes these rows holds the job's lock. */
static bool
delete_work(JanitorTable *table, HeapTuple tuple)
{
	if (janitor_row_lock(table, &tuple->t_self,
						 HeapTupleHeaderGetRawXmin(tuple->t_data), 0,
						 LockWaitBlock, NULL) != JANITOR_LOCKED)
		return false;
	janitor_row_delete(table, &tuple->t_self);
	return true;
}

bool
janitor_work_delete(const char *job_name, const char *role)
{
	JanitorTable table = janitor_table_open(JANITOR_WORK, RowExclusiveLock);
	HeapTuple	tuple = find_work(&table, job_name, role);
	bool		found = tuple != NULL && delete_work(&table, tuple);

	janitor_table_close(&table);
	return found;
}

static bool
visit_delete_work(JanitorTable *table, HeapTuple tuple, void *arg)
{
	(void) delete_work(table, tuple);
	return true;
}

static void
scan_work(JanitorTable *table, const char *job_name, JanitorVisit visit,
		  void *arg)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;

	janitor_key_text(&key, Anum_work_job_name, job_name);
	(void) janitor_table_scan(table, JANITOR_WORK_PKEY, snapshot,
							  ForwardScanDirection, 1, &key, visit, arg);
	UnregisterSnapshot(snapshot);
}

void
janitor_work_delete_all(const char *job_name)
{
	JanitorTable table = janitor_table_open(JANITOR_WORK, RowExclusiveLock);

	scan_work(&table, job_name, visit_delete_work, NULL);
	janitor_table_close(&table);
}

static bool
visit_find_role(JanitorTable *table, HeapTuple tuple, void *arg)
{
	JanitorRow	row;
	Oid			role;

	janitor_row_load(&row, table, tuple);
	role = get_role_oid(janitor_row_text(&row, Anum_work_role), true);
	if (!OidIsValid(role) ||
		role == DatumGetObjectId(row.values[Anum_work_role_oid - 1]) ||
		janitor_row_lock(table, &tuple->t_self,
						 HeapTupleHeaderGetRawXmin(tuple->t_data), 0,
						 LockWaitBlock, NULL) != JANITOR_LOCKED)
		return true;
	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_work_role_oid, ObjectIdGetDatum(role));
	(void) janitor_row_update(table, tuple, &row);
	return true;
}

void
janitor_work_find_roles(const char *job_name)
{
	JanitorTable table = janitor_table_open(JANITOR_WORK, RowExclusiveLock);

	scan_work(&table, job_name, visit_find_role, NULL);
	janitor_table_close(&table);
}

/* There are few of them, and this is asked when a right is taken back. */
bool
janitor_work_any(const char *role)
{
	JanitorTable table = janitor_table_open(JANITOR_WORK, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	ScanKeyData key;
	bool		found;

	janitor_key_text(&key, Anum_work_role, role);
	scan = systable_beginscan(table.rel, InvalidOid, false, snapshot, 1,
							  &key);
	found = systable_getnext(scan) != NULL;
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
	return found;
}

typedef struct WorkScan
{
	void		(*each) (Oid role_oid, const char *role, void *arg);
	void	   *arg;
} WorkScan;

static bool
visit_work(JanitorTable *table, HeapTuple tuple, void *arg)
{
	WorkScan   *scan = arg;
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	scan->each(DatumGetObjectId(row.values[Anum_work_role_oid - 1]),
			   janitor_row_text(&row, Anum_work_role), scan->arg);
	return true;
}

void
janitor_work_scan(const char *job_name,
				  void (*each) (Oid role_oid, const char *role, void *arg),
				  void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_WORK, AccessShareLock);
	WorkScan	scan = {each, arg};

	scan_work(&table, job_name, visit_work, &scan);
	janitor_table_close(&table);
}
