/*-------------------------------------------------------------------------
 *
 * mask_json.c
 *	  job_mask_json: replaces the values at some paths of a JSON document.
 *
 * A path is a list of steps with dots between them: a key of an object or the
 * position in an array (from 0); * for any one of these; ** for any number of
 * them, also none.  A backslash takes the next character as it is, dot and
 * star too.  What a path does not lead to is left alone.
 *
 * All paths are followed at once while the document is copied, each as the
 * set of steps that may come next (a bit each), so the cost is one pass
 * whatever the stars.  The value that a path leads to is replaced as a whole,
 * by a scalar: in the result the same paths lead to the same places or
 * nowhere, so masking again changes nothing.
 *
 * Called for each row, in the caller's per-tuple context.  Paths that are
 * constant in a statement are parsed once, into its context.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(job_mask_json);

#define MAX_STEPS 63

typedef enum StepKind
{
	STEP_NAME,
	STEP_ANY,					/* * */
	STEP_DEEP					/* ** */
} StepKind;

typedef struct Step
{
	StepKind	kind;
	char	   *name;
	int			length;
} Step;

typedef struct Path
{
	int			count;
	Step		steps[MAX_STEPS];
} Path;

typedef struct Paths
{
	int			count;
	Path	   *paths;
} Paths;

/* A container that is being copied, and where in the paths it is. */
typedef struct Level
{
	bool		is_array;
	int			next;			/* position of an array's next element */
	uint64	   *places;			/* for each path, bit i: step i may be next */
} Level;

typedef struct Copy
{
	const Paths *paths;
	Level	   *levels;
	int			depth;			/* levels[depth] is the innermost */
	int			allocated;
	uint64	   *child;			/* places of the value that comes next */
	JsonbParseState *state;
	JsonbValue *result;
	JsonbValue	replacement;
} Copy;

/* ------------------------------------------------------------------------
 * Paths
 * ------------------------------------------------------------------------
 */

static void
error_path(const char *path, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid path \"%s\": %s", path, what),
			 errhint("A path is made of keys, positions, * and **, with dots between them: \"user.email\", \"contacts.*.phone\", \"**.name\".")));
}

/* Reads one step; returns what follows it. */
static const char *
parse_step(const char *path, const char *at, Step *step)
{
	StringInfoData name;
	bool		escaped = false;

	initStringInfo(&name);
	for (; *at && *at != '.'; at++)
	{
		if (*at == '\\')
		{
			escaped = true;
			if (*++at == '\0')
				error_path(path, "nothing follows the backslash");
		}
		appendStringInfoChar(&name, *at);
	}
	if (name.len == 0)
		error_path(path, "a step is empty");
	step->kind = escaped ? STEP_NAME :
		strcmp(name.data, "*") == 0 ? STEP_ANY :
		strcmp(name.data, "**") == 0 ? STEP_DEEP : STEP_NAME;
	step->name = name.data;
	step->length = name.len;
	return at;
}

static void
parse_path(const char *path, Path *result)
{
	const char *at = path;

	result->count = 0;
	for (;;)
	{
		if (result->count == MAX_STEPS)
			error_path(path, "it has too many steps");
		at = parse_step(path, at, &result->steps[result->count++]);
		if (*at == '\0')
			return;
		at++;
	}
}

static Paths *
parse_paths(ArrayType *array)
{
	Paths	   *paths = palloc(sizeof(Paths));
	Datum	   *values;
	bool	   *nulls;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT,
					  &values, &nulls, &paths->count);
	paths->paths = palloc(sizeof(Path) * Max(paths->count, 1));
	for (int i = 0; i < paths->count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a path must not be null")));
		parse_path(TextDatumGetCString(values[i]), &paths->paths[i]);
	}
	return paths;
}

/* Parsed once, if they are the same for all rows. */
static Paths *
paths_of_call(FunctionCallInfo fcinfo)
{
	Paths	   *paths = fcinfo->flinfo->fn_extra;
	MemoryContext caller;

	if (paths)
		return paths;
	if (!get_fn_expr_arg_stable(fcinfo->flinfo, 1))
		return parse_paths(PG_GETARG_ARRAYTYPE_P(1));
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	paths = parse_paths(PG_GETARG_ARRAYTYPE_P(1));
	MemoryContextSwitchTo(caller);
	fcinfo->flinfo->fn_extra = paths;
	return paths;
}

/* Adds what ** may stand for: nothing. */
static uint64
with_skips(const Path *path, uint64 places)
{
	for (int i = 0; i < path->count; i++)
	{
		if (places & (UINT64CONST(1) << i) && path->steps[i].kind == STEP_DEEP)
			places |= UINT64CONST(1) << (i + 1);
	}
	return places;
}

