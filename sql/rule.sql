--
-- Rules of retention jobs: what a definition accepts, refuses and says.  The
-- notice counts the rows that the rule's condition is true for, so it tells
-- whether the condition is right.  None of these jobs ever runs.
--
SET client_min_messages = warning;
CREATE EXTENSION pg_janitor;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
CREATE ROLE regress_janitor_a LOGIN;
CREATE ROLE regress_janitor_b LOGIN;
CREATE SCHEMA rule AUTHORIZATION regress_janitor_a;
GRANT USAGE ON SCHEMA rule TO regress_janitor_b;
SET search_path = rule, public;
SET ROLE regress_janitor_a;
CREATE TABLE session
(
	id int PRIMARY KEY,
	kind text,
	expires_at timestamptz,
	email varchar(10),
	state text,
	days int
);
-- ages of -1 day to 8 days, one of each; and one that has no time
INSERT INTO session
	SELECT i, (ARRAY['a', 'b', NULL])[1 + i % 3],
		   now() - (i - 1) * interval '1 day' + interval '1 hour',
		   'x@y', 'open', i
	FROM generate_series(0, 9) i;
INSERT INTO session VALUES (100, 'a', NULL, 'x@y', 'open', NULL);
RESET ROLE;

\set VERBOSITY terse
-- a job with its rule
SELECT job_schedule_retention('purge', '0 0 29 2 *', 'session', 'expires_at', '5 days', owner => 'regress_janitor_a')
	= (SELECT job_next_runs('0 0 29 2 *', count => 1)) AS next_run_returned;
SELECT kind, command, owner, version FROM job_definition;
SELECT rule, place, relation, action, time_column, keep FROM job_rule;
SELECT action, before IS NULL AS new, after ->> 'relation' AS relation FROM job_change ORDER BY id;

-- what a definition writes if told nothing is what a plain INSERT would
INSERT INTO job_rule (job_name, rule, place, relation, time_column, keep)
	VALUES ('by hand', 'main', 1, 'rule.session', 'expires_at', '5 days');
SELECT a.key, a.value AS by_function, b.value AS by_hand
FROM job_rule x, jsonb_each(to_jsonb(x)) a, job_rule y, jsonb_each(to_jsonb(y)) b
WHERE x.job_name = 'purge' AND y.job_name = 'by hand' AND a.key = b.key
  AND a.value IS DISTINCT FROM b.value AND a.key <> 'job_name';
DELETE FROM job_rule WHERE job_name = 'by hand';

-- arguments are columns, all of them
SELECT p.proname, c.attrelid::regclass AS of, attname AS no_argument
FROM pg_proc p,
	 (SELECT * FROM pg_attribute WHERE attrelid IN ('job_rule'::regclass, 'job_definition'::regclass)
	  AND attnum > 0) c
WHERE p.proname IN ('job_schedule_retention', 'job_set_rule')
  AND (p.proname = 'job_schedule_retention' OR c.attrelid = 'job_rule'::regclass)
  AND NOT c.attname = ANY (p.proargnames)
  AND c.attname NOT IN ('job_name', 'name', 'kind', 'rule', 'place', 'owner_oid', 'command', 'items',
						'paused_by', 'paused_reason', 'paused_until', 'home', 'home_database', 'environment',
						'version', 'created_at', 'updated_at')
ORDER BY 1, 2, 3;

-- the same again writes nothing, and says nothing
SELECT xmin AS rule_before FROM job_rule \gset
SELECT xmin AS job_before FROM job_definition \gset
SELECT job_schedule_retention('purge', '0 0 29 2 *', 'rule.session', 'expires_at', '5 days') IS NOT NULL AS scheduled;
SELECT job_schedule_retention('purge', '0 0 29 2 *', 'session', 'expires_at', options => '{"keep": "5 days", "parallel": null}') IS NOT NULL AS scheduled;
SELECT job_set_rule('purge', 'main', 'session', 'expires_at', '5 days');
SELECT xmin = :'rule_before' AS untouched FROM job_rule;
SELECT xmin = :'job_before' AS untouched, version FROM job_definition;
SELECT count(*) FROM job_change;

