/*-------------------------------------------------------------------------
 *
 * ledger_circuit.c
 *	  job_circuit and its history, job_circuit_event.
 *
 * The row of a circuit holds what its breaker was at one time; reports are
 * appended as events, which takes no lock.  What the breaker is now is the one
 * with the others applied to it (circuit.c), as far as they are committed.
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
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static const char *const state_names[] = {
	[JANITOR_CIRCUIT_CLOSED] = "closed",
	[JANITOR_CIRCUIT_OPEN] = "open",
	[JANITOR_CIRCUIT_HALF_OPEN] = "half_open",
};

const char *
janitor_circuit_state_name(JanitorCircuitState state)
{
	return state_names[state];
}

static JanitorCircuitState
state_from_name(const char *name)
{
	for (int i = 0; i < lengthof(state_names); i++)
		if (strcmp(name, state_names[i]) == 0)
			return (JanitorCircuitState) i;
	elog(ERROR, "unrecognized state of a circuit: \"%s\"", name);
	return JANITOR_CIRCUIT_CLOSED;
}

/* ------------------------------------------------------------------------
 * job_circuit
 * ------------------------------------------------------------------------
 */

static int64
row_interval(const JanitorRow *row, AttrNumber column)
{
	return janitor_interval_usec(DatumGetIntervalP(row->values[column - 1]));
}

static void
circuit_from_tuple(JanitorTable *table, HeapTuple tuple,
				   JanitorCircuit *circuit)
{
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	circuit->tid = tuple->t_self;
	circuit->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	circuit->name = janitor_row_text(&row, Anum_circuit_name);
	circuit->policy.failure_threshold =
		janitor_row_int4(&row, Anum_circuit_failure_threshold);
	circuit->policy.window = row_interval(&row, Anum_circuit_window);
	circuit->policy.cooldown = row_interval(&row, Anum_circuit_cooldown);
	circuit->breaker.state =
		state_from_name(janitor_row_text(&row, Anum_circuit_state));
	circuit->breaker.since = janitor_row_time(&row, Anum_circuit_since);
	circuit->owner = janitor_row_text(&row, Anum_circuit_owner);
	circuit->owner_oid =
		DatumGetObjectId(row.values[Anum_circuit_owner_oid - 1]);
}

bool
janitor_circuit_find(const char *name, JanitorCircuit *circuit)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT, AccessShareLock);
	ScanKeyData key;
	HeapTuple	tuple;

	janitor_key_text(&key, Anum_circuit_name, name);
	tuple = janitor_row_find(&table, JANITOR_CIRCUIT_PKEY, 1, &key);
	if (tuple != NULL)
		circuit_from_tuple(&table, tuple, circuit);
	janitor_table_close(&table);
	return tuple != NULL;
}

static void
set_columns(JanitorRow *row, const JanitorCircuit *circuit,
			const Interval *window, const Interval *cooldown)
{
	janitor_row_set(row, Anum_circuit_failure_threshold,
					Int32GetDatum(circuit->policy.failure_threshold));
	janitor_row_set(row, Anum_circuit_window, IntervalPGetDatum(window));
	janitor_row_set(row, Anum_circuit_cooldown, IntervalPGetDatum(cooldown));
	janitor_row_set_text(row, Anum_circuit_owner, circuit->owner);
	janitor_row_set(row, Anum_circuit_owner_oid,
					ObjectIdGetDatum(circuit->owner_oid));
}

static void
set_breaker(JanitorRow *row, const JanitorBreaker *breaker)
{
	janitor_row_set_text(row, Anum_circuit_state,
						 janitor_circuit_state_name(breaker->state));
	janitor_row_set_time(row, Anum_circuit_since, breaker->since);
}

void
janitor_circuit_insert(const JanitorCircuit *circuit, const Interval *window,
					   const Interval *cooldown)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT,
											RowExclusiveLock);
	JanitorRow	row;

	janitor_row_clear(&row);
	janitor_row_set_text(&row, Anum_circuit_name, circuit->name);
	set_columns(&row, circuit, window, cooldown);
	set_breaker(&row, &circuit->breaker);
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

