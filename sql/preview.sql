--
-- job_preview(): what a run would do, rule by rule and partition by partition,
-- for whoever may act for the job's owner; it changes nothing.
--
SET client_min_messages = error;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE EXTENSION pg_janitor;
CREATE ROLE regress_janitor_a LOGIN;
CREATE ROLE regress_janitor_b LOGIN;
GRANT CREATE ON SCHEMA public TO regress_janitor_a;
SELECT job_grant('regress_janitor_a'), job_grant('regress_janitor_b');
SET ROLE regress_janitor_a;
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int, customer_id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE orders_2019 PARTITION OF orders FOR VALUES FROM ('2019-01-01') TO ('2020-01-01');
CREATE TABLE orders_2020 PARTITION OF orders FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
CREATE INDEX ON orders (at);
CREATE TABLE item (id int, order_id int, order_at timestamptz, FOREIGN KEY (order_id, order_at) REFERENCES orders ON DELETE CASCADE);
CREATE TABLE remark (item_id int, order_id int, order_at timestamptz, FOREIGN KEY (order_id, order_at) REFERENCES orders ON DELETE SET NULL);
CREATE TABLE invoice (order_id int, order_at timestamptz, FOREIGN KEY (order_id, order_at) REFERENCES orders);
INSERT INTO orders SELECT i, i % 5, '2019-06-01'::timestamptz + i * interval '1 day' FROM generate_series(1, 10) i;
INSERT INTO orders SELECT i, i % 5, CASE WHEN i <= 40 THEN '2020-06-01'::timestamptz + i * interval '1 day' ELSE now() END FROM generate_series(11, 300) i;
INSERT INTO item SELECT o.id * 10 + i, o.id, o.at FROM orders o, generate_series(0, 2) i WHERE o.id <= 20;
INSERT INTO remark SELECT id, id, at FROM orders WHERE id <= 5;
ANALYZE orders, item;

-- the whole of it
SELECT job_schedule_retention('orders', NULL, 'orders', 'at', '1 year') IS NULL AS on_demand;
SELECT job_set_rule('orders', 'some', 'orders', expired_when => 'r.customer_id = 4', action => 'update', set => 'customer_id = 0');
\x
SELECT rule, relation, action, method, abs(extract(epoch FROM now() - interval '1 year' - cutoff)) < 60 AS cutoff, rows, counted, held, cascaded, oldest, newest, index_used, warnings
FROM job_preview('orders', exact => true);
\x
-- as the planner believes
SELECT relation, method, counted, rows BETWEEN 1 AND 60 AS rows, cascaded > 0 AS cascaded, oldest FROM job_preview('orders') WHERE rule = 'main';

-- held rows, and those that others hold
SELECT job_hold_place('orders', 'r.id IN (1, 2, 11, 12, 13, 290)', 'case 1') > 0 AS placed;
SELECT job_hold_place('item', 'r.id % 10 = 0 AND r.id > 130', 'case 2') > 0 AS placed;
SELECT rule, relation, method, rows, held, cascaded, oldest, newest FROM job_preview('orders', exact => true);
-- it is what is done
SELECT count(*) FROM orders;
CALL job_run('orders');
SELECT result #> '{rules,main,rows}' AS main, result #> '{rules,some,rows}' AS some FROM job_runs;
SELECT tableoid::regclass, count(*), min(at), count(*) FILTER (WHERE at < now() - interval '1 year') AS held FROM orders GROUP BY 1 ORDER BY 1;
SELECT rule, relation, rows, held, cascaded FROM job_preview('orders', exact => true);

-- it changes nothing and takes no lock but those of SELECT, in a transaction
-- that is read-only
BEGIN TRANSACTION READ ONLY;
SELECT count(*) FROM job_preview('orders', exact => true);
SELECT string_agg(DISTINCT mode, ', ') AS modes FROM pg_locks
WHERE pid = pg_backend_pid() AND relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ '^job_');
SELECT pg_current_xact_id_if_assigned() IS NULL AS untouched;
COMMIT;
-- so that it is there beside whoever writes, and before a definition is
-- committed
BEGIN;
SELECT job_schedule_retention('new', '@daily', 'item', 'order_at', '1 year') IS NOT NULL AS scheduled;
SELECT relation, rows FROM job_preview('new', exact => true);
ROLLBACK;
SELECT job_preview('new');

-- as the owner, whoever asks
CREATE FUNCTION who(int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE 'called as %', current_user; END $$;
SELECT job_set_rule('orders', 'some', 'orders', expired_when => 'r.customer_id = 77');
RESET ROLE;
UPDATE job_rule SET expired_when = 'who(r.id)' WHERE rule = 'some';
SELECT count(*) FROM job_preview('orders', exact => true);
SET ROLE regress_janitor_b;
SELECT count(*) FROM job_preview('orders');
RESET ROLE;
UPDATE job_rule SET expired_when = 'r.customer_id = 77' WHERE rule = 'some';
GRANT regress_janitor_a TO regress_janitor_b;
SET ROLE regress_janitor_b;
SELECT count(*) FROM job_preview('orders');
RESET ROLE;

-- jobs that have no rules
SELECT job_schedule('sql', NULL, 'SELECT 1');
SELECT job_preview('sql');
SELECT job_preview('order');
SELECT job_preview(NULL);

-- what is missing, and what it is missing for
SET ROLE regress_janitor_a;
CREATE TABLE big (id int PRIMARY KEY, at timestamptz);
INSERT INTO big SELECT i, '2020-01-01' FROM generate_series(1, 20000) i;
CREATE TABLE child (big_id int REFERENCES big ON DELETE CASCADE);
INSERT INTO child SELECT i FROM generate_series(1, 2000) i;
ANALYZE big, child;
SELECT job_schedule_retention('big', NULL, 'big', 'at', '1 year', filter => 'r.id <= 100') IS NULL AS on_demand;
SELECT index_used, rows, cascaded, warnings FROM job_preview('big', exact => true);
CREATE INDEX ON big (at);
CREATE INDEX ON child (big_id);
SELECT index_used, rows, cascaded, warnings FROM job_preview('big', exact => true);
RESET ROLE;

DROP EXTENSION pg_janitor CASCADE;
DROP TABLE customer, orders, item, remark, invoice, big, child;
DROP FUNCTION who(int);
DROP OWNED BY regress_janitor_a, regress_janitor_b;
DROP ROLE regress_janitor_a, regress_janitor_b;
