/*-------------------------------------------------------------------------
 *
 * fuzz_input.c
 *	  libFuzzer inside a server: any text for the parameters of statements.
 *
 * fuzz_input(statements text, options text[]) hands this process over to
 * libFuzzer, which ends it.  The last statement says what is to be true of the
 * parameters $1, $2 and so on, all text, and returns that as one boolean; NULL,
 * and any error that is not an internal one, is as good as true.  What an
 * input changes is rolled back.
 *
 * An input is the parameters, with a newline after each but the last.  Their
 * memory ends with their last byte, and does not come from palloc, so that
 * tools that watch malloc see who reads on.
 *
 * For single-user mode: this process is nobody else's.  The library has to be
 * preloaded before pg_janitor, which is compiled with -fsanitize=fuzzer-no-link
 * and so needs libFuzzer to be there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(fuzz_input);

#define MAX_PARAMETERS 4

extern int	LLVMFuzzerRunDriver(int *argc, char ***argv,
								int (*callback) (const uint8_t *, size_t));

static SPIPlanPtr plan;
static int	parameter_count;

/* ----- parameters ----- */

static Datum
make_parameter(const char *bytes, int length)
{
	text	   *value = malloc(VARHDRSZ + length);

	if (value == NULL)
		elog(FATAL, "out of memory");
	SET_VARSIZE(value, VARHDRSZ + length);
	memcpy(VARDATA(value), bytes, length);
	return PointerGetDatum(value);
}

static void
free_parameters(Datum *parameters)
{
	for (int i = 0; i < parameter_count; i++)
		free(DatumGetPointer(parameters[i]));
}

/* False if there are not enough, or the database could not have them. */
static bool
make_parameters(const char *input, int size, Datum *parameters)
{
	const char *ends[MAX_PARAMETERS];
	const char *at = input;

	if (!pg_verifymbstr(input, size, true))
		return false;
	for (int i = 0; i < parameter_count - 1; i++)
	{
		ends[i] = memchr(at, '\n', input + size - at);
		if (ends[i] == NULL)
			return false;
		at = ends[i] + 1;
	}
	ends[parameter_count - 1] = input + size;

	at = input;
	for (int i = 0; i < parameter_count; i++)
	{
		parameters[i] = make_parameter(at, ends[i] - at);
		at = ends[i] + 1;
	}
	return true;
}

/* ----- one input ----- */

static bool
is_internal(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_INTERNAL_ERROR ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_SYSTEM_ERROR;
}

/* What is wrong with what the statements said; NULL: nothing. */
static const char *
execute(Datum *parameters)
{
	Datum		result;
	bool		isnull;

	if (SPI_execute_plan(plan, parameters, NULL, false, 0) < 0 ||
		SPI_processed != 1)
		return "the last statement does not return one row";
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						   &isnull);
	return isnull || DatumGetBool(result) ? NULL : "it is false";
}

static int
try_input(const uint8_t *data, size_t size)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Datum		parameters[MAX_PARAMETERS];
	const char *volatile wrong = NULL;

	if (!make_parameters((const char *) data, size, parameters))
		return 0;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		wrong = execute(parameters);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (is_internal(error->sqlerrcode))
			wrong = error->message;
		else
			FreeErrorData(error);
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (wrong != NULL)
	{
		fprintf(stderr, "violated: %s\n", wrong);
		abort();
	}
	free_parameters(parameters);
	return 0;
}

/* ----- the statements ----- */

/* Prepared with the first few parameters that it has, at least one. */
static void
prepare(const char *statements)
{
	Oid			types[MAX_PARAMETERS] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID};

	parameter_count = MAX_PARAMETERS;
	while (parameter_count > 1 &&
		   strstr(statements, psprintf("$%d", parameter_count)) == NULL)
		parameter_count--;
	plan = SPI_prepare(statements, parameter_count, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(FATAL, "could not prepare the statements");
}

/*
 * fuzz_input(statements text, options text[])
 *
 * The options are libFuzzer's, and directories of inputs; it writes new ones
 * into the first.  Does not return.
 */
Datum
fuzz_input(PG_FUNCTION_ARGS)
{
	ArrayType  *options = PG_GETARG_ARRAYTYPE_P(1);
	Datum	   *elements;
	char	  **arguments;
	int			count;

	deconstruct_array(options, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  NULL, &count);
	arguments = palloc0((count + 2) * sizeof(char *));
	arguments[0] = "fuzz_input";
	for (int i = 0; i < count; i++)
		arguments[i + 1] = TextDatumGetCString(elements[i]);
	count++;

	SPI_connect();
	prepare(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	exit(LLVMFuzzerRunDriver(&count, &arguments, try_input));
}
