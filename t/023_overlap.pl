# Never more than max_running runs of a job; an occurrence that finds no room
# is skipped and counted, or one is kept; triggers wait their turn, and none is
# dropped (R-01, R-03, R-05, R-10, R-11, B-26).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('overlap', 'pg_janitor.max_workers = 6');

my $EACH_SECOND = "schedule => '* * * * * *'";

# The most runs of a job that were in progress at one time, as recorded.
sub most_at_once
{
	my ($job) = @_;
	return value($node, "SELECT max(n) FROM (
		SELECT count(*) AS n FROM job_execution a JOIN job_execution b
		  ON b.job_name = a.job_name AND b.status <> 'skipped' AND b.started_at <= a.started_at
		  AND coalesce(b.completed_at, 'infinity') > a.started_at
		WHERE a.job_name = '$job' AND a.status <> 'skipped' GROUP BY a.id) x");
}

# A job that runs until the lock is released, and then leaves its effect.
sub held_job
{
	my ($name, $options) = @_;
	return define_job($node, $name,
		'SELECT pg_advisory_xact_lock_shared(4711); ' . effect($name), $options);
}

sub running
{
	my ($job, $count) = @_;
	return eventually($node, "SELECT count(r.pid) = $count FROM job_running() r
		JOIN job_execution e ON e.id = r.execution_id WHERE e.job_name = '$job'",
		"$count runs of $job are in progress");
}

# What waits is done; the schedule has been switched off.
sub drained
{
	my ($job) = @_;
	value($node, "SELECT job_disable('$job')");
	return eventually($node, "SELECT NOT EXISTS (SELECT FROM job_queue WHERE job_name = '$job')
		AND NOT EXISTS (SELECT FROM job_execution WHERE job_name = '$job' AND status = 'running')",
		"$job has come to rest");
}

effect_job($node, 'probe');

