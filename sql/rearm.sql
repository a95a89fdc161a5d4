--
-- Jobs that were made in another database are disarmed, until job_rearm().
-- Restores and copies proper: t/036_copies.pl, t/037_dump.pl.
--
CREATE EXTENSION pg_janitor;
SET client_min_messages = error;	-- jobs of a superuser
CREATE ROLE regress_janitor_owner LOGIN;
CREATE ROLE regress_janitor_other LOGIN;
CREATE ROLE regress_janitor_worker LOGIN;
SELECT job_grant('regress_janitor_owner');
SELECT job_grant('regress_janitor_other', 'operate');
CREATE TABLE done (job text);
GRANT ALL ON done TO regress_janitor_owner, regress_janitor_other;
SELECT job_schedule(n, '0 0 29 2 *', format('INSERT INTO done VALUES (%L)', n), owner => o) IS NOT NULL AS scheduled
FROM (VALUES ('a', 'regress_janitor_owner'), ('b', 'regress_janitor_owner'), ('c', 'regress_janitor_other'),
	('here', 'regress_janitor_owner')) x (n, o);
SELECT job_schedule_external('mail', '0 0 29 2 *', owner => 'regress_janitor_owner') IS NOT NULL AS scheduled;
SELECT count(*) AS armed FROM job_definition
WHERE home = (SELECT last_value FROM job_home) AND environment = ''
  AND home_database = (SELECT oid FROM pg_database WHERE datname = current_database());
RESET client_min_messages;

-- a copy of the database has another OID; all but one job came with it
UPDATE job_definition SET home_database = 1 WHERE name <> 'here';
SELECT job_name, health, health_detail, overdue FROM job_status ORDER BY 1;
SELECT check_name, detail, hint FROM job_why('a') WHERE NOT ok;
SELECT * FROM job_why('here') WHERE check_name = 'armed';

-- what is triggered waits, and it is said each time
SELECT job_trigger('a') AS a \gset
SELECT job_trigger('a', key => 'k') AS k \gset
SELECT job_trigger('a', key => 'k') = :k AS same;
SELECT job_trigger('mail') > 0 AS queued;
SELECT count(*) AS claimed FROM job_claim('mail');
SELECT job_trigger('here') AS here \gset
SELECT job_wait(:here);
SELECT job_wait(:a, '0'), job_wait(:k, '0');
SELECT job FROM done;
SELECT job_name, waiting FROM job_status WHERE waiting > 0 ORDER BY 1;

-- defined again, changed, enabled: it stays disarmed, without a next run
SELECT job_schedule('a', '0 0 29 2 *', 'INSERT INTO done VALUES (''a'')') AS next_run;
SELECT job_schedule('a', '0 0 28 2 *', 'INSERT INTO done VALUES (''a'')') AS next_run;
SELECT job_alter('a', '{"priority": 1}') AS next_run;
SELECT job_disable('a');
SELECT job_enable('a') AS next_run;
SELECT home_database FROM job_definition WHERE name = 'a';
SELECT count(*) AS entries FROM job_queue WHERE job_name = 'a' AND key = '@schedule';

-- who may: whoever may define the job
\set VERBOSITY terse
SET ROLE regress_janitor_other;
SELECT job_rearm();
RESET ROLE;
SET ROLE regress_janitor_owner;
SELECT job_rearm('c');
SELECT job_rearm('bb');
BEGIN READ ONLY;
SELECT job_rearm();
ROLLBACK;
SELECT job_rearm('a');
SELECT job_rearm('a');
SELECT job_rearm();
SELECT job_rearm();
RESET ROLE;
\set VERBOSITY default
SELECT job_wait(:a), job_wait(:k);
SELECT job_name, health, next_run IS NOT NULL AS next_run FROM job_status ORDER BY 1;
SELECT job, count(*) FROM done GROUP BY job ORDER BY job;
SELECT count(*) AS claimed FROM job_claim('mail');
SELECT job_name, changed_by = session_user AS by_me, before->>'home_database' AS before FROM job_change
WHERE action = 'rearm' ORDER BY job_name COLLATE "C";
SELECT job_rearm();
SELECT job_rearm();

-- armed in another environment; the guard does not matter there
UPDATE job_definition SET environment = 'prod' WHERE name = 'c';
SELECT health, health_detail FROM job_status WHERE job_name = 'c';
SELECT job_rearm('c');
UPDATE job_definition SET environment = NULL, home = NULL, home_database = NULL WHERE name = 'c';
SELECT health, health_detail FROM job_status WHERE job_name = 'c';
SELECT job_rearm('c');

--
-- From a dump: no OID is what it was.
--
CREATE TABLE thing (id int PRIMARY KEY, at timestamptz);
ALTER TABLE thing OWNER TO regress_janitor_owner;
SET client_min_messages = warning;
SELECT job_schedule_retention('purge', NULL, 'thing', 'at', '1 day', owner => 'regress_janitor_owner');
RESET client_min_messages;
SELECT job_set_circuit('smtp', owner => 'regress_janitor_owner');
SELECT job_alter('mail', '{"circuit": "smtp"}') IS NOT NULL AS scheduled;
SELECT job_grant('regress_janitor_worker', 'work', 'mail');
UPDATE job_definition SET home = 1, owner_oid = 1;
UPDATE job_circuit SET owner_oid = 1;
UPDATE job_work SET role_oid = 1;
UPDATE job_definition SET owner = 'regress_janitor_gone' WHERE name = 'b';
INSERT INTO job_cursor (job_name, rule, execution_id, relation, relfilenode, method, state)
	VALUES ('purge', 'main', 1, 'public.thing', 1, 'blocks', 'open'),
		   ('purge', 'main', 1, 'public.thing_1', 2, 'partition', 'detached');
DROP TABLE thing;
SELECT job_name, health, health_detail FROM job_status ORDER BY 1;

-- names are not enough for somebody who could have chosen his own
SET ROLE regress_janitor_owner;
SELECT job_rearm();
SELECT count(*) FROM job_status;
RESET ROLE;
SELECT job_rearm();
SELECT name, owner_oid = to_regrole(owner) AS found FROM job_definition ORDER BY name;
SELECT owner_oid::regrole FROM job_circuit;
SELECT role_oid::regrole, granted_by = session_user AS by_me FROM job_work;
SELECT relation, state FROM job_cursor;
SELECT job_name, health FROM job_status ORDER BY 1;
SET ROLE regress_janitor_owner;
SELECT count(*) FROM job_status;
RESET ROLE;

-- a legal hold is on the table that has its name; an OID from elsewhere could
-- be anybody's
CREATE TABLE held (id int);
CREATE TABLE other (id int);
SELECT job_hold_place('held', reason => 'case 1') AS hold \gset
UPDATE job_hold SET relation_oid = 'other'::regclass, home = 1;
ALTER TABLE other OWNER TO regress_janitor_owner;
SET ROLE regress_janitor_owner;
SELECT count(*) AS holds FROM job_holds;
SELECT job_hold_release(:hold);
RESET ROLE;
SELECT job_hold_release(:hold);
SELECT in_force FROM job_holds;

DROP TABLE done, held, other;
SELECT job_revoke('regress_janitor_owner'), job_revoke('regress_janitor_other', 'operate'),
	   job_revoke('regress_janitor_worker', 'work', 'mail');
DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_owner, regress_janitor_other, regress_janitor_worker;
