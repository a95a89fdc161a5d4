-- The jobs of the torture test, in one database: psql -v copies=N -v db=NAME.
--
-- Most jobs insert their execution id into torture.marks.  torture.jobs says
-- what the checker has to know of each: `period`, the distance between its
-- occurrences; `first`, the first of them; `stop`, the one at which its
-- schedule was ended; whether a success leaves a mark.
-- Nothing here is unique that the ledger has to keep unique.

CREATE SCHEMA torture;
GRANT USAGE ON SCHEMA torture TO PUBLIC;

CREATE TABLE torture.jobs
(
	name text PRIMARY KEY,
	schedule text,
	period interval,
	command text NOT NULL,
	owner text NOT NULL,
	options jsonb NOT NULL DEFAULT '{}',
	marks boolean NOT NULL DEFAULT true,
	first timestamptz,
	stop timestamptz
);

CREATE TABLE torture.marks
(
	execution_id bigint,
	job_name text,
	scheduled_for timestamptz,
	at timestamptz DEFAULT clock_timestamp()
);
GRANT INSERT ON torture.marks TO PUBLIC;

CREATE TABLE torture.steps (execution_id bigint);
GRANT INSERT ON torture.steps TO PUBLIC;

-- What clients asked for, see client.pl.
CREATE TABLE torture.triggers
(
	execution_id bigint,
	token text,
	keyed boolean,
	committed boolean
);

-- What ran in the other databases of the cluster.
CREATE TABLE torture.everywhere (started_at timestamptz, completed_at timestamptz);

-- Anything between 0 and 1 that follows from an execution's id.
CREATE FUNCTION torture.dice(id bigint, salt int) RETURNS float8
LANGUAGE sql IMMUTABLE
RETURN (hashint8extended(id, salt) & 65535) / 65536.0;

CREATE FUNCTION torture.nap(id bigint, longest float8) RETURNS void
LANGUAGE sql
RETURN pg_catalog.pg_sleep(torture.dice(id, 1) * longest);

CREATE FUNCTION torture.fail(id bigint, chance float8, state text DEFAULT 'P0001') RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF torture.dice(id, 2) < chance THEN
		RAISE EXCEPTION 'bad luck' USING ERRCODE = state;
	END IF;
END $$;

-- Commits once, then leaves its mark in its last transaction.
CREATE PROCEDURE torture.two_steps(job_name text) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO torture.steps VALUES (job_execution_id());
	COMMIT;
	INSERT INTO torture.marks VALUES (job_execution_id(), job_name, job_scheduled_for());
	PERFORM job_report(1);
END $$;

INSERT INTO torture.jobs (name, schedule, period, command, owner, options)
SELECT 'plain_' || i, s.schedule, s.period, '', o.owner,
	jsonb_build_object('catch_up', (ARRAY['once', 'skip', 'once'])[1 + i % 3])
	|| CASE WHEN i % 7 = 0 THEN '{"jitter": "700 milliseconds"}' ELSE '{}' END::jsonb
	|| CASE WHEN i % 11 = 0 THEN '{"priority": 3}' ELSE '{}' END::jsonb
FROM generate_series(1, :copies) i,
	LATERAL (SELECT (ARRAY['alice', 'bob', 'postgres'])[1 + i % 3] AS owner) o,
	LATERAL (SELECT * FROM (VALUES
		(0, '* * * * * *', interval '1 second'),
		(1, '*/2 * * * * *', interval '2 seconds'),
		(2, 'every 3 seconds', interval '3 seconds'),
		(3, '*/5 * * * * *', interval '5 seconds'),
		(4, 'every 1 second', interval '1 second'),
		(5, '*/4 * * * * *', interval '4 seconds')) v (n, schedule, period)
		WHERE n = i % 6) s;