-- one call, one version; options not given return to their defaults
SELECT job_schedule_retention('purge', '0 0 29 2 *', 'session', 'expires_at', '6 days', batch_rows => 10,
							  options => '{"rows_per_run": 100, "timeout": "1 hour", "stop_after": "10 minutes"}') IS NOT NULL AS scheduled;
SELECT timeout, stop_after, version FROM job_definition;
SELECT keep, batch_rows, rows_per_run FROM job_rule;
SELECT job_schedule_retention('purge', '0 0 29 2 *', 'session', 'expires_at', '6 days') IS NOT NULL AS scheduled;
SELECT timeout, stop_after, version FROM job_definition;
SELECT keep, batch_rows, rows_per_run FROM job_rule;

-- other rules stay, in the order of their creation
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '7 days');
SELECT job_set_rule('purge', 'first', 'session', 'expires_at', '7 days');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '4 days');
SELECT job_schedule_retention('purge', '0 0 29 2 *', 'session', 'expires_at', '1 day') IS NOT NULL AS scheduled;
SELECT rule, place, keep FROM job_rule ORDER BY place;
SELECT version FROM job_definition;
SELECT job_drop_rule('purge', 'frist');
SELECT job_drop_rule('purge', 'first');
SELECT version FROM job_definition;
SELECT action, before ->> 'rule' AS before, before ->> 'keep' AS keep_before, after ->> 'rule' AS after, after ->> 'keep' AS keep_after
FROM job_change WHERE action LIKE '%rule' ORDER BY id;
SELECT job_drop_rule('purge', 'main');
SELECT job_drop_rule('purge', 'second');

-- jobs that have no rules
SELECT job_schedule('sql', NULL, 'SELECT 1', owner => 'regress_janitor_a');
SELECT job_set_rule('sql', 'main', 'session', 'expires_at', '1 day');
SELECT job_drop_rule('sql', 'main');
SELECT job_set_rule('purg', 'main', 'session', 'expires_at', '1 day');
SELECT job_schedule_retention('sql', NULL, 'session', 'expires_at', '1 day');
SELECT job_schedule('purge', NULL, 'SELECT 1');
SELECT job_alter('purge', '{"command": "SELECT 1"}');
SELECT job_set_rule('purge', '', 'session', 'expires_at', '1 day');
SELECT job_set_rule('purge', NULL, 'session', 'expires_at', '1 day');

--
-- How long: the traps
--
\set VERBOSITY default
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '90');
\set VERBOSITY terse
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '3650');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '59 minutes');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '59 minutes', short_keep => true);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '60 minutes');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '-1 day');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '1 day -25 hours');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '1001 years');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', options => '{"keep": 90}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', options => '{"keep": "90"}');
-- an expiry column knows the future, a time of creation does not
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '0');
CREATE TABLE made (at timestamptz);
ALTER TABLE made OWNER TO regress_janitor_a;
SELECT job_set_rule('purge', 'second', 'made', 'at', '0');
INSERT INTO made VALUES (now() - interval '1 second');
SELECT job_set_rule('purge', 'third', 'made', 'at', '0');
SELECT job_set_rule('purge', 'second', 'made', 'at', '0');	-- as it was
SELECT job_set_rule('purge', 'third', 'made', 'at', '0', short_keep => true);

