/*-------------------------------------------------------------------------
 *
 * ledger_catalog.c
 *	  Where our tables are: the extension, the OIDs of its relations; names
 *	  of things as the tables spell them.
 *
 * Runs in any process, inside a transaction, without locks on what it looks
 * up: opening a table checks it again (janitor_table_open).
 *
 * The OIDs are cached per process, the only state of the ledger that outlives
 * a transaction.  Nothing is cached while something is missing.  Relcache
 * invalidation, which comes for each relation that is created, dropped,
 * moved or rebuilt, by whomever, and again when that is rolled back, empties
 * the cache.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "ledger_internal.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Our relations by name; how many columns a table has, 0 if it is none. */
static const struct
{
	const char *name;
	int			columns;
}			relations[JANITOR_RELATIONS] =

{
	[JANITOR_DEFINITION] = {"job_definition", Natts_definition},
	[JANITOR_DEFINITION_PKEY] = {"job_definition_pkey", 0},
	[JANITOR_DEFINITION_RUN_AFTER] = {"job_definition_run_after_idx", 0},
	[JANITOR_QUEUE] = {"job_queue", Natts_queue},
	[JANITOR_QUEUE_PKEY] = {"job_queue_pkey", 0},
	[JANITOR_QUEUE_KEY] = {"job_queue_job_name_key", 0},
	[JANITOR_QUEUE_RUN_AT] = {"job_queue_run_at_idx", 0},
	[JANITOR_QUEUE_JOB_RUN_AT] = {"job_queue_job_name_run_at_idx", 0},
	[JANITOR_QUEUE_EXECUTION] = {"job_queue_execution_id_idx", 0},
	[JANITOR_QUEUE_SEQUENCE] = {"job_queue_id_seq", 0},
	[JANITOR_EXECUTION] = {"job_execution", Natts_execution},
	[JANITOR_EXECUTION_PKEY] = {"job_execution_pkey", 0},
	[JANITOR_EXECUTION_JOB] = {"job_execution_job_name_id_idx", 0},
	[JANITOR_EXECUTION_SEQUENCE] = {"job_execution_id_seq", 0},
	[JANITOR_COUNTER] = {"job_counter", Natts_counter},
	[JANITOR_COUNTER_PKEY] = {"job_counter_pkey", 0},
	[JANITOR_CHANGE] = {"job_change", Natts_change},
	[JANITOR_CHANGE_JOB] = {"job_change_job_name_id_idx", 0},
	[JANITOR_CHANGE_SEQUENCE] = {"job_change_id_seq", 0},
	[JANITOR_RULE] = {"job_rule", Natts_rule},
	[JANITOR_RULE_PKEY] = {"job_rule_pkey", 0},
	[JANITOR_CURSOR] = {"job_cursor", Natts_cursor},
	[JANITOR_CURSOR_PKEY] = {"job_cursor_pkey", 0},
	[JANITOR_CURSOR_JOB] = {"job_cursor_job_name_id_idx", 0},
	[JANITOR_CURSOR_SEQUENCE] = {"job_cursor_id_seq", 0},
	[JANITOR_HOLD] = {"job_hold", Natts_hold},
	[JANITOR_HOLD_PKEY] = {"job_hold_pkey", 0},
	[JANITOR_HOLD_SEQUENCE] = {"job_hold_id_seq", 0},
	[JANITOR_ITEM_FAILURE] = {"job_item_failure", Natts_item_failure},
	[JANITOR_ITEM_FAILURE_PKEY] = {"job_item_failure_pkey", 0},
	[JANITOR_LEASE] = {"job_lease", Natts_lease},
	[JANITOR_LEASE_PKEY] = {"job_lease_pkey", 0},
	[JANITOR_LEASE_UNTIL] = {"job_lease_lease_until_idx", 0},
	[JANITOR_LEASE_JOB_KEY] = {"job_lease_job_name_key_idx", 0},
	[JANITOR_WORK] = {"job_work", Natts_work},
	[JANITOR_WORK_PKEY] = {"job_work_pkey", 0},
	[JANITOR_CIRCUIT] = {"job_circuit", Natts_circuit},
	[JANITOR_CIRCUIT_PKEY] = {"job_circuit_pkey", 0},
	[JANITOR_CIRCUIT_EVENT] = {"job_circuit_event", Natts_circuit_event},
	[JANITOR_CIRCUIT_EVENT_INDEX] = {"job_circuit_event_circuit_id_idx", 0},
	[JANITOR_CIRCUIT_EVENT_SEQUENCE] = {"job_circuit_event_id_seq", 0},
	[JANITOR_RATE_LIMIT] = {"job_rate_limit", Natts_rate_limit},
	[JANITOR_RATE_LIMIT_PKEY] = {"job_rate_limit_pkey", 0},
	[JANITOR_RATE_LIMIT_JOB] = {"job_rate_limit_job_name_id_idx", 0},
	[JANITOR_RATE_LIMIT_SEQUENCE] = {"job_rate_limit_id_seq", 0},
	[JANITOR_RATE_HIT] = {"job_rate_hit", Natts_rate_hit},
	[JANITOR_RATE_HIT_INDEX] = {"job_rate_hit_limit_id_value_at_idx", 0},
	[JANITOR_MASK_KEY] = {"job_mask_key", Natts_mask_key},
	[JANITOR_MASK_KEY_PKEY] = {"job_mask_key_pkey", 0},
	[JANITOR_MASK_SECRET] = {"job_mask_secret", Natts_mask_secret},
	[JANITOR_MASK_SECRET_PKEY] = {"job_mask_secret_pkey", 0},
	[JANITOR_RECEIPT] = {"job_receipt", Natts_receipt},
	[JANITOR_RECEIPT_PKEY] = {"job_receipt_pkey", 0},
	[JANITOR_REPLAY] = {"job_replay", Natts_replay},
	[JANITOR_REPLAY_PKEY] = {"job_replay_pkey", 0},
	[JANITOR_REPLAY_SEQUENCE] = {"job_replay_id_seq", 0},
	[JANITOR_HOME] = {"job_home", 0},
};

