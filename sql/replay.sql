--
-- After a restore: whoever was erased since the backup is erased again.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_a LOGIN;
GRANT CREATE ON SCHEMA public TO regress_janitor_a;
SELECT job_grant('regress_janitor_a');
CREATE VIEW outcome AS
	SELECT job_name, status, reason, records_processed AS done, failed_records AS failed,
		   error_message, detail, result->>'receipts' AS receipts
	FROM job_execution ORDER BY id DESC LIMIT 1;
GRANT SELECT ON outcome TO regress_janitor_a;

SET ROLE regress_janitor_a;
CREATE TABLE "User" (id uuid PRIMARY KEY, name text, email text);
CREATE TABLE request (user_id uuid PRIMARY KEY REFERENCES "User", due timestamptz DEFAULT now() - interval '1 hour');
CREATE TABLE "Session" (user_id uuid REFERENCES "User", ip inet);
CREATE INDEX ON "Session" (user_id);
INSERT INTO "User" SELECT md5(n::text)::uuid, 'user ' || n, 'u' || n || '@x' FROM generate_series(1, 120) n;
INSERT INTO "Session" SELECT id, '10.0.0.1' FROM "User", generate_series(1, 2);
SELECT job_schedule_items('forget', '@yearly', 'SELECT r.user_id AS id, r.due FROM request r JOIN "User" u ON u.id = r.user_id WHERE u.email IS NOT NULL',
	retry_delay => '0');
