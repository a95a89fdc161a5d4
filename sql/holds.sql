--
-- Legal holds: who may place them, on what, and what is kept of them.
-- What they do to rules is tested in retention.sql and t/isolation.
--
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION pg_janitor;
CREATE ROLE regress_janitor_owner;
CREATE ROLE regress_janitor_lawyer IN ROLE regress_janitor_owner;
CREATE ROLE regress_janitor_stranger;
CREATE SCHEMA regress_janitor AUTHORIZATION regress_janitor_owner;
SET ROLE regress_janitor_owner;
CREATE TABLE regress_janitor.invoice (id int PRIMARY KEY, customer int, "Paid" boolean);
CREATE TABLE regress_janitor."Mixed Case" (id int);
CREATE VIEW regress_janitor.paid AS SELECT * FROM regress_janitor.invoice WHERE "Paid";
CREATE FUNCTION regress_janitor.disputed(id int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT id = 7';
RESET ROLE;
CREATE TABLE secret (customer int);

-- nobody may until told so
SET ROLE regress_janitor_lawyer;
SELECT job_hold_place('regress_janitor.invoice', NULL, 'case 1');
SELECT job_hold_release(1);
RESET ROLE;
SELECT job_grant('regress_janitor_lawyer'), job_grant('regress_janitor_stranger');
GRANT USAGE ON SCHEMA regress_janitor TO regress_janitor_stranger;

-- placing: names are looked up now, and stored as what they are
SET ROLE regress_janitor_lawyer;
SET search_path = regress_janitor, public;
SELECT job_hold_place('invoice', 'customer = 42 AND disputed(id)', 'case 1', 'infinity');
SELECT job_hold_place('invoice', reason => 'case 2');
SELECT job_hold_place('"Mixed Case"', 'r.id IN (SELECT i.id FROM invoice i)', 'case 3', '2099-01-01');
RESET search_path;
SELECT id, relation, predicate, reason, until AT TIME ZONE 'UTC' AS until, in_force, released_by FROM job_holds ORDER BY id;

-- what cannot be
SELECT job_hold_place(NULL, NULL, 'case 4');
SELECT job_hold_place('regress_janitor.invoice', NULL);
SELECT job_hold_place('regress_janitor.invoice', NULL, E' \n');
SELECT job_hold_place('regress_janitor.invoice', NULL, 'case 4', now());
SELECT job_hold_place('regress_janitor.nothing', NULL, 'case 4');
SELECT job_hold_place('regress_janitor.paid', NULL, 'case 4');
SELECT job_hold_place('regress_janitor.invoice', 'costomer = 1', 'case 4');
SELECT job_hold_place('regress_janitor.invoice', 'customer', 'case 4');
SELECT job_hold_place('regress_janitor.invoice', 'true); DROP TABLE regress_janitor.invoice; --', 'case 4');
SELECT job_hold_place('regress_janitor.invoice', 'random() < 0.5', 'case 4');
-- its owner could not read that either
SELECT job_hold_place('regress_janitor.invoice', 'customer IN (SELECT s.customer FROM public.secret s)', 'case 4');
BEGIN READ ONLY;
SELECT job_hold_place('regress_janitor.invoice', NULL, 'case 4');
ROLLBACK;
SELECT count(*) FROM job_holds;

-- for strangers there is nothing here, and nothing to be done
SET ROLE regress_janitor_stranger;
SELECT * FROM job_holds;
SELECT job_hold_place('regress_janitor.invoice', NULL, 'case 4');
SELECT job_hold_release(1);
RESET ROLE;

-- releasing, once; the row stays
SET ROLE regress_janitor_owner;
SELECT count(*) FROM job_holds;
SET ROLE regress_janitor_lawyer;
SELECT job_hold_release(1);
\set VERBOSITY terse
SELECT job_hold_release(1);
SELECT job_hold_release(99);
SELECT job_hold_release(NULL);
\set VERBOSITY default
BEGIN;
SELECT job_hold_release(2);
ROLLBACK;
SELECT id, in_force, released_by = session_user AS by_me, released_at > placed_at AS later FROM job_holds ORDER BY id;

-- each is in job_change, under no job's name
RESET ROLE;
SELECT job_name, action, changed_by = session_user AS by_me, before - 'placed_at' - 'placed_by' AS before,
	   after - 'placed_at' - 'placed_by' - 'released_at' - 'released_by' AS after
FROM job_change ORDER BY id;

-- a table that is renamed keeps its holds, and one that is gone does no harm
SET ROLE regress_janitor_owner;
ALTER TABLE regress_janitor."Mixed Case" RENAME TO plain;
SELECT id, relation, in_force FROM job_holds WHERE reason = 'case 3';
DROP TABLE regress_janitor.plain;
SELECT count(*) FROM job_holds WHERE reason = 'case 3';
RESET ROLE;
SELECT id, in_force FROM job_holds WHERE reason = 'case 3';
-- it stays the affair of whoever owned the table
SET ROLE regress_janitor_stranger;
SELECT job_hold_release(3);
SET ROLE regress_janitor_lawyer;
SELECT job_hold_release(3);
RESET ROLE;

DROP TABLE secret;
DROP EXTENSION pg_janitor;
DROP OWNED BY regress_janitor_lawyer, regress_janitor_stranger;
DROP SCHEMA regress_janitor CASCADE;
DROP ROLE regress_janitor_owner, regress_janitor_lawyer, regress_janitor_stranger;
