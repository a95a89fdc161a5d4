/*-------------------------------------------------------------------------
 *
 * api_define.c
 *	  SQL functions that make, change and remove jobs.
 *
 * Each works on a draft, a copy of the job's row.  Only when the draft is
 * complete and checked is it compared with the row and, if it differs,
 * written, together with its line in job_change and the job's next run in
 * job_queue: all in the caller's transaction.
 *
 * Changes of one job wait for each other (janitor_job_lock) until the end of
 * the transaction.  They never wait for runs, and runs never wait for them: a
 * run in progress goes on under the definition that it started with.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "home.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_schedule);
PG_FUNCTION_INFO_V1(job_alter);
PG_FUNCTION_INFO_V1(job_enable);
PG_FUNCTION_INFO_V1(job_disable);
PG_FUNCTION_INFO_V1(job_unschedule);

/* The arguments of job_schedule() after job_name, in order. */
static const AttrNumber schedule_arguments[] = {
	Anum_definition_schedule,
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
	Anum_definition_max_attempts,
	Anum_definition_retry_delay,
	Anum_definition_retry_max_delay,
	Anum_definition_jitter,
	Anum_definition_priority,
	Anum_definition_circuit,
	Anum_definition_keep_history,
	Anum_definition_keep_runs
};

/* --- writing a draft --- */

/* Does the next run have to be computed anew? */
static bool
timing_differs(const JanitorDraft *a, const JanitorDraft *b)
{
	return janitor_draft_differs(a, b, Anum_definition_schedule) ||
		janitor_draft_differs(a, b, Anum_definition_time_zone) ||
		janitor_draft_differs(a, b, Anum_definition_jitter) ||
		janitor_draft_differs(a, b, Anum_definition_enabled) ||
		janitor_draft_differs(a, b, Anum_definition_home) ||
		janitor_draft_differs(a, b, Anum_definition_home_database) ||
		janitor_draft_differs(a, b, Anum_definition_environment);
}

static void
stamp_draft(JanitorDraft *draft, JanitorDraft *old)
{
	int			version = old == NULL ? 0 :
	DatumGetInt32(draft_value(old, version));
	Datum		now = TimestampTzGetDatum(GetCurrentTimestamp());

	janitor_draft_set(draft, Anum_definition_version,
					  Int32GetDatum(version + 1), false);
	janitor_draft_set(draft, Anum_definition_updated_at, now, false);
	if (old == NULL)
	{
		janitor_draft_set(draft, Anum_definition_created_at, now, false);
		janitor_draft_arm(draft);
	}
}

TimestampTz
janitor_draft_save(JanitorDraft *draft, HeapTuple old_tuple,
				   const char *action)
{
	char	   *job_name = janitor_draft_text(draft, Anum_definition_name);
	JanitorDraft old;
	bool		replaces[Natts_definition];
	bool		recompute = true;

	if (old_tuple != NULL)
	{
		janitor_draft_load(&old, old_tuple);
		if (janitor_draft_same(draft, &old))
			return janitor_job_sync_entry(janitor_job_load(job_name),
										  janitor_clock(), false);
		recompute = timing_differs(draft, &old);
		stamp_draft(draft, &old);
		memset(replaces, true, sizeof(replaces));
		janitor_definition_update(old_tuple, draft->values, draft->nulls,
								  replaces);
	}
	else
	{
		stamp_draft(draft, NULL);
		janitor_definition_insert(draft->values, draft->nulls);
	}
	janitor_change_insert(job_name, action,
						  old_tuple ? janitor_draft_to_jsonb(&old) : NULL,
						  janitor_draft_to_jsonb(draft));
	return janitor_job_sync_entry(janitor_job_load(job_name),
								  janitor_clock(), recompute);
}

void
janitor_job_bump(const JanitorJob *job)
{
	JanitorDraft draft;
	JanitorDraft old;
	bool		replaces[Natts_definition];

	janitor_draft_load(&old, job->tuple);
	draft = old;
	stamp_draft(&draft, &old);
	memset(replaces, true, sizeof(replaces));
	janitor_definition_update(job->tuple, draft.values, draft.nulls, replaces);
}

Datum
janitor_next_run(FunctionCallInfo fcinfo, TimestampTz next)
{
	if (TIMESTAMP_IS_NOEND(next))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(next);
}

/* --- job_schedule --- */

/* Adds a setting unless it is there already. */
static void
add_setting(JanitorDraft *draft, const char *name, const char *value)
{
	Datum		settings = draft_value(draft, settings);
	JsonbValue	unused;
	JsonbValue	string;
	JsonbValue *object;
	JsonbParseState *state = NULL;

	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(settings)) ||
		getKeyJsonValueFromContainer(&DatumGetJsonbP(settings)->root,
									 name, strlen(name), &unused) != NULL)
		return;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	string.type = jbvString;
	string.val.string.val = unconstify(char *, name);
	string.val.string.len = strlen(name);
	pushJsonbValue(&state, WJB_KEY, &string);
	string.val.string.val = unconstify(char *, value);
	string.val.string.len = strlen(value);
	pushJsonbValue(&state, WJB_VALUE, &string);
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	janitor_draft_set(draft, Anum_definition_settings,
					  DirectFunctionCall2(jsonb_concat, settings,
										  JsonbPGetDatum(JsonbValueToJsonb(object))),
					  false);
}

