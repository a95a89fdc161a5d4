-- Circuits: closed, open, one probe, closed or open again.
CREATE EXTENSION pg_janitor;
SET client_min_messages = error;	-- jobs of a superuser
CREATE ROLE regress_janitor_owner;
CREATE ROLE regress_janitor_other;

SELECT job_set_circuit('drive', 0);
SELECT job_set_circuit('drive', "window" => '0');
SELECT job_set_circuit('drive', cooldown => '-1 s');
SELECT job_set_circuit('drive');
SELECT name, failure_threshold, "window", cooldown, state, owner = current_user AS own FROM job_circuit;
SELECT name, state, probe_at, failures, jobs FROM job_circuits;
SELECT job_set_circuit('drive', cooldown => '1 hour');

-- what it takes: three in a row
SELECT job_circuit_allows('drive');
SELECT job_circuit_report('drive', false);
SELECT job_circuit_report('drive', false);
SELECT failures FROM job_circuits;
SELECT job_circuit_report('drive', true);
SELECT failures FROM job_circuits;
SELECT job_circuit_report('drive', false);
SELECT job_circuit_report('drive', false);
SELECT job_circuit_allows('drive');
SELECT job_circuit_report('drive', false);
SELECT job_circuit_allows('drive');
SELECT state, failures, probe_at = since + cooldown AS probe_after_cooldown FROM job_circuits;
SELECT state FROM job_circuit;
-- whoever had begun before does not change that
SELECT job_circuit_report('drive', true);

-- cooled down: one probe, then nothing until it is reported
SELECT job_set_circuit('drive', cooldown => '1 us');
SELECT job_circuit_allows('drive');
SELECT job_set_circuit('drive', cooldown => '1 hour');
SELECT job_circuit_allows('drive');
SELECT state FROM job_circuits;
SELECT job_circuit_report('drive', false);
SELECT job_circuit_allows('drive');
SELECT job_set_circuit('drive', cooldown => '1 us');
SELECT job_circuit_allows('drive');
SELECT job_set_circuit('drive', cooldown => '1 hour');
SELECT job_circuit_report('drive', true);
SELECT job_circuit_allows('drive'), job_circuit_allows('drive');
SELECT event, count(*) FROM job_circuit_history GROUP BY event ORDER BY event;

-- a report, and a probe, that are rolled back
BEGIN;
SELECT job_circuit_report('drive', false) FROM generate_series(1, 3);
ROLLBACK;
SELECT state, failures FROM job_circuits;
SELECT job_circuit_report('drive', false) FROM generate_series(1, 3);
SELECT job_set_circuit('drive', cooldown => '1 us');
BEGIN;
SELECT job_circuit_allows('drive');
ROLLBACK;
SELECT job_circuit_allows('drive');
SELECT job_circuit_report('drive', true);
SELECT job_set_circuit('drive', cooldown => '1 hour');

-- failures that are too far apart
SELECT job_set_circuit('slow', 2, '1 us');
SELECT job_circuit_report('slow', false) FROM generate_series(1, 3);
SELECT state FROM job_circuits WHERE name = 'slow';
SELECT job_drop_circuit('slow');

-- jobs: they name a circuit that is there
SELECT job_schedule_external('copy', circuit => 'dirve');
SELECT job_schedule_external('copy', circuit => 'drive', retry_delay => '0');
SELECT job_drop_circuit('drive');
SELECT count(job_trigger('copy')) FROM generate_series(1, 6);
CREATE TABLE claimed AS SELECT * FROM job_claim('copy', 4);
-- the outcomes of their runs feed it; what fails for good is an answer
SELECT job_finish(execution_id, token, false, error => '400', permanent => true) FROM (SELECT * FROM claimed ORDER BY execution_id LIMIT 1) c;
SELECT state, failures FROM job_circuits;
SELECT job_finish(execution_id, token, false, error => '503') FROM (SELECT * FROM claimed ORDER BY execution_id OFFSET 1) c;
SELECT state, failures FROM job_circuits;
SELECT event, execution_id IS NOT NULL AS run, count(*) FROM job_circuit_history
WHERE at > (SELECT max(at) FROM job_circuit_history WHERE event = 'closed')
  AND event IN ('failure', 'success') GROUP BY 1, 2 ORDER BY 1, 2;
