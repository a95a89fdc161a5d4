# What a run does to its session is gone before the next run of the same
# worker begins, and whatever it does, it stays its owner, and is recorded.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;

# One worker for everything of one owner, so that runs follow each other in it.
my $node = janitor_node('session', 'pg_janitor.max_workers = 1',
	'pg_janitor.worker_idle_timeout = 600s', 'max_worker_processes = 16');

$node->safe_psql('postgres', q(
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE friend;
	GRANT friend TO alice;
	CREATE ROLE boss SUPERUSER LOGIN;
	CREATE SCHEMA a AUTHORIZATION alice; CREATE SCHEMA b AUTHORIZATION bob;
	CREATE TABLE a.t (a int); ALTER TABLE a.t OWNER TO alice;
	CREATE TABLE b.secret (a int); ALTER TABLE b.secret OWNER TO bob;
	GRANT CREATE ON SCHEMA public TO PUBLIC));

# What a session looks like from the inside.  Written as a job's result.
my $look = q(SELECT job_report(NULL, jsonb_build_object(
	'users', concat_ws(' ', session_user, current_user, current_setting('role')),
	'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings
		WHERE source = 'session' AND name NOT IN ('search_path', 'transaction_isolation',
			'transaction_read_only', 'transaction_deferrable')),
	'placeholders', concat_ws(' ', current_setting('my.own', true)),
	'path', current_setting('search_path'),
	'transaction', concat_ws(' ', current_setting('transaction_isolation'),
		current_setting('transaction_read_only'), current_setting('session_replication_role')),
	'temporary', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
	'listening', (SELECT count(*) FROM pg_listening_channels()),
	'prepared', (SELECT count(*) FROM pg_prepared_statements),
	'cursors', (SELECT count(*) FROM pg_cursors),
	'locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
	'lastval', (SELECT count(*) FROM pg_sequences WHERE false))));
my %fresh;

foreach my $owner (qw(alice boss))
{
	define_job($node, "look_$owner", $look, "owner => '$owner', settings => '{\"search_path\": \"public\"}'");
	$fresh{$owner} = run_job($node, "look_$owner");
	is($fresh{$owner}{status}, 'succeeded', "a session of $owner can be looked at");
}
is($fresh{alice}{result}{users}, 'alice alice none', 'a run is its owner');

my $number = 0;

