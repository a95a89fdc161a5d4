/*-------------------------------------------------------------------------
 *
 * test_gate.c
 *	  Circuits and sliding windows against plain models of what they mean.
 *
 * cc -Wall -Wextra -Werror -Isrc t/unit/test_gate.c src/circuit.c src/window.c
 *
 * Prints TAP; exit code 1 if a test fails.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "circuit.h"
#include "window.h"

#define SECOND INT64_C(1000000)
#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

static int	tests = 0;
static int	failures = 0;

static void
report(bool good, const char *name)
{
	tests++;
	if (!good)
		failures++;
	printf("%sok %d - %s\n", good ? "" : "not ", tests, name);
}

/* ------------------------------------------------------------------------
 * Circuits: what was reported, one character a second, and what comes out
 *
 * x failure, o success, . nothing; P: asked for a probe, which the text under
 * it says was given (p) or not (-).  State after it all: C, O, H.
 * ------------------------------------------------------------------------
 */

static const JanitorCircuitPolicy policy = {3, 10 * SECOND, 5 * SECOND};

typedef struct Story
{
	const char *reported;
	const char *passed;			/* for each P; NULL: there is none */
	char		state;
	const char *name;
} Story;

static const Story stories[] = {
	{"xx", NULL, 'C', "two failures of three do not open it"},
	{"xxx", NULL, 'O', "three in a row do"},
	{"xxoxx", NULL, 'C', "a success in between begins the row anew"},
	{"xxoxxx", NULL, 'O', "and three after it open it"},
	{"x....x....x", NULL, 'O', "the first one counts at the end of the window"},
	{"x....x.....x", NULL, 'C', "and a second later not any more"},
	{"x....x.....xx", NULL, 'O', "but those after it do"},
	{"xxxo", NULL, 'O', "a late success does not close it"},
	{"xxx...P", "-", 'O', "no probe before it has cooled down"},
	{"xxx.....P", "p", 'H', "one probe then"},
	{"xxx.....PP", "p-", 'H', "and not two"},
	{"xxx.....Po", "p", 'C', "its success closes it"},
	{"xxx.....Pox", "p", 'C', "for good"},
	{"xxx.....Px", "p", 'O', "its failure opens it again"},
	{"xxx.....Px...P", "p-", 'O', "for the whole cooldown"},
	{"xxx.....Px.....P", "pp", 'H', "then there is another probe"},
	{"xxx.....P...P", "p-", 'H', "a probe has the cooldown to report"},
	{"xxx.....P.....P", "pp", 'H', "one that is lost is replaced"},
	{"xxx.....Poxxx", "p", 'O', "once closed it counts from the beginning"},
	{"xxx.....Pxo", "p", 'O', "what comes after the probe failed is late"},
};

static char
state_letter(JanitorCircuitState state)
{
	return "COH"[state];
}

/* Applies the reports one by one, as the tables do when they are settled. */
static bool
run_story(const Story *story, bool at_once)
{
	JanitorBreaker breaker = {JANITOR_CIRCUIT_CLOSED, 0};
	JanitorReport reports[64];
	const char *passed = story->passed;
	int			count = 0;

	for (int i = 0; story->reported[i] != '\0'; i++)
	{
		int64_t		now = (i + 1) * SECOND;
		char		what = story->reported[i];

		if (what == 'x' || what == 'o')
		{
			reports[count].at = reports[count].began = now;
			reports[count++].success = what == 'o';
		}
		if (what != 'P' && at_once && story->reported[i + 1] != 'P' &&
			story->reported[i + 1] != '\0')
			continue;
		if (what == 'P' || at_once || breaker.state != JANITOR_CIRCUIT_CLOSED)
		{
			janitor_circuit_apply(&policy, &breaker, reports, count);
			if (breaker.state != JANITOR_CIRCUIT_CLOSED)
				count = 0;
		}
		if (what == 'P')
		{
			bool		probe = janitor_circuit_passage(&policy, &breaker,
														now) == JANITOR_PROBE;

			if (probe != (*passed++ == 'p'))
				return false;
			if (probe)
			{
				breaker.state = JANITOR_CIRCUIT_HALF_OPEN;
				breaker.since = now;
			}
		}
	}
	janitor_circuit_apply(&policy, &breaker, reports, count);
	return state_letter(breaker.state) == story->state;
}

static void
test_stories(void)
{
	for (int i = 0; i < lengthof(stories); i++)
		report(run_story(&stories[i], true) && run_story(&stories[i], false),
			   stories[i].name);
}

static void
test_stragglers(void)
{
	JanitorBreaker breaker = {JANITOR_CIRCUIT_HALF_OPEN, 10 * SECOND};
	JanitorReport late = {12 * SECOND, 9 * SECOND, false};
	JanitorReport probe = {13 * SECOND, 10 * SECOND, true};

	janitor_circuit_apply(&policy, &breaker, &late, 1);
	report(breaker.state == JANITOR_CIRCUIT_HALF_OPEN,
		   "what began before the probe does not decide");
	janitor_circuit_apply(&policy, &breaker, &probe, 1);
	report(breaker.state == JANITOR_CIRCUIT_CLOSED &&
		   breaker.since == 13 * SECOND,
		   "what began with the probe does");
}

/* ------------------------------------------------------------------------
 * Windows: against a simulation that admits each run as soon as it may
 * ------------------------------------------------------------------------
 */

/* Would one more at `at` make some stretch of `per` hold too many? */
static bool
fits(const int64_t *times, int count, int max_runs, int64_t per, int64_t at)
{
	int			inside = 0;

	for (int i = 0; i < count; i++)
		if (times[i] > at - per && times[i] <= at)
			inside++;
	return inside < max_runs;
}

static bool
agrees_with_simulation(unsigned seed)
{
	int64_t		times[256];
	int			count = 0;
	int			max_runs;
	int64_t		per;
	int64_t		now = 1000;
	int			admitted;

	srand(seed);
	max_runs = 1 + rand() % 5;
	per = 1 + rand() % 50;
	for (int i = 0; i < 40; i++)
	{
		now += rand() % 12;
		if (fits(times, count, max_runs, per, now))
			times[count++] = now;
	}
	admitted = count;
	for (int ahead = 0; ahead < 30; ahead++)
	{
		int			first = 0;
		int64_t		said;
		int64_t		opens = now;

		/* only what still counts is given */
		while (first < admitted && times[first] <= now - per)
			first++;
		said = janitor_window_opens(times + first, admitted - first, max_runs,
									per, now, ahead);
		while (!fits(times, count, max_runs, per, opens))
			opens++;
		if (said != opens)
			return false;
		times[count++] = opens; /* the one in line comes then */
	}
	return true;
}

static void
test_windows(void)
{
	bool		good = true;
	int64_t		full[3] = {0, 5, 9};

	for (unsigned seed = 1; seed <= 2000; seed++)
		good = good && agrees_with_simulation(seed);
	report(good, "each in line comes as soon as the window admits it");
	report(janitor_window_opens(full, 3, 3, 10, 9, 0) == 10,
		   "an admission counts up to the end of its period");
	report(janitor_window_opens(full + 1, 2, 3, 10, 10, 0) == 10,
		   "and then not any more");
	report(janitor_window_opens(full, 0, 1, 10, 3, 0) == 3,
		   "an empty window is open");
	report(janitor_window_opens(full, 3, 3, 10, 9, 7) == 35,
		   "those in line come in turns");
}

int
main(void)
{
	test_stories();
	test_stragglers();
	test_windows();
	printf("1..%d\n", tests);
	return failures > 0;
}
