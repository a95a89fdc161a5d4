--
-- Rules that anonymize: masks that come to rest, constraints, tiers.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE ROLE regress_janitor_a LOGIN;
GRANT CREATE ON SCHEMA public TO regress_janitor_a;
SELECT job_grant('regress_janitor_a');
CREATE VIEW outcome AS
	SELECT status, records_processed AS done, error_message, sqlstate, detail
	FROM job_execution ORDER BY id DESC LIMIT 1;
GRANT SELECT ON outcome TO regress_janitor_a;
SET ROLE regress_janitor_a;

CREATE TABLE plan (code text PRIMARY KEY);
INSERT INTO plan VALUES ('basic'), ('gone');
CREATE DOMAIN zip AS text CONSTRAINT five_digits CHECK (value ~ '^\d{5}$');
CREATE TABLE person (
	id int PRIMARY KEY,
	tenant int NOT NULL DEFAULT 1,
	left_at timestamptz,
	name text NOT NULL,
	email text CONSTRAINT one_email UNIQUE,
	phone text,
	nick text CONSTRAINT one_nick UNIQUE,
	code text CONSTRAINT has_plan REFERENCES plan,
	postal zip,
	state text CONSTRAINT known_state CHECK (state IN ('active', 'left')),
	locked boolean NOT NULL DEFAULT false,
	visits int,
	erased_at timestamptz,
	UNIQUE (tenant, visits),
	CONSTRAINT reachable CHECK (NOT locked OR phone IS NOT NULL));
CREATE UNIQUE INDEX one_phone ON person (tenant, lower(phone)) WHERE state = 'active';
CREATE TABLE friend (nick text CONSTRAINT of_person REFERENCES person (nick));
CREATE INDEX ON friend (nick);

