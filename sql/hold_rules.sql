--
-- Legal holds and rules: what is held stays, however it is reached.
--
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE EXTENSION pg_janitor;

-- on the table itself, and NULL does not hold
CREATE TABLE doc (id int PRIMARY KEY, customer int, at timestamptz);
INSERT INTO doc SELECT i, nullif(i % 5, 0), '2020-01-01' FROM generate_series(1, 10) i;
SELECT FROM job_schedule_retention('doc', NULL, 'doc', 'at', '1 year');
SELECT job_hold_place('doc', 'customer = 1', 'case 1') AS hold \gset
CALL job_run('doc');
SELECT id FROM doc ORDER BY id;
CALL job_run('doc');
SELECT job_hold_release(:hold);
CALL job_run('doc');
SELECT count(*) FROM doc;

-- until a time
INSERT INTO doc VALUES (1, 1, '2020-01-01');
SELECT job_hold_place('doc', NULL, 'case 2') AS hold \gset
CALL job_run('doc');
UPDATE job_hold SET until = clock_timestamp() WHERE id = :hold;
CALL job_run('doc');

-- placed under another name
INSERT INTO doc VALUES (1, 1, '2020-01-01');
SELECT job_hold_place('doc', NULL, 'case 3') AS hold \gset
ALTER TABLE doc RENAME TO document;
SELECT FROM job_schedule_retention('document', NULL, 'document', 'at', '1 year');
CALL job_run('document');
SELECT job_hold_release(:hold);
CALL job_run('document');

-- rows that would take held rows along, or change them: by keys of several
-- columns, over several tables, in partitions of either side
CREATE TABLE customer (region text, id int, at date, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE customer_eu PARTITION OF customer FOR VALUES IN ('eu');
CREATE TABLE customer_us PARTITION OF customer FOR VALUES IN ('us');
CREATE TABLE orders (id int PRIMARY KEY, region text, customer int,
	FOREIGN KEY (region, customer) REFERENCES customer ON DELETE CASCADE) PARTITION BY RANGE (id);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100);
CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (100) TO (200);
CREATE TABLE note (id int, order_id int REFERENCES orders ON DELETE SET NULL, word text);
CREATE TABLE other (region text, customer int, FOREIGN KEY (region, customer) REFERENCES customer);
INSERT INTO customer SELECT r, i, '2020-01-01' FROM unnest('{eu,us}'::text[]) r, generate_series(1, 9) i;
INSERT INTO orders VALUES (1, 'eu', 1), (2, 'us', 2), (103, 'eu', 3), (104, 'us', 4), (5, 'eu', 5), (106, 'us', 6);
INSERT INTO note VALUES (1, 1, 'free'), (2, 2, 'held'), (3, 103, 'free'), (4, NULL, 'held');
SELECT FROM job_hold_place('note', $$word = 'held'$$, 'case 4');
SELECT FROM job_hold_place('orders_2', 'r.customer = 6', 'case 5');
SELECT FROM job_hold_place('customer_eu', 'id = 8', 'case 6');
SELECT FROM job_hold_place('customer', 'id = 9', 'case 7');
SELECT FROM job_hold_place('other', NULL, 'no reference acts');
SELECT FROM job_schedule_retention('customer', NULL, 'customer', 'at', '1 year');
CALL job_run('customer');
SELECT region, id FROM customer ORDER BY 1, 2;
SELECT id FROM orders ORDER BY 1;
SELECT * FROM note ORDER BY 1;

-- an update that touches no key leaves others alone
CREATE TABLE person (id int PRIMARY KEY, name text, at date);
CREATE TABLE letter (person int REFERENCES person ON DELETE CASCADE ON UPDATE RESTRICT);
INSERT INTO person SELECT i, 'n', '2020-01-01' FROM generate_series(1, 3) i;
INSERT INTO letter VALUES (1);
SELECT FROM job_hold_place('letter', NULL, 'case 8');
SELECT FROM job_hold_place('person', 'id = 2', 'case 9');
SELECT FROM job_schedule_retention('person', NULL, 'person', 'at', '1 year', action => 'update', set => 'name = NULL');
CALL job_run('person');
SELECT id, name FROM person ORDER BY id;

