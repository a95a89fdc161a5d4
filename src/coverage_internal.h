/*-------------------------------------------------------------------------
 *
 * coverage_internal.h
 *	  What the files coverage_*.c lend each other, and nobody else.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_COVERAGE_INTERNAL_H
#define JANITOR_COVERAGE_INTERNAL_H

#include "coverage.h"

#include "nodes/bitmapset.h"

/* --- words (coverage_words.c) --- */

/* What a column looks like. */
typedef enum JanitorPersonal
{
	JANITOR_NOT_PERSONAL,
	JANITOR_PERSONAL_NAME,
	JANITOR_PERSONAL_ACCOUNT,
	JANITOR_PERSONAL_EMAIL,
	JANITOR_PERSONAL_PHONE,
	JANITOR_PERSONAL_ADDRESS,
	JANITOR_PERSONAL_IP,
	JANITOR_PERSONAL_BIRTH,
	JANITOR_PERSONAL_NUMBER,
	JANITOR_PERSONAL_PLACE,
	JANITOR_PERSONAL_DEVICE,
	JANITOR_PERSONAL_PICTURE,
	JANITOR_PERSONAL_SENSITIVE,
	JANITOR_PERSONAL_SECRET,
	JANITOR_PERSONAL_TEXT,
	JANITOR_PERSONAL_DOCUMENT,
	JANITOR_PERSONAL_LABEL
} JanitorPersonal;

extern const char *janitor_personal_name(JanitorPersonal what);

/* How values of a type can be told apart, as far as it matters here. */
typedef enum JanitorShape
{
	JANITOR_SHAPE_OTHER,
	JANITOR_SHAPE_STRING,
	JANITOR_SHAPE_STRINGS,		/* an array of them */
	JANITOR_SHAPE_INTEGER,
	JANITOR_SHAPE_DATE,			/* timestamps too */
	JANITOR_SHAPE_NETWORK,
	JANITOR_SHAPE_HARDWARE,
	JANITOR_SHAPE_POINT,
	JANITOR_SHAPE_DOCUMENT,
	JANITOR_SHAPE_ENUM			/* boolean too */
} JanitorShape;

extern JanitorShape janitor_shape(Oid type);

/* The vocabulary, made ready once for many columns. */
typedef struct JanitorWords JanitorWords;

extern JanitorWords *janitor_words(void);

/*
 * What a column looks like, by its name and its shape; *strong: also in a
 * table of which nothing else is known.
 */
extern JanitorPersonal janitor_words_column(const JanitorWords *words,
											const char *name,
											JanitorShape shape, bool *strong);

/*
 * The words of a name, in lower case and in the singular, each between two
 * blanks: `UserAccounts` is " user account ".
 */
extern char *janitor_words_split(const char *name);

/* Does a column of this name hold the key of a table of that name? */
extern bool janitor_words_refer(const char *column, const char *table);

/* Does it name somebody by the part he plays: author_id, created_by? */
extern bool janitor_words_role(const char *column, bool *actor);

/* Does a table's name say that its rows have to be kept, or prove something? */
extern bool janitor_words_record(const char *table);

/* Does a column say when somebody is to be deleted? */
extern bool janitor_words_erasure_time(const char *column);

/* --- what is in the database (coverage_schema.c) --- */

typedef struct JanitorCoverageTable JanitorCoverageTable;

typedef struct JanitorCoverageColumn
{
	AttrNumber	attno;
	char	   *name;
	Oid			type;
	int32		typmod;
	JanitorShape shape;
	JanitorPersonal personal;
	bool		strong;
	bool		not_null;
	bool		fixed;			/* generated, or an identity */
	bool		in_key;			/* of a foreign key */
	bool		unique;			/* has a unique index of its own */
} JanitorCoverageColumn;

/* A foreign key, as declared; partitions are their topmost parents here. */
typedef struct JanitorCoverageKey
{
	JanitorCoverageTable *child;
	JanitorCoverageTable *parent;
	char		on_delete;
	List	   *columns;		/* of JanitorCoverageColumn *, of the child */
	List	   *parent_columns;
	bool		unique;			/* at most one row of the child for each */
} JanitorCoverageKey;

typedef enum JanitorLinkKind
{
	JANITOR_LINK_SUBJECT,		/* the subject's own row */
	JANITOR_LINK_KEY,			/* a foreign key */
	JANITOR_LINK_NAME,			/* a column that looks like one */
	JANITOR_LINK_DOCUMENT,		/* a field of a document, which is indexed */
	JANITOR_LINK_UP,			/* a row that a row in hand refers to */
	JANITOR_LINK_ARCHIVE		/* a copy of a row in hand */
} JanitorLinkKind;

/* How rows of a table belong to a subject. */
typedef struct JanitorLink
{
	JanitorLinkKind kind;
	JanitorCoverageTable *from; /* NULL: the subject's own row */
	List	   *columns;		/* of JanitorCoverageColumn *; of the table */
	List	   *from_columns;	/* likewise, of `from` */
	char	   *field;			/* of a document */
	struct JanitorLink *original;	/* of an archive: of the rows it holds */
	char		on_delete;		/* of a foreign key */
	bool		actor;			/* who did something with the row */
	bool		back;			/* rows of others that refer to the subject's */
	bool		alone;			/* no row belongs to several */

	/* filled in by coverage_rule.c */
	char	   *covered_by;
	bool		deleted;		/* the rows go */
	Bitmapset  *assigned;		/* columns that a rule anonymizes */
	bool		covered;		/* some rule is for these rows */
} JanitorLink;

