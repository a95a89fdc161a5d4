/*-------------------------------------------------------------------------
 *
 * circuit.c
 *	  Policy: when a circuit opens, lets a probe through, and closes again.
 *
 * Pure, and compiled without a server by t/unit.  gate.c keeps the breaker's
 * last known state and what was reported since in tables; whoever wants to
 * know applies the one to the other, so that reporting needs no lock.
 *
 *	  state		  on						becomes
 *	  closed	  failure_threshold			open
 *				  failures in a row, the
 *				  last ones within window
 *	  open		  a report					open: of calls begun before
 *	  open		  asked after cooldown		half-open: that is the probe
 *	  half-open	  success of a call begun	closed
 *				  since the probe
 *	  half-open	  failure of one			open
 *	  half-open	  asked after cooldown		half-open: the probe was lost,
 *											here is another
 *
 * Failures are in a row when no success was reported between them.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "circuit.h"

/*
 * Failures in a row that end with the report at `last`, no older than
 * `oldest`; no more than the threshold are counted.
 */
static int
count_failures(const JanitorCircuitPolicy *policy,
			   const JanitorReport *reports, int first, int last,
			   int64_t oldest)
{
	int			count = 0;

	for (int i = last; i >= first && count < policy->failure_threshold; i--)
	{
		if (reports[i].success || reports[i].at < oldest)
			break;
		count++;
	}
	return count;
}

static void
become(JanitorBreaker *breaker, JanitorCircuitState state, int64_t since)
{
	breaker->state = state;
	breaker->since = since;
}

void
janitor_circuit_apply(const JanitorCircuitPolicy *policy,
					  JanitorBreaker *breaker,
					  const JanitorReport *reports, int count)
{
	int			first = 0;		/* reports since it closed */

	for (int i = 0; i < count; i++)
	{
		const JanitorReport *report = &reports[i];

		switch (breaker->state)
		{
			case JANITOR_CIRCUIT_CLOSED:
				if (!report->success &&
					count_failures(policy, reports, first, i,
								   report->at - policy->window) >=
					policy->failure_threshold)
					become(breaker, JANITOR_CIRCUIT_OPEN, report->at);
				break;
			case JANITOR_CIRCUIT_OPEN:
				break;
			case JANITOR_CIRCUIT_HALF_OPEN:
				if (report->began < breaker->since)
					break;
				become(breaker, report->success ? JANITOR_CIRCUIT_CLOSED :
					   JANITOR_CIRCUIT_OPEN, report->at);
				first = i + 1;
				break;
		}
	}
}

int
janitor_circuit_failures(const JanitorCircuitPolicy *policy,
						 const JanitorBreaker *breaker,
						 const JanitorReport *reports, int count, int64_t now)
{
	if (breaker->state != JANITOR_CIRCUIT_CLOSED)
		return 0;
	return count_failures(policy, reports, 0, count - 1,
						  now - policy->window);
}

int64_t
janitor_circuit_probe_at(const JanitorCircuitPolicy *policy,
						 const JanitorBreaker *breaker)
{
	return breaker->since + policy->cooldown;
}

JanitorPassage
janitor_circuit_passage(const JanitorCircuitPolicy *policy,
						const JanitorBreaker *breaker, int64_t now)
{
	if (breaker->state == JANITOR_CIRCUIT_CLOSED)
		return JANITOR_PASS;
	return now >= janitor_circuit_probe_at(policy, breaker) ?
		JANITOR_PROBE : JANITOR_NO_PASS;
}
