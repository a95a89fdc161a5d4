-- What the targets refer to.
CREATE EXTENSION pg_janitor;

CREATE FUNCTION fuzz_input(statements text, options text[]) RETURNS void
AS 'fuzz_input' LANGUAGE c STRICT;

CREATE TABLE letter (id int PRIMARY KEY, sent timestamptz, stamp text, note text, doc jsonb);

INSERT INTO letter VALUES (1, '2020-01-01', '2020-01-01', 'x', '{"a": 1}'), (2, NULL, '20200101', NULL, NULL);

SET client_min_messages = error;

SELECT job_schedule('nightly', '0 3 * * *', 'SELECT 1');

SELECT job_schedule_retention('keeps', NULL, 'letter', 'sent', '90 days');

SELECT job_schedule_items('people', NULL, 'SELECT id FROM letter', command => 'SELECT 1');

SELECT job_schedule_external('mail');
