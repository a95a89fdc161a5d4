/*-------------------------------------------------------------------------
 *
 * gate.h
 *	  What lets a run start for the sake of others: circuits and rate limits.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_GATE_H
#define JANITOR_GATE_H

#include "definition.h"

#include "utils/hsearch.h"

/* --- circuits --- */

/* Finds a circuit and brings its breaker up to date; false: there is none. */
extern bool janitor_circuit_now(const char *name, JanitorCircuit *circuit);

/* Raises ERROR 42704 "circuit ... does not exist". */
extern void janitor_no_circuit(const char *name);

/* May the current user know of this circuit? */
extern bool janitor_circuit_visible(const JanitorCircuit *circuit);

/*
 * Raises an error unless the current user may act for the circuit's owner; to
 * whom may not know of it, it does not exist.
 */
extern void janitor_circuit_check_owner(const JanitorCircuit *circuit);

/* What a circuit counts as failures in a row. */
extern int	janitor_circuit_failing(const JanitorCircuit *circuit);

/*
 * Lets one through as the probe; false: another transaction was faster.  Of a
 * circuit whose passage is JANITOR_PROBE.
 */
extern bool janitor_circuit_take_probe(JanitorCircuit *circuit,
									   TimestampTz now);

/*
 * Reports the outcome of a call that began then; counts when it is committed,
 * and then the scheduler is told.  Never waits.
 */
extern void janitor_circuit_feed(const char *name, bool success,
								 TimestampTz began, int64 execution_id);

/*
 * Writes the state that the reports lead to into the circuit's row, unless
 * somebody else has it; then it is done by whoever comes next.
 */
extern void janitor_circuit_settle(const char *name);
extern void janitor_circuits_settle(void);

/* --- a job's gate --- */

typedef struct JanitorGate
{
	const JanitorJob *job;
	bool		has_circuit;
	JanitorCircuit circuit;
	JanitorPassage passage;		/* JANITOR_PASS without a circuit */
	int			limits;
	JanitorRateLimit *limit;
	HTAB	   *windows;		/* those looked at so far */
} JanitorGate;

/* Good for one claim or look, in the memory context that is current. */
extern void janitor_gate_open(JanitorGate *gate, const JanitorJob *job,
							  TimestampTz now);

/* When the circuit may let the next one through. */
extern TimestampTz janitor_gate_probe_at(const JanitorGate *gate);

/*
 * Does every limit admit a run with these (complete) arguments?  Then it is
 * counted in each; else in none, and *opens is when its turn comes.
 */
extern bool janitor_gate_admit(JanitorGate *gate, Jsonb *args,
							   TimestampTz now, TimestampTz *opens);

/* When they would admit one, counting nothing; `now` if they do. */
extern TimestampTz janitor_gate_opens(JanitorGate *gate, Jsonb *args,
									  TimestampTz now);

#endif							/* JANITOR_GATE_H */
