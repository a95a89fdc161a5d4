/*-------------------------------------------------------------------------
 *
 * gate.c
 *	  What lets a run start for the sake of others: circuits and rate limits.
 *
 * Asked by the scheduler, before it claims a run for a worker of its own, and
 * by clients that claim runs of external jobs; always inside the transaction
 * of the claim, which takes back with everything else what was counted.
 *
 * Circuits.  Reports are appended and never wait; the state is computed from
 * the circuit's row and the reports since (ledger_circuit.c), so it is right
 * at once for everybody.  The row is brought up to date by the scheduler, or
 * by the application that reports; handing out the probe is the one thing that
 * needs the row, and takes it only if nobody else has it.
 *
 * Rate limits.  What each window of a job has admitted is read once per claim
 * and then kept up to date in memory.  Clients hold the job's claim lock from
 * the first look at a window to the last admission, and windows count what
 * open transactions have admitted: so a limit holds whoever claims.  A run
 * that is refused learns when its turn comes, behind those that were refused
 * before it in the same claim.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "gate.h"

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "shmem.h"
#include "window.h"

/* Reports looked at beyond those that can open a circuit. */
#define MORE_REPORTS 50

/* How long the history of a circuit is kept; what goes at once. */
#define KEEP_EVENTS (30 * USECS_PER_DAY)
#define EVENTS_AT_ONCE 100

/* --- circuits --- */

typedef struct Reports
{
	int			count;
	JanitorReport *report;
} Reports;

/* The row, and what was reported since. */
static bool
load_circuit(const char *name, JanitorCircuit *circuit, Reports *reports)
{
	int			size;

	if (!janitor_circuit_find(name, circuit))
		return false;
	size = circuit->policy.failure_threshold + MORE_REPORTS;
	reports->report = palloc(size * sizeof(JanitorReport));
	reports->count = janitor_circuit_reports(name, circuit->breaker.since,
											 reports->report, size);
	return true;
}

bool
janitor_circuit_now(const char *name, JanitorCircuit *circuit)
{
	Reports		reports;

	if (!load_circuit(name, circuit, &reports))
		return false;
	janitor_circuit_apply(&circuit->policy, &circuit->breaker,
						  reports.report, reports.count);
	return true;
}

void
janitor_no_circuit(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("circuit \"%s\" does not exist", name),
			 errhint("SELECT job_set_circuit(%s); makes it.",
					 quote_literal_cstr(name))));
}

bool
janitor_circuit_visible(const JanitorCircuit *circuit)
{
	return janitor_owner_visible(circuit->owner_oid, circuit->owner);
}

void
janitor_circuit_check_owner(const JanitorCircuit *circuit)
{
	char	   *owner = GetUserNameFromId(circuit->owner_oid, true);

	if (superuser() ||
		(owner != NULL && strcmp(owner, circuit->owner) == 0 &&
		 janitor_can_act_for(GetUserId(), circuit->owner_oid)))
		return;
	if (!janitor_circuit_visible(circuit))
		janitor_no_circuit(circuit->name);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for circuit \"%s\"", circuit->name),
			 errhint("Only its owner \"%s\" and roles that can SET ROLE to it may use it.",
					 circuit->owner)));
}

int
janitor_circuit_failing(const JanitorCircuit *circuit)
{
	JanitorCircuit stored;
	Reports		reports;

	if (!load_circuit(circuit->name, &stored, &reports))
		return 0;
	janitor_circuit_apply(&stored.policy, &stored.breaker, reports.report,
						  reports.count);
	return janitor_circuit_failures(&stored.policy, &stored.breaker,
									reports.report, reports.count,
									janitor_clock());
}

bool
janitor_circuit_take_probe(JanitorCircuit *circuit, TimestampTz now)
{
	JanitorBreaker probing = {JANITOR_CIRCUIT_HALF_OPEN, now};

	if (janitor_circuit_lock(circuit, false) != JANITOR_LOCKED)
		return false;
	janitor_circuit_set_breaker(circuit, &probing);
	janitor_circuit_note(circuit->name, "half_open", now, DT_NOBEGIN, 0);
	return true;
}

