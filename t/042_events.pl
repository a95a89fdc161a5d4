# Whoever listens to pg_janitor hears which runs have failed and which have made
# a job recover, and that something is overdue: once each, from the scheduler
# alone, and nothing of names, rows and messages.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('events', 'max_prepared_transactions = 2',
	'pg_janitor.shutdown_grace = 0', 'pg_janitor.log_runs = none');

my $SECRET = 'a.person@example.com';
my $listener;
my %sender;

sub listen_anew
{
	eval { $listener->quit } if $listener;
	$listener = $node->background_psql('postgres');
	$listener->query_safe('LISTEN pg_janitor');
	return;
}

# What has been heard since the last call, in order, but for what external jobs
# tell; waits until it is $count.
sub heard
{
	my ($count) = @_;
	my $limit = time + $PostgreSQL::Test::Utils::timeout_default;
	my @events;

	while (1)
	{
		my $output = $listener->query('SELECT NULL');
		while ($output =~ /with payload "(\{.*\})" received from server process with PID (\d+)/g)
		{
			my ($event, $pid) = (decode_json($1), $2);
			$sender{ value($node, "SELECT backend_type FROM pg_stat_activity WHERE pid = $pid") }++;
			push @events, $event if $event->{event} ne 'claimable';
		}
		last if @events >= $count || time > $limit;
		eventually($node, 'SELECT true', 'a moment later');
	}
	return @events;
}

