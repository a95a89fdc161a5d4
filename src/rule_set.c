/*-------------------------------------------------------------------------
 *
 * rule_set.c
 *	  What users write after UPDATE ... SET.
 *
 * The text becomes an UPDATE of the relation, which the server parses and
 * analyses; its assignments are then taken out and written out again, each
 * coerced to its column's type, length included.
 *
 * A rule has to come to rest: a row that is already as it should be is not
 * touched again.  So the statement's condition compares the columns with what
 * they are to become.  Values that are different at each run (now(),
 * job_now(), random()) are left out of that: they are set together with a
 * change, and never cause one.  If nothing remains to compare, the user has to
 * say with done_when how a finished row is recognized.
 *
 * Equality is spelt out with the operator of the type, not with IS DISTINCT
 * FROM, which would look for `=` in the search_path.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "access/sysattr.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "parse.h"

#define PREFIX "UPDATE r SET "

pg_noreturn static void
refuse(const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("option \"set\": %s", problem),
			 errhint("%s", hint)));
}

/* --- parsing --- */

/* Plain assignments and nothing else. */
static UpdateStmt *
parse_update(const char *source)
{
	List	   *list = janitor_parse(source, RAW_PARSE_DEFAULT);
	UpdateStmt *update;
	ListCell   *cell;

	update = list_length(list) == 1 ?
		(UpdateStmt *) linitial_node(RawStmt, list)->stmt : NULL;
	if (update == NULL || !IsA(update, UpdateStmt) ||
		update->fromClause != NIL || update->whereClause != NULL ||
		janitor_has_returning(update) || update->withClause != NULL)
		refuse("only assignments can be written here",
			   "Write what follows UPDATE ... SET: status = 'expired', email = NULL. Conditions belong into filter.");
	foreach(cell, update->targetList)
	{
		ResTarget  *target = lfirst_node(ResTarget, cell);

		if (target->indirection != NIL)
			refuse(psprintf("a part of column \"%s\" cannot be assigned to",
							target->name),
				   "Assign to the column as a whole.");
		if (IsA(target->val, MultiAssignRef))
			refuse("several columns cannot be assigned to at once",
				   "Write one assignment for each column: a = ..., b = ....");
	}
	return update;
}

/*
 * The relation as r, whatever stood there.  The lock that the parser takes for
 * an UPDATE is given back: nothing is written yet, and a preview never will.
 */
static Query *
analyse_update(UpdateStmt *update, const char *source, Relation rel,
			   bool item)
{
	RawStmt    *raw = makeNode(RawStmt);
	Query	   *query;

	update->relation = makeRangeVar(get_namespace_name(RelationGetNamespace(rel)),
									pstrdup(RelationGetRelationName(rel)), -1);
	update->relation->alias = makeAlias("r", NIL);
	raw->stmt = (Node *) update;
	query = parse_analyze_fixedparams(raw, source, janitor_item_types,
									  item ? lengthof(janitor_item_types) : 0,
									  NULL);
	UnlockRelationOid(RelationGetRelid(rel), RowExclusiveLock);
	return query;
}

/* --- one assignment --- */

static void
check_column(Relation rel, Form_pg_attribute column)
{
	Bitmapset  *set = bms_make_singleton(column->attnum -
										 FirstLowInvalidHeapAttributeNumber);
	bool		in_expression;
	const char *name = NameStr(column->attname);

	if (column->attgenerated != '\0')
		refuse(psprintf("column \"%s\" is generated", name),
			   "It follows from other columns; change these.");
	if (column->attidentity != '\0')
		refuse(psprintf("column \"%s\" is an identity column", name),
			   "Identity columns number rows; leave it out.");
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE &&
		has_partition_attrs(rel, set, &in_expression))
		refuse(psprintf("column \"%s\" belongs to the partition key", name),
			   "Rows cannot be moved to another partition by a rule.");
}