--
-- Which rows
--
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', filter => 'kind = ''a''');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{"a": "7 days", "b": "5 days"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{"a": "7 days", "*": "5 days"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{"a": null, "*": "5 days"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{"*": "5 days"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'days', tiers => '{"7": "1 day", "*": "8 days"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_last => 3);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_last => 11);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_last => 2, keep_per => '{kind}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_expression => 'make_interval(days => r.days)');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_expression => 'CASE r.kind WHEN ''b'' THEN interval ''2 days'' END');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'expires_at < job_now() - interval ''5 days'' OR expires_at IS NULL');
-- ties with the last that is kept are kept
CREATE TABLE tie (id int, kind text, at timestamptz);
ALTER TABLE tie OWNER TO regress_janitor_a;
INSERT INTO tie SELECT i, i % 2, '2020-01-01'::date + i / 4 FROM generate_series(0, 19) i;
INSERT INTO tie SELECT i, NULL, '2020-01-01'::date + i / 2 FROM generate_series(0, 9) i;
SELECT job_set_rule('purge', 'second', 'tie', 'at', keep_last => 5);
SELECT job_set_rule('purge', 'second', 'tie', 'at', keep_last => 3, keep_per => '{kind}');
CREATE INDEX ON tie (kind, at);
SELECT job_set_rule('purge', 'second', 'tie', 'at', keep_last => 3, keep_per => '{kind}', batch_rows => 1);
SELECT job_set_rule('purge', 'second', 'tie', 'at', keep_last => 1, keep_per => '{kind}', filter => 'r.kind IS NULL');

-- exactly one of them
SELECT job_set_rule('purge', 'second', 'session');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at');
SELECT job_set_rule('purge', 'second', 'session', keep => '5 days');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', keep_last => 3);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', expired_when => 'true');
SELECT job_set_rule('purge', 'second', 'session', match => 'r.id = ($1 ->> ''id'')::int');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', keep_per => '{kind}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', tier_column => 'kind');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tiers => '{"a": "5 days"}');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'true', time_unit => 's');

-- values
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{"a": 90}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{"a": "90"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{"a": "90 s"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{"a": "1 parsec"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'kind', tiers => '{}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'days', tiers => '{"a": "90 days"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', tier_column => 'knid', tiers => '{"a": "90 days"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_last => 0);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_last => 1, keep_per => '{knid}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_last => 1, keep_per => '{}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'remove');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', partitions => 'keep');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', batch_rows => 0);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', rows_per_run => 0);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', parallel => 65);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', max_replica_lag => '0');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', drop_after => '-1 day');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', abort_above_fraction => 1.5);
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', batch_rows => 1, options => '{"batch_rows": 2}');
\set VERBOSITY default
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', options => '{"bach_rows": 2}');
SELECT job_schedule_retention('purge', NULL, 'session', 'expires_at', '5 days', options => '{"time_out": "1 s"}');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', options => '{"timeout": "1 s"}');
\set VERBOSITY terse

--
-- Relations
--
SET ROLE regress_janitor_a;
CREATE VIEW v AS SELECT * FROM session;
CREATE MATERIALIZED VIEW mv AS SELECT * FROM session;
CREATE TABLE "User" ("createdAt" timestamptz, "select" int);
RESET ROLE;
\set VERBOSITY default
SELECT job_set_rule('purge', 'second', 'User', 'createdAt', '5 days');
SELECT job_set_rule('purge', 'second', 'rule.User', 'createdAt', '5 days');
SELECT job_set_rule('purge', 'second', '"User"', 'createdat', '5 days');
\set VERBOSITY terse
SELECT job_set_rule('purge', 'second', '"User"', 'createdAt', '5 days', filter => '"select" = 1');
SELECT job_set_rule('purge', 'second', 'rule."User"', '"createdAt"', '5 days');
SELECT relation FROM job_rule WHERE rule = 'second';
SELECT job_set_rule('purge', 'second', 'nowhere', 'at', '5 days');
SELECT job_set_rule('purge', 'second', 'no where', 'at', '5 days');
SELECT job_set_rule('purge', 'second', NULL, 'at', '5 days');
SELECT job_set_rule('purge', 'second', 'v', 'expires_at', '5 days');
SELECT job_set_rule('purge', 'second', 'mv', 'expires_at', '5 days');
SELECT job_set_rule('purge', 'second', 'session_pkey', 'id', '5 days');
SELECT job_set_rule('purge', 'second', 'pg_class', 'relname', '5 days');
SELECT job_set_rule('purge', 'second', 'information_schema.sql_sizing', 'x', '5 days');
SELECT job_set_rule('purge', 'second', 'job_execution', 'completed_at', '5 days');
CREATE TEMP TABLE temporary (at timestamptz);
DO $$ BEGIN
	PERFORM job_set_rule('purge', 'second', 'temporary', 'at', '5 days');
EXCEPTION WHEN wrong_object_type THEN
	RAISE NOTICE '%', regexp_replace(sqlerrm, 'pg_temp_\d+', 'pg_temp');
END $$;
DROP TABLE temporary;

--
-- Times of all types: each has ages of 2 to 8 days, one in the future, NULL
--
SET ROLE regress_janitor_a;
CREATE DOMAIN stamp AS timestamptz;
CREATE COLLATION words (provider = libc, locale = 'C.UTF-8');	-- to the server any order
CREATE FUNCTION v7(at timestamptz) RETURNS uuid LANGUAGE sql AS $$
	SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7abc8def01234567890a')::uuid $$;
CREATE TABLE times AS
	SELECT at::timestamptz, at::stamp AS domain, at::timestamp AS local, (at - interval '1 hour')::date AS day,
		   extract(epoch FROM at)::int AS s, (extract(epoch FROM at) * 1000)::bigint AS ms,
		   (extract(epoch FROM at) * 1000000)::bigint AS us,
		   to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS iso,
		   to_char(at, 'YYYY-MM-DD HH24:MI:SS.MS')::varchar(30) COLLATE words AS written,
		   to_char(at - interval '1 hour', 'YYYYMMDD') AS compact,
		   v7(at) AS uuid, at::time AS clock
	FROM (SELECT now() - i * interval '1 day' + interval '1 hour' AS at FROM generate_series(2, 8) i
		  UNION ALL SELECT now() + interval '1 day' UNION ALL SELECT NULL) x;
RESET ROLE;
SELECT job_set_rule('purge', 'type', 'times', 'at', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'domain', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'local', '5 days');
-- a date is as old as its midnight
SELECT job_set_rule('purge', 'type', 'times', 'day', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 's', '5 days', time_unit => 's');
SELECT job_set_rule('purge', 'type', 'times', 'ms', '5 days', time_unit => 'ms');
SELECT job_set_rule('purge', 'type', 'times', 'us', '5 days', time_unit => 'us');
SELECT job_set_rule('purge', 'type', 'times', 'iso', '5 days', time_format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
SELECT job_set_rule('purge', 'type', 'times', 'written', '5 days', time_format => 'YYYY-MM-DD HH24:MI:SS.MS');
SELECT job_set_rule('purge', 'type', 'times', 'compact', '5 days', time_format => 'YYYYMMDD');
SELECT job_set_rule('purge', 'type', 'times', 'uuid', '5 days');
-- the same by an interval that each row says
SELECT job_set_rule('purge', 'type', 'times', 'at', keep_expression => 'interval ''5 days''');
SELECT job_set_rule('purge', 'type', 'times', 'local', keep_expression => 'interval ''5 days''');
SELECT job_set_rule('purge', 'type', 'times', 'day', keep_expression => 'interval ''5 days''');
SELECT job_set_rule('purge', 'type', 'times', 's', keep_expression => 'interval ''5 days''', time_unit => 's');
SELECT job_set_rule('purge', 'type', 'times', 'us', keep_expression => 'interval ''5 days''', time_unit => 'us');
SELECT job_set_rule('purge', 'type', 'times', 'iso', keep_expression => 'interval ''5 days''', time_format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
SELECT job_set_rule('purge', 'type', 'times', 'written', keep_expression => 'interval ''5 days''', time_format => 'YYYY-MM-DD HH24:MI:SS.MS');
SELECT job_set_rule('purge', 'type', 'times', 'uuid', keep_expression => 'interval ''5 days''');
-- and by number
SELECT job_set_rule('purge', 'type', 'times', 'iso', keep_last => 3, time_format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
SELECT job_set_rule('purge', 'type', 'times', 'written', keep_last => 3, time_format => 'YYYY-MM-DD HH24:MI:SS.MS');
SELECT job_set_rule('purge', 'type', 'times', 'uuid', keep_last => 3);
SELECT job_set_rule('purge', 'type', 'times', 'written', tier_column => 'compact', tiers => '{"*": "5 days"}', time_format => 'YYYY-MM-DD HH24:MI:SS.MS');

-- what is no time never expires
CREATE TABLE odd AS SELECT * FROM times WHERE at < now();
ALTER TABLE odd OWNER TO regress_janitor_a;
UPDATE odd SET s = CASE WHEN s % 2 = 0 THEN -1 ELSE 0 END, ms = ms / 1000, iso = replace(iso, 'T', ' '),
	written = NULL, uuid = gen_random_uuid();
SELECT job_set_rule('purge', 'type', 'odd', 's', '5 days', time_unit => 's');
SELECT job_set_rule('purge', 'type', 'odd', 'ms', '5 days', time_unit => 'ms');
SELECT job_set_rule('purge', 'type', 'odd', 'iso', '5 days', time_format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
SELECT job_set_rule('purge', 'type', 'odd', 'written', '5 days', time_format => 'YYYY-MM-DD HH24:MI:SS.MS');
SELECT job_set_rule('purge', 'type', 'odd', 'uuid', '5 days');
SELECT job_set_rule('purge', 'type', 'odd', 'iso', keep_last => 1, time_format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"');

-- timestamps and dates are read in the job's time zone: half an hour either
-- side of a cutoff that is 13 or 14 hours ahead of UTC there
CREATE TABLE local (at timestamp, utc text);
ALTER TABLE local OWNER TO regress_janitor_a;
INSERT INTO local
	SELECT (now() - interval '5 days' + i * interval '30 minutes') AT TIME ZONE 'Pacific/Auckland',
		   to_char((now() - interval '5 days' + i * interval '30 minutes') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"')
	FROM generate_series(-1, 1, 2) i;
SELECT job_schedule_retention('auckland', NULL, 'local', 'at', '5 days', time_zone => 'Pacific/Auckland', owner => 'regress_janitor_a');
SELECT job_schedule_retention('auckland', NULL, 'local', 'utc', '5 days', time_format => 'YYYY-MM-DD HH24:MI:SS"Z"', time_zone => 'Pacific/Auckland');
SELECT job_schedule_retention('auckland', NULL, 'local', 'at', '5 days');
SELECT job_unschedule('auckland');

-- types that do not tell, and options that are missing: proposed by the data
\set VERBOSITY default
SELECT job_set_rule('purge', 'type', 'times', 's', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'ms', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'us', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'iso', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'written', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'compact', '5 days');
SELECT job_set_rule('purge', 'type', 'session', 'state', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'clock', '5 days');
SELECT job_set_rule('purge', 'type', 'times', 'iso', '5 days', time_format => 'DD.MM.YYYY');
SELECT job_set_rule('purge', 'type', 'times', 'iso', '5 days', time_format => 'YYYY-MM-DDTHH24:MI');
\set VERBOSITY terse
SELECT job_set_rule('purge', 'type', 'times', 'iso', '5 days', time_format => 'YYYY HH24');
SELECT job_set_rule('purge', 'type', 'times', 'iso', '5 days', time_format => 'YYYY-MM"');
SELECT job_set_rule('purge', 'type', 'times', 's', '5 days', time_unit => 'ms');
SELECT job_set_rule('purge', 'type', 'times', 's', '5 days', time_unit => 'min');
SELECT job_set_rule('purge', 'type', 'times', 'at', '5 days', time_unit => 's');
SELECT job_set_rule('purge', 'type', 'times', 'at', '5 days', time_format => 'YYYY');
SELECT job_set_rule('purge', 'type', 'times', 'ta', '5 days');

--
-- Expressions are parsed, never pasted
--
SET ROLE regress_janitor_a;
CREATE TABLE other (id int, session_id int);
CREATE FUNCTION closed(state text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT state = 'closed' $$;
RESET ROLE;
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'true) OR (true');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'true; DROP TABLE session');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'true /*');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'true, false');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'true AS x');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'true FROM session');
SELECT job_set_rule('purge', 'second', 'session', expired_when => '');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'r.*');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'r IS NOT NULL');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'EXISTS (SELECT 1 FROM other o WHERE r = NULL)');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'r.ctid = ''(0,1)''');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'count(*) > 1');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'generate_series(1, r.id) > 1');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'rank() OVER () > 1');
SELECT job_set_rule('purge', 'second', 'session', expired_when => '$1 = 1');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'random() > 0.5');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'session.id = 1');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'r.id');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'expires_at < ''now''');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', keep_expression => 'r.days');
\set VERBOSITY default
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'r.id > 1 AND idd = 2');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'EXISTS (SELECT FROM other WHERE session_id = id)');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'EXISTS (SELECT FROM other r WHERE r.id = 1)');
\set VERBOSITY terse
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'NOT EXISTS (SELECT FROM other o WHERE o.session_id = r.id) -- fine');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'closed(state)', filter => 'r.id IN (SELECT o.session_id FROM other o)');
SELECT job_set_rule('purge', 'second', 'session', expired_when => 'expires_at < now()');
SELECT job_now();