struct JanitorCoverageTable
{
	Oid			relid;
	char		relkind;
	char	   *name;			/* as it is */
	char	   *qualified;
	List	   *columns;		/* of JanitorCoverageColumn * */
	List	   *primary_key;	/* likewise */
	List	   *children;		/* of JanitorCoverageKey *: who refers to it */
	List	   *parents;		/* likewise: to whom it refers */
	List	   *fields;			/* of JanitorCoverageField * */
	bool		not_personal;	/* says its label */
	bool		is_personal;	/* likewise */

	/* filled in by coverage_walk.c */
	int			depth;			/* steps from the subject; -1: not reached */
	int			order;			/* reached as the how-many-eth */
	List	   *links;			/* of JanitorLink * */

	/* of the proposals (coverage_propose.c) */
	bool		placed;
	bool		deletes;
};

/* A field of a document that has an index. */
typedef struct JanitorCoverageField
{
	JanitorCoverageColumn *column;
	char	   *name;
} JanitorCoverageField;

typedef struct JanitorCoverage
{
	List	   *tables;			/* of JanitorCoverageTable * */
	List	   *keys;			/* of JanitorCoverageKey * */
	JanitorWords *words;
	JanitorCoverageTable *subject;
	List	   *subject_key;	/* of JanitorCoverageColumn * */
	const char *key_name;		/* of its only column in an item; NULL: the
								 * same */
	const char *job_name;		/* for proposals */
} JanitorCoverage;

/* Everything that may hold personal data. */
extern JanitorCoverage *janitor_coverage_read(void);

/* NULL: it is not one of those, and no partition of one. */
extern JanitorCoverageTable *janitor_coverage_table(const JanitorCoverage *coverage,
													Oid relid);
extern JanitorCoverageColumn *janitor_coverage_column(const JanitorCoverageTable *table,
													  const char *name);

/* Columns that look personal, or are labelled so. */
extern List *janitor_coverage_personal(const JanitorCoverageTable *table,
									   bool only_strong);

/* --- labels (coverage_label.c) --- */

typedef enum JanitorLabel
{
	JANITOR_UNLABELLED,
	JANITOR_LABEL_PERSONAL,
	JANITOR_LABEL_NOT_PERSONAL
} JanitorLabel;

/* All labels of this database. */
extern List *janitor_labels_read(void);
extern JanitorLabel janitor_labels_find(const List *labels, Oid relid,
										AttrNumber attno);

/* --- the walk (coverage_walk.c) --- */

/* Finds all tables with rows of a subject; error if it has no key. */
extern void janitor_coverage_walk(JanitorCoverage *coverage, Oid subject);

/* The path to a table by a link, as text; NULL: there is none. */
extern char *janitor_coverage_path(const JanitorCoverageTable *table,
								   const JanitorLink *link);

/* A table with what it archives. */
extern void janitor_coverage_add_copy(JanitorCoverage *coverage,
									  JanitorCoverageTable *table,
									  JanitorCoverageTable *copy);

/* --- what rules cover (coverage_rule.c) --- */

/* Of one job, or (NULL) of all items jobs that the current user may see. */
extern void janitor_coverage_rules(JanitorCoverage *coverage,
								   const JanitorJob *job);

/* A qualified name; InvalidOid if there is no such relation. */
extern Oid	janitor_coverage_lookup(const char *qualified);

/* --- the subject of a job (coverage_subject.c) --- */

/* What an item calls its key; NULL: it cannot be told. */
extern char *janitor_coverage_key_name(const JanitorJob *job);

/* --- proposals (coverage_propose.c) --- */

/*
 * Decides on what is to be done with each table, and returns those that were
 * reached in the order in which rules can work.
 */
extern List *janitor_coverage_order(JanitorCoverage *coverage);

/* The call of job_set_rule() for the rows of a link (NULL: no link). */
extern char *janitor_coverage_proposal(const JanitorCoverage *coverage,
									   const JanitorCoverageTable *table,
									   const JanitorLink *link);

/* --- conditions (coverage_match.c) --- */

/* True, with the item as $1, for the rows r that a link leads to. */
extern char *janitor_coverage_match(const JanitorCoverage *coverage,
									const JanitorCoverageTable *table,
									const JanitorLink *link);

/* `$1 ->> 'id'`, as a value to be compared with a column of that type. */
extern char *janitor_coverage_parameter(const JanitorCoverage *coverage,
										const JanitorCoverageColumn *key,
										const JanitorCoverageColumn *column);

/* Columns of the subject that conditions need, of JanitorCoverageColumn *. */
extern List *janitor_coverage_parameters(const JanitorCoverage *coverage);

/* A column that tells people apart besides the key: an e-mail address. */
extern JanitorCoverageColumn *janitor_coverage_email(const JanitorCoverageTable *table);

#endif							/* JANITOR_COVERAGE_INTERNAL_H */
