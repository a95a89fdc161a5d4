# Texts that are meant to be more than what they are: names, expressions and
# queries that end the statement they become part of, that hold quotes, format
# characters and control characters, that are too large, too deep, or invalid
# in the database's encoding.  Each is refused, or means itself and no more.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JanitorCalls;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# What is a character depends on the encoding, and C would make it SQL_ASCII.
$ENV{LC_CTYPE} = 'C.UTF-8';
my $node = janitor_node('text', 'max_worker_processes = 16');
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE ROLE app LOGIN; CREATE SCHEMA app AUTHORIZATION app; SELECT job_grant('app');
	SET ROLE app;
	CREATE TABLE app.victim (id int PRIMARY KEY, at timestamptz, email text, kind text);
	INSERT INTO app.victim SELECT g, CASE WHEN g > 5 THEN now() ELSE '2020-01-01' END, 'e' || g, 'k' || g
		FROM generate_series(1, 10) g;
	CREATE FUNCTION app.destroy() RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN DELETE FROM app.victim; RETURN true; END$$;
	CREATE TABLE app.original AS TABLE app.victim});

# --- more than an expression, a query, a name ---

my @expressions = (
	'true; DROP TABLE app.victim', 'true) OR (true', 'true) OR true --', 'true /*', "true' OR 'a'='a",
	'true UNION SELECT true', '(SELECT true) FROM app.victim --', 'true FROM app.victim', 'true LIMIT 1',
	'true AS x', 'true, true', 'r.*', 'r', '$1', '', ' ', ';', 'true WHERE true', 'true INTO x',
	'EXISTS (DELETE FROM app.victim RETURNING 1)',
	'EXISTS (WITH d AS (DELETE FROM app.victim RETURNING 1) SELECT 1 FROM d)',
	'app.destroy()', '(SELECT app.destroy())', "nextval('job_queue_id_seq') > 0", 'random() < 2',
	'count(*) > 0', 'row_number() OVER () > 0', 'generate_series(1, 2) > 0', 'r.ctid IS NOT NULL',
	"current_setting('x.y') = ''; --", 'CAST(true AS boolean); DELETE FROM app.victim');
my %call = (
	expired_when => q{job_schedule_retention('bad', NULL, 'app.victim', expired_when => %s)},
	filter => q{job_schedule_retention('bad', NULL, 'app.victim', 'at', '30 days', filter => %s)},
	keep_expression => q{job_schedule_retention('bad', NULL, 'app.victim', 'at', keep_expression => %s)},
	done_when => q{job_schedule_retention('bad', NULL, 'app.victim', 'at', '30 days', 'anonymize', set => 'email = NULL', done_when => %s)},
	predicate => q{job_hold_place('app.victim', %s, 'x')},
	set => q{job_schedule_retention('bad', NULL, 'app.victim', 'at', '30 days', 'update', set => %s)},
	relation => q{job_schedule_retention('bad', NULL, %s, 'at', '30 days')},
	archive_to => q{job_schedule_retention('bad', NULL, 'app.victim', 'at', '30 days', 'archive', archive_to => %s)},
	time_column => q{job_schedule_retention('bad', NULL, 'app.victim', %s, '30 days')},
	tier_column => q{job_schedule_retention('bad', NULL, 'app.victim', 'at', tier_column => %s, tiers => '{"a": "30 days"}')},
	keep_per => q{job_schedule_retention('bad', NULL, 'app.victim', 'at', keep_last => 1, keep_per => ARRAY[%s])},
	items => q{job_schedule_items('bad', NULL, %s, 'SELECT 1')},
	time_zone => q{job_schedule('bad', '@daily', 'SELECT 1', time_zone => %s)},
	schedule => q{job_schedule('bad', %s, 'SELECT 1')},
	command => q{job_schedule('bad', NULL, %s)},
	settings => q{job_schedule('bad', NULL, 'SELECT 1', settings => jsonb_build_object(%s, '1'))});
my @names = ('app.victim; DROP TABLE app.victim', 'app.victim WHERE false', '"app.victim"', 'app.victim v',
	"app.victim'", '(SELECT 1)', 'app.victim, app.original', '', 'victim"; --', 'pg_catalog.pg_authid',
	'information_schema.tables', 'public.job_execution', 'public.job_mask_secret', 'pg_toast.x', 'app.victim.at');
my @columns = ('at; DROP TABLE app.victim', '"at" < now() OR "at"', 'at::text', 'at) OR (true', 'ctid', 'tableoid',
	'at"', '', 'a.at', 'r.at');