-- nothing is claimed, no attempt is lost
SELECT count(*) FROM job_claim('copy', 10);
SELECT attempt, count(*) FROM job_waiting WHERE job_name = 'copy' GROUP BY attempt ORDER BY attempt;
SELECT health, regexp_replace(health_detail, ' at .*;', ' at ...;') AS detail FROM job_status WHERE job_name = 'copy';
SELECT check_name, ok, regexp_replace(detail, ' at .*', ' at ...') AS detail, hint FROM job_why('copy')
WHERE check_name IN ('circuit', 'claim');
-- the probe is one run
SELECT job_set_circuit('drive', cooldown => '1 us');
SELECT execution_id, token FROM job_claim('copy', 10) \gset
SELECT job_set_circuit('drive', cooldown => '1 hour');
SELECT state FROM job_circuits;
SELECT count(*) FROM job_claim('copy', 10);
SELECT job_finish(:execution_id, :'token');
SELECT state FROM job_circuits;
SELECT count(*) FROM job_claim('copy', 10);
SELECT job_cancel('copy') > 0 AS cancelled;

-- a snooze says nothing of the other side, unless its worker calls it a failure
SELECT job_trigger('copy') AS id \gset
SELECT token FROM job_claim('copy') \gset
SELECT job_finish(:id, :'token', snooze => '0');
SELECT state, failures FROM job_circuits;
SELECT token FROM job_claim('copy') \gset
SELECT job_finish(:id, :'token', false, snooze => '0', error => '429');
SELECT failures FROM job_circuits;
SELECT token FROM job_claim('copy') \gset
SELECT job_finish(:id, :'token', false, snooze => '0', error => '429');
SELECT token FROM job_claim('copy') \gset
SELECT job_finish(:id, :'token', false, snooze => '0', error => '429');
SELECT state FROM job_circuits;
SELECT attempt FROM job_waiting WHERE job_name = 'copy';
SELECT job_cancel('copy');
SELECT job_set_circuit('drive', cooldown => '1 us');
SELECT job_circuit_allows('drive'), job_circuit_report('drive', true);
SELECT job_set_circuit('drive', cooldown => '1 hour');

-- triggered runs in the database wait, and start when it closes
SELECT job_circuit_report('drive', false) FROM generate_series(1, 3);
SELECT job_schedule('inside', NULL, 'SELECT 1', circuit => 'drive');
SELECT job_trigger('inside') AS id \gset
SELECT job_circuit_report('drive', true);
SELECT status FROM job_execution WHERE id = :id;
SELECT job_set_circuit('drive', cooldown => '1 us');
SELECT job_wait(:id, '30 s');
SELECT state FROM job_circuits;
-- failing inside opens it, too
SELECT job_set_circuit('drive', 1, cooldown => '1 hour');
SELECT job_schedule('fails', NULL, 'SELECT 1/0', circuit => 'drive', max_attempts => 1);
SELECT job_trigger('fails') AS id \gset
SELECT job_wait(:id, '30 s');
SELECT state, jobs FROM job_circuits;

-- a circuit has an owner
GRANT USAGE ON SCHEMA public TO regress_janitor_owner, regress_janitor_other;
SELECT job_grant('regress_janitor_owner'), job_grant('regress_janitor_other');
SET ROLE regress_janitor_other;
SELECT job_circuit_allows('drive');
SELECT job_circuit_report('drive', false);
SELECT job_set_circuit('drive');
SELECT job_drop_circuit('drive');
SELECT job_schedule_external('theirs', circuit => 'drive');
SELECT job_set_circuit('mine', owner => 'regress_janitor_owner');
SELECT name FROM job_circuits;
SELECT count(*) FROM job_circuit_history;
SELECT * FROM job_circuit_state('drive');
SELECT job_set_circuit('mine');
SELECT job_circuit_allows('mine');
RESET ROLE;
SELECT job_set_circuit('mine', owner => 'regress_janitor_owner');
SELECT owner FROM job_circuit WHERE name = 'mine';
SELECT job_circuit_allows('none');
SELECT job_circuit_report('drive', NULL);

DROP OWNED BY regress_janitor_owner, regress_janitor_other;
DROP TABLE claimed;
DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_owner, regress_janitor_other;
