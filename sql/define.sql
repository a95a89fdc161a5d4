--
-- Defining, changing and removing jobs.  None of these jobs ever runs.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_a LOGIN;
CREATE ROLE regress_janitor_b LOGIN;

-- everything at its default
SELECT job_schedule('purge', '0 0 29 2 *', 'DELETE FROM t', owner => 'regress_janitor_a')
	= (SELECT job_next_runs('0 0 29 2 *', count => 1)) AS next_run_returned;
SELECT name, kind, description, tags, schedule, time_zone, command, args,
	   settings, owner, owner_oid = 'regress_janitor_a'::regrole AS oid, enabled
FROM job_definition;
SELECT run_on_start, run_after, on_failure, catch_up, catch_up_within,
	   max_running, overlap, timeout, max_attempts, retry_delay,
	   retry_max_delay, jitter, priority, keep_history, keep_runs,
	   paused_by, paused_reason, paused_until, version,
	   created_at = updated_at AS just_created
FROM job_definition;

-- one schedule entry, there at once
SELECT execution_id, job_name, run_at = scheduled_for AS unshifted, reason,
	   attempt, key
FROM job_queue;

-- the same again writes nothing
SELECT xmin AS before FROM job_definition \gset
SELECT xmin AS queue_before FROM job_queue \gset
SELECT job_schedule('purge', '0 0 29 2 *', 'DELETE FROM t') IS NOT NULL AS scheduled;
SELECT job_schedule('purge', '0 0 29 2 *', 'DELETE FROM t', owner => 'regress_janitor_a',
					enabled => true, options => '{"timeout": null, "keep_runs": 10000}') IS NOT NULL AS scheduled;
SELECT xmin = :'before' AS untouched, version FROM job_definition;
SELECT xmin = :'queue_before' AS untouched FROM job_queue;
SELECT count(*) FROM job_change;

-- options by name and by key
SELECT job_schedule('purge', '0 0 29 2 *', 'DELETE FROM t', 'old rows', '{daily,cheap}',
					timeout => '5 minutes', settings => '{"work_mem": "64MB", "enable_seqscan": false, "my.depth": 3}',
					options => '{"keep_runs": 50, "overlap": "queue", "retry_delay": "1 minute", "args": {"n": 1}}') IS NOT NULL AS scheduled;
SELECT description, tags, timeout, settings - 'search_path' AS settings, keep_runs, overlap,
	   retry_delay, args, version
FROM job_definition;
-- the entry was not touched by that
SELECT xmin = :'queue_before' AS untouched FROM job_queue;

-- options not given return to their defaults; owner and enabled stay
SELECT job_disable('purge');
SELECT job_schedule('purge', '0 0 29 2 *', 'DELETE FROM t') IS NULL AS not_scheduled;
SELECT description, tags, timeout, keep_runs, overlap, args, owner, enabled, version
FROM job_definition;
SELECT count(*) FROM job_queue;
SELECT job_enable('purge') AS next_run \gset
SELECT run_at = :'next_run' AS next_run_returned FROM job_queue;
SELECT job_enable('purge') IS NOT NULL AS unchanged;
SELECT job_schedule('purge', '0 0 29 2 *', 'DELETE FROM t', enabled => false);
SELECT job_schedule('purge', '0 0 29 2 *', 'DELETE FROM t', enabled => true) IS NOT NULL AS scheduled;

-- a new schedule moves the one entry, which is one row for life
SELECT id AS entry FROM job_queue \gset
SELECT job_alter('purge', '{"schedule": "0 12 29 2 *", "time_zone": "Asia/Tokyo"}')
	= (SELECT job_next_runs('0 12 29 2 *', 'Asia/Tokyo', count => 1)) AS next_run_returned;
SELECT id = :entry AS same_entry, scheduled_for AT TIME ZONE 'Asia/Tokyo' AS tokyo
FROM job_queue;
-- jitter shifts the run, not the occurrence
SELECT job_alter('purge', '{"jitter": "1 hour"}') AS next_run \gset
SELECT run_at = :'next_run' AS next_run_returned, id = :entry AS same_entry, scheduled_for AT TIME ZONE 'Asia/Tokyo' AS tokyo,
	   run_at - scheduled_for AS shift
FROM job_queue;
-- on demand only
SELECT job_alter('purge', '{"schedule": null, "jitter": null}');
SELECT count(*) FROM job_queue;
SELECT job_alter('purge', '{"schedule": "@reboot"}');
SELECT count(*) FROM job_queue;

-- job_alter changes what it names, and nothing else
SELECT job_alter('purge', '{"timeout": "90 seconds", "tags": ["a", "b"], "max_running": 2, "settings": {"work_mem": "1MB"}}');
SELECT tags, timeout, max_running, settings, schedule, command, version FROM job_definition;
SELECT job_alter('purge', '{"timeout": "90 seconds"}');
SELECT job_alter('purge', '{}');
SELECT version FROM job_definition;