# Runs a command, then looks at the session that it leaves.
sub leaves_nothing
{
	my ($command, %expected) = @_;
	my $owner = $expected{owner} || 'alice';
	my $name = ($expected{name} || $command) . ($owner eq 'boss' ? ' (superuser)' : '');
	my $before = run_job($node, "look_$owner");
	my ($run, $after);

	define_job($node, 'does ' . ++$number, $command, "owner => '$owner'");
	$run = run_job($node, "does $number");
	like("$run->{status} " . ($run->{sqlstate} // '') . ' ' . ($run->{error_message} // ''),
		$expected{outcome} || qr/^succeeded/, "recorded: $name");
	$after = run_job($node, "look_$owner");
	is("$run->{pid} $after->{pid}", "$before->{pid} $before->{pid}", "same process: $name");
	is_deeply($after->{result}, $fresh{$owner}{result}, "leaves nothing: $name")
	  or diag explain $after->{result};
	return $run;
}

my $denied = qr/^failed 42501 /;

# --- becoming somebody else ---

leaves_nothing('RESET ROLE');
leaves_nothing('SET ROLE friend');
leaves_nothing('SET ROLE NONE');
leaves_nothing('SET ROLE friend; RESET ROLE; DELETE FROM b.secret', outcome => $denied);
leaves_nothing('SET ROLE bob', outcome => $denied);
leaves_nothing('SET ROLE postgres', outcome => $denied);
leaves_nothing('SET SESSION AUTHORIZATION DEFAULT');
leaves_nothing('RESET SESSION AUTHORIZATION; DELETE FROM b.secret', outcome => $denied);
leaves_nothing('SET SESSION AUTHORIZATION bob', outcome => $denied);
leaves_nothing('SET SESSION AUTHORIZATION postgres', outcome => $denied);
leaves_nothing(q(SELECT set_config('role', 'bob', false)), outcome => $denied);
leaves_nothing(q(SELECT set_config('session_authorization', 'postgres', false)), outcome => $denied);
leaves_nothing(q(DO $$BEGIN RESET ROLE; COMMIT; SET ROLE friend; COMMIT; RESET SESSION AUTHORIZATION; END$$));
leaves_nothing('SET ROLE friend; SELECT 1/0', outcome => qr/^failed 22012/);
my $run = leaves_nothing('SET SESSION AUTHORIZATION alice', owner => 'boss');
is($run->{run_as}, 'boss', 'the record says who it ran as');
leaves_nothing('SET SESSION AUTHORIZATION alice; DELETE FROM b.secret', owner => 'boss', outcome => $denied);
leaves_nothing('SET ROLE alice', owner => 'boss');

# --- temporary things ---

leaves_nothing('CREATE TEMP TABLE x (a int); INSERT INTO x VALUES (1)');
leaves_nothing('CREATE TEMP TABLE x (a int) ON COMMIT DELETE ROWS; CREATE TEMP VIEW v AS SELECT 1 AS a');
leaves_nothing('CREATE TEMP TABLE job_execution (a int); CREATE TEMP TABLE job_queue (a int)', name => 'temporary tables with our names');
leaves_nothing('CREATE TEMP TABLE x (a int); SELECT 1/0', outcome => qr/^failed 22012/);
leaves_nothing('PREPARE p AS SELECT 1');
leaves_nothing('DECLARE c CURSOR WITH HOLD FOR SELECT 1');
leaves_nothing('SELECT pg_advisory_lock(1), pg_advisory_lock_shared(2)');
leaves_nothing('SELECT pg_advisory_lock(1); SELECT 1/0', outcome => qr/^failed 22012/);
leaves_nothing('LISTEN channel', outcome => qr/^failed .*background/);
leaves_nothing('NOTIFY channel');

# --- settings ---

leaves_nothing(q(SET work_mem = '7MB'; SET search_path = a; SET my.own = 'x'; SET timezone = 'Asia/Tokyo'));
leaves_nothing(q(SET LOCAL work_mem = '7MB'));
leaves_nothing(q(SET work_mem = '7MB'; SELECT 1/0), outcome => qr/^failed 22012/);
leaves_nothing(q(SELECT set_config('search_path', 'a', false)));
leaves_nothing('SET application_name = somebody');
leaves_nothing('SET default_transaction_read_only = on');
leaves_nothing('SET default_transaction_isolation = serializable');
leaves_nothing('SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
leaves_nothing('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE', name => 'its own transaction serializable and read only');
leaves_nothing('SET transaction_read_only = on');
leaves_nothing(q(SET statement_timeout = '1ms'; SET lock_timeout = '1ms'; SET idle_in_transaction_session_timeout = '1ms'));
leaves_nothing('SET synchronous_commit = off');
leaves_nothing('SET session_replication_role = replica', outcome => $denied);
leaves_nothing('SET session_replication_role = replica', owner => 'boss');
leaves_nothing('SET allow_system_table_mods = on; SET zero_damaged_pages = on', owner => 'boss');
leaves_nothing('SET default_transaction_read_only = on; SET session_replication_role = replica; SELECT 1/0', owner => 'boss', outcome => qr/^failed 22012/);
leaves_nothing('SET default_table_access_method = heap; SET enable_indexscan = off; SET enable_seqscan = off; SET row_security = off');
leaves_nothing('SET client_encoding = LATIN1; SET DateStyle = German; SET IntervalStyle = sql_standard; SET bytea_output = escape');
leaves_nothing('SELECT setseed(0.5)');

# --- the owner's own settings ---

sub worker { return $node->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_janitor worker')) }

define_job($node, 'shows', q(SELECT job_report(NULL, to_jsonb(current_setting('work_mem') || ' ' || current_setting('default_transaction_read_only')))),
	q(owner => 'alice'));
my $before = run_job($node, 'shows');
$node->safe_psql('postgres', q(ALTER ROLE alice SET work_mem = '11MB'));
$run = run_job($node, 'shows');
is($run->{result}, '11MB off', q(the owner's settings are in force, and a change of them too));
isnt($run->{pid}, $before->{pid}, 'a worker from before the change has left');
is(run_job($node, 'shows')->{result}, '11MB off', 'and in the next run of the same worker');
define_job($node, 'sets', q(SET work_mem = '12MB'), q(owner => 'alice'));
run_job($node, 'sets');
is(run_job($node, 'shows')->{result}, '11MB off', 'to which a reset leads back');
$node->safe_psql('postgres', q(ALTER ROLE alice IN DATABASE postgres SET default_transaction_read_only = on;
	ALTER ROLE alice SET default_transaction_isolation = 'serializable'));
$run = run_job($node, 'shows');
is("$run->{status} $run->{result}", 'succeeded 11MB on', 'an owner who only reads: runs and is recorded');
define_job($node, 'writes', 'INSERT INTO a.t VALUES (1)', q(owner => 'alice'));
$run = run_job($node, 'writes');
is("$run->{status} $run->{sqlstate}", 'failed 25006', 'an owner who only reads: cannot write, and is recorded');
$node->safe_psql('postgres', q(ALTER ROLE alice IN DATABASE postgres RESET ALL; ALTER ROLE alice RESET ALL));
is(run_job($node, 'writes')->{status}, 'succeeded', 'and without that setting can');
$before = run_job($node, 'shows');
$node->safe_psql('postgres', q(ALTER ROLE alice SET statement_timeout = '200ms'));
define_job($node, 'slow', $LONG, q(owner => 'alice'));
is(run_job($node, 'slow')->{sqlstate}, '57014', q(an owner's statement_timeout is honoured));
$node->safe_psql('postgres', q(ALTER ROLE alice RESET statement_timeout; ALTER ROLE alice SET role = 'friend'));
define_job($node, 'who', q(SELECT job_report(NULL, to_jsonb(current_user::text))), q(owner => 'alice'));
my $cold = run_job($node, 'who');
my $warm = run_job($node, 'who');
is("$warm->{pid} $warm->{result}", "$cold->{pid} $cold->{result}", 'ALTER ROLE ... SET role: every run of a worker is the same role');
$node->safe_psql('postgres', q(ALTER ROLE alice RESET role));
$before = run_job($node, 'shows');
$node->safe_psql('postgres', q(ALTER DATABASE postgres SET work_mem = '13MB'));
$run = run_job($node, 'shows');
is($run->{result}, '13MB off', q(a change of the database's settings is in force));
$node->safe_psql('postgres', q(ALTER DATABASE postgres RESET work_mem));

# Rights that the owner loses are lost to the next run.
define_job($node, 'as_friend', 'SET ROLE friend', q(owner => 'alice'));
is(run_job($node, 'as_friend')->{status}, 'succeeded', 'a member may');
$node->safe_psql('postgres', 'REVOKE friend FROM alice');
is(run_job($node, 'as_friend')->{sqlstate}, '42501', 'who is no member any more may not');
is($node->safe_psql('postgres', 'SELECT count(*) FROM a.t'), '1', 'nothing else was done');

quiet_log($node, 'no process of pg_janitor has died or got stuck');
$node->stop;
done_testing();
