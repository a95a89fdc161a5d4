# Whatever process dies, and however: no row stays `running` without a process,
# what took effect is exactly what is recorded as succeeded, the next
# occurrences are there, and runs go on.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('recovery', 'pg_janitor.shutdown_grace = 60',
	'max_prepared_transactions = 2');

effect_job($node, 'tick', "schedule => '* * * * * *'");
effect_job($node, 'probe');
effect_job($node, 'twice', "max_attempts => 2, retry_delay => '0'");
effect_job($node, 'once');

# What a crash has to leave of two runs: of a job with and one without a
# second attempt.
sub crash_costs_an_attempt
{
	my ($way, $end) = @_;
	my ($twice) = start_stuck($node, 'twice');
	my ($once, $pid) = start_stuck($node, 'once');

	$end->($pid);
	eventually_is($node, "SELECT string_agg(job_name || ' ' || status || ' ' || attempt, ', ' ORDER BY id)
		FROM job_execution WHERE $twice IN (id, retry_of) OR id = $once",
		'twice interrupted 1, once interrupted 1, twice succeeded 2',
		"$way: a run in progress is interrupted, which costs an attempt");
	my $row = execution($node, $twice);
	like(join(' ', grep { defined } @$row{qw(detail error_message)}),
		qr/crash|died|stopped immediately/, "$way: the row says why");
	isnt($row->{completed_at}, undef, "$way: the row says when");
	is(queue($node, 'once'), '', "$way: without attempts left it is not run again");
	ledger_is_true($node, $way);
	goes_on($node, $way);
	run_job($node, 'once');		# three crashes in a row would pause it
	return;
}

subtest 'kill -9 of a worker' => sub {
	crash_costs_an_attempt('worker', sub { crash($node, $_[0]) });
};

subtest 'kill -9 of the scheduler' => sub {
	crash_costs_an_attempt('scheduler',
		sub { crash($node, process($node, 'scheduler')) });
};

subtest 'kill -9 of the launcher' => sub {
	crash_costs_an_attempt('launcher',
		sub { crash($node, process($node, 'launcher')) });
};

