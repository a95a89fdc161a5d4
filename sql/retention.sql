--
-- What retention runs obey and say: guards, limits, the order of rules, what
-- is left for the next run, and the result.
--
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE EXTENSION pg_janitor;
CREATE FUNCTION old(n int, first int DEFAULT 1) RETURNS TABLE (id int, at timestamptz) LANGUAGE sql
	AS $$ SELECT i, '2020-01-01'::timestamptz + i * interval '1 minute' FROM generate_series(first, first + n - 1) i $$;
-- the newest run of a job: its outcome, and one of its rule's results
CREATE FUNCTION last(job text, OUT status text, OUT rows bigint, OUT error text, OUT detail text) LANGUAGE sql
	AS $$ SELECT status, records_processed, error_message, detail FROM job_execution WHERE job_name = job ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION said(job text, rule text DEFAULT 'main') RETURNS jsonb LANGUAGE sql
	AS $$ SELECT result -> 'rules' -> rule FROM job_execution WHERE job_name = job ORDER BY id DESC LIMIT 1 $$;
CREATE PROCEDURE run(job text, args jsonb DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	id bigint := job_trigger(job, args);
BEGIN
	COMMIT;
	PERFORM job_wait(id);
END $$;

--
-- Guards: nothing is touched where more is expired than they allow
--
CREATE TABLE guarded (id int, at timestamptz);
INSERT INTO guarded SELECT * FROM old(10) UNION ALL SELECT i, now() FROM generate_series(11, 40) i;
SELECT FROM job_schedule_retention('guarded', NULL, 'guarded', 'at', '1 year', abort_above_rows => 9);
CALL run('guarded');
SELECT * FROM last('guarded');
SELECT count(*) FROM guarded;
SELECT FROM job_schedule_retention('guarded', NULL, 'guarded', 'at', '1 year', abort_above_rows => 0);
CALL run('guarded');
SELECT * FROM last('guarded');
-- a part of the table, which is counted, too: nothing was ever analyzed here
SELECT FROM job_schedule_retention('guarded', NULL, 'guarded', 'at', '1 year', abort_above_fraction => 0.24);
CALL run('guarded');
SELECT * FROM last('guarded');
SELECT count(*) FROM guarded;
SELECT FROM job_schedule_retention('guarded', NULL, 'guarded', 'at', '1 year', abort_above_fraction => 0.25, abort_above_rows => 10);
CALL run('guarded');
SELECT * FROM last('guarded');
-- what is held does not count, and to confirm is no way round one's own limits
INSERT INTO guarded SELECT * FROM old(10);
SELECT FROM job_hold_place('guarded', 'id <= 5', 'case 1');
SELECT FROM job_schedule_retention('guarded', NULL, 'guarded', 'at', '1 year', abort_above_rows => 4);
CALL run('guarded', '{"confirm": true}');
SELECT * FROM last('guarded');
SELECT FROM job_schedule_retention('guarded', NULL, 'guarded', 'at', '1 year', abort_above_rows => 5);
CALL run('guarded');
SELECT * FROM last('guarded');
SELECT FROM job_hold, job_hold_release(job_hold.id) WHERE released_at IS NULL;

-- what comes to it while it runs counts: the batch that would go beyond is
-- rolled back
CREATE TABLE growing (id int, at timestamptz) PARTITION BY LIST (id);
CREATE TABLE growing_1 PARTITION OF growing FOR VALUES IN (1);
CREATE TABLE growing_2 PARTITION OF growing FOR VALUES IN (2);
CREATE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO growing VALUES (2, OLD.at); RETURN OLD; END $$;
CREATE TRIGGER grow BEFORE DELETE ON growing_1 FOR EACH ROW EXECUTE FUNCTION grow();
INSERT INTO growing SELECT 1 + id % 2, at FROM old(20);
SELECT FROM job_schedule_retention('growing', NULL, 'growing', 'at', '1 year', abort_above_rows => 29);
CALL run('growing');
SELECT * FROM last('growing');
SELECT tableoid::regclass, count(*) FROM growing GROUP BY 1;
SELECT FROM job_schedule_retention('growing', NULL, 'growing', 'at', '1 year', abort_above_rows => 20);
CALL run('growing');
SELECT * FROM last('growing');

--
-- The jump guard: far more than in earlier runs, and a large part of a large
-- table
--
CREATE TABLE big (id int PRIMARY KEY, at timestamptz);
CREATE INDEX ON big (at);
INSERT INTO big SELECT i, now() - interval '1 hour' FROM generate_series(1, 120000) i;
INSERT INTO big SELECT * FROM old(3, 200001);
VACUUM ANALYZE big;
SELECT FROM job_schedule_retention('big', NULL, 'big', 'at', '1 year');
CALL run('big');
SELECT * FROM last('big');
-- the clock, the unit, the column: something is wrong
UPDATE big SET at = at - interval '3 years' WHERE id <= 60000;
ANALYZE big;
CALL run('big');
SELECT * FROM last('big');
SELECT count(*) FROM big;
-- a part that is not so large
UPDATE big SET at = now() WHERE id BETWEEN 24001 AND 60000;
ANALYZE big;
CALL run('big');
SELECT * FROM last('big');
-- not more than ten times as many as before
UPDATE big SET at = at - interval '3 years' WHERE id > 24000;
ANALYZE big;
CALL run('big');
SELECT * FROM last('big');
-- by far more: it has to be confirmed, once
INSERT INTO big SELECT * FROM old(120000);
ANALYZE big;
DELETE FROM job_execution WHERE job_name = 'big' AND records_processed > 3;
CALL run('big');
SELECT status, rows FROM last('big');
CALL run('big', '{"confirm": true}');
SELECT * FROM last('big');
-- the first run of a rule has nothing to be compared with, and one that is
-- limited works off what there is bit by bit
INSERT INTO big SELECT * FROM old(120000);
ANALYZE big;
SELECT FROM job_set_rule('big', 'bits', 'big', 'at', '2 years', rows_per_run => 2000);
SELECT FROM job_set_rule('big', 'main', 'big', 'at', '900 years');
CALL run('big');
SELECT status, rows, regexp_replace(detail, '1[12]\d{4}', '...') AS detail FROM last('big');
SELECT said('big', 'bits') - '{relation,action,cutoff,bound,batches,longest_ms,left_about}'::text[] AS result;
CALL run('big');
SELECT status, rows, regexp_replace(detail, '1[12]\d{4}', '...') AS detail FROM last('big');
SELECT FROM job_unschedule('big');

--
-- Rules: one that fails does not keep the others from running, unless it says so
--
CREATE TABLE a (id int, at timestamptz);
CREATE TABLE b (id int, at timestamptz);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON b FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TABLE c (id int, at timestamptz);
INSERT INTO a SELECT * FROM old(5);
INSERT INTO b SELECT * FROM old(5);
INSERT INTO c SELECT * FROM old(5);
SELECT FROM job_schedule_retention('several', NULL, 'a', 'at', '1 year');
SELECT FROM job_set_rule('several', 'breaks', 'b', 'at', '1 year', stop_on_failure => true);
SELECT FROM job_set_rule('several', 'last', 'c', 'at', '1 year');
CALL run('several');
SELECT * FROM last('several');
SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM c) AS c;
SELECT said('several', 'breaks') ->> 'error' AS error, said('several', 'last') AS last;
SELECT FROM job_set_rule('several', 'breaks', 'b', 'at', '1 year');
CALL run('several');
SELECT * FROM last('several');
SELECT (SELECT count(*) FROM c) AS c;

