/*-------------------------------------------------------------------------
 *
 * option.c
 *	  Values of options, as they come in JSON.
 *
 * A string is read by the column's type as a literal would be; numbers and
 * booleans as what they look like.  An interval has to be a string: a bare
 * number has no unit.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "option.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

Datum
janitor_option_literal(Oid type, const char *text)
{
	Oid			input;
	Oid			ioparam;

	getTypeInputInfo(type, &input, &ioparam);
	return OidInputFunctionCall(input, unconstify(char *, text), ioparam, -1);
}

/* Nothing is decompressed for it. */
void
janitor_value_check(const char *what, const char *name, Datum value)
{
	Size		size = toast_raw_datum_size(value);

	if (size > JANITOR_VALUE_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s \"%s\" is too large", what, name),
				 errdetail("It has %zu bytes, at most %d are allowed.", size,
						   JANITOR_VALUE_LIMIT),
				 errhint("Keep large values in tables of your own.")));
}

void
janitor_option_unknown(const JanitorNearest *nearest, const char *function)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown option \"%s\"", nearest->wanted),
			 nearest->best == NULL ?
			 errhint("The options are the arguments of %s.", function) :
			 errhint("Perhaps you meant the option \"%s\".", nearest->best)));
}

static void
wrong_kind(const char *key, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be %s", key, wanted)));
}

/* ["a", "b"] as text[]. */
static Datum
read_text_array(const char *key, JsonbValue *value)
{
	JsonbContainer *container = value->val.binary.data;
	JsonbIterator *iterator;
	JsonbValue	item;
	JsonbIteratorToken token;
	ArrayBuildState *state;

	if (value->type != jbvBinary || !JsonContainerIsArray(container))
		wrong_kind(key, "an array of strings");

	state = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	iterator = JsonbIteratorInit(container);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (item.type != jbvString)
			wrong_kind(key, "an array of strings");
		state = accumArrayResult(state,
								 PointerGetDatum(cstring_to_text_with_len(item.val.string.val,
																		  item.val.string.len)),
								 false, TEXTOID, CurrentMemoryContext);
	}
	return makeArrayResult(state, CurrentMemoryContext);
}

/* A JSON scalar as the text of a literal. */
static char *
scalar_text(const char *key, JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			wrong_kind(key, "a string, a number or a boolean");
			return NULL;
	}
}

static Datum
read_value(Oid type, const char *key, JsonbValue *value)
{
	if (type == JSONBOID)
		return PointerGetDatum(JsonbValueToJsonb(value));
	if (type == TEXTARRAYOID)
		return read_text_array(key, value);
	if (type == INTERVALOID && value->type != jbvString)
		wrong_kind(key, "an interval with its unit, such as \"30 seconds\"");
	return janitor_option_literal(type, scalar_text(key, value));
}

static void
option_error_context(void *arg)
{
	errcontext("option \"%s\"", (char *) arg);
}

Datum
janitor_option_read(Oid type, char *key, JsonbValue *value)
{
	ErrorContextCallback context;
	Datum		result;

	context.callback = option_error_context;
	context.arg = key;
	context.previous = error_context_stack;
	error_context_stack = &context;
	result = read_value(type, key, value);
	error_context_stack = context.previous;
	return result;
}
