/*-------------------------------------------------------------------------
 *
 * api_preview.c
 *	  SQL function job_preview: what a job would do now.
 *
 * For whoever may act for the job's owner.  Rules are analysed, planned and
 * counted as the owner, in a security-restricted operation: their expressions
 * may call functions of strangers.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "object.h"
#include "preview.h"
#include "session.h"

PG_FUNCTION_INFO_V1(job_preview);

#define PREVIEW_COLUMNS 13

/* What is done as the owner. */
typedef struct Preview
{
	JanitorJob *job;
	bool		exact;
	List	   *rows;			/* result, of JanitorPreview */
} Preview;

static void
preview_rules(void *arg)
{
	Preview    *preview = arg;
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	foreach(cell, janitor_rules_load(preview->job->name))
		preview->rows = list_concat(preview->rows,
									janitor_preview_rule(lfirst(cell),
														 preview->job, now,
														 preview->exact));
}

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text != NULL)
		values[column] = CStringGetTextDatum(text);
}

static void
set_count(Datum *values, bool *nulls, int column, int64 count)
{
	nulls[column] = count < 0;
	values[column] = Int64GetDatum(count);
}

static void
put_row(ReturnSetInfo *result, const JanitorPreview *row, bool exact)
{
	Datum		values[PREVIEW_COLUMNS] = {0};
	bool		nulls[PREVIEW_COLUMNS] = {0};

	set_text(values, nulls, 0, row->rule);
	set_text(values, nulls, 1, row->relation);
	set_text(values, nulls, 2, row->action);
	set_text(values, nulls, 3, row->method);
	values[4] = TimestampTzGetDatum(row->cutoff);
	nulls[4] = TIMESTAMP_IS_NOBEGIN(row->cutoff);
	set_count(values, nulls, 5, row->rows);
	values[6] = BoolGetDatum(exact);
	set_count(values, nulls, 7, row->held);
	set_count(values, nulls, 8, row->cascaded);
	set_text(values, nulls, 9, row->oldest);
	set_text(values, nulls, 10, row->newest);
	set_text(values, nulls, 11, row->index);
	set_text(values, nulls, 12, row->warnings);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
check_kind(const JanitorJob *job)
{
	if (job->kind == JANITOR_KIND_RETENTION)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("job \"%s\" is of kind \"%s\" and has no preview",
					job->name, janitor_kind_name(job->kind)),
			 errdetail("Only what rules do can be told beforehand.")));
}

/* job_preview(job_name text, exact boolean) returns table (...) */
Datum
job_preview(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Preview		preview = {NULL, false, NIL};
	ListCell   *cell;

	PreventCommandIfParallelMode("job_preview()");
	preview.job = janitor_job_require(janitor_arg_text_required(fcinfo, 0,
																"job_name"));
	janitor_job_check_owner(preview.job);
	check_kind(preview.job);
	preview.exact = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	InitMaterializedSRF(fcinfo, 0);
	janitor_as_role(preview.job->owner_oid,
					janitor_object_get_text(preview.job->settings,
											"search_path"),
					preview.job->time_zone, preview_rules, &preview);
	foreach(cell, preview.rows)
		put_row(result, lfirst(cell), preview.exact);
	return (Datum) 0;
}
