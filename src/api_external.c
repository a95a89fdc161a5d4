/*-------------------------------------------------------------------------
 *
 * api_external.c
 *	  SQL functions for external jobs: job_schedule_external makes them,
 *	  job_claim, job_extend and job_finish are for the workers outside.
 *
 * The worker's functions run in his own transaction (lease.c says what that
 * may lock), with the rights of the role he is connected as: that role must be
 * able to act for the job's owner, or have been granted `work` on the job.
 * A lease is finished by whoever has its token and still has that right.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "lease.h"
#include "option.h"
#include "session.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_schedule_external);
PG_FUNCTION_INFO_V1(job_claim);
PG_FUNCTION_INFO_V1(job_extend);
PG_FUNCTION_INFO_V1(job_finish);

#define MAX_CLAIM 10000
#define MAX_LEASE (366 * USECS_PER_DAY)

/* --- job_schedule_external --- */

/* The arguments after job_name, in order. */
static const AttrNumber schedule_arguments[] = {
	Anum_definition_schedule,
	Anum_definition_description,
	Anum_definition_tags,
	Anum_definition_time_zone,
	Anum_definition_args,
	Anum_definition_owner,
	Anum_definition_enabled,
	Anum_definition_run_on_start,
	Anum_definition_run_after,
	Anum_definition_on_failure,
	Anum_definition_catch_up,
	Anum_definition_catch_up_within,
	Anum_definition_max_running,
	Anum_definition_overlap,
	Anum_definition_timeout,
	Anum_definition_max_attempts,
	Anum_definition_retry_delay,
	Anum_definition_retry_max_delay,
	Anum_definition_jitter,
	Anum_definition_priority,
	Anum_definition_circuit,
	Anum_definition_keep_history,
	Anum_definition_keep_runs
};

/* job_schedule_external(job_name, schedule, ...) returns timestamptz */
Datum
job_schedule_external(PG_FUNCTION_ARGS)
{
	int			count = lengthof(schedule_arguments);
	char	   *job_name;
	JanitorDraft draft;

	janitor_prevent_misuse("job_schedule_external()");
	job_name = janitor_arg_text_required(fcinfo, 0, "job_name");
	janitor_arg_draft(fcinfo, JANITOR_KIND_EXTERNAL, schedule_arguments, 1,
					  count,
					  janitor_arg_object(fcinfo, count + 1, "options"),
					  &draft);
	return janitor_next_run(fcinfo, janitor_define_job(&draft, job_name));
}

/* --- rights --- */

static void
note_member(Oid role_oid, const char *role, void *arg)
{
	bool	   *may_work = arg;
	char	   *name = GetUserNameFromId(role_oid, true);

	if (name != NULL && strcmp(name, role) == 0 &&
		is_member_of_role(GetUserId(), role_oid))
		*may_work = true;
}

static bool
was_granted_work(const char *job_name)
{
	bool		may_work = false;

	janitor_work_scan(job_name, note_member, &may_work);
	return may_work;
}

/* Of a job that a grant does not cover, strangers do not even learn. */
JanitorJob *
janitor_job_for_work(const char *job_name)
{
	JanitorJob *job;

	if (superuser() || !was_granted_work(job_name))
		return janitor_job_for_use(job_name);
	job = janitor_job_load(job_name);
	return job != NULL ? job : janitor_job_require(job_name);
}

static void
check_external(const JanitorJob *job)
{
	if (job->kind != JANITOR_KIND_EXTERNAL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("job \"%s\" is not an external job", job->name),
				 errdetail("It is of kind \"%s\": its runs are carried out in the database.",
						   janitor_kind_name(job->kind))));
}

/* --- arguments --- */

static int64
arg_duration(FunctionCallInfo fcinfo, int n, const char *name, int64 least)
{
	int64		usec;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	usec = janitor_interval_usec(PG_GETARG_INTERVAL_P(n));
	if (usec < least || usec > MAX_LEASE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 least > 0 ?
				 errmsg("argument \"%s\" must be greater than zero and at most 366 days",
						name) :
				 errmsg("argument \"%s\" must not be negative and at most 366 days",
						name)));
	return usec;
}

static pg_uuid_t *
arg_token(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "token")));
	return PG_GETARG_UUID_P(n);
}

/* --- job_claim --- */

