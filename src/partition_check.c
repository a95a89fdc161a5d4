/*-------------------------------------------------------------------------
 *
 * partition_check.c
 *	  Which partitions are expired as a whole, and which of them can go so.
 *
 * Proof and obstacles are read from the catalogs, in the caller's
 * transaction, by the worker of a run (as the job's owner) and by functions
 * that look what a run would do.  Nothing is changed here.
 *
 * To detach and drop a partition has to come to the same as to delete its
 * rows.  Where it would not (a trigger that would not fire, a foreign key
 * that would not act, a subscriber that would keep the rows, a hold) the
 * partition stays and its rows are deleted in batches.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "partition.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/objectaddress.h"
#include "catalog/partition.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_param.h"
#include "parser/parse_relation.h"
#include "rewrite/prs2lock.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "parse.h"

/* --- expired as a whole --- */

/* $1 is the bound, wherever it stands. */
static Node *
put_bound(Node *node, void *arg)
{
	const JanitorReadyRule *ready = arg;

	if (node == NULL)
		return NULL;
	if (IsA(node, Param))
	{
		Param	   *param = (Param *) node;
		int16		length;
		bool		by_value;

		get_typlenbyval(param->paramtype, &length, &by_value);
		return (Node *) makeConst(param->paramtype, param->paramtypmod,
								  param->paramcollid, length,
								  ready->has_bound ? ready->bound : (Datum) 0,
								  !ready->has_bound, by_value);
	}
	return expression_tree_mutator(node, put_bound, arg);
}

/* What is to be proved: the rule's predicate, over the rows of a leaf. */
static List *
expired_clauses(const JanitorReadyRule *ready, Relation leaf)
{
	List	   *statements = janitor_parse(ready->predicate,
										   RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = castNode(SelectStmt,
								  linitial_node(RawStmt, statements)->stmt);
	ResTarget  *target = linitial_node(ResTarget, select->targetList);
	Oid			type = ready->has_bound ? ready->bound_type : TEXTOID;
	ParseState *state = make_parsestate(NULL);
	ParseNamespaceItem *row;
	Node	   *clause;

	setup_parse_fixed_parameters(state, &type, 1);
	row = addRangeTableEntryForRelation(state, leaf, AccessShareLock,
										makeAlias("r", NIL), false, true);
	addNSItemToQuery(state, row, false, true, true);
	clause = transformExpr(state, target->val, EXPR_KIND_WHERE);
	clause = coerce_to_boolean(state, clause, "WHERE");
	assign_expr_collations(state, clause);
	free_parsestate(state);

	clause = put_bound(clause, unconstify(JanitorReadyRule *, ready));
	clause = eval_const_expressions(NULL, clause);
	return make_ands_implicit(canonicalize_qual((Expr *) clause, false));
}

/*
 * What holds for each row of it, by its bounds and those of the partitions
 * that it is part of.
 */
static List *
known_clauses(Relation leaf)
{
	List	   *known = RelationGetPartitionQual(leaf);

	return (List *) eval_const_expressions(NULL, (Node *) known);
}

/* Is it, or anything above it, what takes the rows that fit nowhere else? */
static bool
is_default(Oid relid)
{
	while (get_rel_relispartition(relid))
	{
		Oid			parent = get_partition_parent(relid, true);

		if (get_default_partition_oid(parent) == relid)
			return true;
		relid = parent;
	}
	return false;
}

/*
 * The same proof by which the planner leaves partitions out.  It need not
 * find what is true: then rows are deleted one by one.
 */
bool
janitor_partition_is_expired(const JanitorReadyRule *ready, Oid leaf)
{
	Relation	rel;
	bool		expired;

	if (ready->rule->action != JANITOR_DELETE || leaf == ready->relid ||
		!get_rel_relispartition(leaf) || is_default(leaf))
		return false;
	rel = relation_open(leaf, AccessShareLock);
	expired = predicate_implied_by(expired_clauses(ready, rel),
								   known_clauses(rel), false);
	relation_close(rel, AccessShareLock);
	return expired;
}

/* --- obstacles --- */

/*
 * A trigger that a DELETE would fire, or a foreign key that points here: the
 * server keeps those as triggers too.
 */
static const char *
trigger_obstacle(Relation rel, bool statements_only)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_PK)
			return psprintf("%s refers to it by a foreign key",
							janitor_relation_name(trigger->tgconstrrelid));
		if (trigger->tgisinternal || !TRIGGER_FOR_DELETE(trigger->tgtype) ||
			trigger->tgenabled == TRIGGER_DISABLED ||
			(statements_only && TRIGGER_FOR_ROW(trigger->tgtype)))
			continue;
		return psprintf("trigger \"%s\" of %s has to see its rows go",
						trigger->tgname,
						janitor_relation_name(RelationGetRelid(rel)));
	}
	return NULL;
}

