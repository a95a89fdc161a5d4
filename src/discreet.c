/*-------------------------------------------------------------------------
 *
 * discreet.c
 *	  Error texts that show no row values.
 *
 * The server puts values into its messages: the key that exists already, the
 * text that is no number, whatever a function raises.  Where the rows are
 * those of persons who want to be forgotten, these messages would remember
 * them, in our tables and in the server log.  So a message is built anew from
 * what names no row: the error's code, and the objects that the error itself
 * names (schema, table, column, type, constraint).  Nothing of the message
 * passes through, unless it is one of those that pg_janitor itself has written
 * for this (janitor_ereport_plain).
 *
 * An ERROR that is caught is not logged by the server.  What else it may log
 * of such a run is turned off for the session: see janitor_session_discreet().
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "discreet.h"

#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "settings.h"

/*
 * What codes mean, in words; of a class (its last three characters 000) what
 * all its other codes have in common.
 */
static const struct
{
	int			sqlstate;
	const char *words;
}			meanings[] = {
	{ERRCODE_UNIQUE_VIOLATION, "unique violation"},
	{ERRCODE_FOREIGN_KEY_VIOLATION, "foreign key violation"},
	{ERRCODE_CHECK_VIOLATION, "check violation"},
	{ERRCODE_NOT_NULL_VIOLATION, "not-null violation"},
	{ERRCODE_EXCLUSION_VIOLATION, "exclusion violation"},
	{ERRCODE_RESTRICT_VIOLATION, "restrict violation"},
	{ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION, "constraint violation"},
	{ERRCODE_INVALID_TEXT_REPRESENTATION, "a text is no value of the type"},
	{ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "number out of range"},
	{ERRCODE_DIVISION_BY_ZERO, "division by zero"},
	{ERRCODE_STRING_DATA_RIGHT_TRUNCATION, "text too long"},
	{ERRCODE_INVALID_DATETIME_FORMAT, "a text is no date or time"},
	{ERRCODE_DATETIME_VALUE_OUT_OF_RANGE, "date or time out of range"},
	{ERRCODE_NULL_VALUE_NOT_ALLOWED, "null value not allowed"},
	{ERRCODE_DATA_EXCEPTION, "a value could not be used"},
	{ERRCODE_CARDINALITY_VIOLATION, "more than one row"},
	{ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION, "rows were put back, or changed by a trigger"},
	{ERRCODE_RAISE_EXCEPTION, "raised by a function"},
	{ERRCODE_NO_DATA_FOUND, "no row found by a function"},
	{ERRCODE_TOO_MANY_ROWS, "more than one row found by a function"},
	{ERRCODE_ASSERT_FAILURE, "assertion of a function failed"},
	{ERRCODE_T_R_DEADLOCK_DETECTED, "deadlock"},
	{ERRCODE_T_R_SERIALIZATION_FAILURE, "serialization failure"},
	{ERRCODE_LOCK_NOT_AVAILABLE, "a lock could not be had in time"},
	{ERRCODE_QUERY_CANCELED, "canceled"},
	{ERRCODE_INSUFFICIENT_PRIVILEGE, "permission denied"},
	{ERRCODE_UNDEFINED_TABLE, "undefined table"},
	{ERRCODE_UNDEFINED_COLUMN, "undefined column"},
	{ERRCODE_UNDEFINED_FUNCTION, "undefined function"},
	{ERRCODE_DATATYPE_MISMATCH, "type mismatch"},
	{ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION, "a statement is not valid"},
	{ERRCODE_INVALID_TRANSACTION_TERMINATION, "a procedure tried to commit or roll back"},
	{ERRCODE_FEATURE_NOT_SUPPORTED, "not supported"},
	{ERRCODE_DISK_FULL, "disk full"},
	{ERRCODE_OUT_OF_MEMORY, "out of memory"},
	{ERRCODE_INSUFFICIENT_RESOURCES, "insufficient resources"},
	{ERRCODE_PROGRAM_LIMIT_EXCEEDED, "a limit of the server was exceeded"},
	{ERRCODE_FDW_ERROR, "error of a foreign server"},
	{ERRCODE_IO_ERROR, "input or output error"},
	{ERRCODE_INTERNAL_ERROR, "internal error of the server"},
};

