/*-------------------------------------------------------------------------
 *
 * circuit.h
 *	  Policy: when a circuit opens, lets a probe through, and closes again.
 *
 * Pure: no server state, no clock, no allocation; compiles and is tested
 * without a server.  All times are microseconds since 2000-01-01 UTC.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_CIRCUIT_H
#define JANITOR_CIRCUIT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum JanitorCircuitState
{
	JANITOR_CIRCUIT_CLOSED,		/* everything passes */
	JANITOR_CIRCUIT_OPEN,		/* nothing passes */
	JANITOR_CIRCUIT_HALF_OPEN	/* one probe was let through */
} JanitorCircuitState;

typedef struct JanitorCircuitPolicy
{
	int			failure_threshold;
	int64_t		window;
	int64_t		cooldown;
} JanitorCircuitPolicy;

typedef struct JanitorBreaker
{
	JanitorCircuitState state;
	int64_t		since;			/* when it closed, when it opened, or when its
								 * probe was let through */
} JanitorBreaker;

/* What was reported of a call to the other side. */
typedef struct JanitorReport
{
	int64_t		at;
	int64_t		began;			/* when the call was begun; at, if unknown */
	bool		success;
} JanitorReport;

/* Brings a breaker up to date with what was reported since, oldest first. */
extern void janitor_circuit_apply(const JanitorCircuitPolicy *policy,
								  JanitorBreaker *breaker,
								  const JanitorReport *reports, int count);

/* How many failures in a row count towards opening it. */
extern int	janitor_circuit_failures(const JanitorCircuitPolicy *policy,
									 const JanitorBreaker *breaker,
									 const JanitorReport *reports, int count,
									 int64_t now);

typedef enum JanitorPassage
{
	JANITOR_PASS,				/* go ahead */
	JANITOR_PROBE,				/* one may, and has to be noted as the probe */
	JANITOR_NO_PASS
} JanitorPassage;

extern JanitorPassage janitor_circuit_passage(const JanitorCircuitPolicy *policy,
											  const JanitorBreaker *breaker,
											  int64_t now);

/* When an open or half-open circuit lets the next probe through. */
extern int64_t janitor_circuit_probe_at(const JanitorCircuitPolicy *policy,
										const JanitorBreaker *breaker);

#endif							/* JANITOR_CIRCUIT_H */
