/*-------------------------------------------------------------------------
 *
 * item.c
 *	  The query whose rows are the items of a job.
 *
 * Items are handled long after the query has listed them, one by one, while
 * their owners change their minds.  So each is read again, by its key, with
 * the rows that it comes from locked: what was called off a moment ago is no
 * row any more, and nothing can be called off half-way.
 *
 * That takes a query in which each row comes from definite rows of tables.
 * Groups, DISTINCT, UNION and the like are refused, with the reason.  Locked
 * are the tables of the topmost FROM, but for the far sides of outer joins,
 * which may have no row; or, if the query says FOR UPDATE OF, those that it
 * names.  What else decides whether a row is an item (sub-selects, functions)
 * is not locked, but looked at with a snapshot taken after the locks.
 *
 * The server analyses the query, the locks are added to its tree, and item_sql.c
 * makes statements of it.
 *
 * Runs in the worker, and as the owner when a job is defined.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "item_internal.h"

#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/md5.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "parse.h"
#include "session.h"

typedef struct ItemsSource
{
	const char *what;
	const char *job_name;
	const char *text;
	ErrorContextCallback callback;
} ItemsSource;

/* --- errors --- */

/* Moves an error's position from the user's query into the items query. */
static void
source_callback(void *arg)
{
	ItemsSource *source = arg;
	int			position = geterrposition();

	if (position > 0 && source->text != NULL)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(source->text);
	}
	errcontext("%s of job \"%s\"", source->what, source->job_name);
}

static void
push_source(ItemsSource *source, const char *what, const char *job_name,
			const char *text)
{
	source->what = what;
	source->job_name = job_name;
	source->text = text;
	source->callback.callback = source_callback;
	source->callback.arg = source;
	source->callback.previous = error_context_stack;
	error_context_stack = &source->callback;
}

static void
pop_source(ItemsSource *source)
{
	error_context_stack = source->callback.previous;
}

static void
refuse(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the items query cannot have %s", what),
			 errdetail("Each item is locked and read again by its key before it is handled."),
			 errhint("%s", hint)));
}

/* --- what the query may be --- */

static Query *
analyse(const char *text)
{
	List	   *statements = janitor_parse(text, RAW_PARSE_DEFAULT);
	RawStmt    *raw;
	Query	   *query;

	if (list_length(statements) != 1 ||
		!IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the items query must be a single SELECT")));
	raw = linitial_node(RawStmt, statements);
	query = parse_analyze_fixedparams(raw, text, NULL, 0, NULL);
	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL ||
		query->hasModifyingCTE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the items query must only select")));
	return query;
}

#define HINT_SUBSELECT \
	"Put the condition into a sub-select: ... WHERE EXISTS (SELECT ...)."

static void
check_shape(const Query *query)
{
	if (query->setOperations != NULL)
		refuse("UNION, INTERSECT or EXCEPT", HINT_SUBSELECT);
	if (query->hasAggs)
		refuse("aggregate functions", HINT_SUBSELECT);
	if (query->groupClause != NIL || query->groupingSets != NIL ||
		query->havingQual != NULL)
		refuse("GROUP BY or HAVING", HINT_SUBSELECT);
	if (query->distinctClause != NIL)
		refuse("DISTINCT",
			   "Select from the table that has one row for each item, and put conditions on others into sub-selects.");
	if (query->hasWindowFuncs)
		refuse("window functions", HINT_SUBSELECT);
	if (query->hasTargetSRFs)
		refuse("set-returning functions in its columns",
			   "Put them into a sub-select.");
	if (query->limitCount != NULL || query->limitOffset != NULL)
		refuse("LIMIT or OFFSET",
			   "The option stop_after ends a run early; the next one goes on.");
}

/* The result's columns become the fields of a JSON object. */
static void
check_columns(const Query *query)
{
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *column = lfirst_node(TargetEntry, cell);
		ListCell   *other;

		foreach(other, query->targetList)
		{
			TargetEntry *before = lfirst_node(TargetEntry, other);

			if (before == column)
				break;
			if (!before->resjunk && !column->resjunk &&
				strcmp(before->resname, column->resname) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("the items query has two columns \"%s\"",
								column->resname),
						 errhint("Give one of them another name, with AS.")));
		}
	}
}

static List *
column_names(const Query *query)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *column = lfirst_node(TargetEntry, cell);

		if (!column->resjunk)
			names = lappend(names, pstrdup(column->resname));
	}
	return names;
}

