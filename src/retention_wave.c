/*-------------------------------------------------------------------------
 *
 * retention_wave.c
 *	  Which rules of a run are worked on side by side.
 *
 * Rules run in their order, which counts: the second may delete what only the
 * first has made deletable.  Where two have nothing to do with each other it
 * does not, and where both may have several workers (parallel above 1) they
 * are worked on at the same time.  They have nothing to do with each other if
 * neither changes what the other one changes or reads:
 *
 *	changes		the relation, with all above and below it; what ON DELETE or
 *				ON UPDATE actions take along; the archive
 *	reads		what the statement names; for foreign keys, the relations that
 *				refer to what it changes, or that this refers to
 *
 * all of them as topmost relations.  What triggers and functions do is not
 * looked at: a rule never touches what has not expired, whatever runs beside
 * it, so at worst something is left for the next run.
 *
 * Runs in the transaction that plans a rule; on ERROR nothing is left.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "retention_internal.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "utils/memutils.h"

#include "hold_internal.h"
#include "query.h"

/* Relations that foreign keys connect with these, in either direction. */
static List *
neighbours(List *relids)
{
	Relation	rel = table_open(ConstraintRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL,
										  0, NULL);
	List	   *result = NIL;
	HeapTuple	tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

		if (form->contype != CONSTRAINT_FOREIGN)
			continue;
		if (list_member_oid(relids, form->conrelid))
			result = list_append_unique_oid(result, form->confrelid);
		if (list_member_oid(relids, form->confrelid))
			result = list_append_unique_oid(result, form->conrelid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* The relations that the rule's statement names. */
static List *
named(const JanitorReadyRule *ready)
{
	Oid			types[JANITOR_QUERY_ARGS];
	int			count = janitor_rule_parameters(ready, JANITOR_RANGE_ALL,
												types);
	JanitorQuery *query =
	janitor_query_prepare(janitor_rule_statement(ready, ready->relid,
												 JANITOR_RANGE_ALL, NULL,
												 false),
						  count, types);
	List	   *relids = janitor_query_relations(query);

	janitor_query_free(query);
	return relids;
}

/* Fills the footprint of a rule that has been made ready. */
static void
find_footprint(JanitorRuleRun *rr)
{
	const JanitorReadyRule *ready = rr->ready;
	List	   *changes = janitor_holds_relations(rr->batching->holds);
	List	   *reads;

	if (ready->archive_to != NULL)
		changes = lappend_oid(changes,
							  janitor_relation_find(ready->archive_to));
	reads = list_concat(named(ready), neighbours(changes));
	rr->changes = janitor_hold_roots(changes);
	rr->reads = janitor_hold_roots(reads);
}

static bool
overlap(const List *a, const List *b)
{
	ListCell   *cell;

	foreach(cell, a)
	{
		if (list_member_oid(b, lfirst_oid(cell)))
			return true;
	}
	return false;
}

static bool
are_related(const JanitorRuleRun *a, const JanitorRuleRun *b)
{
	return overlap(a->changes, b->changes) || overlap(a->changes, b->reads) ||
		overlap(a->reads, b->changes);
}

bool
janitor_retention_fits(List *wave, JanitorRuleRun *rr)
{
	MemoryContext caller;
	ListCell   *cell;

	if (rr->rule->parallel <= 1)
		return wave == NIL;
	caller = MemoryContextSwitchTo(rr->context);
	find_footprint(rr);
	MemoryContextSwitchTo(caller);
	foreach(cell, wave)
	{
		if (are_related(lfirst(cell), rr))
			return false;
	}
	return true;
}

/* Those after it in order, as far as rules themselves can tell. */
bool
janitor_retention_may_join(List *wave, const JanitorRule *rule)
{
	const JanitorRuleRun *last;

	if (wave == NIL)
		return true;
	last = llast(wave);
	return list_length(wave) < JANITOR_TALLIES &&
		last->rule->parallel > 1 && !last->rule->stop_on_failure &&
		rule->parallel > 1;
}
