/*-------------------------------------------------------------------------
 *
 * api_rearm.c
 *	  The SQL function that lets jobs run in a copy of their database:
 *	  job_rearm.
 *
 * See home.c for what disarms them.  Arming is the business of whoever could
 * define the job anew: a role that can act for its owner.  In a database that
 * was restored from a dump, no OID means what it meant.  There a superuser
 * says, by calling this, that the roles that have the names are the ones that
 * were meant; nobody else can, or whoever may create a role could become the
 * owner of a job by a name that is free.  A job whose owner is missing is
 * armed all the same, and held until it has one.
 *
 * Nothing is made up for the time in between: the next occurrence is computed
 * from now on.  What waits in the queue, runs.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "utils/builtins.h"

#include "home.h"
#include "session.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_rearm);

/* --- what came with a dump --- */

static void
find_owner(JanitorDraft *draft)
{
	char	   *owner = janitor_draft_text(draft, Anum_definition_owner);
	Oid			role = get_role_oid(owner, true);

	if (OidIsValid(role))
		janitor_draft_set(draft, Anum_definition_owner_oid,
						  ObjectIdGetDatum(role), false);
}

static bool
collect_open(JanitorCursor *cursor, void *arg)
{
	List	  **ids = arg;
	int64	   *id;

	if (cursor->state == JANITOR_CURSOR_DETACHED)
		return true;			/* a partition that is still to be dropped */
	id = palloc(sizeof(int64));
	*id = cursor->id;
	*ids = lappend(*ids, id);
	return true;
}

/* Positions in files that are other files now. */
static void
forget_progress(const JanitorJob *job)
{
	List	   *ids = NIL;
	ListCell   *cell;

	janitor_cursor_scan(job->name, collect_open, &ids);
	foreach(cell, ids)
		janitor_cursor_delete(*(int64 *) lfirst(cell));
}

static void
adopt(const JanitorJob *job, JanitorDraft *draft)
{
	forget_progress(job);
	if (!superuser())
		return;
	find_owner(draft);
	janitor_work_find_roles(job->name);
	if (job->circuit != NULL)
		janitor_circuit_find_owner(job->circuit);
}

/* --- job_rearm --- */

static void
check_again(void *arg)
{
	JanitorJob *job = arg;

	janitor_rules_check(job);
	if (job->kind == JANITOR_KIND_ITEMS)
		janitor_items_check(job);
}

/*
 * It is armed, and will not get far: tell.  What the owner of a held job could
 * do nobody knows.
 */
static void
warn_of_problem(const char *job_name)
{
	JanitorJob *job = janitor_job_load(job_name);
	const char *problem = job->kind == JANITOR_KIND_EXTERNAL ? NULL :
	janitor_job_owner_problem(job);
	JanitorError *error = problem == NULL && janitor_job_is_heavy(job) ?
	janitor_attempt_inside(check_again, job) : NULL;

	if (problem != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" is held: %s", job_name, problem),
				 errhint("Correct the role, or SELECT job_alter(%s, '{\"owner\": \"...\"}');",
						 quote_literal_cstr(job_name))));
	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlstate),
				 errmsg("job \"%s\" will fail: %s", job_name,
						error->message)));
}

/* Was it armed elsewhere? */
static bool
rearm_job(const char *job_name)
{
	JanitorJob *job = janitor_job_for_use(job_name);
	JanitorDraft draft;
	JanitorDraft old;

	janitor_draft_load(&old, job->tuple);
	draft = old;
	janitor_draft_arm(&draft);
	if (janitor_draft_same(&draft, &old))
		return false;
	if (janitor_job_is_restored(job))
		adopt(job, &draft);
	(void) janitor_draft_save(&draft, job->tuple, "rearm");
	janitor_wake_at_end(DT_NOBEGIN);	/* the queue is read afresh */
	warn_of_problem(job_name);
	return true;
}

/* job_rearm(job_name text) returns int */
Datum
job_rearm(PG_FUNCTION_ARGS)
{
	ListCell   *cell;
	int			count = 0;

	janitor_prevent_misuse("job_rearm()");
	foreach(cell, janitor_jobs_for_change(janitor_arg_text(fcinfo, 0)))
	{
		CHECK_FOR_INTERRUPTS();
		if (rearm_job(lfirst(cell)))
			count++;
	}
	PG_RETURN_INT32(count);
}
