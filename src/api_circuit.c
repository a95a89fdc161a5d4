/*-------------------------------------------------------------------------
 *
 * api_circuit.c
 *	  SQL functions for circuits: job_set_circuit, job_drop_circuit, and what
 *	  the application shares with jobs, job_circuit_allows, job_circuit_report.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "api.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "gate.h"
#include "session.h"
#include "settings.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(job_set_circuit);
PG_FUNCTION_INFO_V1(job_drop_circuit);
PG_FUNCTION_INFO_V1(job_circuit_allows);
PG_FUNCTION_INFO_V1(job_circuit_report);
PG_FUNCTION_INFO_V1(job_circuit_state);

#define MAX_THRESHOLD 1000

/* --- which circuit --- */

/* The circuit of the first argument as it is now, for somebody who may. */
static void
circuit_for_use(FunctionCallInfo fcinfo, JanitorCircuit *circuit)
{
	char	   *name = janitor_arg_text_required(fcinfo, 0, "circuit");

	if (!janitor_circuit_now(name, circuit))
		janitor_no_circuit(name);
	janitor_circuit_check_owner(circuit);
}

/* Changes of one circuit come one after the other. */
static void
lock_name(const char *name)
{
	janitor_trigger_lock(name, "@circuit");
}

/* Its row, locked. */
static void
lock_circuit(const char *name, JanitorCircuit *circuit)
{
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!janitor_circuit_find(name, circuit))
			janitor_no_circuit(name);
	} while (janitor_circuit_lock(circuit, true) != JANITOR_LOCKED);
}

/* --- job_set_circuit --- */

static const Interval *
arg_period(FunctionCallInfo fcinfo, int n, const char *name, int64 *usec)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	*usec = janitor_interval_usec(PG_GETARG_INTERVAL_P(n));
	if (*usec <= 0 || *usec > 366 * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be greater than zero and at most 366 days",
						name)));
	return PG_GETARG_INTERVAL_P(n);
}

static int
arg_threshold(FunctionCallInfo fcinfo)
{
	int			threshold = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);

	if (threshold < 1 || threshold > MAX_THRESHOLD)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"failure_threshold\" must be between 1 and %d",
						MAX_THRESHOLD)));
	return threshold;
}

/* The role that the call names, which the caller can act for. */
static void
set_owner(JanitorCircuit *circuit, char *owner)
{
	circuit->owner = owner;
	circuit->owner_oid = get_role_oid(owner, false);
	if (!superuser() && !janitor_can_act_for(GetUserId(), circuit->owner_oid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to give a circuit to role \"%s\"",
						owner),
				 errhint("You must be able to SET ROLE to the owner of a circuit.")));
}

/* Names are taken, even by circuits that the user may not know of. */
static void
check_may_change(const JanitorCircuit *circuit)
{
	if (!janitor_circuit_visible(circuit))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("circuit \"%s\" already exists", circuit->name),
				 errdetail("It belongs to a role that you are not a member of."),
				 errhint("Choose another name.")));
	janitor_circuit_check_owner(circuit);
}

/*
 * job_set_circuit(circuit text, failure_threshold int, "window" interval,
 * cooldown interval, owner text) returns void
 *
 * The state of one that is there already is left as it is.
 */
Datum
job_set_circuit(PG_FUNCTION_ARGS)
{
	char	   *name;
	char	   *owner;
	JanitorCircuit circuit;
	JanitorCircuitPolicy policy;
	const Interval *window;
	const Interval *cooldown;
	bool		exists;

	janitor_prevent_misuse("job_set_circuit()");
	name = janitor_arg_text_required(fcinfo, 0, "circuit");
	janitor_name_check("circuit", name);
	policy.failure_threshold = arg_threshold(fcinfo);
	window = arg_period(fcinfo, 2, "window", &policy.window);
	cooldown = arg_period(fcinfo, 3, "cooldown", &policy.cooldown);
	owner = janitor_arg_text(fcinfo, 4);

	lock_name(name);
	exists = janitor_circuit_find(name, &circuit);
	if (exists)
	{
		check_may_change(&circuit);
		lock_circuit(name, &circuit);
	}
	circuit.policy = policy;
	if (owner != NULL || !exists)
		set_owner(&circuit, owner ? owner :
				  GetUserNameFromId(GetUserId(), false));
	if (exists)
		janitor_circuit_update(&circuit, window, cooldown);
	else
	{
		circuit.name = name;
		circuit.breaker.state = JANITOR_CIRCUIT_CLOSED;
		circuit.breaker.since = janitor_clock();
		janitor_circuit_insert(&circuit, window, cooldown);
	}
	janitor_wake_all_at_end();
	PG_RETURN_VOID();
}

