/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  Runs of external jobs in the hands of workers outside.
 *
 * Runs in the backend of whoever claims, extends, finishes or cancels, in its
 * transaction, and in the scheduler for leases that are over.
 *
 * The life of such a run:
 *
 *	  job_queue  ---claim--->  job_execution `running`, and a lease
 *		  ^						|			|			  |
 *		  |				   job_finish	 expiry		  job_cancel
 *		  +---snooze------------+			|			  |
 *		  +---retry, as conclude.c says-----+		  `cancelled`
 *
 * The lease row is the run's owner: whoever locks and deletes it ends the run,
 * everybody else finds it gone.  Its holder proves itself by a token, of which
 * the row has only a hash: whoever reads the tables cannot finish what is not
 * his.  A run that is claimed again gets a new lease with a new token, so a
 * worker that comes too late is refused, whatever it was doing meanwhile.
 *
 * Waiting.  A claim waits for nobody: entries that an open transaction has are
 * passed over.  Where a limit has to hold over several claims (max_running, a
 * key, rate limits, a probe), they come one after the other under the job's
 * claim lock, which is given back before the claim returns: what the
 * transaction then does with its time is its own affair, since leases and
 * admissions count from the moment they are inserted, committed or not.  After
 * job_finish() the transaction has nothing locked but its own run, and its key
 * if that is retried.
 *
 * On ERROR everything is rolled back, and told (mark.c).
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "lease.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "conclude.h"
#include "gate.h"
#include "home.h"
#include "mark.h"
#include "settings.h"
#include "shmem.h"

/* Entries looked at in one claim. */
#define LOOK_LIMIT 20000

/* Entries read at once. */
#define BATCH_LIMIT 1000

/*
 * When a probe that an open transaction has may be had again; and when this
 * session may have learned that pg_janitor is enabled.
 */
#define PROBE_RETRY (1 * USECS_PER_SEC)
#define ENABLED_RETRY (60 * USECS_PER_SEC)

/* ------------------------------------------------------------------------
 * Tokens
 * ------------------------------------------------------------------------
 */