/* Where in the path a member or element of a container is. */
static uint64
after_step(const Path *path, uint64 places, const char *name, int length)
{
	uint64		after = 0;

	for (int i = 0; i < path->count; i++)
	{
		const Step *step = &path->steps[i];

		if (!(places & (UINT64CONST(1) << i)))
			continue;
		if (step->kind == STEP_DEEP)
			after |= UINT64CONST(1) << i;
		else if (step->kind == STEP_ANY ||
				 (step->length == length &&
				  memcmp(step->name, name, length) == 0))
			after |= UINT64CONST(1) << (i + 1);
	}
	return with_skips(path, after);
}

/* Follows all paths one step; does one of them end there? */
static bool
follow(Copy *copy, const char *name, int length)
{
	bool		ends = false;

	for (int i = 0; i < copy->paths->count; i++)
	{
		const Path *path = &copy->paths->paths[i];

		copy->child[i] = after_step(path, copy->levels[copy->depth].places[i],
									name, length);
		ends = ends || copy->child[i] & (UINT64CONST(1) << path->count);
	}
	return ends;
}

/* ------------------------------------------------------------------------
 * The copy
 * ------------------------------------------------------------------------
 */

/* Begins a container, at the places in copy->child. */
static void
push_level(Copy *copy, bool is_array)
{
	Size		size = sizeof(uint64) * Max(copy->paths->count, 1);
	Level	   *level;

	if (++copy->depth == copy->allocated)
	{
		copy->allocated *= 2;
		copy->levels = repalloc(copy->levels,
								copy->allocated * sizeof(Level));
	}
	level = &copy->levels[copy->depth];
	level->is_array = is_array;
	level->next = 0;
	level->places = palloc(size);
	memcpy(level->places, copy->child, size);
}

static void
begin_copy(Copy *copy, const Paths *paths)
{
	memset(copy, 0, sizeof(*copy));
	copy->paths = paths;
	copy->depth = -1;
	copy->allocated = 8;
	copy->levels = palloc(copy->allocated * sizeof(Level));
	copy->child = palloc(sizeof(uint64) * Max(paths->count, 1));
	for (int i = 0; i < paths->count; i++)
		copy->child[i] = with_skips(&paths->paths[i], 1);
}

/* Is the next element of the array, if there is one, to be replaced? */
static bool
next_element_goes(Copy *copy)
{
	char		position[MAXINT8LEN + 1];
	int			length = pg_lltoa(copy->levels[copy->depth].next++, position);

	return follow(copy, position, length);
}

/* Copies one token; true if the value that follows is to be replaced. */
static bool
copy_token(Copy *copy, JsonbIteratorToken token, JsonbValue *value)
{
	bool		is_end = token == WJB_END_ARRAY || token == WJB_END_OBJECT;
	bool		is_begin = token == WJB_BEGIN_ARRAY ||
	token == WJB_BEGIN_OBJECT;

	copy->result = pushJsonbValue(&copy->state, token,
								  is_begin || is_end ? NULL : value);
	if (is_begin)
		push_level(copy, token == WJB_BEGIN_ARRAY);
	else if (is_end)
		pfree(copy->levels[copy->depth--].places);
	return token == WJB_KEY &&
		follow(copy, value->val.string.val, value->val.string.len);
}

static Jsonb *
masked_copy(Copy *copy, Jsonb *document)
{
	JsonbIterator *iterator = JsonbIteratorInit(&document->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		goes = false;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (copy->depth >= 0 && copy->levels[copy->depth].is_array)
			goes = next_element_goes(copy);
		token = JsonbIteratorNext(&iterator, &value, goes);
		if (token == WJB_DONE)
			return JsonbValueToJsonb(copy->result);
		if (goes && (token == WJB_VALUE || token == WJB_ELEM))
			value = copy->replacement;
		goes = copy_token(copy, token, &value);
	}
}

/* job_mask_json(value jsonb, paths text[], replacement jsonb) returns jsonb */
Datum
job_mask_json(PG_FUNCTION_ARGS)
{
	Jsonb	   *document = PG_GETARG_JSONB_P(0);
	Jsonb	   *replacement = PG_GETARG_JSONB_P(2);
	Copy		copy;

	begin_copy(&copy, paths_of_call(fcinfo));
	if (!JB_ROOT_IS_SCALAR(replacement) ||
		!JsonbExtractScalar(&replacement->root, &copy.replacement))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON string, number, boolean or null",
						"replacement")));
	if (JB_ROOT_IS_SCALAR(document) || copy.paths->count == 0)
		PG_RETURN_JSONB_P(document);
	PG_RETURN_JSONB_P(masked_copy(&copy, document));
}
