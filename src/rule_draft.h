/*-------------------------------------------------------------------------
 *
 * rule_draft.h
 *	  A job_rule row in the making: defaults, options, checks.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RULE_DRAFT_H
#define JANITOR_RULE_DRAFT_H

#include "nearest.h"
#include "rule.h"

/* Values belong to the context that was current when they were set. */
typedef struct JanitorRuleDraft
{
	Datum		values[Natts_rule];
	bool		nulls[Natts_rule];
} JanitorRuleDraft;

/* A new rule: every option at its default; job, name and place unset. */
extern void janitor_rule_draft_begin(JanitorRuleDraft *draft);

/* The rule as it is. */
extern void janitor_rule_draft_load(JanitorRuleDraft *draft, HeapTuple tuple);

extern void janitor_rule_draft_set(JanitorRuleDraft *draft, AttrNumber column,
								   Datum value);
extern void janitor_rule_draft_set_text(JanitorRuleDraft *draft,
										AttrNumber column, const char *value);
extern char *janitor_rule_draft_text(const JanitorRuleDraft *draft,
									 AttrNumber column);

/*
 * Sets one option from JSON; error if an argument has set it already.  false:
 * there is no such option.
 */
extern bool janitor_rule_draft_set_option(JanitorRuleDraft *draft, char *key,
										  JsonbValue *value);
extern void janitor_rule_offer_options(JanitorNearest *nearest);

/* An error if the value of an option is too large to be stored. */
extern void janitor_rule_draft_check_sizes(const JanitorRuleDraft *draft);

/* What differs is what the user can set. */
extern bool janitor_rule_draft_same(const JanitorRuleDraft *a,
									const JanitorRuleDraft *b);
extern Jsonb *janitor_rule_draft_to_jsonb(JanitorRuleDraft *draft);

/* The rule that it would be. */
extern JanitorRule *janitor_rule_draft_rule(JanitorRuleDraft *draft);

/*
 * Refuses what cannot be meant, whatever the tables are; brings relation and
 * archive_to into their stored form, found in the session's search_path.
 */
extern void janitor_rule_draft_check(JanitorRuleDraft *draft,
									 JanitorKind kind);

#endif							/* JANITOR_RULE_DRAFT_H */
