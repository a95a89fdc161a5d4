/*-------------------------------------------------------------------------
 *
 * api_coverage.c
 *	  SQL functions about what no rule erases: job_erasure_gaps,
 *	  job_propose_erasure, job_erasure_warning, job_erasure_watch.
 *
 * They read the catalogs and the rules of jobs that the caller may see, and
 * change nothing.  The last but one is for the view job_status, the last for
 * an event trigger.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "coverage.h"
#include "query.h"
#include "rule.h"
#include "session.h"

PG_FUNCTION_INFO_V1(job_erasure_gaps);
PG_FUNCTION_INFO_V1(job_propose_erasure);
PG_FUNCTION_INFO_V1(job_erasure_warning);
PG_FUNCTION_INFO_V1(job_erasure_watch);

/* Columns of job_erasure_gaps(). */
#define GAP_COLUMNS 6

/* --- job_erasure_gaps, job_propose_erasure --- */

static Oid
subject_argument(FunctionCallInfo fcinfo)
{
	char	   *name = janitor_arg_text_required(fcinfo, 0, "relation");

	return janitor_relation_find(janitor_relation_qualify(name));
}

static Datum
text_array(const List *texts)
{
	Datum	   *elements = palloc(list_length(texts) * sizeof(Datum));
	ListCell   *cell;

	foreach(cell, texts)
		elements[foreach_current_index(cell)] =
		CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(elements, list_length(texts),
										   TEXTOID, -1, false, TYPALIGN_INT));
}

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text != NULL)
		values[column] = CStringGetTextDatum(text);
}

static void
put_gap(ReturnSetInfo *result, const JanitorGap *gap)
{
	Datum		values[GAP_COLUMNS] = {0};
	bool		nulls[GAP_COLUMNS] = {false};

	set_text(values, nulls, 0, gap->relation);
	values[1] = text_array(gap->columns);
	set_text(values, nulls, 2, gap->path);
	set_text(values, nulls, 3, gap->reason);
	set_text(values, nulls, 4, gap->covered_by);
	set_text(values, nulls, 5, gap->proposal);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static JanitorJob *
items_job(const char *job_name)
{
	JanitorJob *job = janitor_job_require(job_name);

	if (job->kind != JANITOR_KIND_ITEMS)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("job \"%s\" is of kind \"%s\" and has no subjects",
						job->name, janitor_kind_name(job->kind)),
				 errhint("People are erased by jobs of kind \"items\".")));
	return job;
}

/*
 * job_erasure_gaps(relation text, job_name text, include_covered boolean)
 * returns table (relation text, columns text[], path text, reason text,
 * covered_by text, proposed_rule text)
 */
Datum
job_erasure_gaps(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			subject = subject_argument(fcinfo);
	char	   *job_name = janitor_arg_text(fcinfo, 1);
	JanitorJob *job = job_name ? items_job(job_name) : NULL;
	bool		all = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, janitor_coverage_gaps(subject, job, all))
		put_gap(result, lfirst(cell));
	return (Datum) 0;
}

/* job_propose_erasure(relation text, job_name text) returns setof text */
Datum
job_propose_erasure(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	foreach(cell, janitor_coverage_draft(subject_argument(fcinfo),
										 janitor_arg_text(fcinfo, 1)))
	{
		Datum		value = CStringGetTextDatum(lfirst(cell));
		bool		isnull = false;

		tuplestore_putvalues(result->setResult, result->setDesc, &value,
							 &isnull);
	}
	return (Datum) 0;
}

/* --- job_erasure_warning --- */

/* What a job that erases people leaves, in a line; NULL: nothing. */
static char *
describe_gaps(const List *gaps)
{
	const JanitorGap *first;
	int			count = list_length(gaps);

	if (count == 0)
		return NULL;
	first = linitial(gaps);
	return count == 1 ?
		psprintf("no rule covers %s", first->relation) :
		psprintf("no rule covers %s and %d more", first->relation, count - 1);
}

/* Whom the job erases; InvalidOid: nobody, or it cannot be told. */
static Oid
erased_subject(const JanitorJob *job)
{
	return janitor_coverage_erases(job) ? janitor_coverage_subject(job) :
		InvalidOid;
}

