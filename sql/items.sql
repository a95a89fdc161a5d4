--
-- Items jobs: one subtransaction for each row of a query.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_a LOGIN;
GRANT CREATE ON SCHEMA public TO regress_janitor_a;
SELECT job_grant('regress_janitor_a');
CREATE VIEW outcome AS
	SELECT status, records_processed AS done, failed_records AS failed,
		   error_message, sqlstate, detail, result - 'receipts_head' AS result
	FROM job_execution ORDER BY id DESC LIMIT 1;
GRANT SELECT ON outcome TO regress_janitor_a;

-- accounts to be erased after a grace period: two are due, one of them cannot
-- be erased, one is in its grace period, one was erased before
SET ROLE regress_janitor_a;
CREATE TABLE "User" (id uuid PRIMARY KEY, username text NOT NULL, email text UNIQUE, deleted_at timestamptz);
CREATE TABLE "ScheduledDeletion" (user_id uuid PRIMARY KEY REFERENCES "User", delete_at timestamptz NOT NULL);
CREATE TABLE "Session" (id int PRIMARY KEY, user_id uuid NOT NULL REFERENCES "User", ip inet);
CREATE INDEX ON "Session" (user_id);
CREATE TABLE "AuditEvent" (id int PRIMARY KEY, actor_id uuid, actor_ip inet, metadata jsonb NOT NULL);
CREATE INDEX ON "AuditEvent" (actor_id);
INSERT INTO "User" (id, username, email, deleted_at) VALUES
	('00000000-0000-0000-0000-000000000001', 'due', 'a@x', NULL),
	('00000000-0000-0000-0000-000000000002', 'poison', 'b@x', NULL),
	('00000000-0000-0000-0000-000000000003', 'grace', 'c@x', NULL),
	('00000000-0000-0000-0000-000000000004', 'due2', 'd@x', NULL),
	('00000000-0000-0000-0000-000000000005', 'already', 'e@x', '2026-01-01');
INSERT INTO "ScheduledDeletion"
	SELECT id, CASE username WHEN 'grace' THEN now() + interval '6 days' ELSE now() - interval '1 hour' END FROM "User";
