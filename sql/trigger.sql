--
-- Queueing and cancelling runs that wait: everything here is due in 2099.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_a LOGIN;
SELECT job_schedule('purge', '0 0 29 2 *', 'SELECT 1', owner => 'regress_janitor_a') IS NOT NULL AS scheduled;
SELECT job_schedule('other', NULL, 'SELECT 1', owner => 'regress_janitor_a');
SELECT job_disable('other');

-- the execution id is allotted at once
SELECT job_trigger('purge', '{"n": 1}', '2099-01-01');
SELECT job_trigger('other', run_at => '2099-01-02');	-- disabled jobs too
SELECT id, execution_id, job_name, run_at, scheduled_for, reason, attempt,
	   retry_of, parent_id, args, key, triggered_by = session_user AS by_me
FROM job_queue WHERE reason <> 'schedule' ORDER BY id;
SELECT execution_id, job_name FROM job_waiting WHERE execution_id IS NOT NULL ORDER BY 1;
SELECT job_name, waiting, running FROM job_status ORDER BY 1;

-- transactional
BEGIN;
SELECT job_trigger('purge', run_at => '2099-01-01') > 0 AS triggered;
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT job_trigger('purge', run_at => '2099-01-01') > 0 AS triggered;
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM job_queue WHERE reason = 'manual';

-- what is not a trigger
\set VERBOSITY terse
SELECT job_trigger(NULL);
SELECT job_trigger('purge', '[1]');
SELECT job_trigger('purge', '1');
SELECT job_trigger('purge', key => '');
SELECT job_trigger('purge', key => '@schedule');
SELECT job_trigger('purge', key => repeat('k', 256));
\set VERBOSITY default
SELECT job_trigger('prge');
SELECT job_trigger('nothing like it');
SELECT count(*) FROM job_execution;

-- one waiting run for a key, which keeps its id
SELECT job_trigger('purge', '{"n": 2}', '2099-01-03', 'k') AS keyed \gset
SELECT job_trigger('purge', '{"n": 3}', '2099-01-04', 'k') = :keyed AS kept;
SELECT job_trigger('other', '{"n": 4}', '2099-01-05', 'k') = :keyed AS kept;
SELECT job_name, args, run_at, key FROM job_queue WHERE key = 'k' ORDER BY job_name;
BEGIN;
SELECT job_trigger('purge', '{"n": 5}', '2099-01-06', 'k') = :keyed AS kept,
	   job_trigger('purge', '{"n": 6}', '2099-01-07', 'k') = :keyed AS kept_again;
ROLLBACK;
SELECT args, run_at FROM job_queue WHERE key = 'k' AND job_name = 'purge';

-- nobody waits for what cannot happen
BEGIN;
SELECT job_trigger('purge') AS own \gset
SELECT job_wait(:own);
ROLLBACK;
SELECT job_wait(:own);
SELECT job_wait(NULL);
SELECT job_wait(:keyed, '1 ms');
SELECT job_wait(:keyed, '-1 hour');
BEGIN;
CALL job_run('purge');
ROLLBACK;
CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$
DECLARE i bigint; s text; n bigint;
BEGIN
	CALL job_run('purge', NULL, i, s, n);
END $$;
SELECT f();
DROP FUNCTION f();

-- cancelling one: it leaves its row
SELECT job_cancel(1);
SELECT job_cancel(1);
SELECT id, job_name, started_at, success, error_message, records_processed, status,
	   replace(detail, session_user, 'me') AS detail, reason, sqlstate, args, run_as, duration
FROM job_execution;
SELECT job_wait(1);
-- in a transaction, like everything about waiting runs
BEGIN;
SELECT job_cancel(:keyed);
SELECT count(*) FROM job_queue WHERE execution_id = :keyed;
ROLLBACK;
SELECT count(*) FROM job_queue WHERE execution_id = :keyed;
-- by key
SELECT job_cancel('purge', 'no such key'), job_cancel('purge', '@schedule'),
	   job_cancel('purge', 'k'), job_cancel('purge', 'k');
-- by job: all but the next occurrence
SELECT count(job_trigger('purge', run_at => '2099-01-01')) FROM generate_series(1, 3);
SELECT job_cancel('purge');
SELECT job_name, reason, key FROM job_queue ORDER BY id;
SELECT job_cancel('purge');
-- which is which
SELECT job_cancel(12345);
SELECT job_cancel('12345');
SELECT job_cancel(NULL::bigint);
SELECT job_cancel(NULL::text);

-- once more; paused, so that it is there to be looked at
SELECT job_pause('purge');
SELECT job_retry(1) > 1 AS retried;
SELECT reason, attempt, retry_of, args FROM job_queue WHERE retry_of = 1;
SELECT job_retry(12345);

-- a job that is removed takes its waiting runs along, not without a trace
SELECT job_cancel('purge');
SELECT job_trigger('purge', run_at => '2099-01-01') AS last \gset
SELECT job_unschedule('purge');
SELECT count(*) FROM job_queue WHERE job_name = 'purge';
SELECT status, detail FROM job_execution WHERE id = :last;
SELECT job_wait(:last);
SELECT job_retry(:last);
SELECT job_cancel(:last);

-- the log as people read it
SELECT execution_id IS NOT NULL AS execution, job, status, started_at, duration, records,
	   message, reason, attempt
FROM job_logs('purge', max_rows => 2);
SELECT count(*) FROM job_logs(since => '2999-01-01');
SELECT count(*) FROM job_logs(only_failures => true) WHERE status <> 'cancelled';

-- outside a run
SELECT job_args();
SELECT job_arg('n');
SELECT job_execution_id();
SELECT job_scheduled_for();
SELECT job_now();
SELECT job_report(1);

DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_a;
