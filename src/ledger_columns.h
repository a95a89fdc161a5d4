/*-------------------------------------------------------------------------
 *
 * ledger_columns.h
 *	  The tables of pg_janitor: relations, and the numbers of columns.
 *
 * Whoever adds a relation or a column changes this file, the names in
 * ledger_catalog.c and the install script alike; ledger_catalog.c refuses a
 * table that has another number of columns.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANITOR_LEDGER_COLUMNS_H
#define JANITOR_LEDGER_COLUMNS_H

/* The relations the C code touches; order of ledger.c's table of names. */
typedef enum JanitorRelation
{
	JANITOR_DEFINITION,
	JANITOR_DEFINITION_PKEY,
	JANITOR_DEFINITION_RUN_AFTER,	/* (run_after) */
	JANITOR_QUEUE,
	JANITOR_QUEUE_PKEY,
	JANITOR_QUEUE_KEY,			/* unique (job_name, key) */
	JANITOR_QUEUE_RUN_AT,		/* (run_at, id) */
	JANITOR_QUEUE_JOB_RUN_AT,	/* (job_name, run_at, id) */
	JANITOR_QUEUE_EXECUTION,	/* (execution_id) */
	JANITOR_QUEUE_SEQUENCE,
	JANITOR_EXECUTION,
	JANITOR_EXECUTION_PKEY,
	JANITOR_EXECUTION_JOB,		/* (job_name, id) */
	JANITOR_EXECUTION_SEQUENCE,
	JANITOR_COUNTER,
	JANITOR_COUNTER_PKEY,		/* (job_name, writer) */
	JANITOR_CHANGE,
	JANITOR_CHANGE_JOB,			/* (job_name, id) */
	JANITOR_CHANGE_SEQUENCE,
	JANITOR_RULE,
	JANITOR_RULE_PKEY,			/* (job_name, rule) */
	JANITOR_CURSOR,
	JANITOR_CURSOR_PKEY,
	JANITOR_CURSOR_JOB,			/* (job_name, id) */
	JANITOR_CURSOR_SEQUENCE,
	JANITOR_HOLD,
	JANITOR_HOLD_PKEY,
	JANITOR_HOLD_SEQUENCE,
	JANITOR_ITEM_FAILURE,
	JANITOR_ITEM_FAILURE_PKEY,	/* (job_name, item_key) */
	JANITOR_LEASE,
	JANITOR_LEASE_PKEY,			/* (execution_id) */
	JANITOR_LEASE_UNTIL,		/* (lease_until, execution_id) */
	JANITOR_LEASE_JOB_KEY,		/* (job_name, key) */
	JANITOR_WORK,
	JANITOR_WORK_PKEY,			/* (job_name, role) */
	JANITOR_CIRCUIT,
	JANITOR_CIRCUIT_PKEY,		/* (name) */
	JANITOR_CIRCUIT_EVENT,
	JANITOR_CIRCUIT_EVENT_INDEX,	/* (circuit, id) */
	JANITOR_CIRCUIT_EVENT_SEQUENCE,
	JANITOR_RATE_LIMIT,
	JANITOR_RATE_LIMIT_PKEY,	/* (id) */
	JANITOR_RATE_LIMIT_JOB,		/* (job_name, id) */
	JANITOR_RATE_LIMIT_SEQUENCE,
	JANITOR_RATE_HIT,
	JANITOR_RATE_HIT_INDEX,		/* (limit_id, value, at) */

	JANITOR_MASK_KEY,
	JANITOR_MASK_KEY_PKEY,		/* (name, id) */
	JANITOR_MASK_SECRET,
	JANITOR_MASK_SECRET_PKEY,	/* (id) */
	JANITOR_RECEIPT,
	JANITOR_RECEIPT_PKEY,		/* (job_name, number) */
	JANITOR_REPLAY,
	JANITOR_REPLAY_PKEY,		/* (id) */
	JANITOR_REPLAY_SEQUENCE,
	JANITOR_HOME,				/* a sequence */
	JANITOR_RELATIONS			/* how many */
} JanitorRelation;

