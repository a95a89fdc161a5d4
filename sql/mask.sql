--
-- The masking functions: what they return, that masking again changes
-- nothing, who may use which key, what is left when a key is forgotten.
-- Secrets are random, so pseudonyms are shown by their shape.
--
CREATE EXTENSION pg_janitor;
SET timezone = 'UTC';
SET datestyle = 'ISO';

CREATE TABLE original (id int PRIMARY KEY, value text);
INSERT INTO original VALUES
	(1, 'alice'), (2, 'Alice'), (3, 'alice@example.com'), (4, ' '),
	(5, 'Zoë Ångström'), (6, 'Zoe' || U&'\0308'), (7, '日本語 🇯🇵 👩‍👩‍👧'), (8, repeat('x', 100000)),
	(9, 'anon_1234'),
	(10, 'anon_0123456789abcdef0123456789abcdef01234567'),
	(11, 'anon_abcdefghijklmnopqrst'),
	(12, '0123456789abcdef0123456789abcdef@anon.invalid'),
	(13, '@anon.invalid'), (14, 'anon_'), (15, E'\t\n'), (16, '%_\'), (17, 'anon_ABCDEFGHIJKLMNOPQRST');

-- pseudonyms have their form, and are returned as they are
SELECT count(*), count(DISTINCT job_mask_hash(value)) AS hashes,
	   count(DISTINCT job_mask_name(value)) AS names,
	   count(DISTINCT job_mask_email(value)) AS emails,
	   bool_and(job_mask_hash(value) ~ '^anon_[0-9a-f]{40}$') AS hash_form,
	   bool_and(job_mask_name(value) ~ '^anon_[a-z2-7]{20}$') AS name_form,
	   bool_and(job_mask_email(value) ~ '^[0-9a-f]{32}@anon\.invalid$') AS email_form
FROM original;
SELECT id FROM original
WHERE job_mask_hash(job_mask_hash(value)) <> job_mask_hash(value)
   OR job_mask_name(job_mask_name(value)) <> job_mask_name(value)
   OR job_mask_email(job_mask_email(value)) <> job_mask_email(value);
-- what only looks like one is masked
SELECT id FROM original WHERE value IN (job_mask_hash(value), job_mask_name(value), job_mask_email(value));
-- and what was changed in one digit does not pass any more
SELECT count(*) FILTER (WHERE job_mask_hash(forged) = forged) AS passed
FROM (SELECT overlay(h PLACING CASE substr(h, i, 1) WHEN '0' THEN '1' ELSE '0' END FROM i) AS forged
	  FROM job_mask_hash('x'::text) h, generate_series(6, 45) i) f;
-- the functions' pseudonyms are unrelated
SELECT left(job_mask_email('x'), 16) = substr(job_mask_hash('x'::text), 6, 16) AS related;
-- nothing stays nothing
SELECT job_mask_hash(NULL::text), job_mask_email(NULL), job_mask_hash(''::text) = '' AS hash,
	   job_mask_name(''::text) = '' AS name, job_mask_email('') = '' AS email;

-- types: the same value in another type of text, the type of the argument
SELECT pg_typeof(h), h = job_mask_hash('x'::text) AS same FROM job_mask_hash('x'::varchar(10)) h;
SELECT pg_typeof(h), h = job_mask_hash('x'::text) AS same FROM job_mask_hash('x'::char(60)) h;
SELECT pg_typeof(h), convert_from(h, 'UTF8') ~ '^anon_[0-9a-f]{40}$' AS form, job_mask_hash(h) = h AS again
FROM job_mask_hash('\x00ff'::bytea) h;
SELECT pg_typeof(h), substr(h::text, 15, 1) AS version, substr(h::text, 20, 1) IN ('8', '9', 'a', 'b') AS variant,
	   job_mask_hash(h) = h AS again
FROM job_mask_hash('00000000-0000-0000-0000-000000000000'::uuid) h;
SELECT job_mask_hash('12345678-1234-8234-8234-123456789abc'::uuid) <> '12345678-1234-8234-8234-123456789abc' AS masked;
SELECT count(DISTINCT job_mask_hash(u)), bool_and(job_mask_hash(job_mask_hash(u)) = job_mask_hash(u)) AS again
FROM (SELECT md5(i::text)::uuid AS u FROM generate_series(1, 1000) i) s;
CREATE TABLE padded (c char(60), v varchar(25));
INSERT INTO padded VALUES ('x', 'x');
UPDATE padded SET c = job_mask_hash(c), v = job_mask_name(v);
SELECT c IS DISTINCT FROM job_mask_hash(c) AS c, v IS DISTINCT FROM job_mask_name(v) AS v FROM padded;
-- a domain's constraint holds
CREATE DOMAIN handle AS text CHECK (VALUE ~ '^[a-z0-9_]+$');
CREATE DOMAIN short AS varchar(20) CHECK (length(VALUE) < 20);
SELECT pg_typeof(job_mask_name('alice'::handle));
SELECT job_mask_hash('alice'::short);
\set VERBOSITY terse
SELECT job_mask_name('x'::bytea);
SELECT job_mask_hash('x'::name);
SELECT job_mask_hash(false);
\set VERBOSITY default
SELECT job_mask_hash(42);
SELECT job_mask_hash('{}'::jsonb);

-- partial: characters, not bytes; the same number of them
SELECT job_mask_partial('4111111111111111', 0, '*', 4), job_mask_partial('DE89370400440532013000', 4, 'x', 4);
SELECT job_mask_partial('日本語 🇯🇵', 1, '•', 1), job_mask_partial('Zoë', 1, '*', 1), job_mask_partial('', 1, '*', 1) = '' AS empty;
-- too short to keep anything
SELECT job_mask_partial('abcd', 2, '*', 2), job_mask_partial('abc', 2147483647, '*', 2147483647), job_mask_partial('abcde', 2, '*', 2);
SELECT o.id, l, p, r FROM original o, (VALUES (0), (1), (3), (7)) a (l), (VALUES ('*'), ('ë'), ('🇯')) b (p), (VALUES (0), (2), (9)) c (r),
LATERAL job_mask_partial(value, l, p, r) m
WHERE job_mask_partial(m, l, p, r) <> m OR length(m) <> length(value);
\set VERBOSITY terse
SELECT job_mask_partial('abc', -1, '*', 0);
SELECT job_mask_partial('abc', 0, '**', 0);
SELECT job_mask_partial('abc', 0, '', 0);
\set VERBOSITY default

-- telephone numbers
SELECT v, job_mask_phone(v), job_mask_phone(job_mask_phone(v)) = job_mask_phone(v) AS again
FROM unnest(ARRAY['+49 171 1234567', '+1 (555) 0100', '+7', '+354-555-1234', ' +(44) 20 7946 0000', '+999', '+4', '+',
				  '+0123', '0171 1234567', '0049171', 'ask Zoë', '+ë49', '']) v;

-- text
SELECT job_mask_text('Spoke to Zoë, call back'), job_mask_text(''), job_mask_text(job_mask_text('x'));

-- addresses
SELECT v, job_mask_ip(v), job_mask_ip(v, 9, 33), job_mask_ip(v, 32, 128) = v AS all, job_mask_ip(v, 0, 0) AS none
FROM unnest(ARRAY['192.0.2.77', '10.255.3.4/16', '255.255.255.255/0', '2001:db8:1234:5678::1', '::ffff:192.0.2.1', 'ffff:ffff:ffff:ffff::/64']::inet[]) v;
SELECT bool_and(job_mask_ip(m, a, b) = m) AS again
FROM unnest(ARRAY['255.255.255.255/13', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/77']::inet[]) v,
	 generate_series(0, 32) a, generate_series(0, 128) b, job_mask_ip(v, a, b) m;
\set VERBOSITY terse
SELECT job_mask_ip('192.0.2.77', 33);
SELECT job_mask_ip('192.0.2.77', 24, -1);
\set VERBOSITY default

-- times
SELECT unit, job_mask_date(date '1987-08-19', unit) AS day,
	   job_mask_date(timestamptz '1987-08-19 22:45:10+00', unit) AS utc,
	   job_mask_date(timestamptz '1987-12-31 23:45:10+00', unit, 'Asia/Tokyo') AS tokyo
FROM unnest(ARRAY['week', 'month', 'quarter', 'year', 'decade', 'century']) unit;
SELECT job_mask_date(timestamp '1987-08-19 22:45:10', 'hour'), job_mask_date(timestamptz 'infinity', 'day'), job_mask_date(date '-infinity', 'year');
SELECT zone, unit, t FROM unnest(ARRAY['UTC', 'Europe/Berlin', 'America/Sao_Paulo', 'Asia/Kathmandu', 'Pacific/Apia']) zone,
	 unnest(ARRAY['hour', 'day', 'week', 'month', 'quarter', 'year', 'decade', 'century']) unit,
	 generate_series(timestamptz '2011-12-20 00:17+00', '2013-11-30', '4 hours 13 minutes') t,
	 job_mask_date(t, unit, zone) m
WHERE job_mask_date(m, unit, zone) <> m OR m > t;
SET timezone = 'Pacific/Apia';	-- does not matter
SELECT job_mask_date(timestamptz '1987-08-19 22:45:10+00', 'month') = '1987-08-01 00:00+00' AS utc;
RESET timezone;
SET timezone = 'UTC';
\set VERBOSITY terse
SELECT job_mask_date(date '1987-08-19', 'day');
SELECT job_mask_date(timestamptz '1987-08-19', 'Month');
SELECT job_mask_date(timestamptz '1987-08-19', 'month', 'Nowhere/Here');
\set VERBOSITY default

-- numbers: exact, whatever the step
SELECT job_mask_number(54321, 1000), job_mask_number(-54321, 1000), job_mask_number(12.37, 0.5), job_mask_number('NaN', 10), job_mask_number('-Infinity', 10);
SELECT v, s FROM generate_series(-3, 3, 0.37) v, unnest(ARRAY[0.1, 0.7, 1.0, 1e-10, 3e20, 0.333333333333333333]) s,
	 job_mask_number(v, s) m
WHERE job_mask_number(m, s) IS DISTINCT FROM m OR m > v OR v - m >= s;
\set VERBOSITY terse
SELECT job_mask_number(1, 0);
SELECT job_mask_number(1, 'NaN');
SELECT job_mask_number(1, 'Infinity');
\set VERBOSITY default

-- JSON
SELECT paths, job_mask_json(d, paths) AS masked, job_mask_json(job_mask_json(d, paths), paths) = job_mask_json(d, paths) AS again
FROM (SELECT '{"user": {"name": "Zoë", "id": 1}, "list": [{"name": "a", "k": [1, 2]}, "b", []], "a.b": 5, "*": 6, "name": {"name": 7}}'::jsonb AS d) s,
LATERAL (VALUES ('{user.name}'::text[]), ('{user}'), ('{list.*.name}'), ('{list.0.k.1}'), ('{list.*}'), ('{**.name}'), ('{a\\.b,\\*}'), ('{*}'), ('{**}'),
				('{user.**.id}'), ('{list.**.1}'), ('{nothing,user.id.deeper,list.7,list.-1}'), ('{}'), ('{user,user.name,**.name}')) p (paths);
SELECT job_mask_json('[[1, {"a": 2}], "x", null, {}]', '{0.1,1}', '"[removed]"'), job_mask_json('"scalar"', '{*}'), job_mask_json('{}', '{**}'), job_mask_json('[]', '{**}');
\set VERBOSITY terse
SELECT job_mask_json('{}', '{a..b}');
SELECT job_mask_json('{}', '{""}');
SELECT job_mask_json('{}', '{a.}');
SELECT job_mask_json('{}', ARRAY[E'a\\']);
SELECT job_mask_json('{}', '{NULL}');
SELECT job_mask_json('{}', ARRAY[repeat('a.', 70) || 'a']);
SELECT job_mask_json('{"a": 1}', '{a}', '{}');
\set VERBOSITY default

-- keys: another key, another pseudonym, and each knows its own only
SELECT job_mask_create_key('other'), job_mask_create_key('other') AS again;
SELECT job_mask_email('x', 'other') <> job_mask_email('x') AS differs,
	   job_mask_email(job_mask_email('x', 'other'), 'other') = job_mask_email('x', 'other') AS own,
	   job_mask_email(job_mask_email('x', 'other')) <> job_mask_email('x', 'other') AS stranger;
SELECT job_mask_email('x', 'nowhere');
\set VERBOSITY terse
SELECT job_mask_create_key('');
SELECT job_mask_create_key(E'a\nb');
SELECT job_mask_create_key(NULL);
SELECT job_mask_forget_key(NULL);
SELECT job_mask_forget_key('nowhere');
SELECT job_mask_create_key('x', 'regress_janitor_nowhere');
BEGIN READ ONLY;
SELECT job_mask_email('x') IS NOT NULL AS reads_only;
SELECT job_mask_forget_key('other');
ROLLBACK;
\set VERBOSITY default

-- forgetting: transactional; for good; the others stay
CREATE TABLE before AS SELECT job_mask_email('x', 'other') AS other, job_mask_email('x') AS "default";
SELECT pg_relation_filenode('job_mask_secret') AS file \gset
BEGIN;
SELECT job_mask_forget_key('other');
SAVEPOINT s;
SELECT job_mask_email('x', 'other');
ROLLBACK;
SELECT job_mask_email('x', 'other') = other AS back FROM before;
SELECT job_mask_forget_key('other');
SELECT job_mask_email('x', 'other');
SELECT job_mask_create_key('other');
SELECT job_mask_email('x') = "default" AS untouched FROM before;
SELECT count(*) AS secrets, pg_relation_filenode('job_mask_secret') <> :file AS new_file FROM job_mask_secret;
SELECT job_mask_forget_key('other') AS again;
SELECT name, owner = current_user AS mine, forgotten_at IS NOT NULL AS forgotten FROM job_mask_key ORDER BY created_at;
-- a new key of the name is another key
SELECT job_mask_create_key('other', anew => true);
SELECT job_mask_email('x', 'other') <> other AS differs FROM before;
SELECT job_mask_email(other, 'other') <> other AS a_stranger_now FROM before;
-- made, used and forgotten in one transaction, under savepoints
BEGIN;
SELECT job_mask_create_key('brief');
SELECT job_mask_name('x'::text, 'brief') = job_mask_name('x'::text, 'brief') AS same;
SAVEPOINT s;
SELECT job_mask_forget_key('brief');
ROLLBACK TO s;
SELECT job_mask_name('x'::text, 'brief') ~ '^anon_' AS there;
ROLLBACK;
SELECT job_mask_name('x'::text, 'brief');
BEGIN;
SAVEPOINT s;
SELECT job_mask_create_key('brief'), job_mask_name('x'::text, 'brief') ~ '^anon_' AS there;
ROLLBACK TO s;
SELECT job_mask_name('x'::text, 'brief');
ROLLBACK;

-- rights
CREATE ROLE regress_janitor_definer;
CREATE ROLE regress_janitor_app;
CREATE ROLE regress_janitor_other;
CREATE ROLE regress_janitor_reader IN ROLE pg_read_all_data;
SELECT job_grant('regress_janitor_definer');
GRANT regress_janitor_app TO regress_janitor_definer;
SELECT job_mask_create_key('of app', 'regress_janitor_app');

-- without a key: everybody; the default key: who may define jobs
SET ROLE regress_janitor_other;
SELECT job_mask_partial('abc', 1, '*', 0), job_mask_json('{"a": 1}', '{a}');
SELECT job_mask_email('x');
SELECT job_mask_email('x', 'of app');
\set VERBOSITY terse
SELECT job_mask_create_key('mine');
SELECT job_mask_forget_key('of app');
SELECT * FROM job_mask_key;
SELECT * FROM job_mask_secret;
\set VERBOSITY default
SET ROLE regress_janitor_definer;
SELECT job_mask_email('x') = "default" AS "default" FROM (SELECT job_mask_email('x') AS "default") s;
SELECT job_mask_email('x', 'of app') IS NOT NULL AS "of app";
SELECT job_mask_create_key('mine');
\set VERBOSITY terse
SELECT job_mask_forget_key('default');
SELECT job_mask_forget_key('other');
SELECT job_mask_create_key('default');
SELECT job_mask_create_key('theirs', 'regress_janitor_other');
SELECT job_mask_create_key('other');
\set VERBOSITY default
-- what was just allowed to one user is not to the next, in the same transaction either
SET ROLE regress_janitor_app;
SELECT job_mask_email('x', 'of app') IS NOT NULL AS "of app";
\set VERBOSITY terse
SELECT job_mask_email('x', 'mine');
SELECT job_mask_email('x');
BEGIN;
SET LOCAL ROLE regress_janitor_definer;
SELECT job_mask_email('x') IS NOT NULL AS "default";
SET LOCAL ROLE regress_janitor_app;
SELECT job_mask_email('x');
ROLLBACK;
SET ROLE regress_janitor_reader;
SELECT count(*) FROM job_mask_key;
SELECT count(*) AS secrets FROM job_mask_secret;
\set VERBOSITY default
RESET ROLE;

-- a run of a job may use the default key, whoever owns it
CREATE TABLE person (id int, email text);
INSERT INTO person SELECT i, 'user' || i || '@example.com' FROM generate_series(1, 100) i;
GRANT ALL ON person TO regress_janitor_other;
ALTER ROLE regress_janitor_other LOGIN;
SELECT job_schedule('mask', NULL, 'UPDATE person SET email = job_mask_email(email) WHERE email IS DISTINCT FROM job_mask_email(email)',
					owner => 'regress_janitor_other');
CALL job_run('mask');
CALL job_run('mask');
SELECT count(DISTINCT email), bool_and(email ~ '@anon.invalid$') AS masked FROM person;

-- so may a preview of the job, which is made as its owner; and nothing beside it
UPDATE person SET email = 'user' || id || '@example.com' WHERE id > 60;
ALTER TABLE person ADD left_at timestamptz DEFAULT '2000-01-01';
ALTER TABLE person OWNER TO regress_janitor_other;
SET client_min_messages = warning;
SELECT job_schedule_retention('anonymize', NULL, 'person', 'left_at', '3 years', action => 'anonymize',
							  set => 'email = job_mask_email(email)', owner => 'regress_janitor_other');
RESET client_min_messages;
BEGIN;
SELECT rows FROM job_preview('anonymize', exact => true);
SET LOCAL ROLE regress_janitor_other;
SELECT job_mask_email('x');
ROLLBACK;
CALL job_run('anonymize');
SELECT rows FROM job_preview('anonymize', exact => true);
SELECT count(DISTINCT email), bool_and(email ~ '@anon.invalid$') AS masked FROM person;

-- what the owner of a key is called matters
ALTER ROLE regress_janitor_app RENAME TO regress_janitor_renamed;
SET ROLE regress_janitor_renamed;
\set VERBOSITY terse
SELECT job_mask_email('x', 'of app');
\set VERBOSITY default
RESET ROLE;

SELECT job_revoke('regress_janitor_definer');
DROP TABLE original, padded, before, person;
DROP DOMAIN handle, short;
DROP EXTENSION pg_janitor;
DROP ROLE regress_janitor_definer, regress_janitor_renamed, regress_janitor_other, regress_janitor_reader;
