/*-------------------------------------------------------------------------
 *
 * rule_internal.h
 *	  What the files rule_*.c lend each other, and nobody else.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_RULE_INTERNAL_H
#define JANITOR_RULE_INTERNAL_H

#include "rule.h"

#include "lib/stringinfo.h"
#include "nodes/nodes.h"
#include "utils/relcache.h"

/* --- the column that rows age by (rule_time.c) --- */

typedef enum JanitorTimeKind
{
	JANITOR_TIME_TIMESTAMPTZ,
	JANITOR_TIME_TIMESTAMP,
	JANITOR_TIME_DATE,
	JANITOR_TIME_EPOCH,
	JANITOR_TIME_TEXT,
	JANITOR_TIME_UUID
} JanitorTimeKind;

typedef struct JanitorTime
{
	AttrNumber	attno;
	char	   *name;			/* quoted */
	JanitorTimeKind kind;
	Oid			type;			/* of a bound: the base of the column's type */
	int64		unit;			/* of an epoch: how many microseconds */
	const char *format;			/* of text */
	bool		utc;			/* of text: it is written in UTC */
	char	   *shape;			/* of text: a regular expression */

	/* Does `<` of the column itself, with its index, order by time? */
	bool		ordered;
} JanitorTime;

/* Looks the rule's time column up; errors say how it is mended. */
extern JanitorTime *janitor_time_find(const JanitorRule *rule, Relation rel);

/* What is below this value of the column's type is before an instant. */
extern Datum janitor_time_bound(const JanitorTime *time, TimestampTz cutoff);

/* Such a value for people, and as a literal of its type in SQL. */
extern char *janitor_time_text(const JanitorTime *time, Datum value);
extern char *janitor_time_literal(const JanitorTime *time, Datum value);

/*
 * SQL that compares the column of row `row` ("r") with something of its own
 * type: `operator` is <, <=, = , >= or >.
 */
extern char *janitor_time_compare(const JanitorTime *time, const char *row,
								  const char *operator, const char *value);

/*
 * SQL that is true for values that are times at all; NULL: all are (but for
 * nulls, which no comparison is true for).
 */
extern char *janitor_time_valid(const JanitorTime *time, const char *row);

/* SQL: is the time of r before this instant, an expression in SQL? */
extern char *janitor_time_before(const JanitorTime *time,
								 const char *instant);

/* A column by its name, as the user wrote it; an error if there is none. */
extern AttrNumber janitor_column_find(Relation rel, const char *name,
									  const char *option);

/* --- times as text (rule_format.c) --- */

/*
 * A to_char() pattern as a regular expression for what it writes; *utc: it
 * ends with "Z".  Errors for what does not sort as text.
 */
extern char *janitor_format_shape(const char *format, bool *utc);

/* The pattern that a value is written in; NULL if none fits. */
extern char *janitor_format_guess(const char *value);

/* --- expressions (rule_expression.c) --- */

/*
 * As janitor_rule_expression(), for an expression that says which rows.  What
 * a user should know about it is added to remarks (of char *).  With `item` it
 * may use $1, the item in jsonb.
 */
extern char *janitor_expression_condition(const char *text, Oid relid,
										  Oid type, const char *option,
										  bool item, List **remarks);

/* The types of the parameters of items: $1 is jsonb. */
extern const Oid janitor_item_types[1];

/* Refuses names in a raw parse tree that could mean two things. */
extern void janitor_expression_check_names(Node *raw, Oid relid);

/* Refuses whole rows and system columns of r. */
extern void janitor_expression_check_columns(Node *expression, Oid relid);

/* Refuses 'now' and the like, which the server reads as a constant. */
extern void janitor_expression_check_constants(Node *expression,
											   const char *text);

/* Does its value change from one run to the next with nothing changed? */
extern bool janitor_expression_is_volatile(Node *expression);

/* Can nobody say what it will be: another value at each look, or in each run? */
extern bool janitor_expression_is_unpredictable(Node *expression);

/* Written out, with every name qualified; optionally implicit casts too. */
extern char *janitor_expression_text(Node *expression, Oid relid,
									 bool with_casts);

/* While it is pushed, errors name the option and point into its text. */
typedef struct JanitorSource
{
	const char *option;
	const char *text;
	int			shift;			/* characters of ours in front of it */
	ErrorContextCallback callback;
} JanitorSource;