/*
 * What was found of the extension.  `valid` only when everything is there and
 * of our version, and no invalidation came in while we looked.
 */
typedef struct JanitorCatalog
{
	bool		valid;
	Oid			schema;
	Oid			oids[JANITOR_RELATIONS];
	int64		home;			/* 0: not read yet */
} JanitorCatalog;

static JanitorCatalog catalog;
static bool callback_registered = false;
static bool lookup_disturbed = false;

/* ------------------------------------------------------------------------
 * The extension and its relations
 * ------------------------------------------------------------------------
 */

/*
 * Relcache invalidation.  Also called in the middle of anything, so flags
 * only.  InvalidOid means every relation.
 */
static void
forget_catalog(Datum arg, Oid relid)
{
	if (!catalog.valid || relid == InvalidOid)
	{
		lookup_disturbed = true;
		catalog.valid = false;
		return;
	}
	for (int i = 0; i < JANITOR_RELATIONS; i++)
	{
		if (catalog.oids[i] == relid)
			catalog.valid = false;
	}
}

/* There are few callback slots in a process, and none is given back. */
static void
register_callback(void)
{
	if (!callback_registered)
		CacheRegisterRelcacheCallback(forget_catalog, (Datum) 0);
	callback_registered = true;
}

/*
 * Our row in pg_extension: its schema, and its version (palloc'd) unless
 * `version` is NULL.  InvalidOid if there is none.
 */
static Oid
find_extension(char **version)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	Oid			schema = InvalidOid;

	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(JANITOR_EXTENSION_NAME));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
		if (version)
		{
			bool		isnull;

			*version = TextDatumGetCString(heap_getattr(tuple,
														Anum_pg_extension_extversion,
														RelationGetDescr(rel),
														&isnull));
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return schema;
}

/* Looks all relations up; the name of one that is missing, or NULL. */
static const char *
find_relations(Oid schema, Oid *oids)
{
	for (int i = 0; i < JANITOR_RELATIONS; i++)
	{
		oids[i] = get_relname_relid(relations[i].name, schema);
		if (!OidIsValid(oids[i]))
			return relations[i].name;
	}
	return NULL;
}

static void
error_no_extension(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("extension \"%s\" is not installed in this database",
					JANITOR_EXTENSION_NAME),
			 errhint("Run CREATE EXTENSION %s.", JANITOR_EXTENSION_NAME)));
}

bool
janitor_version_precedes(const char *version, const char *other)
{
	int			a[2] = {0, 0};
	int			b[2] = {0, 0};

	(void) sscanf(version, "%d.%d", &a[0], &a[1]);
	(void) sscanf(other, "%d.%d", &b[0], &b[1]);
	return a[0] != b[0] ? a[0] < b[0] : a[1] < b[1];
}

static const char *
version_hint(const char *version)
{
	if (janitor_version_precedes(JANITOR_EXTENSION_VERSION, version))
		return "Install the library of that version, and restart the server.";
	return "Run ALTER EXTENSION pg_janitor UPDATE.";
}

static void
check_version(const char *version)
{
	if (strcmp(version, JANITOR_EXTENSION_VERSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s library is version \"%s\" but the extension in this database is version \"%s\"",
						JANITOR_EXTENSION_NAME, JANITOR_EXTENSION_VERSION,
						version),
				 errhint("%s", version_hint(version))));
}

/*
 * Fills the cache or raises an error.  What an invalidation overtook is good
 * for this call (opening the table checks it again) but not kept.
 */
