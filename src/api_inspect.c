/*-------------------------------------------------------------------------
 *
 * api_inspect.c
 *	  SQL functions that look and change nothing: job_next_runs, job_why, and
 *	  what the views are built on.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "access/xlog.h"
#include "access/xact.h"
#include "funcapi.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "gate.h"
#include "home.h"
#include "settings.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_next_runs);
PG_FUNCTION_INFO_V1(job_running);
PG_FUNCTION_INFO_V1(job_owner_problem);
PG_FUNCTION_INFO_V1(job_disarmed);
PG_FUNCTION_INFO_V1(job_why);
PG_FUNCTION_INFO_V1(job_check_installation);

#define MAX_NEXT_RUNS 10000

/* Waiting runs that job_why() counts. */
#define REFUSED_COUNTED 1000

/* Due ones that it looks at for one that waits for nothing. */
#define UNCLAIMED_LOOKED_AT 1000

/* --- job_next_runs --- */

static int
next_runs_count(FunctionCallInfo fcinfo)
{
	int			count = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3);

	if (count < 1 || count > MAX_NEXT_RUNS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"count\" must be between 1 and %d",
						MAX_NEXT_RUNS)));
	return count;
}

/*
 * job_next_runs(schedule text, time_zone text, after timestamptz, count int)
 * returns setof timestamptz
 */
Datum
job_next_runs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *schedule = janitor_arg_text_required(fcinfo, 0, "schedule");
	char	   *zone = janitor_arg_text_required(fcinfo, 1, "time_zone");
	TimestampTz after = PG_ARGISNULL(2) ? janitor_clock() :
	PG_GETARG_TIMESTAMPTZ(2);
	int			count = next_runs_count(fcinfo);
	TimestampTz *runs = palloc(count * sizeof(TimestampTz));

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	count = janitor_next_runs(schedule, zone, after, count, runs);
	for (int i = 0; i < count; i++)
	{
		Datum		value = TimestampTzGetDatum(runs[i]);
		bool		isnull = false;

		tuplestore_putvalues(result->setResult, result->setDesc,
							 &value, &isnull);
	}
	return (Datum) 0;
}

/* --- job_running --- */

/*
 * job_running() returns table (execution_id bigint, pid int, since timestamptz)
 *
 * Runs of roles that the caller is a member of, as shared memory has them;
 * none where the library is not loaded.  pid is NULL while a run waits for
 * its worker.
 */
Datum
job_running(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n;
	JanitorRunInfo *runs = janitor_runs(&n);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		if (runs[i].execution_id == 0 ||
			!is_member_of_role(GetUserId(), runs[i].owner))
			continue;
		values[0] = Int64GetDatum(runs[i].execution_id);
		values[1] = Int32GetDatum(runs[i].pid);
		nulls[1] = runs[i].pid == 0;
		values[2] = TimestampTzGetDatum(runs[i].started_at);
		tuplestore_putvalues(result->setResult, result->setDesc,
							 values, nulls);
	}
	return (Datum) 0;
}

/* job_owner_problem(owner text, owner_oid oid) returns text; strict */
Datum
job_owner_problem(PG_FUNCTION_ARGS)
{
	const char *problem;

	problem = janitor_owner_problem(janitor_arg_text(fcinfo, 0),
									PG_GETARG_OID(1));
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/* job_disarmed(home bigint, home_database oid, environment text) returns text */
Datum
job_disarmed(PG_FUNCTION_ARGS)
{
	const char *problem;

	problem = janitor_home_problem(PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0),
								   PG_ARGISNULL(1) ? InvalidOid :
								   PG_GETARG_OID(1),
								   janitor_arg_text(fcinfo, 2));
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/* --- job_why --- */

/* One row: hint only where something is wrong. */
static void
put_check(ReturnSetInfo *result, const char *name, bool ok,
		  const char *detail, const char *hint)
{
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	values[0] = CStringGetTextDatum(name);
	values[1] = BoolGetDatum(ok);
	values[2] = CStringGetTextDatum(detail);
	nulls[3] = ok || hint == NULL;
	values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(hint);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static char *
time_text(TimestampTz time)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out,
											   TimestampTzGetDatum(time)));
}

/* A call that a person can type. */
static char *
call_text(const char *function, const char *job_name)
{
	return psprintf("SELECT %s(%s);", function, quote_literal_cstr(job_name));
}

