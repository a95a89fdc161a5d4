-- External jobs: runs that workers outside the database claim and finish.
CREATE EXTENSION pg_janitor;
SET client_min_messages = error;	-- jobs of a superuser
CREATE ROLE regress_janitor_owner;
CREATE ROLE regress_janitor_worker;
CREATE ROLE regress_janitor_stranger;

-- a definition: what differs from other kinds
SELECT job_schedule_external('mail');
SELECT kind, schedule, command, max_running, max_attempts FROM job_definition WHERE name = 'mail';
SELECT job_schedule_external('bad', options => '{"command": "SELECT 1"}');
SELECT job_schedule_external('bad', options => '{"stop_after": "1 min"}');
SELECT job_schedule('mail', NULL, 'SELECT 1');
SELECT job_alter('mail', '{"max_running": 3}');
SELECT job_alter('mail', '{"max_running": null, "retry_delay": "0", "args": {"from": "us", "to": "nobody"}}');
SELECT max_running, max_attempts FROM job_definition WHERE name = 'mail';

-- nothing to do
SELECT count(*) FROM job_claim('mail');

-- arguments are merged; the row says running, who has it and until when
SELECT job_trigger('mail', '{"to": "ada"}') AS id \gset
SELECT execution_id = :id AS same_id, token, args, attempt, key,
	   lease_until BETWEEN clock_timestamp() + '50 s' AND clock_timestamp() + '1 min' AS lease
FROM job_claim('mail', worker => 'w1') \gset
\echo :same_id :args :attempt :lease
SELECT status, success, worker, lease_until > clock_timestamp() AS leased, run_as = current_user AS run_as, args
FROM job_execution WHERE id = :id;
SELECT count(*) FROM job_queue;
SELECT health, running, waiting FROM job_status WHERE job_name = 'mail';

-- the token is the right to finish, and is nowhere to be read
SELECT job_finish(:id, gen_random_uuid());
SELECT job_finish(:id, NULL);
SELECT count(*) FROM job_lease WHERE token_hash = :'token'::uuid;
SELECT job_extend(:id, gen_random_uuid());
SELECT job_extend(:id, :'token', '1 hour') > clock_timestamp() + '59 min' AS extended;
SELECT lease_until > clock_timestamp() + '59 min' AS extended FROM job_execution WHERE id = :id;

-- what a worker says has to make sense
SELECT job_finish(:id, :'token', true, error => 'what?');
SELECT job_finish(:id, :'token', true, permanent => true);
SELECT job_finish(:id, :'token', records => -1);
SELECT job_finish(:id, :'token', NULL);
SELECT job_finish(:id, :'token', false, permanent => true, snooze => '1 s');
SELECT job_finish(:id, :'token', snooze => '-1 s');

-- it ends once, with its data or not at all
CREATE TABLE sent (id bigint);
BEGIN;
INSERT INTO sent VALUES (:id);
SELECT job_finish(:id, :'token', records => 1, result => '{"message": 7}');
ROLLBACK;
SELECT status FROM job_execution WHERE id = :id;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO sent VALUES (:id);
SELECT job_finish(:id, :'token', records => 1, result => '{"message": 7}');
COMMIT;
SELECT e.status, success, records_processed, result, completed_at >= started_at AS timed, s.id IS NOT NULL AS sent
FROM job_execution e LEFT JOIN sent s ON s.id = e.id WHERE e.id = :id;
SELECT job_finish(:id, :'token');
SELECT job_extend(:id, :'token');
SELECT count(*) FROM job_lease;

-- a failure is tried again, as another execution; a permanent one is not
SELECT job_trigger('mail', '{"to": "bob"}') AS id \gset
SELECT token FROM job_claim('mail') \gset
SELECT job_finish(:id, :'token', false, error => '503 Service Unavailable');
SELECT execution_id, token, attempt, args ->> 'to' AS whom FROM job_claim('mail') \gset
\echo :attempt :whom
SELECT job_finish(:execution_id, :'token', false, error => '550 no such user', permanent => true);
SELECT status, attempt, retry_of = :id AS retry, error_message FROM job_execution
WHERE job_name = 'mail' ORDER BY id DESC LIMIT 2;
SELECT count(*) FROM job_queue WHERE job_name = 'mail';

-- the last attempt
SELECT job_alter('mail', '{"max_attempts": 1}');
SELECT job_trigger('mail') AS id \gset
SELECT token FROM job_claim('mail') \gset
SELECT job_finish(:id, :'token', false);
SELECT status, error_message FROM job_execution WHERE id = :id;
SELECT job_alter('mail', '{"max_attempts": 5}');

