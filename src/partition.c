/*-------------------------------------------------------------------------
 *
 * partition.c
 *	  Partitions that are expired as a whole: detached, counted, dropped.
 *
 * Runs in the worker of a run, connected as the job's owner, outside a
 * transaction; the slice of the partition in job_cursor is open.
 *
 * What is counted.  The rows of a partition are handled when they are gone
 * from the parent, and are counted in the transaction that finds them gone
 * for good, under an AccessExclusiveLock on the partition: count, removal
 * from the parent (or its completion), DROP if it is to be dropped at once,
 * and the slice's row in job_cursor commit together.  The count is that of
 * the rows there are at that moment, whoever has written them, so that
 * nothing is counted twice and nothing is missed, whatever comes between.
 *
 * How.  ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY is two
 * transactions.  Ours begins before the first, takes the locks of holds,
 * looks at everything again, and writes into the slice that the detach has
 * begun (position: the partition's OID).  The first commits: from now on the
 * partition is pending, and new queries of the parent do not see it.  The
 * second waits for those that still do, completes the detach, and is left
 * open by the portal: count and record join it.
 *
 * Where there is a default partition the server refuses that.  Then a plain
 * DETACH, one transaction: the partition is locked against writers and
 * counted first, so that the parent is locked for an instant only.
 *
 * What can be left behind, by a crash, a lock that did not come in time, or a
 * DROP that failed:
 *
 *	attached		nothing has happened
 *	pending			position says that we began: FINALIZE, count and record,
 *					by the same run or the next.  Its rows are gone from the
 *					parent and not yet in any record
 *	not attached	position says that we began, and somebody else has
 *					finalized it: count and record
 *	recorded		done (dropped), or detached (to be dropped later)
 *
 * If a hold is placed while the partition is pending, or a view keeps it from
 * being dropped, it is detached and recorded, and stays; see
 * janitor_partitions_drop_detached().
 *
 * Waits are bounded by lock_timeout, which is set for the time of an attempt,
 * with the settings of transactions that the owner may have made otherwise:
 * the second transaction of a detach begins inside the server.  An attempt
 * that ends by a lock timeout, a deadlock or because the server refuses it as
 * things are is no error; all others are raised again.  After FATAL the next
 * run goes on.
 *
 * Memory: the caller's context, which outlives transactions.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "partition.h"

#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "query.h"
#include "run.h"
#include "run_sql.h"
#include "session.h"

/*
 * DETACH CONCURRENTLY queues up for locks that keep nobody from reading or
 * writing; a second more than deadlock_timeout, after which an autovacuum
 * gives way.  All others stand in everybody's way while they wait.
 */
#define CONCURRENT_LOCK_TIMEOUT "2s"
#define PLAIN_LOCK_TIMEOUT "100ms"
#define ATTEMPTS 3

typedef enum Attachment
{
	ATTACHED,
	PENDING,
	DETACHED,
	GONE
} Attachment;

/* One partition on its way out. */
typedef struct Detach
{
	const JanitorReadyRule *ready;
	Oid			leaf;
	JanitorHolds *holds;
	JanitorCursor *cursor;
	bool		drop;			/* at once, if nothing speaks against it */

	/* found out by look() */
	Attachment	attachment;
	Oid			parent;
	char	   *leaf_name;
	char	   *parent_name;
	bool		has_default;

	bool		refused;		/* an attempt found that it may not go */
} Detach;

/* --- attempts --- */

/* What an attempt depends on, and what it is otherwise. */
static const char *const pinned[] = {
	"lock_timeout", "default_transaction_isolation",
	"default_transaction_read_only", "default_transaction_deferrable"
};

static void
set_pinned(const char *const *values)
{
	for (int i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i], values[i], PGC_USERSET, PGC_S_SESSION);
}

static JanitorError *
attempt(void (*step) (void *arg), void *arg, const char *lock_timeout)
{
	const char *values[] = {lock_timeout, "read committed", "off", "off"};
	const char *before[lengthof(pinned)];
	JanitorError *error;

	for (int i = 0; i < lengthof(pinned); i++)
		before[i] = pstrdup(GetConfigOption(pinned[i], false, false));
	set_pinned(values);
	error = janitor_attempt(step, arg);
	set_pinned(before);
	if (error != NULL)
		janitor_run_rearm_timeout();
	return error;
}

/* May it go better another time, or another way? */
static bool
is_passing(const JanitorError *error)
{
	return error->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		error->sqlstate == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE ||
		error->sqlstate == ERRCODE_OBJECT_IN_USE;
}