# In short: event, the job that its run is of, and the keys asked for.
sub short
{
	my ($keys, @events) = @_;
	return join ', ', map {
		my $event = $_;
		my $id = $event->{execution_id};
		join ' ', map { $_ // 'none' } $event->{event},
		  $id ? value($node, "SELECT job_name FROM job_execution WHERE id = $id") : (),
		  map { $event->{$_} } @$keys
	} @events;
}

# A job that always does well, and one of which both ends are told: what is not
# heard before the latter is not said at all.
effect_job($node, 'probe');
define_job($node, 'marker', q{SELECT 1 / (job_arg('ok'))::int});

sub nothing_more
{
	my ($name) = @_;
	run_job($node, 'marker', q{'{"ok": 0}'});
	run_job($node, 'marker', q{'{"ok": 1}'});
	return is(short([], heard(2)), 'failed marker, recovered marker', $name);
}

run_job($node, 'probe');
listen_anew();
nothing_more('success is no news');

subtest 'a run that fails' => sub {
	define_job($node, 'leaky', "DO \$\$BEGIN RAISE EXCEPTION 'no such address: $SECRET' USING ERRCODE = 'P0002', DETAIL = '$SECRET'; END\$\$");
	my $row = run_job($node, 'leaky', qq{'{"address": "$SECRET"}'});
	like($row->{error_message}, qr/$SECRET/, 'the record may have values');
	my ($event) = heard(1);
	is_deeply($event, { event => 'failed', execution_id => $row->{id},
			status => 'failed', sqlstate => 'P0002', attempt => 1, consecutive_failures => 1 },
		'is told, without any');
	run_job($node, 'leaky') for 1 .. 2;
	is(short(['consecutive_failures'], heard(2)), 'failed leaky 2, failed leaky 3', 'each is, and counted');
	nothing_more('once');
};

subtest 'a job that recovers' => sub {
	define_job($node, 'leaky', 'SELECT 1');
	my $row = run_job($node, 'leaky');
	my ($event) = heard(1);
	is_deeply($event, { event => 'recovered', execution_id => $row->{id},
			consecutive_failures => 3 }, 'is told');
	run_job($node, 'leaky');
	nothing_more('once');
};

subtest 'each attempt is told, and that the last one succeeded' => sub {
	define_job($node, 'thrice', 'SELECT 1 / (count(*) > 1)::int FROM job_execution
		WHERE job_name = \'thrice\' AND status = \'failed\'', "max_attempts => 3, retry_delay => '0'");
	trigger($node, 'thrice');
	is(short([ 'attempt', 'consecutive_failures' ], heard(3)),
		'failed thrice 1 1, failed thrice 2 2, recovered thrice none 2', 'in order');
};

subtest 'other ends' => sub {
	define_job($node, 'long', $LONG, "timeout => '0.1 s'");
	run_job($node, 'long');
	is(short([ 'status', 'sqlstate' ], heard(1)), 'failed long timed_out 57014', 'a timeout is a failure');

	effect_job($node, 'stuck');
	my ($id, $pid) = start_stuck($node, 'stuck');
	value($node, "SELECT job_cancel($id)");
	outcome($node, $id);
	($id, $pid) = start_stuck($node, 'stuck');
	value($node, "SELECT pg_terminate_backend($pid)");
	outcome($node, $id);
	nothing_more('what somebody has ended is none');

	($id) = start_stuck($node, 'stuck');
	$node->restart;
	listen_anew();
	eventually($node, "SELECT status = 'succeeded' FROM job_execution WHERE retry_of = $id", 'it is run again');
	nothing_more('nor is a shutdown');

	# its row is held, so that it is not closed before we listen again
	($id, $pid) = start_stuck($node, 'stuck');
	$node->safe_psql('postgres', "BEGIN; SELECT FROM job_execution WHERE id = $id FOR UPDATE; PREPARE TRANSACTION 'holds'");
	crash($node, $pid);
	listen_anew();
	value($node, q{ROLLBACK PREPARED 'holds'});
	is(short([ 'execution_id', 'status' ], heard(1)), "failed stuck $id interrupted", 'a crash is a failure');
	run_job($node, 'stuck');
	is(short([], heard(1)), 'recovered stuck', 'from which it recovers');
};

subtest 'a job that was failing before the server was restarted' => sub {
	run_job($node, 'marker', q{'{"ok": 0}'});
	heard(1);
	$node->restart;
	listen_anew();
	run_job($node, 'marker', q{'{"ok": 1}'});
	is(short([], heard(1)), 'recovered marker', 'recovers after it');
	run_job($node, 'long');
	heard(1);
};

subtest 'work outside the database' => sub {
	value($node, q{SELECT job_schedule_external('outside', max_attempts => 1)});
	value($node, q{SELECT job_trigger('outside') FROM generate_series(1, 4)});
	my $finish = q{SELECT count(job_finish(execution_id, token, %s, error => '} . $SECRET . q{')) FROM job_claim('outside', 1)};
	value($node, 'BEGIN; ' . sprintf($finish, 'false') . '; ROLLBACK');
	value($node, 'BEGIN; SAVEPOINT s; ' . sprintf($finish, 'false') . '; ROLLBACK TO s; COMMIT');
	nothing_more('what is rolled back is not told');
	value($node, sprintf($finish, 'false'));
	is(short([ 'status', 'consecutive_failures' ], heard(1)), 'failed outside failed 1', 'a failure that its worker reports is');
	value($node, q{SELECT job_finish(execution_id, token) FROM job_claim('outside', 1)});
	is(short([], heard(1)), 'recovered outside', 'so is its recovery');
	value($node, q{SELECT job_finish(execution_id, token) FROM job_claim('outside', 9)});
	nothing_more('once');

	value($node, q{SELECT job_trigger('outside') FROM generate_series(1, 100)});
	value($node, q{SELECT count(job_finish(execution_id, token, false)) FROM job_claim('outside', 100)});
	my @events = grep { $_->{event} eq 'failed' } heard(33);
	is(scalar(grep { $_->{execution_id} } @events), 32, 'of many at once some are told one by one');
	is(scalar(grep { !$_->{execution_id} } @events), 1, 'and that there are more');
	value($node, q{SELECT job_unschedule('outside')});
	nothing_more('that is all');
};

subtest 'the metrics that Prometheus reads' => sub {
	define_job($node, 'odd "name" \\', 'SELECT 1');
	my ($text) = run_command([ 'psql', '-XAtq', '-d', $node->connstr('postgres'),
		'-f', "$FindBin::RealBin/../examples/monitoring/metrics.sql" ]);
	my @lines = split /\n/, $text;
	is(scalar(grep { !/^# (HELP|TYPE) pg_janitor_\w+ \S/ &&
			!/^pg_janitor_\w+\{(\w+="([^"\\]|\\\\|\\")*",?)+\} -?[0-9.]+$/ } @lines), 0, 'every line is one of its format')
	  or diag($text);
	cmp_ok(scalar @lines, '>', 50, 'and there are some');
	my ($failed) = $text =~ /^pg_janitor_runs_total\{job="leaky",kind="sql",status="failed"\} (\d+)$/m;
	is($failed, value($node, q{SELECT failed FROM job_metrics WHERE job_name = 'leaky'}), 'a counter');
	like($text, qr/^pg_janitor_health\{job="odd \\"name\\" \\\\",kind="sql",health="never_run"\} 1$/m, 'names are quoted');
	value($node, q{SELECT job_unschedule(name) FROM job_definition WHERE name ~ '^odd'});
};