-- what `set` makes of rows is tried; nothing is changed, nothing is kept
CREATE FUNCTION try(masks text, more jsonb DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	problem text;
	more_of_it text;
BEGIN
	PERFORM job_schedule_retention('try', NULL, 'person', 'left_at', '1 year',
		action => 'anonymize', set => masks, options => more);
	RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDO0';
EXCEPTION
	WHEN SQLSTATE 'UNDO0' THEN
		RETURN 'accepted';
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, more_of_it = PG_EXCEPTION_DETAIL;
		RETURN concat_ws(' ', SQLSTATE, problem, nullif('(' || more_of_it || ')', '()'));
END $$;
CREATE VIEW masks AS
	SELECT row_number() OVER () AS n, m AS masks, try(m) AS outcome FROM unnest(ARRAY[
		'name = NULL', 'name = ''gone''',
		'email = ''gone@example.com''', 'email = NULL', 'email = job_mask_email(r.email)',
		'nick = job_mask_partial(r.nick, 1, ''*'', 0)', 'nick = job_mask_name(r.nick)',
		'phone = job_mask_phone(r.phone)', 'phone = job_mask_phone(r.phone), state = ''left''',
		'phone = NULL',
		'code = ''none''', 'code = ''gone''', 'code = job_mask_hash(r.code)',
		'postal = ''none''', 'postal = ''00000''',
		'state = ''erased''', 'state = ''left''',
		'visits = 0', 'tenant = 0, visits = 0']) m;
SET client_min_messages = warning;

-- of an empty table it is known what does not depend on what will be in it
SELECT masks, outcome FROM masks ORDER BY n;

-- of what is there, more
INSERT INTO person (id, left_at, name, email, phone, nick, code, postal, state, visits)
SELECT n, now() - n * interval '1 year', 'mallory', 'mallory' || n || '@example.com', '+49 171 ' || n,
	   'm' || n, 'basic', '01234', 'active', n
FROM generate_series(0, 5) n;
INSERT INTO friend VALUES ('m3');
UPDATE person SET locked = true WHERE id = 4;
SELECT masks, outcome FROM masks ORDER BY n;

-- only rows that the rule is for speak against it
SELECT try('phone = NULL', '{"filter": "NOT r.locked"}');
UPDATE person SET locked = id = 0;
SELECT try('phone = NULL');
UPDATE person SET locked = id = 4;

-- masks that never come to rest
SELECT m, try(m) FROM unnest(ARRAY['email = md5(r.email)', 'name = r.name || ''*''', 'visits = r.visits + 1',
	'name = r.email, email = r.name', 'name = left(r.name, 1)', 'visits = job_mask_number(r.visits, 10)::int + r.id']) m;
SELECT try('email = md5(r.email), erased_at = job_now()', '{"done_when": "r.erased_at IS NOT NULL"}');

-- what cannot be computed for a row that is due; the row is not shown
SELECT try('visits = r.name::int');
SELECT try('name = job_mask_name(r.name, ''none'')');
RESET client_min_messages;
\set VERBOSITY default
SELECT job_schedule_retention('try', NULL, 'person', 'left_at', '1 year', action => 'anonymize', set => 'email = ''x''');
SELECT job_schedule_retention('try', NULL, 'person', 'left_at', '1 year', action => 'anonymize', set => 'email = md5(r.email)');
SET client_min_messages = warning;

-- of items nobody knows which ones will be due: what holds for most will do
SELECT job_schedule_items('items', NULL, 'SELECT id FROM person WHERE erased_at IS NULL') IS NULL AS on_demand;
SELECT job_set_rule('items', 'person', 'person', action => 'anonymize', match => 'r.id = ($1->>''id'')::int', set => 'phone = NULL');
SELECT job_set_rule('items', 'person', 'person', action => 'anonymize', match => 'r.id = ($1->>''id'')::int', set => 'name = NULL');
SELECT job_set_rule('items', 'person', 'person', action => 'anonymize', match => 'r.id = ($1->>''id'')::int', set => 'email = ''gone''');
SELECT job_set_rule('items', 'person', 'person', action => 'anonymize', match => 'r.id = ($1->>''id'')::int', set => 'name = md5(r.name)');
SELECT job_drop_rule('items', 'person');
SELECT job_unschedule('items');

-- generalized after one year, pseudonymized after three, deleted after seven
TRUNCATE person, friend;
ALTER TABLE person ADD born date, ADD ip inet;
INSERT INTO person (id, left_at, name, email, visits, born, ip)
SELECT n, now() - n * interval '1 year' - interval '1 day', 'Anna ' || n, 'anna' || n || '@example.com', 130 + n,
	   '1984-05-06', '192.0.2.77'
FROM generate_series(0, 8) n;
SELECT job_schedule_retention('tiers', NULL, 'person', 'left_at', '7 years');
SELECT job_set_rule('tiers', 'generalize', 'person', 'left_at', '1 year', action => 'anonymize',
	set => $$born = job_mask_date(r.born, 'year'), ip = job_mask_ip(r.ip)$$);
SELECT job_set_rule('tiers', 'pseudonymize', 'person', 'left_at', '3 years', action => 'anonymize',
	set => $$name = job_mask_name(r.name), email = job_mask_email(r.email), ip = NULL, erased_at = job_now()$$);
CALL job_run('tiers');
SELECT id, born, ip, name = 'Anna ' || id AS name_kept, email LIKE 'anna%' AS email_kept,
	   name ~ '^anon_[a-z2-7]{20}$' AND email ~ '^[0-9a-f]{32}@anon.invalid$' AS pseudonyms, erased_at IS NOT NULL AS erased
FROM person ORDER BY id;
SELECT result->'rules'->'main'->'rows' AS deleted, result->'rules'->'generalize'->'rows' AS generalized,
	   result->'rules'->'pseudonymize'->'rows' AS pseudonymized FROM job_runs ORDER BY id DESC LIMIT 1;

-- a row that carries its masks is not touched again
CREATE TABLE before AS SELECT id, xmin AS version FROM person;
CALL job_run('tiers');
SELECT * FROM outcome;
SELECT count(*) FROM person p JOIN before b USING (id) WHERE p.xmin <> b.version;
UPDATE person SET ip = '198.51.100.9' WHERE id IN (2, 5);
CALL job_run('tiers');
SELECT id, ip FROM person WHERE id IN (2, 5) ORDER BY id;
CALL job_run('tiers');
SELECT * FROM outcome;

-- by tiers of a column, in partitions, which stay whatever their age
CREATE TABLE visitor (id int, kind text, left_at timestamptz, ip inet, email text) PARTITION BY RANGE (left_at);
CREATE TABLE visitor_old PARTITION OF visitor FOR VALUES FROM (MINVALUE) TO (now() - interval '7 years');
CREATE TABLE visitor_rest PARTITION OF visitor DEFAULT;
INSERT INTO visitor SELECT n, (ARRAY['guest', 'member', NULL])[1 + n % 3],
	now() - (n / 3) * interval '2 years' - interval '1 day', '192.0.2.77', 'v' || n || '@example.com'
FROM generate_series(0, 14) n;
SELECT job_schedule_retention('visitors', NULL, 'visitor', 'left_at', action => 'anonymize',
	tier_column => 'kind', tiers => '{"guest": "1 year", "member": "5 years", "*": null}',
	set => 'ip = NULL, email = job_mask_email(r.email)');
CALL job_run('visitors');
SELECT tableoid::regclass AS partition, kind, count(*), count(ip) AS ips, count(*) FILTER (WHERE email LIKE 'v%') AS emails
FROM visitor GROUP BY 1, 2 ORDER BY 1, 2;
CALL job_run('visitors');
SELECT job_unschedule('visitors');

-- what belongs to a run goes with a change, and never causes one
CREATE TABLE visit (id int, left_at timestamptz, ip inet, erased_by bigint);
INSERT INTO visit VALUES (1, '2001-01-01', '192.0.2.77');
SELECT job_schedule_retention('visits', NULL, 'visit', 'left_at', '1 year', action => 'anonymize',
	set => 'ip = NULL, erased_by = job_execution_id()');
CALL job_run('visits');
CALL job_run('visits');
SELECT id, ip, erased_by = (SELECT min(id) FROM job_runs WHERE job_name = 'visits') AS by_the_first FROM visit;
SELECT job_unschedule('visits');

-- two rules that take turns with a column are told
SELECT job_set_rule('tiers', 'generalize', 'person', 'left_at', '1 year', action => 'anonymize',
	set => $$name = job_mask_partial(r.name, 1, '*', 0)$$);
SELECT job_set_rule('tiers', 'generalize', 'person', 'left_at', '1 year', action => 'anonymize',
	set => $$name = job_mask_partial(r.name, 1, '*', 0)$$, filter => $$r.left_at >= job_now() - interval '3 years'$$);
CALL job_run('tiers');
SELECT id, left(name, 5) AS name FROM person ORDER BY id;
CALL job_run('tiers');
SELECT * FROM outcome;
SELECT job_unschedule('tiers');

RESET ROLE;
DROP VIEW outcome;
DROP OWNED BY regress_janitor_a;
DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_a;
