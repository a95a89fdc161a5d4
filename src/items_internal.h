/*-------------------------------------------------------------------------
 *
 * items_internal.h
 *	  What the parts of an items run share; for run_items.c and items_*.c.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_ITEMS_INTERNAL_H
#define JANITOR_ITEMS_INTERNAL_H

#include "compat.h"

#include "executor/tuptable.h"
#include "utils/hsearch.h"
#include "utils/tuplestore.h"

#include "definition.h"
#include "discreet.h"
#include "hold.h"
#include "item.h"
#include "object.h"
#include "query.h"
#include "replay.h"
#include "rule.h"
#include "run.h"

/* A transaction handles so many; the server keeps 64 subtransactions at hand. */
#define JANITOR_ITEMS_PER_GROUP 50

/* One thing that is done for each item: a statement, with the item as $1. */
typedef struct JanitorStep
{
	const char *name;			/* of the rule; NULL: of the command */
	const char *sql;
	JanitorQuery *query;		/* NULL: not prepared yet */
	JanitorQuery *many;			/* for many items at once; NULL: one by one */
	int64		rows;			/* by this worker, for all items */

	/* of a rule */
	const JanitorRule *rule;	/* NULL: none; so what follows */
	Oid			relid;
	bool		deletes;
	const char *predicate;
	const char *residue;		/* SQL: it has left something of the items $1;
								 * NULL: it does not erase */
} JanitorStep;

/* Rows that a hold may be on, and how an item gets at them. */
typedef struct JanitorItemHolds
{
	JanitorHolds *holds;
	Oid			relid;
	int			place;			/* in the items query's `locked`, from 1; 0: a
								 * rule's */
	const char *predicate;		/* of a rule: over r and $1 */
	JanitorQuery *check;		/* a row: it is held; NULL: nothing is */
	MemoryContext context;		/* of the check */
} JanitorItemHolds;

/* Part of the keys: what one worker at a time works on. */
typedef struct JanitorItemSlice
{
	int64		cursor_id;		/* its row in job_cursor */
	Tuplestorestate *keys;
} JanitorItemSlice;

/* An items run, as this process sees it. */
typedef struct JanitorItems
{
	JanitorRun *run;
	const JanitorExecution *execution;
	const JanitorJob *job;
	bool		helper;
	TimestampTz deadline;		/* DT_NOEND: none */
	bool		stopped;		/* before the end */
	int64		overdue;		/* items left then; -1: not counted */
	MemoryContext context;		/* as long as the run */
	MemoryContext scratch;		/* as long as a key is listed */
	MemoryContext group_context;

	JanitorItemsQuery *query;
	JanitorQuery *subject;
	JanitorQuery *subjects;		/* NULL: items are handled one by one */
	int			chunk;			/* so many together, as things go */
	List	   *steps;			/* of JanitorStep */
	List	   *holds;			/* of JanitorItemHolds */
	bool		receipts;		/* one is written for each item done */
	JanitorQuery *residue;		/* a row: a rule that erases has left
								 * something; NULL: there is no such rule */
	JanitorReplaySet *replay;	/* NULL: this is none */
	HTAB	   *known;			/* hashes of keys in job_item_failure */

	TupleDesc	key_desc;
	TupleTableSlot *key_slot;
	int			slice_count;
	JanitorItemSlice *slices;

	/* so far, by this worker */
	int64		listed;
	int64		without_key;
	int64		handled;		/* keys taken from the list */
	int64		done;
	int64		failed;
	int64		groups;
	int			sqlstate;		/* of the first failure */
} JanitorItems;

typedef enum JanitorSubjectState
{
	JANITOR_SUBJECT_LEFT,		/* not handled */
	JANITOR_SUBJECT_PASSED,		/* its time has not come, or it is dead */
	JANITOR_SUBJECT_DONE,
	JANITOR_SUBJECT_GONE,		/* no item any more */
	JANITOR_SUBJECT_HELD,
	JANITOR_SUBJECT_CONFLICT,	/* met a lock: to be tried again by itself */
	JANITOR_SUBJECT_FAILED
} JanitorSubjectState;

/* One item in hand; in the context of its group. */
typedef struct JanitorSubject
{
	Datum		key;
	char	   *key_text;		/* NULL: not needed so far */
	bool		known;			/* it has a row in job_item_failure */
	JanitorItemFailure failure; /* that row */

	Datum		item;			/* jsonb */
	TimestampTz due;			/* DT_NOBEGIN: no deadline */
	int64	   *rows;			/* handled, step by step */
	const char *hold_reason;

	JanitorSubjectState state;
	JanitorError *error;
} JanitorSubject;

