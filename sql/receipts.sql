--
-- Receipts: what proves that somebody was erased, and does not say who it was.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_a LOGIN;
CREATE ROLE regress_janitor_b LOGIN;
CREATE ROLE regress_janitor_eye LOGIN;
GRANT CREATE ON SCHEMA public TO regress_janitor_a;
SELECT job_grant('regress_janitor_a'), job_grant('regress_janitor_b'), job_grant('regress_janitor_eye', 'observe');
CREATE VIEW outcome AS
	SELECT status, records_processed AS done, failed_records AS failed,
		   error_message, sqlstate, result - 'receipts_head' AS result
	FROM job_execution ORDER BY id DESC LIMIT 1;
GRANT SELECT ON outcome TO regress_janitor_a;

SET ROLE regress_janitor_a;
CREATE TABLE person (id uuid PRIMARY KEY, name text NOT NULL, email text UNIQUE, born date, notes jsonb, gone_at timestamptz);
CREATE TABLE "Letter" (id int PRIMARY KEY, person_id uuid REFERENCES person, body text);
CREATE TABLE visit (person_id uuid, at timestamptz, ip inet) PARTITION BY RANGE (at);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
CREATE TABLE attic (LIKE "Letter");
CREATE INDEX ON "Letter" (person_id);
CREATE INDEX ON visit (person_id);
INSERT INTO person SELECT md5('person ' || n)::uuid, 'Name of ' || n, 'mail' || n || '@example.com', date '1950-01-01' + n * 97,
	jsonb_build_object('phone', '+49 30 ' || 1000000 + n) FROM generate_series(1, 130) n;
INSERT INTO "Letter" SELECT n, md5('person ' || n % 130 + 1)::uuid, 'Dear reader ' || n FROM generate_series(1, 260) n;
INSERT INTO visit SELECT md5('person ' || n % 130 + 1)::uuid, timestamptz '2025-12-01' + n * interval '1 hour', inet '192.0.2.0' + n % 256
	FROM generate_series(1, 1300) n;
CREATE TABLE before AS SELECT DISTINCT value FROM (
	SELECT id::text FROM person UNION ALL SELECT name FROM person UNION ALL SELECT email FROM person
	UNION ALL SELECT born::text FROM person UNION ALL SELECT notes->>'phone' FROM person
	UNION ALL SELECT body FROM "Letter" UNION ALL SELECT host(ip) FROM visit) v (value);

