/*-------------------------------------------------------------------------
 *
 * rule.c
 *	  The rows of job_rule as the C code sees them.
 *
 * The room of rules has several files: rule.c loads them, rule_draft.c makes
 * and checks their rows, rule_relation.c knows relations by name,
 * rule_time.c what a time column means, rule_format.c times that are text,
 * rule_expression.c what users write over the row, rule_set.c what they write
 * after SET, rule_condition.c which rows have expired, rule_check.c what the
 * owner must be able to do, rule_ready.c puts these together, rule_sql.c makes
 * statements of the result, rule_trial.c tries out what they write, with what
 * rule_constraint.c knows of the table, advice.c says what would make them
 * faster.
 *
 * A rule is stored as it was written, and made ready anew by every run: what
 * its expressions mean is decided by the server, at that time, as the job's
 * owner, in the job's search_path.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const action_names[] = {
	[JANITOR_DELETE] = "delete",
	[JANITOR_ARCHIVE] = "archive",
	[JANITOR_UPDATE] = "update",
	[JANITOR_ANONYMIZE] = "anonymize",
};

static const char *const partitions_names[] = {
	[JANITOR_PARTITIONS_DETACH] = "detach",
	[JANITOR_PARTITIONS_DROP] = "drop",
	[JANITOR_PARTITIONS_ROWS] = "rows",
};

/* One row, taken apart. */
typedef struct Columns
{
	Datum		values[Natts_rule];
	bool		nulls[Natts_rule];
} Columns;

/* The columns have CHECK constraints: other words cannot happen. */
static int
word_position(const char *word, const char *const *words, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	elog(ERROR, "unrecognized word \"%s\" in job_rule", word);
	return -1;					/* keep compilers quiet */
}

const char *
janitor_action_name(JanitorAction action)
{
	return action_names[action];
}

static bool
is_null(const Columns *row, AttrNumber column)
{
	return row->nulls[column - 1];
}

static Datum
value_of(const Columns *row, AttrNumber column)
{
	return row->values[column - 1];
}

static char *
text_of(const Columns *row, AttrNumber column)
{
	return is_null(row, column) ? NULL :
		TextDatumGetCString(value_of(row, column));
}

static int
int_of(const Columns *row, AttrNumber column, int if_null)
{
	return is_null(row, column) ? if_null :
		DatumGetInt32(value_of(row, column));
}

static int64
int64_of(const Columns *row, AttrNumber column, int64 if_null)
{
	return is_null(row, column) ? if_null :
		DatumGetInt64(value_of(row, column));
}

static int64
usec_of(const Columns *row, AttrNumber column)
{
	return is_null(row, column) ? 0 :
		janitor_interval_usec(DatumGetIntervalP(value_of(row, column)));
}

/* text[] as a list of strings; nulls in it are refused at definition. */
static List *
texts_of(const Columns *row, AttrNumber column)
{
	Datum	   *items;
	int			count;
	List	   *result = NIL;

	if (is_null(row, column))
		return NIL;
	deconstruct_array(DatumGetArrayTypePCopy(value_of(row, column)), TEXTOID,
					  -1, false, TYPALIGN_INT, &items, NULL, &count);
	for (int i = 0; i < count; i++)
		result = lappend(result, TextDatumGetCString(items[i]));
	return result;
}

/* Which rows. */
static void
load_condition(JanitorRule *rule, const Columns *row)
{
	rule->time_column = text_of(row, Anum_rule_time_column);
	rule->time_unit = text_of(row, Anum_rule_time_unit);
	rule->time_format = text_of(row, Anum_rule_time_format);
	rule->keep = is_null(row, Anum_rule_keep) ? NULL :
		DatumGetIntervalP(value_of(row, Anum_rule_keep));
	rule->keep_expression = text_of(row, Anum_rule_keep_expression);
	rule->tier_column = text_of(row, Anum_rule_tier_column);
	rule->tiers = is_null(row, Anum_rule_tiers) ? NULL :
		DatumGetJsonbPCopy(value_of(row, Anum_rule_tiers));
	rule->keep_last = int_of(row, Anum_rule_keep_last, 0);
	rule->keep_per = texts_of(row, Anum_rule_keep_per);
	rule->expired_when = text_of(row, Anum_rule_expired_when);
	rule->match = text_of(row, Anum_rule_match);
	rule->filter = text_of(row, Anum_rule_filter);
}

/* What is done with them. */
static void
load_action(JanitorRule *rule, const Columns *row)
{
	rule->action = (JanitorAction)
		word_position(text_of(row, Anum_rule_action), action_names,
					  lengthof(action_names));
	rule->set = text_of(row, Anum_rule_set);
	rule->done_when = text_of(row, Anum_rule_done_when);
	rule->archive_to = text_of(row, Anum_rule_archive_to);
	rule->partitions = (JanitorPartitions)
		word_position(text_of(row, Anum_rule_partitions), partitions_names,
					  lengthof(partitions_names));
	rule->drop_after = usec_of(row, Anum_rule_drop_after);
}

/* How fast, and how many at most. */
static void
load_limits(JanitorRule *rule, const Columns *row)
{
	rule->short_keep = DatumGetBool(value_of(row, Anum_rule_short_keep));
	rule->stop_on_failure =
		DatumGetBool(value_of(row, Anum_rule_stop_on_failure));
	rule->batch_rows = int_of(row, Anum_rule_batch_rows, 0);
	rule->rows_per_run = int64_of(row, Anum_rule_rows_per_run, 0);
	rule->max_rows_per_second = int_of(row, Anum_rule_max_rows_per_second, 0);
	rule->parallel = int_of(row, Anum_rule_parallel, 1);
	rule->max_replica_lag = usec_of(row, Anum_rule_max_replica_lag);
	rule->vacuum = DatumGetBool(value_of(row, Anum_rule_vacuum));
	rule->abort_above_rows = int64_of(row, Anum_rule_abort_above_rows, -1);
	rule->abort_above_fraction =
		is_null(row, Anum_rule_abort_above_fraction) ? -1 :
		DatumGetFloat8(value_of(row, Anum_rule_abort_above_fraction));
}

/* The result points into a copy of the tuple, in the current context. */
JanitorRule *
janitor_rule_from_tuple(HeapTuple tuple)
{
	JanitorRule *rule = palloc0(sizeof(JanitorRule));
	Columns		row;

	rule->tuple = heap_copytuple(tuple);
	heap_deform_tuple(rule->tuple, janitor_rule_tupdesc(), row.values,
					  row.nulls);
	rule->job_name = text_of(&row, Anum_rule_job_name);
	rule->name = text_of(&row, Anum_rule_rule);
	rule->place = int_of(&row, Anum_rule_place, 0);
	rule->relation = text_of(&row, Anum_rule_relation);
	load_condition(rule, &row);
	load_action(rule, &row);
	load_limits(rule, &row);
	return rule;
}

static void
collect_rule(HeapTuple tuple, void *arg)
{
	List	  **rules = arg;

	*rules = lappend(*rules, janitor_rule_from_tuple(tuple));
}

static int
compare_places(const ListCell *a, const ListCell *b)
{
	const JanitorRule *left = lfirst(a);
	const JanitorRule *right = lfirst(b);

	if (left->place != right->place)
		return left->place < right->place ? -1 : 1;
	return strcmp(left->name, right->name);
}

List *
janitor_rules_load(const char *job_name)
{
	List	   *rules = NIL;

	janitor_rule_scan(job_name, collect_rule, &rules);
	list_sort(rules, compare_places);
	return rules;
}
