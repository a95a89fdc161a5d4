/*-------------------------------------------------------------------------
 *
 * items_hold.c
 *	  Legal holds on items.
 *
 * An item is held if any row is that would be touched for it: a row that one
 * of the rules would change or delete, or a row of a table that the items
 * query locks, whatever the command then does with it.  It is passed over as a
 * whole: half an erasure is none.
 *
 * What is in force is read at the beginning of each group, under locks that
 * keep others from placing holds until the group has committed (hold.h).
 * While there is no hold, that is all it costs.
 *
 * Memory: for each relation a context with its statement, made anew when its
 * holds change.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "items_internal.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "rule.h"

/* --- which relations --- */

static JanitorItemHolds *
add_relation(JanitorItems *items, Oid relid, bool deletes)
{
	JanitorItemHolds *on = palloc0(sizeof(JanitorItemHolds));

	on->relid = relid;
	on->holds = janitor_holds_begin(relid, deletes);
	on->context = AllocSetContextCreate(items->context,
										"pg_janitor holds on items",
										ALLOCSET_SMALL_SIZES);
	items->holds = lappend(items->holds, on);
	return on;
}

void
janitor_items_hold_begin(JanitorItems *items)
{
	ListCell   *cell;
	int			place = 0;

	foreach(cell, items->query->locked)
		add_relation(items, lfirst_oid(cell), true)->place = ++place;
	foreach(cell, items->steps)
	{
		const JanitorStep *step = lfirst(cell);

		if (step->predicate != NULL)
			add_relation(items, step->relid, step->deletes)->predicate =
				step->predicate;
	}
}

/* --- statements --- */

/* The condition of one hold on a leaf, or (n < 0) of all. */
static char *
condition_of(const JanitorItemHolds *on, Oid leaf, int n)
{
	const char *reason;

	return n < 0 ? janitor_holds_condition(on->holds, leaf) :
		janitor_holds_condition_of(on->holds, leaf, n, &reason);
}

static void
append_leaf(StringInfo terms, const JanitorItemHolds *on, Oid leaf, int n)
{
	char	   *condition = condition_of(on, leaf, n);

	if (condition == NULL)
		return;
	if (terms->len > 0)
		appendStringInfoString(terms, " OR ");
	if (on->place > 0)
		appendStringInfo(terms, "q.t%d = %u AND ", on->place, leaf);
	appendStringInfo(terms, "EXISTS (SELECT 1 FROM ONLY %s r WHERE (%s) AND ",
					 janitor_relation_name(leaf), condition);
	if (on->place > 0)
		appendStringInfo(terms, "r.ctid = q.c%d)", on->place);
	else
		appendStringInfo(terms, "(%s))", on->predicate);
}

/*
 * A statement that is true if the item is held; NULL: nothing can be.  $1: the
 * key, or for a rule the item.
 */
static char *
statement_text(const JanitorItems *items, const JanitorItemHolds *on, int n)
{
	StringInfoData terms;
	ListCell   *cell;

	initStringInfo(&terms);
	foreach(cell, janitor_relation_leaves(on->relid))
		append_leaf(&terms, on, lfirst_oid(cell), n);
	if (terms.len == 0)
		return NULL;
	if (on->place == 0)
		return psprintf("SELECT true WHERE %s", terms.data);
	return psprintf("SELECT true FROM (%s) q WHERE %s", items->query->places,
					terms.data);
}

static Oid
parameter_type(const JanitorItems *items, const JanitorItemHolds *on)
{
	return on->place > 0 ? items->query->key_type : JSONBOID;
}

static void
renew_check(JanitorItems *items, JanitorItemHolds *on)
{
	MemoryContext caller = MemoryContextSwitchTo(on->context);
	Oid			type = parameter_type(items, on);
	char	   *text;

	janitor_query_free(on->check);
	on->check = NULL;
	MemoryContextReset(on->context);
	text = statement_text(items, on, -1);
	if (text != NULL)
		on->check = janitor_query_prepare(text, 1, &type);
	MemoryContextSwitchTo(caller);
}

bool
janitor_items_hold_read(JanitorItems *items)
{
	ListCell   *cell;

	foreach(cell, items->holds)
	{
		if (!janitor_holds_lock(((JanitorItemHolds *) lfirst(cell))->holds))
			return false;
	}
	foreach(cell, items->holds)
	{
		JanitorItemHolds *on = lfirst(cell);

		if (janitor_holds_read(on->holds))
			renew_check(items, on);
	}
	return true;
}

void
janitor_items_hold_wait(JanitorItems *items)
{
	ListCell   *cell;

	foreach(cell, items->holds)
		janitor_holds_wait(((JanitorItemHolds *) lfirst(cell))->holds);
}

/* --- an item --- */

/* The reasons of the holds that are on it; this is rare. */
static const char *
find_reasons(JanitorItems *items, const JanitorItemHolds *on, Datum value)
{
	Oid			type = parameter_type(items, on);
	StringInfoData reasons;

	initStringInfo(&reasons);
	for (int n = 0;; n++)
	{
		const char *reason;
		char	   *text;
		Datum		unused;

		(void) janitor_holds_condition_of(on->holds, on->relid, n, &reason);
		if (reason == NULL)
			break;
		text = statement_text(items, on, n);
		if (text != NULL &&
			janitor_query_value(text, 1, &type, &value, &unused))
			appendStringInfo(&reasons, "%s%s", reasons.len > 0 ? "; " : "",
							 reason);
	}
	return reasons.data;
}

const char *
janitor_items_held(JanitorItems *items, JanitorSubject *subject)
{
	ListCell   *cell;

	foreach(cell, items->holds)
	{
		const JanitorItemHolds *on = lfirst(cell);
		Datum		value = on->place > 0 ? subject->key : subject->item;
		Datum		unused;
		bool		isnull;

		if (on->check != NULL &&
			janitor_query_row(on->check, &value, NULL, 1, &unused, &isnull))
			return find_reasons(items, on, value);
	}
	return NULL;
}
