/*-------------------------------------------------------------------------
 *
 * draft.c
 *	  A job_definition row in the making: defaults, options, comparison.
 *
 * Ledger rows are written by heap access, which knows no column defaults and
 * no constraints.  So the defaults are here, as text that the column's type
 * reads, and validate.c has the constraints.  Both repeat what the install
 * script declares for people who read the tables; the regression tests
 * compare the two.
 *
 * Options come as JSON: a string is read by the column's type as a literal
 * would be, null asks for the default.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "draft.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "nearest.h"
#include "option.h"
#include "settings.h"

/* What a user can set, and what it is when not set (NULL: null). */
typedef struct Option
{
	AttrNumber	column;
	const char *initial;
} Option;

static const Option options[] = {
	{Anum_definition_description, NULL},
	{Anum_definition_tags, NULL},
	{Anum_definition_schedule, NULL},
	{Anum_definition_time_zone, "UTC"},
	{Anum_definition_command, NULL},
	{Anum_definition_items, NULL},
	{Anum_definition_args, "{}"},
	{Anum_definition_settings, "{}"},
	{Anum_definition_owner, NULL},
	{Anum_definition_enabled, NULL},
	{Anum_definition_run_on_start, "false"},
	{Anum_definition_run_after, NULL},
	{Anum_definition_on_failure, NULL},
	{Anum_definition_catch_up, "once"},
	{Anum_definition_catch_up_within, NULL},
	{Anum_definition_max_running, "1"},
	{Anum_definition_overlap, "skip"},
	{Anum_definition_timeout, NULL},
	{Anum_definition_stop_after, NULL},
	{Anum_definition_parallel, "1"},
	{Anum_definition_max_attempts, NULL},
	{Anum_definition_retry_delay, "10 seconds"},
	{Anum_definition_retry_max_delay, "1 hour"},
	{Anum_definition_jitter, "0"},
	{Anum_definition_priority, "0"},
	{Anum_definition_circuit, NULL},
	{Anum_definition_channel, NULL},
	{Anum_definition_receipts, NULL},
	{Anum_definition_subjects, NULL},
	{Anum_definition_keep_history, "90 days"},
	{Anum_definition_keep_runs, "10000"}
};

static const char *
column_name(AttrNumber column)
{
	return NameStr(TupleDescAttr(janitor_definition_tupdesc(),
								 column - 1)->attname);
}

static Oid
column_type(AttrNumber column)
{
	return TupleDescAttr(janitor_definition_tupdesc(), column - 1)->atttypid;
}

/* Workers outside are as many as somebody has started. */
static const char *
initial_value(const JanitorDraft *draft, const Option *option)
{
	if (option->column == Anum_definition_max_running &&
		janitor_draft_kind(draft) == JANITOR_KIND_EXTERNAL)
		return NULL;
	return option->initial;
}

static void
set_initial(JanitorDraft *draft, const Option *option)
{
	const char *initial = initial_value(draft, option);

	if (initial == NULL)
		janitor_draft_set(draft, option->column, (Datum) 0, true);
	else
		janitor_draft_set(draft, option->column,
						  janitor_option_literal(column_type(option->column),
												 initial),
						  false);
}

void
janitor_draft_begin(JanitorDraft *draft, JanitorKind kind)
{
	memset(draft->values, 0, sizeof(draft->values));
	memset(draft->nulls, true, sizeof(draft->nulls));
	janitor_draft_set_text(draft, Anum_definition_kind,
						   janitor_kind_name(kind));
	for (int i = 0; i < lengthof(options); i++)
		set_initial(draft, &options[i]);
}

void
janitor_draft_load(JanitorDraft *draft, HeapTuple tuple)
{
	heap_deform_tuple(tuple, janitor_definition_tupdesc(),
					  draft->values, draft->nulls);
}

void
janitor_draft_set(JanitorDraft *draft, AttrNumber column, Datum value,
				  bool isnull)
{
	draft->values[column - 1] = isnull ? (Datum) 0 : value;
	draft->nulls[column - 1] = isnull;
}

void
janitor_draft_set_text(JanitorDraft *draft, AttrNumber column,
					   const char *value)
{
	if (value == NULL)
		janitor_draft_set(draft, column, (Datum) 0, true);
	else
		janitor_draft_set(draft, column, CStringGetTextDatum(value), false);
}

