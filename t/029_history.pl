# pg_janitor itself keeps job_execution to keep_runs and keep_history; the
# newest success, the newest failure, the newest ten runs and all runs in
# progress stay; consecutive skips for one cause are one row.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('history');

effect_job($node, 'probe');

# Rows of the past, oldest first; each one is so many days old, and those whose
# number is in the list have another status.
sub past
{
	my ($job, $count, $days, %status) = @_;
	my $exceptions = join ' ', map { "WHEN n = $_ THEN '$status{$_}'" } sort keys %status;
	value($node, "INSERT INTO job_execution (job_name, started_at, completed_at, success, status, reason, run_as, scheduled_for)
		SELECT '$job', t, t, status = 'succeeded', status, 'manual', 'postgres', NULL
		FROM (SELECT clock_timestamp() - interval '$days days' + n * interval '1 ms' AS t,
				CASE WHEN false THEN '' $exceptions ELSE 'succeeded' END AS status
			FROM generate_series(1, $count) n ORDER BY n) x");
	return;
}

sub rows { return value($node, "SELECT count(*) FROM job_execution WHERE job_name = '$_[0]'"); }

define_job($node, 'many', 'SELECT 1', 'keep_runs => 50');
define_job($node, 'old', 'SELECT 1', "keep_history => '10 days'");
define_job($node, 'few', 'SELECT 1', "keep_runs => 1, keep_history => '1 day'");
define_job($node, 'plenty', 'SELECT 1');
past('many', 2000, 1, 5 => q{failed}, 7 => q{failed});
past('old', 1500, 11, 3 => q{timed_out});
past('old', 40, 9);
past('few', 100, 30, map { $_ => 'failed' } 50 .. 100);
past('plenty', 300, 30);

# The daily round comes with the first scheduler after a start.
$node->restart;

subtest 'keep_runs' => sub {
	eventually_is($node, q{SELECT count(*) FROM job_execution WHERE job_name = 'many'}, 51,
		'fifty rows stay, and one more');
	is(value($node, q{SELECT string_agg(status, ' ') FROM job_execution
		WHERE job_name = 'many' AND status <> 'succeeded'}), 'failed', 'that is the newest failure');
};

subtest 'keep_history' => sub {
	eventually_is($node, q{SELECT count(*) FROM job_execution WHERE job_name = 'old'}, 41,
		'what is older goes but for one');
	is(value($node, q{SELECT string_agg(status, ' ') FROM job_execution
		WHERE job_name = 'old' AND status <> 'succeeded'}), 'timed_out', 'that is the newest failure');
};

subtest 'what always stays' => sub {
	eventually_is($node, q{SELECT string_agg(status, ' ' ORDER BY id) FROM job_execution
		WHERE job_name = 'few'}, 'succeeded ' . join(' ', ('failed') x 10),
		'the newest ten runs, and the newest success');
	is(rows('plenty'), 300, 'nothing of a job that keeps more');
	is(value($node, q{SELECT last_success IS NOT NULL FROM job_status WHERE job_name = 'few'}), 't',
		'job_status still knows the last success');
};

subtest 'runs in progress stay' => sub {
	my $lock = hold_lock($node);
	define_job($node, 'busy', UNTIL_RELEASED, 'keep_runs => 1, max_running => 1');
	my $id = trigger($node, 'busy');
	wait_started($node, $id);
	past('busy', 600, 2);
	my $scheduler = process($node, 'scheduler');
	value($node, "UPDATE job_execution SET started_at = clock_timestamp() - interval '400 days' WHERE id = $id");
	define_job($node, 'burst', 'SELECT 1', 'keep_runs => 20, max_running => 3');
	value($node, q{SELECT job_trigger('burst') FROM generate_series(1, 1100)});
	eventually($node, q{SELECT count(*) = 0 FROM job_queue WHERE job_name = 'burst'}, 'the burst has run');
	eventually_is($node, q{SELECT count(*) < 700 FROM job_execution WHERE job_name = 'burst'}, 't',
		'a job that runs often does not wait a day');
	is(execution($node, $id)->{status}, 'running', 'the run in progress has its row');
	is(value($node, q{SELECT succeeded FROM job_metrics WHERE job_name = 'burst'}), 1100,
		'job_metrics counts also what is pruned');
	release_lock($lock);
	is(outcome($node, $id)->{status}, 'succeeded', 'and ends in it');
};

subtest 'pruning waits for nobody and nobody waits for it' => sub {
	my $lock = $node->background_psql('postgres');
	past('plenty', 500, 200);
	$lock->query_safe(q{BEGIN; SELECT FROM job_execution WHERE job_name = 'plenty' FOR UPDATE});
	$node->restart;
	$lock->{run}->kill_kill;
	$lock = $node->background_psql('postgres');
	$lock->query_safe(q{BEGIN; SELECT FROM job_execution WHERE job_name = 'plenty' FOR UPDATE});
	is(run_job($node, 'probe')->{status}, 'succeeded', 'runs go on');
	$lock->query_safe('COMMIT');
	$lock->quit;
	ledger_is_true($node);
};

subtest 'consecutive skips for one cause are one row' => sub {
	my $lock = hold_lock($node);
	define_job($node, 'skips', UNTIL_RELEASED, "schedule => '* * * * * *'");
	eventually($node, q{SELECT sum(skipped) >= 2 FROM job_execution
		WHERE job_name = 'skips' AND status = 'skipped'}, 'overlaps');
	value($node, q{SELECT job_pause('skips')});
	eventually($node, q{SELECT count(*) >= 2 AND max(skipped) >= 2 FROM job_execution
		WHERE job_name = 'skips' AND status = 'skipped' AND detail ~ 'paused' OR
		job_name = 'skips' AND status = 'skipped' AND detail ~ 'running'}, 'pauses');
	is(value($node, q{SELECT string_agg(detail, ', ' ORDER BY id) FROM job_execution
		WHERE job_name = 'skips' AND status = 'skipped'}),
		'the job was still running, the job was paused', 'one row a cause');
	is(value($node, q{SELECT m.skipped = sum(e.skipped) FROM job_metrics m JOIN job_execution e USING (job_name)
		WHERE job_name = 'skips' GROUP BY m.skipped}), 't', 'job_metrics counts each');
	value($node, q{SELECT job_disable('skips')});
	release_lock($lock);
	ledger_is_true($node);
};

no_accident($node);
$node->stop;
done_testing();