static void
fill_catalog(void)
{
	char	   *version = NULL;
	const char *missing;

	Assert(IsTransactionState());
	register_callback();
	catalog.valid = false;
	catalog.home = 0;
	lookup_disturbed = false;

	catalog.schema = find_extension(&version);
	if (!OidIsValid(catalog.schema))
		error_no_extension();
	check_version(version);
	pfree(version);

	missing = find_relations(catalog.schema, catalog.oids);
	if (missing)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" of extension \"%s\" does not exist",
						missing, JANITOR_EXTENSION_NAME),
				 errhint("Create the extension again.")));
	catalog.valid = !lookup_disturbed;
}

bool
janitor_extension_exists(void)
{
	char	   *version = NULL;
	Oid			schema;
	Oid			oids[JANITOR_RELATIONS];

	if (catalog.valid)
		return true;
	schema = find_extension(&version);
	return OidIsValid(schema) &&
		strcmp(version, JANITOR_EXTENSION_VERSION) == 0 &&
		find_relations(schema, oids) == NULL;
}

Oid
janitor_extension_schema(void)
{
	if (!catalog.valid)
		fill_catalog();
	return catalog.schema;
}

Oid
janitor_relation(JanitorRelation which)
{
	if (!catalog.valid)
		fill_catalog();
	return catalog.oids[which];
}

char *
janitor_other_version(const char **hint)
{
	char	   *version = NULL;

	(void) find_extension(&version);
	if (version == NULL || strcmp(version, JANITOR_EXTENSION_VERSION) == 0)
		return NULL;
	*hint = version_hint(version);
	return version;
}

/* The one row of the sequence; its page is read like that of a table. */
static int64
read_home(Oid sequence)
{
	Relation	rel = relation_open(sequence, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0,
										  NULL);
	HeapTuple	tuple = systable_getnext(scan);
	int64		home;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "sequence of OID %u has no row", sequence);
	home = DatumGetInt64(heap_getattr(tuple, SEQ_COL_LASTVAL,
									  RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);
	return home;
}

/* It is set once and for all by CREATE EXTENSION. */
int64
janitor_home(void)
{
	Oid			sequence = janitor_relation(JANITOR_HOME);

	if (catalog.home == 0)
		catalog.home = read_home(sequence);
	return catalog.home;
}

/* What the cache says has been found out to be wrong. */
void
janitor_forget_catalog(void)
{
	catalog.valid = false;
}

/* How many columns one of our tables has. */
int
janitor_table_columns(JanitorRelation which)
{
	return relations[which].columns;
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static const char *const reason_names[] = {
	[JANITOR_REASON_SCHEDULE] = "schedule",
	[JANITOR_REASON_MANUAL] = "manual",
	[JANITOR_REASON_RETRY] = "retry",
	[JANITOR_REASON_STARTUP] = "startup",
	[JANITOR_REASON_AFTER] = "after",
	[JANITOR_REASON_FAILURE] = "failure",
	[JANITOR_REASON_REPLAY] = "replay",
};

static const char *const kind_names[] = {
	[JANITOR_KIND_SQL] = "sql",
	[JANITOR_KIND_RETENTION] = "retention",
	[JANITOR_KIND_ITEMS] = "items",
	[JANITOR_KIND_EXTERNAL] = "external",
};

static const char *const status_names[] = {
	[JANITOR_RUNNING] = "running",
	[JANITOR_SUCCEEDED] = "succeeded",
	[JANITOR_FAILED] = "failed",
	[JANITOR_TIMED_OUT] = "timed_out",
	[JANITOR_CANCELLED] = "cancelled",
	[JANITOR_INTERRUPTED] = "interrupted",
	[JANITOR_SKIPPED] = "skipped",
};

/* The columns have CHECK constraints: other names cannot happen. */
static int
name_position(const char *name, const char *const *names, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(name, names[i]) == 0)
			return i;
	}
	elog(ERROR, "unrecognized name \"%s\" in a table of %s",
		 name, JANITOR_EXTENSION_NAME);
	return -1;					/* keep compilers quiet */
}

const char *
janitor_reason_name(JanitorReason reason)
{
	return reason_names[reason];
}

JanitorReason
janitor_reason_from_name(const char *name)
{
	return (JanitorReason) name_position(name, reason_names,
										 lengthof(reason_names));
}

const char *
janitor_kind_name(JanitorKind kind)
{
	return kind_names[kind];
}

JanitorKind
janitor_kind_from_name(const char *name)
{
	return (JanitorKind) name_position(name, kind_names,
									   lengthof(kind_names));
}

const char *
janitor_status_name(JanitorStatus status)
{
	return status_names[status];
}

JanitorStatus
janitor_status_from_name(const char *name)
{
	return (JanitorStatus) name_position(name, status_names,
										 lengthof(status_names));
}