--
-- SET: a row that is as it should be is not touched
--
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'update', set => 'email = NULL, state = ''expired''');
UPDATE session SET state = 'expired', email = NULL WHERE id = 8;
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'update', set => 'email = NULL, state = ''expired'', days = days');
-- lengths and defaults count
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'update', set => 'email = DEFAULT, state = DEFAULT');
UPDATE session SET email = '1234567890' WHERE id = 9;
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'update', set => 'email = ''1234567890      ''');
-- what changes by itself rides along; alone it says nothing
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'anonymize', set => 'state = ''expired'', expires_at = job_now()');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'update', set => 'expires_at = now()');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'update', set => 'expires_at = ''now''');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'update', set => 'expires_at = now()', done_when => 'state = ''expired''');
-- types without equality
CREATE TABLE document (at timestamptz, js json, jsb jsonb, tags text[], p point, x int GENERATED ALWAYS AS IDENTITY, y int GENERATED ALWAYS AS (1) STORED);
ALTER TABLE document OWNER TO regress_janitor_a;
INSERT INTO document (at, js, jsb, tags, p)
	VALUES ('2020-01-01', '{"a": 1}', '{"a": 1}', '{a}', '(1,1)'), ('2020-01-01', '{}', '{}', '{}', '(0,0)'), ('2020-01-01', NULL, NULL, NULL, NULL);
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'js = ''{}'', jsb = ''{}'', tags = ''{}'', p = ''(0,0)''');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'js = NULL, jsb = NULL, tags = NULL, p = NULL');
-- refused
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'x = 1');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'y = 1');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'tags[1] = ''a''');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => '(js, jsb) = (SELECT NULL, NULL)');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'js = NULL WHERE true');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'js = NULL; DELETE FROM document');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'js = NULL RETURNING 1');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'js = 1');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update', set => 'jss = NULL');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', action => 'update');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', set => 'js = NULL');
SELECT job_set_rule('purge', 'doc', 'document', 'at', '5 days', done_when => 'true');
CREATE TABLE part (at timestamptz, note text) PARTITION BY RANGE (at);
CREATE TABLE part_2020 PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE part_rest PARTITION OF part DEFAULT;
ALTER TABLE part OWNER TO regress_janitor_a;
INSERT INTO part SELECT '2020-12-30'::timestamptz + i * interval '1 day' FROM generate_series(0, 3) i;
\set VERBOSITY default
SELECT job_set_rule('purge', 'part', 'part', 'at', '5 days');
\set VERBOSITY terse
ALTER TABLE part_2020 OWNER TO regress_janitor_a;
ALTER TABLE part_rest OWNER TO regress_janitor_a;
SELECT job_set_rule('purge', 'part', 'part', 'at', '5 days');
SELECT job_set_rule('purge', 'part', 'part', 'at', keep_last => 3);
SELECT job_set_rule('purge', 'part', 'part', 'at', keep_last => 3, keep_per => '{note}');
SELECT job_set_rule('purge', 'part', 'part', 'at', '5 days', action => 'update', set => 'at = NULL');