extern void janitor_source_push(JanitorSource *source, const char *option,
								const char *text, int shift);
extern void janitor_source_pop(JanitorSource *source);

/* --- what follows SET (rule_set.c) --- */

typedef struct JanitorAssignment
{
	AttrNumber	attno;
	char	   *value;			/* SQL over r, as the column will store it */
	char	   *differs;		/* SQL: is r not yet so?  NULL: it cannot be
								 * told */
	bool		constant;		/* it is the same for all rows of a run */
	bool		unknown;		/* until it is written: it is of the item, or
								 * another one at each look */
} JanitorAssignment;

typedef struct JanitorAssignments
{
	char	   *text;			/* a = ..., b = ... */
	Bitmapset  *columns;		/* attribute numbers */
	List	   *list;			/* of JanitorAssignment */

	/* SQL: does r differ from any of them?  NULL: it cannot be told. */
	char	   *differs;
} JanitorAssignments;

extern JanitorAssignments *janitor_set_parse(const char *text, Relation rel,
											 bool item);

/* --- what tables demand of their rows (rule_constraint.c) --- */

typedef enum JanitorConstraintKind
{
	JANITOR_NOT_NULL,
	JANITOR_CHECK,
	JANITOR_UNIQUE,
	JANITOR_REFERENCE,			/* a foreign key of the table */
	JANITOR_REFERENCED			/* a foreign key to it */
} JanitorConstraintKind;

typedef struct JanitorConstraint
{
	JanitorConstraintKind kind;
	char	   *name;			/* of a not-null: the column's */
	Bitmapset  *columns;		/* attribute numbers in the table */

	/* NOT_NULL, CHECK, REFERENCE: SQL over r, false for what must not be */
	char	   *holds;

	/* UNIQUE, REFERENCED: the key over r; of char * */
	List	   *keys;
	char	   *among;			/* UNIQUE: for which rows; NULL: all */
	bool		nulls_are_equal;

	/* REFERENCED */
	char	   *other;			/* the table that refers to this one */
	char	   *referred;		/* SQL over r: somebody refers to it */
	List	   *equals;			/* operators, one for each key */
} JanitorConstraint;

/* Those that have to do with columns that are assigned to. */
extern List *janitor_constraints_of(Relation rel, const Bitmapset *assigned);

/* --- which rows have expired (rule_condition.c) --- */

/* Fills the predicate's first part, the bound and the cutoff. */
extern void janitor_condition_ready(JanitorReadyRule *ready, Relation rel,
									TimestampTz now, StringInfo predicate);

/* --- what must hold of the relations (rule_check.c, rule_relation.c) --- */

/* The current user's right to look into a schema. */
extern void janitor_schema_check(Oid schema);

/* Refuses what is no table, or none for rules. */
extern void janitor_relation_check(Oid relid, const char *option);

/* The current user's rights on the relation and its leaves. */
extern void janitor_rights_check(JanitorReadyRule *ready,
								 Bitmapset *assigned);

/* Finds the columns to be archived. */
extern void janitor_archive_ready(JanitorReadyRule *ready, Relation rel);

/* --- indexes (rule_index.c) --- */

/*
 * Is there an index that serves `column = ...` for all columns of `equal` (of
 * AttrNumber as int) and then the order of `next` (0: no matter)?
 */
extern bool janitor_index_serves(Relation rel, List *equal, AttrNumber next);

/* The statement that would make it. */
extern char *janitor_index_statement(Relation rel, List *equal,
									 AttrNumber next);

/* Rows of a relation with all its leaves, as the planner believes. */
extern double janitor_rows_estimated(Oid relid);

/* --- tiers (rule_condition.c) --- */

typedef struct JanitorTier
{
	char	   *value;			/* NULL: all others, and NULL */
	Interval   *keep;			/* NULL: for ever */
} JanitorTier;

/* Of JanitorTier; the one for all others is the last, if there is one. */
extern List *janitor_tiers_parse(Jsonb *tiers);

/* --- SQL --- */

/* `=` of a type as OPERATOR(...); NULL: it has none. */
extern char *janitor_sql_equality(Oid type);

/* A value of any type as a literal that says its type. */
extern char *janitor_sql_literal(Datum value, Oid type);

/* `schema.=` and so on, as OPERATOR(...). */
extern char *janitor_sql_operator(Oid operator);

#endif							/* JANITOR_RULE_INTERNAL_H */
