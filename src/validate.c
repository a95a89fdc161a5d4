/*-------------------------------------------------------------------------
 *
 * validate.c
 *	  What a job's definition must fulfil before it is written.
 *
 * Runs in the defining user's backend, as that user.  Everything that can be
 * known at definition is refused here with an error that names the option;
 * what can only be known when the job runs (do its tables exist?) is left to
 * the run.  The command is parsed and not analysed: analysing a stranger's
 * text can run a stranger's functions.
 *
 * Checks that depend on other objects (roles, jobs) are made when the option
 * changes, not again at each later change of something else: a job whose
 * parent is gone can still be disabled.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "draft.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "definition.h"
#include "command.h"
#include "gate.h"
#include "settings.h"

/* No duration is longer than 1,000 years of 12 * 30 days: sums with times fit. */
#define MAX_DURATION (INT64_C(360000) * USECS_PER_DAY)

/* How often an item is tried, unless the job says so. */
#define ITEM_ATTEMPTS 5
#define EXTERNAL_ATTEMPTS 5

/* Occurrences looked at for the period of a schedule. */
#define PERIOD_SAMPLES 10

static char *
column_text(const JanitorDraft *draft, AttrNumber column)
{
	return janitor_draft_text(draft, column);
}

static bool
changed(const JanitorDraft *draft, const JanitorDraft *old, AttrNumber column)
{
	return old == NULL || janitor_draft_differs(draft, old, column);
}

/* --- name, words, numbers --- */

static bool
has_control_characters(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char) *text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

void
janitor_name_check(const char *what, const char *name)
{
	int			length = pg_mbstrlen(name);

	if (length < 1 || length > JANITOR_NAME_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of a %s must have 1 to %d characters",
						what, JANITOR_NAME_LIMIT)));
	if (has_control_characters(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of a %s must not contain control characters",
						what)));
}

static void
check_word(const JanitorDraft *draft, AttrNumber column, const char *option,
		   const char *const *words, const char *list)
{
	char	   *value = column_text(draft, column);

	for (; *words != NULL; words++)
		if (strcmp(value, *words) == 0)
			return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", option, value),
			 errhint("Valid values are %s.", list)));
}

static void
check_words(const JanitorDraft *draft)
{
	static const char *const catch_up[] = {"once", "all", "skip", NULL};
	static const char *const overlap[] = {"skip", "queue", NULL};

	check_word(draft, Anum_definition_catch_up, "catch_up", catch_up,
			   "\"once\", \"all\" and \"skip\"");
	check_word(draft, Anum_definition_overlap, "overlap", overlap,
			   "\"skip\" and \"queue\"");
}

static void
check_count(const JanitorDraft *draft, AttrNumber column, const char *option,
			int least)
{
	if (draft->nulls[column - 1] ||
		DatumGetInt32(draft->values[column - 1]) >= least)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be at least %d", option, least)));
}

static void
check_duration(const JanitorDraft *draft, AttrNumber column,
			   const char *option, bool may_be_zero)
{
	int64		usec;

	if (draft->nulls[column - 1])
		return;
	usec = janitor_interval_usec(DatumGetIntervalP(draft->values[column - 1]));
	if (usec < 0 || (usec == 0 && !may_be_zero))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 may_be_zero ?
				 errmsg("option \"%s\" must not be negative", option) :
				 errmsg("option \"%s\" must be greater than zero", option)));
	if (usec > MAX_DURATION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must be at most 1000 years", option)));
}

static void
check_numbers(const JanitorDraft *draft)
{
	check_count(draft, Anum_definition_max_running, "max_running", 1);
	check_count(draft, Anum_definition_max_attempts, "max_attempts", 1);
	check_count(draft, Anum_definition_parallel, "parallel", 1);
	check_count(draft, Anum_definition_keep_runs, "keep_runs", 0);
	check_duration(draft, Anum_definition_catch_up_within, "catch_up_within",
				   false);
	check_duration(draft, Anum_definition_timeout, "timeout", false);
	check_duration(draft, Anum_definition_stop_after, "stop_after", false);
	check_duration(draft, Anum_definition_retry_delay, "retry_delay", true);
	check_duration(draft, Anum_definition_retry_max_delay, "retry_max_delay",
				   true);
	check_duration(draft, Anum_definition_jitter, "jitter", true);
	check_duration(draft, Anum_definition_keep_history, "keep_history", true);
}