/* Columns, in the order of sql/pg_janitor--1.0.sql. */
enum
{
	Anum_definition_name = 1,
	Anum_definition_kind,
	Anum_definition_description,
	Anum_definition_tags,
	Anum_definition_schedule,
	Anum_definition_time_zone,
	Anum_definition_command,
	Anum_definition_items,
	Anum_definition_args,
	Anum_definition_settings,
	Anum_definition_owner,
	Anum_definition_owner_oid,
	Anum_definition_enabled,
	Anum_definition_run_on_start,
	Anum_definition_run_after,
	Anum_definition_on_failure,
	Anum_definition_catch_up,
	Anum_definition_catch_up_within,
	Anum_definition_max_running,
	Anum_definition_overlap,
	Anum_definition_timeout,
	Anum_definition_stop_after,
	Anum_definition_parallel,
	Anum_definition_max_attempts,
	Anum_definition_retry_delay,
	Anum_definition_retry_max_delay,
	Anum_definition_jitter,
	Anum_definition_priority,
	Anum_definition_circuit,
	Anum_definition_channel,
	Anum_definition_receipts,
	Anum_definition_subjects,
	Anum_definition_keep_history,
	Anum_definition_keep_runs,
	Anum_definition_paused_by,
	Anum_definition_paused_reason,
	Anum_definition_paused_until,
	Anum_definition_home,
	Anum_definition_home_database,
	Anum_definition_environment,
	Anum_definition_version,
	Anum_definition_created_at,
	Anum_definition_updated_at,
	Natts_definition = Anum_definition_updated_at
};

enum
{
	Anum_queue_id = 1,
	Anum_queue_execution_id,
	Anum_queue_job_name,
	Anum_queue_run_at,
	Anum_queue_scheduled_for,
	Anum_queue_reason,
	Anum_queue_attempt,
	Anum_queue_conflicts,
	Anum_queue_retry_of,
	Anum_queue_parent_id,
	Anum_queue_args,
	Anum_queue_key,
	Anum_queue_triggered_by,
	Anum_queue_detail,
	Natts_queue = Anum_queue_detail
};

enum
{
	Anum_execution_id = 1,
	Anum_execution_job_name,
	Anum_execution_started_at,
	Anum_execution_completed_at,
	Anum_execution_success,
	Anum_execution_error_message,
	Anum_execution_records_processed,
	Anum_execution_status,
	Anum_execution_detail,
	Anum_execution_scheduled_for,
	Anum_execution_reason,
	Anum_execution_attempt,
	Anum_execution_retry_of,
	Anum_execution_parent_id,
	Anum_execution_triggered_by,
	Anum_execution_failed_records,
	Anum_execution_sqlstate,
	Anum_execution_args,
	Anum_execution_result,
	Anum_execution_definition_version,
	Anum_execution_run_as,
	Anum_execution_pid,
	Anum_execution_duration,
	Anum_execution_lease_until,
	Anum_execution_worker,
	Anum_execution_skipped,
	Anum_execution_conflicts,
	Anum_execution_key,
	Natts_execution = Anum_execution_key
};

enum
{
	Anum_counter_job_name = 1,
	Anum_counter_writer,
	Anum_counter_succeeded,
	Anum_counter_failed,
	Anum_counter_timed_out,
	Anum_counter_cancelled,
	Anum_counter_interrupted,
	Anum_counter_skipped,
	Anum_counter_retries,
	Anum_counter_records_processed,
	Anum_counter_failed_records,
	Anum_counter_run_usecs,
	Natts_counter = Anum_counter_run_usecs
};

enum
{
	Anum_change_id = 1,
	Anum_change_changed_at,
	Anum_change_changed_by,
	Anum_change_job_name,
	Anum_change_action,
	Anum_change_before,
	Anum_change_after,
	Natts_change = Anum_change_after
};

enum
{
	Anum_rule_job_name = 1,
	Anum_rule_rule,
	Anum_rule_place,
	Anum_rule_relation,
	Anum_rule_action,
	Anum_rule_time_column,
	Anum_rule_time_unit,
	Anum_rule_time_format,
	Anum_rule_keep,
	Anum_rule_keep_expression,
	Anum_rule_tier_column,
	Anum_rule_tiers,
	Anum_rule_keep_last,
	Anum_rule_keep_per,
	Anum_rule_expired_when,
	Anum_rule_match,
	Anum_rule_filter,
	Anum_rule_set,
	Anum_rule_done_when,
	Anum_rule_archive_to,
	Anum_rule_short_keep,
	Anum_rule_stop_on_failure,
	Anum_rule_batch_rows,
	Anum_rule_rows_per_run,
	Anum_rule_max_rows_per_second,
	Anum_rule_parallel,
	Anum_rule_max_replica_lag,
	Anum_rule_vacuum,
	Anum_rule_partitions,
	Anum_rule_drop_after,
	Anum_rule_abort_above_rows,
	Anum_rule_abort_above_fraction,
	Natts_rule = Anum_rule_abort_above_fraction
};

