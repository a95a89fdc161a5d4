--
-- What no rule erases: found by foreign keys, by names, by labels; what rules
-- cover; proposals; changes of tables that open a gap.  Nothing is run.
--
CREATE EXTENSION pg_janitor;
CREATE ROLE regress_janitor_a LOGIN;
CREATE ROLE regress_janitor_b LOGIN;
SELECT job_grant('regress_janitor_a');
SELECT job_grant('regress_janitor_b', 'observe');

-- Forty tables.  Twelve hold rows of a user: five only through two hops (a
-- join table, a composite key, a partitioned table, a table that refers to
-- itself, one without foreign keys), one through a field of a document.
CREATE SCHEMA shop;
GRANT USAGE ON SCHEMA shop TO regress_janitor_a, regress_janitor_b;
SET search_path = shop, public;
CREATE TABLE "User" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "userName" text NOT NULL, email text UNIQUE, "birthDate" date, deleted_at timestamptz);
CREATE TABLE "ScheduledDeletion" ("userId" uuid PRIMARY KEY REFERENCES "User", delete_at timestamptz NOT NULL);
CREATE TABLE session (id int PRIMARY KEY, user_id uuid NOT NULL REFERENCES "User" ON DELETE CASCADE, ip inet, user_agent text);
CREATE TABLE orders (tenant int, no int, buyer_id uuid REFERENCES "User", shipping_address text, total numeric, PRIMARY KEY (tenant, no));
CREATE TABLE message (id int PRIMARY KEY, sender_id uuid REFERENCES "User", recipient_id uuid REFERENCES "User", body text NOT NULL);
CREATE TABLE audit_event (id int PRIMARY KEY, actor_id uuid, action text, metadata jsonb);
CREATE TABLE membership (user_id uuid REFERENCES "User", household_id int, PRIMARY KEY (user_id, household_id));
CREATE TABLE webhook (id int PRIMARY KEY, payload jsonb NOT NULL);
CREATE INDEX ON webhook ((payload ->> 'userId'));
CREATE TABLE household (id int PRIMARY KEY, street_address text, phone text);
ALTER TABLE membership ADD FOREIGN KEY (household_id) REFERENCES household;
CREATE TABLE order_line (tenant int, order_no int, line int, gift_note text, PRIMARY KEY (tenant, order_no, line), FOREIGN KEY (tenant, order_no) REFERENCES orders ON DELETE CASCADE);
CREATE TABLE page_view (session_id int REFERENCES session, at timestamptz, url text) PARTITION BY RANGE (at);
CREATE TABLE page_view_1 PARTITION OF page_view FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE page_view_2 PARTITION OF page_view DEFAULT;
CREATE TABLE comment (id int PRIMARY KEY, message_id int NOT NULL REFERENCES message, parent_id int REFERENCES comment, content text);
CREATE TABLE message_attachment (id int PRIMARY KEY, message_id int, file_name text);
-- the other twenty-seven, some of which look like it but are not
CREATE TABLE country (code text PRIMARY KEY, name text);
CREATE TABLE product (id int PRIMARY KEY, name text, description text, country_code text REFERENCES country);
CREATE TABLE email_template (id int PRIMARY KEY, email_count int, email_status text, ip_version int);
CREATE TABLE school (id int PRIMARY KEY, student_id int, name text);
DO $$ BEGIN
	FOR i IN 1..23 LOOP
		EXECUTE format('CREATE TABLE stock_%s (id int PRIMARY KEY, product_id int REFERENCES product, name text, amount int)', chr(96 + i));
	END LOOP;
END $$;
SELECT count(*) FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition;

SELECT relation, columns, path FROM job_erasure_gaps('"User"');
SELECT relation, reason FROM job_erasure_gaps('"User"');
SELECT count(DISTINCT relation) FROM job_erasure_gaps('"User"') WHERE path IS NOT NULL AND relation <> 'shop."User"';

-- the draft: far tables before near ones, and the subject last
\pset format unaligned
\pset tuples_only on
SELECT * FROM job_propose_erasure('"User"', 'forget users');
\pset tuples_only off
\pset format aligned

-- it is SQL, and its conditions are good ones
DO $$
DECLARE
	line text;
	part text[];
	condition text;
