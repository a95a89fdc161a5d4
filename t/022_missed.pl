# What was missed while the server was down, or while the clock jumped, is made
# up as catch_up says: nothing is lost, nothing runs twice.
#
# The scheduler's clock is set to the year 2030, just after a quarter of an
# hour, so that the times below are exact.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::Local qw(timegm);

use JanitorTest;
use JanitorCrash;

my $node = crash_node('missed');

my $QUARTERS = "schedule => '0 */15 * * * *'";

# Seconds since 1970 of a time of day on 2 (or another) January 2030.
sub epoch
{
	my ($hour, $minute, $second, $day) = @_;
	return timegm($second || 0, $minute, $hour, $day || 2, 0, 2030);
}

sub scheduled
{
	my ($job, $status) = @_;
	return value($node, "SELECT string_agg(to_char(scheduled_for, 'HH24:MI'), ' ' ORDER BY id)
		FROM job_execution WHERE job_name = '$job' AND status = '$status'");
}

sub settled
{
	eventually($node, q{SELECT count(*) = 0 FROM job_execution WHERE status = 'running'},
		'all runs have ended');
	eventually($node, q{SELECT count(*) = 0 FROM job_queue WHERE run_at < clock_timestamp() +
		current_setting('pg_janitor.debug_clock_offset')::interval}, 'nothing is due');
	return;
}

set_clock($node, "timestamptz '2030-01-02 12:01:00 UTC'");
effect_job($node, 'once', "$QUARTERS, catch_up => 'once'");
effect_job($node, 'all', "$QUARTERS, catch_up => 'all'");
effect_job($node, 'skip', "$QUARTERS, catch_up => 'skip'");
effect_job($node, 'within', "$QUARTERS, catch_up => 'all', catch_up_within => '20 minutes'");
effect_job($node, 'once_start', "$QUARTERS, run_on_start => true");
effect_job($node, 'skip_start', "$QUARTERS, run_on_start => true, catch_up => 'skip'");
effect_job($node, 'start', "run_on_start => true");
effect_job($node, 'reboot', "schedule => '\@reboot'");
effect_job($node, 'start_disabled', "run_on_start => true, enabled => false");
effect_job($node, 'disabled', "$QUARTERS, enabled => false");
effect_job($node, 'paused', "$QUARTERS");
effect_job($node, 'triggered');
value($node, q{SELECT job_pause('paused')});
my $now = 'clock_timestamp() + current_setting(\'pg_janitor.debug_clock_offset\')::interval';
my $due = trigger($node, 'triggered', "run_at => $now + interval '10 minutes'");
my $later = trigger($node, 'triggered', "run_at => $now + interval '20 hours'");
is(value($node, 'SELECT count(*) FROM effect'), 0,
	'a definition starts nothing, run_on_start neither');

$node->stop('fast');
clock_while_down($node, epoch(12, 47, 30));
$node->start;
settled();

subtest 'a server down across three quarter-hours (R-07)' => sub {
	is(scheduled('once', 'succeeded'), '12:45', 'once: exactly one run');
	is(history($node, 'once', 'status, skipped'), 'skipped/2 succeeded',
		'once: the others are counted');
	is(scheduled('all', 'succeeded'), '12:15 12:30 12:45', 'all: each, in order, with its own time');
	is(history($node, 'all'), 'succeeded succeeded succeeded', 'all: and nothing else');
	is(history($node, 'skip', 'status, skipped'), 'skipped/3', 'skip: none, and one row with the count');
	is(scheduled('within', 'succeeded'), '12:30 12:45', 'catch_up_within: nothing older');
	is(history($node, 'within', 'status, skipped'), 'skipped/1 succeeded succeeded',
		'catch_up_within: which is counted');
	is(history($node, 'disabled'), '', 'disabled: nothing');
	is(history($node, 'paused', 'status, skipped'), 'skipped/3', 'paused: one row with the count');
	value($node, q{SELECT job_enable('disabled'); SELECT job_resume('paused')});
	define_job($node, 'look', 'SELECT 1');
	run_job($node, 'look');
	is(history($node, 'disabled') . ', ' . history($node, 'paused'), ', skipped',
		'enabled and resumed: nothing is made up');
	value($node, q{SELECT job_disable('disabled'), job_pause('paused')});
	is(value($node, q{SELECT string_agg(DISTINCT to_char(run_at, 'HH24:MI'), ' ')
		FROM job_queue WHERE key = '@schedule'}), '13:00', 'the next occurrence of all is 13:00');
	ledger_is_true($node);
};

subtest 'a clock that is shifted shows' => sub {
	cmp_ok(log_count($node, 'pg_janitor decides what is due by a clock that is shifted by \d+ s'), '>', 0,
		'in the log of the start');
	is(value($node, q{SELECT count(*) FROM job_status WHERE health_detail !~ 'debug_clock_offset is' OR health_detail IS NULL}),
		0, 'in job_status');
	is(value($node, q{SELECT health FROM job_status WHERE job_name = 'once'}), 'ok', 'which judges by it');
};

subtest 'run_on_start is one run a start, never doubled with a catch-up (H-15)' => sub {
	is(history($node, 'start', 'status, reason'), 'succeeded/startup', 'run_on_start');
	is(history($node, 'reboot', 'status, reason'), 'succeeded/startup', '@reboot');
	is(history($node, 'once_start', 'status, reason, skipped'),
		'skipped/schedule/2 succeeded/schedule', 'with a catch-up: that one only');
	is(history($node, 'skip_start', 'status, reason, skipped'),
		'skipped/schedule/3 succeeded/startup', 'without one: the start');
	is(history($node, 'start_disabled'), '', 'not of a disabled job');
};

subtest 'a trigger that came due while the server was down runs once (P-22)' => sub {
	is(execution($node, $due)->{status}, 'succeeded', 'at the start');
	is(history($node, 'triggered'), 'succeeded', 'once');
	is(queue($node, 'triggered', 'execution_id'), $later, 'one that is not due waits');
};

subtest 'each start of the server counts, no other event does' => sub {
	my $scheduler = process($node, 'scheduler');
	value($node, "SELECT pg_terminate_backend($scheduler)");
	crash($node, wait_new_process($node, 'scheduler', $scheduler));
	eventually_is($node, q{SELECT count(*) FROM effect WHERE job = 'start'}, 2,
		'a crash restart is a start, a new scheduler is none');
	$node->restart;
	eventually_is($node, q{SELECT count(*) FROM effect WHERE job = 'start'}, 3, 'so is a restart');
	settled();
	is(value($node, q{SELECT count(*) FROM effect WHERE job = 'start'}), 3, 'one run each');
	is(scheduled('once', 'succeeded'), '12:45', 'nothing is made up twice');
	is(history($node, 'all'), 'succeeded succeeded succeeded', 'catch_up = all neither');
	ledger_is_true($node);
};

# --- jumps of a running server's clock ---

value($node, q{SELECT job_unschedule(name) FROM job_definition; TRUNCATE effect});
effect_job($node, 'tick', "schedule => '* * * * * *'");
effect_job($node, 'probe');
effect_job($node, 'minute', "schedule => '0 0-9 * * * *'");
effect_job($node, 'daily', "schedule => '0 0 3 * * *', catch_up => 'all'");
effect_job($node, 'monthly', "schedule => '0 0 0 1 * *'");
effect_job($node, 'called');
define_job($node, 'calls', q{SELECT job_trigger('called'); SELECT pg_sleep(0.1)},	# a job that takes long
	"schedule => '0 0 0 1 * *'");

# `minute` has the first ten minutes of each hour.  Forwards the jumps go to
# where it has none for a long time, however slow the machine is.
sub jump
{
	my ($to, $name) = @_;
	set_clock($node, "timestamptz '$to UTC'");
	return goes_on($node, $name);
}

# By the scheduler's clock as it is when that is asked.
sub minute_is_due_soon
{
	my ($name) = @_;
	return eventually_is($node, "SELECT run_at - ($now) BETWEEN interval '0' AND interval '1 minute'
		FROM job_queue WHERE job_name = 'minute' AND key = '\@schedule'", 't',
		"$name: minute is due within a minute");
}

subtest 'the clock jumps forwards' => sub {
	my $made_up = sub {
		my ($count, $name) = @_;
		settled();
		is(value($node, q{SELECT count(*) FROM effect WHERE job = 'minute'}), $count,
			"$name: minute has one run more");
		ledger_is_true($node, $name);
	};
	jump('2030-01-02 13:10:20', 'at first');
	value($node, q{TRUNCATE effect, job_execution});
	jump('2030-01-02 14:10:20', 'an hour');
	$made_up->(1, 'an hour');
	is(scheduled('minute', 'succeeded'), '14:09', 'it is the newest');
	jump('2030-01-03 14:10:20', 'a day');
	$made_up->(2, 'a day');
	is(history($node, 'daily'), 'succeeded', 'a day: daily has one');
	jump('2030-02-03 14:10:20', 'a month');
	$made_up->(3, 'a month');
	is(value($node, q{SELECT count(DISTINCT scheduled_for) || ' ' || count(*)
		FROM job_execution WHERE job_name = 'daily' AND status = 'succeeded'}), '32 32',
		'a month: daily has made up each day');
	is(history($node, 'monthly'), 'succeeded', 'a month: monthly has one');
	is(value($node, q{SELECT f.started_at < (SELECT max(completed_at) FROM job_execution
			WHERE job_name = 'tick' AND status = 'skipped' AND detail ~ 'missed')
		FROM job_execution f WHERE job_name = 'called'}), 't',
		'a month: others do not wait until the seconds of a month have been gone through');
	is(value($node, q{SELECT count(*) <= 3 AND sum(skipped) = 10 - 1 + 240 - 1 + 7440 - 1
		FROM job_execution WHERE job_name = 'minute' AND status = 'skipped'}), 't',
		'what was skipped is counted');
};

subtest 'the clock jumps backwards' => sub {
	for (['2030-02-03 13:00:20', 'an hour'], ['2030-02-02 13:00:20', 'a day'],
		['2030-01-02 13:00:20', 'a month'])
	{
		jump(@$_);
		minute_is_due_soon($_->[1]);
	}
	is(value($node, q{SELECT to_char(run_at, 'YYYY-MM-DD HH24') FROM job_queue
		WHERE job_name = 'daily'}), '2030-01-03 03', 'a month: daily is due next morning');
	is(value($node, q{SELECT count(*) FROM effect WHERE job = 'monthly'}), 1,
		'monthly has not run again');
};

subtest 'a jump back while the server is down' => sub {
	$node->stop;
	clock_while_down($node, epoch(13, 0, 20, 1));
	$node->start;
	goes_on($node, 'a day');
	minute_is_due_soon('a day');
};

subtest 'a jump while there is no scheduler' => sub {
	value($node, q{SELECT job_disable('tick')});
	value($node, q{SELECT job_unschedule('minute'); TRUNCATE effect, job_execution});
	set_setting($node, 'pg_janitor.worker_idle_timeout', '1');
	eventually($node, q{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type ~ 'pg_janitor (scheduler|worker)'}, 'all have left');
	set_clock($node, "timestamptz '2030-01-02 13:00:20 UTC'");
	eventually_is($node, q{SELECT count(*) FROM effect WHERE job = 'daily'}, 1,
		'a day: daily has run');
	ledger_is_true($node);
	set_setting($node, 'pg_janitor.worker_idle_timeout', '90');
};

subtest 'catch_up = all makes up for at most 1,000' => sub {
	value($node, q{SELECT job_unschedule('daily')});
	effect_job($node, 'five', "schedule => '0 */5 * * * *', catch_up => 'all'");
	set_clock($node, "timestamptz '2030-01-06 13:02:30 UTC'");
	eventually($node, q{SELECT max(scheduled_for) >= '2030-01-06 13:00 UTC' FROM job_execution
		WHERE job_name = 'five' AND status = 'succeeded'}, 'all are made up');
	is(value($node, q{SELECT count(*) || ' ' || count(DISTINCT scheduled_for) || ' ' || min(scheduled_for)
		FROM job_execution WHERE job_name = 'five' AND status = 'succeeded'
			AND scheduled_for <= '2030-01-06 13:00 UTC'}),
		'1000 1000 2030-01-03 01:45:00+00', 'the newest');
	is(value($node, q{SELECT string_agg(skipped::text, ' ') FROM job_execution
		WHERE job_name = 'five' AND status = 'skipped'}), '152', 'the others are counted');
	ledger_is_true($node);
};

subtest 'what was done to the tables by hand is found at the next start' => sub {
	value($node, q{SELECT job_unschedule(name) FROM job_definition; TRUNCATE effect, job_execution;
		SET client_min_messages = error; SELECT job_schedule('model', '* * * * * *', 'INSERT INTO effect VALUES (job_execution_id(), ''by_hand'')', enabled => false);
		INSERT INTO job_definition SELECT (jsonb_populate_record(d, '{"name": "by_hand", "enabled": true}')).* FROM job_definition d;
		INSERT INTO job_definition SELECT (jsonb_populate_record(d, '{"name": "broken", "enabled": true, "schedule": "every fortnight"}')).* FROM job_definition d WHERE name = 'model';
		INSERT INTO job_execution (job_name, started_at, status, reason, run_as) VALUES ('by_hand', now(), 'running', 'manual', 'postgres')});
	effect_job($node, 'probe');
	my $offset = log_size($node);
	$node->restart;
	eventually_is($node, q{SELECT count(*) > 1 FROM effect WHERE job = 'by_hand'}, 't', 'a job gets its next occurrence');
	eventually_is($node, q{SELECT status FROM job_execution WHERE job_name = 'by_hand' AND reason = 'manual'},
		'interrupted', 'a run that nobody carries is closed');
	is(run_job($node, 'probe')->{status}, 'succeeded', 'a job that cannot be is no obstacle');
	is(log_count($node, 'pg_janitor scheduler.*LOG: .*every fortnight', $offset), 1, 'and is complained of once');
	value($node, q{DELETE FROM job_definition WHERE name = 'broken'});
};

no_accident($node);
$node->stop;
done_testing();
