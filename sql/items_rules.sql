--
-- Items handled by rules are handled many at a time; what comes out is what
-- comes out one by one.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE ROLE regress_janitor_a LOGIN;
GRANT CREATE ON DATABASE contrib_regression TO regress_janitor_a;
SELECT job_grant('regress_janitor_a');
SET ROLE regress_janitor_a;

-- The same tables and the same job, once with rules alone, and once with a
-- command beside them, which has its items handled one by one.
CREATE PROCEDURE pg_temp.make(name text, command text) LANGUAGE plpgsql AS $make$
BEGIN
	EXECUTE format('CREATE SCHEMA %I', name);
	PERFORM set_config('search_path', name || ', public', false);
	CREATE TABLE account (id int PRIMARY KEY, name text NOT NULL, email text CONSTRAINT one_email UNIQUE,
		locked boolean NOT NULL, erased_at timestamptz, CONSTRAINT not_locked CHECK (NOT locked OR erased_at IS NULL));
	CREATE TABLE request (account_id int, at int, PRIMARY KEY (account_id, at));
	CREATE TABLE session (id int PRIMARY KEY, account_id int NOT NULL REFERENCES account) PARTITION BY RANGE (id);
	CREATE TABLE session_1 PARTITION OF session FOR VALUES FROM (0) TO (400);
	CREATE TABLE session_2 PARTITION OF session DEFAULT;
	CREATE INDEX ON session (account_id);
	CREATE TABLE message (id int PRIMARY KEY, sender int, recipient int, body text);
	CREATE INDEX ON message (sender);
	CREATE TABLE letter (message_id int REFERENCES message, "$1" text DEFAULT '$1''s "$1"');
	CREATE TABLE invoice (id int GENERATED ALWAYS AS IDENTITY, account_id int, total numeric);
	CREATE TABLE attic (id int, account_id int, total numeric, kept_at timestamptz DEFAULT now());
	-- some cannot be erased: locked, or the new address is taken, or a letter is in the way,
	-- or the commit fails
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RAISE 'late'; END $f$;
	CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON account DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (NEW.id = 130) EXECUTE FUNCTION late();
	INSERT INTO account SELECT n, 'name ' || n, 'a' || n, n % 47 = 0 FROM generate_series(1, 230) n;
	INSERT INTO account VALUES (1000, 'taken', 'gone 3', false);
	INSERT INTO request SELECT n, 1 FROM generate_series(1, 230) n;
	-- two rows for one item are a failure of that item; one is none any more
	INSERT INTO request VALUES (120, 2);
	INSERT INTO session SELECT n, 1 + n % 230 FROM generate_series(1, 1000) n;
	INSERT INTO message SELECT n, 1 + n % 230, 1 + (n * 7) % 230, 'body' FROM generate_series(1, 500) n;
	INSERT INTO letter SELECT id FROM message WHERE sender = 77 LIMIT 1;
	INSERT INTO invoice (account_id, total) SELECT 1 + n % 230, n FROM generate_series(1, 300) n;
	-- two are under a hold
	PERFORM job_hold_place('session', 'r.account_id = 10', 'case 1'), job_hold_place('account', 'r.id = 60', 'case 2');

	PERFORM job_schedule_items(name, NULL,
		'SELECT q.account_id AS id, a.email AS "$1" FROM request q JOIN account a ON a.id = q.account_id WHERE a.erased_at IS NULL ORDER BY q.account_id',
		command, max_attempts => 2, retry_delay => '0');
	PERFORM job_set_rule(name, 'sessions', 'session', match => $$r.account_id = ($1->>'id')::int$$);
	PERFORM job_set_rule(name, 'messages', 'message', action => 'anonymize', set => 'body = ''''',
		match => $$r.sender = ($1->>'id')::int OR r.recipient = ($1->>'id')::int AND r.body <> '$1'$$);
	PERFORM job_set_rule(name, 'letters', 'letter',
		match => $$EXISTS (SELECT FROM message m WHERE m.id = r.message_id AND m.sender = ($1->>'id')::int) AND r."$1" <> '$1''s "$1"'$$);
	PERFORM job_set_rule(name, 'invoices', 'invoice', action => 'archive', archive_to => 'attic',
		match => $$r.account_id = ($1->>'id')::int$$, filter => 'r.total > 20');
	PERFORM job_set_rule(name, 'sent', 'message', match => $$r.sender = ($1->>'id')::int$$);
	PERFORM job_set_rule(name, 'account', 'account', action => 'anonymize', match => $$r.id = ($1->>'id')::int$$,
		set => $$name = 'gone', email = 'gone ' || r.id, erased_at = job_now()$$);
END $make$;
CALL pg_temp.make('many', NULL);
CALL pg_temp.make('each', 'SELECT 1');

CALL job_run('many');
CALL job_run('each');
CREATE SCHEMA look;
CREATE VIEW look.outcomes AS
	SELECT job_name, status, records_processed AS done, failed_records AS failed, error_message, sqlstate, detail, result - 'receipts_head' AS result
	FROM job_runs ORDER BY id;
SELECT status, done, failed, error_message, sqlstate, detail, result FROM look.outcomes WHERE job_name = 'many';
SELECT count(DISTINCT to_jsonb(o) - 'job_name') AS outcomes FROM look.outcomes o;
SELECT item_key, sqlstate, error_message FROM job_failed_items WHERE job_name = 'many' ORDER BY item_key::int;

SELECT bool_and(many = each) AS same_receipts FROM (
	SELECT count(*) FILTER (WHERE job_name = 'many') AS many, count(*) FILTER (WHERE job_name = 'each') AS each
	FROM job_receipts GROUP BY replace(rows::text, job_name || '.', '')) x;

-- what is left of the tables is the same, and nothing of those that failed is changed
CREATE FUNCTION look.different() RETURNS TABLE (relation text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE
	columns text;
BEGIN
	FOREACH relation IN ARRAY ARRAY['account', 'request', 'session', 'message', 'letter', 'invoice', 'attic'] LOOP
		SELECT string_agg(quote_ident(attname), ', ') INTO columns FROM pg_attribute
		WHERE attrelid = format('many.%I', relation)::regclass AND attnum > 0 AND attname NOT IN ('erased_at', 'kept_at');
		EXECUTE format('SELECT count(*) FROM ((SELECT %1$s FROM many.%2$I EXCEPT ALL SELECT %1$s FROM each.%2$I)
			UNION ALL (SELECT %1$s FROM each.%2$I EXCEPT ALL SELECT %1$s FROM many.%2$I)) x', columns, relation) INTO rows;
		RETURN NEXT;
	END LOOP;
END $$;
SELECT * FROM look.different();
SELECT count(*) FILTER (WHERE erased_at IS NOT NULL) AS erased, count(*) FILTER (WHERE name LIKE 'name%') AS untouched FROM many.account;
SELECT (SELECT count(*) FROM many.session) AS sessions, (SELECT count(*) FROM many.message) AS messages,
	   (SELECT count(*) FROM many.invoice) AS invoices, (SELECT count(*) FROM many.attic) AS attic;
SELECT count(*) FROM many.session WHERE account_id NOT IN (SELECT id FROM many.account WHERE name LIKE 'name%');

-- again: only those that failed, with the same end
CALL job_run('many');
CALL job_run('each');
SELECT count(DISTINCT to_jsonb(o) - 'job_name') AS outcomes FROM look.outcomes o;
SELECT done, failed, result->'rows' AS rows FROM look.outcomes WHERE job_name = 'many' OFFSET 1;
SELECT * FROM look.different() WHERE rows > 0;

-- it is a statement for many items: a statement trigger counts
SET search_path = many, public;
DROP TRIGGER late ON account;
UPDATE account SET locked = false, erased_at = NULL;
DELETE FROM account WHERE id = 1000;
DELETE FROM letter;
SELECT count(job_hold_release(id)) FROM job_holds WHERE relation LIKE 'many.%';
SELECT job_retry_items('many');
DELETE FROM request WHERE at = 2;
INSERT INTO session SELECT n, 1 + n % 230 FROM generate_series(2001, 3000) n;
CREATE TABLE fired (n int);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO many.fired VALUES (1); RETURN NULL; END $$;
CREATE TRIGGER fire AFTER DELETE ON session FOR EACH STATEMENT EXECUTE FUNCTION fire();
CALL job_run('many');
SELECT count(*) AS statements FROM fired;

-- what is set depends on the item: then one by one
SELECT job_drop_rule('many', rule) FROM (VALUES ('messages'), ('letters'), ('invoices'), ('sent')) v (rule);
SELECT job_set_rule('many', 'account', 'account', action => 'anonymize', match => $$r.id = ($1->>'id')::int$$,
	set => $$name = 'was ' || ($1->>'$1'), erased_at = job_now()$$);
UPDATE account SET erased_at = NULL;
TRUNCATE fired;
CALL job_run('many');
SELECT count(*) AS statements FROM fired;
SELECT DISTINCT left(name, 8) AS name FROM account;

RESET ROLE;
DROP OWNED BY regress_janitor_a CASCADE;
DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_a;