/* Items that are committed together. */
typedef struct JanitorItemGroup
{
	JanitorItems *items;
	JanitorItemSlice *slice;
	JanitorSubject *subjects;
	int			count;
	bool		alone;			/* it is one item that has been tried */
	bool		last_attempt;
	JanitorError *end;			/* what ends the run, heard meanwhile */
} JanitorItemGroup;

/* --- items_group.c --- */

/*
 * Handles a group, in one transaction or as many as it takes.  What ends the
 * run is raised once everything is committed that can be.
 */
extern void janitor_items_group(JanitorItemGroup *group);

/* --- items_steps.c --- */

/* Makes the steps, in a transaction.  Errors are those of the definition. */
extern void janitor_items_add_steps(JanitorItems *items);

/* Its statement, prepared. */
extern JanitorQuery *janitor_step_query(JanitorItems *items,
										JanitorStep *step);

/* --- items_receipt.c --- */

/* Are receipts to be written?  In a transaction, after the steps. */
extern void janitor_items_receipts_begin(JanitorItems *items);

/* An error if a rule has left something of what a group has done. */
extern void janitor_items_verify(const JanitorItemGroup *group);

/* Receipts for what a group has done, just before its commit. */
extern void janitor_items_receipts(JanitorItemGroup *group);

/* The head of the chain, for the result of the run; in a transaction. */
extern void janitor_items_report_receipts(const JanitorItems *items,
										  JanitorObject *result);

/* --- items_list.c --- */

/* Reads the keys, in a transaction. */
extern void janitor_items_list(JanitorItems *items);

/* Lets go of them; in any state. */
extern void janitor_items_forget(JanitorItems *items);

/* The next key of a slice, in the current context; false: no more. */
extern bool janitor_items_next_key(JanitorItems *items,
								   JanitorItemSlice *slice, Datum *key);

/* May the key have a row in job_item_failure? */
extern bool janitor_items_is_known(JanitorItems *items, const char *key_text);

/* What was no item any more when the keys were read has no failures. */
extern void janitor_items_sweep(JanitorItems *items);

/* --- items_chunk.c --- */

/* Can items be handled together, given the steps?  In a transaction. */
extern void janitor_items_chunk_begin(JanitorItems *items);

/*
 * Handles those of some subjects that it can, in a subtransaction of the
 * current transaction, together; they are DONE then.  The others are as they
 * were.  Returns the error that ends the run, NULL otherwise.
 */
extern JanitorError *janitor_items_chunk(JanitorItems *items,
										 JanitorSubject *subjects, int count);

/* --- items_subject.c --- */

/* Text of the subject's key, once it is needed. */
extern const char *janitor_subject_key(JanitorItems *items,
									   JanitorSubject *subject);

/* Has its time come?  If not, it is PASSED. */
extern void janitor_subject_begin(JanitorItems *items,
								  JanitorSubject *subject);

/*
 * Handles one item in a subtransaction of the current transaction: afterwards
 * its state says how that went, and if it failed, none of its rows has
 * changed.  Returns the error that ends the run, NULL otherwise.
 */
extern JanitorError *janitor_subject_handle(JanitorItems *items,
											JanitorSubject *subject);

/* Writes what has to be remembered of it, in the group's transaction. */
extern void janitor_subject_conclude(JanitorItems *items,
									 JanitorSubject *subject);

/* Was it somebody who ended the run, rather than something that failed? */
extern bool janitor_items_ended(const JanitorError *error);

/* Is another attempt at once worth while? */
extern bool janitor_items_is_conflict(const JanitorError *error);

/* --- items_hold.c --- */

/* Which holds matter to this run; in a transaction. */
extern void janitor_items_hold_begin(JanitorItems *items);

/*
 * First of all in the transaction of a group: the locks, and the holds in
 * force.  false: somebody is placing a hold; end the transaction, wait
 * (janitor_items_hold_wait), begin anew.
 */
extern bool janitor_items_hold_read(JanitorItems *items);
extern void janitor_items_hold_wait(JanitorItems *items);

/* Why the item is held; NULL: it is not. */
extern const char *janitor_items_held(JanitorItems *items,
									  JanitorSubject *subject);

#endif							/* JANITOR_ITEMS_INTERNAL_H */
