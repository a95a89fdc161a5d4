/*-------------------------------------------------------------------------
 *
 * option.h
 *	  Values of options, as they come in JSON.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_OPTION_H
#define JANITOR_OPTION_H

#include "compat.h"

#include "utils/jsonb.h"

#include "nearest.h"

/* A literal of a type. */
extern Datum janitor_option_literal(Oid type, const char *text);

/* A value that is not null, as that type; errors name the key. */
extern Datum janitor_option_read(Oid type, char *key, JsonbValue *value);

/*
 * No value that pg_janitor stores may have more bytes: the scheduler reads
 * those of all roles.  `what` is option, argument, ...
 */
#define JANITOR_VALUE_LIMIT (1024 * 1024)

extern void janitor_value_check(const char *what, const char *name,
								Datum value);

/* Raises ERROR 22023: there is no option of the name wanted. */
extern void janitor_option_unknown(const JanitorNearest *nearest,
								   const char *function);

#endif							/* JANITOR_OPTION_H */