/* --- job_drop_circuit --- */

typedef struct Users
{
	const char *circuit;
	bool		any;
	char	   *job_name;		/* one of them that the user may know of */
} Users;

static void
find_user(HeapTuple tuple, void *arg)
{
	Users	   *users = arg;
	JanitorJob *job = janitor_job_from_tuple(tuple);

	if (job->circuit == NULL || strcmp(job->circuit, users->circuit) != 0)
		return;
	users->any = true;
	if (janitor_job_visible(job))
		users->job_name = job->name;
}

static void
refuse_to_drop(const Users *users)
{
	if (users->job_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("circuit \"%s\" is used by a job of another role",
						users->circuit)));
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("circuit \"%s\" is used by job \"%s\"", users->circuit,
					users->job_name),
			 errhint("SELECT job_alter(%s, '{\"circuit\": null}'); takes it off.",
					 quote_literal_cstr(users->job_name))));
}

/* job_drop_circuit(circuit text) returns void */
Datum
job_drop_circuit(PG_FUNCTION_ARGS)
{
	JanitorCircuit circuit;
	Users		users = {0};

	janitor_prevent_misuse("job_drop_circuit()");
	circuit_for_use(fcinfo, &circuit);
	lock_name(circuit.name);
	lock_circuit(circuit.name, &circuit);
	users.circuit = circuit.name;
	janitor_definition_scan(find_user, &users);
	if (users.any)
		refuse_to_drop(&users);
	(void) janitor_circuit_prune(circuit.name, DT_NOEND, PG_INT32_MAX);
	janitor_circuit_delete(&circuit);
	janitor_wake_all_at_end();
	PG_RETURN_VOID();
}

/* --- for the application --- */

/* job_circuit_allows(circuit text) returns boolean */
Datum
job_circuit_allows(PG_FUNCTION_ARGS)
{
	TimestampTz now = janitor_clock();
	JanitorCircuit circuit;

	janitor_prevent_misuse("job_circuit_allows()");
	circuit_for_use(fcinfo, &circuit);
	switch (janitor_circuit_passage(&circuit.policy, &circuit.breaker, now))
	{
		case JANITOR_PASS:
			PG_RETURN_BOOL(true);
		case JANITOR_PROBE:
			PG_RETURN_BOOL(janitor_circuit_take_probe(&circuit, now));
		case JANITOR_NO_PASS:
			break;
	}
	PG_RETURN_BOOL(false);
}

/* job_circuit_report(circuit text, success boolean) returns text */
Datum
job_circuit_report(PG_FUNCTION_ARGS)
{
	JanitorCircuit circuit;

	janitor_prevent_misuse("job_circuit_report()");
	circuit_for_use(fcinfo, &circuit);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "success")));
	janitor_circuit_feed(circuit.name, PG_GETARG_BOOL(1), DT_NOBEGIN, 0);
	janitor_circuit_settle(circuit.name);
	(void) janitor_circuit_now(circuit.name, &circuit);
	PG_RETURN_TEXT_P(cstring_to_text(janitor_circuit_state_name(circuit.breaker.state)));
}

/* --- for the views --- */

/* Or is it the circuit of a job that the user may know of? */
static bool
may_see(const JanitorCircuit *circuit, const char *job_name)
{
	JanitorJob *job;

	if (janitor_circuit_visible(circuit))
		return true;
	job = job_name ? janitor_job_load(job_name) : NULL;
	return job != NULL && janitor_job_visible(job) && job->circuit != NULL &&
		strcmp(job->circuit, circuit->name) == 0;
}

/*
 * job_circuit_state(circuit text, job_name text, OUT state text,
 * OUT since timestamptz, OUT probe_at timestamptz, OUT failures int)
 *
 * NULL of a circuit that the caller may not know of.
 */
Datum
job_circuit_state(PG_FUNCTION_ARGS)
{
	char	   *name = janitor_arg_text(fcinfo, 0);
	JanitorCircuit circuit;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (name == NULL || !janitor_circuit_now(name, &circuit) ||
		!may_see(&circuit, janitor_arg_text(fcinfo, 1)))
		PG_RETURN_NULL();
	values[0] = CStringGetTextDatum(janitor_circuit_state_name(circuit.breaker.state));
	values[1] = TimestampTzGetDatum(circuit.breaker.since);
	nulls[2] = circuit.breaker.state == JANITOR_CIRCUIT_CLOSED;
	values[2] = TimestampTzGetDatum(janitor_circuit_probe_at(&circuit.policy,
															 &circuit.breaker));
	values[3] = Int32GetDatum(janitor_circuit_failing(&circuit));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values,
											 nulls));
}
