/*-------------------------------------------------------------------------
 *
 * history.c
 *	  How much of job_execution is kept.
 *
 * A job keeps its newest keep_runs rows, none older than keep_history; its
 * newest success, its newest failure, its newest ALWAYS_KEPT rows and the
 * runs in progress always stay.  What is beyond goes in small transactions,
 * by the scheduler, in moments when nothing is due; no job of the user's is
 * needed for it.
 *
 * Looking at a job's history costs as much as it is long, so it is done after
 * a number of runs of the job, and for every job once a day, for the sake of
 * age.  What is due is kept in the scheduler's memory and starts
 * afresh with it; the daily round catches up.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "definition.h"
#include "home.h"
#include "session.h"
#include "shmem.h"

#define ALWAYS_KEPT 10
#define DELETED_AT_ONCE 500

/* A job's history is looked at after so many runs of it. */
#define RUNS_PER_LOOK 500

/* Runs of one job since its history was looked at. */
typedef struct Counted
{
	uint64		hash;			/* key */
	char	   *name;
	int			runs;
} Counted;

static MemoryContext history_context = NULL;
static MemoryContext prune_context = NULL;
static HTAB *counted = NULL;
static List *due = NIL;			/* names, owned by history_context */

static void
init(void)
{
	HASHCTL		control;

	if (history_context != NULL)
		return;
	history_context = AllocSetContextCreate(TopMemoryContext,
											"pg_janitor history",
											ALLOCSET_DEFAULT_SIZES);
	prune_context = AllocSetContextCreate(TopMemoryContext,
										  "pg_janitor prune",
										  ALLOCSET_DEFAULT_SIZES);
	MemSet(&control, 0, sizeof(control));
	control.keysize = sizeof(uint64);
	control.entrysize = sizeof(Counted);
	control.hcxt = history_context;
	counted = hash_create("pg_janitor counted runs", 256, &control,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
make_due(const char *job_name)
{
	MemoryContext caller = MemoryContextSwitchTo(history_context);

	due = lappend(due, pstrdup(job_name));
	MemoryContextSwitchTo(caller);
}

void
janitor_history_count(const char *job_name, int runs)
{
	uint64		hash = janitor_job_hash(job_name);
	Counted    *count;
	bool		found;

	init();
	count = hash_search(counted, &hash, HASH_ENTER, &found);
	if (!found)
	{
		count->name = MemoryContextStrdup(history_context, job_name);
		count->runs = 0;
	}
	count->runs += runs;
	if (count->runs < RUNS_PER_LOOK)
		return;
	make_due(job_name);
	pfree(count->name);
	hash_search(counted, &hash, HASH_REMOVE, NULL);
}

/* --- once a day, all jobs --- */

static void
make_tuple_due(HeapTuple tuple, void *arg)
{
	JanitorJob *job = janitor_job_from_tuple(tuple);

	make_due(job->name);
}

static void
begin_daily_round(void)
{
	MemoryContext caller = MemoryContextSwitchTo(prune_context);

	janitor_begin();
	janitor_definition_scan(make_tuple_due, NULL);
	janitor_commit(true);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(prune_context);
}

/* --- one job --- */

typedef struct Prune
{
	const JanitorJob *job;
	TimestampTz oldest;			/* rows that ended before may go */
	int			rank;			/* of the row at hand, newest = 1 */
	bool		success_seen;
	bool		failure_seen;
	JanitorExecution *beyond;
	int			count;
} Prune;

/* Is this the newest of its kind?  Remembers that it has been seen. */
static bool
is_newest_of_kind(Prune *prune, const JanitorExecution *execution)
{
	bool	   *seen;

	if (execution->status == JANITOR_SUCCEEDED)
		seen = &prune->success_seen;
	else if (execution->status == JANITOR_SKIPPED)
		return false;
	else
		seen = &prune->failure_seen;
	if (*seen)
		return false;
	*seen = true;
	return true;
}

static bool
visit(JanitorExecution *execution, void *arg)
{
	Prune	   *prune = arg;

	prune->rank++;
	if (execution->status == JANITOR_RUNNING ||
		is_newest_of_kind(prune, execution) || prune->rank <= ALWAYS_KEPT)
		return true;
	if (prune->rank > prune->job->keep_runs ||
		execution->completed_at < prune->oldest)
		prune->beyond[prune->count++] = *execution;
	return prune->count < DELETED_AT_ONCE;
}

/* One transaction; true: there may be more. */
static bool
prune_some(const char *job_name)
{
	Prune		prune;

	MemSet(&prune, 0, sizeof(prune));
	janitor_begin();
	prune.job = janitor_job_load(job_name);
	if (prune.job != NULL && janitor_job_disarmed(prune.job) == NULL)
	{
		prune.oldest = GetCurrentTimestamp() - prune.job->keep_history;
		prune.beyond = palloc(DELETED_AT_ONCE * sizeof(JanitorExecution));
		janitor_execution_scan(job_name, visit, &prune);
		for (int i = 0; i < prune.count; i++)
			janitor_execution_delete(&prune.beyond[i]);
	}
	janitor_commit(true);
	return prune.count == DELETED_AT_ONCE;
}

bool
janitor_history_prune(void)
{
	MemoryContext caller;
	char	   *job_name;

	init();
	if (due == NIL)
	{
		if (!janitor_take_daily_round())
			return false;
		begin_daily_round();
		return due != NIL;
	}
	MemoryContextReset(prune_context);
	caller = MemoryContextSwitchTo(prune_context);

	/* off the list first: should it fail, the next one is not kept waiting */
	job_name = pstrdup(llast(due));
	pfree(llast(due));
	due = list_delete_last(due);
	if (prune_some(job_name))
		make_due(job_name);
	MemoryContextSwitchTo(caller);
	return due != NIL;
}