my %texts = (
	(map { $_ => \@expressions } qw(expired_when filter keep_expression done_when predicate)),
	(map { $_ => \@names } qw(relation archive_to)),
	(map { $_ => \@columns } qw(time_column tier_column keep_per)),
	set => [ 'email = NULL WHERE true', 'email = NULL; DELETE FROM app.victim', 'email = NULL RETURNING 1',
		'email = NULL FROM app.original', '(email, kind) = (NULL, NULL)', 'email[1] = NULL', 'email = (DELETE FROM app.victim)',
		'email = NULL --', 'nothing = 1', 'email', '', 'email = app.destroy()::text', 'email = r.email || (SELECT 1', 'email = $1' ],
	items => [ 'SELECT id FROM app.victim; DROP TABLE app.victim', 'DELETE FROM app.victim RETURNING id',
		'WITH d AS (DELETE FROM app.victim RETURNING id) SELECT id FROM d', 'SELECT id INTO x FROM app.victim',
		'VALUES (1)', 'SELECT 1', '', 'SELECT id FROM app.victim UNION SELECT 1', 'EXPLAIN SELECT id FROM app.victim',
		'SELECT id FROM app.victim WHERE id = $1', 'COPY app.victim TO STDOUT' ],
	time_zone => [ "UTC'; DROP TABLE app.victim", '../../../etc/passwd', '/etc/passwd', 'Europe/../UTC', '', 'UTC+2',
		'<x>3', "Europe/Berlin\t" ],
	schedule => [ "'; DROP TABLE app.victim; --", '* * * * * * *', 'every', "every '1 s'; DROP TABLE app.victim", '@',
		'* * * *', '%s %n * * *' ],
	command => [ '', ';', '--', 'COMMIT', 'SELECT 1; ROLLBACK', 'BEGIN', 'SAVEPOINT x', 'PREPARE TRANSACTION $$x$$',
		'COPY app.victim FROM STDIN', 'SELECT (', "SELECT 'x" ],
	settings => [ 'work_mem; DROP TABLE app.victim', 'role', 'SESSION_AUTHORIZATION', 'is_superuser', 'session_replication_role',
		'log_statement', 'pg_janitor.enabled', 'pg_janitor.store_error_detail', 'Standard_Conforming_Strings', '', "a'b" ]);

# Some are what they look like, and harmless: they are tested below.
my %harmless = ('set email = NULL --' => 1);

foreach my $argument (sort keys %texts)
{
	my @tried = grep { !$harmless{"$argument $_"} } @{ $texts{$argument} };
	my @results = try_calls($node, 'app',
		map { 'SELECT ' . sprintf($call{$argument}, literal($_)) } @tried);

	is(join(' | ', map { "$tried[$_]: $results[$_]{state}" } grep { $results[$_]{state} !~ /^(?:42|22|0A|54|55P02)/ } 0 .. $#tried),
		'', "$argument: what is more than that is refused");
}
is($node->safe_psql('postgres', "SELECT count(*) = 10 FROM app.victim"), 't', 'nothing of it was carried out');

# Comments end nothing but themselves; quotes in values are values.
$node->safe_psql('postgres', q{
	SET client_min_messages = error; SET ROLE app;
	SELECT job_schedule_retention('comment', NULL, 'app.victim', 'at', '30 days', filter => 'r.id <> 2 -- AND'),
		job_schedule_retention('quotes', NULL, 'app.victim', 'at', tier_column => 'kind',
			tiers => '{"k3'' OR ''a''=''a": "1 day", "k3\\\\": "1 day", "*": null, "%s": "1 day"}'),
		job_schedule_retention('update', NULL, 'app.victim', 'at', '30 days', 'update', set => 'email = NULL -- WHERE false'),
		job_hold_place('app.victim', 'r.id = 1 -- OR true', 'it''s %s')});
is(run_job($node, 'quotes')->{records_processed}, 0, 'a tier with quotes in its name is for rows of that name');
is(run_job($node, 'update')->{records_processed}, 4, 'a comment does not end an assignment');
is(run_job($node, 'comment')->{records_processed}, 3, 'nor a condition, nor a predicate');
is($node->safe_psql('postgres', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM app.victim}), '1 2 6 7 8 9 10',
	'what was not meant is still there');

# --- names ---

my @nasty = ('%s%n%d%5$s', q{it's}, q{"quoted"}, 'back\\slash', q{'); DROP TABLE app.victim; --}, '$1 $$ $x$',
	'{"json": [1]}', '<b>', '   ', '-- x', '/* x */', ':name', "\x{202e}evil", "Zo\x{eb} \x{1f600}", "\x{20ac}" x 128, 'null', '@schedule');
