/*-------------------------------------------------------------------------
 *
 * rule_draft.c
 *	  A job_rule row in the making: defaults, options, comparison.
 *
 * As draft.c for jobs: rows are written by heap access, which knows no
 * defaults and no constraints, so the defaults are here and rule_validate.c
 * has the constraints.  The regression tests compare both with the table's.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_draft.h"

#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"

#include "option.h"

/* What a user can set, and what it is when not set (NULL: null). */
typedef struct Option
{
	AttrNumber	column;
	const char *initial;
} Option;

static const Option options[] = {
	{Anum_rule_relation, NULL},
	{Anum_rule_action, "delete"},
	{Anum_rule_time_column, NULL},
	{Anum_rule_time_unit, NULL},
	{Anum_rule_time_format, NULL},
	{Anum_rule_keep, NULL},
	{Anum_rule_keep_expression, NULL},
	{Anum_rule_tier_column, NULL},
	{Anum_rule_tiers, NULL},
	{Anum_rule_keep_last, NULL},
	{Anum_rule_keep_per, NULL},
	{Anum_rule_expired_when, NULL},
	{Anum_rule_match, NULL},
	{Anum_rule_filter, NULL},
	{Anum_rule_set, NULL},
	{Anum_rule_done_when, NULL},
	{Anum_rule_archive_to, NULL},
	{Anum_rule_short_keep, "false"},
	{Anum_rule_stop_on_failure, "false"},
	{Anum_rule_batch_rows, NULL},
	{Anum_rule_rows_per_run, NULL},
	{Anum_rule_max_rows_per_second, NULL},
	{Anum_rule_parallel, "1"},
	{Anum_rule_max_replica_lag, NULL},
	{Anum_rule_vacuum, "false"},
	{Anum_rule_partitions, "detach"},
	{Anum_rule_drop_after, "24 hours"},
	{Anum_rule_abort_above_rows, NULL},
	{Anum_rule_abort_above_fraction, NULL}
};

static Form_pg_attribute
attribute_of(AttrNumber column)
{
	return TupleDescAttr(janitor_rule_tupdesc(), column - 1);
}

static const char *
column_name(AttrNumber column)
{
	return NameStr(attribute_of(column)->attname);
}

static void
set_initial(JanitorRuleDraft *draft, const Option *option)
{
	draft->nulls[option->column - 1] = true;
	if (option->initial != NULL)
		janitor_rule_draft_set(draft, option->column,
							   janitor_option_literal(attribute_of(option->column)->atttypid,
													  option->initial));
}

void
janitor_rule_draft_begin(JanitorRuleDraft *draft)
{
	memset(draft->values, 0, sizeof(draft->values));
	memset(draft->nulls, true, sizeof(draft->nulls));
	for (int i = 0; i < lengthof(options); i++)
		set_initial(draft, &options[i]);
}

void
janitor_rule_draft_load(JanitorRuleDraft *draft, HeapTuple tuple)
{
	heap_deform_tuple(tuple, janitor_rule_tupdesc(), draft->values,
					  draft->nulls);
}

void
janitor_rule_draft_set(JanitorRuleDraft *draft, AttrNumber column,
					   Datum value)
{
	draft->values[column - 1] = value;
	draft->nulls[column - 1] = false;
}

void
janitor_rule_draft_set_text(JanitorRuleDraft *draft, AttrNumber column,
							const char *value)
{
	janitor_rule_draft_set(draft, column, CStringGetTextDatum(value));
}

char *
janitor_rule_draft_text(const JanitorRuleDraft *draft, AttrNumber column)
{
	return draft->nulls[column - 1] ? NULL :
		TextDatumGetCString(draft->values[column - 1]);
}

void
janitor_rule_draft_check_sizes(const JanitorRuleDraft *draft)
{
	for (int i = 0; i < lengthof(options); i++)
	{
		AttrNumber	column = options[i].column;

		if (!draft->nulls[column - 1] && attribute_of(column)->attlen == -1)
			janitor_value_check("option", column_name(column),
								draft->values[column - 1]);
	}
}

/* --- comparison and record --- */

static bool
differs(const JanitorRuleDraft *a, const JanitorRuleDraft *b,
		AttrNumber column)
{
	Form_pg_attribute attribute = attribute_of(column);
	int			i = column - 1;

	if (a->nulls[i] || b->nulls[i])
		return a->nulls[i] != b->nulls[i];
	return !datum_image_eq(a->values[i], b->values[i],
						   attribute->attbyval, attribute->attlen);
}

bool
janitor_rule_draft_same(const JanitorRuleDraft *a, const JanitorRuleDraft *b)
{
	for (int i = 0; i < lengthof(options); i++)
		if (differs(a, b, options[i].column))
			return false;
	return true;
}

Jsonb *
janitor_rule_draft_to_jsonb(JanitorRuleDraft *draft)
{
	TupleDesc	desc = janitor_rule_tupdesc();
	HeapTuple	tuple = heap_form_tuple(desc, draft->values, draft->nulls);
	Datum		row = heap_copy_tuple_as_datum(tuple, desc);
	text	   *json = DatumGetTextPP(DirectFunctionCall1(row_to_json, row));

	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(text_to_cstring(json))));
}

JanitorRule *
janitor_rule_draft_rule(JanitorRuleDraft *draft)
{
	return janitor_rule_from_tuple(heap_form_tuple(janitor_rule_tupdesc(),
												   draft->values,
												   draft->nulls));
}

/* --- options as JSON --- */

void
janitor_rule_offer_options(JanitorNearest *nearest)
{
	for (int i = 0; i < lengthof(options); i++)
		janitor_nearest_offer(nearest, column_name(options[i].column));
}

static const Option *
find_option(const char *key)
{
	for (int i = 0; i < lengthof(options); i++)
		if (strcmp(column_name(options[i].column), key) == 0)
			return &options[i];
	return NULL;
}

static bool
is_initial(const JanitorRuleDraft *draft, AttrNumber column)
{
	JanitorRuleDraft fresh;

	janitor_rule_draft_begin(&fresh);
	return !differs(draft, &fresh, column);
}

bool
janitor_rule_draft_set_option(JanitorRuleDraft *draft, char *key,
							  JsonbValue *value)
{
	const Option *option = find_option(key);

	if (option == NULL)
		return false;
	if (!is_initial(draft, option->column))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is given both as an argument and in options",
						key)));
	if (value->type != jbvNull)
		janitor_rule_draft_set(draft, option->column,
							   janitor_option_read(attribute_of(option->column)->atttypid,
												   key, value));
	return true;
}
