/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  Jobs as the C code sees them: load, next occurrence, schedule entry.
 *
 * Used by the SQL functions in any backend, by the scheduler and by the
 * workers, always inside a transaction.  Rows are read in their newest
 * version, whatever snapshot the caller has (ledger.c), so a job that was
 * changed and committed a moment ago is seen as it is now.
 *
 * What a job's times mean.  The calendar (schedule.c) knows occurrences: the
 * instants that schedule and zone name, kept as scheduled_for.  A job with a
 * jitter runs a fixed delay after each of them, kept as run_at.  The series
 * of occurrences never depends on the delay.
 *
 * The schedule entry.  A job that is enabled and armed, and whose schedule has
 * a next occurrence, owns exactly one row of job_queue with the key
 * JANITOR_KEY_SCHEDULE, moved from occurrence to occurrence by updates; see
 * janitor_job_sync_entry().
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "definition.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "common/hashfn.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "command.h"
#include "home.h"
#include "nearest.h"
#include "settings.h"

/*
 * Changes of definitions hold a lock until the end of their transaction: each
 * on its job, and one of a weaker mode on all jobs, so that a change of all
 * of them needs a single lock, however many there are.
 *
 * They are advisory lock tags of a class that the server does not use (it has
 * 1 and 2), under the default lock method, so that no SQL function, not even
 * pg_advisory_unlock_all(), can take or release them.
 */
#define JOB_LOCK_CLASS 7
#define ALL_JOBS_LOCK 0

/* --- rows --- */

static char *
text_or_null(Datum value, bool isnull)
{
	return isnull ? NULL : TextDatumGetCString(value);
}

static int64
usec_or_zero(Datum value, bool isnull)
{
	return isnull ? 0 : janitor_interval_usec(DatumGetIntervalP(value));
}

static JanitorCatchUp
catch_up_from_name(const char *name)
{
	if (strcmp(name, "all") == 0)
		return JANITOR_CATCH_UP_ALL;
	if (strcmp(name, "skip") == 0)
		return JANITOR_CATCH_UP_SKIP;
	return JANITOR_CATCH_UP_ONCE;
}

/* The part of a job that says when it runs. */
static void
load_timing(JanitorJob *job, Datum *values, bool *nulls)
{
	char	   *overlap = TextDatumGetCString(values[Anum_definition_overlap - 1]);
	char	   *catch_up = TextDatumGetCString(values[Anum_definition_catch_up - 1]);
	JanitorSchedule schedule;

	job->schedule = text_or_null(values[Anum_definition_schedule - 1],
								 nulls[Anum_definition_schedule - 1]);
	job->time_zone = TextDatumGetCString(values[Anum_definition_time_zone - 1]);
	job->calendar = palloc0(sizeof(JanitorCalendar));
	job->enabled = DatumGetBool(values[Anum_definition_enabled - 1]);
	job->run_on_start = DatumGetBool(values[Anum_definition_run_on_start - 1]);
	job->catch_up = catch_up_from_name(catch_up);
	job->catch_up_within = usec_or_zero(values[Anum_definition_catch_up_within - 1],
										nulls[Anum_definition_catch_up_within - 1]);
	job->overlap = strcmp(overlap, "queue") == 0 ?
		JANITOR_OVERLAP_QUEUE : JANITOR_OVERLAP_SKIP;
	job->jitter = usec_or_zero(values[Anum_definition_jitter - 1], false);

	/* @reboot is a way to write run_on_start */
	if (job->schedule != NULL &&
		janitor_schedule_parse(job->schedule, &schedule, NULL, 0) &&
		schedule.kind == JANITOR_SCHEDULE_REBOOT)
		job->run_on_start = true;
}

