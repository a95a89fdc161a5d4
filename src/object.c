/*-------------------------------------------------------------------------
 *
 * object.c
 *	  JSON objects in the making, by the server's own JSON code.
 *
 * Runs in any process; needs no transaction.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "object.h"

#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

void
janitor_object_begin(JanitorObject *object)
{
	object->state = NULL;
	pushJsonbValue(&object->state, WJB_BEGIN_OBJECT, NULL);
}

Jsonb *
janitor_object_end(JanitorObject *object)
{
	return JsonbValueToJsonb(pushJsonbValue(&object->state, WJB_END_OBJECT,
											NULL));
}

static void
push_string(JanitorObject *object, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	pushJsonbValue(&object->state, token, &value);
}

void
janitor_object_text(JanitorObject *object, const char *key, const char *value)
{
	if (value == NULL)
		return;
	push_string(object, WJB_KEY, key);
	push_string(object, WJB_VALUE, value);
}

void
janitor_object_number(JanitorObject *object, const char *key, int64 number)
{
	JsonbValue	value;

	push_string(object, WJB_KEY, key);
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	pushJsonbValue(&object->state, WJB_VALUE, &value);
}

void
janitor_object_bool(JanitorObject *object, const char *key, bool boolean)
{
	JsonbValue	value;

	push_string(object, WJB_KEY, key);
	value.type = jbvBool;
	value.val.boolean = boolean;
	pushJsonbValue(&object->state, WJB_VALUE, &value);
}

void
janitor_object_time(JanitorObject *object, const char *key, TimestampTz value)
{
	if (!TIMESTAMP_IS_NOBEGIN(value))
		janitor_object_text(object, key,
							pstrdup(timestamptz_to_str(value)));
}

void
janitor_object_open(JanitorObject *object, const char *key)
{
	push_string(object, WJB_KEY, key);
	pushJsonbValue(&object->state, WJB_BEGIN_OBJECT, NULL);
}

void
janitor_object_close(JanitorObject *object)
{
	pushJsonbValue(&object->state, WJB_END_OBJECT, NULL);
}

void
janitor_array_open(JanitorObject *object, const char *key)
{
	push_string(object, WJB_KEY, key);
	pushJsonbValue(&object->state, WJB_BEGIN_ARRAY, NULL);
}

void
janitor_array_close(JanitorObject *object)
{
	pushJsonbValue(&object->state, WJB_END_ARRAY, NULL);
}

void
janitor_object_element(JanitorObject *object)
{
	pushJsonbValue(&object->state, WJB_BEGIN_OBJECT, NULL);
}

/* --- reading --- */

static JsonbValue *
get(Jsonb *object, const char *key, JsonbValue *buffer)
{
	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	return getKeyJsonValueFromContainer(&object->root, key, strlen(key),
										buffer);
}

char *
janitor_object_get_text(Jsonb *object, const char *key)
{
	JsonbValue	buffer;
	JsonbValue *value = get(object, key, &buffer);

	if (value == NULL)
		return NULL;
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
			return NULL;
	}
}

bool
janitor_object_get_bool(Jsonb *object, const char *key)
{
	JsonbValue	buffer;
	JsonbValue *value = get(object, key, &buffer);

	return value != NULL && value->type == jbvBool && value->val.boolean;
}
