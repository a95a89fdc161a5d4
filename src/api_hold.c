/*-------------------------------------------------------------------------
 *
 * api_hold.c
 *	  SQL functions for legal holds: job_hold_place and job_hold_release.
 *
 * Run in the caller's backend and transaction.  A hold takes effect when that
 * commits; until then it has the lock of its relation (hold.c), which it gets
 * when the batches in progress have ended, and which keeps others from
 * beginning.
 *
 * Whoever may act for the owner of a relation may place and release its holds.
 * The predicate is analysed as that owner, in the caller's search_path, and
 * stored as the server writes it, with every name qualified: it means later
 * what it means now.
 *
 * In job_change a hold belongs to no job: the name is empty.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "hold.h"
#include "object.h"
#include "query.h"
#include "rule.h"
#include "session.h"

PG_FUNCTION_INFO_V1(job_hold_place);
PG_FUNCTION_INFO_V1(job_hold_release);

/* --- rights --- */

static bool
may_hold(Oid owner)
{
	return superuser() ||
		(OidIsValid(owner) && janitor_can_act_for(GetUserId(), owner));
}

static void
check_owner(Oid relid, const char *name)
{
	Oid			owner = janitor_relation_owner(relid);

	if (!may_hold(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", name),
				 OidIsValid(owner) ?
				 errhint("Only its owner \"%s\" and roles that can SET ROLE to it may place and release holds.",
						 GetUserNameFromId(owner, false)) : 0));
}

/* --- what a hold is on --- */

static void
check_kind(Oid relid, const char *name)
{
	char		kind = get_rel_relkind(relid);

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
		kind != RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a table", name)));
}

/*
 * The relation of that name, which the current user may hold, locked so that
 * it stays what it is.  Rights are looked at before the lock and after it.
 */
static Oid
relation_for_hold(const char *relation, char **name)
{
	Oid			relid;

	*name = janitor_relation_qualify(relation);
	relid = janitor_relation_find(*name);
	check_kind(relid, *name);
	check_owner(relid, *name);
	LockRelationOid(relid, AccessShareLock);
	if (janitor_relation_find(*name) != relid)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not place a hold on %s: it was replaced meanwhile",
						*name)));
	check_owner(relid, *name);
	return relid;
}

/* --- the predicate --- */

typedef struct Predicate
{
	const char *text;
	Oid			relid;
	const char *relation;
	const char *stored;
} Predicate;

static void
analyse_predicate(void *arg)
{
	Predicate  *predicate = arg;

	predicate->stored = janitor_rule_expression(predicate->text,
												predicate->relid, BOOLOID,
												"predicate");
}

/*
 * It is as valid as when a batch will read it, and its owner has the
 * privileges that it takes.  No row is looked at.
 */
static void
try_predicate(void *arg)
{
	Predicate  *predicate = arg;
	Datum		none;

	(void) janitor_query_value(psprintf("SELECT 1 FROM %s r WHERE (%s) IS TRUE LIMIT 0",
										predicate->relation,
										predicate->stored),
							   0, NULL, NULL, &none);
}

/* As it is stored; NULL: every row. */
static const char *
qualified_predicate(const char *text, Oid relid, const char *relation)
{
	Predicate	predicate = {text, relid, relation, NULL};
	Oid			owner = janitor_relation_owner(relid);

	if (text == NULL)
		return NULL;
	janitor_as_role(owner, namespace_search_path, NULL, analyse_predicate,
					&predicate);
	janitor_as_role(owner, NULL, NULL, try_predicate, &predicate);
	return predicate.stored;
}

/* --- the record --- */

static Jsonb *
hold_object(const JanitorHold *hold, bool released)
{
	JanitorObject object;

	janitor_object_begin(&object);
	janitor_object_number(&object, "id", hold->id);
	janitor_object_text(&object, "relation", hold->relation);
	janitor_object_text(&object, "predicate", hold->predicate);
	janitor_object_text(&object, "reason", hold->reason);
	if (!TIMESTAMP_IS_NOEND(hold->until))
		janitor_object_time(&object, "until", hold->until);
	janitor_object_text(&object, "placed_by", hold->placed_by);
	janitor_object_time(&object, "placed_at", hold->placed_at);
	if (released)
	{
		janitor_object_text(&object, "released_by", hold->released_by);
		janitor_object_time(&object, "released_at", hold->released_at);
	}
	return janitor_object_end(&object);
}

/*
 * job_hold_place(relation text, predicate text, reason text,
 * until timestamptz) returns bigint
 */
Datum
job_hold_place(PG_FUNCTION_ARGS)
{
	JanitorHold hold = {0};
	char	   *relation;
	char	   *predicate;

	janitor_prevent_misuse("job_hold_place()");
	relation = janitor_arg_text_required(fcinfo, 0, "relation");
	predicate = janitor_arg_text(fcinfo, 1);
	hold.reason = janitor_arg_text_required(fcinfo, 2, "reason");
	hold.until = PG_ARGISNULL(3) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(3);
	if (hold.reason[strspn(hold.reason, " \t\r\n")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"reason\" must not be empty"),
				 errhint("Say why these rows are held, such as the number of a case.")));
	if (hold.until <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"until\" must be in the future")));

	hold.relation_oid = relation_for_hold(relation, &hold.relation);
	hold.predicate = unconstify(char *,
								qualified_predicate(predicate,
													hold.relation_oid,
													hold.relation));
	hold.relation_owner =
		GetUserNameFromId(janitor_relation_owner(hold.relation_oid), false);
	hold.placed_by = janitor_session_user();
	janitor_hold_lock_exclusively(hold.relation_oid);
	(void) janitor_hold_insert(&hold);
	janitor_change_insert("", "hold", NULL, hold_object(&hold, false));
	PG_RETURN_INT64(hold.id);
}

/* --- releasing --- */

/*
 * Whose hold is it?  That of the owner of its relation, under its name or its
 * OID; if it is gone, of who owned it.
 */
static bool
may_release(const JanitorHold *hold)
{
	Oid			named = janitor_hold_relation_named(hold->relation);
	Oid			owner = janitor_relation_owner(named);
	Oid			former_owner = janitor_relation_owner(hold->relation_oid);

	if (OidIsValid(owner) || OidIsValid(former_owner))
		return may_hold(owner) || may_hold(former_owner);
	return may_hold(get_role_oid(hold->relation_owner, true));
}

/* The lock of every relation that it is in force on. */
static void
lock_relations_of(const JanitorHold *hold)
{
	Oid			named = janitor_hold_relation_named(hold->relation);

	if (OidIsValid(named))
		janitor_hold_lock_exclusively(named);
	if (hold->relation_oid != named && OidIsValid(hold->relation_oid))
		janitor_hold_lock_exclusively(hold->relation_oid);
}

/* job_hold_release(id bigint) returns void */
Datum
job_hold_release(PG_FUNCTION_ARGS)
{
	JanitorHold hold;
	Jsonb	   *before;
	int64		id;

	janitor_prevent_misuse("job_hold_release()");
	id = janitor_arg_int64_required(fcinfo, 0, "id");
	if (!janitor_hold_find(id, &hold) || !may_release(&hold))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("hold " INT64_FORMAT " does not exist", id)));
	before = hold_object(&hold, false);
	lock_relations_of(&hold);
	if (!janitor_hold_release(id, janitor_session_user(), &hold))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("hold " INT64_FORMAT " was released already", id),
				 errdetail("\"%s\" released it.", hold.released_by)));
	janitor_change_insert("", "release", before, hold_object(&hold, true));
	PG_RETURN_VOID();
}