--
-- Archives
--
SET ROLE regress_janitor_a;
CREATE TABLE attic (state text, id bigint, kind text, archived_at timestamptz NOT NULL DEFAULT now());
RESET ROLE;
\set VERBOSITY default
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'archive', archive_to => 'attic');
ALTER TABLE attic ADD expires_at int, ADD email text, ADD days int;
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'archive', archive_to => 'attic');
ALTER TABLE attic ALTER expires_at TYPE timestamptz USING NULL, ALTER archived_at DROP DEFAULT;
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'archive', archive_to => 'attic');
\set VERBOSITY terse
ALTER TABLE attic ALTER archived_at SET DEFAULT now();
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'archive', archive_to => 'attic');
SELECT archive_to FROM job_rule WHERE rule = 'second';
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'archive', archive_to => 'session');
SELECT job_set_rule('purge', 'second', 'part', 'at', '5 days', action => 'archive', archive_to => 'part_rest');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'archive', archive_to => 'v');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', action => 'archive');
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days', archive_to => 'attic');

--
-- As the owner
--
\set VERBOSITY default
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days', owner => 'regress_janitor_b');
GRANT SELECT ON session TO regress_janitor_b;
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days', owner => 'regress_janitor_b');
GRANT UPDATE (state) ON session TO regress_janitor_b;
\set VERBOSITY terse
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days', action => 'update', set => 'state = ''x''', owner => 'regress_janitor_b');
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days', action => 'update', set => 'email = ''x''', owner => 'regress_janitor_b');
GRANT DELETE ON session TO regress_janitor_b;
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days');
-- its rights are not those of whoever defines
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days', filter => 'r.id IN (SELECT o.session_id FROM other o)');
REVOKE EXECUTE ON FUNCTION closed FROM PUBLIC;
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days', filter => 'closed(r.state)');
-- and what it brings along cannot become the definer
CREATE FUNCTION who(int) RETURNS text LANGUAGE plpgsql STABLE AS $$
	BEGIN RAISE NOTICE 'called as %', current_user; RETURN current_user; END $$;
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days', filter => 'who(r.id) = ''x'' AND r.id = 9');
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '5 days', filter => 'set_config(''role'', ''regress_janitor_a'', false) = ''x''');
REVOKE USAGE ON SCHEMA rule FROM regress_janitor_b;
SELECT job_schedule_retention('b', NULL, 'session', 'expires_at', '4 days');
GRANT USAGE ON SCHEMA rule TO regress_janitor_b;
-- another owner, another time zone: the rules are looked at again
SELECT job_alter('b', '{"time_zone": "Europe/Berlin"}');
REVOKE DELETE ON session FROM regress_janitor_b;
SELECT job_alter('b', '{"time_zone": "Europe/Paris"}');
SELECT job_alter('b', '{"owner": "regress_janitor_a"}');
SELECT job_alter('b', '{"owner": "regress_janitor_b"}');
SELECT owner, time_zone FROM job_definition WHERE name = 'b';
-- row security hides rows
ALTER TABLE session ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON session USING (kind = 'a');
GRANT DELETE ON session TO regress_janitor_b;
SELECT job_schedule_retention('c', NULL, 'session', 'expires_at', '5 days', owner => 'regress_janitor_b');
ALTER TABLE session DISABLE ROW LEVEL SECURITY;