SELECT job_set_rule('forget', 'sessions', '"Session"', match => $$r.user_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('forget', 'requests', 'request', match => $$r.user_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('forget', 'user', '"User"', action => 'anonymize', match => $$r.id = ($1->>'id')::uuid$$, set => $$name = NULL, email = NULL$$);
SELECT job_schedule('afterwards', NULL, 'SELECT 1', run_after => 'forget');
SELECT job_disable('afterwards');

-- some are erased, then comes the backup, then others are erased
INSERT INTO request SELECT md5(n::text)::uuid FROM generate_series(1, 10) n;
CALL job_run('forget');
RESET ROLE;
CREATE TABLE saved_user AS TABLE "User";
CREATE TABLE saved_session AS TABLE "Session";
SET ROLE regress_janitor_a;
INSERT INTO request SELECT md5(n::text)::uuid FROM generate_series(11, 90) n;
CALL job_run('forget');
RESET ROLE;
CREATE TABLE exported AS TABLE job_receipt;
CREATE FUNCTION restore() RETURNS void LANGUAGE sql AS $$
	DELETE FROM job_receipt WHERE number > 10;
	DELETE FROM job_replay;
	DELETE FROM job_item_failure;
	UPDATE job_execution SET result = result - 'receipts' WHERE job_name = 'forget';
	TRUNCATE "User", request, "Session";
	INSERT INTO "User" TABLE saved_user;
	INSERT INTO "Session" TABLE saved_session $$;
CREATE VIEW state AS
	SELECT count(*) FILTER (WHERE email IS NULL) AS erased, (SELECT count(*) FROM "Session") AS sessions
	FROM "User";
SELECT restore();
SELECT * FROM state;

-- only what fits the chain is taken
CREATE FUNCTION try(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
BEGIN
	EXECUTE what;
	SELECT 'imported ' || job_receipt_import('exported') INTO answer;
	RAISE EXCEPTION 'undo' USING ERRCODE = 'JN000';
EXCEPTION
	WHEN SQLSTATE 'JN000' THEN RETURN answer;
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN SQLSTATE || ' ' || SQLERRM || ': ' || detail;
END $$;
SELECT try('SELECT');
SELECT try('DELETE FROM exported WHERE number < 11');
SELECT try('DELETE FROM exported WHERE number < 12');
SELECT try('DELETE FROM exported WHERE number = 50');
SELECT try('UPDATE exported SET verified = false WHERE number = 50');
SELECT try('UPDATE exported SET verified = false WHERE number = 5');
SELECT try('UPDATE exported SET number = 101 - number WHERE number IN (50, 51)');
SELECT try('INSERT INTO exported SELECT * FROM exported WHERE number = 50');
SELECT try('ALTER TABLE exported ALTER hash DROP NOT NULL; UPDATE exported SET hash = NULL WHERE number = 50');
SELECT try('UPDATE job_receipt SET hash = sha256(hash) WHERE number = 10');
SELECT try('DELETE FROM job_receipt WHERE number = 10');
SELECT try('ALTER TABLE exported ALTER number TYPE text, ALTER rows TYPE text');
SELECT try('ALTER TABLE exported DROP COLUMN key_id');
SET ROLE regress_janitor_a;
SELECT job_receipt_import('exported');
RESET ROLE;
SELECT count(*) FROM job_receipt;

-- the import, and what it makes known
SELECT job_receipt_import('exported');
SELECT job_receipt_import('exported');
SELECT job_name, first, last, requested_by = session_user AS by_me, execution_id, replayed_at FROM job_replay;
SELECT job_name, receipts, intact FROM job_receipt_verify();
SELECT job_trigger('afterwards') > max(execution_id) AS ids_go_on FROM exported;

-- the replay begins though nothing else does, and finds them without a request
SELECT job_pause(reason => 'restored');
SELECT job_enable('afterwards') IS NULL;
SET ROLE regress_janitor_a;
SELECT execution_id AS run, job_name, subjects FROM job_erasure_replay() \gset
SELECT :'job_name' AS job_name, :subjects AS subjects, job_wait(:run);
SELECT * FROM outcome;
RESET ROLE;
SELECT * FROM state;
SELECT count(*) AS not_again FROM "User" u, generate_series(1, 120) n
WHERE u.id = md5(n::text)::uuid AND (u.email IS NULL) <> (n <= 90);
SELECT execution_id IS NOT NULL AS done, replayed_at IS NOT NULL AS since FROM job_replay;
SELECT job_name, receipts, intact FROM job_receipt_verify();
SELECT * FROM job_erasure_replay();
SELECT count(*) AS afterwards FROM job_execution WHERE job_name = 'afterwards' AND reason = 'after';
\set VERBOSITY terse
SELECT job_retry(max(id)) FROM job_execution WHERE reason = 'replay';
UPDATE job_execution SET status = 'failed', success = false WHERE reason = 'replay';
SELECT replace(sqlerrm, max_id::text, 'N') FROM (SELECT max(id) AS max_id FROM job_execution WHERE reason = 'replay') x,
	LATERAL (SELECT try(format('SELECT job_retry(%s)', max_id)) AS sqlerrm) y;
\set VERBOSITY default

-- one who fails, or is held, keeps the replay from being done; repeated, it
-- passes over those who are
SELECT restore(), job_receipt_import('exported');
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = md5('20')::uuid THEN RAISE 'no'; END IF; RETURN NEW; END $$;
CREATE TRIGGER poison BEFORE UPDATE ON "User" FOR EACH ROW EXECUTE FUNCTION poison();
SELECT job_hold_place('"Session"', format('r.user_id = %L', md5('30')::uuid), 'case 7') AS hold \gset
SELECT execution_id AS run FROM job_erasure_replay('forget') \gset
SELECT job_wait(:run);
SELECT * FROM outcome;
SELECT n, error_message FROM job_item_failure, generate_series(1, 120) n WHERE item_key = md5(n::text)::uuid::text ORDER BY n;
SELECT * FROM state;
SELECT replayed_at FROM job_replay;
DROP TRIGGER poison ON "User";
SELECT execution_id AS run, subjects FROM job_erasure_replay('forget') \gset
SELECT :subjects AS subjects, job_wait(:run);
SELECT * FROM outcome;
SELECT job_hold_release(:hold);
SELECT execution_id AS run, subjects FROM job_erasure_replay('forget') \gset
SELECT :subjects AS subjects, job_wait(:run);
SELECT * FROM outcome;
SELECT * FROM state;
SELECT replayed_at IS NOT NULL AS done FROM job_replay;
SELECT count(*) FROM job_item_failure;
SELECT job_name, receipts, intact FROM job_receipt_verify();

-- tables that were restored into a database that knows its receipts
TRUNCATE "User", request, "Session";
INSERT INTO "User" TABLE saved_user;
SELECT erased_at AS since FROM exported WHERE number = 11 \gset
SELECT execution_id AS run, subjects FROM job_erasure_replay('forget', :'since') \gset
SELECT :subjects AS subjects, job_wait(:run);
SELECT * FROM state;
SELECT * FROM job_erasure_replay(since => now());
SELECT * FROM job_erasure_replay('forget', now());
SELECT * FROM job_erasure_replay('nobody');

-- who may be a subject: said by the job, or by its query
SET ROLE regress_janitor_a;
\set VERBOSITY terse
SELECT job_alter('forget', '{"subjects": "SELECT name AS id FROM \"User\""}');
SELECT job_alter('forget', '{"subjects": "SELECT id AS user_id FROM \"User\""}');
SELECT job_alter('forget', '{"subjects": "SELECT max(name) AS id FROM \"User\""}');
SELECT job_alter('forget', '{"subjects": "SELECT id FROM nowhere"}');
SELECT job_alter('forget', '{"schedule": null, "items": "SELECT r.user_id AS id, u.email FROM request r JOIN \"User\" u ON u.id = r.user_id"}');
SELECT job_alter('forget', '{"subjects": "SELECT id FROM \"User\""}');
\set VERBOSITY default
SELECT job_erasure_replay('forget', '-infinity');
SELECT job_alter('forget', '{"subjects": "SELECT id, email, name FROM \"User\" WHERE email IS NOT NULL"}') IS NOT NULL;
RESET ROLE;
SELECT restore(), job_receipt_import('exported');
SELECT execution_id AS run, subjects FROM job_erasure_replay('forget') \gset
SELECT :subjects AS subjects, job_wait(:run);
SELECT * FROM outcome;
SELECT * FROM state;

-- without the key that the receipts were made with there is no telling
SELECT restore(), job_receipt_import('exported');
CREATE TABLE escrow AS SELECT s.* FROM job_mask_key k JOIN job_mask_secret s USING (id) WHERE k.name = 'receipts';
DELETE FROM job_mask_secret WHERE id IN (SELECT id FROM escrow);
SELECT regexp_replace(try('SELECT job_erasure_replay(''forget'')'), '[0-9a-f]{8}-[-0-9a-f]*', 'ID');
INSERT INTO job_mask_secret TABLE escrow;
SELECT execution_id AS run, subjects FROM job_erasure_replay('forget') \gset
SELECT :subjects AS subjects, job_wait(:run);
SELECT * FROM state;

-- receipts of a job that is gone
SELECT job_unschedule('afterwards'), job_unschedule('forget');
SELECT restore(), job_receipt_import('exported');
SELECT * FROM job_erasure_replay();
SELECT * FROM job_erasure_replay('forget');

DROP VIEW outcome, state;
DROP TABLE saved_user, saved_session, exported, escrow;
DROP FUNCTION restore(), try(text);
DROP EXTENSION pg_janitor;
DROP OWNED BY regress_janitor_a CASCADE;
DROP FUNCTION poison();
DROP ROLE regress_janitor_a;
