--
-- Partitions that are expired as a whole: which are, which can go so, and that
-- they are counted like rows.  Crashes and locks are in t/061_partitions.pl.
--
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE EXTENSION pg_janitor;

CREATE FUNCTION pg_temp.methods(job text) RETURNS TABLE (relation text, method text, warnings text) LANGUAGE sql
	AS 'SELECT p.relation, p.method, p.warnings::text FROM job_preview(job) p ORDER BY p.relation COLLATE "C"';

-- what the bounds prove: by range, by list, in partitions of partitions and
-- by several columns, for every type whose values all are times
CREATE TABLE by_time (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE by_time_1 PARTITION OF by_time FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE by_time_2 PARTITION OF by_time FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
CREATE TABLE by_time_3 PARTITION OF by_time FOR VALUES FROM ('2020-02-01') TO ('2200-01-01');
SELECT FROM job_schedule_retention('time', NULL, 'by_time', 'at', '1 year', partitions => 'drop');
SELECT * FROM pg_temp.methods('time');
CREATE TABLE by_list (id int, region text, day date) PARTITION BY LIST (region);
CREATE TABLE by_list_eu PARTITION OF by_list FOR VALUES IN ('eu') PARTITION BY LIST (day);
CREATE TABLE by_list_eu_1 PARTITION OF by_list_eu FOR VALUES IN ('2020-01-01', '2020-01-02');
CREATE TABLE by_list_eu_2 PARTITION OF by_list_eu FOR VALUES IN ('2020-01-03', '2200-01-01');
CREATE TABLE by_list_eu_3 PARTITION OF by_list_eu FOR VALUES IN ('2020-01-04', NULL);
CREATE TABLE by_list_us PARTITION OF by_list FOR VALUES IN ('us') PARTITION BY RANGE (id, day);
CREATE TABLE by_list_us_1 PARTITION OF by_list_us FOR VALUES FROM (1, '2020-01-01') TO (1, '2020-02-01');
CREATE TABLE by_list_us_2 PARTITION OF by_list_us FOR VALUES FROM (1, '2020-02-01') TO (2, '2020-02-01');
SELECT FROM job_schedule_retention('list', NULL, 'by_list', 'day', '1 year', partitions => 'drop');
SELECT * FROM pg_temp.methods('list');
SELECT FROM job_schedule_retention('list', NULL, 'by_list', 'day', '1 year', partitions => 'drop', filter => $$region = 'us'$$);
SELECT * FROM pg_temp.methods('list');
CREATE TABLE by_epoch (at bigint) PARTITION BY RANGE (at);
CREATE TABLE by_epoch_1 PARTITION OF by_epoch FOR VALUES FROM (1577836800) TO (1580515200);
CREATE TABLE by_epoch_2 PARTITION OF by_epoch FOR VALUES FROM (0) TO (1577836800);
SELECT FROM job_schedule_retention('epoch', NULL, 'by_epoch', 'at', '1 year', time_unit => 's', partitions => 'drop');
SELECT * FROM pg_temp.methods('epoch');
CREATE TABLE family (at date);
CREATE TABLE child (CHECK (at < '2020-01-01')) INHERITS (family);
SELECT FROM job_schedule_retention('family', NULL, 'family', 'at', '1 year');
SELECT * FROM pg_temp.methods('family');

-- dropped at once; the rest is deleted; all are counted
INSERT INTO by_time SELECT i, '2019-06-01' FROM generate_series(1, 10) i;
INSERT INTO by_time SELECT i, '2020-01-15' FROM generate_series(1, 200) i;
INSERT INTO by_time SELECT i, '2020-02-15' FROM generate_series(1, 3000) i;
INSERT INTO by_time VALUES (0, '2199-01-01');
CALL job_run('time');
SELECT to_regclass('by_time_1'), to_regclass('by_time_2'), to_regclass('by_time_3'), count(*) FROM by_time;
CALL job_run('time');
SELECT count(*) AS slices FROM job_cursor;

-- with a default partition, by a plain DETACH
CREATE TABLE by_day (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE by_day_1 PARTITION OF by_day FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
CREATE TABLE by_day_2 PARTITION OF by_day DEFAULT;
INSERT INTO by_day SELECT i, '2020-01-15' FROM generate_series(1, 20) i;
INSERT INTO by_day SELECT i, '2020-02-15' FROM generate_series(1, 3) i;
SELECT FROM job_schedule_retention('day', NULL, 'by_day', 'at', '1 year');
CALL job_run('day');
SELECT relid FROM pg_partition_tree('by_day');
-- detached, and dropped when its time has come, unless it is held
SELECT relation, state, handled FROM job_cursor;
CALL job_run('day');
SELECT count(*) FROM by_day_1;
SELECT job_hold_place('by_day', 'id = 1', 'case 1') AS hold \gset
SELECT FROM job_schedule_retention('day', NULL, 'by_day', 'at', '1 year', drop_after => '0');
CALL job_run('day');
SELECT count(*) FROM by_day_1;
SELECT job_hold_release(:hold);
CALL job_run('day');
SELECT to_regclass('by_day_1'), count(*) AS slices FROM job_cursor;
-- one that was attached again is a partition as before, and one that was
-- renamed is somebody's own
CREATE TABLE by_day_1 PARTITION OF by_day FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
CREATE TABLE by_day_3 PARTITION OF by_day FOR VALUES FROM ('2020-02-01') TO ('2020-03-01');
INSERT INTO by_day SELECT i, '2020-01-15' FROM generate_series(1, 20) i;
INSERT INTO by_day VALUES (0, '2020-02-15');
CALL job_run('day');
ALTER TABLE by_day ATTACH PARTITION by_day_1 FOR VALUES FROM ('2020-01-01') TO ('2199-02-01');
ALTER TABLE by_day_3 RENAME TO mine;
UPDATE by_day SET at = '2199-01-01' WHERE id > 15;
CALL job_run('day');
SELECT tableoid::regclass, count(*) FROM by_day GROUP BY 1;
SELECT count(*) FROM mine;
SELECT count(*) AS slices FROM job_cursor;

-- what speaks against taking a partition as a whole: then its rows go, to the
-- same effect
CREATE TABLE evidence (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE evidence_1 PARTITION OF evidence FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT FROM job_schedule_retention('evidence', NULL, 'evidence', 'at', '1 year', partitions => 'drop');
SELECT * FROM pg_temp.methods('evidence');
BEGIN; CREATE VIEW v AS SELECT * FROM evidence_1; SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; CREATE PUBLICATION p FOR TABLE evidence; SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; CREATE PUBLICATION p FOR TABLE evidence WITH (publish = 'insert'); SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; CREATE TRIGGER t BEFORE DELETE ON evidence FOR EACH ROW EXECUTE FUNCTION refuse(); SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; CREATE TRIGGER t AFTER DELETE ON evidence EXECUTE FUNCTION refuse(); SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; CREATE TRIGGER t AFTER INSERT ON evidence EXECUTE FUNCTION refuse(); SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; CREATE RULE r AS ON DELETE TO evidence_1 DO INSTEAD NOTHING; SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; CREATE TABLE refers (id int, at date, FOREIGN KEY (id, at) REFERENCES evidence); SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; SELECT FROM job_hold_place('evidence', 'id = 1', 'case 2'); SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
BEGIN; CREATE TABLE evidence_2 PARTITION OF evidence FOR VALUES FROM ('2020-03-01') TO ('2020-04-01'); SELECT FROM job_hold_place('evidence_2', NULL, 'case 3'); SELECT * FROM pg_temp.methods('evidence'); ROLLBACK;
SELECT FROM job_schedule_retention('evidence', NULL, 'evidence', 'at', '1 year', partitions => 'rows');
SELECT * FROM pg_temp.methods('evidence');
INSERT INTO evidence SELECT i, '2020-01-15' FROM generate_series(1, 5) i;
SELECT job_hold_place('evidence', 'id = 1', 'case 4') AS hold \gset
SELECT FROM job_schedule_retention('evidence', NULL, 'evidence', 'at', '1 year', partitions => 'drop');
CALL job_run('evidence');
SELECT * FROM evidence_1;
SELECT job_hold_release(:hold);
CALL job_run('evidence');
SELECT to_regclass('evidence_1');
-- a rule for one partition leaves it a partition
CREATE TABLE evidence_1 PARTITION OF evidence FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
SELECT FROM job_schedule_retention('evidence', NULL, 'evidence_1', 'at', '1 year', partitions => 'drop');
SELECT * FROM pg_temp.methods('evidence');
-- other actions want the rows
SELECT FROM job_schedule_retention('evidence', NULL, 'evidence', 'at', '1 year', action => 'update', set => 'id = 0', partitions => 'drop');
SELECT * FROM pg_temp.methods('evidence');
-- somebody else's partition is not for the job's owner to detach
CREATE ROLE regress_janitor_owner LOGIN;
GRANT ALL ON SCHEMA public TO regress_janitor_owner;
SELECT FROM job_schedule_retention('evidence', NULL, 'evidence', 'at', '1 year', partitions => 'drop');
ALTER TABLE evidence OWNER TO regress_janitor_owner;
GRANT ALL ON evidence_1 TO regress_janitor_owner;
SELECT FROM job_schedule_retention('evidence', NULL, 'evidence', 'at', '1 year', partitions => 'drop', owner => 'regress_janitor_owner');
SELECT * FROM pg_temp.methods('evidence');

DROP EXTENSION pg_janitor CASCADE;
DROP TABLE by_time, by_list, by_epoch, family, by_day, mine, evidence CASCADE;
DROP FUNCTION refuse();
DROP OWNED BY regress_janitor_owner;
DROP ROLE regress_janitor_owner;
