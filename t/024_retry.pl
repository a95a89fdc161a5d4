# A failed run has max_attempts, each its own row, with a growing delay; what
# waits for its next attempt survives whatever happens meanwhile; a conflict
# with another session is no attempt; no failure ends a schedule (R-06).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('retry', 'pg_janitor.log_runs = none');

# It fails while the gate is shut.
my $FRAGILE = q{SELECT 1 / (NOT shut)::int FROM gate};

effect_job($node, 'probe');

my $ahead = 0;

# Moves the scheduler's clock on.
sub advance
{
	my ($seconds) = @_;
	$ahead += $seconds;
	set_setting($node, 'pg_janitor.debug_clock_offset', $ahead);
	return;
}

sub ended
{
	my ($job, $attempt) = @_;
	eventually($node, "SELECT count(*) = 1 FROM job_execution
		WHERE job_name = '$job' AND attempt = $attempt AND completed_at IS NOT NULL",
		"attempt $attempt of $job has ended");
	return;
}

subtest 'attempts, exponential backoff, cap' => sub {
	define_job($node, 'flaky', 'SELECT 1/0',
		"max_attempts => 5, retry_delay => '10 s', retry_max_delay => '30 s'");
	my $first = trigger($node, 'flaky', q{'{"n": 1}'});
	my @range = ([7.5, 12.5], [15, 25], [22.5, 30], [22.5, 30]);
	my $last = $first;

	for my $attempt (1 .. 4)
	{
		ended('flaky', $attempt);
		my ($low, $high) = @{ $range[ $attempt - 1 ] };
		my ($delay, $entry) = split /\|/, value($node, "SELECT
				extract(epoch FROM q.run_at - e.completed_at) - $ahead,
				concat_ws(' ', q.reason, q.attempt, q.retry_of = e.id, q.args)
			FROM job_queue q JOIN job_execution e ON e.attempt = $attempt
			WHERE q.job_name = 'flaky' AND e.job_name = 'flaky'");
		cmp_ok($delay, '>=', $low - 1, "attempt $attempt: the next is not too early");
		cmp_ok($delay, '<=', $high + 1, "attempt $attempt: nor too late");
		is($entry, 'retry ' . ($attempt + 1) . ' t {"n": 1}', 'it is the same run');
		advance(int($high) + 2);
	}
	ended('flaky', 5);
	is(history($node, 'flaky', 'status, attempt, reason'),
		'failed/1/manual failed/2/retry failed/3/retry failed/4/retry failed/5/retry',
		'each attempt has its row');
	is(value($node, q{SELECT bool_and(e.retry_of = p.id) FROM job_execution e
		JOIN job_execution p ON p.job_name = e.job_name AND p.attempt = e.attempt - 1
		WHERE e.job_name = 'flaky'}), 't', 'retry_of is the attempt before');
	is(queue($node, 'flaky'), '', 'after the last there is no other');
	ledger_is_true($node);
};

subtest 'a waiting retry survives a restart and a crash' => sub {
	define_job($node, 'patient', $FRAGILE . '; ' . effect('patient'),
		"schedule => '0 0 0 1 1 *', max_attempts => 2, retry_delay => '1 hour'");
	gate($node, 'shut');
	trigger($node, 'patient', q{'{"n": 2}'});
	ended('patient', 1);
	gate($node, 'open');
	my $columns = 'id, run_at, attempt, retry_of, args';
	my $entry = queue($node, 'patient', $columns);
	$node->restart;
	goes_on_quietly('restart');
	is(queue($node, 'patient', $columns), $entry, 'restart: it is there');
	crash($node, process($node, 'scheduler'));
	goes_on_quietly('crash');
	is(queue($node, 'patient', $columns), $entry, 'crash: it is there');
	$node->stop('immediate');
	$node->start;
	goes_on_quietly('immediate stop');
	is(history($node, 'patient'), 'failed', 'it has not run yet');
	advance(4600);
	eventually_is($node, q{SELECT string_agg(concat_ws('/', status, attempt, args), ' ' ORDER BY id)
		FROM job_execution WHERE job_name = 'patient'},
		'failed/1/{"n": 2} succeeded/2/{"n": 2}', 'it runs in its time, once');
	ledger_is_true($node);
};

sub goes_on_quietly
{
	my ($name) = @_;
	return is(run_job($node, 'probe')->{status}, 'succeeded', "$name: runs go on");
}

subtest 'conflicts with other sessions cost no attempt' => sub {
	for (['deadlock', '40P01'], ['serialization', '40001'], ['lock_timeout', '55P03'])
	{
		my ($name, $state) = @$_;
		my $body = qq{DO \$\$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '$state'; END \$\$};
		define_job($node, $name, $body, "retry_delay => '1 day'");
		trigger($node, $name);
		eventually_is($node, "SELECT string_agg(concat_ws('/', status, attempt, sqlstate), ' ' ORDER BY id)
			FROM job_execution WHERE job_name = '$name'",
			join(' ', ("failed/1/$state") x 4), "$name: three more tries, at once");
		is(queue($node, $name), '', "$name: and no more");
	}
	define_job($node, 'both', q{DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$},
		"max_attempts => 2, retry_delay => '0'");
	trigger($node, 'both');
	eventually_is($node, q{SELECT string_agg(attempt::text, ' ' ORDER BY id)
		FROM job_execution WHERE job_name = 'both' AND status = 'failed'},
		'1 1 1 1 2 2 2 2', 'max_attempts come besides');
	is(queue($node, 'both'), '', 'and that is all');

	$node->safe_psql('postgres', 'CREATE TABLE contested ()');
	my $lock = $node->background_psql('postgres');
	$lock->query_safe('BEGIN; LOCK TABLE contested');
	define_job($node, 'locked', 'LOCK TABLE contested; ' . effect('locked'),
		q{settings => '{"lock_timeout": "50ms"}', max_attempts => 2, retry_delay => '1 hour'});
	trigger($node, 'locked');
	eventually($node, q{SELECT count(*) = 4 FROM job_execution
		WHERE job_name = 'locked' AND status = 'failed' AND sqlstate = '55P03'},
		'a real lock timeout');
	eventually_is($node, q{SELECT attempt FROM job_queue WHERE job_name = 'locked'}, 2,
		'after four tries the attempt is over');
	$lock->query_safe('COMMIT');
	$lock->quit;
	advance(4600);
	eventually_is($node, q{SELECT status FROM job_execution
		WHERE job_name = 'locked' AND attempt = 2}, 'succeeded', 'the next succeeds');
	ledger_is_true($node);
};

subtest 'job_retry' => sub {
	define_job($node, 'again', $FRAGILE . '; ' . effect('again'));
	gate($node, 'shut');
	my $failed = run_job($node, 'again', q{'{"n": 3}'});
	is($failed->{status}, 'failed', 'a run fails');
	gate($node, 'open');
	my $row = outcome($node, value($node, "SELECT job_retry($failed->{id})"));
	is($row->{status}, 'succeeded', 'and is run again');
	is($row->{retry_of}, $failed->{id}, 'as another attempt of it');
	is_deeply($row->{args}, { n => 3 }, 'with its arguments');
	like(sql_error($node, "SELECT job_retry($row->{id})"), qr/did not fail/,
		'what succeeded is not run again');
	like(sql_error($node, 'SELECT job_retry(987654321)'), qr/987654321/,
		'what never was neither');
	ledger_is_true($node);
};

subtest 'no failure ends a schedule (R-06)' => sub {
	define_job($node, 'hopeless', 'SELECT 1/0', "schedule => '* * * * * *'");
	eventually_is($node, q{SELECT count(DISTINCT scheduled_for) >= 4 AND count(*) = count(DISTINCT scheduled_for)
		FROM job_execution WHERE job_name = 'hopeless' AND status = 'failed'}, 't',
		'it fails again and again');
	is(value($node, q{SELECT health FROM job_status WHERE job_name = 'hopeless'}), 'failing',
		'job_status says so');
	is(value($node, q{SELECT enabled FROM job_definition WHERE name = 'hopeless'}), 't',
		'it stays enabled');
	value($node, q{SELECT job_unschedule('hopeless')});
};

subtest 'an occurrence and a waiting retry do not replace each other' => sub {
	gate($node, 'shut');
	define_job($node, 'parallel', $FRAGILE . '; ' . effect('parallel'),
		"schedule => '* * * * * *', max_attempts => 2, retry_delay => '1 hour'");
	eventually($node, q{SELECT count(*) >= 2 FROM job_execution
		WHERE job_name = 'parallel' AND status = 'failed'}, 'two occurrences have failed');
	gate($node, 'open');
	eventually_is($node, q{SELECT count(*) > 0 FROM job_execution
		WHERE job_name = 'parallel' AND status = 'succeeded'}, 't', 'a later one succeeds');
	value($node, q{SELECT job_disable('parallel')});
	eventually($node, q{SELECT count(*) = 0 FROM job_execution
		WHERE job_name = 'parallel' AND status = 'running'}, 'it rests');
	is(value($node, q{SELECT count(*) FROM job_queue WHERE job_name = 'parallel'}),
		value($node, q{SELECT count(*) FROM job_execution WHERE job_name = 'parallel' AND status = 'failed'}),
		'each failed occurrence has its retry');
	advance(4600);
	eventually_is($node, q{SELECT count(*) = 0 FROM job_queue WHERE job_name = 'parallel'}, 't',
		'which is run in its time');
	eventually_is($node, q{SELECT count(*) = 0 FROM job_execution f WHERE job_name = 'parallel' AND status = 'failed'
		AND NOT EXISTS (SELECT FROM job_execution e WHERE e.retry_of = f.id
			AND e.status = 'succeeded' AND e.scheduled_for = f.scheduled_for)}, 't',
		'for the occurrence that failed');
	ledger_is_true($node);
};

no_accident($node);
$node->stop;
done_testing();