INSERT INTO torture.jobs (name, schedule, period, command, owner, options) VALUES
	('all_1', '*/5 * * * * *', '5 s', '', 'alice', '{"catch_up": "all"}'),
	('all_2', '*/10 * * * * *', '10 s', '', 'bob', '{"catch_up": "all", "overlap": "queue"}'),
	('within_1', '*/5 * * * * *', '5 s', '', 'bob', '{"catch_up": "all", "catch_up_within": "70 s"}'),
	('sleepy_1', 'every 1 second', '1 s', '; SELECT torture.nap(job_execution_id(), 0.9)', 'alice', '{}'),
	('sleepy_2', '*/3 * * * * *', '3 s', '; SELECT torture.nap(job_execution_id(), 0.9)', 'bob', '{}'),
	('queued_1', '* * * * * *', '1 s', '; SELECT torture.nap(job_execution_id(), 1.6)', 'alice', '{"overlap": "queue"}'),
	('wide_1', '* * * * * *', '1 s', '; SELECT torture.nap(job_execution_id(), 1.6)', 'bob', '{"max_running": 3}'),
	('fails_1', '* * * * * *', '1 s', '; SELECT torture.fail(job_execution_id(), 0.4)', 'alice', '{"max_attempts": 3, "retry_delay": "100 ms", "on_failure": "handler"}'),
	('fails_2', '*/2 * * * * *', '2 s', '; SELECT torture.fail(job_execution_id(), 0.4)', 'bob', '{"max_attempts": 2, "retry_delay": "1 s", "on_failure": "handler"}'),
	('fails_3', '*/3 * * * * *', '3 s', '; SELECT torture.fail(job_execution_id(), 0.2)', 'postgres', '{"max_attempts": 5, "retry_delay": "10 ms", "overlap": "queue"}'),
	('conflict_1', '* * * * * *', '1 s', $$; SELECT torture.fail(job_execution_id(), 0.3, '40001')$$, 'alice', '{}'),
	('conflict_2', '*/2 * * * * *', '2 s', $$; SELECT torture.fail(job_execution_id(), 0.6, '40P01')$$, 'bob', '{"max_attempts": 2, "retry_delay": "10 ms", "on_failure": "handler"}'),
	('timeout_1', '*/2 * * * * *', '2 s', '; SELECT torture.nap(job_execution_id(), 0.3)', 'bob', '{"timeout": "200 ms", "max_attempts": 2, "retry_delay": "10 ms"}'),
	('steps_1', '* * * * * *', '1 s', 'CALL', 'alice', '{}'),
	('steps_2', '*/3 * * * * *', '3 s', 'CALL', 'bob', '{"max_attempts": 2, "retry_delay": "10 ms"}'),
	('parent', '* * * * * *', '1 s', '', 'alice', '{}'),
	('startup_1', NULL, NULL, '', 'alice', '{"run_on_start": true}'),
	('child_1', NULL, NULL, '', 'bob', '{"run_after": "parent"}'),
	('child_2', NULL, NULL, '; SELECT torture.fail(job_execution_id(), 0.2)', 'alice', '{"run_after": "parent", "max_running": 2, "max_attempts": 2, "retry_delay": "10 ms"}'),
	('grandchild', NULL, NULL, '', 'postgres', '{"run_after": "child_1", "max_running": 4}'),
	('handler', NULL, NULL, '; SELECT torture.fail(job_execution_id(), 0.1)', 'alice', '{"max_running": 2, "max_attempts": 2, "retry_delay": "10 ms"}'),
	('demand_1', NULL, NULL, '', 'alice', '{}'),
	('demand_2', NULL, NULL, '; SELECT torture.nap(job_execution_id(), 0.1)', 'bob', '{"max_running": 2}'),
	('demand_3', NULL, NULL, '; SELECT torture.fail(job_execution_id(), 0.3)', 'bob', '{"max_attempts": 2, "retry_delay": "500 ms"}'),
	('demand_4', NULL, NULL, '', 'postgres', '{"max_running": 3}'),
	('keyed_1', NULL, NULL, '', 'alice', '{}'),
	('keyed_2', NULL, NULL, '; SELECT torture.nap(job_execution_id(), 0.2)', 'bob', '{}');

-- One without effect: its record is not flushed.
INSERT INTO torture.jobs (name, schedule, period, command, owner, marks) VALUES
	('nothing_1', '* * * * * *', '1 s', 'SELECT 1', 'alice', false),
	('nothing_2', '*/2 * * * * *', '2 s', 'SELECT 1', 'bob', false);

UPDATE torture.jobs SET command = CASE command
	WHEN 'CALL' THEN format('CALL torture.two_steps(%L)', name)
	ELSE format('INSERT INTO torture.marks VALUES (job_execution_id(), %L, job_scheduled_for())', name) || command END
WHERE marks;

SET client_min_messages = error;
UPDATE torture.jobs SET first = job_schedule(name, schedule, command,
	owner => owner, keep_runs => 10000000, options => options)
WHERE (options->>'run_after') IS NULL AND (options->>'on_failure') IS NULL;
UPDATE torture.jobs SET first = job_schedule(name, schedule, command,
	owner => owner, keep_runs => 10000000, options => options)
WHERE name = 'child_1' OR (options->>'on_failure') IS NOT NULL;
UPDATE torture.jobs SET first = job_schedule(name, schedule, command,
	owner => owner, keep_runs => 10000000, options => options)
WHERE (options->>'run_after') IS NOT NULL AND name <> 'child_1';

-- job_schedule() returns when it runs, jitter included.
UPDATE torture.jobs SET first = scheduled_for FROM job_queue WHERE job_name = name AND key = '@schedule';