/* Would a success change anything?  Else it is not even written down. */
static bool
success_matters(const JanitorCircuit *circuit, const Reports *reports)
{
	if (circuit->breaker.state != JANITOR_CIRCUIT_CLOSED)
		return true;
	return reports->count > 0 && !reports->report[reports->count - 1].success;
}

/*
 * Whether this is what changes the state may depend on what other transactions
 * commit: the scheduler finds out.
 */
void
janitor_circuit_feed(const char *name, bool success, TimestampTz began,
					 int64 execution_id)
{
	JanitorCircuit circuit;
	Reports		reports;
	TimestampTz now = janitor_clock();

	if (!load_circuit(name, &circuit, &reports) ||
		(success && !success_matters(&circuit, &reports)))
		return;
	janitor_circuit_note(name, success ? "success" : "failure", now,
						 began == DT_NOBEGIN ? now : began, execution_id);
	janitor_wake_all_at_end();
}

static void
log_state(const JanitorCircuit *circuit)
{
	if (circuit->breaker.state == JANITOR_CIRCUIT_OPEN)
		ereport(LOG,
				(errmsg("circuit \"%s\" is open", circuit->name),
				 errdetail("%d failures in a row, or that of a probe; the next probe is let through after %.1f s.",
						   circuit->policy.failure_threshold,
						   circuit->policy.cooldown / (double) USECS_PER_SEC)));
	else
		ereport(LOG,
				(errmsg("circuit \"%s\" is closed", circuit->name)));
}

static void
settle(JanitorCircuit *circuit, const JanitorBreaker *breaker)
{
	if (janitor_circuit_lock(circuit, false) != JANITOR_LOCKED)
		return;
	janitor_circuit_set_breaker(circuit, breaker);
	janitor_circuit_note(circuit->name,
						 breaker->state == JANITOR_CIRCUIT_OPEN ? "opened" :
						 "closed", breaker->since, DT_NOBEGIN, 0);
	janitor_wake_all_at_end();
	log_state(circuit);
	(void) janitor_circuit_prune(circuit->name,
								 janitor_clock() - KEEP_EVENTS,
								 EVENTS_AT_ONCE);
}

void
janitor_circuit_settle(const char *name)
{
	JanitorCircuit circuit;
	JanitorBreaker breaker;
	Reports		reports;

	if (!load_circuit(name, &circuit, &reports))
		return;
	breaker = circuit.breaker;
	janitor_circuit_apply(&circuit.policy, &breaker, reports.report,
						  reports.count);
	if (breaker.state != circuit.breaker.state ||
		breaker.since != circuit.breaker.since)
		settle(&circuit, &breaker);
}

static void
collect_name(JanitorCircuit *circuit, void *arg)
{
	List	  **names = arg;

	*names = lappend(*names, circuit->name);
}

void
janitor_circuits_settle(void)
{
	List	   *names = NIL;
	ListCell   *cell;

	janitor_circuit_scan(collect_name, &names);
	foreach(cell, names)
		janitor_circuit_settle(lfirst(cell));
}

/* --- rate limits --- */

typedef struct WindowKey
{
	int64		limit_id;
	int64		value;
} WindowKey;

/* One window as this claim knows it. */
typedef struct Window
{
	WindowKey	key;
	int			count;			/* admissions that count */
	int			size;			/* room for so many */
	int64_t    *times;			/* oldest first, max_runs of them at most */
	int			ahead;			/* refused before */
} Window;