-- the number of attempts follows from the schedule
SELECT count(job_schedule('attempts ' || s, s, 'SELECT 1', owner => 'regress_janitor_a'))
FROM unnest('{@daily,@weekly,@hourly,0 3 * * MON-FRI,every 2 days,every 1 day}'::text[]) s;
SELECT schedule, max_attempts FROM job_definition WHERE name LIKE 'attempts %' ORDER BY name;
SELECT count(job_unschedule(name)) FROM job_definition WHERE name LIKE 'attempts %';

-- the log of changes
SELECT action, changed_by = session_user AS by_me, before ->> 'version' AS before, after ->> 'version' AS after
FROM job_change WHERE job_name = 'purge' ORDER BY id;

-- names
\set VERBOSITY terse
SELECT job_schedule(NULL, NULL, 'SELECT 1');
SELECT job_schedule('', NULL, 'SELECT 1');
SELECT job_schedule(E'a\nb', NULL, 'SELECT 1');
SELECT job_schedule(repeat('x', 129), NULL, 'SELECT 1');
SELECT job_schedule(repeat('é', 128), NULL, 'SELECT 1', owner => 'regress_janitor_a');
SELECT job_unschedule(repeat('é', 128));

-- commands
SELECT job_schedule('bad', NULL, NULL);
SELECT job_schedule('bad', NULL, ' -- nothing');
SELECT job_schedule('bad', NULL, 'DELETE FROM t; COMMIT');
SELECT job_schedule('bad', NULL, 'SAVEPOINT s');
SELECT job_schedule('bad', NULL, 'COPY t FROM STDIN');
SELECT job_schedule('bad', NULL, 'COPY t TO STDOUT');
\set VERBOSITY default
SELECT job_schedule('bad', NULL, 'DELETE FROM t; DELET FROM u');
\set VERBOSITY terse
-- not looked up before it runs
SELECT job_schedule('good', NULL, 'VACUUM no_such_table', owner => 'regress_janitor_a');
SELECT job_unschedule('good');

-- schedules and zones
SELECT job_schedule('bad', '0 61 * * * *', 'SELECT 1');
SELECT job_schedule('bad', '0 0 30 2 *', 'SELECT 1');
SELECT job_schedule('bad', '@daily', 'SELECT 1', time_zone => 'Europe/Berlim');
SELECT job_schedule('bad', NULL, 'SELECT 1', time_zone => 'UTC+2');

-- options
SELECT job_schedule('bad', NULL, 'SELECT 1', timeout => '0');
SELECT job_schedule('bad', NULL, 'SELECT 1', timeout => '-1 second');
SELECT job_schedule('bad', NULL, 'SELECT 1', retry_delay => '-1 second');
SELECT job_schedule('bad', NULL, 'SELECT 1', keep_history => '1001 years');
SELECT job_schedule('bad', NULL, 'SELECT 1', max_running => 0);
SELECT job_schedule('bad', NULL, 'SELECT 1', max_attempts => 0);
SELECT job_schedule('bad', NULL, 'SELECT 1', keep_runs => -1);
SELECT job_schedule('bad', NULL, 'SELECT 1', catch_up => 'twice');
SELECT job_schedule('bad', NULL, 'SELECT 1', overlap => 'wait');
SELECT job_schedule('bad', NULL, 'SELECT 1', args => '[1]');
SELECT job_schedule('bad', NULL, 'SELECT 1', tags => '{a,NULL}');
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_nobody');
SELECT job_schedule('bad', NULL, 'SELECT 1', timeout => '1 s', options => '{"timeout": "1 s"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"command": "SELECT 2"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"keep_runs": {}}');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"timeout": 30}');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"tags": "a"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"tags": [1]}');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '[]');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"name": "good"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"paused_by": "me"}');
\set VERBOSITY default
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"time_out": "1 minute"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"timeout": "1 parsec"}');
\set VERBOSITY terse

