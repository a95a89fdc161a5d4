/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Transaction brackets, session reset, errors as data.
 *
 * The only file that begins, commits or aborts transactions.  Runs in the
 * scheduler and the workers.
 *
 * Memory: beginning a transaction switches to its context and committing
 * leaves it for TopMemoryContext (up to 17) or for the context before (18).
 * The functions here put back the context that was current, whatever the
 * version, so a caller's pallocs live where its own code says.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "session.h"

#include "commands/async.h"
#include "commands/discard.h"
#include "executor/spi.h"
#include "jit/jit.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

/* Bytes of a message that are kept. */
#define MESSAGE_LIMIT 8000

static int	saved_synchronous_commit = -1;

/* Begins with a fresh now(); without this it would stay at an old one. */
static void
start_transaction(void)
{
	MemoryContext caller = CurrentMemoryContext;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(caller);
}

/*
 * synchronous_commit is read at the commit only; it is set for that moment
 * and put back, also (in janitor_abort) when the commit fails.
 */
static void
restore_synchronous_commit(void)
{
	if (saved_synchronous_commit >= 0)
		synchronous_commit = saved_synchronous_commit;
	saved_synchronous_commit = -1;
}

/* Statistics go out only between transactions. */
static void
commit_transaction(bool asynchronously)
{
	MemoryContext caller = CurrentMemoryContext;

	if (asynchronously)
	{
		saved_synchronous_commit = synchronous_commit;
		synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	}
	CommitTransactionCommand();
	restore_synchronous_commit();
	MemoryContextSwitchTo(caller);
	pgstat_report_stat(false);
}

