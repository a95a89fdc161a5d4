# Processes: who is there when, as whom, and what makes them come and go.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;

# --- not preloaded ---

my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->start;
like(sql_error($plain, 'CREATE EXTENSION pg_janitor'),
	qr/WARNING:  55000: .*HINT: .*shared_preload_libraries/s,
	'without preloading: CREATE EXTENSION works and names the setting to add');
like($plain->safe_psql('postgres', q(SELECT job_schedule('a', '@hourly', 'SELECT 1'))),
	qr/^\d/, 'without preloading: jobs can be defined, so that a dump restores');
foreach my $call (q(SELECT job_trigger('a')), q(CALL job_run('a')), q(SELECT job_wait(1)))
{
	like(sql_error($plain, $call), qr/ERROR:  55000: .*HINT: .*shared_preload_libraries/s,
		"without preloading: what needs the processes says what to set: $call");
}
is( $plain->safe_psql('postgres', q(SELECT count(*) FROM job_status)) . ' '
	  . $plain->safe_psql('postgres', q(SELECT count(*) FROM job_queue)),
	'1 1', 'without preloading: the views work, and no refused trigger is left in the queue');
$plain->append_conf('postgresql.conf', q(shared_preload_libraries = 'pg_janitor'));
$plain->restart;
is(run_job($plain, 'a')->{status}, 'succeeded',
	'without preloading: what was defined runs once the setting is there');
$plain->stop;

# --- a server whose processes leave soon ---

my $node = janitor_node('processes', 'pg_janitor.worker_idle_timeout = 60s',
	'pg_janitor.max_workers = 2', 'max_prepared_transactions = 2',
	'max_worker_processes = 16');
my $who = q(SELECT string_agg(backend_type, ', ' ORDER BY backend_type)
	FROM pg_stat_activity WHERE backend_type LIKE 'pg_janitor%');
my $only_launcher = "($who) = 'pg_janitor launcher'";

$node->safe_psql('postgres', q(
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN;
	SELECT job_grant('alice');
	CREATE TABLE ran (who text, said_by text, note text, at timestamptz DEFAULT clock_timestamp());
	GRANT ALL ON ran TO PUBLIC));
define_job($node, "of_$_",
	q(INSERT INTO ran VALUES (current_user, session_user, 'first')),
	"owner => '$_'") foreach qw(alice bob carol);
define_job($node, 'pid_alice', 'SELECT pg_backend_pid()', q(owner => 'alice'));
define_job($node, 'hourly', 'SELECT 1', q(schedule => '@hourly'));

my $row = run_job($node, 'of_alice');
is( $node->safe_psql('postgres', 'SELECT who, said_by FROM ran') . " $row->{run_as}",
	'alice|alice alice', 'a worker is connected as the owner, session and current user');
my $pid = $row->{pid};
is( $node->safe_psql('postgres', $who),
	'pg_janitor launcher, pg_janitor scheduler, pg_janitor worker',
	'after a run its processes are still there');
is(run_job($node, 'of_alice')->{pid}, $pid, 'a warm worker runs the next job of its owner');
is( $node->safe_psql('postgres', "SELECT usename, application_name FROM pg_stat_activity WHERE pid = $pid"),
	'alice|pg_janitor worker', 'activity shows the owner and no name of a job');
set_setting($node, 'pg_janitor.worker_idle_timeout', 1);

ok($node->poll_query_until('postgres', "SELECT $only_launcher"),
	'an idle database has no process connected to it: only the launcher stays');
$row = run_job($node, 'of_alice');
is($row->{status}, 'succeeded', 'a trigger brings scheduler and worker back');
isnt($row->{pid}, $pid, 'in a new process');

