/*-------------------------------------------------------------------------
 *
 * rule_expression.c
 *	  What users write over the row r: parsed, analysed, written out again.
 *
 * The text is never pasted into a statement.  It has to parse as one
 * expression; the server analyses it over a row r of the relation, as the
 * current user, in the search_path of the session; and writes it out again
 * with every name qualified.  What it means is settled there: no text can end
 * the statement that it becomes part of, and no object that appears later in
 * another schema changes what it calls.
 *
 * A name that could mean two things is refused: inside a sub-select a column
 * without its table is taken from the sub-select if there is one of that
 * name, else from r, and a column added years later changes which.
 *
 * Conditions have to be predictable: volatile functions are refused; the
 * clock gets a remark, since batches hours apart would see different times,
 * which job_now() does not.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_param.h"
#include "parser/parse_relation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "parse.h"
#include "session.h"

#define ROW_NAME "r"

/* --- errors --- */

/* Moves an error's position from the user's query into the option. */
static void
source_callback(void *arg)
{
	JanitorSource *source = arg;
	int			position = geterrposition();

	if (position > source->shift)
	{
		errposition(0);
		internalerrposition(position - source->shift);
		internalerrquery(source->text);
	}
	errcontext("option \"%s\", where the row is r", source->option);
}

void
janitor_source_push(JanitorSource *source, const char *option,
					const char *text, int shift)
{
	source->option = option;
	source->text = text;
	source->shift = shift;
	source->callback.callback = source_callback;
	source->callback.arg = source;
	source->callback.previous = error_context_stack;
	error_context_stack = &source->callback;
}

void
janitor_source_pop(JanitorSource *source)
{
	error_context_stack = source->callback.previous;
}

/* --- names that could mean two things --- */

typedef struct NameCheck
{
	Oid			relid;
	int			depth;			/* of sub-selects */
} NameCheck;

static void
refuse_row_name(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_AMBIGUOUS_COLUMN),
			 errmsg("\"%s\" in a sub-select could mean two things", ROW_NAME),
			 errhint("It is the row of the rule; give the table in the sub-select another alias.")));
}

static void
check_alias(const Alias *alias, const char *name, const NameCheck *check)
{
	if (check->depth == 0)
		return;
	if (alias != NULL)
		name = alias->aliasname;
	if (name != NULL && strcmp(name, ROW_NAME) == 0)
		refuse_row_name();
}

static void
check_column_name(const ColumnRef *column, const NameCheck *check)
{
	Node	   *field = linitial(column->fields);

	if (check->depth == 0 || list_length(column->fields) != 1 ||
		!IsA(field, String) ||
		get_attnum(check->relid, strVal(field)) == InvalidAttrNumber)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_AMBIGUOUS_COLUMN),
			 errmsg("column name \"%s\" in a sub-select could mean two things",
					strVal(field)),
			 errhint("%s has a column of that name: write %s.%s, or put the name of the sub-select's table before it.",
					 janitor_relation_name(check->relid), ROW_NAME,
					 quote_identifier(strVal(field)))));
}

static bool
check_names_walker(Node *node, NameCheck *check)
{
	bool		result;

	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
		check_column_name((ColumnRef *) node, check);
	else if (IsA(node, RangeVar))
		check_alias(((RangeVar *) node)->alias, ((RangeVar *) node)->relname,
					check);
	else if (IsA(node, RangeSubselect))
		check_alias(((RangeSubselect *) node)->alias, NULL, check);
	else if (IsA(node, RangeFunction))
		check_alias(((RangeFunction *) node)->alias, NULL, check);
	else if (IsA(node, SubLink))
	{
		SubLink    *link = (SubLink *) node;

		(void) check_names_walker(link->testexpr, check);
		check->depth++;
		result = check_names_walker(link->subselect, check);
		check->depth--;
		return result;
	}
	return raw_expression_tree_walker(node, check_names_walker, check);
}

void
janitor_expression_check_names(Node *raw, Oid relid)
{
	NameCheck	check = {relid, 0};

	(void) check_names_walker(raw, &check);
}

/* --- what the analysed expression may hold --- */

static bool
check_columns_walker(Node *node, int *level)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varlevelsup == *level &&
			(var->varattno == 0 ||
			 (var->varattno < 0 && var->varattno != TableOidAttributeNumber)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 var->varattno == 0 ?
					 errmsg("the row as a whole cannot be used") :
					 errmsg("system columns cannot be used"),
					 errhint("Name its columns, such as r.id.")));
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		(*level)++;
		result = query_tree_walker((Query *) node, check_columns_walker,
								   level, 0);
		(*level)--;
		return result;
	}
	return expression_tree_walker(node, check_columns_walker, level);
}