static void
put_handout(ReturnSetInfo *result, const JanitorHandout *handout)
{
	Datum		values[7];
	bool		nulls[7] = {false};
	const JanitorEntry *entry = &handout->entry;

	values[0] = Int64GetDatum(entry->execution_id);
	values[1] = UUIDPGetDatum(&handout->token);
	values[2] = JsonbPGetDatum(handout->args);
	values[3] = Int32GetDatum(entry->attempt);
	values[4] = TimestampTzGetDatum(handout->lease_until);
	nulls[5] = entry->key == NULL || entry->key[0] == '@';
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(entry->key);
	nulls[6] = entry->scheduled_for == DT_NOBEGIN;
	values[6] = TimestampTzGetDatum(entry->scheduled_for);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static int
arg_max_runs(FunctionCallInfo fcinfo)
{
	int			max_runs = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);

	if (max_runs < 1 || max_runs > MAX_CLAIM)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_runs\" must be between 1 and %d",
						MAX_CLAIM)));
	return max_runs;
}

/*
 * job_claim(job_name text, max_runs int, lease interval, worker text)
 * returns table (execution_id bigint, token uuid, args jsonb, attempt int,
 * lease_until timestamptz, key text, scheduled_for timestamptz)
 */
Datum
job_claim(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	JanitorClaiming claiming = {0};

	janitor_prevent_misuse("job_claim()");
	janitor_shmem_require();
	claiming.job = janitor_job_for_work(janitor_arg_text_required(fcinfo, 0,
																  "job_name"));
	check_external(claiming.job);
	claiming.max_runs = arg_max_runs(fcinfo);
	claiming.lease = arg_duration(fcinfo, 2, "lease", 1);
	claiming.worker = janitor_arg_text(fcinfo, 3);
	if (claiming.worker == NULL)
		claiming.worker = GetConfigOption("application_name", false, false);

	InitMaterializedSRF(fcinfo, 0);
	janitor_lease_claim(&claiming);
	for (int i = 0; i < claiming.count; i++)
		put_handout(result, &claiming.handout[i]);
	return (Datum) 0;
}

/* --- job_extend, job_finish --- */

/*
 * The lease, and its job if that is still there.  A token in the wrong hands
 * is worth nothing, and tells nothing.
 */
static JanitorJob *
require_lease(FunctionCallInfo fcinfo, JanitorLease *lease)
{
	int64		id = janitor_arg_int64_required(fcinfo, 0, "execution_id");
	JanitorJob *job;

	janitor_shmem_require();
	janitor_lease_require(id, arg_token(fcinfo, 1), lease);
	job = janitor_job_load(lease->job_name);
	if (job == NULL || was_granted_work(job->name))
		return job;
	if (!janitor_job_visible(job))
		janitor_lease_refuse(id);
	janitor_job_check_owner(job);
	return job;
}

/*
 * job_extend(execution_id bigint, token uuid, lease interval)
 * returns timestamptz
 */
Datum
job_extend(PG_FUNCTION_ARGS)
{
	JanitorLease lease;
	JanitorJob *job;
	int64		length;

	janitor_prevent_misuse("job_extend()");
	length = arg_duration(fcinfo, 2, "lease", 1);
	job = require_lease(fcinfo, &lease);
	PG_RETURN_TIMESTAMPTZ(janitor_lease_prolong(&lease, job, length));
}

static void
contradiction(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", what)));
}

static void
read_word(FunctionCallInfo fcinfo, JanitorWord *word)
{
	word->success = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	word->records = PG_ARGISNULL(3) ? -1 : PG_GETARG_INT64(3);
	word->error = janitor_arg_text(fcinfo, 4);
	if (word->error != NULL)
		word->error = janitor_clip(word->error);
	if (!PG_ARGISNULL(5))
	{
		janitor_value_check("argument", "result", PG_GETARG_DATUM(5));
		word->result = PG_GETARG_JSONB_P(5);
	}
	word->permanent = !PG_ARGISNULL(6) && PG_GETARG_BOOL(6);
	word->snooze = PG_ARGISNULL(7) ? -1 : arg_duration(fcinfo, 7, "snooze", 0);
	if (PG_ARGISNULL(2))
		contradiction("argument \"success\" must not be null");
	if (!PG_ARGISNULL(3) && word->records < 0)
		contradiction("argument \"records\" must not be negative");
	if (word->snooze >= 0 && word->permanent)
		contradiction("a run cannot fail for good and be snoozed");
	if (word->snooze >= 0)
		return;
	if (word->success && word->error != NULL)
		contradiction("a run that succeeded has no error");
	if (word->success && word->permanent)
		contradiction("a run that succeeded has not failed for good");
}

/*
 * job_finish(execution_id bigint, token uuid, success boolean,
 * records bigint, error text, result jsonb, permanent boolean,
 * snooze interval) returns text
 */
Datum
job_finish(PG_FUNCTION_ARGS)
{
	JanitorLease lease;
	JanitorJob *job;
	JanitorWord word = {0};

	janitor_prevent_misuse("job_finish()");
	read_word(fcinfo, &word);
	job = require_lease(fcinfo, &lease);
	PG_RETURN_TEXT_P(cstring_to_text(janitor_lease_end(&lease, job, &word)));
}