-- a snooze keeps the execution, its key and its attempt
SELECT job_trigger('mail', key => 'eve') AS id \gset
SELECT token FROM job_claim('mail') \gset
SELECT job_finish(:id, :'token', snooze => '1 hour', error => '429');
SELECT execution_id = :id AS same, attempt, key, detail, run_at > clock_timestamp() + '59 min' AS later
FROM job_waiting WHERE job_name = 'mail';
SELECT count(*) FROM job_execution WHERE id = :id;
SELECT count(*) FROM job_claim('mail');
SELECT job_trigger('mail', key => 'eve') = :id AS replaced;
SELECT execution_id = :id AS same, attempt, token FROM job_claim('mail') \gset
\echo :same :attempt
SELECT job_finish(:id, :'token', false, snooze => '0');
SELECT token FROM job_claim('mail') \gset
SELECT job_finish(:id, :'token');

-- once more if it changed meanwhile: one further run of a key waits, and is
-- not handed out as long as the first is in progress
SELECT job_trigger('mail', '{"n": 1}', key => 'k') AS first \gset
SELECT token FROM job_claim('mail') \gset
SELECT job_trigger('mail', '{"n": 2}', key => 'k') AS second \gset
SELECT job_trigger('mail', '{"n": 3}', key => 'k') = :second AS same;
SELECT job_trigger('mail', '{"n": 4}') AS other \gset
SELECT execution_id = :other AS only_the_other, token AS other_token FROM job_claim('mail', 10) \gset
\echo :only_the_other
SELECT job_finish(:first, :'token');
SELECT execution_id = :second AS is_second, args ->> 'n' AS n, token FROM job_claim('mail', 10) \gset
\echo :is_second :n
-- a failure of a key that waits again needs no retry of its own
SELECT job_trigger('mail', '{"n": 5}', key => 'k') AS third \gset
SELECT job_finish(:second, :'token', false);
SELECT execution_id = :third AS third, reason FROM job_waiting WHERE key = 'k';
-- nor does a snoozed one need to come back
SELECT token FROM job_claim('mail', 10) \gset
SELECT job_trigger('mail', '{"n": 6}', key => 'k') AS fourth \gset
SELECT job_finish(:third, :'token', snooze => '1 s');
SELECT status, replace(detail, :'fourth', 'fourth') AS detail FROM job_execution WHERE id = :third;
SELECT job_cancel('mail', 'k');
SELECT job_finish(:other, :'other_token');

-- max_running holds over all workers
SELECT job_alter('mail', '{"max_running": 2}');
SELECT count(job_trigger('mail', jsonb_build_object('n', n))) FROM generate_series(1, 3) n;
SELECT count(*) FROM job_claim('mail', 10);
SELECT count(*) FROM job_claim('mail', 10);
SELECT health, running, waiting FROM job_status WHERE job_name = 'mail';
SELECT check_name, ok, regexp_replace(detail, 'ends at .*', 'ends ...') AS detail, hint
FROM job_why('mail') WHERE check_name IN ('running', 'claim');
SELECT job_name, phase, pid IS NULL AS outside, count(*) FROM job_progress GROUP BY 1, 2, 3;

-- cancelling takes runs from their workers, at once; a rollback gives them back
SELECT execution_id AS id FROM job_lease WHERE job_name = 'mail' ORDER BY 1 LIMIT 1 \gset
BEGIN;
SELECT job_cancel(:id);
ROLLBACK;
SELECT status FROM job_execution WHERE id = :id;
SELECT job_cancel(:id);
SELECT status, detail LIKE 'canceled by user%' AS who FROM job_execution WHERE id = :id;
SELECT job_cancel('mail');
SELECT count(*) FROM job_lease;
SELECT count(*) FROM job_queue WHERE job_name = 'mail';
SELECT job_alter('mail', '{"max_running": null}');

-- a lease that is over: the run is rescued at its time, and retried
SELECT job_trigger('mail', '{"n": 1}') AS id \gset
SELECT token FROM job_claim('mail', lease => '100 ms', worker => 'gone') \gset
SELECT job_wait(:id, '30 s');
SELECT status, success, worker, error_message FROM job_execution WHERE id = :id;
SELECT job_finish(:id, :'token');
SELECT attempt, retry_of = :id AS retry, reason FROM job_waiting WHERE job_name = 'mail';
SELECT job_cancel('mail');

