/*-------------------------------------------------------------------------
 *
 * draft.h
 *	  A job_definition row in the making: defaults, options, comparison.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_DRAFT_H
#define JANITOR_DRAFT_H

#include "ledger.h"
#include "nearest.h"

/* Values belong to the context that was current when they were set. */
typedef struct JanitorDraft
{
	Datum		values[Natts_definition];
	bool		nulls[Natts_definition];
} JanitorDraft;

#define draft_is_null(draft, column) \
	((draft)->nulls[Anum_definition_##column - 1])
#define draft_value(draft, column) \
	((draft)->values[Anum_definition_##column - 1])

/* A new job: every option at its default; name, owner and times unset. */
extern void janitor_draft_begin(JanitorDraft *draft, JanitorKind kind);

/* The job as it is. */
extern void janitor_draft_load(JanitorDraft *draft, HeapTuple tuple);

extern void janitor_draft_set(JanitorDraft *draft, AttrNumber column,
							  Datum value, bool isnull);
extern void janitor_draft_set_text(JanitorDraft *draft, AttrNumber column,
								   const char *value);

/* Text of a column, NULL if it is null. */
extern char *janitor_draft_text(const JanitorDraft *draft, AttrNumber column);

extern JanitorKind janitor_draft_kind(const JanitorDraft *draft);

/* From now on it is at home in this database, see home.c. */
extern void janitor_draft_arm(JanitorDraft *draft);

/* Is the column as it is in a new job? */
extern bool janitor_draft_is_default(const JanitorDraft *draft,
									 AttrNumber column);

/* Puts the default where a column that has one was set to null. */
extern void janitor_draft_fill(JanitorDraft *draft);

/*
 * Sets options from {"column": value, ...}.  Unknown keys are errors that
 * name the nearest.  With `once`, so are keys that were set to something else
 * than the default before.
 */
extern void janitor_draft_set_options(JanitorDraft *draft, Jsonb *options,
									  bool once);

/* An error if the value of an option is too large to be stored. */
extern void janitor_draft_check_sizes(const JanitorDraft *draft);

/* Is there an option of the name wanted?  If not, all names are offered. */
extern bool janitor_draft_offer_options(JanitorNearest *nearest);

/* Do two drafts differ in this column; in any that a user can set? */
extern bool janitor_draft_differs(const JanitorDraft *a,
								  const JanitorDraft *b, AttrNumber column);
extern bool janitor_draft_same(const JanitorDraft *a, const JanitorDraft *b);

/* A definition as a JSON object, column by column. */
extern Jsonb *janitor_draft_to_jsonb(JanitorDraft *draft);

/*
 * Writes a checked draft over the row it was made from (NULL: as a new job),
 * with its line in job_change, and brings the queue into line; nothing at all
 * if it does not differ.  Returns the next run, DT_NOEND if none.  The caller
 * holds the job's lock.
 */
extern TimestampTz janitor_draft_save(JanitorDraft *draft, HeapTuple old,
									  const char *action);

/* --- validate.c --- */

/*
 * Checks a complete draft and brings it into its stored form (owner_oid,
 * settings, max_attempts); raises an error that names what is wrong.  `old`
 * is the job as it was, NULL for a new one.
 */
extern void janitor_draft_check(JanitorDraft *draft, const JanitorDraft *old);

/* The name of something new ("job", "rule"). */
extern void janitor_name_check(const char *what, const char *name);

#endif							/* JANITOR_DRAFT_H */
