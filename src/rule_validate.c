/*-------------------------------------------------------------------------
 *
 * rule_validate.c
 *	  What a rule must fulfil, whatever the tables are.
 *
 * Runs in the defining user's backend, as that user, and looks at no table:
 * words, numbers, which options go together, and the traps that a retention
 * time has.  What depends on the tables is checked by janitor_rule_ready(),
 * as the job's owner.
 *
 * The greatest trap is an interval without a unit: PostgreSQL reads '90' as
 * 90 seconds.  So a keep below an hour, or one that is no whole number of
 * minutes, has to be said to be meant.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_draft.h"

#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "rule_internal.h"

/* No duration is longer than 1,000 years of 12 * 30 days. */
#define MAX_DURATION (INT64_C(360000) * USECS_PER_DAY)

#define MAX_PARALLEL 64

static bool
given(const JanitorRuleDraft *draft, AttrNumber column)
{
	return !draft->nulls[column - 1];
}

static void
check_word(const JanitorRuleDraft *draft, AttrNumber column,
		   const char *option, const char *const *words, const char *list)
{
	char	   *value = janitor_rule_draft_text(draft, column);

	if (value == NULL)
		return;
	for (; *words != NULL; words++)
		if (strcmp(value, *words) == 0)
			return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", option, value),
			 errhint("Valid values are %s.", list)));
}

static void
check_words(const JanitorRuleDraft *draft)
{
	static const char *const actions[] = {"delete", "archive", "update",
	"anonymize", NULL};
	static const char *const units[] = {"s", "ms", "us", NULL};
	static const char *const partitions[] = {"detach", "drop", "rows", NULL};

	check_word(draft, Anum_rule_action, "action", actions,
			   "\"delete\", \"archive\", \"update\" and \"anonymize\"");
	check_word(draft, Anum_rule_time_unit, "time_unit", units,
			   "\"s\", \"ms\" and \"us\"");
	check_word(draft, Anum_rule_partitions, "partitions", partitions,
			   "\"detach\", \"drop\" and \"rows\"");
}

/* --- numbers --- */

static void
out_of_range(const char *option, const char *range)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be %s", option, range)));
}

static void
check_int(const JanitorRuleDraft *draft, AttrNumber column,
		  const char *option)
{
	if (given(draft, column) &&
		DatumGetInt32(draft->values[column - 1]) < 1)
		out_of_range(option, "at least 1");
}

static void
check_int64(const JanitorRuleDraft *draft, AttrNumber column,
			const char *option, int64 least)
{
	if (given(draft, column) &&
		DatumGetInt64(draft->values[column - 1]) < least)
		out_of_range(option, psprintf("at least " INT64_FORMAT, least));
}

static void
check_duration(const JanitorRuleDraft *draft, AttrNumber column,
			   const char *option, bool may_be_zero)
{
	int64		usec;

	if (!given(draft, column))
		return;
	usec = janitor_interval_usec(DatumGetIntervalP(draft->values[column - 1]));
	if (usec < 0 || (usec == 0 && !may_be_zero))
		out_of_range(option, may_be_zero ? "zero or more" :
					 "greater than zero");
	if (usec > MAX_DURATION)
		out_of_range(option, "at most 1000 years");
}

static void
check_numbers(const JanitorRuleDraft *draft)
{
	double		fraction;

	check_int(draft, Anum_rule_keep_last, "keep_last");
	check_int(draft, Anum_rule_batch_rows, "batch_rows");
	check_int64(draft, Anum_rule_rows_per_run, "rows_per_run", 1);
	check_int(draft, Anum_rule_max_rows_per_second, "max_rows_per_second");
	check_int(draft, Anum_rule_parallel, "parallel");
	if (DatumGetInt32(draft->values[Anum_rule_parallel - 1]) > MAX_PARALLEL)
		out_of_range("parallel", psprintf("at most %d", MAX_PARALLEL));
	check_duration(draft, Anum_rule_max_replica_lag, "max_replica_lag", false);
	check_duration(draft, Anum_rule_drop_after, "drop_after", true);
	check_int64(draft, Anum_rule_abort_above_rows, "abort_above_rows", 0);
	if (!given(draft, Anum_rule_abort_above_fraction))
		return;
	fraction = DatumGetFloat8(draft->values[Anum_rule_abort_above_fraction - 1]);
	if (!(fraction >= 0 && fraction <= 1))
		out_of_range("abort_above_fraction", "between 0 and 1");
}

/* --- how long rows are kept --- */