static void
make_token(pg_uuid_t *token)
{
	if (!pg_strong_random(token->data, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	/* a uuid of version 4 */
	token->data[6] = (token->data[6] & 0x0f) | 0x40;
	token->data[8] = (token->data[8] & 0x3f) | 0x80;
}

/* The beginning of its SHA-256: as good as 128 random bits deserve. */
static void
hash_token(const pg_uuid_t *token, unsigned char *hash)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, token->data, UUID_LEN) < 0 ||
		pg_cryptohash_final(context, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute the hash of a token");
	pg_cryptohash_free(context);
	memcpy(hash, digest, JANITOR_TOKEN_SIZE);
}

/* ------------------------------------------------------------------------
 * Claiming
 * ------------------------------------------------------------------------
 */

/* A claim in progress. */
typedef struct Claim
{
	JanitorClaiming *ours;
	JanitorGate gate;
	uint64		job_hash;
	TimestampTz now;			/* by janitor_clock() */
	int			wanted;
	bool		exclusive;		/* we have the claim lock */
	JanitorPosition mark;		/* nothing is left at or before it */
	bool		held;			/* something was left: the mark stays */
	JanitorEntry *batch;		/* entries read */
	int			read;
	int			size;
	int			looked_at;
} Claim;

static void
make_exclusive(Claim *claim)
{
	if (!claim->exclusive)
		janitor_claim_lock(claim->ours->job->name);
	claim->exclusive = true;
}

/*
 * How many may be claimed now.  Starved is said first: the end of a run that
 * comes after the count finds it said.
 */
static int
room(Claim *claim)
{
	const JanitorJob *job = claim->ours->job;
	int			running;

	if (job->max_running == 0)
		return claim->ours->max_runs;
	make_exclusive(claim);
	running = janitor_lease_count(job->name);
	if (running >= job->max_running)
	{
		janitor_mark_starved(claim->job_hash, DT_NOEND, DT_NOEND);
		running = janitor_lease_count(job->name);
	}
	return Min(claim->ours->max_runs, job->max_running - running);
}

/* Is a run with the entry's key in progress?  Then it has to wait for it. */
static bool
key_is_busy(Claim *claim, const JanitorEntry *entry)
{
	const char *job_name = claim->ours->job->name;

	if (entry->key == NULL || entry->key[0] == '@')
		return false;
	make_exclusive(claim);
	if (!janitor_lease_has_key(job_name, entry->key))
		return false;
	janitor_mark_starved(claim->job_hash, entry->run_at, DT_NOEND);
	return janitor_lease_has_key(job_name, entry->key);
}

/*
 * Takes the entry out of the queue, if it can be had and everything admits it.
 * One that a limit refuses is put to where its turn comes.
 */
static bool
take_entry(Claim *claim, JanitorEntry *entry, Jsonb *args)
{
	TimestampTz opens;
	JanitorLock lock = claim->gate.limits == 0 ? janitor_entry_take(entry) :
	janitor_entry_try_lock(entry);

	if (lock != JANITOR_LOCKED)
	{
		/* whoever is deleting it tells if he does not, after all */
		if (lock == JANITOR_LOCK_HELD &&
			(claim->gate.limits > 0 || entry->pinned))
			claim->held = true;
		return false;
	}
	if (claim->gate.limits == 0)
		return true;
	if (janitor_gate_admit(&claim->gate, args, claim->now, &opens))
	{
		janitor_entry_take_locked(entry);
		return true;
	}
	janitor_entry_postpone(entry, opens, JANITOR_DETAIL_WAITS_RATE);
	return false;
}

/* From here on the run counts, for whoever claims after us. */
static void
lease_entry(Claim *claim, JanitorEntry *entry, Jsonb *args)
{
	JanitorClaiming *ours = claim->ours;
	const JanitorJob *job = ours->job;
	JanitorHandout *handout = &ours->handout[ours->count++];
	JanitorLease lease;

	if (entry->execution_id == 0)
		entry->execution_id = janitor_next_execution_id();
	make_token(&handout->token);
	handout->entry = *entry;
	handout->args = args;
	handout->lease_until = claim->now +
		(job->timeout > 0 ? Min(ours->lease, job->timeout) : ours->lease);

	lease.execution_id = entry->execution_id;
	lease.job_name = job->name;
	lease.key = entry->key != NULL && entry->key[0] != '@' ? entry->key :
		NULL;
	lease.lease_until = handout->lease_until;
	lease.claimed_at = claim->now;
	hash_token(&handout->token, lease.token_hash);
	janitor_lease_insert(&lease);
}

static bool
read_entry(JanitorEntry *entry, void *arg)
{
	Claim	   *claim = arg;

	claim->batch[claim->read++] = *entry;
	return claim->read < claim->size;
}

/* The next entries after the last one read; false: there are none. */
static bool
read_batch(Claim *claim, TimestampTz *run_at, int64 *id)
{
	claim->size = Min(claim->wanted - claim->ours->count + 3 +
					  claim->looked_at, BATCH_LIMIT);
	claim->batch = palloc(claim->size * sizeof(JanitorEntry));
	claim->read = 0;
	janitor_entry_scan(claim->ours->job->name, *run_at, *id, claim->now,
					   read_entry, claim);
	if (claim->read == 0)
		return false;
	*run_at = claim->batch[claim->read - 1].run_at;
	*id = claim->batch[claim->read - 1].id;
	claim->looked_at += claim->read;
	return claim->looked_at < LOOK_LIMIT;
}

/*
 * The mark follows as long as nothing is left behind that nobody would tell
 * of.  The next occurrence is the scheduler's.
 */
static void
look_at_batch(Claim *claim)
{
	JanitorClaiming *ours = claim->ours;

	for (int i = 0; i < claim->read && ours->count < claim->wanted; i++)
	{
		JanitorEntry *entry = &claim->batch[i];
		TimestampTz run_at = entry->run_at;

		CHECK_FOR_INTERRUPTS();
		if ((entry->key == NULL ||
			 strcmp(entry->key, JANITOR_KEY_SCHEDULE) != 0) &&
			!key_is_busy(claim, entry))
		{
			Jsonb	   *args = janitor_job_merge_args(ours->job, entry->args);

			if (take_entry(claim, entry, args))
				lease_entry(claim, entry, args);
		}
		if (!claim->held)
		{
			claim->mark.run_at = run_at;
			claim->mark.id = entry->id;
		}
	}
}

static void
choose(Claim *claim)
{
	TimestampTz run_at;
	int64		id;

	janitor_mark_read(claim->job_hash, claim->ours->job->name, &claim->mark);
	if (claim->gate.limits > 0 || claim->gate.passage == JANITOR_PROBE)
		make_exclusive(claim);
	claim->wanted = room(claim);
	if (claim->gate.passage == JANITOR_PROBE)
		claim->wanted = Min(claim->wanted, 1);
	run_at = claim->mark.run_at;
	id = claim->mark.id;
	while (claim->ours->count < claim->wanted &&
		   read_batch(claim, &run_at, &id))
		look_at_batch(claim);
	if (claim->exclusive)
		janitor_claim_unlock(claim->ours->job->name);
	janitor_mark_advance(claim->job_hash, &claim->mark);
}

/* The scheduler waits for its occurrence to be claimed before the next one. */
static void
tell_of_occurrence(const JanitorEntry *entry)
{
	if (entry->key != NULL && strcmp(entry->key, JANITOR_KEY_QUEUED) == 0)
		janitor_wake_at_end(entry->run_at);
}

static void
record(const JanitorClaiming *ours)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < ours->count; i++)
	{
		JanitorHandout *handout = &ours->handout[i];

		handout->entry.args = handout->args;
		janitor_execution_lease(&handout->entry, now, ours->job->version,
								ours->job->owner, handout->lease_until,
								ours->worker);
		tell_of_occurrence(&handout->entry);
	}
}

