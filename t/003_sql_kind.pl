# Kind `sql`: what a command may be, what its run records.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;

my $node = janitor_node('sql_kind', 'pg_janitor.max_workers = 4',
	'max_worker_processes = 16');
my $major = $node->safe_psql('postgres',
	q(SELECT current_setting('server_version_num')::int / 10000));

$node->safe_psql('postgres', q(
	CREATE TABLE t (a int, b text);
	CREATE TABLE effects (note text, at timestamptz DEFAULT clock_timestamp())));

# Defines a job and runs it once; its record.  Jobs are named one after the
# other, so that each has its own.
my $number = 0;

sub once
{
	my ($command, $options, $arguments) = @_;
	my $name = 'job ' . ++$number;
	define_job($node, $name, $command, $options);
	return run_job($node, $name, $arguments);
}

sub said { my ($row) = @_; return join(' ', map { $_ // 'NULL' } @{$row}{qw(status sqlstate error_message)}) }

sub value { return $node->safe_psql('postgres', @_) }

# --- one transaction ---

my $row = once(q(INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); SELECT 1/0; INSERT INTO t VALUES (3)));
is(said($row), 'failed 22012 division by zero', 'the error of a statement is the error of the run');
is(value('SELECT count(*) FROM t'), '0', 'several statements are one transaction: a failure undoes all');
ok(!defined $row->{records_processed}, 'a run that failed has processed no records');
$row = once(q(INSERT INTO effects SELECT pg_current_xact_id()::text; INSERT INTO effects SELECT pg_current_xact_id()::text));
is(value('SELECT count(DISTINCT note), count(*) FROM effects'), '1|2', 'several statements run in one transaction');
is( value(qq(SELECT xmin::text = (SELECT max(note) FROM effects) FROM job_execution WHERE id = $row->{id})),
	't', 'and the record of their success is written by that very transaction');
$node->safe_psql('postgres', 'DELETE FROM effects');

# --- what it counts ---

my @counted = (
	[ 'INSERT INTO t SELECT g FROM generate_series(1, 10) g', 10, 'INSERT counts' ],
	[ 'UPDATE t SET b = 1 WHERE a <= 4', 4, 'UPDATE counts' ],
	[ 'DELETE FROM t WHERE a = 10', 1, 'DELETE counts' ],
	[ q(MERGE INTO t USING (VALUES (1), (99)) v (a) ON v.a = t.a
		WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.a)), 2, 'MERGE counts' ],
	[ 'INSERT INTO t VALUES (5); UPDATE t SET b = 2 WHERE a < 5; DELETE FROM t WHERE a = 99; SELECT 77', 5,
		'changes of all statements are added up, and win over a SELECT' ],
	[ 'DELETE FROM t WHERE false', 0, 'no row changed is zero, not unknown' ],
	[ 'DELETE FROM t WHERE false; SELECT 77', 0, 'also before a SELECT' ],
	[ 'WITH d AS (DELETE FROM t RETURNING a) SELECT count(*) FROM d', value('SELECT 0') + 9,
		'the count that a cleanup selects is the number' ],
	[ 'SELECT 42', 42, 'a SELECT of one integer is the number' ],
	[ 'SELECT 42::smallint', 42, 'also smallint' ],
	[ 'SELECT 42::bigint * 1000000000000', 42000000000000, 'also bigint' ],
	[ 'SELECT 1; SELECT 43', 43, 'the last SELECT is' ],
	[ 'SELECT 42; SET LOCAL jit = off', undef, 'only if it is the last statement' ],
	[ 'SELECT g FROM generate_series(1, 2) g', undef, 'not of two rows' ],
	[ 'SELECT 1, 2', undef, 'not of two columns' ],
	[ 'SELECT 1 WHERE false', undef, 'not of no row' ],
	[ 'SELECT NULL::int', undef, 'not of NULL' ],
	[ q(SELECT 'x'), undef, 'not of text' ],
	[ 'SELECT 1.5', undef, 'not of numeric' ],
	[ 'CREATE TABLE made AS SELECT 7 AS a', undef, 'CREATE TABLE AS is not countable' ],
	[ q(DO $$BEGIN INSERT INTO t VALUES (1); END$$), undef, 'DO is not countable' ],
	[ 'PREPARE p AS INSERT INTO t VALUES (1), (2); EXECUTE p', 2, 'EXECUTE counts as what it executes' ],
	[ q(INSERT INTO t VALUES (1); SELECT job_report(17)), 17, 'job_report wins over what was counted' ],
	[ q(SELECT job_report(1); SELECT job_report(2)), 2, 'the last job_report counts' ],
	[ q(INSERT INTO t VALUES (1); SELECT job_report(NULL)), undef, 'job_report can say: not countable' ]);

foreach my $case (@counted)
{
	my ($command, $records, $name) = @$case;
	my $row = once($command);
	is(($row->{records_processed} // 'NULL') . " $row->{status}",
		($records // 'NULL') . ' succeeded', "records_processed: $name");
}

$row = once(q(SELECT job_report(3, '{"left": 5}')));
is($row->{result}{left}, 5, 'job_report sets the result');
like(said(once('SELECT job_report(-1)')), qr/^failed 22023 /, 'job_report refuses negative numbers');
$row = once(q(SELECT job_report(3, '{"left": 5}'); SELECT 1/0));
ok(!defined $row->{result} && !defined $row->{records_processed}, 'what a run reported before it failed is not kept');

# --- at the top level ---

$node->safe_psql('postgres', q(
	TRUNCATE t; TRUNCATE effects;
	CREATE PROCEDURE in_two(fail boolean) LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('one');
		COMMIT;
		INSERT INTO effects VALUES ('two');
		IF fail THEN RAISE 'after the commit' USING ERRCODE = 'JN002'; END IF;
		INSERT INTO effects SELECT 'xid ' || pg_current_xact_id()::text;
	END$$));
$row = once('CALL in_two(true)');
is(said($row), 'failed JN002 after the commit', 'a lone CALL may commit, and fail later');
is(value('SELECT string_agg(note, chr(32)) FROM effects'), 'one', 'then what it had committed stays, and nothing else');
$row = once('CALL in_two(false)');
is($row->{status}, 'succeeded', 'a lone CALL may commit, and succeed');
is( value(qq(SELECT 'xid ' || xmin::text = (SELECT max(note) FROM effects WHERE note LIKE 'xid%') FROM job_execution WHERE id = $row->{id})),
	't', 'its record joins its last transaction');
like(said(once('SELECT 1; CALL in_two(false)')), qr/^failed 2D000 /, 'a CALL among others cannot commit');
is(said(once('DO $$BEGIN INSERT INTO effects VALUES (1); COMMIT; END$$')), 'succeeded NULL NULL', 'a lone DO may commit');
$row = once(q(DO $$BEGIN PERFORM job_report(4, '{"a": 1}'); COMMIT; PERFORM set_config('search_path', 'pg_catalog', false); ROLLBACK; END$$));
is("$row->{status} $row->{records_processed} $row->{result}{a}", 'succeeded 4 1',
	'what a run has reported outlives its commits and rollbacks');

is(said(once('VACUUM t')), 'succeeded NULL NULL', 'a lone VACUUM runs');
ok($node->poll_query_until('postgres', q(SELECT vacuum_count = 1 FROM pg_stat_user_tables WHERE relname = 't')),
	'and has vacuumed');
is(said(once('CREATE INDEX CONCURRENTLY t_a ON t (a)')), 'succeeded NULL NULL', 'a lone CREATE INDEX CONCURRENTLY runs');
my $oid = value(q(SELECT relfilenode FROM pg_class WHERE relname = 't_a'));
is(said(once('REINDEX TABLE CONCURRENTLY t')), 'succeeded NULL NULL', 'a lone REINDEX CONCURRENTLY runs');
isnt(value(q(SELECT relfilenode FROM pg_class WHERE relname = 't_a')), $oid, 'and has rebuilt the index');
is(said(once('DROP INDEX CONCURRENTLY t_a')), 'succeeded NULL NULL', 'a lone DROP INDEX CONCURRENTLY runs');
$node->safe_psql('postgres', q(CREATE TABLE parts (a int) PARTITION BY LIST (a); CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1)));
is(said(once('ALTER TABLE parts DETACH PARTITION part1 CONCURRENTLY')), 'succeeded NULL NULL', 'a lone DETACH PARTITION CONCURRENTLY runs');
foreach my $statement ('VACUUM t', 'CREATE INDEX CONCURRENTLY t_a ON t (a)', 'REINDEX TABLE CONCURRENTLY t')
{
	like(said(once("INSERT INTO effects VALUES ('beside'); $statement")),
		qr/^failed 25001 (VACUUM|CREATE INDEX CONCURRENTLY|REINDEX CONCURRENTLY) cannot/,
		"among other statements the server's own error: $statement");
}
is(value(q(SELECT count(*) FROM effects WHERE note = 'beside')), '0', 'and the other statements are undone');

# --- refused when defined ---

foreach my $refused (
	[ 'COMMIT', '0A000' ], [ 'SELECT 1; ROLLBACK', '0A000' ], [ 'BEGIN; SELECT 1; END', '0A000' ],
	[ 'SAVEPOINT s', '0A000' ], [ q(PREPARE TRANSACTION 'x'), '0A000' ],
	[ 'COPY t FROM STDIN', '0A000' ], [ 'COPY t TO STDOUT', '0A000' ],
	[ 'SELEC 1', '42601' ], [ 'SELECT (1', '42601' ], [ q(SELECT 'x), '42601' ],
	[ '', '22023' ], [ ' ; -- nothing', '22023' ])
{
	my ($command, $sqlstate) = @$refused;
	like(sql_error($node, 'SELECT job_schedule(' . literal('refused') . ', NULL, ' . literal($command) . ')'),
		qr/ERROR:  $sqlstate:/, "refused when it is defined: $command");
}
is(value(q(SELECT count(*) FROM job_definition WHERE name = 'refused')), '0', 'and not defined then');

# --- constraints that are checked at the end ---

$node->safe_psql('postgres', q(
	CREATE TABLE deferred (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)));
$row = once('INSERT INTO deferred VALUES (1); INSERT INTO deferred VALUES (1)');
like(said($row), qr/^failed 23505 duplicate key/, 'a violation that shows at the end is the failure of the run');
is(value('SELECT count(*) FROM deferred'), '0', 'and undoes it');
is(once('INSERT INTO deferred VALUES (1); INSERT INTO deferred VALUES (1); DELETE FROM deferred')->{status},
	'succeeded', 'one that is put right before the end is none');

# --- timeouts ---

$node->safe_psql('postgres', q(
	CREATE PROCEDURE forever() LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effects VALUES ('forever'); COMMIT; LOOP COMMIT; END LOOP; END$$));
my $timeout = q(timeout => '300 ms');
my $timed_out = qr/^timed_out 57014 canceled after its timeout of 0.3 s/;
like(said(once("INSERT INTO t VALUES (1); $LONG", $timeout)), $timed_out, 'timeout: in a statement');
is(value('SELECT count(*) FROM t'), '0', 'timeout: the run is undone');
like(said(once(q(DO $$BEGIN LOOP NULL; END LOOP; END$$), $timeout)), $timed_out, 'timeout: in a loop that never waits');
like(said(once('CALL forever()', q(timeout => '2 s'))), qr/^timed_out 57014 canceled after its timeout of 2 s/, 'timeout: across the transactions of a CALL');
is(value(q(SELECT count(*) FROM effects WHERE note = 'forever')), '1', 'timeout: what a CALL has committed stays');
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe('LOCK TABLE t');
like(said(once('DELETE FROM t', $timeout)), $timed_out, 'timeout: while it waits for a lock');
like(said(once('DELETE FROM t', q(settings => '{"lock_timeout": "100ms"}', max_attempts => 1))),
	qr/^failed 55P03 /, 'lock_timeout in the settings is honoured');
$session->query_safe('ROLLBACK');
$session->quit;
$row = once(q(DO $$BEGIN LOOP BEGIN PERFORM pg_sleep(600);	-- a job that takes long
	EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$), $timeout);
like($row->{status}, qr/^timed_out$/, 'timeout: a command that swallows cancels is ended all the same');
$row = once($LONG, q(settings => '{"statement_timeout": "200ms"}'));
like(said($row), qr/^failed 57014 .*statement.timeout/, 'statement_timeout in the settings is honoured');
is(once('SELECT 1', q(timeout => '1 hour'))->{status}, 'succeeded', 'timeout: nothing happens to a run that is in time');
$row = once(q(INSERT INTO deferred VALUES (7)), $timeout);
$node->safe_psql('postgres', qq(
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN PERFORM pg_sleep(600); RETURN NULL; END\$\$; -- a job that takes long
	CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()));
like(said(once('INSERT INTO deferred VALUES (8)', $timeout)), $timed_out, 'timeout: in a deferred trigger');

# --- settings ---

$row = once(q(INSERT INTO effects SELECT concat_ws(' ', current_setting('work_mem'), current_setting('search_path'), current_setting('my.own'))),
	q(settings => '{"work_mem": "7MB", "search_path": "public, pg_temp", "my.own": "x''y"}'));
is(value('SELECT note FROM effects ORDER BY at DESC LIMIT 1'), q(7MB public, pg_temp x'y), 'settings are in force in a run');
$node->safe_psql('postgres', q(
	CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.t (a int);
	SET search_path = elsewhere, public;
	SELECT job_schedule('captured', NULL, 'INSERT INTO t VALUES (1)')));
run_job($node, 'captured');
is(value('SELECT count(*) FROM elsewhere.t'), '1', 'a command means what it meant in the session that defined it');
is( once('CALL in_two(false)', q(settings => '{"work_mem": "7MB"}'))->{status}, 'succeeded', 'settings and a CALL');
$row = once(q(DO $$BEGIN COMMIT; INSERT INTO effects VALUES (current_setting('work_mem')); END$$), q(settings => '{"work_mem": "9MB"}'));
is(value('SELECT note FROM effects ORDER BY at DESC LIMIT 1'), '9MB', 'settings last over the commits of a run');
like(said(once('INSERT INTO t VALUES (1)', q(settings => '{"default_transaction_read_only": "on"}'))),
	qr/^failed 25006 /, 'default_transaction_read_only in the settings is honoured');
$row = once(q(INSERT INTO effects VALUES (current_setting('transaction_isolation'))),
	q(settings => '{"default_transaction_isolation": "repeatable read"}'));
is(value('SELECT note FROM effects ORDER BY at DESC LIMIT 1'), 'repeatable read', 'default_transaction_isolation in the settings is honoured');

# --- inside a run ---

$row = once(q(INSERT INTO effects SELECT jsonb_build_object('args', job_args(), 'a', job_arg('a'), 'o', job_arg('o'), 'none', job_arg('none'),
		'id', job_execution_id(), 'for', job_scheduled_for(), 'same', job_now() = job_now())::text),
	q(args => '{"a": 1, "b": "default", "o": {"x": [1]}}'), q('{"b": "given", "c": null}'));
is_deeply(
	JSON::PP->new->decode(value('SELECT note FROM effects ORDER BY at DESC LIMIT 1')),
	{   args => { a => 1, b => 'given', c => undef, o => { x => [1] } },
		a => '1', o => '{"x": [1]}', none => undef, id => $row->{id}, for => undef, same => JSON::PP::true },
	'a run sees its arguments, merged over those of the job, and who it is');
is($row->{args}{b}, 'given', 'and they are in its record');
define_job($node, 'occurs', q(INSERT INTO effects VALUES ('occurs ' || job_scheduled_for()); SELECT job_execution_id()),
	q(schedule => 'every 1 second'));
eventually($node, q(SELECT count(*) > 0 FROM job_execution WHERE job_name = 'occurs' AND success), 'an occurrence');
is( value(q(SELECT 'occurs ' || scheduled_for = (SELECT min(note) FROM effects WHERE note LIKE 'occurs%')
		FROM job_execution WHERE job_name = 'occurs' AND success ORDER BY id LIMIT 1)),
	't', 'job_scheduled_for is the occurrence');
$node->safe_psql('postgres', q(SELECT job_unschedule('occurs')));
$row = once(q(DO $$DECLARE at timestamptz := job_now(); BEGIN COMMIT; ASSERT at = job_now() AND at < clock_timestamp(); END$$));
is($row->{status}, 'succeeded', 'job_now is one instant for the whole run, commits or not');
foreach my $call ('job_args()', q(job_arg('a')), 'job_execution_id()', 'job_scheduled_for()', 'job_now()', 'job_report(1)')
{
	like(sql_error($node, "SELECT $call"), qr/ERROR:  55000:/, "outside a run an error: $call");
}
is(said(once('SELECT job_cancel(job_execution_id()); ' . $LONG)) =~ s/ .*//r, 'cancelled', 'a run can cancel itself');

# --- errors and noise ---

is(said(once(q(DO $$BEGIN RAISE 'what "went" wrong' USING ERRCODE = 'JN003', DETAIL = 'd', HINT = 'h'; END$$))),
	'failed JN003 what "went" wrong', 'SQLSTATE and primary message are recorded');
is(said(once(q(SELECT * FROM no_such_table))), 'failed 42P01 relation "no_such_table" does not exist',
	'a table that is missing when the job runs');
is(said(once(q(DO $$BEGIN FOR i IN 1..1000 LOOP RAISE NOTICE 'notice %', i; RAISE WARNING 'warning %', i; END LOOP; END$$))),
	'succeeded NULL NULL', 'notices and warnings do no harm');
is(said(once(q(SELECT g, repeat('x', 1000) FROM generate_series(1, 10000) g))), 'succeeded NULL NULL', 'nor rows that nobody reads');
my $long = 'x' x 100_000;
like(once("DO \$\$BEGIN RAISE '%', repeat('x', 100000); END\$\$")->{error_message}, qr/^x{1000}/, 'a long message is recorded');

# --- large and odd ---

$row = once(q(SELECT length(job_arg('big'))), undef, q(jsonb_build_object('big', repeat('0123456789', 104000))));
is($row->{records_processed}, 1_040_000, 'arguments of a megabyte arrive');
is(length($row->{args}{big}), 1_040_000, 'and are recorded');
like(sql_error($node, q(SELECT job_trigger('job 1', jsonb_build_object('big', repeat('x', 1048577))))),
	qr/54000: .*"args" is too large/, 'but there is an end to it');
$row = once("SELECT 1 /* $long */");
is($row->{status}, 'succeeded', 'a command of 100 kB');
foreach my $name (q(it's "quoted"), 'back\\slash %s', "caf\xc3\xa9 \xe2\x98\x83 \xf0\x9f\x8f\xba", ' spaces ', 'x' x 128, '$1; DROP TABLE t --')
{
	define_job($node, $name, 'SELECT 1');
	$row = run_job($node, $name);
	is( value('SELECT status FROM job_execution WHERE job_name = ' . literal($name)), 'succeeded', "a job of any name runs: $name");
}

# --- repeated at once ---

$session = $node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe('LOCK TABLE t');
define_job($node, 'conflicts', 'DELETE FROM t', q(settings => '{"lock_timeout": "20ms"}'));
trigger($node, 'conflicts');
eventually($node, q(SELECT count(*) = 4 FROM job_execution WHERE job_name = 'conflicts' AND status = 'failed'), 'four failures');
is( value(q(SELECT string_agg(concat_ws(' ', sqlstate, attempt, conflicts, reason), ', ' ORDER BY id)
		FROM job_execution WHERE job_name = 'conflicts')),
	'55P03 1 0 manual, 55P03 1 1 retry, 55P03 1 2 retry, 55P03 1 3 retry', 'lock timeouts are repeated at once, three times');
$session->query_safe('ROLLBACK');
$session->quit;

quiet_log($node, 'no process of pg_janitor has died or got stuck', qr/"pg_janitor worker"/);
$node->stop;
done_testing();