static TargetEntry *
key_column(const Query *query)
{
	TargetEntry *key;

	if (query->targetList == NIL ||
		linitial_node(TargetEntry, query->targetList)->resjunk)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the items query selects no column"),
				 errhint("Its first column is the key of the item.")));
	key = linitial_node(TargetEntry, query->targetList);
	if (contain_volatile_functions((Node *) key->expr))
		refuse("a volatile function in its first column",
			   "The first column is the key of the item and must stay the same.");
	if (contain_subplans((Node *) key->expr))
		refuse("a sub-select in its first column",
			   "The first column is the key of the item; join the table that it comes from.");
	return key;
}

/* When the item is due, if the query says so. */
static TargetEntry *
due_column(const Query *query)
{
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *column = lfirst_node(TargetEntry, cell);
		Oid			type = getBaseType(exprType((Node *) column->expr));

		if (!column->resjunk && strcmp(column->resname, "due") == 0 &&
			(type == TIMESTAMPTZOID || type == TIMESTAMPOID ||
			 type == DATEOID))
			return column;
	}
	return NULL;
}

/* --- which rows are locked --- */

static bool
is_table(const RangeTblEntry *rte)
{
	return rte->rtekind == RTE_RELATION &&
		(rte->relkind == RELKIND_RELATION ||
		 rte->relkind == RELKIND_PARTITIONED_TABLE);
}

/* What of the topmost FROM always has a row; `inner` false: may have none. */
static void
collect_tables(const Query *query, Node *node, bool inner, List **tables,
			   bool *others)
{
	if (IsA(node, RangeTblRef))
	{
		int			rti = ((RangeTblRef *) node)->rtindex;

		if (inner && is_table(rt_fetch(rti, query->rtable)))
			*tables = lappend_int(*tables, rti);
		else
			*others = true;
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		bool		left = join->jointype == JOIN_INNER ||
		join->jointype == JOIN_LEFT;
		bool		right = join->jointype == JOIN_INNER ||
		join->jointype == JOIN_RIGHT;

		collect_tables(query, join->larg, inner && left, tables, others);
		collect_tables(query, join->rarg, inner && right, tables, others);
	}
	else if (IsA(node, FromExpr))
	{
		ListCell   *cell;

		foreach(cell, ((FromExpr *) node)->fromlist)
			collect_tables(query, lfirst(cell), inner, tables, others);
	}
}

static void
lock_tables(Query *query, List *tables)
{
	ListCell   *cell;

	foreach(cell, tables)
	{
		RowMarkClause *mark = makeNode(RowMarkClause);

		mark->rti = lfirst_int(cell);
		mark->strength = LCS_FORUPDATE;
		mark->waitPolicy = LockWaitBlock;
		query->rowMarks = lappend(query->rowMarks, mark);
	}
	query->hasForUpdate = true;
}

/* The tables that the query itself says are to be locked. */
static List *
named_tables(const Query *query)
{
	List	   *tables = NIL;
	ListCell   *cell;

	foreach(cell, query->rowMarks)
	{
		RowMarkClause *mark = lfirst_node(RowMarkClause, cell);

		if (mark->strength < LCS_FORNOKEYUPDATE)
			refuse("FOR SHARE or FOR KEY SHARE",
				   "Write FOR UPDATE OF the table that the items come from, or leave it out.");
		if (is_table(rt_fetch(mark->rti, query->rtable)))
			tables = lappend_int(tables, mark->rti);
	}
	return tables;
}

/* What a column of a join stands for. */
static Node *
resolve_join(const Query *query, Node *node)
{
	while (IsA(node, Var) && ((Var *) node)->varlevelsup == 0)
	{
		Var		   *var = (Var *) node;
		RangeTblEntry *rte = rt_fetch(var->varno, query->rtable);

		if (rte->rtekind != RTE_JOIN || var->varattno <= 0)
			break;
		node = list_nth(rte->joinaliasvars, var->varattno - 1);
	}
	return node;
}

typedef struct KeyTables
{
	const Query *query;
	List	   *tables;
	bool		any;
	bool		all;
} KeyTables;

static bool
key_tables_walker(Node *node, KeyTables *key)
{
	if (node == NULL)
		return false;
	node = resolve_join(key->query, node);
	if (IsA(node, Var))
	{
		key->any = true;
		if (!list_member_int(key->tables, ((Var *) node)->varno))
			key->all = false;
		return false;
	}
	return expression_tree_walker(node, key_tables_walker, key);
}

static void
check_key_is_locked(const Query *query, const TargetEntry *key, List *tables)
{
	KeyTables	walk = {query, tables, false, true};

	(void) key_tables_walker((Node *) key->expr, &walk);
	if (tables != NIL && walk.any && walk.all)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the items query has no table whose rows can be locked for its first column \"%s\"",
					key->resname),
			 errdetail("Each item is locked and read again by its key before it is handled; views, functions, sub-selects and the far side of an outer join have no rows to be locked."),
			 errhint("Let the first column come from a table in FROM.")));
}