static bool
is_claimable(JanitorEntry *entry, void *arg)
{
	bool	   *found = arg;

	*found = entry->key == NULL ||
		strcmp(entry->key, JANITOR_KEY_SCHEDULE) != 0;
	return !*found;
}

/*
 * Nothing is handed out now, whatever is due.  Whoever was told of it before
 * is told again, when that may be over or has changed.
 */
static void
turn_away(Claim *claim, TimestampTz until)
{
	const char *job_name = claim->ours->job->name;
	bool		found = false;

	janitor_mark_read(claim->job_hash, job_name, &claim->mark);
	janitor_entry_scan(job_name, claim->mark.run_at, claim->mark.id,
					   claim->now, is_claimable, &found);
	if (!found)
		return;
	janitor_mark_starved(claim->job_hash, DT_NOEND, until);
	if (until != DT_NOEND)
		janitor_alarm_at_end(until);
}

/* Is nothing handed out at all?  Until when, as far as that can be said. */
static bool
is_shut(Claim *claim, TimestampTz *until)
{
	const JanitorJob *job = claim->ours->job;

	claim->now = janitor_clock();
	if (!janitor_enabled)
	{
		*until = claim->now + ENABLED_RETRY;
		return true;
	}
	*until = DT_NOEND;
	if (janitor_job_disarmed(job) != NULL)
		return true;
	*until = job->paused_until;
	if (job->paused)
		return true;
	janitor_gate_open(&claim->gate, job, claim->now);
	*until = janitor_gate_probe_at(&claim->gate);
	return claim->gate.passage == JANITOR_NO_PASS;
}

/*
 * The same.  Whoever is turned away is told of the change that lets him in:
 * so it is looked again whether that has happened in between.
 */
static bool
is_turned_away(Claim *claim)
{
	TimestampTz until;
	JanitorJob *job;

	if (!is_shut(claim, &until))
		return false;
	turn_away(claim, until);
	job = janitor_job_load(claim->ours->job->name);
	if (job == NULL)
		return true;
	claim->ours->job = job;
	return is_shut(claim, &until);
}

/*
 * What is claimed through a half-open circuit is its probe.  Whoever has the
 * circuit's row hands it out; if somebody else has, there is nothing to claim.
 */
static void
claim_probe(Claim *claim)
{
	JanitorCircuit *circuit = &claim->gate.circuit;

	if (janitor_circuit_lock(circuit, false) != JANITOR_LOCKED)
	{
		turn_away(claim, claim->now + PROBE_RETRY);
		return;
	}
	choose(claim);
	if (claim->ours->count > 0)
		(void) janitor_circuit_take_probe(circuit, claim->now);
}