-- tables that refer to themselves, and to each other: cycles of rows too
CREATE TABLE thread (id int PRIMARY KEY, reply_to int REFERENCES thread ON DELETE CASCADE, at date);
INSERT INTO thread SELECT i, NULL, '2020-01-01' FROM generate_series(1, 9) i;
UPDATE thread SET reply_to = CASE id WHEN 2 THEN 1 WHEN 3 THEN 2 WHEN 5 THEN 4 WHEN 6 THEN 7 WHEN 7 THEN 6 WHEN 8 THEN 9 WHEN 9 THEN 8 END;
SELECT FROM job_hold_place('thread', 'id IN (3, 7)', 'case 10');
SELECT FROM job_schedule_retention('thread', NULL, 'thread', 'at', '1 year');
CALL job_run('thread');
SELECT id FROM thread ORDER BY id;
CREATE TABLE a (id int PRIMARY KEY, b int, at date);
CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE);
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b ON DELETE CASCADE;
INSERT INTO a SELECT i, NULL, '2020-01-01' FROM generate_series(1, 5) i;
INSERT INTO b VALUES (11, 1), (12, 2), (14, 4);
UPDATE a SET b = 11 WHERE id = 2;
UPDATE a SET b = 14 WHERE id = 5;
SELECT FROM job_hold_place('b', 'id = 12', 'case 11');
SELECT FROM job_schedule_retention('a', NULL, 'a', 'at', '1 year');
CALL job_run('a');
SELECT id FROM a ORDER BY id;

-- a stranger's predicate does not run with the rights of the job: all rows of
-- his table count
CREATE ROLE regress_janitor_owner LOGIN;
CREATE ROLE regress_janitor_stranger;
CREATE SCHEMA regress_janitor;
GRANT ALL ON SCHEMA regress_janitor TO regress_janitor_owner, regress_janitor_stranger;
SET ROLE regress_janitor_owner;
CREATE TABLE regress_janitor.parent (id int PRIMARY KEY, at date);
INSERT INTO regress_janitor.parent SELECT i, '2020-01-01' FROM generate_series(1, 3) i;
GRANT REFERENCES ON regress_janitor.parent TO regress_janitor_stranger;
SET ROLE regress_janitor_stranger;
CREATE FUNCTION regress_janitor.trap() RETURNS boolean LANGUAGE plpgsql STABLE AS
	$$ BEGIN RAISE 'this runs as %', current_user; END $$;
CREATE TABLE regress_janitor.child (id int REFERENCES regress_janitor.parent ON DELETE CASCADE);
INSERT INTO regress_janitor.child VALUES (2);
RESET ROLE;
SELECT FROM job_hold_place('regress_janitor.child', 'regress_janitor.trap()', 'case 12');
SELECT FROM job_schedule_retention('parent', NULL, 'regress_janitor.parent', 'at', '1 year', owner => 'regress_janitor_owner', max_attempts => 1);
-- without the right to see whether there are any, nothing is touched
\set VERBOSITY terse
CALL job_run('parent');
GRANT SELECT ON regress_janitor.child TO regress_janitor_owner;
CALL job_run('parent');
SELECT id FROM regress_janitor.parent ORDER BY id;
-- nor can row security hide what is held
ALTER TABLE regress_janitor.child ENABLE ROW LEVEL SECURITY;
CALL job_run('parent');
\set VERBOSITY default

-- jobs of SQL do what they say
SELECT FROM job_schedule('sql', NULL, 'DELETE FROM thread');
CALL job_run('sql');

DROP EXTENSION pg_janitor CASCADE;
DROP TABLE document, customer, orders, note, other, person, letter, thread, a, b;
DROP SCHEMA regress_janitor CASCADE;
DROP ROLE regress_janitor_owner, regress_janitor_stranger;
