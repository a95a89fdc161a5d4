/*-------------------------------------------------------------------------
 *
 * api_items.c
 *	  SQL functions for items jobs: job_schedule_items, job_retry_items.
 *
 * The items query is analysed and planned as the job's owner, in the job's
 * search_path, when it is defined: what cannot be locked item by item is
 * refused then, and not at three in the morning.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "item.h"
#include "object.h"
#include "replay.h"
#include "session.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(job_schedule_items);
PG_FUNCTION_INFO_V1(job_retry_items);

/* The arguments of job_schedule_items() after job_name, in order. */
static const AttrNumber items_arguments[] = {
	Anum_definition_schedule,
	Anum_definition_items,
	Anum_definition_command,
	Anum_definition_description,
	Anum_definition_tags,
	Anum_definition_time_zone,
	Anum_definition_args,
	Anum_definition_settings,
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
	Anum_definition_stop_after,
	Anum_definition_parallel,
	Anum_definition_max_attempts,
	Anum_definition_retry_delay,
	Anum_definition_retry_max_delay,
	Anum_definition_jitter,
	Anum_definition_priority,
	Anum_definition_channel,
	Anum_definition_receipts,
	Anum_definition_subjects,
	Anum_definition_keep_history,
	Anum_definition_keep_runs
};

static void
check_items(void *arg)
{
	const JanitorJob *job = arg;

	janitor_items_query_check(janitor_items_query(job->items, "items query",
												  job->name),
							  "items query", job->name);
	if (job->subjects != NULL)
		janitor_replay_check(job);
}

void
janitor_items_check(JanitorJob *job)
{
	janitor_as_role(job->owner_oid,
					janitor_object_get_text(job->settings, "search_path"),
					job->time_zone, check_items, job);
}

/* job_schedule_items(job_name, schedule, items, command, ...) */
Datum
job_schedule_items(PG_FUNCTION_ARGS)
{
	int			count = lengthof(items_arguments);
	char	   *job_name;
	JanitorDraft draft;
	TimestampTz next;

	janitor_prevent_misuse("job_schedule_items()");
	job_name = janitor_arg_text_required(fcinfo, 0, "job_name");
	janitor_arg_draft(fcinfo, JANITOR_KIND_ITEMS, items_arguments, 1, count,
					  janitor_arg_object(fcinfo, count + 1, "options"),
					  &draft);
	next = janitor_define_job(&draft, job_name);
	janitor_items_check(janitor_job_load(job_name));
	return janitor_next_run(fcinfo, next);
}

/* --- items that failed --- */

typedef struct Revival
{
	int64		count;
} Revival;

static void
revive(JanitorItemFailure *failure, void *arg)
{
	Revival    *revival = arg;

	if (failure->held)
		return;
	failure->dead = false;
	failure->attempts = 0;
	failure->next_attempt_at = janitor_clock();
	janitor_item_failure_put(failure);
	revival->count++;
}

/* job_retry_items(job_name text, item_key text) returns bigint */
Datum
job_retry_items(PG_FUNCTION_ARGS)
{
	Revival		revival = {0};
	char	   *key = janitor_arg_text(fcinfo, 1);
	JanitorItemFailure failure;
	JanitorJob *job;

	janitor_prevent_misuse("job_retry_items()");
	job = janitor_job_for_use(janitor_arg_text_required(fcinfo, 0,
														"job_name"));
	if (key == NULL)
		janitor_item_failure_scan(job->name, revive, &revival);
	else if (janitor_item_failure_find(job->name, key, &failure))
		revive(&failure, &revival);
	else
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job \"%s\" has no failed item of that key",
						job->name),
				 errhint("SELECT item_key FROM job_failed_items WHERE job_name = %s;",
						 quote_literal_cstr(job->name))));
	PG_RETURN_INT64(revival.count);
}

/* --- removing a job --- */

static void
forget_failure(JanitorItemFailure *failure, void *arg)
{
	(void) janitor_item_failure_delete(failure->job_name, failure->item_key);
}

void
janitor_items_remove(const JanitorJob *job)
{
	janitor_item_failure_scan(job->name, forget_failure, NULL);
}
