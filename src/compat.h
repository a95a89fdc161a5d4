/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  The differences between PostgreSQL 15, 16, 17 and 18, in one place.
 *
 * Code elsewhere is written against the newest signature; this file gives the
 * older majors the same.  Each entry names the major whose arrival as the
 * oldest supported one makes it deletable.  PG_VERSION_NUM appears in no
 * other file.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_COMPAT_H
#define JANITOR_COMPAT_H

#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/slot.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

/*
 * Where the server was built with ICU this header wants ICU's, which whoever
 * builds an extension need not have.  We read fields that come before those
 * that depend on it.
 */
#pragma push_macro("USE_ICU")
#undef USE_ICU
#include "utils/pg_locale.h"
#pragma pop_macro("USE_ICU")

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pg_janitor supports PostgreSQL 15 to 18"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Workers may run for a role without LOGIN.  Deletable at 17. */
#ifdef BGWORKER_BYPASS_ROLELOGINCHECK
#define JANITOR_BYPASS_LOGIN BGWORKER_BYPASS_ROLELOGINCHECK
#define JANITOR_NEEDS_LOGIN false
#else
#define JANITOR_BYPASS_LOGIN 0
#define JANITOR_NEEDS_LOGIN true
#endif

/* May the first role act as the second?  Deletable at 16. */
static inline bool
janitor_can_act_for(Oid member, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return member_can_set_role(member, role);
#else
	return is_member_of_role(member, role);
#endif
}

/* ACL check of one database for one role.  Deletable at 16. */
static inline AclResult
janitor_database_aclcheck(Oid database, Oid role, AclMode mode)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(DatabaseRelationId, database, role, mode);
#else
	return pg_database_aclcheck(database, role, mode);
#endif
}

/* Functions that do not return, marked in front.  Deletable at 18. */
#ifndef pg_noreturn
#define pg_noreturn __attribute__((noreturn))
#endif

/* Deletable at 16. */
static inline bool
janitor_owns_database(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, role);
#else
	return pg_database_ownercheck(database, role);
#endif
}

/* Deletable at 16. */
static inline bool
janitor_owns_relation(Oid relid, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, role);
#else
	return pg_class_ownercheck(relid, role);
#endif
}

/* PortalRun without its run_once argument.  Deletable at 18. */
static inline bool
janitor_portal_run(Portal portal, long count, bool top_level,
				   DestReceiver *dest, DestReceiver *altdest,
				   QueryCompletion *completion)
{
#if PG_VERSION_NUM >= 180000
	return PortalRun(portal, count, top_level, dest, altdest, completion);
#else
	return PortalRun(portal, count, top_level, true, dest, altdest,
					 completion);
#endif
}

/* Does the slot still hold back anything?  Under its mutex.  Deletable at 16. */
static inline bool
janitor_slot_is_valid(const ReplicationSlot *slot)
{
#if PG_VERSION_NUM >= 160000
	return slot->data.invalidated == RS_INVAL_NONE;
#else
	return XLogRecPtrIsInvalid(slot->data.invalidated_at);
#endif
}

/* Position of this process in the array of all processes.  Deletable at 17. */
static inline int
janitor_my_proc_number(void)
{
#if PG_VERSION_NUM >= 170000
	return (int) MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

static inline PGPROC *
janitor_proc(int proc_number)
{
	return &ProcGlobal->allProcs[proc_number];
}

/* Number of the current transaction among this process's.  Deletable at 17. */
static inline LocalTransactionId
janitor_my_lxid(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* May this role call this function?  Deletable at 16. */
static inline AclResult
janitor_function_aclcheck(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE);
#endif
}

/* Empties one table, which the caller has locked.  Deletable at 16. */
static inline void
janitor_truncate(Relation rel)
{
	List	   *rels = list_make1(rel);
	List	   *oids = list_make1_oid(RelationGetRelid(rel));

#if PG_VERSION_NUM >= 160000
	ExecuteTruncateGuts(rels, oids, NIL, DROP_RESTRICT, false, false);
#else
	ExecuteTruncateGuts(rels, oids, NIL, DROP_RESTRICT, false);
#endif
}

/* The main loop's housekeeping.  Deletable at 18. */
#if PG_VERSION_NUM < 180000
#define ProcessMainLoopInterrupts() HandleMainLoopInterrupts()
#endif

/* A wait event of our own name.  Deletable at 17. */
static inline uint32
janitor_new_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* Has a statement RETURNING?  Deletable at 18. */
#if PG_VERSION_NUM >= 180000
#define janitor_has_returning(stmt) ((stmt)->returningClause != NULL)
#else
#define janitor_has_returning(stmt) ((stmt)->returningList != NIL)
#endif

/* Does this collation compare byte by byte?  Deletable at 18. */
static inline bool
janitor_collation_is_c(Oid collation)
{
#if PG_VERSION_NUM >= 180000
	return pg_newlocale_from_collation(collation)->collate_is_c;
#else
	return lc_collate_is_c(collation);
#endif
}

/* Deletable at 16. */
static inline bool
janitor_may_use_schema(Oid schema, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, role,
						   ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/* Module magic with a version.  Deletable at 18. */
#ifdef PG_MODULE_MAGIC_EXT
#define JANITOR_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "pg_janitor", .version = "1.0")
#else
#define JANITOR_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* The file of a relation: RelFileNode became RelFileLocator in 16. */
#if PG_VERSION_NUM >= 160000
#define janitor_relation_file(rel) ((rel)->rd_locator.relNumber)
#else
#define janitor_relation_file(rel) ((rel)->rd_node.relNode)
#endif

#endif							/* JANITOR_COMPAT_H */
