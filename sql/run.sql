--
-- Runs, one after the other, each waited for.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_a LOGIN;
GRANT CREATE ON SCHEMA public TO regress_janitor_a;
SET ROLE regress_janitor_a;
CREATE TABLE session_token (id int, expires_at timestamptz, seen_by text);
INSERT INTO session_token SELECT n, now() - interval '1 day' FROM generate_series(1, 100) n;
INSERT INTO session_token SELECT n, 'infinity' FROM generate_series(101, 120) n;
RESET ROLE;
CREATE VIEW outcome AS
	SELECT job_name, status, success, records_processed, error_message, sqlstate,
		   detail, reason, attempt, args, result, run_as, definition_version
	FROM job_execution ORDER BY id DESC LIMIT 1;

-- a cleanup, twice: what it changed is what it says
SELECT job_schedule('purge', NULL, 'DELETE FROM session_token WHERE expires_at < now()', owner => 'regress_janitor_a');
CALL job_run('purge');
CALL job_run('purge', NULL);
SELECT count(*) FROM session_token;
SELECT id, job_name, started_at <= completed_at AS in_order, success, error_message,
	   records_processed, duration = completed_at - started_at AS duration
FROM job_execution ORDER BY id;

-- arguments: the trigger's over the job's
SELECT job_schedule('args', NULL, $$
	SELECT job_report(job_arg('n')::bigint,
					  job_args() || jsonb_build_object('id', job_execution_id() > 0,
													   'for', job_scheduled_for(),
													   'none', job_arg('none'),
													   'now', job_now() <= clock_timestamp()))$$,
					args => '{"n": 7, "m": 1}', owner => 'regress_janitor_a');
CALL job_run('args', '{"m": 2}');
SELECT args, result FROM outcome;

-- a result that is one integer counts; others do not
SELECT job_schedule('count', NULL, 'SELECT 42', owner => 'regress_janitor_a');
CALL job_run('count');
SELECT job_alter('count', '{"command": "SELECT 42, 43"}');
CALL job_run('count');
SELECT job_alter('count', '{"command": "UPDATE session_token SET seen_by = current_user; DELETE FROM session_token WHERE id > 115"}');
CALL job_run('count');
SELECT DISTINCT seen_by FROM session_token;
SELECT job_alter('count', '{"command": "SELECT job_report(NULL)"}');
CALL job_run('count');

-- a failure raises what the run raised, and changes nothing
SELECT job_schedule('fail', NULL, 'DELETE FROM session_token; SELECT 1/0', owner => 'regress_janitor_a');
CALL job_run('fail');
SELECT * FROM outcome;
SELECT count(*) FROM session_token;
SELECT job_name, health, consecutive_failures, last_status, last_rows FROM job_status WHERE job_name = 'fail';
SELECT check_name, ok, regexp_replace(detail, '\d+', 'N') AS detail, hint FROM job_why('fail') WHERE NOT ok;
-- its own SQLSTATE
\set VERBOSITY sqlstate
CALL job_run('fail');
SELECT job_alter('fail', '{"command": "DELETE FROM no_such_table"}');
CALL job_run('fail');
\set VERBOSITY default
SELECT job_retry(max(id)) AS again FROM job_execution \gset
SELECT job_wait(:again);
SELECT job_name, reason, retry_of < id AS retried FROM job_execution WHERE id = :again;

-- too slow
SELECT job_schedule('slow', NULL, 'SELECT pg_sleep(600)', timeout => '10 ms', owner => 'regress_janitor_a');	-- a job that takes long
CALL job_run('slow');
SELECT status, success, sqlstate FROM outcome;

-- cancelled while it runs: wait until it does, then cancel
SELECT job_alter('slow', '{"timeout": null}');
SELECT job_trigger('slow') AS id \gset
SELECT job_wait(:id, '1 ms');
SELECT job_cancel(:id);
SELECT job_wait(:id);
SELECT status, success FROM outcome;
SELECT job_cancel(:id);

-- what a command leaves behind does not reach the next run
SELECT job_schedule('session', NULL, $$CREATE TEMP TABLE left_behind (); SET work_mem = '1MB'; SET application_name = 'x'; SELECT pg_advisory_lock(1)$$, owner => 'regress_janitor_a');
CALL job_run('session');
CALL job_run('session');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1;
-- settings reach it, as they were when it was defined
SELECT job_schedule('settings', NULL, $$SELECT job_report(1, to_jsonb(current_setting('work_mem') || ' ' || current_setting('my.depth') || ' ' || current_setting('search_path')))$$,
					settings => '{"work_mem": "3MB", "my.depth": 4, "search_path": "public, pg_temp"}', owner => 'regress_janitor_a');
CALL job_run('settings');
SELECT result FROM outcome;

-- it runs as its owner, whatever it says
SELECT job_schedule('who', NULL, $$RESET ROLE; RESET SESSION AUTHORIZATION; SELECT job_report(1, to_jsonb(session_user || ' ' || current_user))$$, owner => 'regress_janitor_a');
CALL job_run('who');
SELECT result, run_as FROM outcome;

-- a lone statement that cannot be in a transaction block; a procedure that commits
SELECT job_schedule('vacuum', NULL, 'VACUUM session_token', owner => 'regress_janitor_a');
CALL job_run('vacuum');
SET ROLE regress_janitor_a;
CREATE PROCEDURE by_halves() LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM session_token WHERE id <= 110;
	COMMIT;
	DELETE FROM session_token;
	RAISE EXCEPTION 'half way';
END $$;
RESET ROLE;
SELECT job_schedule('procedure', NULL, 'CALL by_halves()', owner => 'regress_janitor_a');
CALL job_run('procedure');
SELECT count(*) FROM session_token;

-- what follows a success, and a failure
SELECT job_schedule('child', NULL, 'SELECT 1', run_after => 'count', owner => 'regress_janitor_a');
SELECT job_schedule('alarm', NULL, 'SELECT 1', owner => 'regress_janitor_a');
SELECT job_alter('fail', '{"on_failure": "alarm"}');
-- one at a time: when the second run of a job has ended, so has the first
-- (which of the two has the lower id is a race)
\set VERBOSITY terse
CALL job_run('count') \gset
CALL job_run('child') \gset
CALL job_run('fail');
CALL job_run('alarm') \gset
\set VERBOSITY default
SELECT e.job_name, e.reason, e.status, p.job_name AS parent,
	   e.args - 'execution_id' AS args, (e.args ->> 'execution_id')::bigint = p.id AS names_it
FROM job_execution e LEFT JOIN job_execution p ON p.id = e.parent_id
WHERE e.job_name IN ('child', 'alarm') ORDER BY e.job_name, e.reason;

-- from a procedure or a block that may commit
DO $$
DECLARE i bigint; s text; n bigint;
BEGIN
	CALL job_run('vacuum', NULL, i, s, n);
	RAISE NOTICE '% %', s, n;
END $$;

DROP VIEW outcome;
DROP EXTENSION pg_janitor;
DROP PROCEDURE by_halves();
DROP TABLE session_token;
REVOKE CREATE ON SCHEMA public FROM regress_janitor_a;
DROP ROLE regress_janitor_a;
