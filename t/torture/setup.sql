-- The jobs of the torture test, in one database: psql -v copies=N -v db=NAME.
--
-- Most jobs insert their execution id into torture.marks.  torture.jobs says
-- what the checker has to know of each: `period`, the distance between its
-- occurrences; `first`, the first of them; `stop`, the one at which its
-- schedule was ended; whether a success leaves a mark; which rows a retention
-- job works on, which people an items job erases.
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
	relation text,
	beside text,				-- of a second rule
	people text,
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

-- What retention jobs work on: rows that have expired long ago, and rows that
-- are kept.  Feeders put both in, and note how many in the same transaction.
-- Batches of small ones take their time.
CREATE TABLE torture.fed (relation text, expired bigint, kept bigint);
CREATE SEQUENCE torture.part;
CREATE TABLE torture.rows_1 (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, done boolean DEFAULT false);
CREATE TABLE torture.rows_2 (LIKE torture.rows_1 INCLUDING ALL);
CREATE TABLE torture.rows_2_child (row_id bigint REFERENCES torture.rows_2 ON DELETE CASCADE);
CREATE TABLE torture.rows_3 (LIKE torture.rows_1 INCLUDING ALL);
CREATE TABLE torture.rows_4 (LIKE torture.rows_1 INCLUDING ALL);
CREATE TABLE torture.archive_4 (LIKE torture.rows_1);
CREATE TABLE torture.rows_5 (LIKE torture.rows_1 INCLUDING ALL);
CREATE TABLE torture.parts_1 (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE torture.parts_1_now PARTITION OF torture.parts_1 FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
CREATE TABLE torture.parts_2 (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE torture.parts_2_default PARTITION OF torture.parts_2 DEFAULT;
CREATE INDEX ON torture.rows_1 (at);
CREATE INDEX ON torture.rows_2_child (row_id);

CREATE FUNCTION torture.slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_sleep(0.1);
	RETURN NULL;
END $$;
CREATE TRIGGER slow AFTER DELETE ON torture.rows_1 FOR EACH STATEMENT EXECUTE FUNCTION torture.slow();
CREATE TRIGGER slow AFTER DELETE ON torture.rows_2 FOR EACH STATEMENT EXECUTE FUNCTION torture.slow();
CREATE TRIGGER slow AFTER DELETE ON torture.rows_5 FOR EACH STATEMENT EXECUTE FUNCTION torture.slow();
CREATE TRIGGER slow AFTER UPDATE ON torture.rows_3 FOR EACH STATEMENT EXECUTE FUNCTION torture.slow();

CREATE FUNCTION torture.short_nap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_sleep(0.005);
	RETURN NULL;
END $$;

-- Whom items jobs erase, in two tables; some cannot be erased.
CREATE TABLE torture.people_1
(
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stays boolean,
	erased_by bigint,
	CHECK (NOT stays OR erased_by IS NULL)
);
CREATE TABLE torture.people_2 (LIKE torture.people_1 INCLUDING ALL);
CREATE TABLE torture.people_3 (LIKE torture.people_1 INCLUDING ALL);
CREATE TABLE torture.things_1 (person_id bigint);
CREATE TABLE torture.things_2 (person_id bigint);
CREATE TABLE torture.things_3 (person_id bigint);
CREATE INDEX ON torture.people_1 (id) WHERE erased_by IS NULL;
CREATE INDEX ON torture.people_2 (id) WHERE erased_by IS NULL;
CREATE INDEX ON torture.people_3 (id) WHERE erased_by IS NULL;
CREATE INDEX ON torture.things_1 (person_id);
CREATE INDEX ON torture.things_2 (person_id);
CREATE INDEX ON torture.things_3 (person_id);

CREATE FUNCTION torture.bring(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('WITH new AS (INSERT INTO torture.people_%1$s (stays) SELECT i %% 40 = 7 FROM generate_series(1, 120) i RETURNING id)
		INSERT INTO torture.things_%1$s SELECT id FROM new, generate_series(1, 3)', n);
END $$;

CREATE FUNCTION torture.feed(relation text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	day timestamptz;
BEGIN
	IF relation LIKE 'parts%' THEN
		n := nextval('torture.part');
		day := timestamptz '1990-01-01' + n * interval '1 day';
		EXECUTE format('CREATE TABLE torture.%I PARTITION OF torture.%I FOR VALUES FROM (%L) TO (%L)',
			relation || '_' || n, relation, day, day + interval '1 day');
		EXECUTE format('INSERT INTO torture.%I SELECT %L::timestamptz + i * interval ''1 second'' FROM generate_series(1, 500) i', relation, day);
		EXECUTE format('INSERT INTO torture.%I SELECT now() FROM generate_series(1, 5)', relation);
	ELSE
		EXECUTE format('INSERT INTO torture.%I (at) SELECT CASE WHEN i %% 101 = 0 THEN now() ELSE now() - interval ''1 year'' + i * interval ''1 second'' END FROM generate_series(1, 505) i', relation);
		IF relation = 'rows_2' THEN
			INSERT INTO torture.rows_2_child SELECT id FROM torture.rows_2 ORDER BY id DESC LIMIT 505;
		END IF;
	END IF;
	INSERT INTO torture.fed VALUES (relation, 500, 5);
END $$;

CREATE TRIGGER slow AFTER DELETE ON torture.things_1 FOR EACH STATEMENT EXECUTE FUNCTION torture.short_nap();
CREATE TRIGGER slow AFTER DELETE ON torture.things_2 FOR EACH STATEMENT EXECUTE FUNCTION torture.slow();
CREATE TRIGGER slow AFTER DELETE ON torture.things_3 FOR EACH STATEMENT EXECUTE FUNCTION torture.slow();

DO $$
DECLARE
	it regclass;
BEGIN
	GRANT CREATE ON SCHEMA torture TO alice;
	FOR it IN SELECT oid FROM pg_class WHERE relnamespace = 'torture'::regnamespace
		AND relkind IN ('r', 'p') AND relname ~ '^(rows|parts|archive|people|things)_|^fed$' LOOP
		EXECUTE format('ALTER TABLE %s OWNER TO alice', it);
	END LOOP;
	GRANT USAGE ON SEQUENCE torture.part TO alice;
END $$;

INSERT INTO torture.jobs (name, schedule, period, command, owner)
SELECT 'feed_' || relation, schedule, period, format('; SELECT torture.feed(%L)', relation), 'alice'
FROM (VALUES
	('rows_1', '*/2 * * * * *', interval '2 seconds'),
	('rows_2', '*/2 * * * * *', interval '2 seconds'),
	('rows_3', '*/2 * * * * *', interval '2 seconds'),
	('rows_4', '*/2 * * * * *', interval '2 seconds'),
	('rows_5', '*/2 * * * * *', interval '2 seconds'),
	('parts_1', '*/3 * * * * *', interval '3 seconds'),
	('parts_2', '*/3 * * * * *', interval '3 seconds')) v (relation, schedule, period);

INSERT INTO torture.jobs (name, schedule, period, command, owner)
SELECT 'bring_' || n, '*/2 * * * * *', '2 seconds', format('; SELECT torture.bring(%s)', n), 'alice'
FROM generate_series(1, 3) n;

-- One by one; many at a time, with helpers; stopped again and again.
INSERT INTO torture.jobs (name, schedule, period, command, owner, marks, people, options) VALUES
	('erase_1', '*/3 * * * * *', '3 s', $$
		DELETE FROM torture.things_1 WHERE person_id = ($1->>'id')::bigint;
		UPDATE torture.people_1 SET erased_by = job_execution_id() WHERE id = ($1->>'id')::bigint $$,
		'alice', false, 'people_1', '{"parallel": 2, "max_attempts": 2, "retry_delay": "1 s", "receipts": true}'),
	('erase_2', '*/3 * * * * *', '3 s', '', 'alice', false, 'people_2', '{"parallel": 3, "max_attempts": 3, "retry_delay": "1 s"}'),
	('erase_3', '*/2 * * * * *', '2 s', '', 'alice', false, 'people_3', '{"stop_after": "300 ms", "max_attempts": 1}');

INSERT INTO torture.jobs (name, schedule, period, command, owner, marks, relation, options) VALUES
	('purge_1', '*/2 * * * * *', '2 s', '', 'alice', false, 'rows_1', '{"batch_rows": 40}'),
	('purge_2', '*/3 * * * * *', '3 s', '', 'alice', false, 'rows_2', '{"batch_rows": 40, "parallel": 2, "max_attempts": 2, "retry_delay": "10 ms"}'),
	('purge_3', '*/3 * * * * *', '3 s', '', 'alice', false, 'rows_3', '{"batch_rows": 40, "action": "update", "set": "done = true", "stop_after": "500 ms"}'),
	('purge_4', '*/3 * * * * *', '3 s', '', 'alice', false, 'rows_4', '{"action": "archive", "archive_to": "torture.archive_4", "max_rows_per_second": 1000, "rows_per_run": 900}'),
	('purge_5', '*/5 * * * * *', '5 s', '', 'alice', false, 'parts_1', '{"partitions": "drop", "parallel": 2}'),
	('purge_6', '*/5 * * * * *', '5 s', '', 'alice', false, 'parts_2', '{"partitions": "detach", "drop_after": "3 seconds"}');
UPDATE torture.jobs SET beside = 'rows_5' WHERE name = 'purge_2';

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

-- In one transaction: no run begins before it is known which is the first.
SET client_min_messages = error;
BEGIN;
UPDATE torture.jobs SET first = job_schedule_retention(name, schedule, 'torture.' || relation, 'at', '1 day',
	owner => owner, keep_runs => 10000000, options => options)
WHERE relation IS NOT NULL;
SELECT job_set_rule(name, 'beside', 'torture.' || beside, 'at', '1 day', batch_rows => 40, parallel => 2)
FROM torture.jobs WHERE beside IS NOT NULL;
UPDATE torture.jobs SET first = job_schedule_items(name, schedule,
	format('SELECT id FROM torture.%I WHERE erased_by IS NULL ORDER BY id', people), nullif(command, ''),
	owner => owner, keep_runs => 10000000, options => options)
WHERE people IS NOT NULL;
SELECT job_set_rule(name, 'things', 'torture.things_' || right(name, 1), match => $$r.person_id = ($1->>'id')::bigint$$)
FROM torture.jobs WHERE people IS NOT NULL AND command = '' ORDER BY name;
SELECT job_set_rule(name, 'people', 'torture.' || people, match => $$r.id = ($1->>'id')::bigint$$, action => 'anonymize',
	set => 'erased_by = job_execution_id()', done_when => 'r.erased_by IS NOT NULL')
FROM torture.jobs WHERE people IS NOT NULL AND command = '' ORDER BY name;
UPDATE torture.jobs SET first = job_schedule(name, schedule, command,
	owner => owner, keep_runs => 10000000, options => options)
WHERE relation IS NULL AND people IS NULL AND (options->>'run_after') IS NULL AND (options->>'on_failure') IS NULL;
UPDATE torture.jobs SET first = job_schedule(name, schedule, command,
	owner => owner, keep_runs => 10000000, options => options)
WHERE name = 'child_1' OR (options->>'on_failure') IS NOT NULL;
UPDATE torture.jobs SET first = job_schedule(name, schedule, command,
	owner => owner, keep_runs => 10000000, options => options)
WHERE (options->>'run_after') IS NOT NULL AND name <> 'child_1';

-- job_schedule() returns when it runs, jitter included.
UPDATE torture.jobs SET first = scheduled_for FROM job_queue WHERE job_name = name AND key = '@schedule';
COMMIT;
