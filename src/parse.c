/*-------------------------------------------------------------------------
 *
 * parse.c
 *	  The texts that people write into jobs and rules, as the grammar has them.
 *
 * What a string literal is depends on settings of the session.  A text is
 * written in one session, carried out in a worker and looked at in the
 * scheduler and in others' sessions, where it must neither mean anything else
 * nor be an error: so it is always read with standard_conforming_strings on.
 * Where the server itself writes expressions out or reads them,
 * janitor_session_apply() and janitor_as_role() have set it.
 *
 * Runs in any process; nothing is looked up or evaluated.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "parse.h"

#include "utils/guc.h"

List *
janitor_parse(const char *text, RawParseMode mode)
{
	bool		strings = standard_conforming_strings;
	bool		warning = escape_string_warning;
	int			quote = backslash_quote;
	List	   *result = NIL;

	standard_conforming_strings = true;
	escape_string_warning = false;
	backslash_quote = BACKSLASH_QUOTE_ON;
	PG_TRY();
	{
		result = raw_parser(text, mode);
	}
	PG_FINALLY();
	{
		standard_conforming_strings = strings;
		escape_string_warning = warning;
		backslash_quote = quote;
	}
	PG_END_TRY();
	return result;
}