void
janitor_begin(void)
{
	start_transaction();

	/* the owner's own defaults must not keep us from writing a record */
	XactReadOnly = false;
	XactIsoLevel = XACT_READ_COMMITTED;
	XactDeferrable = false;
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
janitor_commit(bool asynchronously)
{
	PopActiveSnapshot();
	commit_transaction(asynchronously);
}

void
janitor_abort(void)
{
	MemoryContext caller = CurrentMemoryContext;

	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	AbortOutOfAnyTransaction();
	PortalErrorCleanup();
	jit_reset_after_error();
	restore_synchronous_commit();
	MemoryContextSwitchTo(caller);
	RESUME_INTERRUPTS();
	pgstat_report_stat(false);
}

void
janitor_begin_run(void)
{
	start_transaction();
}

void
janitor_commit_run(bool asynchronously)
{
	commit_transaction(asynchronously);
}

/* Copies a text for the record; its beginning, if it is too long. */
char *
janitor_clip(const char *text)
{
	int			length = strlen(text);

	if (length <= MESSAGE_LIMIT)
		return pstrdup(text);
	length = pg_mbcliplen(text, length, MESSAGE_LIMIT);
	return psprintf("%.*s...", length, text);
}

static char *
copy_text(const char *text)
{
	return text ? janitor_clip(text) : NULL;
}

JanitorError *
janitor_catch_error(MemoryContext context)
{
	JanitorError *error;
	ErrorData  *data;

	MemoryContextSwitchTo(context);
	data = CopyErrorData();
	FlushErrorState();
	error = palloc(sizeof(JanitorError));
	error->sqlstate = data->sqlerrcode;
	error->message = janitor_clip(data->message ? data->message : "");
	error->plain = data->domain != NULL &&
		strcmp(data->domain, JANITOR_PLAIN_DOMAIN) == 0;
	error->hint = copy_text(data->hint);
	error->schema = copy_text(data->schema_name);
	error->table = copy_text(data->table_name);
	error->column = copy_text(data->column_name);
	error->datatype = copy_text(data->datatype_name);
	error->constraint = copy_text(data->constraint_name);
	FreeErrorData(data);
	return error;
}

JanitorError *
janitor_attempt(void (*function) (void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	JanitorError *volatile error = NULL;

	PG_TRY();
	{
		function(arg);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		error = janitor_catch_error(caller);
		janitor_abort();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return error;
}

/*
 * The nest level of its own is what undoes settings: those of a subtransaction
 * that commits would stay.
 */
JanitorError *
janitor_attempt_inside(void (*function) (void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	JanitorError *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		int			level = NewGUCNestLevel();

		function(arg);
		AtEOXact_GUC(false, level);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		error = janitor_catch_error(caller);
		RollbackAndReleaseCurrentSubTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}

static int
name_object(int field, const char *name)
{
	return name ? err_generic_string(field, name) : 0;
}

void
janitor_rethrow(const JanitorError *error)
{
	ereport_domain(ERROR, error->plain ? JANITOR_PLAIN_DOMAIN : TEXTDOMAIN,
				   (errcode(error->sqlstate),
					errmsg("%s", error->message),
					error->hint ? errhint("%s", error->hint) : 0,
					name_object(PG_DIAG_SCHEMA_NAME, error->schema),
					name_object(PG_DIAG_TABLE_NAME, error->table),
					name_object(PG_DIAG_COLUMN_NAME, error->column),
					name_object(PG_DIAG_DATATYPE_NAME, error->datatype),
					name_object(PG_DIAG_CONSTRAINT_NAME, error->constraint)));
}

void
janitor_report_statistics(void)
{
	pgstat_report_stat(true);
}

/*
 * What DISCARD ALL does.  Run by itself, in its own transaction, after every
 * run; temporary tables are the only part that writes.
 */
void
janitor_session_reset(void)
{
	DiscardStmt statement;

	MemSet(&statement, 0, sizeof(statement));
	statement.type = T_DiscardStmt;
	statement.target = DISCARD_ALL;

	/* dropping temporary tables needs a snapshot */
	janitor_begin();
	DiscardCommand(&statement, true);
	janitor_commit(true);
}

void
janitor_session_apply(Jsonb *settings)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	iterator = JsonbIteratorInit(&settings->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
		{
			char	   *text = NULL;

			switch (value.type)
			{
				case jbvString:
					text = pnstrdup(value.val.string.val,
									value.val.string.len);
					break;
				case jbvBool:
					text = pstrdup(value.val.boolean ? "on" : "off");
					break;
				case jbvNumeric:
					text = DatumGetCString(DirectFunctionCall1(numeric_out,
															   NumericGetDatum(value.val.numeric)));
					break;
				default:
					break;		/* refused when the job was defined */
			}
			if (text)
				janitor_session_set(name, text);
		}
	}
	/* what its texts were read with, see parse.c */
	janitor_session_set("standard_conforming_strings", "on");
}

static void
set_locally(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* The role that janitor_as_role() has become. */
static Oid	acting_for = InvalidOid;

bool
janitor_acting_for(Oid role)
{
	return OidIsValid(role) && role == acting_for;
}

void
janitor_session_set(const char *name, const char *value)
{
	(void) set_config_option(name, value,
							 superuser() ? PGC_SUSET : PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SET, true, 0, false);
}

void
janitor_session_set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

int
janitor_settings_neutral(void)
{
	int			level = NewGUCNestLevel();

	set_locally("datestyle", "ISO, YMD");
	set_locally("intervalstyle", "postgres");
	set_locally("timezone", "UTC");
	set_locally("extra_float_digits", "3");
	set_locally("bytea_output", "hex");
	return level;
}

void
janitor_settings_restore(int level)
{
	AtEOXact_GUC(true, level);
}

void
janitor_as_role(Oid role, const char *search_path, const char *time_zone,
				void (*function) (void *arg), void *arg)
{
	Oid			caller;
	Oid			acted_for = acting_for;
	int			context;
	int			nest_level;

	GetUserIdAndSecContext(&caller, &context);
	SetUserIdAndSecContext(role, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	nest_level = NewGUCNestLevel();
	set_locally("search_path", search_path ? search_path :
				"pg_catalog, pg_temp");
	set_locally("standard_conforming_strings", "on");
	if (time_zone != NULL)
		set_locally("timezone", time_zone);

	acting_for = role;
	PG_TRY();
	{
		function(arg);
	}
	PG_FINALLY();
	{
		acting_for = acted_for;
	}
	PG_END_TRY();

	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(caller, context);
}

static void
pin(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

void
janitor_session_pin(void)
{
	pin("search_path", "pg_catalog, pg_temp");
	pin("lock_timeout", "1s");
	pin("statement_timeout", "0");
	pin("default_transaction_isolation", "read committed");
	pin("default_transaction_read_only", "off");
	pin("default_transaction_deferrable", "off");
	pin("idle_in_transaction_session_timeout", "0");
	pin("row_security", "off");
	pin("jit", "off");
}

void
janitor_procedure_begin(void)
{
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
janitor_procedure_commit(void)
{
	SPI_commit();
}

void
janitor_procedure_end(void)
{
	SPI_finish();
}

void
janitor_prevent_misuse(const char *function_name)
{
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute %s within security-restricted operation",
						function_name)));
	PreventCommandIfReadOnly(function_name);
	PreventCommandDuringRecovery(function_name);
	PreventCommandIfParallelMode(function_name);
}