subtest 'kill -9 of the postmaster' => sub {
	crash_costs_an_attempt('postmaster', sub {
		my @pids = split /\n/, value($node,
			'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
		$node->kill9;
		gone($_) for @pids;
		$node->start;
	});
};

subtest 'immediate stop' => sub {
	crash_costs_an_attempt('immediate stop', sub {
		$node->stop('immediate');
		$node->start;
	});
};

subtest 'pg_terminate_backend on a worker ends its run and nothing else' => sub {
	effect_job($node, 'thrice', "max_attempts => 3, retry_delay => '0'");
	my $runs = 0;
	my $took = quickest(1, sub {
		my ($id, $pid) = start_stuck($node, 'thrice');
		my $before = value($node, "SELECT extract(epoch FROM clock_timestamp())");
		$runs++;
		value($node, "SELECT pg_terminate_backend($pid)");
		is(outcome($node, $id)->{status}, 'cancelled', 'the run is cancelled');
		return value($node, "SELECT extract(epoch FROM completed_at) - $before
			FROM job_execution WHERE id = $id");
	});
	cmp_ok($took, '<', 1, 'within a second, though shutdown_grace is 60 s');
	goes_on($node, 'afterwards');
	is(history($node, 'thrice') . queue($node, 'thrice'), join(' ', ('cancelled') x $runs),
		'it is not run again');
	ledger_is_true($node);
};

subtest 'pg_terminate_backend on the scheduler touches no run' => sub {
	define_job($node, 'held',
		UNTIL_RELEASED . q{; INSERT INTO effect (id, job) VALUES (job_execution_id(), 'held')});
	my $lock = hold_lock($node);
	my $id = trigger($node, 'held');
	my $pid = wait_started($node, $id);
	my $scheduler = process($node, 'scheduler');
	value($node, "SELECT pg_terminate_backend($scheduler)");
	wait_new_process($node, 'scheduler', $scheduler);
	goes_on($node, 'with a run in progress');
	is(execution($node, $id)->{status}, 'running', 'the run goes on');
	release_lock($lock);
	my $row = outcome($node, $id);
	is($row->{status}, 'succeeded', 'and is recorded');
	is($row->{pid}, $pid, 'by the worker that had it');
	ledger_is_true($node);
};

subtest 'the end of a run is recorded also while there is no scheduler' => sub {
	my $lock = hold_lock($node);
	my $id = trigger($node, 'held');
	my $pid = wait_started($node, $id);
	my $launcher = process($node, 'launcher');
	my $scheduler = process($node, 'scheduler');
	value($node, "SELECT pg_terminate_backend($launcher), pg_terminate_backend($scheduler),
		pg_terminate_backend($pid)");
	my $row = outcome($node, $id);
	like($row->{status}, qr/^(cancelled|interrupted)$/, 'a worker terminated meanwhile is buried');
	release_lock($lock);
	goes_on($node, 'all three terminated');
	ledger_is_true($node);
};

subtest 'pg_terminate_backend on the launcher' => sub {
	my $launcher = process($node, 'launcher');
	value($node, "SELECT pg_terminate_backend($launcher)");
	goes_on($node, 'without a launcher');
	wait_new_process($node, 'launcher', $launcher);
	goes_on($node, 'with the new one');
	ledger_is_true($node);
};

subtest 'a row that somebody holds across a crash is closed once it is free' => sub {
	my ($id, $pid) = start_stuck($node, 'once');
	$node->safe_psql('postgres', "BEGIN; SELECT FROM job_execution WHERE id = $id FOR UPDATE;
		PREPARE TRANSACTION 'holds'");
	crash($node, $pid);
	goes_on($node, 'with a row that cannot be closed');
	is(execution($node, $id)->{status}, 'running', 'it says running while it is held');
	value($node, "ROLLBACK PREPARED 'holds'");
	eventually_is($node, "SELECT status FROM job_execution WHERE id = $id",
		'interrupted', 'then it is closed');
	ledger_is_true($node);
	run_job($node, 'once');		# three crashes in a row would pause it
};

# What a scheduler has in hand and cannot write is not lost with it.
subtest 'a scheduler that ends while a run cannot be closed' => sub {
	my ($id, $pid) = start_stuck($node, 'once');
	$node->safe_psql('postgres', "BEGIN; SELECT FROM job_execution WHERE id = $id FOR UPDATE;
		PREPARE TRANSACTION 'holds'");
	crash($node, $pid);
	goes_on($node, 'with a row that cannot be closed');
	my $scheduler = process($node, 'scheduler');
	value($node, "SELECT pg_terminate_backend($scheduler)");
	wait_new_process($node, 'scheduler', $scheduler);
	goes_on($node, 'with another scheduler');
	is(execution($node, $id)->{status}, 'running', 'it says running while it is held');
	value($node, "ROLLBACK PREPARED 'holds'");
	eventually_is($node, "SELECT status FROM job_execution WHERE id = $id",
		'interrupted', 'then it is closed');
	ledger_is_true($node);
	run_job($node, 'once');		# three crashes in a row would pause it
};

# The worker is stopped, so that a claimed run is taken back from it; its row is
# held, so that it cannot be put back into the queue.
subtest 'a scheduler that ends while a claim cannot be undone' => sub {
	run_job($node, 'once');
	my @workers = split /\n/, value($node, q{SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor worker'});
	value($node, q{SELECT job_disable('tick')});
	kill 'STOP', @workers;
	my $holder = $node->background_psql('postgres');
	$holder->query_safe(q{BEGIN});
	my $id = trigger($node, 'once');
	$holder->query_safe(qq{DO \$\$ BEGIN
		LOOP
			PERFORM FROM job_execution WHERE id = $id FOR UPDATE;
			EXIT WHEN FOUND;
		END LOOP; END \$\$});
	my $offset = log_size($node);
	eventually($node, "SELECT NOT EXISTS (SELECT FROM job_running() WHERE execution_id = $id)",
		'the claim is taken back');
	my $scheduler = process($node, 'scheduler');
	value($node, "SELECT pg_terminate_backend($scheduler)");
	wait_new_process($node, 'scheduler', $scheduler);
	is(execution($node, $id)->{status}, 'running', 'it says running while it is held');
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	kill 'CONT', @workers;
	my $row = outcome($node, $id);
	is("$row->{status} $row->{attempt}", 'succeeded 1', 'then it runs, free of charge');
	value($node, q{SELECT job_enable('tick')});
	goes_on($node, 'afterwards');
	ledger_is_true($node);
};

# Pruning waits a second for a row that somebody holds; then the scheduler, which
# has had nothing to do for as long, is about to leave.
subtest 'what is told to a scheduler that is about to leave is not lost' => sub {
	define_job($node, 'old', 'SELECT 1', "keep_history => '1 day'");
	value($node, q{INSERT INTO job_execution (job_name, started_at, completed_at, success, status, reason, run_as)
		SELECT 'old', t, t, true, 'succeeded', 'manual', 'postgres'
		FROM generate_series(1, 40), LATERAL (SELECT clock_timestamp() - interval '30 days') x (t);
		SELECT job_disable('tick')});
	$node->safe_psql('postgres', q{BEGIN; SELECT FROM job_execution WHERE job_name = 'old' FOR UPDATE;
		PREPARE TRANSACTION 'holds'});
	conf_while_down($node, 'pg_janitor.worker_idle_timeout = 1');
	my $offset = log_size($node);
	$node->restart;
	eventually($node, q{SELECT count(*) > 0 FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor scheduler' AND wait_event_type = 'Lock'}, 'it waits for the row');
	my $id = trigger($node, 'probe');
	is(outcome($node, $id)->{status}, 'succeeded', 'it stays for a run that was triggered meanwhile');
	logs($node, qr/could not prune job_execution/, $offset, 'pruning gave up');
	value($node, q{ROLLBACK PREPARED 'holds'});
	set_setting($node, 'pg_janitor.worker_idle_timeout', '90');
	value($node, q{SELECT job_unschedule('old'); SELECT job_enable('tick')});
	goes_on($node, 'afterwards');
	ledger_is_true($node);
};

subtest 'an orderly shutdown costs no attempt' => sub {
	set_setting($node, 'pg_janitor.shutdown_grace', '0');
	my ($id) = start_stuck($node, 'once');
	$node->stop('fast');
	$node->start;
	eventually_is($node, "SELECT string_agg(concat_ws('/', status, attempt, retry_of = $id), ' ' ORDER BY id)
		FROM job_execution WHERE $id IN (id, retry_of)",
		'interrupted/1 succeeded/1/t', 'it is run again as the same attempt');
	like(execution($node, $id)->{detail} || '', qr/shut ?down/, 'the row says why');
	goes_on($node, 'after the shutdown');
	ledger_is_true($node);
};

subtest 'a CALL, which may have committed, is not run again by recovery' => sub {
	$node->safe_psql('postgres', q{
		CREATE TABLE step (id bigint);
		CREATE PROCEDURE stepwise() LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO step VALUES (job_execution_id());
			COMMIT;
			PERFORM pg_sleep(600) FROM gate WHERE shut;  -- a job that takes long
		END $$});
	define_job($node, 'call', 'CALL stepwise()');
	my ($id) = start_stuck($node, 'call');
	$node->stop('fast');
	$node->start;
	eventually($node, "SELECT status = 'interrupted' FROM job_execution WHERE id = $id",
		'it is interrupted');
	goes_on($node, 'after the shutdown');
	is(history($node, 'call') . queue($node, 'call'), 'interrupted', 'once and for all');
	is(value($node, 'SELECT count(*) FROM step'), 1, 'its first transaction stays');

	define_job($node, 'call', 'CALL stepwise()', "max_attempts => 2, retry_delay => '0'");
	(undef, my $pid) = start_stuck($node, 'call');
	crash($node, $pid);
	eventually_is($node, q{SELECT string_agg(status || attempt, ' ' ORDER BY id)
		FROM job_execution WHERE job_name = 'call'},
		'interrupted1 interrupted1 succeeded2', 'but by its max_attempts, after a crash');
	ledger_is_true($node);
};

subtest 'the third crash in a row pauses the job' => sub {
	effect_job($node, 'crasher', "max_attempts => 10, retry_delay => '0'");
	gate($node, 'shut');
	trigger($node, 'crasher');
	for my $nth (1 .. 3)
	{
		eventually($node, "SELECT count(*) = 1 FROM job_running() r JOIN job_execution e
			ON e.id = r.execution_id WHERE e.job_name = 'crasher' AND e.attempt = $nth
			AND r.pid IS NOT NULL", "attempt $nth is on");
		# so its runs do not end in three crashes in a row; that tick succeeds is
		# a commit that flushes the claim too
		goes_on($node, "attempt $nth");
		crash($node, value($node, q{SELECT r.pid FROM job_running() r JOIN job_execution e
			ON e.id = r.execution_id WHERE e.job_name = 'crasher'}));
	}
	eventually_is($node, q{SELECT health FROM job_status WHERE job_name = 'crasher'},
		'paused', 'job_status says paused');
	like(value($node, q{SELECT health_detail FROM job_status WHERE job_name = 'crasher'}),
		qr/crash.*job_resume/, 'and why, and what to type');
	is(history($node, 'crasher'), 'interrupted interrupted interrupted', 'no fourth run');
	is(queue($node, 'crasher', 'reason, attempt'), 'retry/4', 'its next attempt waits');
	is(log_count($node, 'job "crasher" is paused'), 1, 'the log says so once');
	gate($node, 'open');
	goes_on($node, 'other jobs');
	value($node, q{SELECT job_resume('crasher')});
	eventually_is($node, q{SELECT status || attempt FROM job_execution
		WHERE job_name = 'crasher' ORDER BY id DESC LIMIT 1}, 'succeeded4', 'job_resume lets it go on');
	ledger_is_true($node);
};

# The claim of a run is committed asynchronously, so a crash may undo it; a run
# that crashes the server by itself is to be counted nevertheless.
subtest 'a job that crashes the server as soon as it starts does not do so for ever' => sub {
	my $offset = log_size($node);
	define_job($node, 'suicide', q{COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'},
		"max_attempts => 10, retry_delay => '0'");
	# the crash may come before this session has its answer
	eval { $node->psql('postgres', q{SELECT job_trigger('suicide')}) };
	eventually_is($node, q{SELECT count(*) FROM job_status
		WHERE job_name = 'suicide' AND health = 'paused'}, '1', 'then it is paused');
	cmp_ok(log_count($node, 'reinitializing', $offset), '<=', 4,
		'there were three crashes, or four if the first undid its claim');
	is(history($node, 'suicide'), 'interrupted interrupted interrupted',
		'each is recorded');
	$node->stop('immediate') if !ledger_is_true($node);
};

no_accident($node);
$node->stop;
done_testing();
