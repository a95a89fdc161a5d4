package JanitorCrash;

# What the tests of recovery, shutdown, shortage and failover share, on top of
# JanitorTest: jobs that leave one row in the table effect for each run that
# took effect, ways of ending processes, and the check that the ledger agrees
# with what really happened.

use strict;
use warnings;

use Exporter 'import';
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(crash_node prepare_effects effect_job effect gate process
  wait_new_process crash gone ledger_is_true goes_on log_count log_size why
  no_accident history queue conf_while_down clock_while_down value
  eventually_is outcome logs start_stuck);

# A server that restarts after a crash, with the table effect and the gate that
# keeps jobs from ending.
sub crash_node
{
	my ($name, @settings) = @_;
	my $node = janitor_node($name, 'restart_after_crash = on',
		'max_worker_processes = 16', "timezone = 'UTC'", @settings);

	prepare_effects($node);
	return $node;
}

sub prepare_effects
{
	my ($node, $database) = @_;
	$node->safe_psql($database || 'postgres', q{
		CREATE TABLE effect (id bigint, job text,
			at timestamptz DEFAULT clock_timestamp());
		CREATE TABLE gate (shut boolean);
		INSERT INTO gate VALUES (false);
	});
	return;
}

# The jobs by which goes_on() sees that others go on.  The gate is not for
# them: a run of tick that began while it was shut would keep all that follow.
my %passes_gate = (probe => 1, tick => 1);

# The command of a job of that name: its effect, then it stays if the gate was
# shut when it began.
sub effect
{
	my ($name) = @_;
	my $command = 'INSERT INTO effect (id, job) VALUES (job_execution_id(), '
	  . literal($name) . ')';
	$command .= '; SELECT pg_sleep(600) FROM gate WHERE shut'    # a job that takes long
	  if !$passes_gate{$name};
	return $command;
}

sub effect_job
{
	my ($node, $name, $options, $database) = @_;
	return define_job($node, $name, effect($name), $options, $database);
}

sub gate
{
	my ($node, $state, $database) = @_;
	$node->safe_psql($database || 'postgres',
		'UPDATE gate SET shut = ' . ($state eq 'shut' ? 'true' : 'false'));
	return;
}

# Starts a run that will not end by itself; those that begin when this is back
# will.  Its execution id and its process id.
sub start_stuck
{
	my ($node, $job, $database) = @_;
	gate($node, 'shut', $database);
	my $id = trigger($node, $job, undef, $database);
	my $pid = wait_started($node, $id, $database);
	eventually($node, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid",
		'the run is in the middle', $database);
	gate($node, 'open', $database);
	return ($id, $pid);
}

# The row of a run when it has ended; one that says so if it does not end.
sub outcome
{
	my ($node, $id, $database) = @_;
	return eval { wait_run($node, $id, $database) } || { id => $id, status => 'does not end' };
}

# --- looking ---

sub value
{
	my ($node, $query, $database) = @_;
	return $node->safe_psql($database || 'postgres', $query);
}

# A test of its own that waits: $query comes to return $expected.
sub eventually_is
{
	my ($node, $query, $expected, $name, $database) = @_;
	return ok($node->poll_query_until($database || 'postgres', $query,
			$expected), $name);
}