static char *
interval_text(Interval *interval)
{
	return DatumGetCString(DirectFunctionCall1(interval_out,
											   IntervalPGetDatum(interval)));
}

static bool
looks_unitless(const Interval *keep)
{
	return keep->month == 0 && keep->day == 0 && keep->time != 0 &&
		(keep->time < USECS_PER_HOUR || keep->time % USECS_PER_MINUTE != 0);
}

static void
check_keep(Interval *keep, bool short_keep, const char *option)
{
	int64		usec = janitor_interval_usec(keep);

	if (usec < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must not be negative", option),
				 errhint("It says how long rows are kept: '90 days'.")));
	if (usec > MAX_DURATION)
		out_of_range(option, "at most 1000 years");
	if (looks_unitless(keep) && !short_keep)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is only %s", option,
						interval_text(keep)),
				 errhint("An interval without a unit is seconds: write '90 days'. If such a time is meant, say short_keep => true.")));
}

/* `90`, `-1.5`: nothing but a number. */
static bool
is_number(const char *text)
{
	return strspn(text, " +-.0123456789") == strlen(text);
}

static void
check_tier(const char *key, JsonbValue *value)
{
	char	   *text;

	if (value->type == jbvNull)
		return;
	text = value->type != jbvString ? NULL :
		pnstrdup(value->val.string.val, value->val.string.len);
	if (text == NULL || is_number(text))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"tiers\": the value of \"%s\" must be an interval with its unit",
						key),
				 errhint("Write {\"%s\": \"90 days\"}; null keeps these rows for ever.",
						 key)));
}

static void
check_tiers(const JanitorRuleDraft *draft, bool short_keep)
{
	Jsonb	   *tiers = DatumGetJsonbP(draft->values[Anum_rule_tiers - 1]);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *key = NULL;
	ListCell   *cell;

	if (!JB_ROOT_IS_OBJECT(tiers) || JB_ROOT_COUNT(tiers) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"tiers\" must be a JSON object with one interval for each value"),
				 errhint("Write {\"financial\": \"7 years\", \"*\": \"6 months\"}.")));
	iterator = JsonbIteratorInit(&tiers->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE)
			check_tier(key, &item);
	}
	foreach(cell, janitor_tiers_parse(tiers))
	{
		JanitorTier *tier = lfirst(cell);

		if (tier->keep != NULL)
			check_keep(tier->keep, short_keep, "tiers");
	}
}

static void
check_keeps(const JanitorRuleDraft *draft)
{
	bool		short_keep =
	DatumGetBool(draft->values[Anum_rule_short_keep - 1]);

	if (given(draft, Anum_rule_keep))
		check_keep(DatumGetIntervalP(draft->values[Anum_rule_keep - 1]),
				   short_keep, "keep");
	if (given(draft, Anum_rule_tiers))
		check_tiers(draft, short_keep);
}

/* --- what goes together --- */

static void
needs(const JanitorRuleDraft *draft, AttrNumber column, const char *option,
	  AttrNumber other, const char *needed)
{
	if (given(draft, column) && !given(draft, other))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" needs the option \"%s\"", option,
						needed)));
}

static void
excludes(const JanitorRuleDraft *draft, AttrNumber column, const char *option,
		 const char *other)
{
	if (given(draft, column))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" does not go with %s", option, other)));
}

/* What says when a row is expired: exactly one of these. */
static const struct
{
	AttrNumber	column;
	const char *option;
	bool		timed;
}			conditions[] = {
	{Anum_rule_keep, "keep", true},
	{Anum_rule_tiers, "tiers", true},
	{Anum_rule_keep_expression, "keep_expression", true},
	{Anum_rule_keep_last, "keep_last", true},
	{Anum_rule_expired_when, "expired_when", false},
	{Anum_rule_match, "match", false},
};

static void
check_number_of_conditions(const JanitorRuleDraft *draft, JanitorKind kind)
{
	const char *found = NULL;

	for (int i = 0; i < lengthof(conditions); i++)
	{
		if (!given(draft, conditions[i].column))
			continue;
		if (found != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a rule cannot have both \"%s\" and \"%s\"",
							found, conditions[i].option),
					 errhint("One of them says which rows are expired; narrow it with filter, or make two rules with job_set_rule().")));
		found = conditions[i].option;
		if (conditions[i].timed)
			needs(draft, conditions[i].column, found,
				  Anum_rule_time_column, "time_column");
		else
			excludes(draft, Anum_rule_time_column, "time_column",
					 psprintf("\"%s\"", found));
	}
	if (found == NULL && kind == JANITOR_KIND_ITEMS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the rule does not say which rows belong to an item"),
				 errhint("Give match, an expression over the row r and the item: match => 'r.user_id = ($1->>''id'')::uuid'.")));
	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the rule does not say which rows are expired"),
				 errhint("Give time_column and keep (or tiers, keep_expression, keep_last), or expired_when.")));
}