void
janitor_lease_claim(JanitorClaiming *claiming)
{
	Claim		claim;

	MemSet(&claim, 0, sizeof(claim));
	claiming->handout = palloc(claiming->max_runs * sizeof(JanitorHandout));
	claiming->count = 0;
	claim.ours = claiming;
	claim.job_hash = janitor_job_hash(claiming->job->name);
	if (is_turned_away(&claim))
		return;
	if (claim.gate.passage == JANITOR_PROBE)
		claim_probe(&claim);
	else
		choose(&claim);
	record(claiming);
}

/* ------------------------------------------------------------------------
 * The holder
 * ------------------------------------------------------------------------
 */

void
janitor_lease_refuse(int64 execution_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the lease of execution " INT64_FORMAT " is lost",
					execution_id),
			 errdetail("It expired, the run has ended or was canceled, or the token is of another lease."),
			 errhint("Roll back what was done for it. If that took too long, claim with a longer lease or call job_extend().")));
}

void
janitor_lease_require(int64 execution_id, const pg_uuid_t *token,
					  JanitorLease *lease)
{
	unsigned char hash[JANITOR_TOKEN_SIZE];

	hash_token(token, hash);
	if (!janitor_lease_find(execution_id, lease) ||
		memcmp(lease->token_hash, hash, sizeof(hash)) != 0)
		janitor_lease_refuse(execution_id);
}

/*
 * Locks it in whatever version it is by now: its holder may be extending it in
 * another session.
 */
static void
lock_lease(JanitorLease *lease)
{
	unsigned char hash[JANITOR_TOKEN_SIZE];

	memcpy(hash, lease->token_hash, sizeof(hash));
	while (janitor_lease_lock(lease, true) != JANITOR_LOCKED)
	{
		CHECK_FOR_INTERRUPTS();
		if (!janitor_lease_find(lease->execution_id, lease) ||
			memcmp(lease->token_hash, hash, sizeof(hash)) != 0)
			janitor_lease_refuse(lease->execution_id);
	}
}

TimestampTz
janitor_lease_prolong(JanitorLease *lease, const JanitorJob *job,
					  int64 length)
{
	TimestampTz until = janitor_clock() + length;

	lock_lease(lease);
	if (job != NULL && job->timeout > 0)
		until = Min(until, lease->claimed_at + job->timeout);
	janitor_lease_extend(lease, until);
	janitor_execution_extend(lease->execution_id, until);
	return until;
}

/* As much of the execution as a success needs. */
static void
execution_of_lease(const JanitorLease *lease, JanitorExecution *execution)
{
	MemSet(execution, 0, sizeof(JanitorExecution));
	execution->id = lease->execution_id;
	execution->job_name = lease->job_name;
	execution->key = lease->key;
	execution->started_at = lease->claimed_at -
		janitor_debug_clock_offset * USECS_PER_SEC;
	execution->lease_until = lease->lease_until;
}

static void
begin_outcome(JanitorOutcome *outcome, JanitorStatus status)
{
	MemSet(outcome, 0, sizeof(JanitorOutcome));
	outcome->status = status;
	outcome->started_at = DT_NOBEGIN;
	outcome->completed_at = GetCurrentTimestamp();
	outcome->records = -1;
}

/*
 * The run is back in the queue, with the same id and the same attempt.  That
 * it could not be done is a failure of the other side if its worker says so.
 */
static const char *
snooze(JanitorLease *lease, const JanitorJob *job, const JanitorWord *word)
{
	JanitorExecution was;

	if (!janitor_execution_unstart(lease->execution_id, &was))
		janitor_lease_refuse(lease->execution_id);
	if (!word->success && job->circuit != NULL)
		janitor_circuit_feed(job->circuit, false, lease->claimed_at,
							 lease->execution_id);
	janitor_requeue(&was, janitor_clock() + word->snooze,
					word->error ? word->error : JANITOR_DETAIL_WAITS_SNOOZE);
	return "snoozed";
}