-- a rule that goes on where it stopped does not keep the others from beginning
-- anew
DROP TRIGGER refuse ON b;
INSERT INTO a SELECT * FROM old(5);
INSERT INTO c SELECT * FROM old(5);
SELECT FROM job_set_rule('several', 'breaks', 'b', 'at', '1 year', rows_per_run => 2);
CALL run('several');
SELECT * FROM last('several');
INSERT INTO a SELECT * FROM old(3);
INSERT INTO c SELECT * FROM old(4);
CALL run('several');
SELECT * FROM last('several');
SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM c) AS c;
CALL run('several');
SELECT * FROM last('several');

--
-- Methods: what the preview says is what the run does, leaf by leaf
--
CREATE TABLE mixed (id int, at timestamptz NOT NULL, filler text) PARTITION BY RANGE (at);
CREATE TABLE mixed_gone PARTITION OF mixed FOR VALUES FROM (MINVALUE) TO ('2019-01-01');
CREATE TABLE mixed_few PARTITION OF mixed FOR VALUES FROM ('2019-01-01') TO (MAXVALUE);
CREATE INDEX ON mixed (at);
INSERT INTO mixed SELECT i, '2018-06-01', repeat('x', 900) FROM generate_series(1, 5) i;
INSERT INTO mixed SELECT i, CASE WHEN i % 40 = 0 THEN '2019-06-01'::timestamptz ELSE now() END, repeat('x', 900) FROM generate_series(1, 2000) i;
ANALYZE mixed;
SELECT FROM job_schedule_retention('mixed', NULL, 'mixed', 'at', '1 year');
SELECT relation, method, index_used FROM job_preview('mixed');
CALL run('mixed');
SELECT status, rows FROM last('mixed');
SELECT said('mixed') - '{cutoff,bound,longest_ms}'::text[] AS result;
DROP INDEX mixed_at_idx;
INSERT INTO mixed SELECT i, '2019-06-01', repeat('x', 900) FROM generate_series(1, 5) i;
SELECT relation, method, index_used FROM job_preview('mixed');
CALL run('mixed');
SELECT said('mixed') - '{cutoff,bound,longest_ms}'::text[] AS result;

