/*-------------------------------------------------------------------------
 *
 * api_grant.c
 *	  SQL functions that hand out rights: job_grant, job_revoke.
 *
 * A capability is a set of ordinary privileges, granted as the caller would
 * with GRANT: EXECUTE on functions, USAGE on the schema and, to observe,
 * SELECT on the tables.  Each of observe, operate and define contains what
 * the jobs' users need to look around; define contains operate.  To work is
 * granted on one job: the functions of workers look that up in job_work.
 *
 * Nothing else records a capability.  So what is revoked is what no other
 * capability that the role seems to hold, by its privileges, contains.
 *
 * The statements are built as parse trees and carried out by the server's own
 * code, which checks that the caller may grant what it grants: no name passes
 * through text or search_path.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "session.h"

PG_FUNCTION_INFO_V1(job_grant);
PG_FUNCTION_INFO_V1(job_revoke);

typedef enum Capability
{
	OBSERVE = 1,
	OPERATE = 2,
	DEFINE = 4,
	WORK = 8
} Capability;

/* Which capabilities contain a function. */
static const struct
{
	const char *function;
	int			capabilities;
}			functions[] = {
	{"job_next_runs", OBSERVE | OPERATE | DEFINE},
	{"job_logs", OBSERVE | OPERATE | DEFINE},
	{"job_why", OBSERVE | OPERATE | DEFINE},
	{"job_preview", OPERATE | DEFINE},
	{"job_wait", OBSERVE | OPERATE | DEFINE},
	{"job_trigger", OPERATE | DEFINE},
	{"job_run", OPERATE | DEFINE},
	{"job_retry", OPERATE | DEFINE},
	{"job_retry_items", OPERATE | DEFINE},
	{"job_cancel", OPERATE | DEFINE},
	{"job_pause", OPERATE | DEFINE},
	{"job_resume", OPERATE | DEFINE},
	{"job_schedule", DEFINE},
	{"job_schedule_retention", DEFINE},
	{"job_schedule_items", DEFINE},
	{"job_set_rule", DEFINE},
	{"job_drop_rule", DEFINE},
	{"job_erasure_gaps", OBSERVE | OPERATE | DEFINE},
	{"job_propose_erasure", DEFINE},
	{"job_receipt_verify", OBSERVE | OPERATE | DEFINE},
	{"job_receipt_find", OPERATE | DEFINE},
	{"job_erasure_replay", OPERATE | DEFINE},
	{"job_alter", DEFINE},
	{"job_enable", DEFINE},
	{"job_disable", DEFINE},
	{"job_unschedule", DEFINE},
	{"job_rearm", DEFINE},
	{"job_hold_place", DEFINE},
	{"job_hold_release", DEFINE},
	{"job_schedule_external", DEFINE},
	{"job_set_circuit", DEFINE},
	{"job_drop_circuit", DEFINE},
	{"job_set_rate_limit", DEFINE},
	{"job_drop_rate_limit", DEFINE},
	{"job_claim", WORK | DEFINE},
	{"job_extend", WORK | DEFINE},
	{"job_finish", WORK | DEFINE},
	{"job_circuit_allows", WORK | OPERATE | DEFINE},
	{"job_circuit_report", WORK | OPERATE | DEFINE},
	{"job_rate_limit_wait", WORK | OBSERVE | OPERATE | DEFINE},
	{"job_mask_create_key", DEFINE},
	{"job_mask_forget_key", DEFINE}
};

static const JanitorRelation tables[] = {
	JANITOR_DEFINITION, JANITOR_QUEUE, JANITOR_EXECUTION, JANITOR_COUNTER,
	JANITOR_CHANGE,
	JANITOR_RULE, JANITOR_HOLD, JANITOR_CURSOR, JANITOR_ITEM_FAILURE,
	JANITOR_CIRCUIT, JANITOR_CIRCUIT_EVENT, JANITOR_RATE_LIMIT, JANITOR_WORK,
	JANITOR_MASK_KEY, JANITOR_RECEIPT, JANITOR_REPLAY
};

static Capability
capability_from_name(const char *name)
{
	if (strcmp(name, "define") == 0)
		return DEFINE;
	if (strcmp(name, "operate") == 0)
		return OPERATE;
	if (strcmp(name, "observe") == 0)
		return OBSERVE;
	if (strcmp(name, "work") == 0)
		return WORK;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown capability \"%s\"", name),
			 errhint("Valid values are \"define\", \"operate\", \"observe\" and \"work\".")));
	return 0;
}

/* schema.name, as a parse tree has it */
static List *
qualified(const char *name)
{
	char	   *schema = get_namespace_name(janitor_extension_schema());

	return list_make2(makeString(schema), makeString(pstrdup(name)));
}

/* A function of ours by its signature. */
static ObjectWithArgs *
function_object(Form_pg_proc proc)
{
	ObjectWithArgs *object = makeNode(ObjectWithArgs);

	object->objname = qualified(NameStr(proc->proname));
	for (int i = 0; i < proc->pronargs; i++)
		object->objargs = lappend(object->objargs,
								  makeTypeNameFromOid(proc->proargtypes.values[i],
													  -1));
	return object;
}

/* Every signature of a function, as far as it is the extension's own. */
static List *
function_objects(const char *name)
{
	Oid			schema = janitor_extension_schema();
	Oid			extension = get_extension_oid(JANITOR_EXTENSION_NAME, false);
	CatCList   *found = SearchSysCacheList1(PROCNAMEARGSNSP,
											CStringGetDatum(name));
	List	   *objects = NIL;

	for (int i = 0; i < found->n_members; i++)
	{
		HeapTuple	tuple = &found->members[i]->tuple;
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);

		if (proc->pronamespace == schema &&
			getExtensionOfObject(ProcedureRelationId, proc->oid) == extension)
			objects = lappend(objects, function_object(proc));
	}
	ReleaseSysCacheList(found);
	return objects;
}

