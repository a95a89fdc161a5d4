/*-------------------------------------------------------------------------
 *
 * rule_sql.c
 *	  The statements of a rule.
 *
 * Each is for one leaf, named with ONLY, and holds the whole condition: what
 * it changes is expired, and not held, when it is changed.  Operators and
 * types of ours are qualified; names of users come out of the server quoted
 * and qualified; values are parameters.  No search_path changes what a
 * statement means.
 *
 * A statement that passes over locked rows picks their ctids first, locking
 * them, and looks at the condition again when it changes them.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "catalog/pg_type.h"

int
janitor_rule_parameters(const JanitorReadyRule *ready, JanitorRange range,
						Oid *types)
{
	int			count = 0;

	types[count++] = ready->has_bound ? ready->bound_type :
		ready->rule->match != NULL ? JSONBOID : TEXTOID;
	switch (range)
	{
		case JANITOR_RANGE_ALL:
			break;
		case JANITOR_RANGE_KEYS:
			types[count++] = ready->bound_type;
			types[count++] = ready->bound_type;
			break;
		case JANITOR_RANGE_BLOCKS:
			types[count++] = TIDOID;
			types[count++] = TIDOID;
			break;
		case JANITOR_RANGE_KEY_BLOCKS:
			types[count++] = ready->bound_type;
			types[count++] = TIDOID;
			types[count++] = TIDOID;
			break;
		case JANITOR_RANGE_ROWS:
			types[count++] = TIDARRAYOID;
			break;
	}
	return count;
}

/* `r.column >= $2 AND `; "ctid" is a column, too. */
static void
append_limit(StringInfo sql, const char *column, const char *operator,
			 int parameter)
{
	appendStringInfo(sql, "r.%s OPERATOR(pg_catalog.%s) $%d AND ",
					 column, operator, parameter);
}

static void
append_range(StringInfo sql, const JanitorReadyRule *ready,
			 JanitorRange range)
{
	switch (range)
	{
		case JANITOR_RANGE_ALL:
			break;
		case JANITOR_RANGE_KEYS:
			append_limit(sql, ready->time_column, ">=", 2);
			append_limit(sql, ready->time_column, "<", 3);
			break;
		case JANITOR_RANGE_BLOCKS:
			append_limit(sql, "ctid", ">=", 2);
			append_limit(sql, "ctid", "<", 3);
			break;
		case JANITOR_RANGE_KEY_BLOCKS:
			append_limit(sql, ready->time_column, "=", 2);
			append_limit(sql, "ctid", ">=", 3);
			append_limit(sql, "ctid", "<", 4);
			break;
		case JANITOR_RANGE_ROWS:
			appendStringInfoString(sql,
								   "r.ctid OPERATOR(pg_catalog.=) ANY ($2) AND ");
			break;
	}
}

/* `range AND predicate AND NOT held`. */
static char *
condition_of(const JanitorReadyRule *ready, JanitorRange range,
			 const char *holds)
{
	StringInfoData sql;

	initStringInfo(&sql);
	append_range(&sql, ready, range);
	appendStringInfoString(&sql, ready->predicate);
	if (holds != NULL)
		appendStringInfo(&sql, " AND (%s) IS NOT TRUE", holds);
	return sql.data;
}

char *
janitor_rule_from_where(const JanitorReadyRule *ready, Oid leaf,
						JanitorRange range, const char *holds)
{
	return psprintf(" FROM ONLY %s AS r WHERE %s", janitor_relation_name(leaf),
					condition_of(ready, range, holds));
}

/* Rows that nobody else has locked, by their ctids; then the same again. */
static char *
unlocked_of(const JanitorReadyRule *ready, Oid leaf, JanitorRange range,
			const char *holds)
{
	return psprintf("r.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT r.ctid%s FOR %s SKIP LOCKED)) AND %s",
					janitor_rule_from_where(ready, leaf, range, holds),
					ready->assignments ? "NO KEY UPDATE" : "UPDATE",
					condition_of(ready, JANITOR_RANGE_ALL, holds));
}