static void
check_shapes(const JanitorDraft *draft)
{
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(draft_value(draft, args))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"args\" must be a JSON object")));
	if (!draft_is_null(draft, tags) &&
		array_contains_nulls(DatumGetArrayTypeP(draft_value(draft, tags))))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("option \"tags\" must not contain nulls")));
}

/* --- schedule --- */

/*
 * The shortest time between occurrences, or 0 if there are none.  Looked for
 * from a fixed instant on: the same schedule must give the same answer at
 * every call.
 */
static int64
schedule_period(const JanitorSchedule *schedule, const pg_tz *zone)
{
	TimestampTz previous = 0;
	int64		shortest = 0;

	for (int i = 0; i < PERIOD_SAMPLES; i++)
	{
		TimestampTz next = janitor_occurrence(schedule, zone, DT_NOBEGIN,
											  previous);

		if (TIMESTAMP_IS_NOEND(next))
			break;
		if (i > 0 && (shortest == 0 || next - previous < shortest))
			shortest = next - previous;
		previous = next;
	}
	return shortest;
}

/*
 * A job that runs less than daily is worth more than one attempt; and so is
 * an item, whatever its job, and what calls somebody else.
 */
static void
choose_attempts(JanitorDraft *draft, int64 period)
{
	int			attempts = period > USECS_PER_DAY ? 3 : 1;

	if (janitor_draft_kind(draft) == JANITOR_KIND_EXTERNAL)
		attempts = EXTERNAL_ATTEMPTS;
	if (janitor_draft_kind(draft) == JANITOR_KIND_ITEMS)
		attempts = ITEM_ATTEMPTS;
	if (draft_is_null(draft, max_attempts))
		janitor_draft_set(draft, Anum_definition_max_attempts,
						  Int32GetDatum(attempts), false);
}

static void
check_schedule(JanitorDraft *draft)
{
	char	   *text = column_text(draft, Anum_definition_schedule);
	pg_tz	   *zone;
	JanitorSchedule schedule;

	zone = janitor_zone_require(column_text(draft, Anum_definition_time_zone));
	if (text == NULL)
	{
		choose_attempts(draft, 0);
		return;
	}
	janitor_schedule_require(text, &schedule);
	if (schedule.kind != JANITOR_SCHEDULE_REBOOT &&
		TIMESTAMP_IS_NOEND(janitor_occurrence(&schedule, zone, DT_NOBEGIN, 0)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid schedule \"%s\": it never occurs", text)));
	choose_attempts(draft, schedule_period(&schedule, zone));
}

/* --- what belongs to which kind --- */

/* Options that only some kinds have. */
static const struct
{
	AttrNumber	column;
	const char *option;
	int			kinds;			/* bits */
}			kind_options[] =

{
	{Anum_definition_command, "command",
	1 << JANITOR_KIND_SQL | 1 << JANITOR_KIND_ITEMS},
	{Anum_definition_items, "items", 1 << JANITOR_KIND_ITEMS},
	{Anum_definition_parallel, "parallel", 1 << JANITOR_KIND_ITEMS},
	{Anum_definition_receipts, "receipts", 1 << JANITOR_KIND_ITEMS},
	{Anum_definition_subjects, "subjects", 1 << JANITOR_KIND_ITEMS},
	{Anum_definition_stop_after, "stop_after",
	1 << JANITOR_KIND_RETENTION | 1 << JANITOR_KIND_ITEMS},
};

/* Runs of one retention job would get into each other's way. */
static void
check_single_run(const JanitorDraft *draft)
{
	if (draft_is_null(draft, max_running) ||
		DatumGetInt32(draft_value(draft, max_running)) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"max_running\" of a retention job must be 1"),
				 errhint("For several workers at the same table set \"parallel\".")));
}

static void
check_kind_options(const JanitorDraft *draft)
{
	JanitorKind kind = janitor_draft_kind(draft);

	for (int i = 0; i < lengthof(kind_options); i++)
		if (!janitor_draft_is_default(draft, kind_options[i].column) &&
			!(kind_options[i].kinds & 1 << kind))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" does not apply to jobs of kind \"%s\"",
							kind_options[i].option,
							janitor_kind_name(kind))));
	if (kind == JANITOR_KIND_RETENTION)
		check_single_run(draft);
}