utf8::encode($_) foreach @nasty;
foreach my $name (@nasty)
{
	my $quoted = literal($name);
	my $sql = "SET client_min_messages = error; SET ROLE app;
		SELECT job_schedule($quoted, NULL, 'SELECT job_report(1, to_jsonb(job_arg(''x'')))', description => $quoted,
				tags => ARRAY[$quoted], args => jsonb_build_object('x', $quoted)),
			job_set_circuit($quoted), job_alter($quoted, jsonb_build_object('circuit', $quoted)),
			job_pause($quoted, $quoted)";
	$node->safe_psql('postgres', $sql);
	is($node->safe_psql('postgres', "SELECT health FROM job_status WHERE job_name = $quoted"), 'paused', "$name: is paused");
	my ($typed) = $node->safe_psql('postgres', "SELECT health_detail FROM job_status WHERE job_name = $quoted") =~ /.*; (SELECT .*;)$/s;
	is($node->safe_psql('postgres', $typed), 1, "$name: what job_status says can be typed");
	is($node->safe_psql('postgres', "SELECT hint FROM job_why($quoted) WHERE check_name = 'paused'"), '', "$name: is not");
	my $key = $name =~ /^\@/ ? "'k'" : $quoted;
	my $run = wait_run($node, $node->safe_psql('postgres', "SELECT job_trigger($quoted, key => $key)"));
	is("$run->{status} " . ($run->{result} eq $run->{job_name} ? 'same' : $run->{result}), 'succeeded same', "$name: runs, as itself");
	my @left = try_calls($node, 'app', map { "SELECT $_" } "job_disable($quoted)", "job_cancel($quoted, $quoted)",
		"job_unschedule($quoted)", "job_circuit_report($quoted, false)", "job_set_rate_limit($quoted, 1, '1 s', $quoted)",
		"job_trigger($quoted || 'x')");
	is(join(' ', map { $_->{state} } @left), '00000 00000 00000 00000 00000 42704',
		"$name: can be done with");
}
my @refused = try_calls($node, 'app', map { "SELECT job_schedule($_, NULL, 'SELECT 1')" }
	q{''}, q{repeat('x', 129)}, q{E'a\nb'}, q{E'\x7f'}, q{E'\x1b[31m'});
is(join(' ', map { $_->{state} } @refused), join(' ', ('42602') x 5), 'names that are none');
my @keys = try_calls($node, 'app', map { "SELECT job_trigger('comment', key => $_)" } q{''}, q{repeat('x', 256)}, q{'@schedule'}, q{'@queued'});
is(join(' ', map { $_->{state} } @keys), '22023 22023 42939 42939', 'keys that are none');

# --- too large, too deep ---

my $big = q{repeat('x', 1100000)};
my %large = (
	command => "job_schedule('l', NULL, 'SELECT ' || quote_literal($big))",
	'command of 50 MB' => "job_schedule('l', NULL, 'SELECT ' || quote_literal(repeat('x', 50000000)))",
	description => "job_schedule('l', NULL, 'SELECT 1', description => $big)",
	tags => "job_schedule('l', NULL, 'SELECT 1', tags => array_fill('xxxxxxxxxxxx'::text, '{100000}'))",
	args => "job_schedule('l', NULL, 'SELECT 1', args => jsonb_build_object('x', $big))",
	settings => "job_schedule('l', NULL, 'SELECT 1', settings => jsonb_build_object('a.b', $big))",
	options => "job_schedule('l', NULL, 'SELECT 1', options => jsonb_build_object('description', $big))",
	changes => "job_alter('comment', jsonb_build_object('args', jsonb_build_object('x', $big)))",
	items => "job_schedule_items('l', NULL, 'SELECT id FROM app.victim WHERE ' || quote_literal($big) || ' IS NOT NULL', 'SELECT 1')",
	filter => "job_schedule_retention('l', NULL, 'app.victim', 'at', '30 days', filter => quote_literal($big) || ' IS NOT NULL')",
	tiers => "job_schedule_retention('l', NULL, 'app.victim', 'at', tier_column => 'kind', tiers => jsonb_build_object($big, '1 day'))",
	predicate => "job_hold_place('app.victim', quote_literal($big) || ' IS NULL', 'x')",
	reason => "job_pause('comment', $big)",
	'arguments of a trigger' => "job_trigger('comment', jsonb_build_object('x', $big))",
	'a name' => "job_trigger($big)",
	'many array items' => "job_trigger('comment', (SELECT jsonb_build_object('x', jsonb_agg(g)) FROM generate_series(1, 200000) g))");
my @large = sort keys %large;
my @results = try_calls($node, 'app', map { "SELECT $large{$_}" } @large);
is($results[$_]{state}, '54000', "$large[$_]: too large") or diag(substr($results[$_]{said}, 0, 300)) foreach 0 .. $#large;