subtest 'overlap = skip, max_running = 1' => sub {
	my $lock = hold_lock($node);
	held_job('skip', $EACH_SECOND);
	running('skip', 1);
	eventually_is($node, q{SELECT string_agg(status, ' ' ORDER BY id) FROM job_execution
		WHERE job_name = 'skip'}, 'running skipped', 'an occurrence is skipped, with a row');
	my $first = value($node, q{SELECT skipped FROM job_execution
		WHERE job_name = 'skip' AND status = 'skipped'});
	eventually_is($node, "SELECT skipped >= $first + 2 FROM job_execution
		WHERE job_name = 'skip' AND status = 'skipped'", 't', 'whose count grows');
	is(history($node, 'skip'), 'running skipped', 'it remains one row');
	like(value($node, q{SELECT detail FROM job_execution
		WHERE job_name = 'skip' AND status = 'skipped'}), qr/still running/, 'that says why');
	is(queue($node, 'skip'), '', 'nothing is kept');
	release_lock($lock);
	eventually_is($node, q{SELECT count(*) >= 2 FROM job_execution
		WHERE job_name = 'skip' AND status = 'succeeded'}, 't', 'the next occurrence runs');
	drained('skip');
	is(most_at_once('skip'), 1, 'never two at once');
	ledger_is_true($node);
};

subtest 'overlap = skip, max_running = 3' => sub {
	my $lock = hold_lock($node);
	held_job('three', "$EACH_SECOND, max_running => 3");
	running('three', 3);
	eventually_is($node, q{SELECT string_agg(status, ' ' ORDER BY id) FROM job_execution
		WHERE job_name = 'three'}, 'running running running skipped', 'the fourth is skipped');
	value($node, q{SELECT job_trigger('three') FROM generate_series(1, 10)});
	is(run_job($node, 'probe')->{status}, 'succeeded', 'another job is not held up (B-26)');
	is(queue($node, 'three'), join(' ', ('manual') x 10), 'ten triggers wait');
	release_lock($lock);
	drained('three');
	is(most_at_once('three'), 3, 'never more than three, and no fewer');
	is(value($node, q{SELECT count(*) FROM job_execution
		WHERE job_name = 'three' AND reason = 'manual' AND status = 'succeeded'}), 10,
		'no trigger is lost');
	ledger_is_true($node);
};

subtest 'overlap = queue keeps at most one' => sub {
	my $lock = hold_lock($node);
	held_job('queue', "$EACH_SECOND, overlap => 'queue'");
	eventually($node, q{SELECT sum(skipped) >= 2 FROM job_execution
		WHERE job_name = 'queue' AND status = 'skipped'}, 'the queue is full');
	is(queue($node, 'queue'), 'schedule', 'one is kept');
	is(history($node, 'queue'), 'running skipped', 'the others are counted');
	my $kept = value($node, q{SELECT scheduled_for FROM job_queue
		WHERE job_name = 'queue' AND key <> '@schedule'});
	release_lock($lock);
	drained('queue');
	is(value($node, "SELECT status FROM job_execution
		WHERE job_name = 'queue' AND scheduled_for = '$kept' AND status <> 'skipped'"),
		'succeeded', 'and runs when there is room');
	is(most_at_once('queue'), 1, 'never two at once');
	ledger_is_true($node);
};

subtest 'triggers wait their turn, in order, and none is dropped (R-01)' => sub {
	my $lock = hold_lock($node);
	held_job('turn', $EACH_SECOND);
	running('turn', 1);
	value($node, q{SELECT job_trigger('turn', jsonb_build_object('n', n)) FROM generate_series(1, 20) n});
	eventually($node, q{SELECT sum(skipped) >= 2 FROM job_execution
		WHERE job_name = 'turn' AND status = 'skipped'}, 'occurrences go by');
	is(queue($node, 'turn'), join(' ', ('manual') x 20), 'all wait');
	release_lock($lock);
	drained('turn');
	is(value($node, q{SELECT string_agg(args->>'n', ' ' ORDER BY started_at) FROM job_execution
		WHERE job_name = 'turn' AND reason = 'manual' AND status = 'succeeded'}),
		join(' ', 1 .. 20), 'all have run, in order');
	is(most_at_once('turn'), 1, 'never two at once, whatever starts them');
	ledger_is_true($node);
};

subtest 'a saturated job keeps its triggers across a restart and a crash' => sub {
	my $lock = hold_lock($node);
	held_job('kept', "max_attempts => 2, retry_delay => '0'");
	value($node, q{SELECT job_trigger('kept') FROM generate_series(1, 5)});
	running('kept', 1);
	crash($node, process($node, 'worker'));
	$lock->{run}->kill_kill;
	drained('kept');
	$lock = hold_lock($node);
	value($node, q{SELECT job_trigger('kept') FROM generate_series(1, 5)});
	running('kept', 1);
	$node->restart;
	$lock->{run}->kill_kill;
	drained('kept');
	is(value($node, q{SELECT count(*) FROM effect WHERE job = 'kept'}), 10, 'each has run once');
	is(most_at_once('kept'), 1, 'never two at once');
	ledger_is_true($node);
};

subtest 'a slow job delays no other (B-26)' => sub {
	my $lock = hold_lock($node);
	held_job('slow', 'max_running => 4');
	value($node, q{SELECT job_trigger('slow') FROM generate_series(1, 4)});
	running('slow', 4);
	effect_job($node, 'tick', $EACH_SECOND);
	goes_on($node, 'with four slow runs');
	eventually_is($node, on_time('tick', 1), 't', 'started on time');
	release_lock($lock);
	drained('tick');
	drained('slow');
	ledger_is_true($node);
};

# The grid of `every` is fixed: how long a run takes does not shift it (R-03),
# and an occurrence that is past does not start runs in a row (R-05).
subtest 'the next occurrence does not depend on how long a run takes' => sub {
	my $lock = hold_lock($node);
	held_job('grid', "schedule => 'every 2 seconds'");
	running('grid', 1);
	my $first = value($node, q{SELECT scheduled_for FROM job_execution WHERE job_name = 'grid' AND status = 'running'});
	eventually($node, "SELECT clock_timestamp() > timestamptz '$first' + interval '3.1 seconds'", 'the run takes longer than its period');
	release_lock($lock);
	eventually($node, q{SELECT count(*) >= 3 FROM job_execution WHERE job_name = 'grid' AND status = 'succeeded'}, 'three runs');
	drained('grid');
	is(value($node, qq{SELECT count(*) FROM job_execution WHERE job_name = 'grid' AND status = 'succeeded'
			AND mod(extract(epoch FROM scheduled_for - '$first'), 2) <> 0}), 0, 'all are on the grid');
	is(value($node, q{SELECT count(*) - count(DISTINCT scheduled_for) FROM job_execution
		WHERE job_name = 'grid' AND status = 'succeeded'}), 0, 'each occurrence once');
	is(value($node, q{SELECT count(*) FROM job_execution WHERE job_name = 'grid' AND started_at < scheduled_for}), 0,
		'none before its time');
	is(value($node, q{SELECT sum(skipped) >= 1 FROM job_execution WHERE job_name = 'grid' AND status = 'skipped'}), 't',
		'what passed meanwhile is counted');
	ledger_is_true($node);
};

subtest 'timeout covers the whole run, wherever it is (R-11)' => sub {
	$node->safe_psql('postgres', q{
		CREATE TABLE contested ();
		CREATE PROCEDURE endless() LANGUAGE plpgsql AS $$
			BEGIN LOOP PERFORM pg_sleep(0.1); COMMIT; END LOOP; END $$	-- a job that takes long
	});
	my $lock = $node->background_psql('postgres');
	$lock->query_safe('BEGIN; LOCK TABLE contested');
	my %body = (
		'in one statement' => $LONG,
		'over many statements' => 'SELECT pg_sleep(0.1);' x 40,	# a job that takes long
		'in a lock wait' => 'LOCK TABLE contested',
		'in a CALL' => 'CALL endless()',
		'in a loop' => 'DO $$ BEGIN LOOP END LOOP; END $$',
		'caught by the command' => q{DO $$ BEGIN LOOP
			BEGIN PERFORM pg_sleep(600);	-- a job that takes long
			EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$});
	my %id;
	for my $where (sort keys %body)
	{
		define_job($node, $where, $body{$where}, "timeout => '0.5 s'");
		$id{$where} = trigger($node, $where);
	}
	for my $where (sort keys %body)
	{
		my $row = outcome($node, $id{$where});
		is($row->{status}, 'timed_out', $where);
		my $took = value($node, "SELECT extract(epoch FROM duration) FROM job_execution
			WHERE id = $id{$where}");
		my $limit = $where =~ /caught/ ? 5 : 2;
		$took = quickest($limit, sub {
			my $again = run_job($node, $where);
			return value($node, "SELECT extract(epoch FROM duration) FROM job_execution
				WHERE id = $again->{id}");
		}) if $took >= $limit;
		cmp_ok($took, '<', $limit, "$where: in time");
	}
	$lock->query_safe('COMMIT');
	$lock->quit;
	is(run_job($node, 'probe')->{status}, 'succeeded', 'the next run is not hit');
	ledger_is_true($node);
};

subtest 'job_cancel ends waiting runs and runs in progress (R-10)' => sub {
	my $lock = hold_lock($node);
	held_job('victim', 'max_attempts => 3');
	my @id = split /\n/, value($node, q{SELECT job_trigger('victim') FROM generate_series(1, 3)});
	running('victim', 1);
	is(value($node, "SELECT job_cancel($id[1])"), 1, 'a waiting run');
	is(value($node, "SELECT job_cancel($id[0])"), 1, 'a run in progress');
	is(outcome($node, $id[0])->{status}, 'cancelled', 'has ended');
	release_lock($lock);
	is(outcome($node, $id[2])->{status}, 'succeeded', 'the one behind them runs');
	is(history($node, 'victim'), 'cancelled cancelled succeeded', 'nothing is run again');
	is(value($node, "SELECT job_cancel($id[2])"), 0, 'a run that has ended cannot be cancelled');
	ledger_is_true($node);
};

# One worker, one run after the other, each second one cancelled at whatever
# point it has got to.
subtest 'a cancel never hits the next run' => sub {
	effect_job($node, 'even');
	effect_job($node, 'odd');
	$node->safe_psql('postgres', q{
		CREATE PROCEDURE cancel_odd() LANGUAGE plpgsql AS $$
		DECLARE
			odd bigint;
		BEGIN
			FOR i IN 1 .. 300 LOOP
				odd := job_trigger('odd');
				PERFORM job_trigger('even');
				COMMIT;
				PERFORM job_cancel(odd);
				COMMIT;
				PERFORM job_cancel(odd);
				COMMIT;
			END LOOP;
		END $$});
	set_setting($node, 'pg_janitor.max_workers', '1');
	value($node, 'CALL cancel_odd()');
	drained('odd');
	drained('even');
	is(value($node, q{SELECT string_agg(DISTINCT status, ' ') || ' ' || count(*) FROM job_execution
		WHERE job_name = 'even'}), 'succeeded 300', 'all that were not cancelled have succeeded');
	is(value($node, q{SELECT count(*) FILTER (WHERE status IN ('cancelled', 'succeeded'))
		FROM job_execution WHERE job_name = 'odd'}), 300, 'the others have ended');
	note(value($node, q{SELECT count(*) FROM job_execution
		WHERE job_name = 'odd' AND status = 'cancelled'}) . ' were cancelled');
	ledger_is_true($node);
};

no_accident($node);
$node->stop;
done_testing();
