# Nothing that pg_janitor stores, logs, shows or announces of items, and of rows
# that a rule anonymizes, shows their values, whatever error the server makes of
# them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = janitor_node('discreet', 'log_statement = all', 'log_min_duration_statement = 0',
	'log_error_verbosity = verbose', 'log_min_error_statement = info');
my $secret = 'mallory';

# The set-up is logged, and has the values; what comes after it must not.
value($node, qq{
	CREATE DOMAIN short AS text CHECK (length(value) < 5);
	CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL);
	CREATE TABLE taken (name text CONSTRAINT taken_once UNIQUE, CONSTRAINT no_m CHECK (name !~ '^m'));
	CREATE TABLE ref (name text REFERENCES taken (name) DEFERRABLE INITIALLY DEFERRED);
	INSERT INTO taken VALUES ('x$secret');
	INSERT INTO person SELECT n, '$secret' FROM generate_series(1, 11) n;
	CREATE FUNCTION shout(name text) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		RAISE WARNING 'warning of %', name;
		RAISE LOG 'log of %', name;
		EXECUTE format('SELECT %L', name);
		RAISE EXCEPTION 'error of %', name USING DETAIL = name, HINT = name,
			TABLE = name, SCHEMA = name, COLUMN = name, CONSTRAINT = name, DATATYPE = name;
	END \$\$;
	CREATE FUNCTION act(item jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
	DECLARE n text := item->>'name';
	BEGIN
		CASE item->>'id'
			WHEN '1' THEN INSERT INTO taken VALUES ('x' || n);
			WHEN '2' THEN INSERT INTO taken VALUES (n);
			WHEN '3' THEN PERFORM n::int;
			WHEN '4' THEN PERFORM shout(n);
			WHEN '5' THEN INSERT INTO ref VALUES (n);
			WHEN '6' THEN PERFORM n::short;
			WHEN '7' THEN PERFORM n::timestamptz;
			WHEN '8' THEN EXECUTE format('SELECT * FROM %I', n);
			WHEN '9' THEN INSERT INTO person VALUES (99, NULL);
			WHEN '10' THEN EXECUTE 'SELECT ' || n;
			WHEN '11' THEN PERFORM jsonb_path_query(item, n::jsonpath);
			WHEN '12' THEN PERFORM pg_sleep(600);    -- a job that takes long
		END CASE;
	END \$\$;
	CREATE TABLE customer (id int, left_at timestamptz, name text);
	INSERT INTO customer VALUES (1, '2001-01-01', '$secret');
	CREATE FUNCTION spoil(kind int, name text) RETURNS text LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM act(jsonb_build_object('id', kind, 'name', name));
		RETURN 'gone';
	END \$\$;
	CREATE ROLE app LOGIN;
	GRANT ALL ON person, taken, ref, customer TO app;
});

# Where a value can be seen, of all that can be looked at in the database.
sub places
{
	my $tables = value($node, q{SELECT string_agg(format('SELECT %L AS place, t::text AS row FROM %I t', relname, relname), ' UNION ALL ')
		FROM pg_class WHERE relname ~ '^job_' AND relkind IN ('r', 'v')});
	return value($node, "SELECT string_agg(place, ' ') FROM ($tables
			UNION ALL SELECT 'pg_stat_activity', concat(query, application_name) FROM pg_stat_activity
			WHERE backend_type LIKE 'pg_janitor%') x
		WHERE row LIKE '%' || reverse('yrollam') || '%'");
}