/* What limits its runs, and what follows them. */
static void
load_policy(JanitorJob *job, Datum *values, bool *nulls)
{
	job->run_after = text_or_null(values[Anum_definition_run_after - 1],
								  nulls[Anum_definition_run_after - 1]);
	job->on_failure = text_or_null(values[Anum_definition_on_failure - 1],
								   nulls[Anum_definition_on_failure - 1]);
	job->max_running = nulls[Anum_definition_max_running - 1] ? 0 :
		DatumGetInt32(values[Anum_definition_max_running - 1]);
	job->timeout = usec_or_zero(values[Anum_definition_timeout - 1],
								nulls[Anum_definition_timeout - 1]);
	job->stop_after = usec_or_zero(values[Anum_definition_stop_after - 1],
								   nulls[Anum_definition_stop_after - 1]);
	job->parallel = DatumGetInt32(values[Anum_definition_parallel - 1]);
	job->max_attempts = DatumGetInt32(values[Anum_definition_max_attempts - 1]);
	job->retry_delay = usec_or_zero(values[Anum_definition_retry_delay - 1],
									false);
	job->retry_max_delay = usec_or_zero(values[Anum_definition_retry_max_delay - 1],
										false);
	job->priority = DatumGetInt32(values[Anum_definition_priority - 1]);
	job->circuit = text_or_null(values[Anum_definition_circuit - 1],
								nulls[Anum_definition_circuit - 1]);
	job->channel = text_or_null(values[Anum_definition_channel - 1],
								nulls[Anum_definition_channel - 1]);
	job->receipts = nulls[Anum_definition_receipts - 1] ?
		JANITOR_RECEIPTS_DEFAULT :
		DatumGetBool(values[Anum_definition_receipts - 1]) ?
		JANITOR_RECEIPTS_ON : JANITOR_RECEIPTS_OFF;
	job->subjects = text_or_null(values[Anum_definition_subjects - 1],
								 nulls[Anum_definition_subjects - 1]);
	job->keep_history = usec_or_zero(values[Anum_definition_keep_history - 1],
									 false);
	job->keep_runs = DatumGetInt32(values[Anum_definition_keep_runs - 1]);
	job->paused_until = nulls[Anum_definition_paused_until - 1] ? DT_NOEND :
		DatumGetTimestampTz(values[Anum_definition_paused_until - 1]);

	/* a pause ends by itself; the columns stay until the next change */
	job->paused = !nulls[Anum_definition_paused_by - 1] &&
		job->paused_until > janitor_clock();
}

/* The result points into a copy of the tuple, in the current context. */
JanitorJob *
janitor_job_from_tuple(HeapTuple tuple)
{
	JanitorJob *job = palloc0(sizeof(JanitorJob));
	Datum		values[Natts_definition];
	bool		nulls[Natts_definition];

	job->tuple = heap_copytuple(tuple);
	heap_deform_tuple(job->tuple, janitor_definition_tupdesc(), values, nulls);

	job->name = TextDatumGetCString(values[Anum_definition_name - 1]);
	job->kind = janitor_kind_from_name(TextDatumGetCString(values[Anum_definition_kind - 1]));
	job->command = text_or_null(values[Anum_definition_command - 1],
								nulls[Anum_definition_command - 1]);
	job->items = text_or_null(values[Anum_definition_items - 1],
							  nulls[Anum_definition_items - 1]);
	job->args = DatumGetJsonbP(values[Anum_definition_args - 1]);
	job->settings = DatumGetJsonbP(values[Anum_definition_settings - 1]);
	job->owner = TextDatumGetCString(values[Anum_definition_owner - 1]);
	job->owner_oid = DatumGetObjectId(values[Anum_definition_owner_oid - 1]);
	job->home = nulls[Anum_definition_home - 1] ? 0 :
		DatumGetInt64(values[Anum_definition_home - 1]);
	job->home_database =
		DatumGetObjectId(values[Anum_definition_home_database - 1]);
	job->environment = text_or_null(values[Anum_definition_environment - 1],
									nulls[Anum_definition_environment - 1]);
	job->version = DatumGetInt32(values[Anum_definition_version - 1]);
	job->updated_at = DatumGetTimestampTz(values[Anum_definition_updated_at - 1]);
	load_timing(job, values, nulls);
	load_policy(job, values, nulls);
	return job;
}

JanitorJob *
janitor_job_load(const char *job_name)
{
	HeapTuple	tuple = janitor_definition_find(job_name);

	return tuple == NULL ? NULL : janitor_job_from_tuple(tuple);
}

/*
 * Batches and items are committed with their progress; whoever repeats the
 * run goes on from there.
 */
