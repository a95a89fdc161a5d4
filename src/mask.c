/*-------------------------------------------------------------------------
 *
 * mask.c
 *	  Masks without a key, which take something away from a value:
 *	  job_mask_partial, job_mask_phone, job_mask_text, job_mask_ip,
 *	  job_mask_date, job_mask_number.
 *
 * Pure functions of their arguments, called for each row in the caller's
 * per-tuple context.  Each is idempotent, m(m(x)) = m(x) for all x under the
 * same other arguments; why is said above each.  The empty string stays.
 *
 * Text is in the encoding of the database, and its characters are what the
 * server takes for characters: code points, so that what a reader sees as one
 * (a letter and a combining accent, a flag) may be several.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(job_mask_partial);
PG_FUNCTION_INFO_V1(job_mask_phone);
PG_FUNCTION_INFO_V1(job_mask_text);
PG_FUNCTION_INFO_V1(job_mask_ip);
PG_FUNCTION_INFO_V1(job_mask_date_date);
PG_FUNCTION_INFO_V1(job_mask_date_timestamp);
PG_FUNCTION_INFO_V1(job_mask_date_timestamptz);
PG_FUNCTION_INFO_V1(job_mask_number);

/* ------------------------------------------------------------------------
 * Text
 * ------------------------------------------------------------------------
 */

/* Length of the character at `at`; never past the end, whatever is there. */
static int
character_length(const char *at, const char *end)
{
	int			length = IS_HIGHBIT_SET(*at) && end - at > 1 ?
	pg_encoding_mblen(GetDatabaseEncoding(), at) : 1;

	return Min(length, (int) (end - at));
}

static int
count_characters(const char *at, const char *end)
{
	int			count = 0;

	for (; at < end; at += character_length(at, end))
		count++;
	return count;
}

static const char *
skip_characters(const char *at, const char *end, int count)
{
	while (count-- > 0)
		at += character_length(at, end);
	return at;
}

static void
check_partial(int keep_left, int keep_right, const text *pad)
{
	const char *start = VARDATA_ANY(pad);

	if (keep_left < 0 || keep_right < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"%s\" and \"%s\" must not be negative",
						"keep_left", "keep_right")));
	if (count_characters(start, start + VARSIZE_ANY_EXHDR(pad)) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be one character", "pad")));
}

/*
 * job_mask_partial(value text, keep_left int, pad text, keep_right int)
 * returns text
 *
 * The result has as many characters as the value, so a second time the same
 * ones are kept and the same ones replaced.  A value that has no more than
 * what would be kept is replaced as a whole.
 */
Datum
job_mask_partial(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	int			keep_left = PG_GETARG_INT32(1);
	text	   *pad = PG_GETARG_TEXT_PP(2);
	int			keep_right = PG_GETARG_INT32(3);
	const char *start = VARDATA_ANY(value);
	const char *end = start + VARSIZE_ANY_EXHDR(value);
	int			pad_length = VARSIZE_ANY_EXHDR(pad);
	int			count = count_characters(start, end);
	const char *middle;
	const char *right;
	int			replaced;
	Size		length;
	text	   *result;
	char	   *out;

	check_partial(keep_left, keep_right, pad);
	if ((int64) keep_left + keep_right >= count)
		keep_left = keep_right = 0;
	replaced = count - keep_left - keep_right;
	middle = skip_characters(start, end, keep_left);
	right = skip_characters(middle, end, replaced);

	length = (middle - start) + (Size) replaced * pad_length + (end - right);
	if (length > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the masked value would be too long")));
	result = palloc(VARHDRSZ + length);
	SET_VARSIZE(result, VARHDRSZ + length);
	out = VARDATA(result);
	memcpy(out, start, middle - start);
	out += middle - start;
	for (int i = 0; i < replaced; i++, out += pad_length)
		memcpy(out, VARDATA_ANY(pad), pad_length);
	memcpy(out, right, end - right);
	PG_RETURN_TEXT_P(result);
}

/*
 * job_mask_text(value text) returns text
 *
 * A constant, whatever was there: what people write about people is in any
 * words, and a search for patterns would miss some of them.
 */
Datum
job_mask_text(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);

	if (VARSIZE_ANY_EXHDR(value) == 0)
		PG_RETURN_TEXT_P(value);
	PG_RETURN_TEXT_P(cstring_to_text("[removed]"));
}

/*
 * Length of the country calling code that some digits begin with; 0: none.
 * The zones of ITU-T E.164 (list of assigned country codes): 1 and 7 are
 * codes themselves, those below are of two digits, all others of three.
 */
static int
country_code_length(const char *digits, int count)
{
	static const char two[] =
	"20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 "
	"55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98 ";

	if (count < 1 || digits[0] == '0')
		return 0;
	if (digits[0] == '1' || digits[0] == '7')
		return 1;
	for (const char *code = two; count >= 2 && *code; code += 3)
	{
		if (memcmp(code, digits, 2) == 0)
			return 2;
	}
	return count >= 3 ? 3 : 0;
}

/* The first digits of a number that begins with +, at most 3. */
static int
leading_digits(const char *at, const char *end, char *digits)
{
	int			count = 0;

	while (at < end && *at == ' ')
		at++;
	if (at == end || *at != '+')
		return 0;
	for (at++; at < end && count < 3; at++)
	{
		if (*at >= '0' && *at <= '9')
			digits[count++] = *at;
		else if (strchr(" -./()", *at) == NULL || *at == '\0')
			break;
	}
	return count;
}

/*
 * job_mask_phone(value text) returns text
 *
 * +, the country code where the number has one, and seven zeros: the result
 * has the same country code as the value, and nothing else of it.
 */