static void
check_server(ReturnSetInfo *result)
{
	bool		loaded = janitor_shmem_available();

	put_check(result, "library", loaded,
			  loaded ? "pg_janitor is loaded" : "pg_janitor is not loaded",
			  "Add pg_janitor to shared_preload_libraries and restart the server.");
	put_check(result, "server", !RecoveryInProgress(),
			  RecoveryInProgress() ? "the server is a standby" :
			  "the server accepts writes",
			  "Jobs run on the primary, and here after a promotion.");
	put_check(result, "setting", janitor_enabled,
			  janitor_enabled ? "pg_janitor.enabled is on" :
			  "pg_janitor.enabled is off",
			  "Set pg_janitor.enabled to on, in postgresql.conf or with ALTER DATABASE.");
}

static void
check_job_state(ReturnSetInfo *result, const JanitorJob *job)
{
	const char *problem = job->kind == JANITOR_KIND_EXTERNAL ? NULL :
	janitor_job_owner_problem(job);
	const char *disarmed = janitor_job_disarmed(job);
	const char *paused = "the job is not paused";

	put_check(result, "armed", disarmed == NULL,
			  disarmed ? psprintf("the job is disarmed: %s", disarmed) :
			  "the job is armed in this database",
			  "SELECT job_rearm();");
	put_check(result, "enabled", job->enabled,
			  job->enabled ? "the job is enabled" :
			  "the job is disabled: only triggers run it",
			  call_text("job_enable", job->name));
	if (job->paused && TIMESTAMP_IS_NOEND(job->paused_until))
		paused = "the job is paused until it is resumed";
	else if (job->paused)
		paused = psprintf("the job is paused until %s",
						  time_text(job->paused_until));
	put_check(result, "paused", !job->paused, paused,
			  call_text("job_resume", job->name));
	put_check(result, "owner", problem == NULL,
			  problem ? problem :
			  psprintf("the job runs as role \"%s\"", job->owner),
			  "Correct the role, or name another owner with job_alter().");
}

static void
check_next_run(ReturnSetInfo *result, const JanitorJob *job)
{
	JanitorEntry entry;
	bool		found;

	if (job->schedule == NULL)
	{
		put_check(result, "schedule", true,
				  "the job has no schedule: it runs when triggered", NULL);
		return;
	}
	found = janitor_entry_find_key(job->name, JANITOR_KEY_SCHEDULE, &entry);
	if (!found)
		put_check(result, "schedule", job->run_on_start ||
				  !janitor_job_runs_by_itself(job),
				  psprintf("the schedule \"%s\" has no next run",
						   job->schedule),
				  "The next look of the scheduler restores it.");
	else
		put_check(result, "schedule", entry.run_at >
				  janitor_clock() - JANITOR_MISSED_AFTER,
				  psprintf("the next run is at %s", time_text(entry.run_at)),
				  "It is overdue: see the other checks and the server log.");
}

typedef struct Holder
{
	int			pid;			/* 0: nobody holds any entry */
	JanitorEntry entry;
} Holder;

static bool
find_holder(JanitorEntry *entry, void *arg)
{
	Holder	   *holder = arg;

	if (!TransactionIdIsValid(entry->xmax) ||
		TransactionIdIsCurrentTransactionId(entry->xmax) ||
		!TransactionIdIsInProgress(entry->xmax))
		return true;
	holder->pid = BackendXidGetPid(entry->xmax);
	holder->entry = *entry;
	return false;
}

/* Somebody's open transaction keeps a due entry from being claimed. */
static void
check_holder(ReturnSetInfo *result, const JanitorJob *job)
{
	Holder		holder = {0};

	PushActiveSnapshot(GetLatestSnapshot());
	janitor_entry_scan(job->name, DT_NOBEGIN, 0, janitor_clock(),
					   find_holder, &holder);
	PopActiveSnapshot();
	if (holder.entry.id == 0)
		put_check(result, "lock", true,
				  "no open transaction holds a due run of the job", NULL);
	else if (holder.pid == 0)
		put_check(result, "lock", false,
				  "the job is held by a prepared transaction",
				  "See pg_prepared_xacts, and commit it or roll it back.");
	else
		put_check(result, "lock", false,
				  psprintf("the job is held by the open transaction of process %d",
						   holder.pid),
				  psprintf("It must commit or roll back; SELECT pg_terminate_backend(%d); ends it.",
						   holder.pid));
}

/* The last run that was not skipped. */
static bool
take_last_run(JanitorExecution *execution, void *arg)
{
	JanitorExecution *last = arg;

	if (execution->status == JANITOR_SKIPPED ||
		execution->status == JANITOR_RUNNING)
		return true;
	*last = *execution;
	return false;
}

