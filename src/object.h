/*-------------------------------------------------------------------------
 *
 * object.h
 *	  JSON objects in the making.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_OBJECT_H
#define JANITOR_OBJECT_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/*
 * Everything lives in the context that is current at janitor_object_begin();
 * keys and texts are not copied before janitor_object_end().
 */
typedef struct JanitorObject
{
	JsonbParseState *state;
} JanitorObject;

extern void janitor_object_begin(JanitorObject *object);
extern Jsonb *janitor_object_end(JanitorObject *object);

/* A key with its value; NULL and DT_NOBEGIN leave both out. */
extern void janitor_object_text(JanitorObject *object, const char *key,
								const char *value);
extern void janitor_object_number(JanitorObject *object, const char *key,
								  int64 value);
extern void janitor_object_bool(JanitorObject *object, const char *key,
								bool value);
extern void janitor_object_time(JanitorObject *object, const char *key,
								TimestampTz value);

/* A key with an object or an array, which the following calls fill. */
extern void janitor_object_open(JanitorObject *object, const char *key);
extern void janitor_object_close(JanitorObject *object);
extern void janitor_array_open(JanitorObject *object, const char *key);
extern void janitor_array_close(JanitorObject *object);

/* The next element of an array, an object; to be closed. */
extern void janitor_object_element(JanitorObject *object);

/* Reading: the text of a key, NULL if it is not there or no scalar. */
extern char *janitor_object_get_text(Jsonb *object, const char *key);
extern bool janitor_object_get_bool(Jsonb *object, const char *key);

#endif							/* JANITOR_OBJECT_H */
