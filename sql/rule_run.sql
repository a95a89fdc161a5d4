--
-- Rules as runs carry them out: one table for each way to say what has
-- expired, one rule for each table, all in one job, in batches of two rows.
-- What is left is compared with what must be; a second run finds nothing.
--
SET client_min_messages = warning;
CREATE EXTENSION pg_janitor;
CREATE ROLE regress_janitor_a LOGIN;
CREATE SCHEMA rule AUTHORIZATION regress_janitor_a;
SET search_path = rule, public;
SET timezone = 'UTC';
SET ROLE regress_janitor_a;

-- ages of 0 to 9 days (and an hour), one in the future, one unknown
CREATE TABLE source AS
	SELECT i AS id, now() - i * interval '1 day' - interval '1 hour' AS at,
		   (ARRAY['a', 'b', NULL])[1 + i % 3] AS kind
	FROM generate_series(0, 9) i
	UNION ALL SELECT 10, now() + interval '1 day', 'a'
	UNION ALL SELECT 11, NULL, 'a';
CREATE FUNCTION v7(at timestamptz) RETURNS uuid LANGUAGE sql AS $$
	SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7abc8def01234567890a')::uuid $$;
CREATE TABLE plain AS SELECT id, at FROM source;
CREATE TABLE indexed AS SELECT id, at FROM source;
CREATE INDEX ON indexed (at);
CREATE TABLE local AS SELECT id, at AT TIME ZONE 'Asia/Tokyo' AS at FROM source;
CREATE INDEX ON local (at);
CREATE TABLE day AS SELECT id, ((at + interval '1 hour') AT TIME ZONE 'Asia/Tokyo')::date AS at FROM source;
CREATE TABLE seconds AS SELECT id, extract(epoch FROM at)::int AS at FROM source;
INSERT INTO seconds VALUES (20, 0), (21, -1);
CREATE INDEX ON seconds (at);
CREATE TABLE millis AS SELECT id, (extract(epoch FROM at) * 1000)::bigint AS at FROM source;
INSERT INTO millis VALUES (20, extract(epoch FROM timestamp '2020-01-01'));	-- seconds
CREATE TABLE written AS SELECT id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS at FROM source;
INSERT INTO written VALUES (20, 'yesterday'), (21, '2020-01-01'), (22, '');
CREATE TABLE ids AS SELECT id, v7(at) AS at FROM source;
INSERT INTO ids VALUES (20, '00000000-0000-4000-8000-000000000000');
CREATE INDEX ON ids (at);
CREATE TABLE tiered AS SELECT id, at, kind FROM source;
CREATE TABLE by_row AS SELECT id, at, CASE WHEN id <> 9 THEN make_interval(days => 10 - id) END AS keep FROM source;
CREATE TABLE newest AS SELECT id, at FROM source;
CREATE TABLE newest_of_kind AS SELECT id, at, kind FROM source;
CREATE INDEX ON newest_of_kind (kind, at);
CREATE TABLE said AS SELECT id, at, kind FROM source;
CREATE TABLE filtered AS SELECT id, at, kind FROM source;
CREATE TABLE updated AS SELECT id, at, kind, 'x@y'::varchar(8) AS email, NULL::timestamptz AS erased FROM source;
CREATE TABLE archived AS SELECT id, at, kind FROM source;
CREATE TABLE archive (archived_at timestamptz DEFAULT now(), kind text, at timestamptz, id bigint GENERATED ALWAYS AS IDENTITY);
CREATE TABLE "Mixed Case" AS SELECT id, at AS "expires At", kind AS "select" FROM source;
CREATE TABLE part (id int, at timestamptz, gone text, kind text) PARTITION BY LIST (kind);
ALTER TABLE part DROP gone;
CREATE TABLE part_b (kind text, at timestamptz, id int);
ALTER TABLE part ATTACH PARTITION part_b FOR VALUES IN ('b');
CREATE TABLE part_rest PARTITION OF part DEFAULT;
INSERT INTO part SELECT id, at, kind FROM source;
CREATE TABLE parent (id int, at timestamptz);
CREATE TABLE heir (extra int) INHERITS (parent);
INSERT INTO parent SELECT id, at FROM source WHERE id % 2 = 0;
INSERT INTO heir SELECT id, at FROM source WHERE id % 2 = 1;
-- an operator that lies in wait, before pg_catalog
CREATE FUNCTION always(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR < (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = always);
RESET ROLE;

SELECT job_schedule_retention('all', NULL, 'plain', 'at', '5 days', time_zone => 'Asia/Tokyo', owner => 'regress_janitor_a',
							  batch_rows => 2, settings => '{"search_path": "rule, pg_catalog, public"}');
SELECT job_set_rule('all', r, r, 'at', '5 days', batch_rows => 2) FROM unnest('{indexed,local,day,ids,part,parent}'::text[]) r;
SELECT job_set_rule('all', 'seconds', 'seconds', 'at', '5 days', time_unit => 's', batch_rows => 2);
SELECT job_set_rule('all', 'millis', 'millis', 'at', '5 days', time_unit => 'ms', batch_rows => 2);
SELECT job_set_rule('all', 'written', 'written', 'at', '5 days', time_format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"', batch_rows => 2);
SELECT job_set_rule('all', 'tiered', 'tiered', 'at', tier_column => 'kind', tiers => '{"a": "7 days", "*": "5 days"}', batch_rows => 2);
SELECT job_set_rule('all', 'by_row', 'by_row', 'at', keep_expression => 'keep', batch_rows => 2);
SELECT job_set_rule('all', 'newest', 'newest', 'at', keep_last => 3, batch_rows => 2);
SELECT job_set_rule('all', 'newest_of_kind', 'newest_of_kind', 'at', keep_last => 1, keep_per => '{kind}', batch_rows => 2);
SELECT job_set_rule('all', 'said', 'said', expired_when => 'r.kind = ''b'' AND job_now() - r.at OPERATOR(pg_catalog.>) interval ''5 days''', batch_rows => 2);
SELECT job_set_rule('all', 'filtered', 'filtered', 'at', '5 days', filter => 'kind IS NULL', batch_rows => 2);
SELECT job_set_rule('all', 'updated', 'updated', 'at', '5 days', action => 'update', set => 'email = ''gone    '', erased = job_now()', batch_rows => 2);
SELECT job_set_rule('all', 'archived', 'archived', 'at', '5 days', action => 'archive', archive_to => 'archive', batch_rows => 2);
SELECT job_set_rule('all', 'Mixed', '"Mixed Case"', 'expires At', '0', filter => '"select" = ''a''', batch_rows => 2);
RESET client_min_messages;
\set VERBOSITY terse

CALL job_run('all');
SELECT rule.key AS rule, rule.value -> 'rows' AS rows, rule.value -> 'malformed' AS malformed
FROM job_runs, jsonb_each(result -> 'rules') rule ORDER BY 1;

SELECT t, ids
FROM (SELECT 'plain' t, array_agg(id ORDER BY id) ids FROM plain
	  UNION ALL SELECT 'indexed', array_agg(id ORDER BY id) FROM indexed
	  UNION ALL SELECT 'local', array_agg(id ORDER BY id) FROM local
	  UNION ALL SELECT 'day', array_agg(id ORDER BY id) FROM day
	  UNION ALL SELECT 'seconds', array_agg(id ORDER BY id) FROM seconds
	  UNION ALL SELECT 'millis', array_agg(id ORDER BY id) FROM millis
	  UNION ALL SELECT 'written', array_agg(id ORDER BY id) FROM written
	  UNION ALL SELECT 'ids', array_agg(id ORDER BY id) FROM ids
	  UNION ALL SELECT 'tiered', array_agg(id ORDER BY id) FROM tiered
	  UNION ALL SELECT 'by_row', array_agg(id ORDER BY id) FROM by_row
	  UNION ALL SELECT 'newest', array_agg(id ORDER BY id) FROM newest
	  UNION ALL SELECT 'newest_of_kind', array_agg(id ORDER BY id) FROM newest_of_kind
	  UNION ALL SELECT 'said', array_agg(id ORDER BY id) FROM said
	  UNION ALL SELECT 'filtered', array_agg(id ORDER BY id) FROM filtered
	  UNION ALL SELECT 'updated', array_agg(id ORDER BY id) FROM updated WHERE email = 'x@y'
	  UNION ALL SELECT 'updated, erased', array_agg(id ORDER BY id) FROM updated WHERE email = 'gone    ' AND erased = (SELECT (result ->> 'as_of')::timestamptz FROM job_runs)
	  UNION ALL SELECT 'archived', array_agg(id ORDER BY id) FROM archived
	  UNION ALL SELECT 'archive', array_agg(id ORDER BY id) FROM archive WHERE archived_at IS NOT NULL AND at < now()
	  UNION ALL SELECT 'Mixed', array_agg(id ORDER BY id) FROM "Mixed Case"
	  UNION ALL SELECT 'part', array_agg(id ORDER BY id) FROM part
	  UNION ALL SELECT 'parent', array_agg(id ORDER BY id) FROM parent) x;

-- a second run finds nothing
CALL job_run('all');

-- what is wrong is found by the run, too, and the other rules go on
ALTER TABLE said RENAME TO gone;
ALTER TABLE filtered RENAME kind TO sort;
REVOKE ALL ON plain FROM regress_janitor_a;
INSERT INTO "Mixed Case" VALUES (30, '2020-01-01', 'a');
CALL job_run('all');
SELECT rule.key AS rule, rule.value ->> 'error' AS error, rule.value -> 'rows' AS rows
FROM job_runs, jsonb_each(result -> 'rules') rule
WHERE id = 3 AND (rule.value ? 'error' OR rule.value -> 'rows' <> '0') ORDER BY 1;

-- a job that goes takes its rules and their progress along
SELECT job_unschedule('all');
SELECT (SELECT count(*) FROM job_rule) AS rules, (SELECT count(*) FROM job_cursor) AS cursors;

SET client_min_messages = warning;
RESET search_path;
DROP EXTENSION pg_janitor;
DROP SCHEMA rule CASCADE;
DROP ROLE regress_janitor_a;
