/*-------------------------------------------------------------------------
 *
 * item_sql.c
 *	  The statements made of an items query.
 *
 * The condition on the key is added to the tree of the analysed query, and the
 * server writes it out again: nothing is pasted into the user's text, and the
 * condition is where an index can serve it.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "item_internal.h"

#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

/* --- the condition on the key --- */

static Node *
key_argument(Node *expression, Oid declared)
{
	Oid			type = exprType(expression);

	if (type == declared || IsPolymorphicType(declared))
		return expression;
	return (Node *) makeRelabelType((Expr *) expression, declared, -1,
									exprCollation(expression),
									COERCE_IMPLICIT_CAST);
}

static Oid
key_operator(const TargetEntry *key)
{
	Oid			type = exprType((Node *) key->expr);
	Oid			operator = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;

	if (!OidIsValid(operator))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("type %s of the first column of the items query has no equality operator",
						format_type_be(type)),
				 errhint("The first column is the key of the item; cast it to text.")));
	return operator;
}

/* $1, of this type. */
static Node *
first_parameter(Oid type)
{
	Param	   *parameter = makeNode(Param);

	parameter->paramkind = PARAM_EXTERN;
	parameter->paramid = 1;
	parameter->paramtype = type;
	parameter->paramtypmod = -1;
	parameter->paramcollid = get_typcollation(type);
	parameter->location = -1;
	return (Node *) parameter;
}

/* key = $1, by the default operator of its type. */
static Node *
key_condition(const TargetEntry *key)
{
	Oid			operator = key_operator(key);
	Node	   *parameter = first_parameter(exprType((Node *) key->expr));
	Oid			left;
	Oid			right;
	OpExpr	   *condition;

	op_input_types(operator, &left, &right);
	condition = (OpExpr *)
		make_opclause(operator, BOOLOID, false,
					  (Expr *) key_argument(copyObject((Node *) key->expr),
											left),
					  (Expr *) key_argument(parameter, right),
					  InvalidOid, exprCollation((Node *) key->expr));
	set_opfuncid(condition);
	return (Node *) condition;
}

/* key = ANY ($1), an array; NULL: there are no arrays of that type. */
static Node *
keys_condition(const TargetEntry *key)
{
	Oid			array = get_array_type(exprType((Node *) key->expr));
	ScalarArrayOpExpr *condition = makeNode(ScalarArrayOpExpr);
	Oid			left;
	Oid			right;

	if (!OidIsValid(array))
		return NULL;
	condition->opno = key_operator(key);
	op_input_types(condition->opno, &left, &right);
	if (!IsPolymorphicType(right))
		right = get_array_type(right);
	condition->useOr = true;
	condition->inputcollid = exprCollation((Node *) key->expr);
	condition->args = list_make2(key_argument(copyObject((Node *) key->expr),
											  left),
								 key_argument(first_parameter(array), right));
	condition->location = -1;
	set_sa_opfuncid(condition);
	return (Node *) condition;
}

/* --- writing out --- */

/* Only these columns, in their order; what it is sorted by stays. */
static void
keep_columns(Query *query, const TargetEntry *key, const TargetEntry *due)
{
	List	   *kept = NIL;
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *column = lfirst_node(TargetEntry, cell);
		bool		wanted = column->resno == key->resno ||
		(due != NULL && column->resno == due->resno);

		if (wanted || column->ressortgroupref != 0)
		{
			column->resjunk = column->resjunk || !wanted;
			kept = lappend(kept, column);
		}
	}
	query->targetList = kept;
}

static void
add_system_column(Query *query, int rti, AttrNumber attno, Oid type,
				  char *name)
{
	Var		   *var = makeVar(rti, attno, type, -1, InvalidOid, 0);

	query->targetList =
		lappend(query->targetList,
				makeTargetEntry((Expr *) var,
								list_length(query->targetList) + 1,
								name, false));
}

static void
unlock(Query *query)
{
	query->rowMarks = NIL;
	query->hasForUpdate = false;
}

static char *
keys_statement(const Query *original, const TargetEntry *key)
{
	Query	   *query = copyObject(unconstify(Query *, original));

	unlock(query);
	keep_columns(query, key, NULL);
	return pg_get_querydef(query, false);
}

/* In no particular order, under one more condition. */
static void
narrow(Query *query, Node *condition)
{
	query->sortClause = NIL;
	query->jointree->quals = make_and_qual(query->jointree->quals, condition);
}

static const char *
due_expression(const TargetEntry *due)
{
	return due ? "q.due::pg_catalog.timestamptz" :
		"NULL::pg_catalog.timestamptz";
}

static char *
subject_statement(const Query *original, const TargetEntry *key,
				  const TargetEntry *due)
{
	Query	   *query = copyObject(unconstify(Query *, original));

	narrow(query, key_condition(key));
	return psprintf("SELECT pg_catalog.to_jsonb(q.*), %s FROM (%s) q",
					due_expression(due), pg_get_querydef(query, false));
}

/* Without waiting for rows that somebody else has locked. */
static char *
subjects_statement(const Query *original, const TargetEntry *key,
				   const TargetEntry *due)
{
	Query	   *query = copyObject(unconstify(Query *, original));
	Node	   *condition = keys_condition(key);
	ListCell   *cell;

	if (condition == NULL)
		return NULL;
	narrow(query, condition);
	foreach(cell, query->rowMarks)
		lfirst_node(RowMarkClause, cell)->waitPolicy = LockWaitSkip;
	return psprintf("SELECT pg_catalog.to_jsonb(q.*), %s, q.%s FROM (%s) q",
					due_expression(due), quote_identifier(key->resname),
					pg_get_querydef(query, false));
}

static char *
places_statement(const Query *original, const TargetEntry *key,
				 const TargetEntry *due, List *tables)
{
	Query	   *query = copyObject(unconstify(Query *, original));
	int			number = 0;
	ListCell   *cell;

	unlock(query);
	narrow(query, key_condition(key));
	keep_columns(query, key, due);
	foreach(cell, tables)
	{
		int			rti = lfirst_int(cell);

		number++;
		add_system_column(query, rti, TableOidAttributeNumber, OIDOID,
						  psprintf("t%d", number));
		add_system_column(query, rti, SelfItemPointerAttributeNumber, TIDOID,
						  psprintf("c%d", number));
	}
	return pg_get_querydef(query, false);
}

static char *
overdue_statement(const Query *original, const TargetEntry *key,
				  const TargetEntry *due)
{
	Query	   *query = copyObject(unconstify(Query *, original));

	if (due == NULL)
		return NULL;
	unlock(query);
	query->sortClause = NIL;
	keep_columns(query, key, due);
	return psprintf("SELECT pg_catalog.count(*) FROM (%s) q WHERE %s OPERATOR(pg_catalog.<) pg_catalog.clock_timestamp()",
					pg_get_querydef(query, false), due_expression(due));
}

void
janitor_items_write_out(JanitorItemsQuery *result, const Query *query,
						const TargetEntry *key, const TargetEntry *due,
						List *tables)
{
	result->keys = keys_statement(query, key);
	result->subject = subject_statement(query, key, due);
	result->subjects = subjects_statement(query, key, due);
	result->places = places_statement(query, key, due, tables);
	result->overdue = overdue_statement(query, key, due);
}