/* The functions of a capability that none of some others contains. */
static List *
capability_functions(Capability capability, int others)
{
	List	   *objects = NIL;

	for (int i = 0; i < lengthof(functions); i++)
		if ((functions[i].capabilities & capability) &&
			!(functions[i].capabilities & others))
			objects = list_concat(objects,
								  function_objects(functions[i].function));
	return objects;
}

static List *
table_objects(void)
{
	List	   *objects = NIL;
	char	   *schema = get_namespace_name(janitor_extension_schema());

	for (int i = 0; i < lengthof(tables); i++)
		objects = lappend(objects,
						  makeRangeVar(schema,
									   get_rel_name(janitor_relation(tables[i])),
									   -1));
	return objects;
}

/* GRANT privilege ON objects TO role, or REVOKE. */
static void
grant_or_revoke(bool grant, const char *role, const char *privilege,
				ObjectType type, List *objects)
{
	GrantStmt  *statement = makeNode(GrantStmt);
	AccessPriv *access = makeNode(AccessPriv);
	RoleSpec   *grantee = makeNode(RoleSpec);

	access->priv_name = pstrdup(privilege);
	grantee->roletype = ROLESPEC_CSTRING;
	grantee->rolename = pstrdup(role);
	grantee->location = -1;

	statement->is_grant = grant;
	statement->targtype = ACL_TARGET_OBJECT;
	statement->objtype = type;
	statement->objects = objects;
	statement->privileges = list_make1(access);
	statement->grantees = list_make1(grantee);
	statement->behavior = DROP_RESTRICT;
	ExecuteGrantStmt(statement);
}

/* Has the role itself this privilege? */
static bool
is_granted(int cache, Oid object, AttrNumber column, Oid role, AclMode mode)
{
	HeapTuple	tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));
	bool		isnull;
	Datum		datum;
	bool		granted = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	datum = SysCacheGetAttr(cache, tuple, column, &isnull);
	if (!isnull)
	{
		Acl		   *acl = DatumGetAclP(datum);

		for (int i = 0; i < ACL_NUM(acl); i++)
			granted = granted || (ACL_DAT(acl)[i].ai_grantee == role &&
								  (ACL_DAT(acl)[i].ai_privs & mode));
	}
	ReleaseSysCache(tuple);
	return granted;
}

static bool
may_call(Oid role, const char *function)
{
	Oid			oid = LookupFuncWithArgs(OBJECT_ROUTINE,
										 linitial(function_objects(function)),
										 false);

	return is_granted(PROCOID, oid, Anum_pg_proc_proacl, role, ACL_EXECUTE);
}

/*
 * The capabilities that a role holds besides one.  Of who may define it cannot
 * be told whether operate was granted as well.
 */
static int
other_capabilities(const char *role_name, Capability capability)
{
	Oid			role = get_role_oid(role_name, false);
	int			held = 0;

	if (may_call(role, "job_alter"))
		held |= DEFINE;
	if (may_call(role, "job_trigger") && capability != DEFINE)
		held |= OPERATE;
	if (is_granted(RELOID, janitor_relation(JANITOR_DEFINITION),
				   Anum_pg_class_relacl, role, ACL_SELECT))
		held |= OBSERVE;
	if (janitor_work_any(role_name))
		held |= WORK;
	return held & ~capability;
}

/*
 * The right to work on one job is a row of its own.  true: with it comes, or
 * goes, the right to call the functions of workers.
 */
static bool
change_work(bool grant, const char *role, char *job_name)
{
	JanitorJob *job;

	if (job_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("capability \"work\" needs the name of an external job")));
	job = janitor_job_for_change(job_name);
	if (job->kind != JANITOR_KIND_EXTERNAL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("job \"%s\" is not an external job", job->name)));
	(void) janitor_work_delete(job->name, role);
	if (grant)
		janitor_work_insert(job->name, role, get_role_oid(role, false));
	return grant || !janitor_work_any(role);
}

static void
change_capability(FunctionCallInfo fcinfo, bool grant)
{
	char	   *role = janitor_arg_text_required(fcinfo, 0, "role");
	char	   *name = janitor_arg_text_required(fcinfo, 1, "capability");
	char	   *job_name = janitor_arg_text(fcinfo, 2);
	Capability	capability = capability_from_name(name);
	char	   *schema = get_namespace_name(janitor_extension_schema());
	int			others;

	if (capability == WORK && !change_work(grant, role, job_name))
		return;
	if (capability != WORK && job_name != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("capability \"%s\" is for all jobs, not for one",
						name),
				 errhint("Only \"work\" is granted on a job.")));

	others = grant ? 0 : other_capabilities(role, capability);
	if (others == 0)
		grant_or_revoke(grant, role, "usage", OBJECT_SCHEMA,
						list_make1(makeString(schema)));
	grant_or_revoke(grant, role, "execute", OBJECT_ROUTINE,
					capability_functions(capability, others));
	if (capability == OBSERVE)
		grant_or_revoke(grant, role, "select", OBJECT_TABLE,
						table_objects());
}

/* job_grant(role text, capability text, job_name text) returns void */
Datum
job_grant(PG_FUNCTION_ARGS)
{
	janitor_prevent_misuse("job_grant()");
	change_capability(fcinfo, true);
	PG_RETURN_VOID();
}

/* job_revoke(role text, capability text, job_name text) returns void */
Datum
job_revoke(PG_FUNCTION_ARGS)
{
	janitor_prevent_misuse("job_revoke()");
	change_capability(fcinfo, false);
	PG_RETURN_VOID();
}