static char *
statement(const JanitorReadyRule *ready, const char *table, const char *where)
{
	switch (ready->rule->action)
	{
		case JANITOR_DELETE:
			break;
		case JANITOR_UPDATE:
		case JANITOR_ANONYMIZE:
			return psprintf("UPDATE %s AS r SET %s WHERE %s", table,
							ready->assignments, where);
		case JANITOR_ARCHIVE:
			return psprintf("WITH gone AS (DELETE FROM %s AS r WHERE %s RETURNING %s) INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM gone",
							table, where, ready->archive_columns,
							ready->archive_to, ready->archive_columns,
							ready->archive_columns);
	}
	return psprintf("DELETE FROM %s AS r WHERE %s", table, where);
}

char *
janitor_rule_statement(const JanitorReadyRule *ready, Oid leaf,
					   JanitorRange range, const char *holds,
					   bool skip_locked)
{
	char	   *where = skip_locked ? unlocked_of(ready, leaf, range, holds) :
	condition_of(ready, range, holds);

	return statement(ready, psprintf("ONLY %s", janitor_relation_name(leaf)),
					 where);
}

/* --- many items at once --- */

/* No name that a user's expression could have, too. */
#define ITEMS "\"pg_janitor items\""
#define FROM_ITEMS "pg_catalog.unnest($1) WITH ORDINALITY AS " ITEMS " (item, n)"

/* A literal or a quoted name, with all that is doubled in it. */
static const char *
skip_quoted(const char *text)
{
	char		quote = *text++;

	while (*text != quote)
		text++;
	return text + 1;
}

/*
 * The text with something else for $1; what the server writes out has no
 * other quotes than these.  *found: it was there.
 */
static char *
replace_parameter(const char *text, const char *replacement, bool *found)
{
	StringInfoData result;

	initStringInfo(&result);
	while (*text != '\0')
	{
		const char *end = text + 1;

		if (*text == '\'' || *text == '"')
			end = skip_quoted(text);
		else if (strncmp(text, "$1", 2) == 0 &&
				 !isdigit((unsigned char) text[2]))
		{
			appendStringInfoString(&result, replacement);
			*found = true;
			text += 2;
			continue;
		}
		appendBinaryStringInfo(&result, text, end - text);
		text = end;
	}
	return result.data;
}

/* Rows that are copied before they go, with the item that they were of. */
static char *
archive_of_items(const JanitorReadyRule *ready, const char *table,
				 const char *where)
{
	return psprintf("WITH gone AS (DELETE FROM %s AS r USING " FROM_ITEMS " WHERE %s RETURNING %s, " ITEMS ".n AS " ITEMS "), "
					"kept AS (INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM gone) "
					"SELECT " ITEMS " FROM gone",
					table, where, ready->archive_columns,
					ready->archive_to, ready->archive_columns,
					ready->archive_columns);
}

char *
janitor_rule_items_statement(const JanitorReadyRule *ready)
{
	const char *table = janitor_relation_name(ready->relid);
	bool		found = false;
	char	   *where = replace_parameter(condition_of(ready,
													   JANITOR_RANGE_ALL,
													   NULL),
										  ITEMS ".item", &found);

	/* what an item alone decides is looked at for each, or for none */
	if (!found)
		return NULL;
	switch (ready->rule->action)
	{
		case JANITOR_ARCHIVE:
			return archive_of_items(ready, table, where);
		case JANITOR_UPDATE:
		case JANITOR_ANONYMIZE:
			found = false;
			(void) replace_parameter(ready->assignments, "", &found);
			if (found)
				return NULL;
			return psprintf("UPDATE %s AS r SET %s FROM " FROM_ITEMS " WHERE %s RETURNING " ITEMS ".n",
							table, ready->assignments, where);
		case JANITOR_DELETE:
			break;
	}
	return psprintf("DELETE FROM %s AS r USING " FROM_ITEMS " WHERE %s RETURNING " ITEMS ".n",
					table, where);
}

char *
janitor_rule_items_residue(const JanitorReadyRule *ready)
{
	bool		found;

	return psprintf("EXISTS (SELECT 1 FROM %s AS r, " FROM_ITEMS " WHERE %s)",
					janitor_relation_name(ready->relid),
					replace_parameter(condition_of(ready, JANITOR_RANGE_ALL,
												   NULL),
									  ITEMS ".item", &found));
}

char *
janitor_rule_item_statement(const JanitorReadyRule *ready)
{
	return statement(ready, janitor_relation_name(ready->relid),
					 condition_of(ready, JANITOR_RANGE_ALL, NULL));
}