/*
 * job_erasure_warning(job_name text) returns text
 *
 * Answers for jobs that the caller may see.
 */
Datum
job_erasure_warning(PG_FUNCTION_ARGS)
{
	char	   *job_name = janitor_arg_text(fcinfo, 0);
	JanitorJob *job = job_name ? janitor_job_load(job_name) : NULL;
	Oid			subject = job != NULL && janitor_job_visible(job) ?
	erased_subject(job) : InvalidOid;
	char	   *text = NULL;

	if (OidIsValid(subject))
		text = describe_gaps(janitor_coverage_gaps(subject, job, false));
	if (text == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s; SELECT * FROM job_erasure_gaps(%s, %s);",
											  text,
											  quote_literal_cstr(janitor_relation_name(subject)),
											  quote_literal_cstr(job->name))));
}

/* --- job_erasure_watch --- */

typedef struct Watch
{
	List	   *relations;		/* OIDs that the command touched */
	List	   *jobs;			/* of JanitorJob * */
	const JanitorJob *job;		/* the one in hand */
	List	   *gaps;			/* of JanitorGap *, its */
} Watch;

static void
note_relation(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	Watch	   *watch = arg;
	Oid			relid = DatumGetObjectId(values[0]);

	watch->relations = lappend_oid(watch->relations, relid);
	if (get_rel_relispartition(relid))
		watch->relations = list_concat_unique_oid(watch->relations,
												  get_partition_ancestors(relid));
}

static void
find_relations(Watch *watch)
{
	JanitorQuery *query = janitor_query_prepare("SELECT objid FROM pg_catalog.pg_event_trigger_ddl_commands() WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass",
												0, NULL);

	(void) janitor_query_each(query, NULL, NULL, 0, note_relation, watch);
	janitor_query_free(query);
}

static void
note_job(HeapTuple tuple, void *arg)
{
	Watch	   *watch = arg;
	JanitorJob *job = janitor_job_from_tuple(heap_copytuple(tuple));

	if (job->kind == JANITOR_KIND_ITEMS)
		watch->jobs = lappend(watch->jobs, job);
}

static void
warn(const JanitorGap *gap, const JanitorJob *job)
{
	if (janitor_job_visible(job))
		ereport(WARNING,
				(errmsg("no rule of job \"%s\" covers %s", job->name,
						gap->relation),
				 errdetail("%s.", gap->reason),
				 gap->proposal ? errhint("%s", gap->proposal) : 0));
	else
		ereport(WARNING,
				(errmsg("no rule of a job that erases people covers %s",
						gap->relation),
				 errdetail("%s.", gap->reason)));
}

static void
find_gaps(void *arg)
{
	Watch	   *watch = arg;
	Oid			subject = erased_subject(watch->job);

	watch->gaps = OidIsValid(subject) ?
		janitor_coverage_gaps(subject, watch->job, false) : NIL;
}

/* No job, whatever is in its row, may keep the command from being done. */
static void
watch_job(Watch *watch, const JanitorJob *job)
{
	ListCell   *cell;

	watch->job = job;
	if (janitor_attempt_inside(find_gaps, watch) != NULL)
		return;
	foreach(cell, watch->gaps)
	{
		const JanitorGap *gap = lfirst(cell);

		if (list_member_oid(watch->relations, gap->relid))
			warn(gap, job);
	}
}

/*
 * job_erasure_watch() returns event_trigger
 *
 * For ddl_command_end: says which tables that the command touched are not
 * covered now.
 */
Datum
job_erasure_watch(PG_FUNCTION_ARGS)
{
	Watch		watch = {NIL};
	ListCell   *cell;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("job_erasure_watch() can only be called by an event trigger"),
				 errhint("CREATE EVENT TRIGGER name ON ddl_command_end EXECUTE FUNCTION job_erasure_watch();")));
	find_relations(&watch);
	if (watch.relations == NIL || !janitor_extension_exists())
		PG_RETURN_NULL();
	janitor_definition_scan(note_job, &watch);
	foreach(cell, watch.jobs)
		watch_job(&watch, lfirst(cell));
	PG_RETURN_NULL();
}
