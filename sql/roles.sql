--
-- Who may do and see what.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_nobody LOGIN;
CREATE ROLE regress_janitor_app LOGIN;
CREATE ROLE regress_janitor_other LOGIN;
CREATE ROLE regress_janitor_dev LOGIN IN ROLE regress_janitor_app;
CREATE ROLE regress_janitor_super LOGIN SUPERUSER;
SELECT job_schedule('app', '0 0 29 2 *', 'SELECT 1', owner => 'regress_janitor_app') IS NOT NULL AS scheduled;
SELECT job_schedule('other', '0 0 29 2 *', 'SELECT 1', owner => 'regress_janitor_other') IS NOT NULL AS scheduled;
SELECT job_trigger('app', run_at => '2099-01-01');
SELECT job_trigger('other', run_at => '2099-01-01');
SELECT job_trigger('app', run_at => '2099-01-01') AS id \gset
SELECT job_cancel(:id);
SELECT job_trigger('other', run_at => '2099-01-01') AS id \gset
SELECT job_cancel(:id);

-- nothing was granted: the views show nothing, the rest is closed
SET ROLE regress_janitor_nobody;
SELECT count(*) FROM job_status;
SELECT count(*) FROM job_runs;
SELECT count(*) FROM job_waiting;
SELECT count(*) FROM job_running();
\set VERBOSITY terse
SELECT * FROM job_definition;
SELECT * FROM job_queue;
SELECT * FROM job_execution;
SELECT * FROM job_change;
SELECT job_schedule('mine', NULL, 'SELECT 1');
SELECT job_trigger('app');
CALL job_run('app');
SELECT job_cancel(1);
SELECT job_next_runs('@daily');
SELECT job_grant('regress_janitor_nobody');
\set VERBOSITY default
RESET ROLE;

-- the views show what belongs to roles one is a member of
SET ROLE regress_janitor_dev;
SELECT job_name, health, waiting, owner FROM job_status;
SELECT id, job_name, status FROM job_runs;
SELECT execution_id, job_name, reason FROM job_waiting ORDER BY 1 NULLS LAST;
RESET ROLE;

-- capabilities
\set VERBOSITY terse
SELECT job_grant('regress_janitor_dev', 'everything');
SELECT job_grant('regress_janitor_nowhere');
SELECT job_grant(NULL);
\set VERBOSITY default
SELECT job_grant('regress_janitor_dev', 'operate');

SET ROLE regress_janitor_dev;
SELECT job_trigger('app', run_at => '2099-01-01', key => 'dev') AS dev \gset
SELECT job_cancel('app', 'dev');
SELECT job_pause('app'), job_resume('app');
SELECT job_wait(1, '0');
SELECT count(*) FROM job_logs();
SELECT check_name, ok FROM job_why('app') WHERE check_name IN ('owner', 'paused');
-- a job of strangers might as well not exist
SELECT job_trigger('other');
SELECT job_trigger('othr');
SELECT job_pause('other');
SELECT * FROM job_why('other');
SELECT job_cancel('other');
SELECT job_cancel(2);
SELECT job_cancel(4);
SELECT job_wait(2, '0');
SELECT job_wait(4, '0');
SELECT job_retry(4);
-- and "all" means one's own
SELECT job_pause();
SELECT job_resume();
\set VERBOSITY terse
SELECT job_schedule('mine', NULL, 'SELECT 1');
SELECT job_alter('app', '{}');
SELECT job_disable('app');
SELECT job_unschedule('app');
SELECT * FROM job_definition;
\set VERBOSITY default
RESET ROLE;

-- to define: jobs that run as roles one may act for
SELECT job_grant('regress_janitor_dev');
SET ROLE regress_janitor_dev;
SELECT job_schedule('mine', NULL, 'SELECT 1');
SELECT job_schedule('for app', NULL, 'SELECT 1', owner => 'regress_janitor_app');
SELECT owner FROM job_status WHERE job_name IN ('mine', 'for app') ORDER BY job_name;
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_other');
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_super');
SELECT job_schedule('other', NULL, 'SELECT 1');
SELECT job_alter('mine', '{"owner": "regress_janitor_other"}');
SELECT job_alter('mine', '{"owner": "regress_janitor_app"}');
SELECT job_alter('other', '{"priority": 1}');
SELECT job_unschedule('other');
SELECT job_alter('mine', '{"on_failure": "other"}');
SELECT job_alter('mine', '{"run_after": "other"}');
SELECT job_alter('mine', '{"on_failure": "app"}');
SELECT job_unschedule('mine');
RESET ROLE;

-- to observe: the tables
SELECT job_grant('regress_janitor_nobody', 'observe');
SET ROLE regress_janitor_nobody;
SELECT name, owner FROM job_definition ORDER BY name;
SELECT count(*) FROM job_queue;
SELECT count(*) FROM job_status;
SELECT check_name FROM job_why('app') LIMIT 1;
-- and nothing else, not even a lock
SELECT job_trigger('app');
BEGIN;
LOCK TABLE job_queue IN ROW EXCLUSIVE MODE;
ROLLBACK;
UPDATE job_definition SET command = 'DROP TABLE t';
RESET ROLE;

-- back to nothing
SELECT job_revoke('regress_janitor_nobody', 'observe'), job_revoke('regress_janitor_dev'),
	   job_revoke('regress_janitor_dev', 'operate');
SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a
WHERE a.grantee IN ('regress_janitor_nobody'::regrole, 'regress_janitor_dev'::regrole);
SELECT count(*) FROM pg_proc p, aclexplode(p.proacl) a
WHERE a.grantee IN ('regress_janitor_nobody'::regrole, 'regress_janitor_dev'::regrole);

-- an owner that is gone, or goes by another name: held, and nobody's to see
ALTER ROLE regress_janitor_app RENAME TO regress_janitor_renamed;
SELECT job_name, health, health_detail FROM job_status WHERE owner = 'regress_janitor_app' ORDER BY 1;
SELECT check_name, detail, hint FROM job_why('app') WHERE NOT ok;
SET ROLE regress_janitor_dev;
SELECT count(*) FROM job_status;
RESET ROLE;
SELECT job_alter('app', '{"owner": "regress_janitor_renamed"}') IS NOT NULL AS scheduled;
SELECT job_name, health FROM job_status WHERE job_name = 'app';
SET ROLE regress_janitor_dev;
SELECT count(*) FROM job_status;
RESET ROLE;

DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_nobody, regress_janitor_renamed, regress_janitor_other,
	regress_janitor_dev, regress_janitor_super;
