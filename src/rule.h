/*-------------------------------------------------------------------------
 *
 * rule.h
 *	  Rules: which rows of which table expire, as the server understands it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RULE_H
#define JANITOR_RULE_H

#include "definition.h"

typedef enum JanitorAction
{
	JANITOR_DELETE,
	JANITOR_ARCHIVE,
	JANITOR_UPDATE,
	JANITOR_ANONYMIZE
} JanitorAction;

typedef enum JanitorPartitions
{
	JANITOR_PARTITIONS_DETACH,
	JANITOR_PARTITIONS_DROP,
	JANITOR_PARTITIONS_ROWS
} JanitorPartitions;

/*
 * One row of job_rule.  All pointers belong to the context that was current
 * when it was loaded; texts are as the user wrote them.
 */
typedef struct JanitorRule
{
	HeapTuple	tuple;
	char	   *job_name;
	char	   *name;
	int			place;
	char	   *relation;		/* qualified and quoted */
	JanitorAction action;
	char	   *time_column;	/* NULL: none; likewise all texts below */
	char	   *time_unit;
	char	   *time_format;
	Interval   *keep;
	char	   *keep_expression;
	char	   *tier_column;
	Jsonb	   *tiers;
	int			keep_last;		/* 0: none */
	List	   *keep_per;		/* of char * */
	char	   *expired_when;
	char	   *match;
	char	   *filter;
	char	   *set;
	char	   *done_when;
	char	   *archive_to;
	bool		short_keep;
	bool		stop_on_failure;
	int			batch_rows;		/* 0: as many as suit; the next two: no limit */
	int64		rows_per_run;
	int			max_rows_per_second;
	int			parallel;
	int64		max_replica_lag;	/* microseconds; 0: no limit */
	bool		vacuum;
	JanitorPartitions partitions;
	int64		drop_after;		/* microseconds */
	int64		abort_above_rows;	/* -1: no limit */
	double		abort_above_fraction;	/* -1: no limit */
} JanitorRule;

extern JanitorRule *janitor_rule_from_tuple(HeapTuple tuple);

/* The rules of a job in the order in which they run; of JanitorRule. */
extern List *janitor_rules_load(const char *job_name);

extern const char *janitor_action_name(JanitorAction action);

/* --- a rule made ready --- */

/*
 * What a rule means for one run: analysed in the current session, by the
 * current user, and written out again by the server, with every name
 * qualified, so that it can be put together to statements.  Valid in the
 * transaction that made it and, as text, for the rest of the run.
 *
 * In all texts the row is r.  $1 is the bound, if there is one.
 */
typedef struct JanitorReadyRule
{
	const JanitorRule *rule;
	Oid			relid;
	TimestampTz cutoff;			/* now - keep; DT_NOBEGIN: it has none */

	/*
	 * True for the rows to be handled: expired, past the filter, not done
	 * yet.  Holds are not in it.
	 */
	char	   *predicate;

	/*
	 * No row whose time column is at or above the bound is expired; it is a
	 * value of the column's own type, for its default btree order.
	 */
	bool		has_bound;
	AttrNumber	time_attno;		/* of the rule's relation; 0: none */
	char	   *time_column;	/* quoted; NULL: none */
	Oid			bound_type;
	Datum		bound;
	char	   *bound_text;		/* for people and for job_cursor */

	/* Nothing else but the bound counts: partitions can go as a whole. */
	bool		bound_only;

	/* For update and anonymize: `a = ..., b = ...`, and one by one. */
	char	   *assignments;
	struct JanitorAssignments *set;

	/* For archive: the table, and the columns, quoted, separated by commas. */
	char	   *archive_to;
	char	   *archive_columns;

	/* True for rows that never expire because their time is malformed. */
	char	   *malformed;		/* NULL: there can be none */

	/*
	 * May the user lock rows (SELECT ... FOR UPDATE) of every leaf?  That
	 * takes the right to update; without it there is no skip_locked.
	 */
	bool		may_lock;

	/* What people should know about the rule; of char *. */
	List	   *remarks;
} JanitorReadyRule;

/*
 * Makes a rule ready, in the current context.  Errors name what is wrong and
 * how it is mended: relation, columns, types, privileges, expressions.  The
 * session must have the job's search_path and time zone (the run's worker
 * has; elsewhere janitor_as_role sees to it).  `now` is the instant the
 * cutoff counts from, and what job_now() says meanwhile.
 */
