/*-------------------------------------------------------------------------
 *
 * api_report.c
 *	  SQL functions for the inside of a run: what it was given, and what it
 *	  wants to say about itself.
 *
 * They read and write the run that this process is carrying out (run.h), and
 * nothing else: no table, no shared memory.  In any other process they raise
 * an error; returning NULL would make a condition in a command that is tried
 * out by hand silently false.  job_now() alone answers elsewhere too, while a
 * rule is being looked at (janitor_with_now).
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "option.h"
#include "run.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(job_args);
PG_FUNCTION_INFO_V1(job_arg);
PG_FUNCTION_INFO_V1(job_execution_id);
PG_FUNCTION_INFO_V1(job_scheduled_for);
PG_FUNCTION_INFO_V1(job_now);
PG_FUNCTION_INFO_V1(job_report);

/* job_args() returns jsonb */
Datum
job_args(PG_FUNCTION_ARGS)
{
	JanitorRun *run = janitor_require_run("job_args()");

	if (run->args == NULL)
		return DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	PG_RETURN_JSONB_P(run->args);
}

/* job_arg(key text) returns text */
Datum
job_arg(PG_FUNCTION_ARGS)
{
	JanitorRun *run = janitor_require_run("job_arg()");

	LOCAL_FCINFO(call, 2);
	Datum		result;

	if (PG_ARGISNULL(0) || run->args == NULL)
		PG_RETURN_NULL();

	/* the operator ->>, called by hand since it may return NULL */
	InitFunctionCallInfoData(*call, NULL, 2, InvalidOid, NULL, NULL);
	call->args[0].value = JsonbPGetDatum(run->args);
	call->args[0].isnull = false;
	call->args[1].value = PG_GETARG_DATUM(0);
	call->args[1].isnull = false;
	result = jsonb_object_field_text(call);
	if (call->isnull)
		PG_RETURN_NULL();
	return result;
}

/* job_execution_id() returns bigint */
Datum
job_execution_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(janitor_require_run("job_execution_id()")->execution_id);
}

/* job_scheduled_for() returns timestamptz */
Datum
job_scheduled_for(PG_FUNCTION_ARGS)
{
	JanitorRun *run = janitor_require_run("job_scheduled_for()");

	if (TIMESTAMP_IS_NOBEGIN(run->scheduled_for))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(run->scheduled_for);
}

/* job_now() returns timestamptz */
Datum
job_now(PG_FUNCTION_ARGS)
{
	TimestampTz frozen = janitor_frozen_now();

	if (!TIMESTAMP_NOT_FINITE(frozen))
		PG_RETURN_TIMESTAMPTZ(frozen);
	PG_RETURN_TIMESTAMPTZ(janitor_require_run("job_now()")->now);
}

/*
 * job_report(records bigint, result jsonb) returns void
 *
 * The last call wins.  The result is kept in the run's own context: the
 * command may commit in between.
 */
Datum
job_report(PG_FUNCTION_ARGS)
{
	JanitorRun *run = janitor_require_run("job_report()");

	if (!PG_ARGISNULL(0) && PG_GETARG_INT64(0) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"records\" must not be negative")));

	if (!PG_ARGISNULL(1))
		janitor_value_check("argument", "result", PG_GETARG_DATUM(1));

	run->reported = true;
	run->reported_records = PG_ARGISNULL(0) ? -1 : PG_GETARG_INT64(0);
	run->result = NULL;
	if (!PG_ARGISNULL(1))
	{
		MemoryContext caller = MemoryContextSwitchTo(run->context);

		run->result = PG_GETARG_JSONB_P_COPY(1);
		MemoryContextSwitchTo(caller);
	}
	PG_RETURN_VOID();
}