/* --- items, channel --- */

static void
check_items_given(const JanitorDraft *draft, const char *job_name)
{
	if (draft_is_null(draft, items))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("items query of job \"%s\" must not be null",
						job_name)));
}

static void
check_channel(const JanitorDraft *draft)
{
	char	   *channel = column_text(draft, Anum_definition_channel);

	if (channel != NULL &&
		(channel[0] == '\0' || strlen(channel) >= NAMEDATALEN))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"channel\" must have 1 to %d bytes",
						NAMEDATALEN - 1)));
}

/* --- command --- */

typedef struct CommandSource
{
	const char *job_name;
	const char *command;
} CommandSource;

/* Moves an error's position from the user's query into the command. */
static void
command_error_context(void *arg)
{
	CommandSource *source = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(source->command);
	}
	errcontext("command of job \"%s\"", source->job_name);
}

static void
check_command(const JanitorDraft *draft, const char *job_name)
{
	CommandSource source = {job_name};
	ErrorContextCallback context;

	if (draft_is_null(draft, command))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("command of job \"%s\" must not be null", job_name)));
	source.command = column_text(draft, Anum_definition_command);

	context.callback = command_error_context;
	context.arg = &source;
	context.previous = error_context_stack;
	error_context_stack = &context;
	(void) janitor_command_parse(source.command);
	error_context_stack = context.previous;
}

/* --- owner --- */

static void
check_superuser_job(const char *job_name, const char *owner)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to define a job that runs as superuser \"%s\"",
						owner)));
	if (!janitor_allow_superuser_jobs)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("job \"%s\" would run as superuser \"%s\"",
						job_name, owner),
				 errdetail("The setting pg_janitor.allow_superuser_jobs is off."),
				 errhint("Name a role with fewer rights as owner.")));
	ereport(WARNING,
			(errmsg("job \"%s\" will run as superuser \"%s\"",
					job_name, owner),
			 errhint("Name a role with fewer rights as owner.")));
}

/* The job can be defined, but it would be held. */
static void
warn_of_problem(const char *job_name, const char *owner, Oid role)
{
	const char *problem = superuser_arg(role) ? NULL :
	janitor_owner_problem(owner, role);

	if (problem != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" will not run: %s", job_name, problem)));
}

/* The role a draft names; finds its OID where the name was set. */
static Oid
check_owner(JanitorDraft *draft, const JanitorDraft *old,
			const char *job_name)
{
	char	   *owner = column_text(draft, Anum_definition_owner);
	bool		fresh = draft_is_null(draft, owner_oid);
	Oid			role;

	if (fresh)
		janitor_draft_set(draft, Anum_definition_owner_oid,
						  ObjectIdGetDatum(get_role_oid(owner, false)), false);
	role = DatumGetObjectId(draft_value(draft, owner_oid));

	if (fresh && !janitor_can_act_for(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to define a job that runs as role \"%s\"",
						owner),
				 errhint("You must be able to SET ROLE to the owner of a job.")));
	/* nothing runs as the owner of an external job */
	if (janitor_draft_kind(draft) == JANITOR_KIND_EXTERNAL)
		return role;
	if (fresh)
		warn_of_problem(job_name, owner, role);
	if (superuser_arg(role) &&
		(changed(draft, old, Anum_definition_owner_oid) ||
		 changed(draft, old, Anum_definition_command)))
		check_superuser_job(job_name, owner);
	return role;
}

/* --- settings --- */

/* A value as SET would be given it. */
static char *
setting_text(const char *name, JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "on" : "off");
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("setting \"%s\" of a job must be a string, a number or a boolean",
							name)));
			return NULL;
	}
}

/* Would the owner be allowed to SET this?  Changes nothing. */
static void
check_setting(const char *name, const char *value, Oid owner)
{
	if (pg_strcasecmp(name, "role") == 0 ||
		pg_strcasecmp(name, "session_authorization") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("setting \"%s\" cannot be given to a job", name),
				 errhint("Set the owner of the job instead.")));
	if (pg_strcasecmp(name, "standard_conforming_strings") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("setting \"%s\" cannot be given to a job", name),
				 errhint("It is on for all jobs. Write backslash escapes as E'...'.")));
	(void) set_config_option_ext(name, value,
								 superuser_arg(owner) ? PGC_SUSET : PGC_USERSET,
								 PGC_S_TEST, owner, GUC_ACTION_SAVE,
								 false, 0, false);
}

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, char *text,
			JsonbValue **result)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = text;
	value.val.string.len = strlen(text);
	*result = pushJsonbValue(state, token, &value);
}

