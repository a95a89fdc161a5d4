-- Rate limits: exact sliding windows, several at once.
CREATE EXTENSION pg_janitor;
SET client_min_messages = error;	-- jobs of a superuser

SELECT job_schedule_external('call', args => '{"teacher": "nobody"}');
SELECT job_set_rate_limit('call', 0, '1 s');
SELECT job_set_rate_limit('call', 1, '0');
SELECT job_set_rate_limit('call', 1, NULL);
SELECT job_set_rate_limit('nowhere', 1, '1 s');
SELECT job_set_rate_limit('call', 3, '1 hour', 'teacher');
SELECT job_set_rate_limit('call', 9, '1 hour');
SELECT job_set_rate_limit('call', 5, '1 hour');
SELECT id, job_name, arg, max_runs, per FROM job_rate_limit ORDER BY id;

-- each teacher has three; two of them five
SELECT count(job_trigger('call', jsonb_build_object('teacher', t)))
FROM generate_series(1, 4), unnest(ARRAY['ana', 'bo', 'cy']) t;
CREATE TABLE claimed AS SELECT * FROM job_claim('call', 100);
SELECT args ->> 'teacher' AS teacher, count(*) FROM claimed GROUP BY 1 ORDER BY 1;
-- all or nothing: cy was not counted where the job's own limit refused him
SELECT limit_id, count(*), count(DISTINCT value) AS windows FROM job_rate_hit GROUP BY limit_id ORDER BY limit_id;
-- the refused wait for their turn, with their attempt
SELECT count(*), min(attempt), max(attempt), bool_and(detail = 'rate limit') AS refused,
	   min(run_at) > clock_timestamp() + '59 min' AS in_an_hour,
	   max(run_at) > min(run_at) + '59 min' AS in_turn
FROM job_waiting WHERE job_name = 'call';
SELECT health, waiting FROM job_status WHERE job_name = 'call';
SELECT check_name, ok, regexp_replace(detail, 'until .*', 'until ...') AS detail, hint
FROM job_why('call') WHERE check_name = 'rate limits';
SELECT count(*) FROM job_claim('call', 100);
SELECT job_rate_limit_wait('call', '{"teacher": "dan"}') BETWEEN '59 min' AND '1 hour' AS wait;

-- it opens as soon as it may, to the microsecond
SELECT (SELECT min(at) FROM job_rate_hit h WHERE h.limit_id = l.id) + per = (SELECT min(run_at) FROM job_waiting) AS exact
FROM job_rate_limit l WHERE arg IS NULL;

-- a wider limit lets them through at once, as far as the other one admits them
SELECT job_set_rate_limit('call', 100, '1 hour');
SELECT args ->> 'teacher' AS teacher, count(*) FROM job_claim('call', 100) GROUP BY 1 ORDER BY 1;
SELECT job_rate_limit_wait('call', '{"teacher": "dan"}') AS wait;
SELECT job_rate_limit_wait('call', '{"teacher": "ana"}') > '0' AS wait;
-- runs without the argument share a window: here that of the default
SELECT count(job_trigger('call')) FROM generate_series(1, 5);
SELECT count(*) FROM job_claim('call', 100);

-- without a limit everything goes; a claim that is rolled back counts nothing
SELECT job_drop_rate_limit('call', 'nothing');
SELECT job_drop_rate_limit('call', 'teacher', '1 min');
SELECT job_drop_rate_limit('call', 'teacher');
SELECT job_drop_rate_limit('call');
SELECT count(*) FROM job_claim('call', 100);
SELECT job_set_rate_limit('call', 2, '1 hour');
SELECT count(job_trigger('call')) FROM generate_series(1, 3);
BEGIN;
SELECT count(*) FROM job_claim('call', 100);
ROLLBACK;
SELECT count(*) FROM job_waiting WHERE detail IS NULL;
SELECT count(*) FROM job_claim('call', 100);
SELECT job_cancel('call') > 0 AS cancelled;
SELECT job_trigger('call') AS id \gset
SELECT count(*) FROM job_claim('call');
SELECT health, waiting, regexp_replace(health_detail, 'until .*;', 'until ...;') AS detail
FROM job_status WHERE job_name = 'call';
SELECT job_cancel('call');

-- refused runs start when the window opens, without anybody asking
SELECT job_schedule('inside', NULL, 'SELECT 1', max_running => 5);
SELECT job_set_rate_limit('inside', 2, '400 ms');
SELECT array_agg(job_trigger('inside')) AS ids FROM generate_series(1, 5) \gset
SELECT status, count(*) FROM unnest(:'ids'::bigint[]) id, job_wait(id, '30 s') status GROUP BY status;
SELECT max(attempt) AS attempt, max(started_at) - min(started_at) > '700 ms' AS in_three_turns
FROM job_execution WHERE id = ANY (:'ids');

-- so they do of jobs that handle items
CREATE TABLE subject (id int, done boolean DEFAULT false);
INSERT INTO subject SELECT generate_series(1, 3);
SELECT job_schedule_items('each', NULL, 'SELECT id FROM subject WHERE NOT done',
	$$UPDATE subject SET done = true WHERE id = ($1->>'id')::int$$);
SELECT job_set_rate_limit('each', 1, '500 ms');
SELECT array_agg(job_trigger('each')) AS ids FROM generate_series(1, 2) \gset
SELECT status, count(*) FROM unnest(:'ids'::bigint[]) id, job_wait(id, '30 s') status GROUP BY status;
SELECT max(attempt) AS attempt, max(started_at) - min(started_at) > '450 ms' AS in_two_turns, sum(records_processed) AS records
FROM job_execution WHERE id = ANY (:'ids');

-- limits go with their job
SELECT job_unschedule('inside');
SELECT count(*) FROM job_rate_limit WHERE job_name = 'inside';

DROP TABLE claimed, subject;
DROP EXTENSION pg_janitor;
