# A rule goes no faster than it says, and pauses while standbys, replication
# slots or the archive cannot follow, of which its owner may know nothing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use Test::More;
use JanitorTest;
use JanitorHeavy;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1, has_archiving => 1);
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'pg_janitor'
log_line_prefix = '%m %b[%p] %q%a '
max_worker_processes = 16
min_wal_size = 32MB
max_wal_size = 32MB
));
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_janitor; CREATE ROLE bob LOGIN');
$node->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'wal_receiver_status_interval = 1');
$standby->start;
$node->wait_for_catchup($standby);

sub waits_for
{
	my ($what, $name) = @_;
	eventually($node, "SELECT waits_for = '$what' FROM job_progress", $name);
	pass($name);
	return;
}

# Handles so many rows more.
sub goes_on
{
	my ($name, $rows) = @_;
	my $left = rows_left($node, 'followed') - ($rows || 20);
	eventually($node, "SELECT count(*) < $left FROM followed", $name);
	pass($name);
	return;
}

# --- the rate ---

# Seconds that a run of a hundred rows takes, fifty a second.
sub seconds
{
	my ($name, $with) = @_;
	heavy_job($node, $name, owner => 'bob', rows => 100, rate => 50,
		with => $with);
	my $id = trigger($node, $name);
	is(wait_run($node, $id)->{records_processed}, 100, "$name: all rows");
	return $node->safe_psql('postgres',
		"SELECT extract(epoch FROM duration) FROM job_execution WHERE id = $id");
}

cmp_ok(seconds('alone'), '>', 1.9, 'one worker keeps to the rate');
cmp_ok(seconds('together', 'parallel => 3'), '>', 1.5,
	'helpers share it');
is($node->safe_psql('postgres', "SELECT jsonb_path_exists(result, '\$.**.paused_ms.rate ? (\@ > 1000)')
	FROM job_execution WHERE job_name = 'alone'"), 't', 'the result says how long it paused');

# --- what follows ---

heavy_job($node, 'followed', owner => 'bob', rows => 8000, rate => 50,
	with => "max_replica_lag => '300 ms'");
my $id = trigger($node, 'followed');
wait_started($node, $id);
goes_on('a standby that follows is no obstacle');

$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
waits_for('replica lag', 'a rule pauses while a standby is behind');
is(execution($node, $id)->{status}, 'running', 'it goes on to be a run');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
goes_on('and goes on when the standby has caught up');

$standby->append_conf('postgresql.conf', q(recovery_min_apply_delay = '1h'));
$standby->reload;
waits_for('replica lag', 'likewise where it is kept behind');
$standby->append_conf('postgresql.conf', 'recovery_min_apply_delay = 0');
$standby->reload;
goes_on('until it no longer is');

# It comes back with all that it had replayed, and what it missed held up.
$node->safe_psql('postgres', "SELECT job_cancel($id)");
is(wait_run($node, $id)->{status}, 'cancelled', 'the run is cancelled');
$node->wait_for_catchup($standby);
$standby->append_conf('postgresql.conf', q(recovery_min_apply_delay = '1h'));
$standby->stop;
$id = trigger($node, 'followed');
wait_started($node, $id);
goes_on('a standby that is gone is not waited for', 600);
$standby->start;
waits_for('replica lag', 'one that comes back far behind is, from the beginning');
$standby->stop;
goes_on('until it is gone again');

$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('lazy', true)");
foreach (1 .. 5)
{
	$node->safe_psql('postgres', 'CREATE TABLE filler (); DROP TABLE filler; SELECT pg_switch_wal()');
}
waits_for('replication slot', 'a slot that holds back more than max_wal_size');
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('lazy')");
goes_on('and goes on when it is dropped');

set_setting($node, 'archive_command', 'false');
$node->safe_psql('postgres', 'CREATE TABLE filler (); DROP TABLE filler; SELECT pg_switch_wal()');
waits_for('archiver', 'an archive that cannot be written');
set_setting($node, 'archive_command', 'true');
$node->safe_psql('postgres', 'CREATE TABLE filler (); DROP TABLE filler; SELECT pg_switch_wal()');
goes_on('and goes on when it can');

end_heavy($node, 'followed');
is(wait_run($node, $id)->{status}, 'succeeded', 'it comes to its end');
is($node->safe_psql('postgres', "SELECT string_agg(k, ', ' ORDER BY k)
	FROM job_execution, jsonb_each(result #> '{rules,main,paused_ms}') p (k, ms) WHERE id = $id AND ms::int > 0"),
	'archiver, rate, replica lag, replication slot', 'the result says for what it paused');

$node->safe_psql('postgres', q(INSERT INTO followed
	SELECT now() - interval '10 days', i % 8, repeat('x', 1000) FROM generate_series(1, 4000) i));
$id = trigger($node, 'followed');
set_setting($node, 'archive_command', 'false');
$node->safe_psql('postgres', 'CREATE TABLE filler (); DROP TABLE filler; SELECT pg_switch_wal()');
waits_for('archiver', 'another one pauses');
$node->safe_psql('postgres', "SELECT job_cancel($id)");
is(wait_run($node, $id)->{status}, 'cancelled', 'a pause can be cancelled');
set_setting($node, 'archive_command', 'true');

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