/* What batches have, and single items have not. */
static void
check_item_rule(const JanitorRuleDraft *draft)
{
	static const char *const kind = "jobs of kind \"items\"";

	for (int i = 0; i < lengthof(conditions); i++)
		if (conditions[i].column != Anum_rule_match)
			excludes(draft, conditions[i].column, conditions[i].option, kind);
	excludes(draft, Anum_rule_batch_rows, "batch_rows", kind);
	excludes(draft, Anum_rule_rows_per_run, "rows_per_run", kind);
	excludes(draft, Anum_rule_max_rows_per_second, "max_rows_per_second",
			 kind);
	excludes(draft, Anum_rule_max_replica_lag, "max_replica_lag", kind);
	excludes(draft, Anum_rule_abort_above_rows, "abort_above_rows", kind);
	excludes(draft, Anum_rule_abort_above_fraction, "abort_above_fraction",
			 kind);
	if (DatumGetInt32(draft->values[Anum_rule_parallel - 1]) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"parallel\" does not go with rules of %s", kind),
				 errhint("It is an option of the job: its items are shared, not the rows of a rule.")));
}

static void
check_condition(const JanitorRuleDraft *draft, JanitorKind kind)
{
	if (kind == JANITOR_KIND_ITEMS)
		check_item_rule(draft);
	check_number_of_conditions(draft, kind);
	if (kind == JANITOR_KIND_RETENTION)
		excludes(draft, Anum_rule_match, "match",
				 "jobs of kind \"retention\"");
	needs(draft, Anum_rule_tiers, "tiers", Anum_rule_tier_column,
		  "tier_column");
	needs(draft, Anum_rule_tier_column, "tier_column", Anum_rule_tiers,
		  "tiers");
	needs(draft, Anum_rule_keep_per, "keep_per", Anum_rule_keep_last,
		  "keep_last");
	needs(draft, Anum_rule_time_unit, "time_unit", Anum_rule_time_column,
		  "time_column");
	needs(draft, Anum_rule_time_format, "time_format", Anum_rule_time_column,
		  "time_column");
	if (given(draft, Anum_rule_keep_per) &&
		(array_contains_nulls(DatumGetArrayTypeP(draft->values[Anum_rule_keep_per - 1])) ||
		 ARR_NDIM(DatumGetArrayTypeP(draft->values[Anum_rule_keep_per - 1])) != 1))
		out_of_range("keep_per", "a list of columns");
}

static void
check_action(const JanitorRuleDraft *draft)
{
	char	   *action = janitor_rule_draft_text(draft, Anum_rule_action);
	const char *what = psprintf("action \"%s\"", action);
	bool		changes = strcmp(action, "update") == 0 ||
	strcmp(action, "anonymize") == 0;

	if (changes && !given(draft, Anum_rule_set))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s needs the option \"set\"", what),
				 errhint("Write what follows UPDATE ... SET: set => 'status = ''expired'', email = NULL'.")));
	if (!changes)
	{
		excludes(draft, Anum_rule_set, "set", what);
		excludes(draft, Anum_rule_done_when, "done_when", what);
	}
	if (strcmp(action, "archive") != 0)
		excludes(draft, Anum_rule_archive_to, "archive_to", what);
	else if (!given(draft, Anum_rule_archive_to))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s needs the option \"archive_to\"", what),
				 errhint("Make a table: CREATE TABLE ... (LIKE %s INCLUDING DEFAULTS);",
						 janitor_rule_draft_text(draft, Anum_rule_relation))));
}

/* --- all of it --- */

static void
qualify(JanitorRuleDraft *draft, AttrNumber column)
{
	char	   *name = janitor_rule_draft_text(draft, column);

	if (name != NULL)
		janitor_rule_draft_set_text(draft, column,
									janitor_relation_qualify(name));
}

void
janitor_rule_draft_check(JanitorRuleDraft *draft, JanitorKind kind)
{
	if (!given(draft, Anum_rule_relation))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "relation")));
	janitor_rule_draft_check_sizes(draft);
	check_words(draft);
	check_condition(draft, kind);
	check_keeps(draft);
	check_action(draft);
	check_numbers(draft);
	qualify(draft, Anum_rule_relation);
	qualify(draft, Anum_rule_archive_to);
}
