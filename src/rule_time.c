/*-------------------------------------------------------------------------
 *
 * rule_time.c
 *	  The column that the rows of a relation age by.
 *
 * Whatever its type, a cutoff becomes a bound, a value of that type, so that
 * `column < bound` is all there is to compare, and an index can serve it.  It
 * is strict: what lies on the cutoff is kept, and so is what is known no
 * better than to lie in the same second or millisecond.  A date is as old as
 * its midnight.
 *
 * timestamp and date are read in the session's time zone, which is the job's.
 * The cutoff is brought there, not the column: in the hour that autumn
 * repeats, both of its passes are one.
 *
 * What is no time never expires: integers before the year 2000 (0 and -1 mean
 * something else, and so do seconds in a column of milliseconds), texts of
 * another shape, uuids of another version.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "rule_internal.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/varlena.h"

#include "nearest.h"
#include "query.h"

#define EPOCH_DIFFERENCE \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* 2000-01-01 in seconds since 1970 */
#define FIRST_EPOCH INT64_C(946684800)

/* --- SQL --- */

/* Dates and times as ISO 8601 has them, whatever the DateStyle. */
char *
janitor_sql_literal(Datum value, Oid type)
{
	char		buffer[MAXDATELEN + 1];
	const int	utc = 0;
	char	   *text;
	Oid			output;
	bool		varlena;

	if (type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID)
		text = JsonEncodeDateTime(buffer, value, type, &utc);
	else
	{
		getTypeOutputInfo(type, &output, &varlena);
		text = OidOutputFunctionCall(output, value);
	}
	return psprintf("%s::%s", quote_literal_cstr(text),
					format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY));
}

char *
janitor_sql_operator(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)",
					  quote_identifier(get_namespace_name(form->oprnamespace)),
					  NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* --- finding it --- */

/* `createdAt` and `"createdAt"` are the same column, `CREATED_AT` another. */
static AttrNumber
look_up_column(Relation rel, const char *name)
{
	AttrNumber	attno = get_attnum(RelationGetRelid(rel), name);
	List	   *names;

	if (attno > 0 || name[0] != '"')
		return attno;
	names = textToQualifiedNameList(cstring_to_text(name));
	return list_length(names) == 1 ?
		get_attnum(RelationGetRelid(rel), strVal(linitial(names))) : 0;
}

AttrNumber
janitor_column_find(Relation rel, const char *name, const char *option)
{
	TupleDesc	desc = RelationGetDescr(rel);
	AttrNumber	attno = look_up_column(rel, name);
	JanitorNearest nearest = {name};

	if (attno > 0)
		return attno;
	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			janitor_nearest_offer(&nearest,
								  NameStr(TupleDescAttr(desc, i)->attname));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("option \"%s\": column \"%s\" of %s does not exist",
					option, name, janitor_relation_name(RelationGetRelid(rel))),
			 nearest.best == NULL ? 0 :
			 errhint("Perhaps you meant the column \"%s\".", nearest.best)));
	return 0;
}

static void
refuse_option(const char *option, const JanitorTime *time, Oid type)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" does not apply to column %s of type %s",
					option, time->name, format_type_be(type))));
}

/* One value of the column, to propose something by; false: there is none. */
static bool
sample(const JanitorTime *time, Relation rel, const char *expression,
	   Datum *value)
{
	return janitor_query_value(psprintf("SELECT %s FROM %s AS r WHERE r.%s IS NOT NULL LIMIT 1",
										expression,
										janitor_relation_name(RelationGetRelid(rel)),
										time->name),
							   0, NULL, NULL, value);
}

/* What the greatest value looks like: each unit has its thousandfold. */
static const char *
guess_unit(const JanitorTime *time, Relation rel)
{
	Datum		datum;
	int64		value;

	if (!sample(time, rel, psprintf("pg_catalog.max(r.%s)::pg_catalog.int8", time->name),
				&datum))
		return NULL;
	value = DatumGetInt64(datum);
	if (value < FIRST_EPOCH / 10)
		return NULL;
	return value < FIRST_EPOCH * 100 ? "s" :
		value < FIRST_EPOCH * 100000 ? "ms" : "us";
}

static void
find_unit(JanitorTime *time, const JanitorRule *rule, Relation rel)
{
	const char *guess;

	if (rule->time_unit == NULL)
	{
		guess = guess_unit(time, rel);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column %s of type %s needs the option \"time_unit\"",
						time->name, format_type_be(time->type)),
				 guess == NULL ?
				 errhint("Say what it counts from 1970 on: 's', 'ms' or 'us'.") :
				 errhint("Its greatest value looks like time_unit => '%s'.",
						 guess)));
	}
	time->unit = strcmp(rule->time_unit, "s") == 0 ? USECS_PER_SEC :
		strcmp(rule->time_unit, "ms") == 0 ? 1000 : 1;
	if (time->type == INT4OID && time->unit != USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column %s of type integer cannot hold a time in %s",
						time->name, rule->time_unit),
				 errhint("Seconds since 1970 are time_unit => 's'.")));
}

