/*-------------------------------------------------------------------------
 *
 * mask_pseudonym.c
 *	  Masks that put a pseudonym in a value's place: job_mask_hash,
 *	  job_mask_name, job_mask_email.
 *
 * A pseudonym is the beginning of the HMAC-SHA-256 of the value, so the same
 * value gives the same one everywhere, followed by a tag: a keyed hash of
 * that beginning (mask_key.c).  A value that has the form of a pseudonym and
 * the right tag is one, and is returned as it is; everything else is masked,
 * also what only looks like one because somebody has chosen the user name
 * anon_1234.  That makes every mask m idempotent, m(m(x)) = m(x) for all x,
 * but for a chance of one in 2^tag that a value which is none is taken for
 * one.
 *
 * How much of the HMAC: enough that among a hundred million values a pair
 * with the same pseudonym is not to be expected (with n values and b bits it
 * is there with a probability of n^2 / 2^(b + 1)): 64 bits in names, which
 * have to be short, at least 74 elsewhere.
 *
 * The three functions give unrelated pseudonyms to the same value.  A value
 * is a sequence of bytes in the encoding of the database: nothing is
 * normalized, except that char(n) ignores trailing blanks and citext case, as
 * their own comparisons do, so that what refers to a masked value still does.
 * The empty string stays: it says nothing.
 *
 * Called for each row, in the caller's per-tuple context.  No state but what
 * mask_key.c keeps and the type of the argument, in fn_extra.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/dependency.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "mask_key.h"

PG_FUNCTION_INFO_V1(job_mask_hash);
PG_FUNCTION_INFO_V1(job_mask_name);
PG_FUNCTION_INFO_V1(job_mask_email);

/* ------------------------------------------------------------------------
 * Pseudonyms that are text
 * ------------------------------------------------------------------------
 */

/* How a pseudonym is written: prefix, digits, suffix. */
typedef struct Form
{
	char		purpose;		/* sets the functions' digests apart */
	const char *prefix;
	const char *suffix;
	int			bits_per_digit;
	int			digits;
	int			value_length;	/* bytes of the HMAC, then comes the tag */
} Form;

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
static const char hex[] = "0123456789abcdef";

/* 112 bits and a tag of 48; 64 and 36; 88 and 40 */
static const Form hash_form = {'h', "anon_", "", 4, 40, 14};
static const Form name_form = {'n', "anon_", "", 5, 20, 8};
static const Form email_form = {'e', "", "@anon.invalid", 4, 32, 11};

#define UUID_PURPOSE 'u'
#define MAX_PSEUDONYM 20		/* bytes of the longest */

/* Bytes of a pseudonym; of the last one all bits may not be used. */
static int
form_length(const Form *form)
{
	return (form->digits * form->bits_per_digit + 7) / 8;
}

static void
fill_tag(const JanitorMaskKey *key, const Form *form, uint8 *bytes)
{
	int			spare = form_length(form) * 8 -
	form->digits * form->bits_per_digit;

	janitor_mask_tag(key, form->purpose, bytes, form->value_length,
					 bytes + form->value_length,
					 form_length(form) - form->value_length);
	bytes[form_length(form) - 1] &= 0xff << spare;
}

/* The digits, most significant bits first. */
static void
write_digits(const Form *form, const uint8 *bytes, char *out)
{
	const char *digits = form->bits_per_digit == 4 ? hex : alphabet;
	uint32		pending = 0;
	int			bits = 0;

	for (int i = 0; i < form->digits; i++)
	{
		if (bits < form->bits_per_digit)
		{
			pending = (pending << 8) | *bytes++;
			bits += 8;
		}
		bits -= form->bits_per_digit;
		out[i] = digits[(pending >> bits) & ((1 << form->bits_per_digit) - 1)];
	}
}

