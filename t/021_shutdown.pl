# A shutdown starts no new run, lets runs in progress finish within
# shutdown_grace, interrupts the rest free of charge, and is not delayed by a
# pg_janitor that has nothing to do (B-28, R-09).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('shutdown');

effect_job($node, 'probe');

# Stops the server; when that was asked for and when it was done, as the log
# has it.
sub stop
{
	my ($mode) = @_;
	my $offset = log_size($node);
	$node->stop($mode);
	my $log = slurp_file($node->logfile, $offset);
	my ($asked) = $log =~ /^(\S+ \S+ \S+) .*received (?:fast|smart) shutdown request/m;
	my ($done) = $log =~ /^(\S+ \S+ \S+) .*database system is shut down/m;
	return ($asked, $done);
}

sub seconds
{
	my ($from, $to) = @_;
	return value($node, "SELECT extract(epoch FROM timestamptz '$to' - timestamptz '$from')");
}

# With a scheduler and two workers connected, in seconds: the best of some.
sub quickest_stop
{
	my ($with) = @_;
	my $best = 1000;
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries',
		$with ? "'pg_janitor'" : "''");
	$node->restart;
	for (1 .. 4)
	{
		run_job($node, 'probe') if $with;
		my ($asked, $done) = stop('fast');
		$node->start;
		my $took = seconds($asked, $done);
		$best = $took if $took < $best;
	}
	return $best;
}

subtest 'an idle pg_janitor delays no shutdown' => sub {
	my $longer = quickest(0.1, sub {
		my $without = quickest_stop(0);
		my $with = quickest_stop(1);
		note("with $with s, without $without s");
		return $with - $without;
	});
	cmp_ok($longer, '<', 0.1, 'no longer than without it');
};

subtest 'a run that finishes within shutdown_grace is recorded' => sub {
	set_setting($node, 'pg_janitor.shutdown_grace', '30');
	define_job($node, 'held', UNTIL_RELEASED . ';' . effect('held'));
	effect_job($node, 'child', "run_after => 'held'");
	my $lock = hold_lock($node);
	my $id = trigger($node, 'held');
	my $pid = wait_started($node, $id);

	# the shutdown ends the session that holds the lock
	my ($asked, $done) = stop('fast');
	$node->start;
	$lock->{run}->kill_kill;
	my $row = execution($node, $id);
	is($row->{status}, 'succeeded', 'it succeeded');
	is($row->{pid}, $pid, 'in the worker that had begun it');
	is(value($node, "SELECT completed_at BETWEEN '$asked'::timestamptz - interval '1 ms'
			AND '$done'::timestamptz + interval '1 ms' FROM job_execution WHERE id = $id"),
		't', 'during the shutdown');
	eventually_is($node, "SELECT status FROM job_execution WHERE parent_id = $id",
		'succeeded', 'the job that runs after it has run');
	is(value($node, "SELECT started_at > '$done' FROM job_execution WHERE parent_id = $id"),
		't', 'after the next start only');
	ledger_is_true($node);
};

subtest 'beyond shutdown_grace it is interrupted, and nothing starts meanwhile' => sub {
	set_setting($node, 'pg_janitor.shutdown_grace', '3');
	effect_job($node, 'tick', "schedule => '* * * * * *'");
	effect_job($node, 'stuck', 'max_attempts => 1');
	eventually($node, "SELECT count(*) > 0 FROM job_execution WHERE job_name = 'tick'
		AND status = 'succeeded'", 'the schedule is on');
	my ($id) = start_stuck($node, 'stuck');
	my $waiting = trigger($node, 'stuck');

	my ($asked, $done) = stop('fast');
	$node->start;
	my $took = seconds($asked, $done);
	cmp_ok($took, '>', 2.5, 'the run had its time');
	is(value($node, "SELECT count(*) FROM job_execution WHERE started_at
			> '$asked'::timestamptz + interval '1 s' AND started_at < '$done'"),
		0, 'no run of the schedule of each second started after the stop was requested');
	eventually_is($node, "SELECT string_agg(concat_ws('/', status, attempt), ' ' ORDER BY id)
		FROM job_execution WHERE $id IN (id, retry_of)",
		'interrupted/1 succeeded/1', 'it is run again, free of charge');
	eventually_is($node, "SELECT status FROM job_execution WHERE id = $waiting",
		'succeeded', 'what waited is run');
	like(execution($node, $id)->{detail} || '', qr/shut ?down/, 'the row says why');
	goes_on($node, 'after the start');
	$took = quickest(5, sub {
		my ($again) = start_stuck($node, 'stuck');
		my ($from, $to) = stop('fast');
		$node->start;
		eventually($node, "SELECT status = 'succeeded' FROM job_execution WHERE retry_of = $again",
			'it is run again');
		return seconds($from, $to);
	}) if $took >= 5;
	cmp_ok($took, '<', 5, 'it had no more than its time');
	ledger_is_true($node);
};

subtest 'a command that does not let itself be cancelled delays no longer' => sub {
	set_setting($node, 'pg_janitor.shutdown_grace', '0');
	my $took = quickest(5, sub {
		define_job($node, 'stubborn', q{DO $$
			BEGIN
				LOOP
					BEGIN
						PERFORM pg_sleep(600);	-- a job that takes long
					EXCEPTION WHEN query_canceled THEN NULL;
					END;
				END LOOP;
			END $$});
		my $id = trigger($node, 'stubborn');
		wait_started($node, $id);
		value($node, q{SELECT job_pause('stubborn')});
		my ($asked, $done) = stop('fast');
		$node->start;
		eventually_is($node, "SELECT status FROM job_execution WHERE id = $id",
			'interrupted', 'the run is interrupted');
		value($node, q{SELECT job_unschedule('stubborn')});
		return seconds($asked, $done);
	});
	cmp_ok($took, '<', 5, 'the server stops');
	ledger_is_true($node);
};

subtest 'smart shutdown' => sub {
	set_setting($node, 'pg_janitor.shutdown_grace', '30');
	value($node, q{SELECT job_unschedule('tick')});
	define_job($node, 'brief', effect('brief') . '; ' .
		'SELECT pg_sleep(1.5)');	# a job that takes long
	my $took = quickest(4, sub {
		my $id = trigger($node, 'brief');
		wait_started($node, $id);
		my ($asked, $done) = stop('smart');
		$node->start;
		is(execution($node, $id)->{status}, 'succeeded', 'a run in progress finishes');
		return seconds($asked, $done);
	});
	cmp_ok($took, '<', 4, 'the server stops when it has');
	ledger_is_true($node);

	$took = quickest(1, sub {
		run_job($node, 'probe');
		my ($asked, $done) = stop('smart');
		$node->start;
		return seconds($asked, $done);
	});
	cmp_ok($took, '<', 1, 'idle processes do not keep it');
};

no_accident($node);
$node->stop;
done_testing();