/* Has somebody asked for the end of the run? */
static bool
is_end(const JanitorError *error)
{
	return error->sqlstate == ERRCODE_QUERY_CANCELED ||
		error->sqlstate == ERRCODE_ADMIN_SHUTDOWN;
}

/* --- looking --- */

static void
look(void *arg)
{
	Detach	   *detach = arg;

	janitor_begin();
	detach->parent = InvalidOid;
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(detach->leaf)))
		detach->attachment = GONE;
	else
	{
		detach->leaf_name = janitor_relation_name(detach->leaf);
		detach->attachment = DETACHED;
		if (get_rel_relispartition(detach->leaf))
		{
			detach->parent = get_partition_parent(detach->leaf, true);
			detach->parent_name = janitor_relation_name(detach->parent);
			detach->has_default =
				OidIsValid(get_default_partition_oid(detach->parent));
			detach->attachment =
				PartitionHasPendingDetach(detach->leaf) ? PENDING : ATTACHED;
		}
	}
	janitor_commit(true);
}

/* --- one transaction's work --- */

static int64
count_rows(const Detach *detach)
{
	Datum		count;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (!janitor_query_value(psprintf("SELECT pg_catalog.count(*) FROM %s",
									  detach->leaf_name),
							 0, NULL, NULL, &count))
		elog(ERROR, "could not count the rows of %s", detach->leaf_name);
	PopActiveSnapshot();
	return DatumGetInt64(count);
}

static Oid
file_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			file;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
	ReleaseSysCache(tuple);
	return file;
}

/*
 * Is a hold in force on a table that is no partition any more: on itself, or
 * on what it has been a part of?  If somebody is just placing one it counts.
 */
static bool
is_held(Oid table, JanitorHolds *former_holds, Oid former_parent)
{
	MemoryContext caller = MemoryContextSwitchTo(CurTransactionContext);
	JanitorHolds *own = janitor_holds_begin(table, true);

	MemoryContextSwitchTo(caller);
	if (!janitor_holds_lock(own) || !janitor_holds_lock(former_holds))
		return true;
	(void) janitor_holds_read(own);
	(void) janitor_holds_read(former_holds);
	return janitor_holds_condition(own, table) != NULL ||
		janitor_holds_condition(former_holds, former_parent) != NULL;
}

static bool
may_drop(const Detach *detach)
{
	Oid			parent = detach->parent;

	if (!detach->drop)
		return false;
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(parent)))
		parent = detach->ready->relid;
	if (!is_held(detach->leaf, detach->holds, parent))
		return true;
	ereport(LOG,
			(errmsg("job \"%s\" has detached the partition %s and keeps it: it is held",
					detach->cursor->job_name, detach->leaf_name)));
	return false;
}

/*
 * The partition is off, or will be when this transaction commits, and locked.
 * The caller's copy of the slice changes only when it has committed.
 */
static void
finish(Detach *detach, int64 count)
{
	JanitorCursor cursor = *detach->cursor;

	cursor.state = JANITOR_CURSOR_DETACHED;
	cursor.handled += count;
	cursor.relation = detach->leaf_name;
	cursor.relfilenode = file_of(detach->leaf);
	cursor.position = psprintf("%u", detach->leaf);
	cursor.worker = 0;
	if (may_drop(detach))
	{
		janitor_run_utility(psprintf("DROP TABLE %s", detach->leaf_name));
		cursor.state = JANITOR_CURSOR_DONE;
	}
	janitor_cursor_update(&cursor);
	janitor_commit_run(false);
	*detach->cursor = cursor;
}

/*
 * Under the locks of holds and of the partition: may it still go?  Everything
 * that was looked at when the run was planned may have changed.
 */
static bool
may_go(Detach *detach)
{
	bool		may;

	PushActiveSnapshot(GetTransactionSnapshot());
	may = janitor_holds_lock(detach->holds);
	if (may)
	{
		(void) janitor_holds_read(detach->holds);
		may = janitor_partition_is_expired(detach->ready, detach->leaf) &&
			janitor_partition_obstacle(detach->ready, detach->leaf,
									   detach->holds) == NULL;
	}
	PopActiveSnapshot();
	detach->refused = !may;
	return may;
}

/* Says in the slice that the detach has begun; commits with its beginning. */
static void
note_beginning(Detach *detach)
{
	JanitorCursor cursor = *detach->cursor;

	cursor.position = psprintf("%u", detach->leaf);
	janitor_cursor_update(&cursor);
}

static void
detach_concurrently(void *arg)
{
	Detach	   *detach = arg;

	janitor_begin_run();
	LockRelationOid(detach->parent, ShareUpdateExclusiveLock);
	LockRelationOid(detach->leaf, ShareUpdateExclusiveLock);
	if (!may_go(detach))
	{
		janitor_commit_run(true);
		return;
	}
	note_beginning(detach);
	janitor_run_utility(psprintf("ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY",
								 detach->parent_name, detach->leaf_name));
	finish(detach, count_rows(detach));
}