const char *
janitor_lease_end(JanitorLease *lease, const JanitorJob *job,
				  const JanitorWord *word)
{
	JanitorExecution execution;
	JanitorOutcome outcome;

	lock_lease(lease);
	janitor_lease_delete(lease);
	janitor_run_ended_at_end(janitor_job_hash(lease->job_name));
	if (word->snooze >= 0 && job != NULL)
		return snooze(lease, job, word);

	begin_outcome(&outcome, word->success ? JANITOR_SUCCEEDED :
				  JANITOR_FAILED);
	outcome.records = word->records;
	outcome.result = word->result;
	outcome.permanent = word->permanent;
	if (word->success)
		execution_of_lease(lease, &execution);
	else
	{
		outcome.error_message = word->error ? word->error :
			"its worker reported a failure";
		if (!janitor_execution_find(lease->execution_id, &execution))
			janitor_lease_refuse(lease->execution_id);
	}
	if (!janitor_conclude(&execution, job, &outcome, JANITOR_LOSS_NONE))
		janitor_lease_refuse(lease->execution_id);
	if (word->success)
		return "succeeded";
	return job != NULL && !word->permanent &&
		execution.attempt < job->max_attempts ? "retry" : "failed";
}

/* ------------------------------------------------------------------------
 * Others
 * ------------------------------------------------------------------------
 */

bool
janitor_lease_cancel(int64 execution_id, bool wait, const char *detail)
{
	JanitorLease lease;
	JanitorOutcome outcome;

	for (;;)
	{
		JanitorLock lock;

		if (!janitor_lease_find(execution_id, &lease))
			return false;
		lock = janitor_lease_lock(&lease, wait);
		if (lock == JANITOR_LOCKED)
			break;
		if (lock == JANITOR_LOCK_HELD)
			return false;
		CHECK_FOR_INTERRUPTS();
	}
	janitor_lease_delete(&lease);
	janitor_run_ended_at_end(janitor_job_hash(lease.job_name));
	janitor_outcome_cancelled(&outcome, ERRCODE_QUERY_CANCELED,
							  "canceled while a worker had it");
	outcome.detail = detail;
	return janitor_execution_finish(execution_id, &outcome);
}

typedef struct Ids
{
	int64	   *ids;
	int			count;
	int			size;
} Ids;

static bool
collect_id(JanitorLease *lease, void *arg)
{
	Ids		   *ids = arg;

	if (ids->count == ids->size)
	{
		ids->size *= 2;
		ids->ids = repalloc(ids->ids, ids->size * sizeof(int64));
	}
	ids->ids[ids->count++] = lease->execution_id;
	return true;
}

int
janitor_lease_cancel_all(const JanitorJob *job, const char *detail)
{
	Ids			ids = {palloc(16 * sizeof(int64)), 0, 16};
	int			count = 0;

	janitor_lease_scan_job(job->name, collect_id, &ids);
	for (int i = 0; i < ids.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (janitor_lease_cancel(ids.ids[i], false, detail))
			count++;
	}
	return count;
}

/* Beyond its timeout a run cannot be extended: it ends with its lease. */
static void
describe_expiry(const JanitorLease *lease, const JanitorJob *job,
				JanitorOutcome *outcome)
{
	if (job != NULL && job->timeout > 0 &&
		lease->claimed_at + job->timeout <= lease->lease_until)
	{
		begin_outcome(outcome, JANITOR_TIMED_OUT);
		outcome->sqlstate = ERRCODE_QUERY_CANCELED;
		outcome->error_message =
			psprintf("taken from its worker after its timeout of %g s",
					 job->timeout / (double) USECS_PER_SEC);
		return;
	}
	begin_outcome(outcome, JANITOR_INTERRUPTED);
	outcome->error_message = outcome->detail =
		"its worker did not end it before its lease did";
}

bool
janitor_lease_expire(int64 execution_id, TimestampTz now)
{
	JanitorLease lease;
	JanitorExecution execution;
	JanitorOutcome outcome;
	JanitorJob *job;

	if (!janitor_lease_find(execution_id, &lease) || lease.lease_until > now)
		return true;
	if (janitor_lease_lock(&lease, false) != JANITOR_LOCKED)
		return false;
	janitor_lease_delete(&lease);
	janitor_run_ended_at_end(janitor_job_hash(lease.job_name));
	job = janitor_job_load(lease.job_name);
	describe_expiry(&lease, job, &outcome);
	if (janitor_execution_find(execution_id, &execution) &&
		janitor_conclude(&execution, job, &outcome, JANITOR_LOSS_LEASE))
		janitor_log_outcome(&execution, &outcome);
	return true;
}