/* --- all of it --- */

static List *
relations_of(const Query *query, List *tables)
{
	List	   *relids = NIL;
	ListCell   *cell;

	foreach(cell, tables)
		relids = lappend_oid(relids,
							 rt_fetch(lfirst_int(cell), query->rtable)->relid);
	return relids;
}

/* Types whose text no setting changes. */
static bool
is_plain(Oid type)
{
	switch (getBaseType(type))
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case TEXTOID:
		case VARCHAROID:
		case UUIDOID:
			return true;
		default:
			return false;
	}
}

static JanitorItemsQuery *
take_apart(const char *text)
{
	JanitorItemsQuery *result = palloc0(sizeof(JanitorItemsQuery));
	Query	   *query = analyse(text);
	TargetEntry *key;
	TargetEntry *due;
	List	   *tables = NIL;
	bool		others = false;

	check_shape(query);
	check_columns(query);
	key = key_column(query);
	due = due_column(query);
	collect_tables(query, (Node *) query->jointree, true, &tables, &others);
	if (query->rowMarks != NIL)
	{
		List	   *named = named_tables(query);

		others = others || list_difference_int(tables, named) != NIL;
		tables = named;
	}
	else
		lock_tables(query, tables);
	check_key_is_locked(query, key, tables);

	result->columns = column_names(query);
	result->key_name = pstrdup(key->resname);
	result->key_type = exprType((Node *) key->expr);
	result->key_is_plain = is_plain(result->key_type);
	result->looks_elsewhere = others || query->hasSubLinks;
	result->locked = relations_of(query, tables);
	janitor_items_write_out(result, query, key, due, tables);
	return result;
}

JanitorItemsQuery *
janitor_items_query(const char *text, const char *what, const char *job_name)
{
	ItemsSource source;
	JanitorItemsQuery *result;

	push_source(&source, what, job_name, text);
	PushActiveSnapshot(GetTransactionSnapshot());
	result = take_apart(text);
	PopActiveSnapshot();
	pop_source(&source);
	return result;
}

/* --- checks at definition --- */

static void
check_right_to_lock(Oid relid)
{
	Oid			user = GetUserId();

	if (pg_class_aclcheck(relid, user, ACL_UPDATE) == ACLCHECK_OK ||
		pg_attribute_aclcheck_all(relid, user, ACL_UPDATE,
								  ACLMASK_ANY) == ACLCHECK_OK)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" cannot lock rows of table \"%s\"",
					GetUserNameFromId(user, false), get_rel_name(relid)),
			 errdetail("Each item is locked and read again by its key before it is handled; that takes the right to update the tables in FROM."),
			 errhint("Grant UPDATE on the table, or name the tables that are to be locked: FOR UPDATE OF ... at the end of the query.")));
}

void
janitor_items_query_check(const JanitorItemsQuery *query,
						  const char *what, const char *job_name)
{
	ItemsSource source;
	List	   *queries;
	ListCell   *cell;

	push_source(&source, what, job_name, NULL);
	foreach(cell, query->locked)
		check_right_to_lock(lfirst_oid(cell));
	PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt,
															   pg_parse_query(query->subject)),
												 query->subject,
												 &query->key_type, 1, NULL);
	(void) pg_plan_queries(queries, query->subject, 0, NULL);
	PopActiveSnapshot();
	pop_source(&source);
}

/* --- keys as text --- */

char *
janitor_item_key_shorten(const char *text)
{
	char		digest[MD5_DIGEST_LENGTH * 2 + 1];
	const char *error = NULL;
	int			length = strlen(text);

	if (length <= JANITOR_KEY_BYTES)
		return pstrdup(text);
	if (!pg_md5_hash(text, length, digest, &error))
		elog(ERROR, "could not compute an MD5 hash: %s", error);
	length = pg_mbcliplen(text, length,
						  JANITOR_KEY_BYTES - (int) strlen(digest) - 4);
	return psprintf("%.*s... %s", length, text, digest);
}

char *
janitor_item_key_text(const JanitorItemsQuery *query, Datum key)
{
	Oid			output;
	bool		is_varlena;
	int			level = 0;
	char	   *text;

	getTypeOutputInfo(query->key_type, &output, &is_varlena);
	if (!query->key_is_plain)
		level = janitor_settings_neutral();
	text = OidOutputFunctionCall(output, key);
	if (!query->key_is_plain)
		janitor_settings_restore(level);
	return janitor_item_key_shorten(text);
}
