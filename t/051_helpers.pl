# Helpers come while nobody else lacks a worker, and are gone before the end of
# their run is recorded, whatever ends it: the record counts every row.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use JanitorTest;
use JanitorHeavy;

my $node = janitor_node('helpers', 'pg_janitor.max_workers = 4',
	'pg_janitor.shutdown_grace = 1', 'max_worker_processes = 16');
$node->safe_psql('postgres', 'CREATE ROLE bob LOGIN');
heavy_job($node, 'big', rate => 20, rows => 4000, with => 'parallel => 6');
define_job($node, "bob$_", UNTIL_RELEASED, "owner => 'bob'") foreach 1 .. 3;
define_job($node, 'own', UNTIL_RELEASED);

# The process of some helper.
sub helper
{
	return $node->safe_psql('postgres',
		'SELECT min(pid) FROM job_progress WHERE helper');
}

sub gone
{
	my ($pid) = @_;
	eventually($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)",
		"process $pid is gone");
	return;
}

# Starts the long run; its id, the worker's pid and how many rows there were.
sub begin
{
	my $rows = rows_left($node, 'big');
	my $id = trigger($node, 'big');
	my $pid = wait_started($node, $id);
	helpers_are($node, 2);
	return ($id, $pid, $rows);
}

# Its end, as recorded; what it says it handled is what is gone.
sub ended
{
	my ($id, $before, $status, $how) = @_;
	my $run = wait_run($node, $id);
	is($run->{status}, $status, "$how: $status");
	is($run->{records_processed}, $before - rows_left($node, 'big'),
		"$how: every row is counted");
	cmp_ok($run->{records_processed}, '>', 0, "$how: there were some");
	return;
}

my ($id, $leader, $before) = begin();
pass('two helpers come: one place stays free');
is($node->safe_psql('postgres', 'SELECT count(*), min(pid) FROM job_running()'),
	"1|$leader", 'helpers are no runs');
is($node->safe_psql('postgres', "SELECT running FROM job_status WHERE job_name = 'big'"),
	1, 'nor in job_status');

# Others first.
my $lock = hold_lock($node);
my @others;
foreach my $helpers (2, 1, 0)
{
	push @others, trigger($node, 'bob' . (3 - $helpers));
	wait_started($node, $others[-1]);
	helpers_are($node, $helpers);
	pass("$helpers helpers are left when another role runs " . @others);
}
release_lock($lock);
wait_run($node, $_) foreach @others;
helpers_are($node, 2);
pass('they come back when the others are done');

$lock = hold_lock($node);
my $own = trigger($node, 'own');
wait_started($node, $own);
pass('a run of the same role finds a worker');
release_lock($lock);
wait_run($node, $own);
helpers_are($node, 2);

# One of them.
my $helper = helper();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($helper)");
gone($helper);
helpers_are($node, 2);
isnt(helper(), $helper, 'a terminated helper is replaced');
$helper = helper();
my $done = rows_left($node, 'big');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($helper)");
eventually($node, "SELECT count(*) < $done - 20 FROM big", 'the run goes on');
is(execution($node, $id)->{status}, 'running', 'the run goes on without it');

# All of them.
is($node->safe_psql('postgres', "SELECT job_cancel($id)"), 1,
	'one run is cancelled');
ended($id, $before, 'cancelled', 'job_cancel');
helpers_are($node, 0);

($id, $leader, $before) = begin();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($leader)");
ended($id, $before, 'cancelled', 'its own worker is terminated');
helpers_are($node, 0);

# The record waits for a helper that does not leave.
($id, $leader, $before) = begin();
$helper = helper();
eventually($node, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $helper",
	'the helper sleeps');
kill 'STOP', $helper;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($leader)");
gone($leader);
helpers_are($node, 1);
is($node->safe_psql('postgres', 'SELECT phase, pid IS NULL FROM job_progress WHERE NOT helper'),
	'ending|t', 'a run without its worker is ending');
is(execution($node, $id)->{status}, 'running',
	'and not recorded while a helper is there');
kill 'CONT', $helper;
ended($id, $before, 'cancelled', 'a helper was slow to leave');

$node->safe_psql('postgres', "SELECT job_alter('big', '{\"timeout\": \"2 seconds\"}')");
($id, $leader, $before) = begin();
ended($id, $before, 'timed_out', 'timeout');
helpers_are($node, 0);
$node->safe_psql('postgres', "SELECT job_alter('big', '{\"timeout\": null}')");

($id, $leader, $before) = begin();
$node->stop('fast');
$node->start;
is(execution($node, $id)->{status}, 'interrupted', 'shutdown: interrupted');
$node->safe_psql('postgres', "SELECT job_cancel('big')");
eventually($node, 'SELECT count(*) = 0 FROM job_running()', 'nothing runs');
is($node->safe_psql('postgres', "SELECT sum(records_processed) FROM job_execution WHERE id >= $id AND job_name = 'big'"),
	$before - rows_left($node, 'big'), 'shutdown: every row is counted');

# By itself.
$before = rows_left($node, 'big');
$node->safe_psql('postgres', "DELETE FROM big WHERE (tableoid, ctid) NOT IN (SELECT tableoid, ctid FROM big LIMIT 5)");
is(run_job($node, 'big')->{records_processed}, 5, 'a run that ends by itself');
helpers_are($node, 0);

quiet_log($node, 'nothing else died', 'pg_janitor worker.*exited with exit code 1');
$node->stop;
done_testing();
