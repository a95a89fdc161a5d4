# Nothing that pg_janitor stores, logs or announces of items shows the values of
# their rows, whatever error the server makes of them.

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
		END CASE;
	END \$\$;
	CREATE ROLE app LOGIN;
	GRANT ALL ON person, taken, ref TO app;
});
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

# everything that is written down somewhere
my $tables = value($node, q{SELECT string_agg(format('SELECT %L AS place, t::text AS row FROM %I t', relname, relname), ' UNION ALL ')
	FROM pg_class WHERE relname ~ '^job_' AND relkind IN ('r', 'v')});
is(value($node, "SELECT place FROM ($tables) x WHERE row LIKE '%' || reverse('yrollam') || '%'"), '',
	'no table of ours has the value');
unlike($told, qr/$secret/, 'no notification has it');
like($told, qr/"key": "4"/, 'they have the key');
unlike($stderr, qr/$secret/, 'whoever waits for the run is not told');
is(value($node, q{SELECT count(*) FROM pg_stat_activity
	WHERE backend_type LIKE 'pg_janitor%' AND (query || application_name) LIKE '%' || reverse('yrollam') || '%'}),
	0, 'the activity does not show it');

# A query of items that fails on a row
value($node, q{SELECT job_schedule_items('query', NULL, 'SELECT id FROM person WHERE name::int > 0',
	'SELECT 1', max_attempts => 1, owner => 'app')});
is(run_job($node, 'query')->{error_message},
	'the items query failed: a text is no value of the type (SQLSTATE 22P02)', 'neither does the items query');

unlike(slurp_file($node->logfile, $begin), qr/$secret/, 'the server log has nothing of it');

# Who looks for the cause can have the messages.
value($node, q{ALTER SYSTEM SET pg_janitor.store_error_detail = on});
$node->reload;
eventually($node, q{SELECT setting = 'on' FROM pg_settings WHERE name = 'pg_janitor.store_error_detail'}, 'reloaded');
value($node, q{SELECT job_retry_items('discreet', '3')});
run_job($node, 'discreet');
is(value($node, q{SELECT error_message FROM job_failed_items WHERE item_key = '3'}),
	"invalid input syntax for type integer: \"$secret\"", 'with pg_janitor.store_error_detail they are kept');

$node->stop;
done_testing();