/* The value of a digit; -1: it is none. */
static int
digit_value(const Form *form, char digit)
{
	if (form->bits_per_digit == 5)
		return digit >= 'a' && digit <= 'z' ? digit - 'a' :
			digit >= '2' && digit <= '7' ? digit - '2' + 26 : -1;
	return digit >= '0' && digit <= '9' ? digit - '0' :
		digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* What write_digits() wrote; false: these are no digits. */
static bool
read_digits(const Form *form, const char *in, uint8 *bytes)
{
	uint32		pending = 0;
	int			bits = 0;

	for (int i = 0; i < form->digits; i++)
	{
		int			value = digit_value(form, in[i]);

		if (value < 0)
			return false;
		pending = (pending << form->bits_per_digit) | value;
		bits += form->bits_per_digit;
		if (bits >= 8)
		{
			bits -= 8;
			*bytes++ = (uint8) (pending >> bits);
		}
	}
	if (bits > 0)
		*bytes = (uint8) (pending << (8 - bits));
	return true;
}

static bool
is_pseudonym(JanitorMaskKey *key, const Form *form,
			 const char *data, size_t length)
{
	size_t		prefix = strlen(form->prefix);
	size_t		suffix = strlen(form->suffix);
	uint8		given[MAX_PSEUDONYM];
	uint8		right[MAX_PSEUDONYM];

	if (length != prefix + form->digits + suffix ||
		memcmp(data, form->prefix, prefix) != 0 ||
		memcmp(data + prefix + form->digits, form->suffix, suffix) != 0 ||
		!read_digits(form, data + prefix, given))
		return false;
	memcpy(right, given, form_length(form));
	fill_tag(key, form, right);
	return memcmp(given, right, form_length(form)) == 0;
}

/* The pseudonym of some bytes, which may be one already, as a varlena. */
static struct varlena *
pseudonym(JanitorMaskKey *key, const Form *form,
		  const char *data, size_t length)
{
	size_t		prefix = strlen(form->prefix);
	size_t		suffix = strlen(form->suffix);
	uint8		bytes[JANITOR_DIGEST_LENGTH];
	struct varlena *result;
	char	   *out;

	if (length == 0 || is_pseudonym(key, form, data, length))
		return (struct varlena *) cstring_to_text_with_len(data, length);

	janitor_mask_digest(key, form->purpose, data, length, bytes);
	fill_tag(key, form, bytes);
	result = palloc(VARHDRSZ + prefix + form->digits + suffix);
	SET_VARSIZE(result, VARHDRSZ + prefix + form->digits + suffix);
	out = VARDATA(result);
	memcpy(out, form->prefix, prefix);
	write_digits(form, bytes, out + prefix);
	memcpy(out + prefix + form->digits, form->suffix, suffix);
	return result;
}

/* ------------------------------------------------------------------------
 * Pseudonyms that are uuids
 * ------------------------------------------------------------------------
 */

#define UUID_VALUE_LENGTH 10	/* 74 bits without the version's; 48 of tag */

/* Version 8, for what applications define themselves: RFC 9562. */
static void
finish_uuid(const JanitorMaskKey *key, uint8 *bytes)
{
	bytes[6] = (bytes[6] & 0x0f) | 0x80;
	bytes[8] = (bytes[8] & 0x3f) | 0x80;
	janitor_mask_tag(key, UUID_PURPOSE, bytes, UUID_VALUE_LENGTH,
					 bytes + UUID_VALUE_LENGTH, UUID_LEN - UUID_VALUE_LENGTH);
}

static pg_uuid_t *
pseudonym_uuid(JanitorMaskKey *key, const pg_uuid_t *value)
{
	pg_uuid_t  *result = palloc(sizeof(pg_uuid_t));
	uint8		digest[JANITOR_DIGEST_LENGTH];

	memcpy(result->data, value->data, UUID_LEN);
	finish_uuid(key, result->data);
	if (memcmp(result->data, value->data, UUID_LEN) == 0)
		return result;
	janitor_mask_digest(key, UUID_PURPOSE, value->data, UUID_LEN, digest);
	memcpy(result->data, digest, UUID_LEN);
	finish_uuid(key, result->data);
	return result;
}

/* ------------------------------------------------------------------------
 * Types
 * ------------------------------------------------------------------------
 */

typedef enum Shape
{
	SHAPE_TEXT,					/* text, varchar */
	SHAPE_BPCHAR,				/* char(n) */
	SHAPE_CITEXT,
	SHAPE_BYTEA,
	SHAPE_UUID,
	SHAPE_OTHER
} Shape;

/* The type of the first argument, found out once per statement. */
typedef struct Argument
{
	Oid			type;
	Shape		shape;
	bool		is_domain;
	void	   *domain_cache;
} Argument;

static bool
is_citext(Oid type)
{
	Oid			citext = get_extension_oid("citext", true);

	return OidIsValid(citext) &&
		strcmp(format_type_be(type), "citext") == 0 &&
		getExtensionOfObject(TypeRelationId, type) == citext;
}

static Shape
shape_of(Oid type)
{
	switch (type)
	{
		case TEXTOID:
		case VARCHAROID:
			return SHAPE_TEXT;
		case BPCHAROID:
			return SHAPE_BPCHAR;
		case BYTEAOID:
			return SHAPE_BYTEA;
		case UUIDOID:
			return SHAPE_UUID;
		default:
			return is_citext(type) ? SHAPE_CITEXT : SHAPE_OTHER;
	}
}

static const char *
what_else(Oid type)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case FLOAT4OID:
		case FLOAT8OID:
			return "A number has no room for a pseudonym that can be recognized: use job_mask_number() or NULL, or make the column text.";
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return "Use job_mask_date().";
		case INETOID:
		case CIDROID:
			return "Use job_mask_ip().";
		case JSONOID:
		case JSONBOID:
			return "Use job_mask_json().";
		default:
			return "Set the column to NULL or to a constant.";
	}
}