static void
detach_plainly(void *arg)
{
	Detach	   *detach = arg;
	int64		count;

	janitor_begin_run();
	LockRelationOid(detach->leaf, ShareRowExclusiveLock);
	if (!may_go(detach))
	{
		janitor_commit_run(true);
		return;
	}
	count = count_rows(detach);
	janitor_run_utility(psprintf("ALTER TABLE %s DETACH PARTITION %s",
								 detach->parent_name, detach->leaf_name));
	finish(detach, count);
}

/* Have we begun to detach this very table? */
static bool
has_begun(const Detach *detach)
{
	return detach->cursor->position != NULL &&
		strcmp(detach->cursor->position, psprintf("%u", detach->leaf)) == 0;
}

/* What others have begun is ours to end if the rule would have begun it. */
static void
finalize(void *arg)
{
	Detach	   *detach = arg;

	janitor_begin_run();
	if (!has_begun(detach) && !may_go(detach))
	{
		janitor_commit_run(true);
		return;
	}
	janitor_run_utility(psprintf("ALTER TABLE %s DETACH PARTITION %s FINALIZE",
								 detach->parent_name, detach->leaf_name));
	finish(detach, count_rows(detach));
}

/* Somebody else has finalized what we began. */
static void
record_only(void *arg)
{
	Detach	   *detach = arg;

	janitor_begin_run();
	LockRelationOid(detach->leaf, AccessExclusiveLock);
	detach->drop = false;
	finish(detach, count_rows(detach));
}

/*
 * Others have detached it before we began, or have dropped it: there is
 * nothing for us to count.
 */
static void
forget(void *arg)
{
	Detach	   *detach = arg;
	JanitorCursor cursor = *detach->cursor;

	if (has_begun(detach))
		ereport(LOG,
				(errmsg("the partition %s was dropped before job \"%s\" could count its rows",
						cursor.relation, cursor.job_name)));
	janitor_begin();
	cursor.state = JANITOR_CURSOR_DONE;
	cursor.worker = 0;
	janitor_cursor_update(&cursor);
	janitor_commit(false);
	*detach->cursor = cursor;
}

/* --- all together --- */

Oid
janitor_partition_find(const JanitorCursor *cursor)
{
	return cursor->position != NULL ?
		(Oid) strtoul(cursor->position, NULL, 10) :
		janitor_hold_relation_named(cursor->relation);
}

/* The next attempt, as things are; NULL: it is over. */
static JanitorError *
go_on(Detach *detach)
{
	switch (detach->attachment)
	{
		case ATTACHED:
			return detach->has_default ?
				attempt(detach_plainly, detach, PLAIN_LOCK_TIMEOUT) :
				attempt(detach_concurrently, detach, CONCURRENT_LOCK_TIMEOUT);
		case PENDING:
			return attempt(finalize, detach, CONCURRENT_LOCK_TIMEOUT);
		case DETACHED:
			if (has_begun(detach))
				return attempt(record_only, detach, CONCURRENT_LOCK_TIMEOUT);
			/* FALLTHROUGH */
		case GONE:
			return attempt(forget, detach, CONCURRENT_LOCK_TIMEOUT);
	}
	return NULL;				/* keep compilers quiet */
}

static void
look_again(Detach *detach)
{
	JanitorError *error = janitor_attempt(look, detach);

	if (error != NULL)
		janitor_rethrow(error);
}

bool
janitor_partition_detach(const JanitorReadyRule *ready, Oid leaf,
						 JanitorHolds *holds, JanitorCursor *cursor)
{
	Detach		detach = {ready, leaf, holds, cursor};
	int			attempts = 0;

	detach.drop = ready->rule->partitions == JANITOR_PARTITIONS_DROP;
	for (;;)
	{
		JanitorError *error;

		look_again(&detach);
		error = go_on(&detach);
		if (error == NULL)
			return !detach.refused;
		if (is_passing(error))
		{
			if (++attempts >= ATTEMPTS)
				break;
			continue;
		}
		if (is_end(error) || !detach.drop)
			janitor_rethrow(error);

		/* what speaks against DROP need not speak against DETACH */
		detach.drop = false;
		ereport(LOG,
				(errmsg("job \"%s\" could not drop the partition %s at once: %s",
						cursor->job_name, detach.leaf_name, error->message)));
	}

	look_again(&detach);
	if (detach.attachment == ATTACHED)
		return false;
	ereport(LOG,
			(errmsg("job \"%s\" leaves the partition %s pending: it could not be had in time",
					cursor->job_name, cursor->relation)));
	return true;
}