static void
check_last_run(ReturnSetInfo *result, const JanitorJob *job)
{
	JanitorExecution last = {.id = 0};

	janitor_execution_scan(job->name, take_last_run, &last);
	if (last.id == 0)
		put_check(result, "last run", true, "the job has not run yet", NULL);
	else
		put_check(result, "last run", last.status == JANITOR_SUCCEEDED ||
				  last.status == JANITOR_CANCELLED,
				  psprintf("execution " INT64_FORMAT " %s%s%s", last.id,
						   janitor_status_name(last.status),
						   last.error_message ? ": " : "",
						   last.error_message ? last.error_message : ""),
				  psprintf("SELECT * FROM job_logs(%s);",
						   quote_literal_cstr(job->name)));
}

/* Does its circuit let it start? */
static void
check_circuit(ReturnSetInfo *result, const JanitorGate *gate)
{
	if (gate->job->circuit == NULL)
		return;
	if (!gate->has_circuit)
		put_check(result, "circuit", false,
				  psprintf("circuit \"%s\" does not exist, and so stops nothing",
						   gate->job->circuit),
				  psprintf("SELECT job_set_circuit(%s);",
						   quote_literal_cstr(gate->job->circuit)));
	else if (gate->passage == JANITOR_PASS)
		put_check(result, "circuit", true,
				  psprintf("circuit \"%s\" is closed", gate->circuit.name),
				  NULL);
	else
		put_check(result, "circuit", gate->passage == JANITOR_PROBE,
				  psprintf("circuit \"%s\" is %s, the next probe is let through at %s",
						   gate->circuit.name,
						   gate->circuit.breaker.state == JANITOR_CIRCUIT_OPEN ?
						   "open" : "half-open",
						   time_text(janitor_gate_probe_at(gate))),
				  "SELECT * FROM job_circuit_history; says what was reported.");
}

typedef struct Refused
{
	int			count;
	TimestampTz first;
} Refused;

static bool
count_refused(JanitorEntry *entry, void *arg)
{
	Refused    *refused = arg;

	if (entry->detail == NULL ||
		strcmp(entry->detail, JANITOR_DETAIL_WAITS_RATE) != 0)
		return true;
	if (refused->count++ == 0)
		refused->first = entry->run_at;
	return refused->count < REFUSED_COUNTED;
}

static void
check_limits(ReturnSetInfo *result, const JanitorGate *gate)
{
	Refused		refused = {0};

	if (gate->limits == 0)
		return;
	janitor_entry_scan(gate->job->name, DT_NOBEGIN, 0, DT_NOEND,
					   count_refused, &refused);
	put_check(result, "rate limits", refused.count == 0,
			  refused.count == 0 ? "no run waits for a rate limit" :
			  psprintf("%d%s runs wait for a rate limit, the first until %s",
					   refused.count,
					   refused.count == REFUSED_COUNTED ? " or more" : "",
					   time_text(refused.first)),
			  psprintf("SELECT * FROM job_rate_limit WHERE job_name = %s;",
					   quote_literal_cstr(gate->job->name)));
}

static bool
take_first_lease(JanitorLease *lease, void *arg)
{
	JanitorLease *first = arg;

	if (first->execution_id == 0 || lease->lease_until < first->lease_until)
		*first = *lease;
	return true;
}

/*
 * Runs of an external job are in the hands of workers outside.  false: there
 * are as many as may be.
 */
static bool
check_leases(ReturnSetInfo *result, const JanitorJob *job)
{
	int			running = janitor_lease_count(job->name);
	bool		ok = job->max_running == 0 || running < job->max_running;
	JanitorLease first = {.execution_id = 0};
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfo(&detail, "%d", running);
	if (job->max_running > 0)
		appendStringInfo(&detail, " of at most %d", job->max_running);
	appendStringInfoString(&detail, " runs in the hands of workers");
	janitor_lease_scan_job(job->name, take_first_lease, &first);
	if (first.execution_id != 0)
		appendStringInfo(&detail, ", the first lease ends at %s (execution "
						 INT64_FORMAT ")",
						 time_text(first.lease_until), first.execution_id);
	put_check(result, "running", ok, detail.data,
			  psprintf("They have to end: by their workers, with their leases, or SELECT job_cancel(%s); or raise max_running.",
					   quote_literal_cstr(job->name)));
	return ok;
}

/* What could be claimed, but for others with the same key. */
typedef struct Unclaimed
{
	JanitorEntry free;			/* id 0: none */
	JanitorEntry keyed;			/* likewise */
	int			looked_at;
} Unclaimed;

static bool
find_unclaimed(JanitorEntry *entry, void *arg)
{
	Unclaimed  *unclaimed = arg;

	if (entry->key != NULL &&
		strcmp(entry->key, JANITOR_KEY_SCHEDULE) == 0)
		return true;
	if (entry->key == NULL || entry->key[0] == '@' ||
		!janitor_lease_has_key(entry->job_name, entry->key))
		unclaimed->free = *entry;
	else if (unclaimed->keyed.id == 0)
		unclaimed->keyed = *entry;
	return unclaimed->free.id == 0 &&
		++unclaimed->looked_at < UNCLAIMED_LOOKED_AT;
}