bool
janitor_job_is_non_atomic(const JanitorJob *job)
{
	return job->kind == JANITOR_KIND_SQL &&
		janitor_command_is_non_atomic(job->command);
}

bool
janitor_job_is_heavy(const JanitorJob *job)
{
	return job->kind == JANITOR_KIND_RETENTION ||
		job->kind == JANITOR_KIND_ITEMS;
}

Jsonb *
janitor_job_merge_args(const JanitorJob *job, Jsonb *args)
{
	if (args == NULL)
		return job->args;
	if (JB_ROOT_COUNT(job->args) == 0)
		return args;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat,
											  JsonbPGetDatum(job->args),
											  JsonbPGetDatum(args)));
}

/* --- who may see a job, who may act on it --- */

/* Does that role still go by that name? */
static bool
role_is(Oid role, const char *name)
{
	char	   *current = GetUserNameFromId(role, true);

	return current != NULL && strcmp(current, name) == 0;
}

bool
janitor_owner_visible(Oid owner, const char *owner_name)
{
	if (superuser())
		return true;
	if (role_is(owner, owner_name) && is_member_of_role(GetUserId(), owner))
		return true;
	return pg_class_aclcheck(janitor_relation(JANITOR_DEFINITION),
							 GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

bool
janitor_job_visible(const JanitorJob *job)
{
	return janitor_owner_visible(job->owner_oid, job->owner);
}

/* For the hint: offers the name of each job that the user may see. */
static void
offer_job(HeapTuple tuple, void *arg)
{
	TupleDesc	desc = janitor_definition_tupdesc();
	bool		isnull;
	Datum		name = heap_getattr(tuple, Anum_definition_name, desc, &isnull);
	Datum		owner = heap_getattr(tuple, Anum_definition_owner_oid, desc,
									 &isnull);
	Datum		owner_name = heap_getattr(tuple, Anum_definition_owner, desc,
										  &isnull);

	if (janitor_owner_visible(DatumGetObjectId(owner),
							  TextDatumGetCString(owner_name)))
		janitor_nearest_offer(arg, TextDatumGetCString(name));
}

JanitorJob *
janitor_job_require(const char *job_name)
{
	JanitorJob *job = janitor_job_load(job_name);
	JanitorNearest nearest = {job_name};

	if (job != NULL && janitor_job_visible(job))
		return job;

	janitor_definition_scan(offer_job, &nearest);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("job \"%s\" does not exist", job_name),
			 nearest.best == NULL ? 0 :
			 errhint("Perhaps you meant the job \"%s\".", nearest.best)));
	return NULL;
}

void
janitor_job_check_owner(const JanitorJob *job)
{
	if (superuser() ||
		(role_is(job->owner_oid, job->owner) &&
		 janitor_can_act_for(GetUserId(), job->owner_oid)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for job \"%s\"", job->name),
			 errhint("Only its owner \"%s\" and roles that can SET ROLE to it may do this.",
					 job->owner)));
}

static bool
role_can_login(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	return result;
}

const char *
janitor_owner_problem(const char *owner, Oid owner_oid)
{
	if (!role_is(owner_oid, owner))
	{
		if (OidIsValid(get_role_oid(owner, true)))
			return psprintf("role \"%s\" is not the role that the job was defined with",
							owner);
		return psprintf("role \"%s\" does not exist", owner);
	}
	if (JANITOR_NEEDS_LOGIN && !role_can_login(owner_oid))
		return psprintf("role \"%s\" is not permitted to log in", owner);
	if (janitor_database_aclcheck(MyDatabaseId, owner_oid,
								  ACL_CONNECT) != ACLCHECK_OK)
		return psprintf("role \"%s\" has no CONNECT privilege on database \"%s\"",
						owner, get_database_name(MyDatabaseId));
	if (!janitor_allow_superuser_jobs && superuser_arg(owner_oid))
		return psprintf("role \"%s\" is a superuser, and pg_janitor.allow_superuser_jobs is off",
						owner);
	return NULL;
}

const char *
janitor_job_owner_problem(const JanitorJob *job)
{
	return janitor_owner_problem(job->owner, job->owner_oid);
}

/* --- time --- */