JanitorLock
janitor_circuit_lock(JanitorCircuit *circuit, bool wait)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT,
											RowExclusiveLock);
	JanitorLock result;

	result = janitor_row_lock(&table, &circuit->tid, circuit->xmin, 0,
							  wait ? LockWaitBlock : LockWaitSkip, NULL);
	janitor_table_close(&table);
	return result;
}

/* Writes some columns of a row that is locked already. */
static void
update_locked(JanitorCircuit *circuit,
			  void (*change) (JanitorRow *row, const void *arg),
			  const void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT,
											RowExclusiveLock);
	HeapTuple	old;
	HeapTuple	written;
	JanitorRow	row;

	if (janitor_row_lock(&table, &circuit->tid, circuit->xmin, 0,
						 LockWaitBlock, &old) != JANITOR_LOCKED)
		elog(ERROR, "circuit \"%s\" is not locked", circuit->name);
	janitor_row_load(&row, &table, old);
	change(&row, arg);
	written = janitor_row_update(&table, old, &row);
	circuit->tid = written->t_self;
	circuit->xmin = HeapTupleHeaderGetRawXmin(written->t_data);
	janitor_table_close(&table);
}

typedef struct NewColumns
{
	const JanitorCircuit *circuit;
	const Interval *window;
	const Interval *cooldown;
} NewColumns;

static void
change_columns(JanitorRow *row, const void *arg)
{
	const NewColumns *columns = arg;

	set_columns(row, columns->circuit, columns->window, columns->cooldown);
}

static void
change_breaker(JanitorRow *row, const void *arg)
{
	set_breaker(row, arg);
}

void
janitor_circuit_update(JanitorCircuit *circuit, const Interval *window,
					   const Interval *cooldown)
{
	NewColumns	columns = {circuit, window, cooldown};

	update_locked(circuit, change_columns, &columns);
}

static void
change_owner_oid(JanitorRow *row, const void *arg)
{
	janitor_row_set(row, Anum_circuit_owner_oid,
					ObjectIdGetDatum(*(const Oid *) arg));
}

void
janitor_circuit_find_owner(const char *name)
{
	JanitorCircuit circuit;
	Oid			owner;

	while (janitor_circuit_find(name, &circuit))
	{
		owner = get_role_oid(circuit.owner, true);
		if (!OidIsValid(owner) || owner == circuit.owner_oid)
			return;
		if (janitor_circuit_lock(&circuit, true) == JANITOR_LOCKED)
		{
			update_locked(&circuit, change_owner_oid, &owner);
			return;
		}
		CHECK_FOR_INTERRUPTS();
	}
}

void
janitor_circuit_set_breaker(JanitorCircuit *circuit,
							const JanitorBreaker *breaker)
{
	update_locked(circuit, change_breaker, breaker);
	circuit->breaker = *breaker;
}

void
janitor_circuit_delete(JanitorCircuit *circuit)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT,
											RowExclusiveLock);

	janitor_row_delete(&table, &circuit->tid);
	janitor_table_close(&table);
}

void
janitor_circuit_scan(void (*each) (JanitorCircuit *circuit, void *arg),
					 void *arg)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = systable_beginscan(table.rel, InvalidOid, false, snapshot, 0,
							  NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		JanitorCircuit circuit;

		circuit_from_tuple(&table, tuple, &circuit);
		each(&circuit, arg);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
}

/* ------------------------------------------------------------------------
 * job_circuit_event
 * ------------------------------------------------------------------------
 */