static Argument *
look_at_argument(FunctionCallInfo fcinfo, const char *function, bool only_text)
{
	Argument   *argument = fcinfo->flinfo->fn_extra;
	Oid			base;

	if (argument)
		return argument;
	argument = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
									  sizeof(Argument));
	argument->type = get_fn_expr_argtype(fcinfo->flinfo, 0);
	if (!OidIsValid(argument->type))
		elog(ERROR, "could not determine the type of the argument");
	base = getBaseType(argument->type);
	argument->is_domain = base != argument->type;
	argument->shape = shape_of(base);
	if (argument->shape == SHAPE_OTHER ||
		(only_text && (argument->shape == SHAPE_BYTEA ||
					   argument->shape == SHAPE_UUID)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s cannot mask type %s", function,
						format_type_be(argument->type)),
				 errdetail(only_text ?
						   "It masks text, varchar, char(n) and citext." :
						   "It masks text, varchar, char(n), citext, bytea and uuid."),
				 errhint("%s", argument->shape == SHAPE_OTHER ?
						 what_else(base) : "Use job_mask_hash().")));
	fcinfo->flinfo->fn_extra = argument;
	return argument;
}

/* Bytes that are equal where values of the type are. */
static void
canonical(Shape shape, Datum value, char **data, size_t *length)
{
	struct varlena *varlena = PG_DETOAST_DATUM_PACKED(value);

	*data = VARDATA_ANY(varlena);
	*length = VARSIZE_ANY_EXHDR(varlena);
	if (shape == SHAPE_BPCHAR)
		*length = bpchartruelen(*data, *length);
	if (shape == SHAPE_CITEXT)
	{
		*data = str_tolower(*data, *length, DEFAULT_COLLATION_OID);
		*length = strlen(*data);
	}
}

static Datum
mask_any(FunctionCallInfo fcinfo, const Form *form, const char *function,
		 bool only_text)
{
	Argument   *argument = look_at_argument(fcinfo, function, only_text);
	text	   *key = PG_GETARG_TEXT_PP(1);
	Datum		result;

	if (argument->shape == SHAPE_UUID)
		result = UUIDPGetDatum(pseudonym_uuid(janitor_mask_key(key),
											  PG_GETARG_UUID_P(0)));
	else
	{
		char	   *data;
		size_t		length;

		canonical(argument->shape, PG_GETARG_DATUM(0), &data, &length);
		result = PointerGetDatum(pseudonym(janitor_mask_key(key), form,
										   data, length));
	}
	if (argument->is_domain)
		domain_check(result, false, argument->type, &argument->domain_cache,
					 fcinfo->flinfo->fn_mcxt);
	return result;
}

/* ------------------------------------------------------------------------
 * The functions
 * ------------------------------------------------------------------------
 */

/* job_mask_hash(value anyelement, key text) returns anyelement */
Datum
job_mask_hash(PG_FUNCTION_ARGS)
{
	return mask_any(fcinfo, &hash_form, "job_mask_hash()", false);
}

/* job_mask_name(value anyelement, key text) returns anyelement */
Datum
job_mask_name(PG_FUNCTION_ARGS)
{
	return mask_any(fcinfo, &name_form, "job_mask_name()", true);
}

/* job_mask_email(value text, key text) returns text */
Datum
job_mask_email(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	text	   *key = PG_GETARG_TEXT_PP(1);

	PG_RETURN_POINTER(pseudonym(janitor_mask_key(key), &email_form,
								VARDATA_ANY(value),
								VARSIZE_ANY_EXHDR(value)));
}
