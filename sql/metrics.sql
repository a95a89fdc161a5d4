--
-- job_metrics: counters that say what job_execution has ever said, whatever
-- became of its rows.
--
SET client_min_messages = error;
CREATE EXTENSION pg_janitor;
CREATE TABLE t (a int);
CREATE ROLE regress_janitor_mine LOGIN;
CREATE ROLE regress_janitor_other LOGIN;

SELECT FROM job_schedule('good', NULL, 'INSERT INTO t SELECT generate_series(1, 7)');
SELECT FROM job_schedule('bad', NULL, 'SELECT 1/0', max_attempts => 2, retry_delay => '0');
SELECT FROM job_schedule('slow', NULL, 'SELECT pg_sleep(600)', timeout => '10 ms');	-- a job that takes long
SELECT FROM job_schedule('never', NULL, 'SELECT 1');
SELECT FROM job_schedule('mine', NULL, 'SELECT 1', owner => 'regress_janitor_mine');

-- what the rows say, and what the counters say: differences
CREATE VIEW wrong AS
	SELECT job_name, rows, counters
	FROM (SELECT job_name, to_jsonb(m) - 'job_name' - 'kind' - 'run_seconds' AS counters, run_seconds
		  FROM job_metrics m) m
	JOIN (SELECT d.name AS job_name,
				 sum(extract(epoch FROM e.duration)) AS seconds,
				 jsonb_build_object(
					'succeeded', count(*) FILTER (WHERE e.status = 'succeeded'),
					'failed', count(*) FILTER (WHERE e.status = 'failed'),
					'timed_out', count(*) FILTER (WHERE e.status = 'timed_out'),
					'cancelled', count(*) FILTER (WHERE e.status = 'cancelled'),
					'interrupted', count(*) FILTER (WHERE e.status = 'interrupted'),
					'skipped', coalesce(sum(e.skipped), 0),
					'retries', count(*) FILTER (WHERE e.retry_of IS NOT NULL AND e.status <> 'running'),
					'records_processed', coalesce(sum(e.records_processed), 0),
					'failed_records', coalesce(sum(e.failed_records), 0)) AS rows
		  FROM job_definition d LEFT JOIN job_execution e ON e.job_name = d.name
		  GROUP BY d.name) e USING (job_name)
	WHERE rows <> counters OR abs(coalesce(seconds, 0) - run_seconds) > 0.00001;

CALL job_run('good');
CALL job_run('good');
\set VERBOSITY sqlstate
CALL job_run('bad');
CALL job_run('slow');
\set VERBOSITY default

-- a waiting run that is cancelled, one whose cancel is rolled back
SELECT job_trigger('never', run_at => now() + interval '1 hour') AS id \gset
BEGIN;
SELECT job_cancel(:id);
SELECT cancelled FROM job_metrics WHERE job_name = 'never';
ROLLBACK;
SELECT cancelled FROM job_metrics WHERE job_name = 'never';
SELECT job_cancel(:id);

-- the second attempt of bad has its own time
CREATE PROCEDURE wait_for_retry() LANGUAGE plpgsql AS $$
BEGIN
	WHILE (SELECT count(*) < 2 OR bool_or(completed_at IS NULL) FROM job_execution WHERE job_name = 'bad') LOOP
		PERFORM job_wait(max(id), '10 ms') FROM job_execution WHERE job_name = 'bad';
		COMMIT;
	END LOOP;
END $$;
CALL wait_for_retry();
SELECT job_name, kind, succeeded, failed, timed_out, cancelled, interrupted, skipped, retries,
	records_processed, failed_records, run_seconds > 0 AS took
FROM job_metrics ORDER BY 1;
SELECT * FROM wrong;

-- they survive the rows, and the job
DELETE FROM job_execution;
SELECT job_name, succeeded, failed, records_processed FROM job_metrics WHERE job_name IN ('good', 'bad') ORDER BY 1;
SELECT FROM job_unschedule('good');
SELECT count(*) FROM job_metrics WHERE job_name = 'good';
SELECT FROM job_schedule('good', NULL, 'SELECT 1');
CALL job_run('good');
SELECT succeeded, records_processed FROM job_metrics WHERE job_name = 'good';

-- each sees the jobs of the roles that he is a member of
SET ROLE regress_janitor_mine;
SELECT job_name FROM job_metrics;
SET ROLE regress_janitor_other;
SELECT job_name FROM job_metrics;
RESET ROLE;

DROP VIEW wrong;
DROP EXTENSION pg_janitor;
DROP PROCEDURE wait_for_retry;
DROP TABLE t;
DROP ROLE regress_janitor_mine, regress_janitor_other;