void
janitor_expression_check_columns(Node *expression, Oid relid)
{
	int			level = 0;

	(void) check_columns_walker(expression, &level);
}

static bool
is_datetime(Oid type)
{
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID ||
		type == DATEOID || type == TIMEOID || type == TIMETZOID;
}

/*
 * A literal 'now' of a time type is the time at which it was read: another
 * constant at each run, which would make rows differ from it for ever.
 */
static bool
check_constants_walker(Node *node, char *text)
{
	static const char *const moving[] = {
		"'now'", "'today'", "'tomorrow'", "'yesterday'"
	};

	if (node == NULL)
		return false;
	if (IsA(node, Const) && is_datetime(((Const *) node)->consttype) &&
		((Const *) node)->location >= 0)
	{
		const char *literal = strchr(text + ((Const *) node)->location, '\'');

		for (int i = 0; literal != NULL && i < lengthof(moving); i++)
			if (pg_strncasecmp(literal, moving[i], strlen(moving[i])) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("%s is a different constant at each run",
								moving[i]),
						 errhint("Write job_now() for the time at which the run began, job_now()::date for its day.")));
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, check_constants_walker,
								 text, 0);
	return expression_tree_walker(node, check_constants_walker, text);
}

void
janitor_expression_check_constants(Node *expression, const char *text)
{
	(void) check_constants_walker(expression, unconstify(char *, text));
}

/* What an expression calls that is not the same at each call. */
typedef struct Calls
{
	Oid			unpredictable;	/* a volatile function that is no clock */
	bool		clock;			/* now() and its like */
	bool		job_now;
	bool		run;			/* what else belongs to a run: its id */
} Calls;

/* Functions of ours whose value is that of the run. */
static void
note_ours(Oid function, Calls *calls)
{
	static const char *const of_run[] = {
		"job_execution_id", "job_scheduled_for", "job_args", "job_arg"
	};
	char	   *name;

	if (get_func_namespace(function) != janitor_extension_schema())
		return;
	name = get_func_name(function);
	if (strcmp(name, "job_now") == 0)
		calls->job_now = true;
	for (int i = 0; i < lengthof(of_run); i++)
	{
		if (strcmp(name, of_run[i]) == 0)
			calls->run = true;
	}
}

static bool
note_function(Oid function, void *context)
{
	Calls	   *calls = context;

	switch (function)
	{
		case F_NOW:
		case F_TRANSACTION_TIMESTAMP:
		case F_STATEMENT_TIMESTAMP:
		case F_CLOCK_TIMESTAMP:
		case F_TIMEOFDAY:
			calls->clock = true;
			return false;
	}
	if (func_volatile(function) == PROVOLATILE_VOLATILE)
		calls->unpredictable = function;
	else
		note_ours(function, calls);
	return false;
}

static bool
is_clock_keyword(const SQLValueFunction *value)
{
	return value->op >= SVFOP_CURRENT_DATE &&
		value->op <= SVFOP_LOCALTIMESTAMP_N;
}

static bool
calls_walker(Node *node, Calls *calls)
{
	if (node == NULL)
		return false;
	(void) check_functions_in_node(node, note_function, calls);
	if (IsA(node, SQLValueFunction) &&
		is_clock_keyword((SQLValueFunction *) node))
		calls->clock = true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, calls_walker, calls, 0);
	return expression_tree_walker(node, calls_walker, calls);
}

static Calls
calls_of(Node *expression)
{
	Calls		calls = {0};

	(void) calls_walker(expression, &calls);
	return calls;
}

bool
janitor_expression_is_volatile(Node *expression)
{
	Calls		calls = calls_of(expression);

	return OidIsValid(calls.unpredictable) || calls.clock || calls.job_now ||
		calls.run;
}

bool
janitor_expression_is_unpredictable(Node *expression)
{
	Calls		calls = calls_of(expression);

	return OidIsValid(calls.unpredictable) || calls.run;
}

static void
check_predictable(Node *expression, const char *option, List **remarks)
{
	Calls		calls = calls_of(expression);

	if (OidIsValid(calls.unpredictable))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("volatile function %s() cannot be used in a condition",
						get_func_name(calls.unpredictable)),
				 errhint("Whether a row is expired must not change from one look to the next. If the function always gives the same answer for the same tables, declare it STABLE.")));
	if (calls.clock && remarks != NULL)
		*remarks = lappend(*remarks,
						   psprintf("option \"%s\" reads the clock, which goes on during a run: write job_now() for the time at which the run began",
									option));
}

/* --- parsing --- */

static void
not_one_expression(const char *option)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("option \"%s\" must be a single expression", option),
			 errhint("Write it as after WHERE, without the WHERE: r.state = 'done' AND r.total = 0. What comes from other tables belongs into a sub-select in parentheses.")));
}