/* The server starts nothing of an external job. */
static void
check_claim(ReturnSetInfo *result, const JanitorJob *job)
{
	Unclaimed	unclaimed = {.looked_at = 0};

	janitor_entry_scan(job->name, DT_NOBEGIN, 0, janitor_clock(),
					   find_unclaimed, &unclaimed);
	if (unclaimed.free.id != 0)
		put_check(result, "claim", false,
				  psprintf("a run is due since %s and no worker has claimed it",
						   time_text(unclaimed.free.run_at)),
				  psprintf("A worker has to SELECT * FROM job_claim(%s); SELECT job_grant('role', 'work', %s); lets it.",
						   quote_literal_cstr(job->name),
						   quote_literal_cstr(job->name)));
	else if (unclaimed.keyed.id != 0)
		put_check(result, "claim", false,
				  psprintf("a run is due since %s and waits for the one in progress with its key \"%s\"",
						   time_text(unclaimed.keyed.run_at),
						   unclaimed.keyed.key),
				  psprintf("SELECT * FROM job_runs WHERE job_name = %s AND status = 'running';",
						   quote_literal_cstr(job->name)));
	else
		put_check(result, "claim", true, "nothing is due that could be claimed",
				  NULL);
}

static void
check_capacity(ReturnSetInfo *result, const JanitorJob *job)
{
	int			n;
	JanitorRunInfo *runs = janitor_runs(&n);
	uint64		hash = janitor_job_hash(job->name);
	JanitorCapacity capacity;
	int			running = 0;

	for (int i = 0; i < n; i++)
		running += runs[i].execution_id != 0 && runs[i].job_hash == hash;
	janitor_capacity(&capacity);
	put_check(result, "running",
			  job->max_running == 0 || running < job->max_running,
			  job->max_running == 0 ? psprintf("%d runs in progress", running) :
			  psprintf("%d of at most %d runs in progress", running,
					   job->max_running),
			  psprintf("SELECT job_cancel(%s), or raise max_running.",
					   quote_literal_cstr(job->name)));
	put_check(result, "processes", !janitor_shortage(),
			  janitor_shortage() ? "no background worker process is free" :
			  "background worker processes were to be had",
			  "Increase max_worker_processes and restart the server.");
	put_check(result, "workers", capacity.busy < janitor_max_workers,
			  psprintf("%d of %d workers are busy in this database",
					   capacity.busy, janitor_max_workers),
			  "Raise pg_janitor.max_workers.");
	if (janitor_job_is_heavy(job))
		put_check(result, "heavy", capacity.heavy < capacity.heavy_limit,
				  psprintf("%d of at most %d workers in the cluster are at runs of its kind",
						   capacity.heavy, capacity.heavy_limit),
				  "It starts when one of them ends; or raise pg_janitor.max_workers.");
}

/* job_why(job_name text) returns table (check_name, ok, detail, hint) */
Datum
job_why(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	JanitorJob *job;
	JanitorGate gate;

	job = janitor_job_require(janitor_arg_text_required(fcinfo, 0,
														"job_name"));
	janitor_gate_open(&gate, job, janitor_clock());
	InitMaterializedSRF(fcinfo, 0);
	check_server(result);
	check_job_state(result, job);
	check_next_run(result, job);
	check_holder(result, job);
	check_circuit(result, &gate);
	check_limits(result, &gate);
	if (job->kind == JANITOR_KIND_EXTERNAL)
	{
		if (check_leases(result, job) && !job->paused &&
			gate.passage != JANITOR_NO_PASS)
			check_claim(result, job);
	}
	else
		check_capacity(result, job);
	check_last_run(result, job);
	return (Datum) 0;
}

/* --- at CREATE EXTENSION --- */

/* job_check_installation(version text) returns void; scripts begin with it */
Datum
job_check_installation(PG_FUNCTION_ARGS)
{
	char	   *version = janitor_arg_text_required(fcinfo, 0, "version");

	if (janitor_version_precedes(JANITOR_EXTENSION_VERSION, version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_janitor library is version \"%s\", too old for version \"%s\" of the extension",
						JANITOR_EXTENSION_VERSION, version),
				 errhint("Install the library of that version, and restart the server.")));
	if (!janitor_shmem_available())
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_janitor is not loaded: jobs will not run"),
				 errhint("Add pg_janitor to shared_preload_libraries and restart the server.")));
	PG_RETURN_VOID();
}