enum
{
	Anum_cursor_id = 1,
	Anum_cursor_job_name,
	Anum_cursor_rule,
	Anum_cursor_execution_id,
	Anum_cursor_relation,
	Anum_cursor_relfilenode,
	Anum_cursor_method,
	Anum_cursor_state,
	Anum_cursor_position,
	Anum_cursor_until,
	Anum_cursor_as_of,
	Anum_cursor_handled,
	Anum_cursor_locked,
	Anum_cursor_worker,
	Anum_cursor_updated_at,
	Natts_cursor = Anum_cursor_updated_at
};

enum
{
	Anum_hold_id = 1,
	Anum_hold_relation,
	Anum_hold_relation_oid,
	Anum_hold_relation_owner,
	Anum_hold_predicate,
	Anum_hold_reason,
	Anum_hold_until,
	Anum_hold_placed_by,
	Anum_hold_placed_at,
	Anum_hold_released_by,
	Anum_hold_released_at,
	Anum_hold_home,
	Natts_hold = Anum_hold_home
};

enum
{
	Anum_item_failure_job_name = 1,
	Anum_item_failure_item_key,
	Anum_item_failure_attempts,
	Anum_item_failure_sqlstate,
	Anum_item_failure_error_message,
	Anum_item_failure_next_attempt_at,
	Anum_item_failure_dead,
	Anum_item_failure_held,
	Anum_item_failure_due,
	Anum_item_failure_execution_id,
	Anum_item_failure_first_at,
	Anum_item_failure_last_at,
	Natts_item_failure = Anum_item_failure_last_at
};

enum
{
	Anum_mask_key_name = 1,
	Anum_mask_key_id,
	Anum_mask_key_owner,
	Anum_mask_key_owner_oid,
	Anum_mask_key_created_by,
	Anum_mask_key_created_at,
	Anum_mask_key_forgotten_by,
	Anum_mask_key_forgotten_at,
	Natts_mask_key = Anum_mask_key_forgotten_at
};

enum
{
	Anum_lease_execution_id = 1,
	Anum_lease_job_name,
	Anum_lease_key,
	Anum_lease_lease_until,
	Anum_lease_claimed_at,
	Anum_lease_token_hash,
	Natts_lease = Anum_lease_token_hash
};

enum
{
	Anum_work_job_name = 1,
	Anum_work_role,
	Anum_work_role_oid,
	Anum_work_granted_by,
	Anum_work_granted_at,
	Natts_work = Anum_work_granted_at
};

enum
{
	Anum_circuit_name = 1,
	Anum_circuit_failure_threshold,
	Anum_circuit_window,
	Anum_circuit_cooldown,
	Anum_circuit_state,
	Anum_circuit_since,
	Anum_circuit_owner,
	Anum_circuit_owner_oid,
	Natts_circuit = Anum_circuit_owner_oid
};

enum
{
	Anum_circuit_event_id = 1,
	Anum_circuit_event_circuit,
	Anum_circuit_event_at,
	Anum_circuit_event_event,
	Anum_circuit_event_began,
	Anum_circuit_event_execution_id,
	Anum_circuit_event_reported_by,
	Natts_circuit_event = Anum_circuit_event_reported_by
};

enum
{
	Anum_rate_limit_id = 1,
	Anum_rate_limit_job_name,
	Anum_rate_limit_arg,
	Anum_rate_limit_max_runs,
	Anum_rate_limit_per,
	Natts_rate_limit = Anum_rate_limit_per
};

enum
{
	Anum_rate_hit_limit_id = 1,
	Anum_rate_hit_value,
	Anum_rate_hit_at,
	Natts_rate_hit = Anum_rate_hit_at
};

enum
{
	Anum_mask_secret_id = 1,
	Anum_mask_secret_secret,
	Natts_mask_secret = Anum_mask_secret_secret
};

enum
{
	Anum_receipt_job_name = 1,
	Anum_receipt_number,
	Anum_receipt_execution_id,
	Anum_receipt_erased_at,
	Anum_receipt_subject,
	Anum_receipt_key_id,
	Anum_receipt_rows,
	Anum_receipt_verified,
	Anum_receipt_policy_version,
	Anum_receipt_previous,
	Anum_receipt_hash,
	Natts_receipt = Anum_receipt_hash
};

enum
{
	Anum_replay_id = 1,
	Anum_replay_job_name,
	Anum_replay_first,
	Anum_replay_last,
	Anum_replay_requested_by,
	Anum_replay_requested_at,
	Anum_replay_execution_id,
	Anum_replay_replayed_at,
	Natts_replay = Anum_replay_replayed_at
};

#endif							/* JANITOR_LEDGER_COLUMNS_H */