static const char *
find_words(int sqlstate)
{
	for (int i = 0; i < lengthof(meanings); i++)
	{
		if (meanings[i].sqlstate == sqlstate)
			return meanings[i].words;
	}
	return NULL;
}

/* Codes of users' own making have no class that we know. */
static const char *
words_for(int sqlstate)
{
	const char *words = find_words(sqlstate);

	if (words == NULL)
		words = find_words(ERRCODE_TO_CATEGORY(sqlstate));
	return words ? words : "error";
}

static void
append_table(StringInfo text, const JanitorError *error, Oid relid)
{
	if (error->constraint != NULL &&
		(OidIsValid(get_relation_constraint_oid(relid, error->constraint, true)) ||
		 OidIsValid(get_relname_relid(error->constraint,
									  get_rel_namespace(relid)))))
		appendStringInfo(text, ", constraint \"%s\"", error->constraint);
	if (error->column != NULL &&
		get_attnum(relid, error->column) != InvalidAttrNumber)
		appendStringInfo(text, ", column \"%s\"", error->column);
	appendStringInfo(text, ", table %s",
					 quote_qualified_identifier(error->schema, error->table));
}

/*
 * The objects that the error names.  Those that exist: a function can raise
 * an error with whatever it likes in their place.
 */
static void
append_objects(StringInfo text, const JanitorError *error)
{
	Oid			schema;

	if (error->schema == NULL || !IsTransactionState())
		return;
	schema = get_namespace_oid(error->schema, true);
	if (error->table != NULL)
	{
		Oid			relid = get_relname_relid(error->table, schema);

		if (OidIsValid(relid))
			append_table(text, error, relid);
	}
	else if (error->datatype != NULL &&
			 OidIsValid(GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
										CStringGetDatum(error->datatype),
										ObjectIdGetDatum(schema))))
		appendStringInfo(text, ", type %s",
						 quote_qualified_identifier(error->schema,
													error->datatype));
}

char *
janitor_error_discreetly(const JanitorError *error)
{
	StringInfoData text;

	if (janitor_store_error_detail || error->plain)
		return pstrdup(error->message);
	initStringInfo(&text);
	appendStringInfo(&text, "%s (SQLSTATE %s)", words_for(error->sqlstate),
					 unpack_sql_state(error->sqlstate));
	append_objects(&text, error);
	return text.data;
}

void
janitor_rethrow_discreetly(const JanitorError *error)
{
	janitor_ereport_plain(ERROR,
						  (errcode(error->sqlstate),
						   errmsg("%s", janitor_error_discreetly(error)),
						   error->plain && error->hint ?
						   errhint("%s", error->hint) : 0));
}

void
janitor_discreetly(void (*function) (void *arg), void *arg)
{
	JanitorError *error = janitor_attempt_inside(function, arg);

	if (error != NULL)
		janitor_rethrow_discreetly(error);
}

/* Whatever the owner's own rights: these are ours to set. */
static void
silence(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SET, true, 0, false);
}

void
janitor_session_discreet(void)
{
	if (janitor_store_error_detail)
		return;
	silence("log_min_messages", "fatal");	/* LOG, too, is below that */
	silence("log_min_error_statement", "panic");
	silence("log_error_verbosity", "terse");
	silence("log_statement", "none");
	silence("log_min_duration_statement", "-1");
	silence("log_min_duration_sample", "-1");
	silence("log_duration", "off");
	silence("log_parameter_max_length", "0");
	silence("log_parameter_max_length_on_error", "0");
	silence("debug_print_parse", "off");
	silence("debug_print_rewritten", "off");
	silence("debug_print_plan", "off");
	if (GetConfigOption("auto_explain.log_min_duration", true, false) != NULL)
		silence("auto_explain.log_min_duration", "-1");
}

void
janitor_session_heard(void)
{
	silence("log_min_messages", NULL);
}