Datum
job_mask_phone(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	const char *start = VARDATA_ANY(value);
	char		digits[3];
	int			length;

	if (VARSIZE_ANY_EXHDR(value) == 0)
		PG_RETURN_TEXT_P(value);
	length = country_code_length(digits,
								 leading_digits(start,
												start + VARSIZE_ANY_EXHDR(value),
												digits));
	PG_RETURN_TEXT_P(cstring_to_text(length == 0 ? "0000000" :
									 psprintf("+%.*s0000000", length, digits)));
}

/* ------------------------------------------------------------------------
 * Addresses
 * ------------------------------------------------------------------------
 */

static void
check_bits(int bits, int most, const char *name)
{
	if (bits < 0 || bits > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be between 0 and %d",
						name, most)));
}

/*
 * job_mask_ip(value inet, ipv4_bits int, ipv6_bits int) returns inet
 *
 * Sets all bits but the first ones to zero, and leaves the length of the
 * netmask.
 */
Datum
job_mask_ip(PG_FUNCTION_ARGS)
{
	inet	   *value = PG_GETARG_INET_PP(0);
	inet	   *result = palloc0(VARHDRSZ + sizeof(inet_struct));
	int			bits;
	unsigned char *address;

	check_bits(PG_GETARG_INT32(1), 32, "ipv4_bits");
	check_bits(PG_GETARG_INT32(2), 128, "ipv6_bits");
	bits = PG_GETARG_INT32(ip_family(value) == PGSQL_AF_INET ? 1 : 2);

	ip_family(result) = ip_family(value);
	ip_bits(result) = ip_bits(value);
	memcpy(ip_addr(result), ip_addr(value), ip_addrsize(value));
	address = ip_addr(result);
	for (int i = 0; i < ip_addrsize(value); i++, bits -= 8)
	{
		if (bits < 8)
			address[i] &= 0xff << (8 - Max(bits, 0));
	}
	SET_INET_VARSIZE(result);
	PG_RETURN_INET_P(result);
}

/* ------------------------------------------------------------------------
 * Times
 * ------------------------------------------------------------------------
 */

/*
 * The first instant of the year, month or so of a time, as date_trunc() has
 * it, which leaves it where it is the second time.  Units that take nothing
 * or nearly nothing away are refused.
 */
static void
check_unit(const text *unit, bool has_time)
{
	static const char *const units[] = {"hour", "day", "week", "month",
	"quarter", "year", "decade", "century"};

	for (int i = has_time ? 0 : 2; i < lengthof(units); i++)
	{
		if (VARSIZE_ANY_EXHDR(unit) == strlen(units[i]) &&
			memcmp(VARDATA_ANY(unit), units[i], strlen(units[i])) == 0)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown unit \"%s\"", text_to_cstring(unit)),
			 errhint("Valid values are %s\"week\", \"month\", \"quarter\", \"year\", \"decade\" and \"century\".",
					 has_time ? "\"hour\", \"day\", " : "")));
}

/* job_mask_date(value date, unit text) returns date */
Datum
job_mask_date_date(PG_FUNCTION_ARGS)
{
	Datum		time = DirectFunctionCall1(date_timestamp, PG_GETARG_DATUM(0));

	check_unit(PG_GETARG_TEXT_PP(1), false);
	time = DirectFunctionCall2(timestamp_trunc, PG_GETARG_DATUM(1), time);
	return DirectFunctionCall1(timestamp_date, time);
}

/* job_mask_date(value timestamp, unit text) returns timestamp */
Datum
job_mask_date_timestamp(PG_FUNCTION_ARGS)
{
	check_unit(PG_GETARG_TEXT_PP(1), true);
	return DirectFunctionCall2(timestamp_trunc, PG_GETARG_DATUM(1),
							   PG_GETARG_DATUM(0));
}

/*
 * job_mask_date(value timestamptz, unit text, time_zone text) returns
 * timestamptz
 */
Datum
job_mask_date_timestamptz(PG_FUNCTION_ARGS)
{
	check_unit(PG_GETARG_TEXT_PP(1), true);
	return DirectFunctionCall3(timestamptz_trunc_zone, PG_GETARG_DATUM(1),
							   PG_GETARG_DATUM(0), PG_GETARG_DATUM(2));
}

/* ------------------------------------------------------------------------
 * Numbers
 * ------------------------------------------------------------------------
 */

static Numeric
zero(void)
{
	return int64_to_numeric(0);
}

static bool
is_below(Numeric a, Numeric b)
{
	return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(a),
											NumericGetDatum(b)));
}

/*
 * job_mask_number(value numeric, step numeric) returns numeric
 *
 * The greatest multiple of the step that is not greater than the value.  The
 * remainder is exact in numeric, so of a multiple it is 0.  NaN and infinities
 * stay.
 */
Datum
job_mask_number(PG_FUNCTION_ARGS)
{
	Numeric		value = PG_GETARG_NUMERIC(0);
	Numeric		step = PG_GETARG_NUMERIC(1);
	Datum		rest;

	if (numeric_is_nan(step) || numeric_is_inf(step) ||
		!is_below(zero(), step))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a positive number", "step")));
	if (numeric_is_nan(value) || numeric_is_inf(value))
		PG_RETURN_NUMERIC(value);

	rest = DirectFunctionCall2(numeric_mod, NumericGetDatum(value),
							   NumericGetDatum(step));
	if (is_below(DatumGetNumeric(rest), zero()))
		rest = DirectFunctionCall2(numeric_add, rest, NumericGetDatum(step));
	return DirectFunctionCall2(numeric_sub, NumericGetDatum(value), rest);
}