/* --- dropping what has been detached --- */

/* A partition that is to be dropped. */
typedef struct Drop
{
	const JanitorJob *job;
	const JanitorRule *rule;
	JanitorCursor *cursor;
	bool		dropped;
} Drop;

/*
 * Is it still the table that we have detached?  One that has another name,
 * another owner or another file, or is a partition again, somebody has taken
 * over.
 */
static bool
is_the_same(const JanitorCursor *cursor, Oid table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Form_pg_class form;
	bool		same;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	same = form->relkind == RELKIND_RELATION && !form->relispartition &&
		form->relowner == GetUserId() &&
		form->relfilenode == cursor->relfilenode &&
		strcmp(janitor_relation_name(table), cursor->relation) == 0;
	ReleaseSysCache(tuple);
	return same;
}

/* Holds on the relation of the rule count as before. */
static bool
is_held_now(const Drop *drop, Oid table)
{
	Oid			relation = janitor_relation_find(drop->rule->relation);

	return is_held(table, janitor_holds_begin(relation, true), relation);
}

static void
drop_one(void *arg)
{
	Drop	   *drop = arg;
	JanitorCursor cursor = *drop->cursor;
	Oid			table = janitor_partition_find(&cursor);

	janitor_begin();
	if (is_the_same(&cursor, table))
	{
		LockRelationOid(table, AccessExclusiveLock);
		drop->dropped = is_the_same(&cursor, table);
		if (drop->dropped && is_held_now(drop, table))
		{
			drop->dropped = false;
			janitor_commit(true);
			return;
		}
	}
	if (drop->dropped)
	{
		JanitorQuery *query =
		janitor_query_prepare(psprintf("DROP TABLE %s", cursor.relation),
							  0, NULL);

		(void) janitor_query_execute(query, NULL, NULL);
		janitor_query_free(query);
	}
	cursor.state = JANITOR_CURSOR_DONE;
	janitor_cursor_update(&cursor);
	janitor_commit(false);
}

/* What janitor_cursor_scan() finds: the slices whose time has come. */
typedef struct Due
{
	List	   *rules;
	TimestampTz now;
	List	   *cursors;		/* of JanitorCursor * */
	List	   *cursor_rules;	/* of JanitorRule *, likewise */
} Due;

static const JanitorRule *
rule_named(List *rules, const char *name)
{
	ListCell   *cell;

	foreach(cell, rules)
	{
		const JanitorRule *rule = lfirst(cell);

		if (strcmp(rule->name, name) == 0)
			return rule;
	}
	return NULL;
}

static bool
note_due(JanitorCursor *cursor, void *arg)
{
	Due		   *due = arg;
	const JanitorRule *rule = rule_named(due->rules, cursor->rule);
	JanitorCursor *copy;

	if (cursor->state != JANITOR_CURSOR_DETACHED || rule == NULL)
		return true;
	if (rule->partitions != JANITOR_PARTITIONS_DROP &&
		due->now - cursor->updated_at < rule->drop_after)
		return true;
	copy = palloc(sizeof(JanitorCursor));
	*copy = *cursor;
	due->cursors = lappend(due->cursors, copy);
	due->cursor_rules = lappend(due->cursor_rules, unconstify(JanitorRule *, rule));
	return true;
}

/* What janitor_attempt() calls, for a job's slices. */
typedef struct Find
{
	const JanitorJob *job;
	Due			due;
} Find;

static void
find_due(void *arg)
{
	Find	   *find = arg;

	janitor_begin();
	janitor_cursor_scan(find->job->name, note_due, &find->due);
	janitor_commit(true);
}

int
janitor_partitions_drop_detached(const JanitorJob *job, List *rules,
								 TimestampTz now)
{
	Find		find = {job, {rules, now}};
	JanitorError *error = janitor_attempt(find_due, &find);
	int			dropped = 0;
	ListCell   *cell;
	ListCell   *rule;

	if (error != NULL)
		janitor_rethrow(error);
	forboth(cell, find.due.cursors, rule, find.due.cursor_rules)
	{
		Drop		drop = {job, lfirst(rule), lfirst(cell)};

		error = attempt(drop_one, &drop, PLAIN_LOCK_TIMEOUT);
		if (error == NULL)
			dropped += drop.dropped;
		else if (is_end(error))
			janitor_rethrow(error);
		else
			ereport(LOG,
					(errmsg("job \"%s\" could not drop the detached partition %s: %s",
							job->name, drop.cursor->relation,
							error->message)));
	}
	return dropped;
}