/* DEFAULT means the default of the relation itself, on each of its leaves. */
static Node *
resolve_default(Node *expression, Relation rel, Form_pg_attribute column)
{
	Node	   *value;

	if (!IsA(expression, SetToDefault))
		return expression;
	value = build_column_default(rel, column->attnum);
	if (value == NULL)
		value = (Node *) makeNullConst(column->atttypid, column->atttypmod,
									   column->attcollation);
	return value;
}

char *
janitor_sql_equality(Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);

	return OidIsValid(entry->eq_opr) ? janitor_sql_operator(entry->eq_opr) : NULL;
}

/*
 * SQL: is the column not yet what it is to be?  Types without an equality,
 * json among them, are compared as text.
 */
static char *
difference(Form_pg_attribute column, const char *value)
{
	char	   *name = psprintf("r.%s",
								quote_identifier(NameStr(column->attname)));
	char	   *equals = janitor_sql_equality(column->atttypid);
	char	   *wanted = psprintf("(%s)", value);

	if (equals == NULL)
	{
		name = psprintf("%s::pg_catalog.text", name);
		wanted = psprintf("%s::pg_catalog.text", wanted);
		equals = pstrdup("OPERATOR(pg_catalog.=)");
	}
	else if (OidIsValid(column->attcollation))
		wanted = psprintf("(%s COLLATE %s)", wanted,
						  generate_collation_name(column->attcollation));
	return psprintf("NOT COALESCE(%s %s %s, %s IS NULL AND %s IS NULL)",
					name, equals, wanted, name, wanted);
}

static void
append(StringInfo to, const char *separator, const char *text)
{
	if (to->len > 0)
		appendStringInfoString(to, separator);
	appendStringInfoString(to, text);
}

static bool
has_parameter(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, has_parameter, NULL, 0);
	return expression_tree_walker(node, has_parameter, NULL);
}

static void
take_assignment(JanitorAssignments *result, TargetEntry *entry, Relation rel,
				StringInfo text, StringInfo differs)
{
	Oid			relid = RelationGetRelid(rel);
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rel),
											 entry->resno - 1);
	JanitorAssignment *assignment = palloc0(sizeof(JanitorAssignment));
	Node	   *value;

	check_column(rel, column);
	value = resolve_default((Node *) entry->expr, rel, column);
	janitor_expression_check_columns(value, relid);
	result->columns = bms_add_member(result->columns, column->attnum);
	result->list = lappend(result->list, assignment);
	assignment->attno = column->attnum;
	assignment->value = janitor_expression_text(value, relid, true);
	assignment->unknown = janitor_expression_is_unpredictable(value) ||
		has_parameter(value, NULL);
	assignment->constant = !assignment->unknown &&
		!contain_var_clause(value) && !contain_subplans(value);
	append(text, ", ",
		   psprintf("%s = %s", quote_identifier(NameStr(column->attname)),
					janitor_expression_text(value, relid, false)));
	if (janitor_expression_is_volatile(value))
		return;
	assignment->differs = difference(column, assignment->value);
	append(differs, " OR ", assignment->differs);
}

JanitorAssignments *
janitor_set_parse(const char *text, Relation rel, bool item)
{
	JanitorAssignments *result = palloc0(sizeof(JanitorAssignments));
	char	   *source_text = psprintf(PREFIX "%s", text);
	JanitorSource source;
	UpdateStmt *update;
	Query	   *query;
	StringInfoData assignments;
	StringInfoData differs;
	ListCell   *cell;

	initStringInfo(&assignments);
	initStringInfo(&differs);
	janitor_source_push(&source, "set", text, strlen(PREFIX));
	update = parse_update(source_text);
	janitor_expression_check_names((Node *) update, RelationGetRelid(rel));
	query = analyse_update(update, source_text, rel, item);
	foreach(cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (entry->resjunk)
			continue;
		janitor_expression_check_constants((Node *) entry->expr, source_text);
		take_assignment(result, entry, rel, &assignments, &differs);
	}
	janitor_source_pop(&source);
	result->text = assignments.data;
	if (differs.len > 0)
		result->differs = differs.data;
	return result;
}
