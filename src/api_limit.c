/*-------------------------------------------------------------------------
 *
 * api_limit.c
 *	  SQL functions for rate limits: job_set_rate_limit, job_drop_rate_limit,
 *	  job_rate_limit_wait.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "gate.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_set_rate_limit);
PG_FUNCTION_INFO_V1(job_drop_rate_limit);
PG_FUNCTION_INFO_V1(job_rate_limit_wait);

#define MAX_RUNS 100000

/* --- runs that were refused --- */

static bool
collect_refused(JanitorEntry *entry, void *arg)
{
	List	  **entries = arg;

	if (entry->detail != NULL &&
		strcmp(entry->detail, JANITOR_DETAIL_WAITS_RATE) == 0)
	{
		JanitorEntry *copy = palloc(sizeof(JanitorEntry));

		*copy = *entry;
		*entries = lappend(*entries, copy);
	}
	return true;
}

/* The limits are others: those that wait for the old ones are due again. */
static void
release_refused(const char *job_name)
{
	List	   *entries = NIL;
	ListCell   *cell;

	janitor_entry_scan(job_name, janitor_clock(), 0, DT_NOEND,
					   collect_refused, &entries);
	foreach(cell, entries)
	{
		JanitorEntry *entry = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		entry->run_at = janitor_clock();
		entry->detail = NULL;
		if (janitor_entry_try_lock(entry) == JANITOR_LOCKED)
			(void) janitor_entry_update(entry);
	}
}

/* --- limits --- */

static bool
is_same_arg(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static int64
check_per(const Interval *per)
{
	int64		usec = janitor_interval_usec(per);

	if (usec <= 0 || usec > 366 * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"per\" must be greater than zero and at most 366 days")));
	return usec;
}

static void
set_limit(const char *job_name, const char *arg, int max_runs,
		  const Interval *per)
{
	int64		usec = check_per(per);
	int			count;
	JanitorRateLimit *limits = janitor_rate_limits(job_name, &count);

	for (int i = 0; i < count; i++)
	{
		if (limits[i].per != usec || !is_same_arg(limits[i].arg, arg))
			continue;
		if (limits[i].max_runs == max_runs)
			return;
		janitor_rate_limit_update(&limits[i], max_runs);
		release_refused(job_name);
		return;
	}
	janitor_rate_limit_insert(job_name, arg, max_runs, per);
}

static int
arg_max_runs(FunctionCallInfo fcinfo)
{
	int			max_runs = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);

	if (max_runs < 1 || max_runs > MAX_RUNS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_runs\" must be between 1 and %d",
						MAX_RUNS)));
	return max_runs;
}

/*
 * job_set_rate_limit(job_name text, max_runs int, per interval, arg text)
 * returns void
 */
Datum
job_set_rate_limit(PG_FUNCTION_ARGS)
{
	JanitorJob *job;
	int			max_runs;

	janitor_prevent_misuse("job_set_rate_limit()");
	job = janitor_job_for_change(janitor_arg_text_required(fcinfo, 0,
														   "job_name"));
	max_runs = arg_max_runs(fcinfo);
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "per")));
	set_limit(job->name, janitor_arg_text(fcinfo, 3), max_runs,
			  PG_GETARG_INTERVAL_P(2));
	janitor_wake_all_at_end();
	PG_RETURN_VOID();
}

void
janitor_drop_limits(const char *job_name)
{
	int			count;
	JanitorRateLimit *limits = janitor_rate_limits(job_name, &count);

	for (int i = 0; i < count; i++)
		janitor_rate_limit_delete(&limits[i]);
}

/* Those of an argument, all or only one; false: there was none. */
static bool
drop_limits(const char *job_name, const char *arg, const Interval *per)
{
	int			count;
	JanitorRateLimit *limits = janitor_rate_limits(job_name, &count);
	bool		found = false;

	for (int i = 0; i < count; i++)
	{
		if (!is_same_arg(limits[i].arg, arg) ||
			(per != NULL && limits[i].per != janitor_interval_usec(per)))
			continue;
		janitor_rate_limit_delete(&limits[i]);
		found = true;
	}
	return found;
}

/*
 * job_drop_rate_limit(job_name text, arg text, per interval) returns void
 */
Datum
job_drop_rate_limit(PG_FUNCTION_ARGS)
{
	JanitorJob *job;

	janitor_prevent_misuse("job_drop_rate_limit()");
	job = janitor_job_for_change(janitor_arg_text_required(fcinfo, 0,
														   "job_name"));
	if (!drop_limits(job->name, janitor_arg_text(fcinfo, 1),
					 PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job \"%s\" has no such rate limit", job->name)));
	release_refused(job->name);
	janitor_wake_all_at_end();
	PG_RETURN_VOID();
}

/* job_rate_limit_wait(job_name text, args jsonb) returns interval */
Datum
job_rate_limit_wait(PG_FUNCTION_ARGS)
{
	TimestampTz now = janitor_clock();
	JanitorJob *job;
	JanitorGate gate;
	Jsonb	   *args;
	Interval   *wait = palloc0(sizeof(Interval));

	job = janitor_job_for_work(janitor_arg_text_required(fcinfo, 0,
														 "job_name"));
	args = janitor_job_merge_args(job, janitor_arg_object(fcinfo, 1, "args"));
	janitor_gate_open(&gate, job, now);
	wait->time = janitor_gate_opens(&gate, args, now) - now;
	PG_RETURN_INTERVAL_P(wait);
}