BEGIN
	FOR line IN SELECT * FROM job_propose_erasure('"User"') LOOP
		part := regexp_match(line, $x$^SELECT public.job_set_rule\('erase User', '[^']*', '([^']*)', action => '\w+', match => ((?:'[^']*')+)$x$);
		CONTINUE WHEN part IS NULL;
		EXECUTE format('SELECT %s', part[2]) INTO condition;
		EXECUTE format('SELECT count(*) FROM %s AS r WHERE %s', part[1],
					   replace(condition, '$1', $x$'{"id": "00000000-0000-0000-0000-000000000001", "email": "a@b.c"}'::jsonb$x$));
	END LOOP;
END $$;

-- what rules cover
SET client_min_messages = error;
SELECT job_schedule_items('forget', NULL, 'SELECT u.id FROM "ScheduledDeletion" d JOIN "User" u ON u.id = d."userId" WHERE d.delete_at <= now()') IS NULL AS on_demand;
RESET client_min_messages;
CREATE FUNCTION public.cover(rule text, relation text, action text, match text, set text DEFAULT NULL, archive_to text DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO job_rule (job_name, rule, place, relation, action, match, set, archive_to)
	VALUES ('forget', rule, (SELECT count(*) FROM job_rule), relation, action, match, set, archive_to);
$$;
SELECT cover('session', 'shop.session', 'delete', 'r.user_id = ($1 ->> ''id'')::uuid');
SELECT cover('sent', 'shop.message', 'anonymize', 'r.sender_id = ($1 ->> ''id'')::uuid', 'body = ''''');
SELECT cover('user', 'shop."User"', 'anonymize', 'r.id = ($1 ->> ''id'')::uuid', '"userName" = ''gone'', email = NULL');
SELECT cover('orders', 'shop.orders', 'update', 'r.buyer_id = ($1 ->> ''id'')::uuid', 'shipping_address = NULL');
SELECT cover('request', 'shop."ScheduledDeletion"', 'delete', '"userId" = ($1 ->> ''id'')::uuid');
-- sent messages are, received ones are not; a birth date is forgotten; an
-- update does not count
SELECT relation, columns, path, covered_by FROM job_erasure_gaps('"User"', 'forget')
WHERE relation IN ('shop."User"', 'shop.session', 'shop.message', 'shop.orders', 'shop."ScheduledDeletion"');
SELECT relation, path, covered_by FROM job_erasure_gaps('"User"', 'forget', true) WHERE proposed_rule IS NULL;
-- what goes with a deleted row is covered with it
SELECT cover('orders away', 'shop.orders', 'delete', 'r.buyer_id = ($1 ->> ''id'')::uuid');
SELECT relation, covered_by FROM job_erasure_gaps('"User"', include_covered => true) WHERE relation LIKE 'shop.order%';
-- what is archived is somewhere else
CREATE TABLE old_lines (LIKE order_line);
SELECT cover('keep', 'shop.order_line', 'archive', 'EXISTS (SELECT FROM orders o WHERE (o.tenant, o.no) = (r.tenant, r.order_no) AND o.buyer_id = ($1 ->> ''id'')::uuid)', archive_to => 'shop.old_lines');
SELECT relation, columns, path, reason, proposed_rule FROM job_erasure_gaps('"User"', 'forget') WHERE relation LIKE '%old_lines';
SELECT cover('keep not', 'shop.old_lines', 'anonymize', 'r.tenant = 1 AND r.order_no = 2', 'gift_note = NULL');
SELECT count(*) FROM job_erasure_gaps('"User"', 'forget') WHERE relation LIKE '%old_lines';

-- labels: what names do not tell
ALTER TABLE school ADD kennung text;
SECURITY LABEL FOR pg_janitor ON COLUMN school.kennung IS 'personal';
SECURITY LABEL FOR pg_janitor ON COLUMN webhook.payload IS 'not personal';
SECURITY LABEL FOR pg_janitor ON TABLE page_view IS 'not personal';
SECURITY LABEL FOR pg_janitor ON TABLE country IS 'personal';
SELECT relation, columns, path, reason, proposed_rule FROM job_erasure_gaps('"User"')
WHERE relation IN ('shop.school', 'shop.webhook', 'shop.page_view', 'shop.country');
SECURITY LABEL FOR pg_janitor ON TABLE country IS 'secret';
SECURITY LABEL FOR pg_janitor ON SCHEMA shop IS 'personal';
SECURITY LABEL FOR pg_janitor ON TABLE country IS NULL;
SECURITY LABEL FOR pg_janitor ON COLUMN school.kennung IS NULL;

-- what no path leads to, and what is no table
CREATE TABLE newsletter (email text PRIMARY KEY, "firstName" text);
CREATE MATERIALIZED VIEW directory AS SELECT email, "userName" FROM "User";
SELECT relation, columns, path, reason, proposed_rule FROM job_erasure_gaps('"User"') WHERE relation IN ('shop.newsletter', 'shop.directory');
SELECT line FROM job_propose_erasure('"User"') line WHERE line LIKE '%job_schedule_items%';
DROP MATERIALIZED VIEW directory;
DROP TABLE newsletter;

-- a subject with a composite key; one that refers to itself
CREATE TABLE person (tenant int, no int, "Vorname" text, boss_no int, PRIMARY KEY (tenant, no), FOREIGN KEY (tenant, boss_no) REFERENCES person);
CREATE TABLE salary (id int PRIMARY KEY, tenant int, person_no int, amount numeric, FOREIGN KEY (tenant, person_no) REFERENCES person);
SELECT relation, columns, reason, proposed_rule FROM job_erasure_gaps('person') WHERE path LIKE 'shop.person%';
DROP TABLE salary, person;

-- two tables that refer to each other
CREATE TABLE album (id int PRIMARY KEY, owner_id uuid REFERENCES "User", cover_id int);
CREATE TABLE picture (id int PRIMARY KEY, album_id int NOT NULL REFERENCES album, caption text);
ALTER TABLE album ADD FOREIGN KEY (cover_id) REFERENCES picture;
SELECT path, reason, proposed_rule FROM job_erasure_gaps('"User"') WHERE relation IN ('shop.album', 'shop.picture');
ALTER TABLE album DROP cover_id;
DROP TABLE picture, album;

-- names
CREATE TABLE words (id int PRIMARY KEY, "EMail" text, "IPAddress" text, phone2 varchar(20), geburtsdatum date, code_postal text,
	apellidos text, "mailAddresses" text[], first_names text, "SSN" int, mac macaddr, gender boolean, note text, name text,
	phone_verified boolean, email_id int, email_verified_at timestamptz, address_id int, shipping_status text, username_count text, born_at date, doc json);
SELECT columns, reason FROM job_erasure_gaps('"User"') WHERE relation = 'shop.words';
DROP TABLE words;

-- rights: catalogs are open, jobs are not
SET ROLE regress_janitor_b;
SELECT count(*) > 10 AS seen, count(covered_by) AS covered FROM job_erasure_gaps('shop."User"', include_covered => true);
RESET ROLE;
SET ROLE regress_janitor_a;
SELECT * FROM job_erasure_gaps('shop."User"', 'forget');
SELECT job_erasure_warning('forget') IS NULL AS silent;
RESET ROLE;

-- errors
\set VERBOSITY terse
SELECT job_erasure_gaps('user');
SELECT job_erasure_gaps('nothing');
SELECT job_erasure_gaps(NULL);
CREATE TABLE keyless (a int);
SELECT job_erasure_gaps('keyless');
SELECT job_erasure_gaps('page_view_1');
SELECT job_erasure_gaps('public.job_status');
SELECT job_erasure_gaps('"User"', 'nothing');
SELECT job_schedule('no items', NULL, 'SELECT 1', owner => 'regress_janitor_a') IS NULL AS on_demand;
SELECT job_erasure_gaps('"User"', 'no items');
SELECT job_erasure_watch();
\set VERBOSITY default
DROP TABLE keyless;

-- a change of tables that opens a gap is told at once, and until it is closed
SELECT cover('buyers', 'shop.comment', 'delete', 'r.message_id IS NOT NULL AND r.parent_id IS NULL');
SELECT cover('rest ' || row_number() OVER (ORDER BY g.path), g.relation, 'anonymize', string_agg('r.' || quote_ident(c), ' = '), coalesce((SELECT string_agg(format('%I = NULL', x), ', ') FROM unnest(g.columns) x), ''))
FROM job_erasure_gaps('"User"', 'forget') g,
LATERAL (SELECT unnest(string_to_array(substring(g.path FROM '\(([^()]*?)(?: ->> [^()]*)?\)$'), ', ')) AS c
		 UNION ALL SELECT 'id' WHERE g.path NOT LIKE '%(%' OR g.path LIKE '%->%') l
WHERE g.path IS NOT NULL
GROUP BY g.relation, g.path, g.columns;
SELECT relation, columns, path FROM job_erasure_gaps('"User"', 'forget');
INSERT INTO job_execution (job_name, status, success, started_at, completed_at, reason, run_as)
VALUES ('forget', 'succeeded', true, now(), now(), 'manual', current_user);
SELECT health, health_detail FROM job_status WHERE job_name = 'forget';
CREATE EVENT TRIGGER regress_janitor_watch ON ddl_command_end EXECUTE FUNCTION job_erasure_watch();
CREATE TABLE invoice (id int PRIMARY KEY, user_id uuid REFERENCES "User", iban text);
CREATE TABLE stock_z (id int PRIMARY KEY, amount int);
ALTER TABLE orders ADD phone text;
ALTER TABLE message ADD sender_ip inet;
SELECT health, health_detail FROM job_status WHERE job_name = 'forget';
DROP TABLE invoice;
ALTER TABLE message DROP sender_ip;
SELECT health, health_detail FROM job_status WHERE job_name = 'forget';
-- also to those who may not see the job
GRANT CREATE ON SCHEMA shop TO regress_janitor_a;
SET ROLE regress_janitor_a;
CREATE TABLE shop.diary (id int PRIMARY KEY, user_id uuid, note text);
RESET ROLE;
DROP EVENT TRIGGER regress_janitor_watch;

SET client_min_messages = warning;
SET search_path = public;
DROP SCHEMA shop CASCADE;
DROP FUNCTION public.cover;
DROP EXTENSION pg_janitor;
DROP OWNED BY regress_janitor_a, regress_janitor_b;
DROP ROLE regress_janitor_a, regress_janitor_b;
