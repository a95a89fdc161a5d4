/*-------------------------------------------------------------------------
 *
 * api_progress.c
 *	  SQL functions that tell how far runs have come, for the views.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "progress.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_progress_rows);
PG_FUNCTION_INFO_V1(job_heavy_room);

/* Columns of job_progress_rows(). */
#define PROGRESS_COLUMNS 10

/* Rows per second since the start; -1: it has not begun. */
static double
rate(const JanitorProgress *progress, TimestampTz now)
{
	return now <= progress->since ? -1 :
		progress->rows * (double) USECS_PER_SEC / (now - progress->since);
}

/*
 * How long a run will take, by the fraction of the work that is done or else
 * by rows, its helpers' among them; NULL: no idea.
 */
static Interval *
time_left(const JanitorProgress *run, const JanitorProgress *all, int count,
		  TimestampTz now)
{
	double		fraction = run->fraction;
	Interval   *left;

	if (run->helper)
		return NULL;
	if (fraction < 0 && run->total > 0)
	{
		fraction = run->helped / (double) run->total;
		for (int i = 0; i < count; i++)
		{
			if (all[i].execution_id == run->execution_id)
				fraction += all[i].rows / (double) run->total;
		}
	}
	if (fraction <= 0 || now <= run->since)
		return NULL;
	left = palloc0(sizeof(Interval));
	if (fraction < 1)
		left->time = (TimeOffset) Min((now - run->since) *
									  (1 - fraction) / fraction,
									  (double) DAYS_PER_MONTH * USECS_PER_DAY *
									  MONTHS_PER_YEAR);
	return left;
}

static void
put_row(ReturnSetInfo *result, const JanitorProgress *all, int count, int i)
{
	const JanitorProgress *progress = &all[i];
	TimestampTz now = GetCurrentTimestamp();
	Interval   *left = time_left(progress, all, count, now);
	Datum		values[PROGRESS_COLUMNS];
	bool		nulls[PROGRESS_COLUMNS] = {false};

	values[0] = Int64GetDatum(progress->execution_id);
	values[1] = Int32GetDatum(progress->pid);
	nulls[1] = progress->pid == 0;
	values[2] = CStringGetTextDatum(progress->phase);
	values[3] = ObjectIdGetDatum(progress->relation);
	nulls[3] = !OidIsValid(progress->relation);
	values[4] = Int64GetDatum(progress->rows);
	values[5] = Int64GetDatum(progress->total);
	nulls[5] = progress->total < 0;
	values[6] = Float8GetDatum(rate(progress, now));
	nulls[6] = progress->pid == 0 || now <= progress->since;
	values[7] = IntervalPGetDatum(left);
	nulls[7] = left == NULL;
	values[8] = CStringGetTextDatum(progress->waits_for);
	nulls[8] = progress->waits_for[0] == '\0';
	values[9] = BoolGetDatum(progress->helper);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * job_progress_rows() returns table (execution_id bigint, pid int, phase text,
 * relation oid, rows_done bigint, estimated_total bigint, rate float8,
 * time_left interval, pause text, helper boolean)
 *
 * Runs of roles that the caller is a member of, and their helpers.
 */
Datum
job_progress_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			count;
	JanitorProgress *all = janitor_progress_all(&count);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
	{
		if (is_member_of_role(GetUserId(), all[i].owner))
			put_row(result, all, count, i);
	}
	return (Datum) 0;
}

/* job_heavy_room() returns int */
Datum
job_heavy_room(PG_FUNCTION_ARGS)
{
	JanitorCapacity capacity;

	janitor_capacity(&capacity);
	PG_RETURN_INT32(Max(capacity.heavy_limit - capacity.heavy, 0));
}
