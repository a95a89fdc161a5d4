/*-------------------------------------------------------------------------
 *
 * rule_ready.c
 *	  Makes a rule ready for one run.
 *
 * Runs as the job's owner: in its worker, or in the session of whoever
 * defines or previews the job, through janitor_as_role().  Everything that
 * depends on the database is looked up anew, so that what a run does is what
 * the rule means now; everything that is wrong is an error that says how it
 * is mended.
 *
 * While it works job_now() gives the instant that ages count from.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "settings.h"

typedef struct Work
{
	const JanitorRule *rule;
	TimestampTz now;
	JanitorReadyRule *ready;
} Work;

/* Then $1 is the item. */
static bool
is_for_item(const JanitorReadyRule *ready)
{
	return ready->rule->match != NULL;
}

static void
add_filter(JanitorReadyRule *ready, StringInfo predicate)
{
	if (ready->rule->filter == NULL)
		return;
	appendStringInfo(predicate, " AND (%s)",
					 janitor_expression_condition(ready->rule->filter,
												  ready->relid, BOOLOID,
												  "filter", is_for_item(ready),
												  &ready->remarks));
	ready->bound_only = false;
}

/* Rows that are as they should be are not touched again. */
static void
add_difference(JanitorReadyRule *ready, StringInfo predicate)
{
	const char *done_when = ready->rule->done_when;

	ready->bound_only = false;
	if (done_when != NULL)
		appendStringInfo(predicate, " AND (%s) IS NOT TRUE",
						 janitor_expression_condition(done_when, ready->relid,
													  BOOLOID, "done_when", is_for_item(ready),
													  &ready->remarks));
	else if (ready->set->differs != NULL)
		appendStringInfo(predicate, " AND (%s)", ready->set->differs);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"set\" gives every row another value at each run"),
				 errhint("Say with done_when how a row is recognized that needs no change, such as done_when => 'r.erased_at IS NOT NULL'.")));
}

static void
make_ready(void *arg)
{
	Work	   *work = arg;
	JanitorReadyRule *ready = palloc0(sizeof(JanitorReadyRule));
	StringInfoData predicate;
	Relation	rel;

	initStringInfo(&predicate);
	ready->rule = work->rule;
	ready->relid = janitor_relation_find(work->rule->relation);
	janitor_relation_check(ready->relid, "relation");
	rel = table_open(ready->relid, AccessShareLock);

	if (work->rule->set != NULL)
	{
		ready->set = janitor_set_parse(work->rule->set, rel,
									   is_for_item(ready));
		ready->assignments = ready->set->text;
	}
	janitor_rights_check(ready, ready->set ? ready->set->columns : NULL);
	janitor_condition_ready(ready, rel, work->now, &predicate);
	add_filter(ready, &predicate);
	if (ready->set != NULL)
		add_difference(ready, &predicate);
	if (work->rule->action == JANITOR_ARCHIVE)
		janitor_archive_ready(ready, rel);

	table_close(rel, NoLock);
	ready->predicate = predicate.data;
	work->ready = ready;
}

JanitorReadyRule *
janitor_rule_ready(const JanitorRule *rule, const JanitorJob *job,
				   TimestampTz now)
{
	Work		work = {rule, now};

	/* types and expressions may look at tables */
	PushActiveSnapshot(GetTransactionSnapshot());
	janitor_with_now(now, make_ready, &work);
	PopActiveSnapshot();
	return work.ready;
}