-- whose jobs are theirs
SELECT job_grant('regress_janitor_b');
SET ROLE regress_janitor_b;
SELECT job_set_rule('purge', 'second', 'session', 'expires_at', '5 days');
SELECT job_drop_rule('purge', 'second');
SELECT job_set_rule('c', 'more', 'session', 'expires_at', '5 days');
RESET ROLE;

--
-- Advice
--
SET ROLE regress_janitor_a;
CREATE TABLE big (id int PRIMARY KEY, at timestamptz, grp int);
INSERT INTO big SELECT i, '2020-01-01', i % 10 FROM generate_series(1, 120000) i;
CREATE TABLE child (id int, big_id int REFERENCES big);
INSERT INTO child SELECT i, i FROM generate_series(1, 2000) i;
ANALYZE big, child;
RESET ROLE;
SELECT job_schedule_retention('big', NULL, 'big', 'at', '5 days', owner => 'regress_janitor_a');
SELECT job_set_rule('big', 'per', 'big', 'at', keep_last => 10, keep_per => '{grp}');
\set VERBOSITY default
SELECT job_set_rule('big', 'per', 'big', 'at', keep_last => 10, keep_per => '{grp}');
\set VERBOSITY terse
CREATE INDEX ON big (grp, at);
CREATE INDEX ON big (at);
CREATE INDEX ON child (big_id);
SELECT job_schedule_retention('big', NULL, 'big', 'at', '6 days');

--
-- The end: rules go with their job
--
SELECT job_unschedule('big');
SELECT count(*) FROM job_rule WHERE job_name = 'big';
SELECT action, count(*) FROM job_change WHERE job_name = 'big' GROUP BY 1 ORDER BY 1;

SET client_min_messages = warning;
RESET search_path;
DROP EXTENSION pg_janitor;
DROP OWNED BY regress_janitor_b;
DROP SCHEMA rule CASCADE;
DROP ROLE regress_janitor_a, regress_janitor_b;
