/*-------------------------------------------------------------------------
 *
 * parse.h
 *	  The texts that people write into jobs and rules, as the grammar has them.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_PARSE_H
#define JANITOR_PARSE_H

#include "compat.h"

#include "parser/parser.h"

/* The raw parse of a text, the same in every session. */
extern List *janitor_parse(const char *text, RawParseMode mode);

#endif							/* JANITOR_PARSE_H */