INSERT INTO "Session" SELECT row_number() OVER (ORDER BY id), id, '10.0.0.1' FROM "User";
INSERT INTO "AuditEvent" SELECT row_number() OVER (ORDER BY id), id, '10.0.0.1', '{"email": "x", "kept": 1}' FROM "User";
CREATE FUNCTION anonymize_user(p uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM "Session" WHERE user_id = p;
	UPDATE "AuditEvent" SET actor_ip = NULL, metadata = metadata - 'email' WHERE actor_id = p;
	UPDATE "User" SET username = 'deleted_' || left(p::text, 8), email = NULL, deleted_at = now()
	WHERE id = p AND deleted_at IS NULL;
	IF EXISTS (SELECT 1 FROM "AuditEvent" a WHERE a.actor_id = p AND a.metadata ? 'poison') THEN
		RAISE EXCEPTION 'cannot erase b@x' USING DETAIL = 'b@x', HINT = 'b@x', TABLE = 'b@x', SCHEMA = 'b@x';
	END IF;
	DELETE FROM "ScheduledDeletion" WHERE user_id = p;
END $$;
UPDATE "AuditEvent" SET metadata = metadata || '{"poison": 1}' WHERE id = 2;
SELECT job_schedule_items('deletions', NULL, $$
	SELECT d.user_id AS id, d.delete_at AS due
	FROM "ScheduledDeletion" d JOIN "User" u ON u.id = d.user_id
	WHERE d.delete_at <= now() AND u.deleted_at IS NULL
	ORDER BY d.delete_at $$,
	$$ SELECT anonymize_user(($1->>'id')::uuid) $$,
	max_attempts => 2, retry_delay => '0');
CALL job_run('deletions');
SELECT * FROM outcome;
SELECT id, username, email, deleted_at IS NOT NULL AS deleted FROM "User" ORDER BY id;
SELECT * FROM "Session" ORDER BY id;
SELECT * FROM "AuditEvent" ORDER BY id;
SELECT count(*) FROM "ScheduledDeletion";
SELECT job_name, item_key, attempts, sqlstate, error_message, dead, held,
	   next_attempt_at <= now() AS again, due < now() AS overdue
FROM job_failed_items;

-- the attempts of an item are counted over runs, and its last makes it dead
CALL job_run('deletions');
SELECT * FROM outcome;
SELECT attempts, dead, next_attempt_at FROM job_failed_items;
CALL job_run('deletions');
SELECT * FROM outcome;

-- what is dead can be revived; what has been mended is done, and forgotten
SELECT job_retry_items('deletions', 'nobody');
SELECT job_retry_items('deletions', '00000000-0000-0000-0000-000000000002');
SELECT attempts, dead FROM job_failed_items;
UPDATE "AuditEvent" SET metadata = '{}' WHERE id = 2;
CALL job_run('deletions');
SELECT * FROM outcome;
SELECT count(*) FROM job_failed_items;

-- what is no item any more has no failures
INSERT INTO "ScheduledDeletion" VALUES ('00000000-0000-0000-0000-000000000001', '2026-01-01');
UPDATE "User" SET deleted_at = NULL WHERE username LIKE 'deleted%1';
UPDATE "User" SET deleted_at = NULL WHERE id = '00000000-0000-0000-0000-000000000001';
UPDATE "AuditEvent" SET metadata = '{"poison": 1}' WHERE id = 1;
CALL job_run('deletions');
SELECT count(*) FROM job_failed_items;
DELETE FROM "ScheduledDeletion" WHERE user_id = '00000000-0000-0000-0000-000000000001';
CALL job_run('deletions');
SELECT count(*) FROM job_failed_items;

-- several statements, settings that stay with their item, a query that reads
-- more than it locks
CREATE TABLE item (id int PRIMARY KEY, state text);
CREATE TABLE gate (state text);
CREATE TABLE seen (id int, number int, path text, args jsonb);
INSERT INTO item SELECT n, 'new' FROM generate_series(1, 120) n;
INSERT INTO gate VALUES ('new');
SELECT job_schedule_items('steps', NULL,
	'SELECT id, state FROM item i WHERE EXISTS (SELECT 1 FROM gate g WHERE g.state = i.state) ORDER BY id DESC', $$
	INSERT INTO seen SELECT ($1->>'id')::int, (SELECT count(*) FROM seen), current_setting('search_path'), job_args();
	CREATE TEMP TABLE note ON COMMIT DROP AS SELECT 1 AS one;
	INSERT INTO note SELECT 2;
	DROP TABLE note;
	SET search_path = 'pg_catalog';
	UPDATE public.item SET state = 'done' WHERE id = ($1->>'id')::int AND state = $1->>'state' $$,
	args => '{"a": 1}', settings => '{"search_path": "public"}');
CALL job_run('steps');
SELECT * FROM outcome;
SELECT count(*), count(DISTINCT path), min(path) AS path, bool_and(number = 120 - id) AS in_order FROM seen;
SELECT state, count(*) FROM item GROUP BY state;

-- rules come first, then the command; a second run has nothing to do
UPDATE item SET state = 'new';
TRUNCATE seen;
CREATE TABLE part (item_id int, payload text) PARTITION BY LIST (payload);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
INSERT INTO part SELECT n, p FROM generate_series(1, 120) n, unnest('{a,b}'::text[]) p;
SELECT job_schedule_items('rules', NULL, 'SELECT id FROM item WHERE state <> ''anonymous''',
	'INSERT INTO seen SELECT ($1->>''id'')::int');
SELECT job_set_rule('rules', 'parts', 'part', match => $$r.item_id = ($1->>'id')::int$$);
SELECT job_set_rule('rules', 'item', 'item', action => 'anonymize',
	match => $$r.id = ($1->>'id')::int$$, set => $$state = 'anonymous'$$);
CALL job_run('rules');
SELECT * FROM outcome;
SELECT count(*) FROM part;
SELECT count(*) FROM seen;
CALL job_run('rules');
SELECT * FROM outcome;
SELECT job_drop_rule('rules', 'parts'), job_drop_rule('rules', 'item');

-- keys that are long, or null
CREATE TABLE odd (id text, n int);
INSERT INTO odd VALUES (NULL, 1), (repeat('x', 3000), 0), ('y', 0);
SELECT job_schedule_items('odd', NULL, 'SELECT id, n FROM odd', 'SELECT 1 / ($1->>''n'')::int');
CALL job_run('odd');
SELECT * FROM outcome;
SELECT length(item_key), error_message FROM job_failed_items ORDER BY item_key;

-- a run that cannot begin says so, and fails no item
SELECT job_schedule_items('nothing', NULL, 'SELECT id FROM item', max_attempts => 1);
CALL job_run('nothing');
SELECT job_schedule_items('wrong', NULL, 'SELECT id FROM item', 'SELECT nothing FROM nowhere', max_attempts => 1);
CALL job_run('wrong');
SELECT job_schedule_items('values', NULL, 'SELECT id FROM odd WHERE id::int > 0', 'SELECT 1', max_attempts => 1);
CALL job_run('values');
SELECT job_name, count(*) FROM job_failed_items GROUP BY job_name;

-- what cannot be locked item by item is refused, with the reason
SELECT job_schedule_items('bad', NULL, NULL, 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'DELETE FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT id FROM item; SELECT 1', 'SELECT 1');
\set VERBOSITY terse
SELECT job_schedule_items('bad', NULL, 'SELECT max(id) FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT id FROM item GROUP BY id', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT DISTINCT id FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT id FROM item UNION SELECT id FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT row_number() OVER () FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT id, generate_series(1, 2) FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT id FROM item LIMIT 10', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT random() FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT g FROM generate_series(1, 2) g', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT s.id FROM item i LEFT JOIN seen s ON s.id = i.id', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT id FROM item FOR SHARE', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT i.id, s.id FROM item i JOIN seen s ON s.id = i.id', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT to_json(state) FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT nothing FROM item', 'SELECT 1');
SELECT job_schedule_items('bad', NULL, 'SELECT id FROM item', 'COMMIT');
SELECT job_schedule_items('bad', NULL, 'SELECT id FROM item', 'SELECT 1', channel => '');
SELECT job_schedule_items('bad', NULL, 'SELECT id FROM item', 'SELECT 1', parallel => 0);
SELECT job_schedule('bad', NULL, 'SELECT 1', options => '{"parallel": 2}');
SELECT job_set_rule('rules', 'bad', 'item');
SELECT job_set_rule('rules', 'bad', 'item', expired_when => 'true');
SELECT job_set_rule('rules', 'bad', 'item', match => 'r.id = ($2->>''id'')::int');
SELECT job_set_rule('rules', 'bad', 'item', match => 'r.id = ($1->>''id'')::int', batch_rows => 5);
SELECT job_alter('odd', '{"items": "SELECT max(id) FROM item"}');
\set VERBOSITY default

-- the right to lock is checked, too; FOR UPDATE OF says what is locked
RESET ROLE;
CREATE TABLE lookup (id int);
INSERT INTO lookup VALUES (1);
GRANT SELECT ON lookup TO regress_janitor_a;
SET ROLE regress_janitor_a;
SELECT job_schedule_items('lookup', NULL, 'SELECT i.id FROM item i JOIN lookup l ON l.id = i.id', 'SELECT 1');
SELECT job_schedule_items('lookup', NULL, 'SELECT i.id FROM item i JOIN lookup l ON l.id = i.id FOR UPDATE OF i', 'SELECT 1');
CALL job_run('lookup');

-- the same again changes nothing; what belongs to a job goes with it
RESET ROLE;
SELECT version FROM job_definition WHERE name = 'odd';
SELECT job_schedule_items('odd', NULL, 'SELECT id, n FROM odd', 'SELECT 1 / ($1->>''n'')::int');
SELECT version FROM job_definition WHERE name = 'odd';
SELECT job_unschedule('odd');
SELECT count(*) FROM job_item_failure WHERE job_name = 'odd';
SELECT count(*) FROM job_cursor;

DROP VIEW outcome;
DROP EXTENSION pg_janitor;
DROP TABLE lookup;
DROP OWNED BY regress_janitor_a;
DROP ROLE regress_janitor_a;