/* Is there nothing but a list of expressions? */
static bool
is_bare_select(const SelectStmt *select)
{
	return select->distinctClause == NIL && select->intoClause == NULL &&
		select->fromClause == NIL && select->whereClause == NULL &&
		select->groupClause == NIL && select->havingClause == NULL &&
		select->windowClause == NIL && select->valuesLists == NIL &&
		select->sortClause == NIL && select->limitOffset == NULL &&
		select->limitCount == NULL && select->lockingClause == NIL &&
		select->withClause == NULL && select->op == SETOP_NONE;
}

static Node *
parse_expression(const char *text, const char *option)
{
	List	   *list = janitor_parse(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select;
	ResTarget  *target;

	if (list_length(list) != 1)
		not_one_expression(option);
	select = castNode(SelectStmt, linitial_node(RawStmt, list)->stmt);
	if (!is_bare_select(select) || list_length(select->targetList) != 1)
		not_one_expression(option);
	target = linitial_node(ResTarget, select->targetList);
	if (target->name != NULL || target->indirection != NIL ||
		(IsA(target->val, ColumnRef) &&
		 IsA(llast(((ColumnRef *) target->val)->fields), A_Star)))
		not_one_expression(option);
	return target->val;
}

/* --- analysing --- */

const Oid	janitor_item_types[1] = {JSONBOID};

static ParseState *
begin_analysis(const char *text, Relation rel, bool item)
{
	ParseState *state = make_parsestate(NULL);
	ParseNamespaceItem *row;

	state->p_sourcetext = text;
	row = addRangeTableEntryForRelation(state, rel, AccessShareLock,
										makeAlias(ROW_NAME, NIL), true, true);
	addNSItemToQuery(state, row, false, true, true);
	if (item)
		setup_parse_fixed_parameters(state, janitor_item_types,
									 lengthof(janitor_item_types));
	return state;
}

static Node *
coerce(ParseState *state, Node *expression, Oid type, const char *option)
{
	Oid			given = exprType(expression);
	Node	   *result = coerce_to_target_type(state, expression, given, type,
											   -1, COERCION_IMPLICIT,
											   COERCE_IMPLICIT_CAST, -1);

	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("option \"%s\" must be of type %s, not %s", option,
						format_type_be(type), format_type_be(given)),
				 type == INTERVALOID ?
				 errhint("A number of days becomes an interval with make_interval(days => ...).") :
				 type == BOOLOID ?
				 errhint("Write a condition, such as r.column = 1 or r.column IS NOT NULL.") : 0));
	return result;
}

static Node *
analyse(const char *text, Node *raw, Oid relid, Oid type, const char *option,
		bool item)
{
	Relation	rel = table_open(relid, AccessShareLock);
	ParseState *state = begin_analysis(text, rel, item);
	Node	   *expression;

	expression = transformExpr(state, raw, EXPR_KIND_WHERE);
	expression = coerce(state, expression, type, option);
	assign_expr_collations(state, expression);
	free_parsestate(state);
	table_close(rel, NoLock);
	return expression;
}

/* --- writing out --- */

typedef struct WriteOut
{
	Node	   *expression;
	Oid			relid;
	bool		with_casts;
	char	   *text;
} WriteOut;

static void
write_out(void *arg)
{
	WriteOut   *out = arg;

	out->text = deparse_expression(out->expression,
								   deparse_context_for(ROW_NAME, out->relid),
								   true, out->with_casts);
}

/* With nothing but pg_catalog in the search_path, all else is qualified. */
char *
janitor_expression_text(Node *expression, Oid relid, bool with_casts)
{
	WriteOut	out = {expression, relid, with_casts};

	janitor_as_role(GetUserId(), NULL, NULL, write_out, &out);
	return out.text;
}

char *
janitor_expression_condition(const char *text, Oid relid, Oid type,
							 const char *option, bool item, List **remarks)
{
	JanitorSource source;
	Node	   *raw;
	Node	   *expression;

	janitor_source_push(&source, option, text, 0);
	raw = parse_expression(text, option);
	janitor_expression_check_names(raw, relid);
	expression = analyse(text, raw, relid, type, option, item);
	janitor_expression_check_columns(expression, relid);
	janitor_expression_check_constants(expression, text);
	check_predictable(expression, option, remarks);
	janitor_source_pop(&source);
	return janitor_expression_text(expression, relid, type != BOOLOID);
}

char *
janitor_rule_expression(const char *text, Oid relid, Oid type,
						const char *option)
{
	return janitor_expression_condition(text, relid, type, option, false,
										NULL);
}
