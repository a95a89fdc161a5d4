# What waits costs nothing until it is due: a hundred thousand delayed runs keep
# no process, and neither the scheduler nor claims read them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use JanitorTest;
use JanitorCrash;

my $WAITING = 100_000;
my $node = janitor_node('waiting', "pg_janitor.worker_idle_timeout = '1s'",
	'autovacuum = off');

value($node, q{SELECT job_schedule_external('outside'), job_schedule_external('busy')});
define_job($node, 'inside', 'SELECT 1', 'max_running => 4');
define_job($node, 'marker', 'SELECT 1');
value($node, "SELECT count(job_trigger(job, run_at => now() + interval '1 year' + n * interval '1 second',
		key => CASE WHEN n % 2 = 0 THEN n::text END))
	FROM generate_series(1, $WAITING / 2) n, unnest('{outside,inside}'::text[]) job");

# Counters are complete when the processes have left.
sub rows_read
{
	eventually($node, q{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type IN ('pg_janitor scheduler', 'pg_janitor worker')}, 'nobody stays for what waits');
	value($node, 'SELECT pg_stat_force_next_flush()');
	return value($node, q{SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_all_tables WHERE relname = 'job_queue'});
}

my $before = rows_read();
is(value($node, q{SELECT count(*) FROM job_queue}), $WAITING, 'they wait');
$before += $WAITING;    # by the count just now

foreach my $job (qw(inside marker))
{
	is(run_job($node, $job)->{status}, 'succeeded', "others run ($job)") for 1 .. 10;
}
foreach my $job (qw(outside busy))
{
	value($node, "SELECT count(job_trigger('$job')) FROM generate_series(1, 20)");
	value($node, "DO \$\$ BEGIN
		WHILE (SELECT job_finish(execution_id, token) FROM job_claim('$job')) IS NOT NULL LOOP END LOOP;
		END \$\$") for 1 .. 2;
	is(value($node, "SELECT count(*) FROM job_execution WHERE job_name = '$job' AND status = 'succeeded'"), 20,
		"others are claimed ($job)");
}
my $read = rows_read() - $before;
cmp_ok($read, '>', 0, 'the counters count');
cmp_ok($read, '<', $WAITING / 20, 'hardly any row is read for it');

# after a start of the server, too
$node->restart;
$before = rows_read();
is(run_job($node, 'marker')->{status}, 'succeeded', 'after a start');
cmp_ok(rows_read() - $before, '<', $WAITING / 20, 'what waits is not read either');

# one of them is brought forward, others are taken back, by their keys
my $id = trigger($node, 'inside', q{key => '2'});
is(wait_run($node, $id)->{status}, 'succeeded', 'one that is triggered again runs now');
is(value($node, q{SELECT job_cancel('outside', '4')}), 1, 'one is taken back');
is(value($node, q{SELECT count(*) FROM job_queue}), $WAITING - 2, 'the others wait');

no_accident($node);
$node->stop;
done_testing();
