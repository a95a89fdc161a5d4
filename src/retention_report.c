/*-------------------------------------------------------------------------
 *
 * retention_report.c
 *	  What a retention run says of itself: its outcome, detail and result.
 *
 * The result is a JSON object: the instant that ages count from, and for each
 * rule that was begun its rows, by which methods, how many transactions and
 * the longest, where it paused, what it left.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "retention_internal.h"

#include "lib/stringinfo.h"

#include "object.h"

typedef struct Tally
{
	const JanitorRuleRun *rr;
	int64		handled;
	int64		locked;
	int64		pending;
	bool		open;
} Tally;

static bool
add_slice(JanitorCursor *cursor, void *arg)
{
	Tally	   *tally = arg;

	if (cursor->execution_id != tally->rr->retention->execution->id ||
		strcmp(cursor->rule, tally->rr->rule->name) != 0)
		return true;
	tally->handled += cursor->handled;
	tally->locked += cursor->locked;
	if (cursor->state != JANITOR_CURSOR_OPEN)
		return true;
	if (cursor->method == JANITOR_METHOD_PARTITION)
		tally->pending++;
	else
		tally->open = true;
	return true;
}

void
janitor_retention_add_up(JanitorRuleRun *rr)
{
	Tally		tally = {.rr = rr};

	janitor_cursor_scan(rr->rule->job_name, add_slice, &tally);
	rr->handled = tally.handled;
	rr->locked = tally.locked;
	rr->pending = tally.pending;
	rr->stopped = rr->stopped || tally.open;
}

/* --- the result --- */

static void
report_pauses(JanitorObject *result, const int64 *paused)
{
	bool		any = false;

	for (int i = 0; i < JANITOR_PAUSES; i++)
		any = any || paused[i] > 0;
	if (!any)
		return;
	janitor_object_open(result, "paused_ms");
	for (int i = 0; i < JANITOR_PAUSES; i++)
		if (paused[i] > 0)
			janitor_object_number(result, janitor_pause_name(i),
								  paused[i] / 1000);
	janitor_object_close(result);
}

static void
report_number(JanitorObject *result, const char *key, int64 number)
{
	if (number > 0)
		janitor_object_number(result, key, number);
}

static void
report_rule(JanitorObject *result, const JanitorRuleRun *rr)
{
	janitor_object_open(result, rr->rule->name);
	janitor_object_text(result, "relation", rr->rule->relation);
	janitor_object_text(result, "action",
						janitor_action_name(rr->rule->action));
	janitor_object_time(result, "cutoff", rr->cutoff);
	janitor_object_text(result, "bound", rr->bound);
	janitor_object_number(result, "rows", rr->handled);
	for (int i = 0; i < lengthof(rr->methods); i++)
		report_number(result, janitor_method_name(i), rr->methods[i]);
	report_number(result, "batches", rr->tally.batches);
	report_number(result, "longest_ms", rr->tally.longest / 1000);
	report_number(result, "locked", rr->locked);
	report_number(result, "malformed", rr->malformed);
	report_number(result, "pending", rr->pending);
	report_number(result, "vacuumed", rr->vacuumed);
	report_pauses(result, rr->tally.paused);
	if (rr->stopped)
		janitor_object_bool(result, "stopped", true);
	if (rr->stopped && rr->failure == NULL)
		janitor_object_number(result,
							  rr->left_counted ? "left" : "left_about",
							  rr->left);
	janitor_object_text(result, "error", rr->failure);
	janitor_object_close(result);
}

static Jsonb *
report(const JanitorRetention *retention)
{
	JanitorObject result;
	ListCell   *cell;

	janitor_object_begin(&result);
	janitor_object_time(&result, "as_of", retention->as_of);
	janitor_object_open(&result, "rules");
	foreach(cell, retention->rules)
		report_rule(&result, lfirst(cell));
	janitor_object_close(&result);
	return janitor_object_end(&result);
}

static void
add_remark(StringInfo text, const char *remark)
{
	if (text->len > 0)
		appendStringInfoString(text, "; ");
	appendStringInfoString(text, remark);
}

/* What was left to do, in words; NULL: nothing. */
static char *
describe_rest(const JanitorRetention *retention)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, retention->rules)
	{
		const JanitorRuleRun *rr = lfirst(cell);
		const char *name = rr->rule->name;

		if (rr->stopped)
			add_remark(&text, psprintf("rule \"%s\" stopped early (rows left: %s" INT64_FORMAT ")",
									   name, rr->left_counted ? "" : "about ",
									   rr->left));
		if (rr->pending > 0)
			add_remark(&text, psprintf("rule \"%s\" left " INT64_FORMAT " partitions half detached, for transactions that still use them; its next run goes on",
									   name, rr->pending));
		if (!rr->stopped && rr->locked > 0)
			add_remark(&text, psprintf("rule \"%s\" passed over " INT64_FORMAT " locked rows",
									   name, rr->locked));
	}
	return text.len > 0 ? text.data : NULL;
}

/* The first rule that failed, and how many others did. */
static void
describe_failure(const JanitorRetention *retention, JanitorOutcome *outcome)
{
	int			failures = 0;
	ListCell   *cell;

	foreach(cell, retention->rules)
	{
		const JanitorRuleRun *rr = lfirst(cell);

		if (rr->failure == NULL || failures++ > 0)
			continue;
		outcome->status = JANITOR_FAILED;
		outcome->sqlstate = rr->sqlstate;
		outcome->error_message = psprintf("rule \"%s\" failed: %s",
										  rr->rule->name, rr->failure);
		outcome->detail = rr->hint;
	}
	if (failures > 1)
		outcome->error_message = psprintf("%s (and %d other rules)",
										  outcome->error_message,
										  failures - 1);
}

void
janitor_retention_report(const JanitorRetention *retention,
						 JanitorOutcome *outcome)
{
	outcome->status = JANITOR_SUCCEEDED;
	outcome->detail = describe_rest(retention);
	outcome->result = report(retention);
	describe_failure(retention, outcome);
}