-- the timeout of a job ends its leases
SELECT job_alter('mail', '{"timeout": "150 ms"}');
SELECT job_trigger('mail') AS id \gset
SELECT token, lease_until < clock_timestamp() + '150 ms' AS short FROM job_claim('mail', lease => '1 hour') \gset
\echo :short
SELECT job_extend(:id, :'token', '1 hour') < clock_timestamp() + '150 ms' AS still_short;
SELECT job_wait(:id, '30 s');
SELECT status, error_message FROM job_execution WHERE id = :id;
SELECT job_cancel('mail');
SELECT job_alter('mail', '{"timeout": null}');

-- what is due and nobody claims is said to be so, with what to type; or it
-- waits for the run with its key
SELECT job_trigger('mail') AS id \gset
UPDATE job_queue SET run_at = run_at - interval '1 hour' WHERE execution_id = :id;
SELECT health, regexp_replace(health_detail, 'since .* and', 'since ... and') AS detail, overdue
FROM job_status WHERE job_name = 'mail';
SELECT check_name, ok, regexp_replace(detail, 'since .* and', 'since ... and') AS detail, hint
FROM job_why('mail') WHERE check_name IN ('running', 'claim');
SELECT job_cancel('mail');
SELECT job_trigger('mail', key => 'k') AS id \gset
SELECT token FROM job_claim('mail') \gset
SELECT job_trigger('mail', key => 'k') AS later \gset
SELECT check_name, ok, regexp_replace(detail, 'since .* and', 'since ... and') AS detail, hint
FROM job_why('mail') WHERE check_name = 'claim';
SELECT job_cancel('mail');
SELECT ok, detail FROM job_why('mail') WHERE check_name = 'claim';

-- nothing of a paused job is handed out
SELECT job_trigger('mail') AS id \gset
SELECT job_pause('mail', 'for now');
SELECT count(*) FROM job_claim('mail');
SELECT job_resume('mail');
SELECT token FROM job_claim('mail') \gset

-- CALL job_run and job_wait work with whoever claims
SELECT job_finish(:id, :'token', records => 3);
SELECT job_wait(:id);

-- a job that goes away leaves its run to its worker
SELECT job_trigger('mail') AS id \gset
SELECT token FROM job_claim('mail') \gset
SELECT job_unschedule('mail');
SELECT job_finish(:id, :'token');

-- other kinds are not claimed
SELECT job_schedule('inside', NULL, 'SELECT 1');
SELECT * FROM job_claim('inside');
SELECT * FROM job_claim('nowhere');
SELECT job_schedule_external('mail', owner => 'regress_janitor_owner');
SELECT * FROM job_claim('mail', 0);
SELECT * FROM job_claim('mail', lease => '0');
SELECT * FROM job_claim('mail', lease => '2 years');

-- rights: the owner, and whoever was granted work on that very job
SELECT job_schedule_external('secret', owner => 'regress_janitor_owner');
SELECT job_grant('regress_janitor_worker', 'work');
SELECT job_grant('regress_janitor_worker', 'work', 'inside');
SELECT job_grant('regress_janitor_worker', 'define', 'mail');
SELECT job_grant('regress_janitor_worker', 'work', 'mail');
SELECT job_name, role FROM job_work;
SELECT job_trigger('mail') AS id \gset
SELECT job_trigger('secret') AS secret \gset
SET ROLE regress_janitor_worker;
SELECT token FROM job_claim('mail') \gset
SELECT * FROM job_claim('secret');
SELECT job_trigger('mail');
SELECT job_finish(:id, :'token', snooze => '0');
SET ROLE regress_janitor_stranger;
SELECT * FROM job_claim('mail');
RESET ROLE;
GRANT EXECUTE ON FUNCTION job_claim(text, int, interval, text), job_finish(bigint, uuid, boolean, bigint, text, jsonb, boolean, interval) TO regress_janitor_stranger;
SET ROLE regress_janitor_stranger;
SELECT * FROM job_claim('mail');
RESET ROLE;
SELECT token FROM job_claim('mail') \gset
SET ROLE regress_janitor_stranger;
SELECT job_finish(:id, :'token');
SET ROLE regress_janitor_worker;
SELECT job_finish(:id, :'token');
RESET ROLE;
SELECT job_revoke('regress_janitor_worker', 'work', 'mail');
SELECT count(*) FROM job_work;
SELECT has_function_privilege('regress_janitor_worker', 'job_claim(text, int, interval, text)', 'execute');
SET ROLE regress_janitor_worker;
SELECT * FROM job_claim('mail');
RESET ROLE;
SELECT job_grant('regress_janitor_owner');
SET ROLE regress_janitor_owner;
SELECT count(*) FROM job_claim('secret');
RESET ROLE;
DROP OWNED BY regress_janitor_owner, regress_janitor_worker, regress_janitor_stranger;

DROP TABLE sent;
DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_owner, regress_janitor_worker, regress_janitor_stranger;