void
janitor_arg_draft(FunctionCallInfo fcinfo, JanitorKind kind,
				  const AttrNumber *columns, int first, int count,
				  Jsonb *options, JanitorDraft *draft)
{
	janitor_draft_begin(draft, kind);
	for (int i = 0; i < count; i++)
		if (!PG_ARGISNULL(first + i))
			janitor_draft_set(draft, columns[i], PG_GETARG_DATUM(first + i),
							  false);
	if (options != NULL)
		janitor_draft_set_options(draft, options, true);
	add_setting(draft, "search_path",
				GetConfigOption("search_path", false, false));
}

static void
complete_new(JanitorDraft *draft, const char *job_name)
{
	janitor_name_check("job", job_name);
	janitor_draft_set_text(draft, Anum_definition_name, job_name);
	if (draft_is_null(draft, enabled))
		janitor_draft_set(draft, Anum_definition_enabled,
						  BoolGetDatum(true), false);
	if (draft_is_null(draft, owner))
		janitor_draft_set_text(draft, Anum_definition_owner,
							   GetUserNameFromId(GetUserId(), false));
}

/* What a call of job_schedule() leaves as it is. */
static void
complete_existing(JanitorDraft *draft, const JanitorDraft *old)
{
	static const AttrNumber kept[] = {
		Anum_definition_name, Anum_definition_paused_by,
		Anum_definition_paused_reason, Anum_definition_paused_until,
		Anum_definition_home, Anum_definition_home_database,
		Anum_definition_environment, Anum_definition_created_at
	};

	for (int i = 0; i < lengthof(kept); i++)
		janitor_draft_set(draft, kept[i], old->values[kept[i] - 1],
						  old->nulls[kept[i] - 1]);
	if (draft_is_null(draft, enabled))
		janitor_draft_set(draft, Anum_definition_enabled,
						  draft_value(old, enabled), false);
	if (draft_is_null(draft, owner))
	{
		janitor_draft_set(draft, Anum_definition_owner,
						  draft_value(old, owner), false);
		janitor_draft_set(draft, Anum_definition_owner_oid,
						  draft_value(old, owner_oid), false);
	}
}

static void
check_kind(const JanitorDraft *draft, const JanitorDraft *old)
{
	if (janitor_draft_differs(draft, old, Anum_definition_kind))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("job \"%s\" already exists and is of kind \"%s\"",
						janitor_draft_text(old, Anum_definition_name),
						janitor_draft_text(old, Anum_definition_kind)),
				 errhint("Choose another name, or remove that job first with job_unschedule().")));
}

/* Names are taken, even by jobs that the user may not know of. */
static void
check_may_replace(const JanitorJob *job)
{
	if (!janitor_job_visible(job))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("job \"%s\" already exists", job->name),
				 errdetail("It belongs to a role that you are not a member of."),
				 errhint("Choose another name.")));
	janitor_job_check_owner(job);
}

TimestampTz
janitor_define_job(JanitorDraft *draft, const char *job_name)
{
	JanitorJob *job = janitor_job_load(job_name);
	JanitorDraft old;

	if (job != NULL)
		check_may_replace(job);
	janitor_job_lock(job_name);
	job = janitor_job_load(job_name);

	if (job == NULL)
	{
		complete_new(draft, job_name);
		janitor_draft_check(draft, NULL);
		return janitor_draft_save(draft, NULL, "create");
	}
	check_may_replace(job);
	janitor_job_warn_disarmed(job);
	janitor_draft_load(&old, job->tuple);
	check_kind(draft, &old);
	complete_existing(draft, &old);
	janitor_draft_check(draft, &old);
	return janitor_draft_save(draft, job->tuple, "alter");
}

/* job_schedule(job_name, schedule, command, ...) returns timestamptz */
Datum
job_schedule(PG_FUNCTION_ARGS)
{
	int			count = lengthof(schedule_arguments);
	char	   *job_name;
	JanitorDraft draft;

	janitor_prevent_misuse("job_schedule()");
	job_name = janitor_arg_text_required(fcinfo, 0, "job_name");
	janitor_arg_draft(fcinfo, JANITOR_KIND_SQL, schedule_arguments, 1, count,
					  janitor_arg_object(fcinfo, count + 1, "options"),
					  &draft);
	return janitor_next_run(fcinfo, janitor_define_job(&draft, job_name));
}

/* --- job_alter and its short forms --- */

static bool
has_key(Jsonb *object, const char *key)
{
	JsonbValue	unused;

	return getKeyJsonValueFromContainer(&object->root, key, strlen(key),
										&unused) != NULL;
}

