/*-------------------------------------------------------------------------
 *
 * items_receipt.c
 *	  What is proven of items: that nothing is left of them, and that they are
 *	  done.
 *
 * Before a group is committed, those rules that erase are looked at again for
 * each of its items, after deferred triggers and with a fresh snapshot: no row
 * may match that is still there, or not masked.  Such rows come from triggers,
 * or from others who insert them while the item is in hand.  Then the group is
 * rolled back, and repeated one item at a time, as after any commit that
 * fails: if it was the latter, everything is well; else it is that item that
 * has failed.  All items of a group in one query, since starting one takes
 * longer than looking up one item.
 *
 * Receipts are written in the transaction of the group, so they exist exactly
 * for the items that are done.  receipt.c says what is in them, and how those
 * of several workers become one chain.
 *
 * Memory: the context of the group, which is current.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "items_internal.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "receipt.h"
#include "run_sql.h"

/* --- before the first item --- */

/*
 * SELECT the position of a step that has left something of the items in the
 * array $1, if one has; NULL: there is no step that erases.
 */
static char *
residue_statement(const JanitorItems *items)
{
	StringInfoData cases;
	ListCell   *cell;

	initStringInfo(&cases);
	foreach(cell, items->steps)
	{
		const JanitorStep *step = lfirst(cell);

		if (step->residue != NULL)
			appendStringInfo(&cases, " WHEN %s THEN %d", step->residue,
							 foreach_current_index(cell));
	}
	return cases.len == 0 ? NULL :
		psprintf("SELECT q.step FROM (SELECT CASE%s END AS step) q WHERE q.step IS NOT NULL",
				 cases.data);
}

/* The rules that were read are those of the version that receipts name. */
static void
check_version(const JanitorJob *job)
{
	const JanitorJob *now = janitor_job_load(job->name);

	if (now != NULL && now->version != job->version)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("job \"%s\" was changed while its run began",
						job->name)));
}

void
janitor_items_receipts_begin(JanitorItems *items)
{
	char	   *statement = residue_statement(items);
	Oid			type = JSONBARRAYOID;

	items->receipts = items->job->receipts == JANITOR_RECEIPTS_ON ||
		(items->job->receipts == JANITOR_RECEIPTS_DEFAULT &&
		 statement != NULL);
	if (!items->receipts)
		return;
	check_version(items->job);
	if (statement != NULL)
		items->residue = janitor_query_prepare(statement, 1, &type);
}

/* --- what is left --- */

static void
raise_residue(const JanitorStep *step)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("rule \"%s\" has left rows of %s", step->name,
					janitor_relation_name(step->relid)),
			 err_generic_string(PG_DIAG_SCHEMA_NAME,
								get_namespace_name(get_rel_namespace(step->relid))),
			 err_generic_string(PG_DIAG_TABLE_NAME,
								get_rel_name(step->relid))));
}

/* The rows of those that are done, as an array. */
static Datum
items_done(const JanitorItemGroup *group, int *count)
{
	Datum	   *items = palloc(group->count * sizeof(Datum));

	*count = 0;
	for (int i = 0; i < group->count; i++)
		if (group->subjects[i].state == JANITOR_SUBJECT_DONE)
			items[(*count)++] = group->subjects[i].item;
	return PointerGetDatum(construct_array(items, *count, JSONBOID, -1, false,
										   TYPALIGN_INT));
}

void
janitor_items_verify(const JanitorItemGroup *group)
{
	JanitorItems *items = group->items;
	int			count;
	Datum		done;
	Datum		position;
	bool		isnull;

	if (!items->receipts)
		return;
	done = items_done(group, &count);
	if (count == 0)
		return;
	janitor_check_deferred();
	if (items->residue != NULL &&
		janitor_query_row(items->residue, &done, NULL, 1, &position, &isnull))
		raise_residue(list_nth(items->steps, DatumGetInt32(position)));
}

/* --- receipts --- */

/* Is this the first step of its table? */
static bool
is_first(const JanitorItems *items, int position)
{
	Oid			relid = ((JanitorStep *) list_nth(items->steps, position))->relid;

	for (int i = 0; i < position; i++)
		if (((JanitorStep *) list_nth(items->steps, i))->relid == relid)
			return false;
	return OidIsValid(relid);
}

/* What the rules have done with rows of one table: {"delete": 3}. */
static void
put_table(JanitorObject *rows, const JanitorItems *items, int64 *counts,
		  const JanitorRule *first, Oid relid)
{
	janitor_object_open(rows, first->relation);
	for (JanitorAction action = 0; action <= JANITOR_ANONYMIZE; action++)
	{
		int64		count = -1;
		ListCell   *cell;

		foreach(cell, items->steps)
		{
			const JanitorStep *step = lfirst(cell);

			if (step->relid == relid && step->rule->action == action)
				count = Max(count, 0) + counts[foreach_current_index(cell)];
		}
		if (count >= 0)
			janitor_object_number(rows, janitor_action_name(action), count);
	}
	janitor_object_close(rows);
}

static Jsonb *
rows_by_table(const JanitorItems *items, int64 *counts)
{
	JanitorObject rows;
	ListCell   *cell;

	janitor_object_begin(&rows);
	foreach(cell, items->steps)
	{
		const JanitorStep *step = lfirst(cell);

		if (is_first(items, foreach_current_index(cell)))
			put_table(&rows, items, counts, step->rule, step->relid);
	}
	return janitor_object_end(&rows);
}

static void
fill_receipt(JanitorItems *items, JanitorSubject *subject,
			 const JanitorReceiptKey *key, JanitorReceipt *receipt)
{
	receipt->job_name = items->job->name;
	receipt->execution_id = items->execution->id;
	receipt->erased_at = GetCurrentTimestamp();
	janitor_receipt_digest(key, items->job->name,
						   janitor_subject_key(items, subject),
						   receipt->subject);
	memcpy(receipt->key_id, key->id, sizeof(receipt->key_id));
	receipt->rows = rows_by_table(items, subject->rows);
	receipt->verified = items->residue != NULL;
	receipt->policy_version = items->job->version;
}

/* Everything but the chain itself comes before its lock. */
void
janitor_items_receipts(JanitorItemGroup *group)
{
	JanitorItems *items = group->items;
	JanitorReceipt *receipts;
	JanitorReceiptKey key;
	int			count = 0;

	if (!items->receipts)
		return;
	receipts = palloc0(group->count * sizeof(JanitorReceipt));
	janitor_receipt_key(&key);
	for (int i = 0; i < group->count; i++)
		if (group->subjects[i].state == JANITOR_SUBJECT_DONE)
			fill_receipt(items, &group->subjects[i], &key,
						 &receipts[count++]);
	explicit_bzero(&key, sizeof(key));
	if (count == 0)
		return;
	janitor_session_set_local("lock_timeout", "0");
	janitor_receipt_lock(items->job->name);
	janitor_receipts_append(items->job->name, receipts, count);
}

void
janitor_items_report_receipts(const JanitorItems *items,
							  JanitorObject *result)
{
	JanitorReceipt last;

	if (!items->receipts || !janitor_receipt_last(items->job->name, &last))
		return;
	janitor_object_number(result, JANITOR_RESULT_RECEIPTS, last.number);
	janitor_object_text(result, JANITOR_RESULT_HEAD,
						janitor_receipt_hex(last.hash));
}