# Defines a job that does not end, and looks while it runs.
sub is_discreet_meanwhile
{
	my ($job, $definition) = @_;
	value($node, "SET client_min_messages = error; $definition");
	my $id = trigger($node, $job);
	my $pid = wait_started($node, $id);
	eventually($node, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid", 'it is in the middle');
	is(value($node, "SELECT count(*) FROM job_progress WHERE execution_id = $id"), 1, "$job: its progress can be seen");
	is(places(), '', "$job: without values, nor has pg_stat_activity any");
	value($node, "SELECT job_cancel($id)");
	is(wait_run($node, $id)->{status}, 'cancelled', "$job: cancelled");
	is(places(), '', "$job: nothing is left of it");
	return;
}
value($node, q{SELECT job_schedule_items('discreet', NULL, 'SELECT id, name FROM person',
	'SELECT act($1)', channel => 'told', max_attempts => 2, retry_delay => '0', owner => 'app')});

my $begin = log_size($node);
my ($told, $stderr) = ('', '');
$node->psql('postgres', q{LISTEN told; CALL job_run('discreet'); CALL job_run('discreet'); SELECT 1},
	stdout => \$told, stderr => \$stderr, on_error_stop => 0);

is(value($node, 'SELECT error_message FROM job_execution ORDER BY id LIMIT 1'),
	'11 of 11 items failed', 'every item fails');
is(value($node, q{SELECT string_agg(concat_ws(' ', item_key, error_message), E'\n' ORDER BY item_key::int)
	FROM job_failed_items}), <<'EOT' =~ s/\n\z//r, 'with a text made of codes and names of objects');
1 unique violation (SQLSTATE 23505), constraint "taken_once", table public.taken
2 check violation (SQLSTATE 23514), constraint "no_m", table public.taken
3 a text is no value of the type (SQLSTATE 22P02)
4 raised by a function (SQLSTATE P0001)
5 foreign key violation (SQLSTATE 23503), constraint "ref_name_fkey", table public.ref
6 check violation (SQLSTATE 23514), type public.short
7 a text is no date or time (SQLSTATE 22007)
8 undefined table (SQLSTATE 42P01)
9 not-null violation (SQLSTATE 23502), column "name", table public.person
10 undefined column (SQLSTATE 42703)
11 a statement is not valid (SQLSTATE 42601)
EOT

is(places(), '', 'no table of ours has the value');
unlike($told, qr/$secret/, 'no notification has it');
like($told, qr/"key": "4"/, 'they have the key');
unlike($stderr, qr/$secret/, 'whoever waits for the run is not told');

# A query of items that fails on a row
value($node, q{SELECT job_schedule_items('query', NULL, 'SELECT id FROM person WHERE name::int > 0',
	'SELECT 1', max_attempts => 1, owner => 'app')});
is(run_job($node, 'query')->{error_message},
	'the items query failed: a text is no value of the type (SQLSTATE 22P02)', 'neither does the items query');

# Rules of an items job, each item failing in its own way, with verification
value($node, q{SET client_min_messages = error;
	SELECT job_schedule_items('by rules', NULL, 'SELECT id, name FROM person', max_attempts => 1, owner => 'app', channel => 'told');
	SELECT job_set_rule('by rules', 'person', 'person', action => 'anonymize', match => $$r.id = ($1->>'id')::int$$,
		set => 'name = spoil(r.id, r.name)', done_when => $$r.name = 'gone'$$)});
$node->psql('postgres', q{LISTEN told; CALL job_run('by rules'); SELECT 1}, stdout => \$told, stderr => \$stderr, on_error_stop => 0);
is(value($node, q{SELECT string_agg(a.error_message, E'\n' ORDER BY a.item_key::int) = string_agg(b.error_message, E'\n' ORDER BY a.item_key::int)
	FROM job_failed_items a JOIN job_failed_items b USING (item_key) WHERE a.job_name = 'discreet' AND b.job_name = 'by rules'}),
	't', 'items by rules: the same texts');
is(places(), '', 'items by rules: no table of ours has the value');
unlike("$told $stderr", qr/$secret/, 'items by rules: nor has what is told');

# A query of those who are to be erased again that fails on a row
value($node, q{SET client_min_messages = error;
	SELECT job_schedule_items('again', NULL, 'SELECT id FROM customer', 'SELECT 1', receipts => true, max_attempts => 1, owner => 'app')});
is(run_job($node, 'again')->{result}{receipts}, 1, 'somebody has a receipt');
value($node, q{SELECT job_alter('again', '{"subjects": "SELECT id FROM person WHERE name::int > 0"}')});
my $replay = value($node, q{SELECT execution_id FROM job_erasure_replay('again', '-infinity')});
like(wait_run($node, $replay)->{error_message}, qr/: a text is no value of the type \(SQLSTATE 22P02\)$/,
	'nor does the query of subjects, in a replay');
is(places(), '', 'replay: no table of ours has the value');

is_discreet_meanwhile('meanwhile', q{SELECT job_schedule_items('meanwhile', NULL,
	'SELECT id, name FROM person WHERE id = 1', 'SELECT act($1 || ''{"id": 12}'')', owner => 'app')});

# Rules of a retention job that anonymize, each of which fails in its own way
value($node, q{SET client_min_messages = error;
	SELECT job_schedule_retention('rules', NULL, 'customer', 'left_at', '1 year', action => 'anonymize',
		set => 'name = spoil(1, r.name)', done_when => 'r.name = ''gone''', max_attempts => 1, owner => 'app');
	SELECT job_set_rule('rules', 'rule ' || n, 'customer', 'left_at', '1 year', action => 'anonymize',
		set => format('name = spoil(%s, r.name)', n), done_when => 'r.name = ''gone''')
	FROM generate_series(2, 11) n;
	SELECT job_set_rule('rules', 'rule 12', 'customer', 'left_at', '1 year', action => 'anonymize',
		set => 'name = NULL', abort_above_rows => 0)});
is(run_job($node, 'rules')->{error_message},
	'rule "main" failed: unique violation (SQLSTATE 23505), constraint "taken_once", table public.taken (and 11 other rules)',
	'rules: a text made of codes and names of objects');
is(value($node, q{SELECT string_agg(r.value->>'error', E'\n' ORDER BY substring(r.key FROM '\d+')::int)
	FROM job_execution, jsonb_each(result->'rules') r WHERE job_name = 'rules' AND r.key <> 'main'}),
	<<'EOT' =~ s/\n\z//r, 'rules: of each of them, and what pg_janitor itself has to say');
check violation (SQLSTATE 23514), constraint "no_m", table public.taken
a text is no value of the type (SQLSTATE 22P02)
raised by a function (SQLSTATE P0001)
foreign key violation (SQLSTATE 23503), constraint "ref_name_fkey", table public.ref
check violation (SQLSTATE 23514), type public.short
a text is no date or time (SQLSTATE 22007)
undefined table (SQLSTATE 42P01)
not-null violation (SQLSTATE 23502), column "name", table public.person
undefined column (SQLSTATE 42703)
a statement is not valid (SQLSTATE 42601)
more rows of public.customer are expired than the 0 that abort_above_rows allows
EOT
is(places(), '', 'rules: no table of ours has the value');
is_discreet_meanwhile('rule meanwhile', q{SELECT job_schedule_retention('rule meanwhile', NULL, 'customer', 'left_at', '1 year',
	action => 'anonymize', set => 'name = spoil(12, r.name)', done_when => 'r.name = ''gone''', owner => 'app')});

# A mask that fails for a row that is there, when it is defined
$stderr = '';
$node->psql('postgres', q{SELECT job_schedule_retention('mask', NULL, 'customer', 'left_at', '1 year',
		action => 'anonymize', set => 'id = r.name::int', owner => 'app')}, stderr => \$stderr);
like($stderr, qr/rows of public.customer cannot be changed in this way: a text is no value of the type \(SQLSTATE 22P02\)/,
	'a mask that fails when it is defined');
unlike($stderr, qr/$secret/, 'the value is not in it');

# A condition that fails when rows are counted: by the definition, by a preview
my $rule = q{SELECT job_schedule_retention('counted', NULL, 'customer', expired_when => 'r.name::int > 0',
	action => 'anonymize', set => 'name = NULL', owner => 'app')};
$node->psql('postgres', $rule, stderr => \$stderr);
like($stderr, qr/ERROR:  .*: a text is no value of the type \(SQLSTATE 22P02\)/, 'a condition that fails when it is defined');
value($node, "SET client_min_messages = error; UPDATE customer SET name = '1'; $rule; UPDATE customer SET name = '$secret'"
	=~ s/'$secret'/reverse('yrollam')/r);
my ($stdout, $preview) = ('', '');
$node->psql('postgres', q{SELECT * FROM job_preview('counted', true)}, stdout => \$stdout, stderr => \$preview);
like($preview, qr/ERROR:  a text is no value of the type \(SQLSTATE 22P02\)/, 'and when it is previewed');
unlike("$stderr $preview", qr/$secret/, 'the value is not in it');

unlike(slurp_file($node->logfile, $begin), qr/$secret/, 'the server log has nothing of it');

# Who looks for the cause can have the messages.
value($node, q{ALTER SYSTEM SET pg_janitor.store_error_detail = on});
$node->reload;
eventually($node, q{SELECT setting = 'on' FROM pg_settings WHERE name = 'pg_janitor.store_error_detail'}, 'reloaded');
value($node, q{SELECT job_retry_items('discreet', '3')});
run_job($node, 'discreet');
is(value($node, q{SELECT error_message FROM job_failed_items WHERE job_name = 'discreet' AND item_key = '3'}),
	"invalid input syntax for type integer: \"$secret\"", 'with pg_janitor.store_error_detail they are kept');
like(run_job($node, 'rules')->{result}->{rules}->{'rule 3'}->{error}, qr/"$secret"$/, 'those of rules, too');

$node->stop;
done_testing();