# The rows of a job in job_execution, oldest first: "status/attempt" and so on.
sub history
{
	my ($node, $job, $columns, $database) = @_;
	$columns ||= 'status';
	return value($node, "SELECT string_agg(concat_ws('/', $columns), ' ' ORDER BY id)
		FROM job_execution WHERE job_name = " . literal($job), $database);
}

# Its entries in the queue but for the next occurrence.
sub queue
{
	my ($node, $job, $columns, $database) = @_;
	$columns ||= 'reason';
	return value($node, "SELECT string_agg(concat_ws('/', $columns), ' ' ORDER BY run_at, id)
		FROM job_queue WHERE key IS DISTINCT FROM '\@schedule'
		  AND job_name = " . literal($job), $database);
}

# The process id of the launcher, the scheduler or a worker.
sub process
{
	my ($node, $type, $database) = @_;
	eventually($node, "SELECT count(*) > 0 FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor $type'", "there is a $type", $database);
	return value($node, "SELECT min(pid) FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor $type'"
		. ($database ? " AND datname = '$database'" : ''), $database);
}

sub wait_new_process
{
	my ($node, $type, $old) = @_;
	eventually($node, "SELECT count(*) FILTER (WHERE pid <> $old) = 1 AND count(*) = 1
		FROM pg_stat_activity WHERE backend_type = 'pg_janitor $type'",
		"there is a new $type");
	return process($node, $type);
}

sub log_size { return -s $_[0]->logfile; }

# A test of its own that waits for a line of the log.
sub logs
{
	my ($node, $pattern, $offset, $name) = @_;
	return ok(eval { $node->wait_for_log($pattern, $offset) }, $name);
}

# How many lines of the log, from an offset on, match.
sub log_count
{
	my ($node, $pattern, $offset) = @_;
	my $count = grep { /$pattern/ && !/statement:/ }
	  split /\n/, slurp_file($node->logfile, $offset || 0);
	return $count;
}

# The checks of job_why() that are not fulfilled.
sub why
{
	my ($node, $job, $database) = @_;
	return value($node, "SELECT string_agg(check_name || ': ' || detail
			|| coalesce(' -> ' || hint, ''), E'\\n')
		FROM job_why(" . literal($job) . ") WHERE NOT ok", $database);
}

# --- ending ---

# Waits until a process is gone.
sub gone
{
	my ($pid) = @_;
	my $limit = $PostgreSQL::Test::Utils::timeout_default;
	system('timeout', $limit, 'tail', '-s', '0.02', "--pid=$pid", '-f', '/dev/null') == 0
	  or die "process $pid is still there";
	return;
}

# kill -9 of a process of the server, which then starts afresh.
sub crash
{
	my ($node, $pid) = @_;
	my $offset = log_size($node);
	kill 9, $pid or die "could not kill $pid";
	$node->wait_for_log(
		qr/terminated; reinitializing.*is ready to accept connections/s, $offset);
	eventually($node, 'SELECT true', 'the server is up again');
	return;
}

# --- the clock and settings of a server that is down ---

sub conf_while_down
{
	my ($node, @lines) = @_;
	$node->append_conf('postgresql.auto.conf', join("\n", @lines) . "\n");
	return;
}

# The scheduler's clock will show that time (seconds since 1970) in a moment.
sub clock_while_down
{
	my ($node, $epoch) = @_;
	conf_while_down($node, 'pg_janitor.debug_clock_offset = ' . ($epoch - time()));
	return;
}

# --- invariants ---

my $violations = q{
	SELECT coalesce(string_agg(v, '; '), 'none') FROM (
		SELECT 'running without a process: ' || id FROM job_execution e
		WHERE status = 'running' AND lease_until IS NULL
		  AND NOT EXISTS (SELECT FROM job_running() r WHERE r.execution_id = e.id)
		UNION ALL
		SELECT 'succeeded without effect: ' || e.id
		FROM job_execution e JOIN job_definition d ON d.name = e.job_name
		WHERE e.status = 'succeeded' AND d.command LIKE '%INTO effect%'
		  AND NOT EXISTS (SELECT FROM effect f WHERE f.id = e.id)
		UNION ALL
		SELECT 'effect without success: ' || f.id FROM effect f
		WHERE NOT EXISTS (SELECT FROM job_execution e
			WHERE e.id = f.id AND e.status = 'succeeded')
		UNION ALL
		SELECT 'took effect twice: ' || id FROM effect GROUP BY id HAVING count(*) > 1
		UNION ALL
		SELECT 'occurrence run twice: ' || job_name || ' ' || scheduled_for
		FROM job_execution WHERE status = 'succeeded' AND scheduled_for IS NOT NULL
		GROUP BY job_name, scheduled_for HAVING count(*) > 1
		UNION ALL
		SELECT 'next occurrences of ' || d.name || ': ' || count(q.id)
		FROM job_definition d LEFT JOIN job_queue q
			ON q.job_name = d.name AND q.key = '@schedule'
		WHERE d.enabled AND d.schedule IS NOT NULL AND d.schedule <> '@reboot'
		GROUP BY d.name HAVING count(q.id) <> 1
	) x (v)};

# No row says `running` without a process, what took effect is what succeeded,
# no occurrence has run twice, and each schedule has its next occurrence.
sub ledger_is_true
{
	my ($node, $name, $database) = @_;
	return eventually_is($node, $violations, 'none',
		($name ? "$name: " : '') . 'the ledger is true', $database);
}

# Triggers are run, and a job with a schedule goes on.
sub goes_on
{
	my ($node, $name, $database) = @_;
	my $probe = outcome($node, trigger($node, 'probe', undef, $database), $database);
	is($probe->{status}, 'succeeded', "$name: a trigger is run");
	return eventually_is($node, "SELECT count(*) > 0 FROM job_execution
		WHERE job_name = 'tick' AND status = 'succeeded' AND id > $probe->{id}",
		't', "$name: the schedule goes on", $database);
}

# No assertion failed, nothing panicked, no process but those that the test
# killed died by a signal.
sub no_accident
{
	my ($node, $name) = @_;
	my @bad = grep { /TRAP: |PANIC: |terminated by signal (?!9\b)/ }
	  split /\n/, slurp_file($node->logfile);
	return is(join("\n", @bad), '', $name || 'no process had an accident');
}

1;