void
janitor_circuit_note(const char *name, const char *event, TimestampTz at,
					 TimestampTz began, int64 execution_id)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT_EVENT,
											RowExclusiveLock);
	JanitorRow	row;
	char	   *user = GetUserNameFromId(GetSessionUserId(), true);

	janitor_row_clear(&row);
	janitor_row_set(&row, Anum_circuit_event_id,
					Int64GetDatum(janitor_next_id(JANITOR_CIRCUIT_EVENT_SEQUENCE)));
	janitor_row_set_text(&row, Anum_circuit_event_circuit, name);
	janitor_row_set_time(&row, Anum_circuit_event_at, at);
	janitor_row_set_text(&row, Anum_circuit_event_event, event);
	janitor_row_set_time(&row, Anum_circuit_event_began, began);
	janitor_row_set_int8(&row, Anum_circuit_event_execution_id,
						 execution_id, 0);
	janitor_row_set_text(&row, Anum_circuit_event_reported_by, user);
	(void) janitor_row_insert(&table, &row);
	janitor_table_close(&table);
}

/* Reports with later numbers may be so much earlier. */
#define OUT_OF_ORDER (60 * USECS_PER_SEC)

typedef struct ReportScan
{
	JanitorReport *reports;
	int			count;
	int			size;
	TimestampTz since;
} ReportScan;

/*
 * Newest first; changes of state are no reports.  Numbers are given before
 * times, so reports that came together may be out of order.
 */
static bool
visit_report(JanitorTable *table, HeapTuple tuple, void *arg)
{
	ReportScan *scan = arg;
	JanitorReport *report = &scan->reports[scan->count];
	JanitorRow	row;
	char	   *event;

	janitor_row_load(&row, table, tuple);
	report->at = janitor_row_time(&row, Anum_circuit_event_at);
	report->began = janitor_row_time(&row, Anum_circuit_event_began);
	if (report->at <= scan->since)
		return report->at > scan->since - OUT_OF_ORDER;
	event = janitor_row_text(&row, Anum_circuit_event_event);
	report->success = strcmp(event, "success") == 0;
	if (report->success || strcmp(event, "failure") == 0)
		scan->count++;
	pfree(event);
	return scan->count < scan->size;
}

int
janitor_circuit_reports(const char *name, TimestampTz since,
						JanitorReport *reports, int size)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT_EVENT,
											AccessShareLock);
	ReportScan	scan = {reports, 0, size, since};
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;

	janitor_key_text(&key, Anum_circuit_event_circuit, name);
	(void) janitor_table_scan(&table, JANITOR_CIRCUIT_EVENT_INDEX, snapshot,
							  BackwardScanDirection, 1, &key,
							  visit_report, &scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);

	for (int i = 0; i < scan.count / 2; i++)
	{
		JanitorReport other = reports[i];

		reports[i] = reports[scan.count - 1 - i];
		reports[scan.count - 1 - i] = other;
	}
	return scan.count;
}

typedef struct PruneScan
{
	TimestampTz before;
	int			most;
	int			count;
} PruneScan;

static bool
visit_prune(JanitorTable *table, HeapTuple tuple, void *arg)
{
	PruneScan  *scan = arg;
	JanitorRow	row;

	janitor_row_load(&row, table, tuple);
	if (janitor_row_time(&row, Anum_circuit_event_at) >= scan->before)
		return false;
	if (janitor_row_lock(table, &tuple->t_self,
						 HeapTupleHeaderGetRawXmin(tuple->t_data), 0,
						 LockWaitSkip, NULL) == JANITOR_LOCKED)
		janitor_row_delete(table, &tuple->t_self);
	return ++scan->count < scan->most;
}

int
janitor_circuit_prune(const char *name, TimestampTz before, int most)
{
	JanitorTable table = janitor_table_open(JANITOR_CIRCUIT_EVENT,
											RowExclusiveLock);
	PruneScan	scan = {before, most, 0};
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;

	janitor_key_text(&key, Anum_circuit_event_circuit, name);
	(void) janitor_table_scan(&table, JANITOR_CIRCUIT_EVENT_INDEX, snapshot,
							  ForwardScanDirection, 1, &key,
							  visit_prune, &scan);
	UnregisterSnapshot(snapshot);
	janitor_table_close(&table);
	return scan.count;
}