/* Checks each setting, and keeps every value as a string. */
static void
check_settings(JanitorDraft *draft, Oid owner)
{
	Jsonb	   *settings = DatumGetJsonbP(draft_value(draft, settings));
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbParseState *state = NULL;
	JsonbValue	item;
	JsonbValue *result;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(settings))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"settings\" must be a JSON object")));

	result = pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	iterator = JsonbIteratorInit(&settings->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = pnstrdup(item.val.string.val, item.val.string.len);
			push_string(&state, WJB_KEY, name, &result);
		}
		else if (token == WJB_VALUE)
		{
			char	   *value = setting_text(name, &item);

			check_setting(name, value, owner);
			push_string(&state, WJB_VALUE, value, &result);
		}
	}
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	janitor_draft_set(draft, Anum_definition_settings,
					  PointerGetDatum(JsonbValueToJsonb(result)), false);
}

/* --- what follows what --- */

/*
 * Follows run_after from `parent` up; finding the job itself there means that
 * each would run after the other for ever.  The lock keeps two sessions from
 * closing a cycle together.
 */
static void
check_cycle(const char *job_name, const char *parent)
{
	StringInfoData path;

	janitor_job_lock("");
	initStringInfo(&path);
	appendStringInfo(&path, "\"%s\"", job_name);
	while (parent != NULL)
	{
		JanitorJob *job = janitor_job_load(parent);

		appendStringInfoString(&path, " runs after ");
		if (job == NULL || janitor_job_visible(job))
			appendStringInfo(&path, "\"%s\"", parent);
		else
			appendStringInfoString(&path, "a job of another role");
		if (strcmp(parent, job_name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"run_after\" of job \"%s\" makes a cycle",
							job_name),
					 errdetail("Job %s.", path.data)));
		parent = job == NULL ? NULL : job->run_after;
	}
}

static void
check_run_after(const JanitorDraft *draft, const char *job_name)
{
	char	   *parent = column_text(draft, Anum_definition_run_after);

	if (parent == NULL)
		return;
	if (strcmp(parent, job_name) != 0)
		(void) janitor_job_require(parent);
	check_cycle(job_name, parent);
}

/* A failure triggers the other job: that takes the right to trigger it. */
static void
check_on_failure(const JanitorDraft *draft, const char *job_name)
{
	char	   *other = column_text(draft, Anum_definition_on_failure);

	if (other == NULL)
		return;
	if (strcmp(other, job_name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"on_failure\" of job \"%s\" names the job itself",
						job_name),
				 errhint("To try again after a failure, set max_attempts.")));
	janitor_job_check_owner(janitor_job_require(other));
}

/* Whose outcomes feed a circuit can open it, for everybody who uses it. */
static void
check_circuit(const JanitorDraft *draft)
{
	char	   *name = column_text(draft, Anum_definition_circuit);
	JanitorCircuit circuit;

	if (name == NULL)
		return;
	if (!janitor_circuit_find(name, &circuit))
		janitor_no_circuit(name);
	janitor_circuit_check_owner(&circuit);
}

void
janitor_draft_check(JanitorDraft *draft, const JanitorDraft *old)
{
	char	   *job_name = column_text(draft, Anum_definition_name);
	Oid			owner;

	janitor_draft_check_sizes(draft);
	check_kind_options(draft);
	check_words(draft);
	check_numbers(draft);
	check_shapes(draft);
	check_schedule(draft);
	if (janitor_draft_kind(draft) == JANITOR_KIND_SQL ||
		!draft_is_null(draft, command))
		check_command(draft, job_name);
	if (janitor_draft_kind(draft) == JANITOR_KIND_ITEMS)
		check_items_given(draft, job_name);
	check_channel(draft);
	owner = check_owner(draft, old, job_name);
	check_settings(draft, owner);
	if (changed(draft, old, Anum_definition_run_after))
		check_run_after(draft, job_name);
	if (changed(draft, old, Anum_definition_on_failure))
		check_on_failure(draft, job_name);
	if (changed(draft, old, Anum_definition_circuit))
		check_circuit(draft);
}