-- settings: what the owner could SET, and no more
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_a', settings => '[]');
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_a', settings => '{"work_mem": "much"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_a', settings => '{"work_mem": ["1MB"]}');
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_a', settings => '{"wrok_mem": "1MB"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_a', settings => '{"log_statement": "all"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_a', settings => '{"shared_buffers": "1GB"}');
SELECT job_schedule('bad', NULL, 'SELECT 1', owner => 'regress_janitor_a', settings => '{"role": "postgres"}');

-- search_path is what it was when the job was defined
SET search_path = pg_catalog, public;
SELECT job_schedule('path', NULL, 'SELECT 1', owner => 'regress_janitor_a');
SELECT settings FROM job_definition WHERE name = 'path';
SET search_path = public;
SELECT job_alter('path', '{"settings": {"work_mem": "2MB"}}');
SELECT settings FROM job_definition WHERE name = 'path';
SELECT job_alter('path', '{"settings": {"search_path": "public"}}');
SELECT settings FROM job_definition WHERE name = 'path';
RESET search_path;
SELECT job_unschedule('path');

-- jobs that follow jobs
SELECT job_schedule('one', NULL, 'SELECT 1', owner => 'regress_janitor_a', run_after => 'purge', on_failure => 'purge');
SELECT job_schedule('two', NULL, 'SELECT 1', owner => 'regress_janitor_a', run_after => 'one');
SELECT job_alter('two', '{"run_after": "none"}');
SELECT job_alter('two', '{"on_failure": "none"}');
SELECT job_alter('two', '{"run_after": "two"}');
SELECT job_alter('two', '{"on_failure": "two"}');
\set VERBOSITY default
SELECT job_alter('purge', '{"run_after": "two"}');
-- a parent that is gone does not keep its children from being changed
SELECT job_unschedule('one');
SELECT job_disable('two');
SELECT run_after, enabled FROM job_definition WHERE name = 'two';

-- a superuser's own job is worth a word
SELECT count(*) FROM job_definition WHERE name = 'super';
\set VERBOSITY sqlstate
SELECT job_schedule('super', NULL, 'SELECT 1');
SELECT job_alter('super', '{"priority": 1}');
SELECT job_alter('super', '{"command": "SELECT 2"}');
SET pg_janitor.allow_superuser_jobs = off;
SELECT job_alter('super', '{"priority": 2}');
SELECT job_alter('super', '{"command": "SELECT 3"}');
RESET pg_janitor.allow_superuser_jobs;
\set VERBOSITY default
SELECT job_alter('super', '{"owner": "regress_janitor_b"}');
SELECT owner, owner_oid::regrole, priority, command FROM job_definition WHERE name = 'super';

-- jobs that do not exist
SELECT job_alter('purg', '{}');
SELECT job_enable('prune');
SELECT job_disable('something else');
SELECT job_unschedule('PURGE');
SELECT job_pause('purges');
SELECT job_resume('purges');
SELECT * FROM job_why('purges');
SELECT job_alter(NULL, '{}');
SELECT job_alter('purge', NULL);
SELECT job_alter('purge', '1');

-- pausing
SELECT job_pause('purge', 'because', '2000-01-01');
SELECT job_pause('purge', 'because', '2999-12-31 00:00Z');
SELECT job_pause('purge', 'because', '2999-12-31 00:00Z');
SELECT paused_by = session_user AS by_me, paused_reason, paused_until
FROM job_definition WHERE name = 'purge';
-- a pause outlives a new definition
SELECT job_schedule('purge', NULL, 'SELECT 2');
SELECT job_name, health,
	   replace(health_detail, session_user, 'me') AS health_detail
FROM job_status ORDER BY 1;
SELECT job_pause();
SELECT count(*) FROM job_definition WHERE paused_by IS NOT NULL;
SELECT job_resume('purge');
SELECT job_resume('purge');
SELECT job_resume();
SELECT job_name, health, health_detail FROM job_status ORDER BY 1;

-- removing; the row is gone, the record stays, a rollback brings it back
BEGIN;
SELECT job_unschedule('purge');
SELECT count(*) FROM job_definition WHERE name = 'purge';
ROLLBACK;
SELECT job_unschedule('purge');
SELECT action, before ->> 'name' AS before, after FROM job_change
WHERE job_name = 'purge' ORDER BY id DESC LIMIT 1;

-- where nothing can be written
BEGIN READ ONLY;
SELECT job_schedule('bad', NULL, 'SELECT 1');
ROLLBACK;
BEGIN READ ONLY;
SELECT job_pause();
ROLLBACK;

-- several changes in one statement and in one transaction
BEGIN;
SELECT job_schedule('many', '@yearly', 'SELECT 1', owner => 'regress_janitor_a') IS NOT NULL,
	   job_alter('many', '{"schedule": "@monthly"}') IS NOT NULL,
	   job_disable('many'),
	   job_enable('many') IS NOT NULL,
	   job_pause('many');
SAVEPOINT s;
SELECT job_unschedule('many');
ROLLBACK TO s;
SELECT job_alter('many', '{"priority": 7}') IS NOT NULL;
COMMIT;
SELECT priority, schedule, version FROM job_definition WHERE name = 'many';
SELECT count(*) FROM job_queue WHERE job_name = 'many';

-- under an old snapshot the newest version counts
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM job_definition;
SELECT job_alter('many', '{"priority": 8}') IS NOT NULL;
SELECT job_alter('many', '{"priority": 9}') IS NOT NULL;
COMMIT;
SELECT priority, version FROM job_definition WHERE name = 'many';

DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_a, regress_janitor_b;
