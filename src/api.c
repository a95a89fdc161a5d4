/*-------------------------------------------------------------------------
 *
 * api.c
 *	  What the SQL functions share: arguments and rights.
 *
 * The functions themselves: api_define.c makes and changes jobs, api_rule.c
 * their rules, api_pause.c stops and resumes them, api_rearm.c lets them run in
 * a copy, api_run.c runs them, api_cancel.c cancels runs,
 * api_wait.c waits for runs, api_inspect.c looks at them, api_report.c is for
 * the inside of a run, api_coverage.c looks for what no rule erases, api_hold.c places legal holds, api_grant.c hands out
 * rights.
 *
 * They run in the caller's backend and transaction, as the caller, and touch
 * our tables through the ledger alone, which checks nothing.  So each of them
 * that writes begins with janitor_prevent_misuse() and looks at rights before
 * it touches a job: EXECUTE on the function is the right to use it at all,
 * acting for the job's owner the right to use it on that job.  A job whose
 * owner the caller is no member of does not exist, as far as the caller can
 * tell.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "utils/builtins.h"

#include "option.h"

static void
refuse_null(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("argument \"%s\" must not be null", name)));
}

/* Names of arguments are known to their callers; a number will do here. */
char *
janitor_arg_text(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		return NULL;
	janitor_value_check("argument", psprintf("$%d", n + 1),
						PG_GETARG_DATUM(n));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
janitor_arg_text_required(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		refuse_null(name);
	return janitor_arg_text(fcinfo, n);
}

int64
janitor_arg_int64_required(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		refuse_null(name);
	return PG_GETARG_INT64(n);
}

Jsonb *
janitor_arg_object(FunctionCallInfo fcinfo, int n, const char *name)
{
	Jsonb	   *object;

	if (PG_ARGISNULL(n))
		return NULL;
	janitor_value_check("argument", name, PG_GETARG_DATUM(n));
	object = PG_GETARG_JSONB_P(n);
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON object", name)));
	return object;
}

char *
janitor_session_user(void)
{
	return GetUserNameFromId(GetSessionUserId(), false);
}

JanitorJob *
janitor_job_for_use(const char *job_name)
{
	JanitorJob *job = janitor_job_require(job_name);

	janitor_job_check_owner(job);
	return job;
}

/*
 * Rights are looked at before the lock is taken, so that nobody can hold up
 * the jobs of others, and again after it: the job may be another one by then.
 */
JanitorJob *
janitor_job_for_change(const char *job_name)
{
	(void) janitor_job_for_use(job_name);
	janitor_job_lock(job_name);
	return janitor_job_for_use(job_name);
}

void
janitor_no_execution(int64 execution_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("execution " INT64_FORMAT " does not exist",
					execution_id)));
}

JanitorJob *
janitor_job_of_execution(int64 execution_id, const char *job_name)
{
	JanitorJob *job = janitor_job_load(job_name);

	if (job == NULL)
		return NULL;
	if (!janitor_job_visible(job))
		janitor_no_execution(execution_id);
	janitor_job_check_owner(job);
	return job;
}
