/*-------------------------------------------------------------------------
 *
 * items_subject.c
 *	  One item: locked, read again, looked up among the holds, handled.
 *
 * Everything for one item happens in one subtransaction.  An error rolls back
 * all that was done for it, in every table, and nothing else.
 *
 * Errors are kept as data and told discreetly: what the server says of them
 * may show the very values that are to be forgotten.
 *
 * Memory: the context of the group, which is current.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "items_internal.h"

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "announce.h"
#include "settings.h"
#include "shmem.h"

/* The subject in hand, for the function that runs in the subtransaction. */
typedef struct Handling
{
	JanitorItems *items;
	JanitorSubject *subject;
} Handling;

const char *
janitor_subject_key(JanitorItems *items, JanitorSubject *subject)
{
	if (subject->key_text == NULL)
		subject->key_text = janitor_item_key_text(items->query, subject->key);
	return subject->key_text;
}

bool
janitor_items_ended(const JanitorError *error)
{
	return janitor_worker_end() != JANITOR_END_NONE ||
		error->sqlstate == ERRCODE_QUERY_CANCELED;
}

bool
janitor_items_is_conflict(const JanitorError *error)
{
	return error->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlstate == ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION ||
		error->sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/* --- its turn --- */

/* What earlier runs left of it; has its time come? */
static bool
is_its_turn(JanitorItems *items, JanitorSubject *subject)
{
	if (hash_get_num_entries(items->known) == 0 ||
		!janitor_items_is_known(items, janitor_subject_key(items, subject)))
		return true;
	subject->known = janitor_item_failure_find(items->job->name,
											   subject->key_text,
											   &subject->failure);
	return !subject->known || items->replay != NULL ||
		subject->failure.held ||
		(!subject->failure.dead &&
		 subject->failure.next_attempt_at <= janitor_clock());
}

/* --- the work --- */

static void
keep_item(TupleDesc desc, Datum *values, bool *nulls, void *arg)
{
	JanitorSubject *subject = arg;

	subject->item = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[0]));
	subject->due = nulls[1] ? DT_NOBEGIN : DatumGetTimestampTz(values[1]);
}

/*
 * Locks and reads it; false: it is no item any more.  The second look, under
 * the locks of the first, is for what the query reads of other rows: the
 * first one's snapshot may be older than the end of its wait.
 */
static bool
read_item(JanitorItems *items, JanitorSubject *subject)
{
	int			looks = items->query->looks_elsewhere ? 2 : 1;
	int64		rows = 0;

	for (int look = 0; look < looks; look++)
	{
		rows = janitor_query_each(items->subject, &subject->key, NULL, 2,
								  keep_item, subject);
		if (rows == 0)
			return false;
	}
	if (rows > 1)
		janitor_ereport_plain(ERROR,
							  (errcode(ERRCODE_CARDINALITY_VIOLATION),
							   errmsg("the items query has several rows for one key")));
	return true;
}

static void
take_steps(JanitorItems *items, JanitorSubject *subject)
{
	ListCell   *cell;

	subject->rows = palloc0(list_length(items->steps) * sizeof(int64));
	foreach(cell, items->steps)
	{
		JanitorStep *step = lfirst(cell);

		subject->rows[foreach_current_index(cell)] =
			janitor_query_execute(janitor_step_query(items, step),
								  &subject->item, NULL);
	}
}

/* In the subtransaction. */
static void
handle(void *arg)
{
	Handling   *handling = arg;
	JanitorItems *items = handling->items;
	JanitorSubject *subject = handling->subject;

	CHECK_FOR_INTERRUPTS();
	if (!read_item(items, subject))
	{
		subject->state = JANITOR_SUBJECT_GONE;
		return;
	}
	subject->hold_reason = janitor_items_held(items, subject);
	if (subject->hold_reason != NULL)
	{
		subject->state = JANITOR_SUBJECT_HELD;
		return;
	}
	take_steps(items, subject);
	subject->state = JANITOR_SUBJECT_DONE;
}