/* The server's own zone code, for the calendar. */
static void
lookup_offset(const void *arg, int64_t unix_time, int32_t *gmtoff,
			  int64_t *until)
{
	const pg_tz *zone = arg;
	pg_time_t	time = (pg_time_t) unix_time;
	pg_time_t	boundary;
	long int	before;
	long int	after;
	int			before_isdst;
	int			after_isdst;
	int			found;

	found = pg_next_dst_boundary(&time, &before, &before_isdst,
								 &boundary, &after, &after_isdst, zone);
	*gmtoff = found < 0 ? 0 : (int32_t) before;
	*until = found > 0 ? (int64_t) boundary : INT64_MAX;
}

/*
 * Is this one of the few names with a digit in the IANA database?  All others
 * are POSIX zone specifications, which the server takes too: `UTC+2` lies two
 * hours west of Greenwich, not what its author meant, and `Berlin1` is
 * anything at all.
 */
static bool
digits_are_iana(const char *name)
{
	static const char *const known[] = {
		"EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT", "GMT0", "GMT+0", "GMT-0"
	};

	if (strpbrk(name, "0123456789") == NULL ||
		pg_strncasecmp(name, "Etc/", 4) == 0)
		return true;
	for (int i = 0; i < lengthof(known); i++)
		if (pg_strcasecmp(name, known[i]) == 0)
			return true;
	return false;
}

pg_tz *
janitor_zone_find(const char *name)
{
	pg_tz	   *zone;

	if (strchr(name, ',') != NULL || strchr(name, '<') != NULL ||
		!digits_are_iana(name))
		return NULL;
	zone = pg_tzset(name);
	return zone != NULL && pg_tz_acceptable(zone) ? zone : NULL;
}

pg_tz *
janitor_zone_require(const char *name)
{
	pg_tz	   *zone = janitor_zone_find(name);

	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", name),
				 errhint("The view pg_timezone_names lists the names that can be used, such as \"Europe/Berlin\".")));
	return zone;
}

void
janitor_schedule_require(const char *text, JanitorSchedule *schedule)
{
	char		problem[256];

	if (!janitor_schedule_parse(text, schedule, problem, sizeof(problem)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid schedule \"%s\": %s", text, problem)));
}

/*
 * The first occurrence strictly after `after`, counted from `previous` where
 * the schedule is an interval (DT_NOBEGIN: from `after`); DT_NOEND if none.
 */
TimestampTz
janitor_occurrence(const JanitorSchedule *schedule, const pg_tz *zone,
				   TimestampTz previous, TimestampTz after)
{
	JanitorZone provider = {lookup_offset, zone};
	int64_t		next;

	if (TIMESTAMP_NOT_FINITE(previous))
		previous = after;
	if (!janitor_schedule_next_on_grid(schedule, &provider, previous, after,
									   &next))
		return DT_NOEND;
	return next;
}

TimestampTz
janitor_job_occurrence(const JanitorJob *job, TimestampTz previous,
					   TimestampTz after)
{
	JanitorCalendar *calendar = job->calendar;

	if (job->schedule == NULL)
		return DT_NOEND;
	if (!calendar->ready)
	{
		janitor_schedule_require(job->schedule, &calendar->schedule);
		calendar->zone = janitor_zone_require(job->time_zone);
		calendar->ready = true;
	}
	return janitor_occurrence(&calendar->schedule, calendar->zone, previous,
							  after);
}

/* The job's fixed delay after each occurrence. */
int64
janitor_job_delay(const JanitorJob *job)
{
	return janitor_schedule_jitter(job->name, job->jitter);
}

int
janitor_next_runs(const char *schedule, const char *time_zone,
				  TimestampTz after, int count, TimestampTz *result)
{
	JanitorSchedule parsed;
	pg_tz	   *zone;
	int			n;

	janitor_schedule_require(schedule, &parsed);
	zone = janitor_zone_require(time_zone);
	for (n = 0; n < count; n++)
	{
		CHECK_FOR_INTERRUPTS();
		after = janitor_occurrence(&parsed, zone, DT_NOBEGIN, after);
		if (TIMESTAMP_IS_NOEND(after))
			break;
		result[n] = after;
	}
	return n;
}

/* --- the schedule entry --- */