extern JanitorReadyRule *janitor_rule_ready(const JanitorRule *rule,
											const JanitorJob *job,
											TimestampTz now);

/*
 * Tries `set` on rows that are made up and on some that are there, changing
 * nothing: refuses what never comes to rest, and what would violate a
 * constraint, with its name.  As the owner, inside janitor_with_now().
 */
extern void janitor_set_try(const JanitorReadyRule *ready);

/*
 * Two rules of a job, in their order: a column that the first one changes
 * again after the second has changed it, so that they never come to rest;
 * NULL: none that could be told.
 */
extern char *janitor_set_undone(const JanitorReadyRule *first,
								const JanitorReadyRule *second);

/* Which rows of one leaf a statement is for. */
typedef enum JanitorRange
{
	JANITOR_RANGE_ALL,			/* $1 */
	JANITOR_RANGE_KEYS,			/* $2 <= time column < $3 */
	JANITOR_RANGE_BLOCKS,		/* $2 <= ctid < $3 */
	JANITOR_RANGE_KEY_BLOCKS,	/* time column = $2, $3 <= ctid < $4 */
	JANITOR_RANGE_ROWS			/* ctid = ANY ($2 tid[]) */
} JanitorRange;

/*
 * Types of the statement's parameters, into types; returns how many.  $1 is
 * there in any case, of type text if there is no bound (pass NULL).
 */
extern int	janitor_rule_parameters(const JanitorReadyRule *ready,
									JanitorRange range, Oid *types);

/*
 * The statement that handles the expired rows of a range of one leaf, but for
 * those held: `holds` is true for these (NULL: nothing is held).  With
 * skip_locked, rows that somebody else has locked are passed over; it needs
 * may_lock.  Rows processed are rows handled.
 */
extern char *janitor_rule_statement(const JanitorReadyRule *ready, Oid leaf,
									JanitorRange range, const char *holds,
									bool skip_locked);

/*
 * Of an items job: the statement that handles the rows of one item, $1, in the
 * relation and all its leaves.
 */
extern char *janitor_rule_item_statement(const JanitorReadyRule *ready);

/*
 * The same for many items, $1 in jsonb[]: its result has a row for each row
 * handled, the position of its item in the array, from 1.  NULL: the rule is
 * not of that kind.  A row that several items match, and that then is as the
 * rule wants it, counts for one of them; so what is set must not depend on the
 * item.
 */
extern char *janitor_rule_items_statement(const JanitorReadyRule *ready);

/*
 * SQL: is there a row that the rule would handle for one of many items, $1 in
 * jsonb[]?
 */
extern char *janitor_rule_items_residue(const JanitorReadyRule *ready);

/* ` FROM ONLY leaf r WHERE range AND predicate AND NOT held`. */
extern char *janitor_rule_from_where(const JanitorReadyRule *ready, Oid leaf,
									 JanitorRange range, const char *holds);

/* --- expressions --- */

/*
 * An expression over the row r of a relation, analysed as the current user
 * and written out again: `text` as the user wrote it, `option` for error
 * messages.  Its result is coerced to `type`.  Errors pass, with a context
 * line that names the option.
 */
extern char *janitor_rule_expression(const char *text, Oid relid, Oid type,
									 const char *option);

/* --- relations --- */

/* A name as the user wrote it, to the qualified and quoted one; or an error. */
extern char *janitor_relation_qualify(const char *name);

/* `schema.name`, quoted. */
extern char *janitor_relation_name(Oid relid);

/* The relation of a qualified name; InvalidOid if there is none. */
extern Oid	janitor_relation_look_up(const char *qualified);

/* The same; ERROR 42P01 with what to do. */
extern Oid	janitor_relation_find(const char *qualified);

/*
 * The leaves of a relation, in the order of their names: itself, or all its
 * partitions and children that store rows.  Locked in AccessShareLock until
 * the end of the transaction.
 */
extern List *janitor_relation_leaves(Oid relid);

/*
 * May the current user, unasked, read a table that foreign keys lead to?  Not
 * where its policies would be run with his rights.
 */
extern bool janitor_relation_readable(Oid relid);

/* The owner of a relation; InvalidOid: it is gone. */
extern Oid	janitor_relation_owner(Oid relid);

#endif							/* JANITOR_RULE_H */