# --- overdue ---

my $ahead = 0;

sub advance
{
	my ($seconds) = @_;
	$ahead += $seconds;
	set_setting($node, 'pg_janitor.debug_clock_offset', $ahead);
	return;
}

sub overdue { return value($node, q{SELECT coalesce(string_agg(job_name, ' ' ORDER BY job_name), '') FROM job_status WHERE overdue}); }

# Everything that must not be heard is told before what follows it.
sub overdue_events { return grep { $_->{event} eq 'overdue' } heard(@_); }

subtest 'a job that is overdue' => sub {
	set_setting($node, 'pg_janitor.max_workers', '1');
	define_job($node, 'held', UNTIL_RELEASED);
	define_job($node, 'paused', 'SELECT 1');
	value($node, q{SELECT job_pause('paused')});
	my $lock = hold_lock($node);
	wait_started($node, trigger($node, 'held'));
	my $id = trigger($node, $_) for ('held', 'paused');
	$id = trigger($node, 'probe');
	advance(50);
	nothing_waits_for_a_worker();
	advance(11);
	is_deeply([ overdue_events(1) ], [ { event => 'overdue' } ], 'is told');
	is(overdue(), 'probe', 'as job_status has it: not one that runs, nor one that is paused');
	advance(61);
	advance(61);
	release_lock($lock);
	outcome($node, $id);
	nothing_more('once');

	$lock = hold_lock($node);
	wait_started($node, trigger($node, 'held'));
	$id = trigger($node, 'probe');
	advance(62);
	is(short([], overdue_events(1)), 'overdue', 'and the next time again');
	release_lock($lock);
	outcome($node, $id);
	set_setting($node, 'pg_janitor.max_workers', '4');
	value($node, q{SELECT job_resume(); SELECT job_cancel('paused')});
};

# The scheduler has looked at the clock, and found nothing overdue.
sub nothing_waits_for_a_worker
{
	is(overdue(), '', 'nothing is overdue yet');
	return;
}

subtest 'an external job that no worker claims' => sub {
	value($node, q{SELECT job_schedule_external('outside')});
	value($node, q{SELECT job_trigger('outside')});
	advance(62);
	is(short([], overdue_events(1)), 'overdue', 'is told');
	is(overdue(), 'outside', 'as job_status has it');
	value($node, q{SELECT job_finish(execution_id, token) FROM job_claim('outside', 9)});
	is(short([], heard(1)), 'recovered outside', 'its history outlived its definition');
	value($node, q{SELECT job_trigger('outside')});
	value($node, q{SELECT count(*) FROM job_claim('outside', 1, lease => '1 hour')});
	value($node, q{SELECT job_trigger('outside')});
	advance(62);
	nothing_more('not while a run of it is in the hands of one');
};

is(join(' ', keys %sender), 'pg_janitor scheduler', 'all of this was said by the scheduler');
no_accident($node);
$node->stop;
done_testing();
