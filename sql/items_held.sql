--
-- Items under a legal hold are left alone, as a whole, and shown with the
-- reason; items past their deadline are seen in job_status.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_a LOGIN;
GRANT CREATE ON SCHEMA public TO regress_janitor_a;
SELECT job_grant('regress_janitor_a');
CREATE VIEW outcome AS
	SELECT status, records_processed AS done, failed_records AS failed, error_message, detail, result - 'receipts_head' - 'rows' AS result
	FROM job_execution ORDER BY id DESC LIMIT 1;
CREATE VIEW health AS
	SELECT job_name, health, overdue, regexp_replace(health_detail, '\d{4}-[-0-9:. ]*\+00', 'TIME') AS detail FROM job_status WHERE job_name <> 'other';
GRANT SELECT ON outcome, health TO regress_janitor_a;

SET ROLE regress_janitor_a;
CREATE TABLE person (id int PRIMARY KEY, name text);
CREATE TABLE request (person_id int PRIMARY KEY REFERENCES person, due timestamptz);
CREATE TABLE letter (id int PRIMARY KEY, person_id int REFERENCES person, answer_to int REFERENCES letter ON DELETE CASCADE, sealed boolean DEFAULT false);
CREATE TABLE unrelated (person_id int);
CREATE INDEX ON letter (person_id);
CREATE INDEX ON letter (answer_to);
INSERT INTO person SELECT n, 'p' || n FROM generate_series(1, 70) n;
INSERT INTO letter (id, person_id) SELECT n, n FROM generate_series(1, 70) n;
INSERT INTO letter VALUES (108, NULL, 8);
INSERT INTO unrelated SELECT generate_series(1, 70);
INSERT INTO request SELECT n, now() + CASE n WHEN 5 THEN interval '-2 days' WHEN 6 THEN interval '-1 day' WHEN 7 THEN interval '-3 days' ELSE interval '1 day' END FROM generate_series(1, 70) n;
SELECT job_schedule_items('forget', NULL, 'SELECT r.person_id AS id, r.due FROM request r ORDER BY 1', retry_delay => '0');
SELECT job_set_rule('forget', 'letters', 'letter', match => $$r.person_id = ($1->>'id')::int$$);
SELECT job_set_rule('forget', 'requests', 'request', match => $$r.person_id = ($1->>'id')::int$$);
SELECT job_set_rule('forget', 'person', 'person', action => 'anonymize', match => $$r.id = ($1->>'id')::int$$, set => $$name = 'nobody'$$);

-- held are: a row that a rule would change or delete, one that the query
-- locks, one that would go with one of these; all others are done
SELECT job_hold_place('letter', 'r.id = 5', 'a lawsuit') AS lawsuit \gset
SELECT job_hold_place('person', 'r.name = ''p6''', 'an audit') AS audit \gset
SELECT job_hold_place('request', 'r.person_id = 9', 'a second thought') AS thought \gset
SELECT job_hold_place('letter', 'r.id = 108', 'an answer') AS answer \gset
SELECT job_hold_place('unrelated', NULL, 'nothing of theirs') AS nothing \gset
SELECT job_hold_place('letter', 'r.person_id = 6', 'a lawsuit, too') AS too \gset
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 7 THEN RAISE 'no'; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION refuse();
CALL job_run('forget');
SELECT * FROM outcome;
SELECT item_key, held, error_message, attempts, dead, next_attempt_at IS NULL AS with_the_next_run, due < now() AS overdue FROM job_failed_items ORDER BY item_key;
SELECT p.id, p.name, l.id AS letter, r.person_id AS request FROM person p LEFT JOIN letter l ON l.person_id = p.id LEFT JOIN request r ON r.person_id = p.id
WHERE p.name <> 'nobody' OR l.id IS NOT NULL OR r.person_id IS NOT NULL ORDER BY 1;
SELECT count(*) AS receipts FROM job_receipts;

-- the one that has failed is overdue, those that are held are not
SELECT * FROM health;
SELECT job_disable('forget');
SELECT * FROM health;
SELECT job_pause('forget');
SELECT * FROM health;
SELECT job_resume('forget');
SELECT job_enable('forget');

-- each run looks again; a released hold lets its item be done
SELECT job_hold_release(:lawsuit), job_hold_release(:audit);
DROP TRIGGER refuse ON person;
CALL job_run('forget');
SELECT * FROM outcome;
SELECT item_key, error_message FROM job_failed_items ORDER BY item_key;
SELECT * FROM health;
SELECT job_hold_release(:too), job_hold_release(:thought), job_hold_release(:answer);
CALL job_run('forget');
SELECT * FROM outcome;
SELECT count(*) AS not_done FROM job_failed_items;
SELECT count(*) AS left FROM person WHERE name <> 'nobody';
SELECT receipts, intact FROM job_receipt_verify('forget');

-- a hold does not use up attempts
INSERT INTO person VALUES (71, 'p71');
INSERT INTO request VALUES (71, now() - interval '1 hour');
SELECT job_hold_place('person', NULL, 'everybody') AS all \gset
SELECT job_alter('forget', '{"max_attempts": 1}');
CALL job_run('forget');
CALL job_run('forget');
SELECT item_key, held, dead, attempts, error_message FROM job_failed_items;
SELECT job_hold_release(:all);
CALL job_run('forget');
SELECT * FROM outcome;

-- what a run did not come to is overdue, too; days in the zone of the job
INSERT INTO person SELECT n, 'p' || n FROM generate_series(101, 400) n;
INSERT INTO request SELECT n, now() + CASE WHEN n % 3 = 0 THEN interval '-1 day' ELSE interval '1 day' END FROM generate_series(101, 400) n;
SELECT job_alter('forget', '{"stop_after": "1 microsecond"}');
CALL job_run('forget');
SELECT status, done < 300 AS not_all, result->>'stopped' AS stopped FROM outcome;
SELECT (result->>'overdue')::int = (SELECT count(*) FROM request WHERE due < now()) AS counted FROM outcome;
SELECT job_name, health, overdue, health_detail ~ '^items past their deadline: \d+; SELECT' AS said FROM job_status;
SELECT job_alter('forget', '{"stop_after": null}');
CALL job_run('forget');
SELECT * FROM health;

-- a deadline that is a day, or none
ALTER TABLE request ALTER due TYPE date;
INSERT INTO person VALUES (72, 'p72'), (73, 'p73'), (74, 'p74');
INSERT INTO request VALUES (72, '2020-01-01'), (73, NULL), (74, 'infinity');
CREATE TRIGGER refuse BEFORE UPDATE ON person FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CALL job_run('forget');
SELECT item_key, due, dead FROM job_failed_items ORDER BY item_key;
SELECT * FROM health;

-- a result of other jobs is of no consequence
SELECT job_schedule('other', NULL, 'SELECT job_report(1, ''{"overdue": "much"}'')');
CALL job_run('other');
SELECT job_unschedule('other'), job_schedule_items('other', NULL, 'SELECT id FROM person', 'SELECT 1');
SELECT health, overdue FROM job_status WHERE job_name = 'other';

RESET ROLE;
DROP VIEW outcome, health;
DROP EXTENSION pg_janitor;
DROP OWNED BY regress_janitor_a;
DROP ROLE regress_janitor_a;