# Due while nobody is there: the launcher knows when.
ok($node->poll_query_until('postgres', "SELECT $only_launcher"), 'all idle again');
my $early = 0;
my $late = quickest(1, sub {
	my $at = $node->safe_psql('postgres', q(SELECT now() + interval '2 seconds'));
	my $run = wait_run($node, trigger($node, 'of_alice', "run_at => '$at'"));
	my $after = $node->safe_psql('postgres', "SELECT extract(epoch FROM started_at - timestamptz '$at')
		FROM job_execution WHERE id = $run->{id}");
	$early++ if $after < 0;
	return $after;
});
is($early, 0, 'a run that was put off to a time is not run before that time');
cmp_ok($late, '<', 1, 'but at that time');
define_job($node, 'rare', 'SELECT 1', q(schedule => 'every 3 seconds'));
ok( $node->poll_query_until('postgres',
		"SELECT $only_launcher AND count(*) > 0 FROM job_execution WHERE job_name = 'rare'"),
	'between rare occurrences the scheduler leaves');
my $rare = $node->safe_psql('postgres', q(SELECT max(id) FROM job_execution WHERE job_name = 'rare'));
ok( $node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM job_execution WHERE job_name = 'rare' AND success AND id > $rare"),
	'and is back for the next');
ok( $node->poll_query_until('postgres', "SELECT count(*) > 0 FROM job_execution WHERE job_name = 'rare'
		AND id > $rare AND started_at - scheduled_for < '1 second'"),
	'in time for it');
$node->safe_psql('postgres', q(SELECT job_unschedule('rare')));

# --- how many ---

my $lock = hold_lock($node);
define_job($node, 'block', JanitorTest::UNTIL_RELEASED, q(owner => 'alice', max_running => 10));
my @ids = map { trigger($node, 'block') } 1 .. 5;
eventually($node, q(SELECT count(pid) = 2 FROM job_running()), 'two runs');
is( $node->safe_psql('postgres', q(
		SELECT count(*) FILTER (WHERE backend_type = 'pg_janitor worker') FROM pg_stat_activity)),
	'2', 'no more workers than max_workers, however many runs wait');
release_lock($lock);
is(join(' ', map { wait_run($node, $_)->{status} } @ids), join(' ', ('succeeded') x 5),
	'those that waited run as workers become free');
is( $node->safe_psql('postgres', q(
		SELECT max(n) FROM (SELECT (SELECT count(*) FROM job_execution b
			WHERE b.job_name = 'block' AND b.started_at <= a.started_at AND b.completed_at > a.started_at) AS n
		FROM job_execution a WHERE a.job_name = 'block') s)),
	'2', 'at no time more than max_workers ran');

# Both places are alice's, warm and idle.
is(run_job($node, 'of_bob')->{status}, 'succeeded',
	q(an idle worker gives way to another owner's run));

# A busy owner with several workers gives one of them up, after its run.
$lock = hold_lock($node);
@ids = map { trigger($node, 'block') } 1 .. 4;
eventually($node, q(SELECT count(r.pid) = 2 FROM job_running() r JOIN job_execution e ON e.id = execution_id
	WHERE e.job_name = 'block'), 'two runs');
my $bob = trigger($node, 'of_bob');
release_lock($lock);
is(wait_run($node, $bob)->{status}, 'succeeded',
	'an owner with a queue of runs does not keep all workers from the others');
wait_run($node, $_) foreach @ids;

# --- transactions ---

my $count = $node->safe_psql('postgres', 'SELECT count(*) FROM ran');
$node->safe_psql('postgres', q(BEGIN; SELECT job_trigger('of_carol'); ROLLBACK));
run_job($node, 'of_bob');    # the scheduler has looked since
is( $node->safe_psql('postgres', q(SELECT count(*) FROM job_execution WHERE job_name = 'of_carol'))
	  . $node->safe_psql('postgres', q(SELECT count(*) FROM job_queue WHERE job_name = 'of_carol')),
	'00', 'a trigger in a transaction that is rolled back runs nothing');
$node->safe_psql('postgres', q(
	BEGIN; SAVEPOINT s; SELECT job_trigger('of_carol'); ROLLBACK TO s;
	SELECT job_trigger('of_bob'); COMMIT));
eventually($node, q(SELECT count(*) = 0 FROM job_queue WHERE reason = 'manual'), 'an empty queue');
is($node->safe_psql('postgres', q(SELECT count(*) FROM job_execution WHERE job_name = 'of_carol')),
	'0', 'nor in a subtransaction that is');

my $id = $node->safe_psql('postgres', q(
	BEGIN; SELECT job_trigger('of_alice'); PREPARE TRANSACTION 'p'));
run_job($node, 'of_bob');
is(execution($node, $id), undef, 'a trigger in a prepared transaction waits');
ok($node->poll_query_until('postgres', "SELECT $only_launcher"), 'and keeps no process waiting');
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
is(wait_run($node, $id)->{status}, 'succeeded', 'COMMIT PREPARED runs it');

# --- failures ---

define_job($node, 'always_fails', 'SELECT 1/0', q(schedule => 'every 1 second'));
ok( $node->poll_query_until('postgres', q(
		SELECT count(*) >= 3 FROM job_execution WHERE job_name = 'always_fails' AND status = 'failed'
		AND sqlstate = '22012')),
	'a job that always fails is run again at each occurrence');
is( $node->safe_psql('postgres', q(
		SELECT health, consecutive_failures >= 3 FROM job_status WHERE job_name = 'always_fails')),
	'failing|t', 'and its status says so');
$node->safe_psql('postgres', q(SELECT job_unschedule('always_fails')));

# --- definitions that change ---

define_job($node, 'changes', q(INSERT INTO ran VALUES (current_user, NULL, 'before')), q(owner => 'alice'));
run_job($node, 'changes');
$node->safe_psql('postgres', q(SELECT job_alter('changes', jsonb_build_object('command',
	'INSERT INTO ran VALUES (current_user, NULL, ''after'')'))));
$row = run_job($node, 'changes');
is( $node->safe_psql('postgres', q(SELECT note FROM ran ORDER BY at DESC LIMIT 1)) . " $row->{definition_version}",
	'after 2', 'a run carries out the definition of its time');
$node->safe_psql('postgres', q(SET client_min_messages = error; SELECT job_alter('changes', '{"owner": "bob"}')));
$row = run_job($node, 'changes');
is( $node->safe_psql('postgres', q(SELECT who FROM ran ORDER BY at DESC LIMIT 1)) . " $row->{run_as}",
	'bob bob', 'a job that was given to another role runs as that role');

# --- rights that change ---

# More than once: the scheduler must not look before it can see the change.
my $problem = qr/job "of_bob" is held: role "bob" has no CONNECT privilege/;
my $released = 0;
foreach (1 .. 5)
{
	my $mark = -s $node->logfile;
	$node->safe_psql('postgres', q(REVOKE CONNECT ON DATABASE postgres FROM PUBLIC));
	$id = trigger($node, 'of_bob');
	$node->wait_for_log($problem, $mark);
	$released or is(
		$node->safe_psql('postgres', q(SELECT health FROM job_status WHERE job_name = 'of_bob')),
		'held', 'a job whose owner may not connect is held');
	$node->safe_psql('postgres', q(GRANT CONNECT ON DATABASE postgres TO PUBLIC));
	last if $node->safe_psql('postgres', "SELECT job_wait($id, '40 s')") ne 'succeeded';
	$released++;
}
is($released, 5, 'and runs as soon as the owner may, not when it is looked at again after a minute');

# --- switched off ---

define_job($node, 'ticks', 'SELECT 1', q(schedule => 'every 1 second'));
eventually($node, q(SELECT count(*) > 0 FROM job_execution WHERE job_name = 'ticks'), 'a tick');
my $before_off = trigger($node, 'of_carol', q(run_at => now() + interval '2 seconds'));
set_setting($node, 'pg_janitor.enabled', 'off');
ok($node->poll_query_until('postgres', "SELECT $only_launcher"),
	'enabled = off: nothing but the launcher stays');
$count = $node->safe_psql('postgres', 'SELECT count(*) FROM job_execution');
$id = trigger($node, 'of_alice');
eventually($node, q(SELECT min(run_at) < now() - interval '1 second' FROM job_queue WHERE job_name = 'ticks'),
	'an occurrence is past');
is( $node->safe_psql('postgres', 'SELECT count(*) FROM job_execution'), $count,
	'enabled = off: nothing starts');
like( $node->safe_psql('postgres', q(SELECT hint FROM job_why('of_alice') WHERE NOT ok AND check_name = 'setting')),
	qr/pg_janitor.enabled/, 'enabled = off: job_why says so');
set_setting($node, 'pg_janitor.enabled', 'on');
is(wait_run($node, $id)->{status}, 'succeeded', 'enabled = on again: triggers that waited run');
is(wait_run($node, $before_off)->{status}, 'succeeded',
	'enabled = on again: also those from before');
ok( $node->poll_query_until('postgres',
		"SELECT count(*) > 1 FROM job_execution WHERE job_name = 'ticks' AND id > $id AND success"),
	'enabled = on again: schedules go on');

# Off and on with nothing told in between.
set_setting($node, 'pg_janitor.enabled', 'off');
eventually($node, "SELECT $only_launcher", 'only the launcher');
$count = $node->safe_psql('postgres', 'SELECT max(id) FROM job_execution');
set_setting($node, 'pg_janitor.enabled', 'on');
ok( $node->poll_query_until('postgres',
		"SELECT count(*) > 1 FROM job_execution WHERE job_name = 'ticks' AND id > $count AND success"),
	'enabled = on again: schedules go on by themselves');
$node->safe_psql('postgres', 'ALTER DATABASE postgres SET pg_janitor.enabled = off');
eventually($node, "SELECT $only_launcher", 'only the launcher');
$count = $node->safe_psql('postgres', 'SELECT max(id) FROM job_execution');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET pg_janitor.enabled');
ok( $node->poll_query_until('postgres',
		"SELECT count(*) > 1 FROM job_execution WHERE job_name = 'ticks' AND id > $count AND success"),
	'off and on for one database: schedules go on by themselves');

# --- two databases ---

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION pg_janitor; CREATE TABLE here (a int)');
define_job($node, 'ticks', 'INSERT INTO here VALUES (1)', q(schedule => 'every 1 second'), 'other');
ok($node->poll_query_until('other',
		q(SELECT count(*) >= 2 FROM job_execution WHERE job_name = 'ticks' AND success)),
	'a second database runs its jobs');
$id = $node->safe_psql('postgres', 'SELECT max(id) FROM job_execution');
ok($node->poll_query_until('postgres',
		"SELECT count(*) >= 2 FROM job_execution WHERE job_name = 'ticks' AND id > $id AND success"),
	'while the first goes on running its own');
is( $node->safe_psql('other', q(SELECT count(*) - sum(records_processed) FROM job_execution WHERE success)),
	'0', 'each in its own tables');
$node->safe_psql('other', q(SELECT job_unschedule('ticks')));
$node->safe_psql('postgres', q(SELECT job_unschedule('ticks')));
run_job($node, 'of_alice');
$node->safe_psql('postgres', 'DROP DATABASE other');
pass('DROP DATABASE does not wait for idle processes of ours');

# --- DROP EXTENSION ---

set_setting($node, 'pg_janitor.worker_idle_timeout', 60);
run_job($node, 'of_alice');
my $schedulers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_janitor scheduler' AND datname = 'postgres');
is($node->safe_psql('postgres', $schedulers), '1', 'a warm scheduler');
$node->safe_psql('postgres', 'DROP EXTENSION pg_janitor');
ok($node->poll_query_until('postgres', "SELECT ($schedulers) = 0"),
	'DROP EXTENSION works beside warm processes, and they leave');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_janitor');
define_job($node, 'of_alice', 'SELECT 42', q(owner => 'alice'));
is(run_job($node, 'of_alice')->{records_processed}, 42, 'CREATE EXTENSION again, and jobs run');
$node->safe_psql('postgres', 'DROP EXTENSION pg_janitor; CREATE EXTENSION pg_janitor');
define_job($node, 'of_alice', 'SELECT 43', q(owner => 'alice'));
is(run_job($node, 'of_alice')->{records_processed}, 43,
	'also where the processes have not noticed that it was gone');

quiet_log($node, 'no process of pg_janitor has died or got stuck');
$node->stop;
done_testing();