SELECT job_schedule_items('forget', NULL, 'SELECT p.id, p.email FROM person p WHERE p.gone_at IS NULL ORDER BY p.name');
SELECT job_set_rule('forget', 'letters', '"Letter"', action => 'archive', archive_to => 'attic', match => $$r.person_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('forget', 'attic', 'attic', match => $$r.person_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('forget', 'visits', 'visit', match => $$r.person_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('forget', 'person', 'person', action => 'anonymize', match => $$r.id = ($1->>'id')::uuid$$,
	set => $$name = 'nobody', email = NULL, born = NULL, notes = NULL, gone_at = job_now()$$);
CALL job_run('forget');
RESET ROLE;
SELECT * FROM outcome;

-- one for each subject, with what was done; each follows the one before
SELECT count(*), count(DISTINCT subject), min(number), max(number), bool_and(verified), count(DISTINCT key_id) AS keys,
	   bool_and(octet_length(subject) = 32) AS digests, min(policy_version) = max(policy_version) AS one_policy
FROM job_receipt;
SELECT rows, count(*) FROM job_receipt GROUP BY rows ORDER BY rows::text LIMIT 3;
SELECT count(*) FROM job_receipt r JOIN job_execution e ON e.id = r.execution_id
WHERE e.definition_version = r.policy_version AND r.erased_at BETWEEN e.started_at AND e.completed_at;
SELECT number FROM job_receipt r
WHERE previous IS DISTINCT FROM coalesce((SELECT hash FROM job_receipt p WHERE p.number = r.number - 1), decode(repeat('00', 32), 'hex'));

-- the hash is what the documentation says, and the result has the last
SELECT count(*) AS wrong FROM job_receipt
WHERE hash <> sha256(previous || convert_to(concat_ws(E'\n', job_name, execution_id,
	(extract(epoch FROM erased_at) * 1000000)::bigint, encode(subject, 'hex'), key_id, rows, verified::text, policy_version), 'UTF8'));
SELECT e.result->>'receipts_head' = encode(r.hash, 'hex') AS noted
FROM job_execution e, job_receipt r WHERE r.number = 130;
SELECT job_name, receipts, head = (SELECT hash FROM job_receipt WHERE number = 130) AS head, intact, broken_at, problem
FROM job_receipt_verify();

-- nothing of what was there is in any of our tables, not even the keys
CREATE FUNCTION contents(relation regclass, OUT text) LANGUAGE plpgsql AS $$BEGIN
	EXECUTE format('SELECT string_agg(t::text, E''\n'') FROM %s t', relation) INTO $2;
END$$;
SELECT c.relname, b.value FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
JOIN pg_extension x ON x.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND x.extname = 'pg_janitor',
LATERAL contents(c.oid) AS found, before b
WHERE c.relkind = 'r' AND strpos(found, b.value) > 0;
SELECT count(*) > 900 AS values_looked_for FROM before;

-- who knows whom to look for finds the receipt, and only that one
SELECT number, execution_id IS NOT NULL AS run, rows FROM job_receipt_find('forget', md5('person 7')::uuid::text);
SELECT number FROM job_receipt_find('forget', md5('person 131')::uuid::text);

-- another run goes on with the chain
INSERT INTO person SELECT md5('person ' || n)::uuid, 'Name of ' || n FROM generate_series(131, 132) n;
CALL job_run('forget');
SELECT * FROM outcome;
SELECT number, rows FROM job_receipt WHERE number > 130 ORDER BY number;

-- --- what is wrong with a chain, and where ---
CREATE FUNCTION meddle(what text) RETURNS TABLE (receipts bigint, intact boolean, broken_at bigint, problem text) LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE what;
		SELECT v.receipts, v.intact, v.broken_at, regexp_replace(v.problem, 'execution \d+', 'execution N')
		INTO receipts, intact, broken_at, problem FROM job_receipt_verify() v;
		RAISE EXCEPTION 'undo' USING ERRCODE = 'JN000';
	EXCEPTION WHEN SQLSTATE 'JN000' THEN NULL;
	END;
	RETURN NEXT;
END $$;
SELECT * FROM meddle('SELECT');
SELECT c.attname, m.* FROM pg_attribute c, LATERAL meddle(format('UPDATE job_receipt SET %I = %s WHERE number = 66', c.attname, CASE c.attname
	WHEN 'job_name' THEN '''other''' WHEN 'number' THEN '1000' WHEN 'erased_at' THEN 'erased_at + interval ''1 us''' WHEN 'key_id' THEN 'gen_random_uuid()'
	WHEN 'rows' THEN 'jsonb_set(rows, ''{public.visit,delete}'', ''11'')' WHEN 'verified' THEN 'NOT verified'
	ELSE CASE c.atttypid WHEN 'bytea'::regtype THEN format('set_byte(%I, 31, (get_byte(%1$I, 31) + 1) %% 256)', c.attname) ELSE format('%I + 1', c.attname) END END)) m
WHERE c.attrelid = 'job_receipt'::regclass AND c.attnum > 0 AND c.attname <> 'job_name' ORDER BY c.attnum;
SELECT * FROM meddle('DELETE FROM job_receipt WHERE number = 1');
SELECT * FROM meddle('DELETE FROM job_receipt WHERE number BETWEEN 50 AND 60');
SELECT * FROM meddle('DELETE FROM job_receipt WHERE number > 131');
SELECT * FROM meddle('DELETE FROM job_receipt');
SELECT * FROM meddle('UPDATE job_receipt SET number = -number; UPDATE job_receipt SET number = CASE number WHEN -50 THEN 60 WHEN -60 THEN 50 ELSE -number END');
SELECT * FROM meddle('DELETE FROM job_receipt WHERE number = 50; UPDATE job_receipt SET number = number - 1000 WHERE number > 50; UPDATE job_receipt SET number = number + 999 WHERE number < 0');
-- a chain written anew from some place on: the results of runs tell
SELECT * FROM meddle($$DO $do$ DECLARE r job_receipt; p bytea;
BEGIN
	SELECT hash INTO p FROM job_receipt WHERE number = 99;
	FOR r IN SELECT * FROM job_receipt WHERE number > 99 ORDER BY number LOOP
		r.rows := '{}'; r.previous := p;
		r.hash := sha256(r.previous || convert_to(concat_ws(E'\n', r.job_name, r.execution_id,
			(extract(epoch FROM r.erased_at) * 1000000)::bigint, encode(r.subject, 'hex'), r.key_id, r.rows, r.verified::text, r.policy_version), 'UTF8'));
		p := r.hash;
		UPDATE job_receipt SET rows = r.rows, previous = r.previous, hash = r.hash WHERE number = r.number;
	END LOOP;
END $do$; $$);

-- --- nothing may be left ---
SET ROLE regress_janitor_a;
CREATE TABLE member (id int PRIMARY KEY, name text);
CREATE TABLE badge (member_id int, word text);
CREATE INDEX ON badge (member_id);
CREATE FUNCTION refill() RETURNS void LANGUAGE sql AS $$
	TRUNCATE member, badge;
	INSERT INTO member SELECT n, 'm' || n FROM generate_series(1, 60) n;
	INSERT INTO badge SELECT n, 'b' || n FROM generate_series(1, 60) n $$;
SELECT refill();
SELECT job_schedule_items('members', NULL, 'SELECT id FROM member WHERE name <> '''' ORDER BY id', max_attempts => 1);
SELECT job_set_rule('members', 'badges', 'badge', match => $$r.member_id = ($1->>'id')::int$$,
	filter => $$length('$1"') = 3 AND length('''$1') = 3$$);
SELECT job_set_rule('members', 'member', 'member', action => 'anonymize', match => $$r.id = ($1->>'id')::int$$, set => $$name = ''$$);

-- a trigger puts back what was deleted
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN IF OLD.member_id = 30 THEN INSERT INTO badge VALUES (OLD.*); END IF; RETURN NULL; END $$;
CREATE TRIGGER again AFTER DELETE ON badge FOR EACH ROW EXECUTE FUNCTION put_back();
CALL job_run('members');
SELECT * FROM outcome;
SELECT item_key, sqlstate, error_message FROM job_failed_items;
SELECT * FROM member WHERE name <> '';
SELECT * FROM badge;
DROP TRIGGER again ON badge;

-- one that does so only when the transaction ends
SELECT refill(), job_retry_items('members');
CREATE CONSTRAINT TRIGGER again AFTER DELETE ON badge DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION put_back();
CALL job_run('members');
SELECT * FROM outcome;
SELECT item_key, sqlstate, error_message FROM job_failed_items;
SELECT * FROM badge;
DROP TRIGGER again ON badge;

-- one that unmasks
SELECT refill(), job_retry_items('members');
CREATE FUNCTION unmask() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN IF NEW.id = 30 THEN NEW.name := OLD.name; END IF; RETURN NEW; END $$;
CREATE TRIGGER keep BEFORE UPDATE ON member FOR EACH ROW EXECUTE FUNCTION unmask();
CALL job_run('members');
SELECT error_message FROM job_failed_items;
SELECT * FROM member WHERE name <> '';
DROP TRIGGER keep ON member;
SELECT count(*), count(DISTINCT subject), count(*) FILTER (WHERE verified) AS verified FROM job_receipts WHERE job_name = 'members';
SELECT job_name, receipts, intact FROM job_receipt_verify('members');

-- --- the option ---
SELECT refill(), job_retry_items('members');
SELECT job_alter('members', '{"receipts": false}');
CALL job_run('members');
SELECT * FROM outcome;
SELECT refill();
SELECT job_schedule_items('plain', NULL, 'SELECT id FROM member WHERE name <> '''' AND id <= 2', $$UPDATE member SET name = '' WHERE id = ($1->>'id')::int$$);
CALL job_run('plain');
SELECT job_schedule_items('plain', NULL, 'SELECT id FROM member WHERE name <> '''' AND id <= 4', $$UPDATE member SET name = '' WHERE id = ($1->>'id')::int$$,
	receipts => true);
CALL job_run('plain');
SELECT job_schedule_items('marks', NULL, 'SELECT id FROM member WHERE name <> '''' AND id <= 6');
SELECT job_set_rule('marks', 'member', 'member', action => 'update', match => $$r.id = ($1->>'id')::int$$, set => $$name = ''$$);
CALL job_run('marks');
SELECT job_alter('marks', '{"receipts": true}');
UPDATE member SET name = 'x' WHERE id <= 6;
CALL job_run('marks');
SELECT job_name, number, rows, verified FROM job_receipts WHERE job_name IN ('plain', 'marks') ORDER BY 1, 2;
\set VERBOSITY terse
SELECT job_schedule('other', NULL, 'SELECT 1', options => '{"receipts": true}');
\set VERBOSITY default

-- --- who may see what ---
SELECT count(*) FROM job_receipt;
SET ROLE regress_janitor_b;
SELECT count(*) FROM job_receipts;
SELECT * FROM job_receipt_verify();
SELECT * FROM job_receipt_verify('forget');
SELECT * FROM job_receipt_find('forget', 'x');
SELECT job_receipt_import('before');
SET ROLE regress_janitor_eye;
SELECT count(*) FROM job_receipts;
SELECT count(*) FROM job_receipt;
SELECT job_name, receipts, intact FROM job_receipt_verify();
SELECT * FROM job_receipt_find('forget', 'x');
RESET ROLE;

-- --- without the key nobody can tell who it was; the chain does not need it ---
SELECT job_mask_forget_key('receipts');
SELECT number FROM job_receipt_find('forget', md5('person 7')::uuid::text);
SELECT job_name, receipts, intact FROM job_receipt_verify();
INSERT INTO person VALUES (md5('person 133')::uuid, 'Name of 133');
CALL job_run('forget');
SELECT count(DISTINCT key_id) FROM job_receipt WHERE job_name = 'forget';
SELECT number FROM job_receipt_find('forget', md5('person 133')::uuid::text);
SELECT name, forgotten_at IS NOT NULL AS forgotten FROM job_mask_key WHERE name = 'receipts' ORDER BY created_at;
SET ROLE regress_janitor_a;
SELECT job_mask_forget_key('receipts');
RESET ROLE;

-- --- receipts outlive their job ---
SELECT job_unschedule('forget');
SELECT job_name, receipts, intact FROM job_receipt_verify('forget');
SELECT number FROM job_receipt_find('forget', md5('person 133')::uuid::text);

DROP FUNCTION meddle(text);
DROP VIEW outcome;
DROP EXTENSION pg_janitor;
DROP OWNED BY regress_janitor_a;
DROP OWNED BY regress_janitor_b, regress_janitor_eye;
DROP ROLE regress_janitor_a, regress_janitor_b, regress_janitor_eye;