static void
fill_schedule_entry(JanitorEntry *entry, const JanitorJob *job,
					TimestampTz occurrence)
{
	entry->scheduled_for = occurrence;
	entry->run_at = occurrence + janitor_job_delay(job);
}

static TimestampTz
insert_schedule_entry(const JanitorJob *job, TimestampTz occurrence)
{
	JanitorEntry entry = {0};

	entry.job_name = job->name;
	entry.reason = JANITOR_REASON_SCHEDULE;
	entry.attempt = 1;
	entry.key = pstrdup(JANITOR_KEY_SCHEDULE);
	fill_schedule_entry(&entry, job, occurrence);
	janitor_entry_insert(&entry);
	return entry.run_at;
}

/*
 * The loops go round again when the scheduler moved the entry between our
 * reading and our writing it, which each time is a committed transaction of
 * its own: they end.
 */
TimestampTz
janitor_job_sync_entry(const JanitorJob *job, TimestampTz now, bool recompute)
{
	TimestampTz occurrence = janitor_job_runs_by_itself(job) ?
	janitor_job_occurrence(job, DT_NOBEGIN, now) : DT_NOEND;
	JanitorEntry entry;

	while (janitor_entry_find_key(job->name, JANITOR_KEY_SCHEDULE, &entry))
	{
		CHECK_FOR_INTERRUPTS();
		if (TIMESTAMP_IS_NOEND(occurrence))
		{
			if (janitor_entry_delete(&entry))
				return DT_NOEND;
			continue;
		}
		if (!recompute)
			return entry.run_at;
		fill_schedule_entry(&entry, job, occurrence);
		if (janitor_entry_update(&entry))
			return entry.run_at;
	}
	if (TIMESTAMP_IS_NOEND(occurrence))
		return DT_NOEND;
	return insert_schedule_entry(job, occurrence);
}

/* --- locks and hashes --- */

uint64
janitor_job_hash(const char *job_name)
{
	return hash_bytes_extended((const unsigned char *) job_name,
							   strlen(job_name), 0);
}

static void
set_lock_tag(LOCKTAG *tag, uint64 hash)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (hash >> 32),
						 (uint32) hash, JOB_LOCK_CLASS);
	tag->locktag_lockmethodid = DEFAULT_LOCKMETHOD;
}

static bool
take_lock(uint64 hash, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	set_lock_tag(&tag, hash);
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

static void
release_lock(uint64 hash)
{
	LOCKTAG		tag;

	set_lock_tag(&tag, hash);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

/*
 * Two names may share a hash: then their changes wait for each other, which
 * is harmless.
 */
void
janitor_job_lock(const char *job_name)
{
	(void) take_lock(ALL_JOBS_LOCK, RowExclusiveLock, true);
	(void) take_lock(janitor_job_hash(job_name), ExclusiveLock, true);
}

bool
janitor_job_try_lock(const char *job_name)
{
	return take_lock(ALL_JOBS_LOCK, RowExclusiveLock, false) &&
		take_lock(janitor_job_hash(job_name), ExclusiveLock, false);
}

/* Without the lock on all jobs: a trigger changes no definition. */
static uint64
trigger_hash(const char *job_name, const char *key)
{
	return janitor_job_hash(psprintf("%s\n%s", job_name, key));
}

void
janitor_trigger_lock(const char *job_name, const char *key)
{
	(void) take_lock(trigger_hash(job_name, key), ExclusiveLock, true);
}

bool
janitor_trigger_try_lock(const char *job_name, const char *key)
{
	return take_lock(trigger_hash(job_name, key), ExclusiveLock, false);
}

void
janitor_trigger_unlock(const char *job_name, const char *key)
{
	release_lock(trigger_hash(job_name, key));
}

/* No key is like this: they do not begin with '@'. */
static uint64
claim_hash(const char *job_name)
{
	return trigger_hash(job_name, "@claim");
}

void
janitor_claim_lock(const char *job_name)
{
	(void) take_lock(claim_hash(job_name), ExclusiveLock, true);
}

void
janitor_claim_unlock(const char *job_name)
{
	release_lock(claim_hash(job_name));
}

void
janitor_job_lock_all(void)
{
	(void) take_lock(ALL_JOBS_LOCK, ExclusiveLock, true);
}