static bool
has_delete_rule(Relation rel)
{
	for (int i = 0; rel->rd_rules != NULL && i < rel->rd_rules->numLocks; i++)
	{
		if (rel->rd_rules->rules[i]->event == CMD_DELETE)
			return true;
	}
	return false;
}

/*
 * A view or a function that would keep the table from being dropped; NULL:
 * none.  Foreign keys have been seen as triggers, and all else that may
 * depend on a table is rare: then DROP says so.
 */
static const char *
dependent_obstacle(Oid relid)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	const char *obstacle = NULL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL,
							  2, keys);
	while (obstacle == NULL && (tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress dependent;

		if (form->deptype != DEPENDENCY_NORMAL ||
			(form->classid != RewriteRelationId &&
			 form->classid != ProcedureRelationId))
			continue;
		ObjectAddressSet(dependent, form->classid, form->objid);
		obstacle = psprintf("%s depends on it",
							getObjectDescription(&dependent, false));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return obstacle;
}

/* What keeps rows of this relation from going other than by DELETE? */
static const char *
relation_obstacle(Relation rel, bool is_leaf)
{
	char	   *name = janitor_relation_name(RelationGetRelid(rel));
	const char *obstacle = trigger_obstacle(rel, !is_leaf);
	PublicationDesc publication;

	if (obstacle != NULL)
		return obstacle;
	if (!janitor_owns_relation(RelationGetRelid(rel), GetUserId()))
		return psprintf("%s is not a table of the job's owner", name);
	if (is_leaf && rel->rd_rel->relkind != RELKIND_RELATION)
		return psprintf("%s is not an ordinary table", name);
	if (has_delete_rule(rel))
		return psprintf("%s has a rule for DELETE", name);
	if (check_enable_rls(RelationGetRelid(rel), InvalidOid,
						 true) == RLS_ENABLED)
		return psprintf("row security of %s applies to the job's owner", name);
	RelationBuildPublicationDesc(rel, &publication);
	if (publication.pubactions.pubdelete)
		return psprintf("deletes from %s are published to subscribers, which a detached partition would not tell",
						name);
	return is_leaf ? dependent_obstacle(RelationGetRelid(rel)) : NULL;
}

/* The leaf itself and everything above it, the rule's relation included. */
static const char *
chain_obstacle(const JanitorReadyRule *ready, Oid leaf)
{
	const char *obstacle = NULL;
	Oid			relid = leaf;

	while (obstacle == NULL)
	{
		Relation	rel = relation_open(relid, AccessShareLock);

		obstacle = relation_obstacle(rel, relid == leaf);
		relation_close(rel, AccessShareLock);
		if (relid == ready->relid || !get_rel_relispartition(relid))
			break;
		relid = get_partition_parent(relid, true);
	}
	return obstacle;
}

const char *
janitor_partition_obstacle(const JanitorReadyRule *ready, Oid leaf,
						   JanitorHolds *holds)
{
	if (ready->rule->partitions == JANITOR_PARTITIONS_ROWS)
		return "the rule says partitions => 'rows'";
	if (ready->rule->action != JANITOR_DELETE)
		return psprintf("the rule's action is %s",
						janitor_action_name(ready->rule->action));
	if (janitor_holds_condition(holds, leaf) != NULL)
		return "a legal hold is in force";
	return chain_obstacle(ready, leaf);
}

/* --- half-done detaches --- */

typedef struct Below
{
	List	   *partitioned;	/* still to be looked at */
	List	   *pending;
} Below;

static void
note_children(Below *below, Oid parent)
{
	Relation	rel = table_open(InheritsRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(parent));
	scan = systable_beginscan(rel, InheritsParentIndexId, true, NULL, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_inherits form = (Form_pg_inherits) GETSTRUCT(tuple);

		if (form->inhdetachpending)
			below->pending = lappend_oid(below->pending, form->inhrelid);
		else if (get_rel_relkind(form->inhrelid) == RELKIND_PARTITIONED_TABLE)
			below->partitioned = lappend_oid(below->partitioned,
											 form->inhrelid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

List *
janitor_partitions_pending(Oid relid)
{
	Below		below = {list_make1_oid(relid), NIL};

	/* the list grows while we walk it */
	for (int i = 0; i < list_length(below.partitioned); i++)
		note_children(&below, list_nth_oid(below.partitioned, i));
	return below.pending;
}