/* Settings that are replaced keep the search_path the command was made for. */
static void
keep_search_path(JanitorDraft *draft, const JanitorDraft *old)
{
	Jsonb	   *settings = DatumGetJsonbP(draft_value(old, settings));
	JsonbValue	buffer;
	JsonbValue *path = getKeyJsonValueFromContainer(&settings->root,
													"search_path",
													strlen("search_path"),
													&buffer);

	if (path != NULL && path->type == jbvString)
		add_setting(draft, "search_path",
					pnstrdup(path->val.string.val, path->val.string.len));
}

/* As the owner, in its settings, rules mean what they mean. */
static void
check_rules_again(const JanitorDraft *draft, const JanitorDraft *old,
				  const char *job_name)
{
	JanitorJob *job = janitor_job_load(job_name);
	bool		circumstances =
	janitor_draft_differs(draft, old, Anum_definition_owner_oid) ||
	janitor_draft_differs(draft, old, Anum_definition_settings) ||
	janitor_draft_differs(draft, old, Anum_definition_time_zone);

	if (circumstances)
		janitor_rules_check(job);
	if (job->kind == JANITOR_KIND_ITEMS &&
		(circumstances ||
		 janitor_draft_differs(draft, old, Anum_definition_items) ||
		 janitor_draft_differs(draft, old, Anum_definition_subjects)))
		janitor_items_check(job);
}

static TimestampTz
alter_job(const char *job_name, Jsonb *changes)
{
	JanitorJob *job = janitor_job_for_change(job_name);
	JanitorDraft draft;
	JanitorDraft old;
	TimestampTz next;

	janitor_job_warn_disarmed(job);
	janitor_draft_load(&old, job->tuple);
	draft = old;
	janitor_draft_set_options(&draft, changes, false);
	if (draft_is_null(&draft, enabled))
		janitor_draft_set(&draft, Anum_definition_enabled,
						  BoolGetDatum(true), false);
	if (draft_is_null(&draft, owner))
		janitor_draft_set(&draft, Anum_definition_owner,
						  draft_value(&old, owner), false);
	if (has_key(changes, "owner"))
		janitor_draft_set(&draft, Anum_definition_owner_oid, (Datum) 0, true);
	if (has_key(changes, "settings"))
		keep_search_path(&draft, &old);
	janitor_draft_check(&draft, &old);
	next = janitor_draft_save(&draft, job->tuple, "alter");
	check_rules_again(&draft, &old, job_name);
	return next;
}

/* job_alter(job_name text, changes jsonb) returns timestamptz */
Datum
job_alter(PG_FUNCTION_ARGS)
{
	char	   *job_name;
	Jsonb	   *changes;

	janitor_prevent_misuse("job_alter()");
	job_name = janitor_arg_text_required(fcinfo, 0, "job_name");
	changes = janitor_arg_object(fcinfo, 1, "changes");
	if (changes == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "changes")));
	return janitor_next_run(fcinfo, alter_job(job_name, changes));
}

static TimestampTz
set_enabled(const char *job_name, bool enabled)
{
	JanitorJob *job = janitor_job_for_change(job_name);
	JanitorDraft draft;

	if (enabled)
		janitor_job_warn_disarmed(job);
	janitor_draft_load(&draft, job->tuple);
	janitor_draft_set(&draft, Anum_definition_enabled, BoolGetDatum(enabled),
					  false);
	return janitor_draft_save(&draft, job->tuple,
							  enabled ? "enable" : "disable");
}

/* job_enable(job_name text) returns timestamptz */
Datum
job_enable(PG_FUNCTION_ARGS)
{
	janitor_prevent_misuse("job_enable()");
	return janitor_next_run(fcinfo,
							set_enabled(janitor_arg_text_required(fcinfo, 0,
																  "job_name"),
										true));
}

/* job_disable(job_name text) returns void */
Datum
job_disable(PG_FUNCTION_ARGS)
{
	janitor_prevent_misuse("job_disable()");
	(void) set_enabled(janitor_arg_text_required(fcinfo, 0, "job_name"),
					   false);
	PG_RETURN_VOID();
}

/*
 * job_unschedule(job_name text) returns void
 *
 * Waiting runs are cancelled, so that whoever has their execution ids learns
 * what became of them.  The definition goes last: the entries of a job that
 * still exists are nobody else's to clean up.
 */
Datum
job_unschedule(PG_FUNCTION_ARGS)
{
	JanitorJob *job;
	JanitorDraft old;

	janitor_prevent_misuse("job_unschedule()");
	job = janitor_job_for_change(janitor_arg_text_required(fcinfo, 0,
														   "job_name"));
	(void) janitor_cancel_waiting(job, NULL, "the job was removed");
	(void) janitor_entry_delete_all(job->name);
	janitor_rules_remove(job);
	janitor_items_remove(job);
	janitor_work_delete_all(job->name);
	janitor_drop_limits(job->name);
	janitor_draft_load(&old, job->tuple);
	janitor_change_insert(job->name, "unschedule",
						  janitor_draft_to_jsonb(&old), NULL);
	janitor_definition_delete(job->tuple);
	PG_RETURN_VOID();
}