void
janitor_subject_begin(JanitorItems *items, JanitorSubject *subject)
{
	subject->state = JANITOR_SUBJECT_LEFT;
	subject->due = DT_NOBEGIN;
	subject->error = NULL;
	if (!is_its_turn(items, subject))
		subject->state = JANITOR_SUBJECT_PASSED;
}

JanitorError *
janitor_subject_handle(JanitorItems *items, JanitorSubject *subject)
{
	Handling	handling = {items, subject};

	subject->error = janitor_attempt_inside(handle, &handling);
	if (subject->error == NULL)
		return NULL;
	subject->state = JANITOR_SUBJECT_LEFT;
	if (janitor_items_ended(subject->error))
		return subject->error;
	subject->state = janitor_items_is_conflict(subject->error) ?
		JANITOR_SUBJECT_CONFLICT : JANITOR_SUBJECT_FAILED;
	return NULL;
}

/* --- what is remembered --- */

static void
begin_failure(JanitorItems *items, JanitorSubject *subject)
{
	JanitorItemFailure *failure = &subject->failure;
	TimestampTz now = GetCurrentTimestamp();

	if (!subject->known)
	{
		MemSet(failure, 0, sizeof(JanitorItemFailure));
		failure->job_name = items->job->name;
		failure->item_key =
			unconstify(char *, janitor_subject_key(items, subject));
		failure->first_at = now;
		failure->due = DT_NOBEGIN;
	}
	failure->last_at = now;
	failure->execution_id = items->execution->id;
	if (!TIMESTAMP_NOT_FINITE(subject->due))
		failure->due = subject->due;
}

static void
note_failure(JanitorItems *items, JanitorSubject *subject)
{
	JanitorItemFailure *failure = &subject->failure;
	const JanitorJob *job = items->job;

	begin_failure(items, subject);
	failure->held = false;
	failure->attempts++;
	failure->dead = failure->attempts >= job->max_attempts;
	failure->sqlstate = pstrdup(unpack_sql_state(subject->error->sqlstate));
	failure->error_message = janitor_error_discreetly(subject->error);
	failure->next_attempt_at = failure->dead ? DT_NOBEGIN :
		janitor_clock() +
		janitor_backoff(failure->attempts + 1, job->retry_delay,
						job->retry_max_delay,
						pg_prng_uint64(&pg_global_prng_state));
	janitor_item_failure_put(failure);
	janitor_announce_item(job, items->execution->id,
						  janitor_subject_key(items, subject),
						  failure->dead ? "dead" : "failed");
}

/* Each run looks again. */
static void
note_hold(JanitorItems *items, JanitorSubject *subject)
{
	JanitorItemFailure *failure = &subject->failure;

	begin_failure(items, subject);
	failure->held = true;
	failure->dead = false;
	failure->sqlstate = NULL;
	failure->error_message = psprintf("held: %s", subject->hold_reason);
	failure->next_attempt_at = DT_NOBEGIN;
	janitor_item_failure_put(failure);
}

void
janitor_subject_conclude(JanitorItems *items, JanitorSubject *subject)
{
	switch (subject->state)
	{
		case JANITOR_SUBJECT_DONE:
		case JANITOR_SUBJECT_GONE:
			if (subject->known)
				(void) janitor_item_failure_delete(items->job->name,
												   subject->key_text);
			if (subject->state == JANITOR_SUBJECT_DONE &&
				items->job->channel != NULL)
				janitor_announce_item(items->job, items->execution->id,
									  janitor_subject_key(items, subject),
									  "done");
			break;
		case JANITOR_SUBJECT_FAILED:
			note_failure(items, subject);
			break;
		case JANITOR_SUBJECT_HELD:
			note_hold(items, subject);
			break;
		default:
			break;
	}
}
