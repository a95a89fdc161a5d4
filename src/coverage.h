/*-------------------------------------------------------------------------
 *
 * coverage.h
 *	  Which data of a person no rule erases.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_COVERAGE_H
#define JANITOR_COVERAGE_H

#include "compat.h"

#include "access/attnum.h"
#include "nodes/pg_list.h"

#include "definition.h"

/*
 * Rows of one relation that belong to a subject, or columns of one that may,
 * and what covers them.  All texts are for people; NULL: there is none.
 */
typedef struct JanitorGap
{
	Oid			relid;
	char	   *relation;		/* qualified and quoted */
	List	   *columns;		/* of char *; those that matter */
	char	   *path;			/* from the subject to these rows */
	char	   *reason;
	char	   *covered_by;		/* a rule, also one that leaves a gap */
	bool		covered;		/* nothing is left */
	char	   *proposal;		/* a rule, as SQL */
} JanitorGap;

/*
 * What the rules of a job (NULL: of all items jobs the current user may see)
 * leave of a subject; with `all`, also what they cover.  In the current
 * context, of JanitorGap; nearest to the subject first.  Reads catalogs and
 * our own tables, evaluates nothing.
 */
extern List *janitor_coverage_gaps(Oid subject, const JanitorJob *job,
								   bool all);

/* Lines of SQL, of char *: a job that erases a subject, and its rules. */
extern List *janitor_coverage_draft(Oid subject, const char *job_name);

/*
 * The subject of an items job, by its query: the table that the first column
 * names, or refers to.  InvalidOid: it cannot be told.
 */
extern Oid	janitor_coverage_subject(const JanitorJob *job);

/* The same, and the column there that has the key. */
extern Oid	janitor_coverage_key_of(const JanitorJob *job, AttrNumber *attno);

/*
 * Does the job erase its subjects?  That takes a rule that anonymizes, or one
 * that deletes the subject itself.
 */
extern bool janitor_coverage_erases(const JanitorJob *job);

/* Provides the security labels, in each process. */
extern void janitor_coverage_init(void);

#endif							/* JANITOR_COVERAGE_H */