static void
find_format(JanitorTime *time, const JanitorRule *rule, Relation rel)
{
	char	   *guess = NULL;
	Datum		datum;

	if (rule->time_format == NULL)
	{
		if (sample(time, rel, psprintf("r.%s::pg_catalog.text", time->name), &datum))
			guess = janitor_format_guess(TextDatumGetCString(datum));
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column %s of type text needs the option \"time_format\"",
						time->name),
				 guess == NULL ?
				 errhint("Write it as a to_char() pattern, such as YYYY-MM-DD\"T\"HH24:MI:SS\"Z\".") :
				 errhint("A value of it looks like time_format => '%s'.",
						 guess)));
	}
	time->format = rule->time_format;
	time->shape = janitor_format_shape(time->format, &time->utc);
}

static void
refuse_type(const JanitorTime *time, Oid type)
{
	bool		number = type == INT2OID || type == NUMERICOID ||
	type == FLOAT4OID || type == FLOAT8OID;

	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("option \"time_column\": column %s of type %s does not tell the age of a row",
					time->name, format_type_be(type)),
			 number ?
			 errhint("Write a condition instead, such as expired_when => 'to_timestamp(r.%s) < job_now() - interval ''90 days'''.",
					 time->name) :
			 errhint("It must be timestamptz, timestamp, date, integer, bigint, text or uuid; or write a condition as expired_when.")));
}

static JanitorTimeKind
find_kind(const JanitorTime *time, Oid type)
{
	switch (type)
	{
		case TIMESTAMPTZOID:
			return JANITOR_TIME_TIMESTAMPTZ;
		case TIMESTAMPOID:
			return JANITOR_TIME_TIMESTAMP;
		case DATEOID:
			return JANITOR_TIME_DATE;
		case INT4OID:
		case INT8OID:
			return JANITOR_TIME_EPOCH;
		case TEXTOID:
		case VARCHAROID:
			return JANITOR_TIME_TEXT;
		case UUIDOID:
			return JANITOR_TIME_UUID;
		default:
			refuse_type(time, type);
			return JANITOR_TIME_TIMESTAMPTZ;
	}
}

JanitorTime *
janitor_time_find(const JanitorRule *rule, Relation rel)
{
	JanitorTime *time = palloc0(sizeof(JanitorTime));
	Form_pg_attribute column;

	time->attno = janitor_column_find(rel, rule->time_column, "time_column");
	column = TupleDescAttr(RelationGetDescr(rel), time->attno - 1);
	time->name = pstrdup(quote_identifier(NameStr(column->attname)));
	time->type = getBaseType(column->atttypid);
	time->kind = find_kind(time, time->type);
	time->ordered = true;
	if (rule->time_unit != NULL && time->kind != JANITOR_TIME_EPOCH)
		refuse_option("time_unit", time, time->type);
	if (rule->time_format != NULL && time->kind != JANITOR_TIME_TEXT)
		refuse_option("time_format", time, time->type);

	if (time->kind == JANITOR_TIME_EPOCH)
		find_unit(time, rule, rel);
	if (time->kind == JANITOR_TIME_TEXT)
	{
		time->type = TEXTOID;
		time->ordered = janitor_collation_is_c(column->attcollation);
		find_format(time, rule, rel);
	}
	return time;
}

/* --- cutoffs --- */

/*
 * In units of an epoch, rounded down: a row that expires in the unit that is
 * not over yet is kept, as where the cutoff is written in such units.
 */
static int64
epoch_of(TimestampTz cutoff, int64 unit)
{
	int64		usec = cutoff + EPOCH_DIFFERENCE;

	return usec >= 0 ? usec / unit : -((-usec + unit - 1) / unit);
}

/* A date begins at its midnight. */
static DateADT
date_of(Timestamp local)
{
	int64		quotient = local / USECS_PER_DAY;

	return (DateADT) (local % USECS_PER_DAY > 0 ? quotient + 1 : quotient);
}

/* All digits behind the milliseconds are zero: the lowest there is. */
static Datum
uuid_of(TimestampTz cutoff)
{
	pg_uuid_t  *uuid = palloc0(sizeof(pg_uuid_t));
	int64		msec = Max(epoch_of(cutoff, 1000), 0);

	for (int i = 5; i >= 0; i--, msec >>= 8)
		uuid->data[i] = (unsigned char) (msec & 0xff);
	return UUIDPGetDatum(uuid);
}

static Timestamp
local_time(TimestampTz instant)
{
	return DatumGetTimestamp(DirectFunctionCall1(timestamptz_timestamp,
												 TimestampTzGetDatum(instant)));
}

