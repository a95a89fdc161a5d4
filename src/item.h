/*-------------------------------------------------------------------------
 *
 * item.h
 *	  The query whose rows are the items of a job.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_ITEM_H
#define JANITOR_ITEM_H

#include "compat.h"

#include "nodes/pg_list.h"

/*
 * What an items query means, analysed in the current session, by the current
 * user, and written out again by the server.  The first column is the key.
 * All texts are statements.
 */
typedef struct JanitorItemsQuery
{
	/* The key of every item, in the order in which they are handled. */
	char	   *keys;

	/*
	 * $1: a key.  Locks the rows that the item comes from, and returns the
	 * item as jsonb and when it is due (timestamptz; NULL if the query does
	 * not say).
	 */
	char	   *subject;

	/*
	 * $1: an array of keys.  The same for all of them whose rows nobody else
	 * has locked, and the key; NULL: there are no such arrays.
	 */
	char	   *subjects;

	/*
	 * $1: a key.  The same without locks: key, due, and for each relation of
	 * `locked` its tableoid and its ctid (t1, c1, t2, ...).  To be wrapped.
	 */
	char	   *places;

	/* How many are past their deadline; NULL: they have none. */
	char	   *overdue;

	List	   *columns;		/* names, of char * */
	char	   *key_name;
	Oid			key_type;
	bool		key_is_plain;	/* its text is the same in every session */

	/* It depends on rows that the locks do not cover: look again after them. */
	bool		looks_elsewhere;
	List	   *locked;			/* OIDs; a relation may occur twice */
} JanitorItemsQuery;

/*
 * In the current context.  Errors name what is wrong with the query and how it
 * is mended, and what it is: "items query".  For a definition it is also planned
 * and the right to lock checked; inside janitor_as_role() then.
 */
extern JanitorItemsQuery *janitor_items_query(const char *text,
											  const char *what,
											  const char *job_name);
extern void janitor_items_query_check(const JanitorItemsQuery *query,
									  const char *what,
									  const char *job_name);

/* A key as text, at most JANITOR_KEY_BYTES long; long ones end in a hash. */
#define JANITOR_KEY_BYTES 500
extern char *janitor_item_key_text(const JanitorItemsQuery *query, Datum key);
extern char *janitor_item_key_shorten(const char *text);

#endif							/* JANITOR_ITEM_H */