--
-- Batches: as large as they take long, and no larger than is said
--
CREATE TABLE quick (id int, at timestamptz);
INSERT INTO quick SELECT * FROM old(200000);
CREATE TABLE statements (rows bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO statements SELECT count(*) FROM gone HAVING count(*) > 0; RETURN NULL; END $$;
CREATE TRIGGER note AFTER DELETE ON quick REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note();
SELECT FROM job_schedule_retention('quick', NULL, 'quick', 'at', '1 year');
CALL run('quick');
SELECT rows FROM last('quick');
SELECT sum(rows) = 200000 AS all, max(rows) BETWEEN 5000 AND 60000 AS grown, count(*) < 100 AS few FROM statements;
TRUNCATE statements;
INSERT INTO quick SELECT * FROM old(2000);
SELECT FROM job_schedule_retention('quick', NULL, 'quick', 'at', '1 year', batch_rows => 250);
CALL run('quick');
SELECT sum(rows) AS all, max(rows) <= 500 AS small FROM statements;
-- rows that each take a millisecond, behind blocks that are quickly gone over
TRUNCATE statements;
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	PERFORM pg_sleep(0.001);	-- a job that takes long
	RETURN OLD; END $$;
CREATE TRIGGER slow BEFORE DELETE ON quick FOR EACH ROW EXECUTE FUNCTION slow();
INSERT INTO quick SELECT * FROM old(1800);
ANALYZE quick;
SELECT FROM job_schedule_retention('quick', NULL, 'quick', 'at', '1 year');
CALL run('quick');
SELECT sum(rows) AS all, max(rows) <= 700 AS small, count(*) >= 4 AS many FROM statements;

--
-- Afterwards: autovacuum is told; a vacuum where a fifth of a table went
--
CREATE TABLE told (id int, at timestamptz) PARTITION BY LIST (id) ;
CREATE TABLE told_1 PARTITION OF told FOR VALUES IN (1) WITH (autovacuum_enabled = off);
CREATE TABLE told_2 PARTITION OF told FOR VALUES IN (2) WITH (autovacuum_enabled = off);
INSERT INTO told SELECT 1, at FROM old(100) UNION ALL SELECT 2, at FROM old(19) UNION ALL SELECT 2, now() FROM generate_series(1, 81);
ANALYZE told;
SELECT FROM job_schedule_retention('told', NULL, 'told', 'at', '1 year', filter => 'r.at > ''2020-01-01 00:50''');
CALL run('told');
SELECT rows FROM last('told');
SELECT relname, n_tup_del, n_dead_tup, vacuum_count FROM pg_stat_user_tables WHERE relname LIKE 'told%' ORDER BY 1;
SELECT FROM job_schedule_retention('told', NULL, 'told', 'at', '1 year', vacuum => true);
CALL run('told');
SELECT rows FROM last('told');
SELECT said('told') -> 'vacuumed' AS vacuumed;
SELECT relname, n_tup_del, vacuum_count FROM pg_stat_user_tables WHERE relname LIKE 'told%' ORDER BY 1;

SET client_min_messages = error;
DROP EXTENSION pg_janitor CASCADE;
DROP TABLE guarded, growing, big, a, b, c, mixed, quick, statements, told CASCADE;
DROP PROCEDURE run(text, jsonb);
DROP FUNCTION old(int, int), last(text), said(text, text), grow(), refuse(), note(), slow();