static Datum
text_of(const JanitorTime *time, TimestampTz cutoff)
{
	Timestamp	written = time->utc ? (Timestamp) cutoff : local_time(cutoff);

	return DirectFunctionCall2(timestamp_to_char, TimestampGetDatum(written),
							   CStringGetTextDatum(time->format));
}

Datum
janitor_time_bound(const JanitorTime *time, TimestampTz cutoff)
{
	switch (time->kind)
	{
		case JANITOR_TIME_TIMESTAMPTZ:
			break;
		case JANITOR_TIME_TIMESTAMP:
			return TimestampGetDatum(local_time(cutoff));
		case JANITOR_TIME_DATE:
			return DateADTGetDatum(date_of(local_time(cutoff)));
		case JANITOR_TIME_EPOCH:
			if (time->type == INT4OID)
				return Int32GetDatum((int32) Max(Min(epoch_of(cutoff, time->unit),
													 PG_INT32_MAX),
												 PG_INT32_MIN));
			return Int64GetDatum(epoch_of(cutoff, time->unit));
		case JANITOR_TIME_TEXT:
			return text_of(time, cutoff);
		case JANITOR_TIME_UUID:
			return uuid_of(cutoff);
	}
	return TimestampTzGetDatum(cutoff);
}

char *
janitor_time_text(const JanitorTime *time, Datum value)
{
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(time->type, &output, &varlena);
	return OidOutputFunctionCall(output, value);
}

char *
janitor_time_literal(const JanitorTime *time, Datum value)
{
	return janitor_sql_literal(value, time->type);
}

/* --- conditions --- */

/* The column of a row, as comparisons need it. */
static char *
column_of(const JanitorTime *time, const char *row)
{
	if (time->ordered)
		return psprintf("%s.%s", row, time->name);
	return psprintf("(%s.%s COLLATE pg_catalog.\"C\")", row, time->name);
}

char *
janitor_time_compare(const JanitorTime *time, const char *row,
					 const char *operator, const char *value)
{
	return psprintf("%s OPERATOR(pg_catalog.%s) %s", column_of(time, row),
					operator, value);
}

char *
janitor_time_valid(const JanitorTime *time, const char *row)
{
	switch (time->kind)
	{
		case JANITOR_TIME_EPOCH:
			return psprintf("%s.%s OPERATOR(pg_catalog.>=) " INT64_FORMAT,
							row, time->name,
							FIRST_EPOCH * (USECS_PER_SEC / time->unit));
		case JANITOR_TIME_TEXT:
			return psprintf("%s OPERATOR(pg_catalog.~) %s",
							column_of(time, row),
							quote_literal_cstr(time->shape));
		case JANITOR_TIME_UUID:
			return psprintf("(pg_catalog.get_byte(pg_catalog.uuid_send(%s.%s), 6) OPERATOR(pg_catalog.>>) 4) OPERATOR(pg_catalog.=) 7",
							row, time->name);
		default:
			return NULL;
	}
}

/* The first 48 bits of a uuid: milliseconds. */
static char *
uuid_milliseconds(const JanitorTime *time)
{
	return psprintf("(('x' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.replace(r.%s::pg_catalog.text, '-', ''), 1, 12))::bit(48)::bigint)",
					time->name);
}

/* In units of an epoch, rounded down, as a bound is. */
static char *
seconds_times(const char *instant, int64 factor)
{
	return psprintf("pg_catalog.floor(pg_catalog.\"extract\"('epoch', %s) OPERATOR(pg_catalog.*) "
					INT64_FORMAT ")", instant, factor);
}

char *
janitor_time_before(const JanitorTime *time, const char *instant)
{
	switch (time->kind)
	{
		case JANITOR_TIME_TIMESTAMPTZ:
			break;
		case JANITOR_TIME_TIMESTAMP:
		case JANITOR_TIME_DATE:
			return psprintf("r.%s OPERATOR(pg_catalog.<) (%s)::timestamp without time zone",
							time->name, instant);
		case JANITOR_TIME_EPOCH:
			return psprintf("r.%s::numeric OPERATOR(pg_catalog.<) %s",
							time->name,
							seconds_times(instant, USECS_PER_SEC / time->unit));
		case JANITOR_TIME_TEXT:
			return psprintf("%s OPERATOR(pg_catalog.<) pg_catalog.to_char(%s, %s)",
							column_of(time, "r"),
							time->utc ?
							psprintf("pg_catalog.timezone('UTC', %s)", instant) :
							instant,
							quote_literal_cstr(time->format));
		case JANITOR_TIME_UUID:
			return psprintf("%s::numeric OPERATOR(pg_catalog.<) %s",
							uuid_milliseconds(time),
							seconds_times(instant, 1000));
	}
	return psprintf("r.%s OPERATOR(pg_catalog.<) %s", time->name, instant);
}