/* The value of an argument, as a number; 0: none. */
static int64
arg_value(Jsonb *args, const char *arg)
{
	JsonbValue	buffer;
	JsonbValue *value;
	char	   *text;

	if (arg == NULL || args == NULL)
		return 0;
	value = getKeyJsonValueFromContainer(&args->root, arg, strlen(arg),
										 &buffer);
	if (value == NULL || value->type == jbvNull)
		return 0;
	if (value->type == jbvString)
		text = pnstrdup(value->val.string.val, value->val.string.len);
	else
	{
		Jsonb	   *alone = JsonbValueToJsonb(value);

		text = JsonbToCString(NULL, &alone->root, VARSIZE(alone));
	}
	return (int64) hash_bytes_extended((unsigned char *) text, strlen(text),
									   1);
}

static HTAB *
make_windows(void)
{
	HASHCTL		control;

	MemSet(&control, 0, sizeof(control));
	control.keysize = sizeof(WindowKey);
	control.entrysize = sizeof(Window);
	control.hcxt = CurrentMemoryContext;
	return hash_create("pg_janitor windows", 64, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static Window *
find_window(JanitorGate *gate, const JanitorRateLimit *limit, Jsonb *args,
			TimestampTz now, bool prune)
{
	WindowKey	key = {limit->id, arg_value(args, limit->arg)};
	Window	   *window;
	bool		found;

	window = hash_search(gate->windows, &key, HASH_ENTER, &found);
	if (!found)
	{
		window->times = janitor_rate_hits(limit, key.value, now, prune,
										  &window->count, &window->size);
		window->ahead = 0;
	}
	return window;
}

/*
 * The moment that the last of the windows opens.  In the windows that stand in
 * the way, the run takes its place in line.
 */
static TimestampTz
all_open(JanitorGate *gate, Jsonb *args, TimestampTz now, bool in_line)
{
	TimestampTz opens = now;

	for (int i = 0; i < gate->limits; i++)
	{
		const JanitorRateLimit *limit = &gate->limit[i];
		Window	   *window = find_window(gate, limit, args, now, in_line);
		TimestampTz mine = janitor_window_opens(window->times, window->count,
												limit->max_runs, limit->per,
												now, window->ahead);

		if (in_line && mine > now)
			window->ahead++;
		opens = Max(opens, mine);
	}
	return opens;
}

/* The window is open: it holds fewer than it may. */
static void
admit(Window *window, const JanitorRateLimit *limit, TimestampTz now)
{
	Assert(window->count < limit->max_runs);
	if (window->count == window->size)
	{
		window->size = Min(2 * window->size, limit->max_runs);
		window->times = repalloc(window->times,
								 window->size * sizeof(int64_t));
	}
	window->times[window->count++] = now;
	janitor_rate_hit_insert(window->key.limit_id, window->key.value, now);
}

bool
janitor_gate_admit(JanitorGate *gate, Jsonb *args, TimestampTz now,
				   TimestampTz *opens)
{
	if (gate->limits == 0)
		return true;
	*opens = all_open(gate, args, now, true);
	if (*opens > now)
		return false;
	for (int i = 0; i < gate->limits; i++)
		admit(find_window(gate, &gate->limit[i], args, now, true),
			  &gate->limit[i], now);
	return true;
}

TimestampTz
janitor_gate_opens(JanitorGate *gate, Jsonb *args, TimestampTz now)
{
	return all_open(gate, args, now, false);
}

/* --- the gate --- */

void
janitor_gate_open(JanitorGate *gate, const JanitorJob *job, TimestampTz now)
{
	MemSet(gate, 0, sizeof(JanitorGate));
	gate->job = job;
	gate->passage = JANITOR_PASS;
	gate->has_circuit = job->circuit != NULL &&
		janitor_circuit_now(job->circuit, &gate->circuit);
	if (gate->has_circuit)
		gate->passage = janitor_circuit_passage(&gate->circuit.policy,
												&gate->circuit.breaker, now);
	gate->limit = janitor_rate_limits(job->name, &gate->limits);
	if (gate->limits > 0)
		gate->windows = make_windows();
}

TimestampTz
janitor_gate_probe_at(const JanitorGate *gate)
{
	return janitor_circuit_probe_at(&gate->circuit.policy,
									&gate->circuit.breaker);
}