my @deep = try_calls($node, 'app',
	q{SELECT job_trigger('comment', (repeat('{"a":', 100000) || '1' || repeat('}', 100000))::jsonb)},
	q{SELECT job_schedule('l', NULL, 'SELECT ' || repeat('(', 100000) || '1' || repeat(')', 100000))},
	q{SELECT job_schedule_retention('l', NULL, 'app.victim', 'at', '30 days', filter => repeat('NOT ', 100000) || 'true')},
	q{SELECT job_schedule_items('l', NULL, 'SELECT id FROM app.victim WHERE ' || repeat('NOT ', 100000) || 'true', 'SELECT 1')},
	q{SELECT job_mask_json((repeat('[', 3000) || '"a"' || repeat(']', 3000))::jsonb, '{**}') IS NOT NULL},
	q{SELECT job_mask_json('{"a": {"a": {"a": {"a": 1}}}}', array_fill('**.**.**.**.**.**.**.**.a'::text, '{1000}')) IS NOT NULL},
	q{SELECT job_mask_json('{"a": 1}', array_fill('a.b'::text, '{100000}')) IS NOT NULL});
unlike(join(' ', map { $_->{state} } @deep), qr/XX|58|08/, 'what is too deep is refused, and harms nothing');

# Just below the limit all of it works, through the whole life of a run.
$node->safe_psql('postgres', q{SET client_min_messages = error; SET ROLE app;
	SELECT job_schedule('large', NULL, 'SELECT job_report(length(job_arg(''x'')), job_args())', max_running => 4)});
my @ids = map { trigger($node, 'large', q{jsonb_build_object('x', (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 32000) g))}) } 1 .. 8;
eventually($node, "SELECT count(*) = 8 FROM job_runs WHERE status = 'succeeded' AND records_processed = 1024000
	AND result = args AND id IN (" . join(', ', @ids) . ')', 'arguments of a megabyte');
define_job($node, 'shouts', q{DO $$BEGIN RAISE EXCEPTION '%', repeat(E'\u20ac', 5000000); END$$}, "owner => 'app'");
my $run = run_job($node, 'shouts');
utf8::decode($run->{error_message});
cmp_ok(length($run->{error_message}), '<', 3000, 'a long error message is cut');
like($run->{error_message}, qr/^\x{20ac}+\.\.\.$/, 'between characters');
cmp_ok(-s $node->logfile, '<', 20_000_000, 'also in the log');
define_job($node, 'reports', q{SELECT job_report(1, to_jsonb(repeat('x', 2000000)))}, "owner => 'app'");
is(run_job($node, 'reports')->{sqlstate}, '54000', 'a result that is too large is an error of the run');

# --- encodings ---

my @bytes = try_calls($node, 'app', map { "SELECT $_" } q{job_trigger(E'\xff\xfe')}, q{job_trigger(E'a\x00b')},
	q{job_trigger('comment', '{"a": "\u0000"}')}, q{job_trigger('comment', '{"a": "\ud83d"}')},
	q{job_schedule('l', NULL, E'SELECT ''\xc3\x28''')}, q{job_mask_text(E'\xf8')});
is(join(' ', map { $_->{state} } @bytes), '22021 22021 22P05 22P02 22021 22021', 'what is no text is none');

foreach my $encoding (qw(SQL_ASCII LATIN1 EUC_JP))
{
	my $name = $encoding eq 'EUC_JP' ? q{E'\xc6\xfc\xcb\xdc'} : q{E'J\xf6b'};
	my $database = lc $encoding;
	local $ENV{PGCLIENTENCODING} = $encoding;

	$node->safe_psql('postgres', "CREATE DATABASE $database ENCODING $encoding LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$node->safe_psql($database, "CREATE EXTENSION pg_janitor; SET client_min_messages = error;
		SELECT job_schedule($name, NULL, 'DO \$\$BEGIN RAISE EXCEPTION USING MESSAGE = job_arg(''x''); END\$\$',
			args => jsonb_build_object('x', $name), options => jsonb_build_object('channel', $name));
		SELECT job_schedule_external($name || '2')");
	my $id = $node->safe_psql($database, "SELECT job_trigger($name, key => $name)");
	$node->safe_psql($database, "SELECT job_trigger($name || '2')");
	is($node->safe_psql($database, "SELECT job_wait($id, '3 min')"), 'failed', "$encoding: a name of its own runs");
	is($node->safe_psql($database, "SELECT error_message = $name AND job_name = $name AND key = $name
		AND args->>'x' = $name FROM job_runs WHERE id = $id"), 't', "$encoding: and is recorded");
	is($node->safe_psql($database, "SELECT count(*) FROM job_status WHERE job_name LIKE $name || '%'"), 2, "$encoding: is shown");
	is($node->safe_psql($database, "SELECT key IS NULL FROM job_claim($name || '2')"), 't', "$encoding: is claimed");
}

is($node->safe_psql('postgres', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM app.victim}), '1 2 6 7 8 9 10',
	'and the victim has survived');
quiet_log($node, 'nothing died');
$node->stop;
done_testing();