char *
janitor_draft_text(const JanitorDraft *draft, AttrNumber column)
{
	if (draft->nulls[column - 1])
		return NULL;
	return TextDatumGetCString(draft->values[column - 1]);
}

JanitorKind
janitor_draft_kind(const JanitorDraft *draft)
{
	return janitor_kind_from_name(janitor_draft_text(draft,
													 Anum_definition_kind));
}

void
janitor_draft_arm(JanitorDraft *draft)
{
	janitor_draft_set(draft, Anum_definition_home,
					  Int64GetDatum(janitor_home()), false);
	janitor_draft_set(draft, Anum_definition_home_database,
					  ObjectIdGetDatum(MyDatabaseId), false);
	janitor_draft_set_text(draft, Anum_definition_environment,
						   janitor_environment);
}

bool
janitor_draft_is_default(const JanitorDraft *draft, AttrNumber column)
{
	JanitorDraft fresh;

	janitor_draft_begin(&fresh, janitor_draft_kind(draft));
	return !janitor_draft_differs(draft, &fresh, column);
}

void
janitor_draft_fill(JanitorDraft *draft)
{
	for (int i = 0; i < lengthof(options); i++)
		if (draft->nulls[options[i].column - 1])
			set_initial(draft, &options[i]);
}

/* --- options as JSON --- */

bool
janitor_draft_offer_options(JanitorNearest *nearest)
{
	for (int i = 0; i < lengthof(options); i++)
	{
		const char *name = column_name(options[i].column);

		if (strcmp(name, nearest->wanted) == 0)
			return true;
		janitor_nearest_offer(nearest, name);
	}
	return false;
}

/* The option of that name, or an error. */
static const Option *
find_option(const char *key)
{
	JanitorNearest nearest = {key};

	Assert(key != NULL);
	for (int i = 0; i < lengthof(options); i++)
		if (strcmp(column_name(options[i].column), key) == 0)
			return &options[i];
	(void) janitor_draft_offer_options(&nearest);
	janitor_option_unknown(&nearest, "job_schedule()");
	return NULL;
}

static void
set_option(JanitorDraft *draft, char *key, JsonbValue *value, bool once)
{
	const Option *option = find_option(key);

	if (once && !janitor_draft_is_default(draft, option->column))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is given both as an argument and in options",
						key)));
	if (value->type == jbvNull)
	{
		set_initial(draft, option);
		return;
	}

	janitor_draft_set(draft, option->column,
					  janitor_option_read(column_type(option->column), key,
										  value),
					  false);
}

void
janitor_draft_set_options(JanitorDraft *draft, Jsonb *object, bool once)
{
	JsonbIterator *iterator;
	JsonbValue	item;
	JsonbIteratorToken token;
	char	   *key = NULL;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 errhint("Write them as '{\"timeout\": \"5 minutes\"}'.")));

	iterator = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE)
			set_option(draft, key, &item, once);
	}
}

void
janitor_draft_check_sizes(const JanitorDraft *draft)
{
	for (int i = 0; i < lengthof(options); i++)
	{
		AttrNumber	column = options[i].column;

		if (!draft->nulls[column - 1] && get_typlen(column_type(column)) == -1)
			janitor_value_check("option", column_name(column),
								draft->values[column - 1]);
	}
}

/* --- comparison and record --- */

bool
janitor_draft_differs(const JanitorDraft *a, const JanitorDraft *b,
					  AttrNumber column)
{
	Form_pg_attribute attribute = TupleDescAttr(janitor_definition_tupdesc(),
												column - 1);
	int			i = column - 1;

	if (a->nulls[i] || b->nulls[i])
		return a->nulls[i] != b->nulls[i];
	return !datum_image_eq(a->values[i], b->values[i],
						   attribute->attbyval, attribute->attlen);
}

bool
janitor_draft_same(const JanitorDraft *a, const JanitorDraft *b)
{
	for (int column = 1; column < Anum_definition_version; column++)
		if (janitor_draft_differs(a, b, column))
			return false;
	return true;
}

Jsonb *
janitor_draft_to_jsonb(JanitorDraft *draft)
{
	TupleDesc	desc = janitor_definition_tupdesc();
	HeapTuple	tuple = heap_form_tuple(desc, draft->values, draft->nulls);
	Datum		row = heap_copy_tuple_as_datum(tuple, desc);
	text	   *json = DatumGetTextPP(DirectFunctionCall1(row_to_json, row));

	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(text_to_cstring(json))));
}
