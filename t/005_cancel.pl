# Ends that somebody asks for: who is hit, who is not, what is recorded.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;

my $node = janitor_node('cancel', 'pg_janitor.max_workers = 2',
	'pg_janitor.log_runs = none', 'log_statement = none', 'max_worker_processes = 16');

sub status { my ($row) = @_; return "$row->{status} " . (defined $row->{success} ? $row->{success} ? 'true' : 'false' : 'NULL') }
sub value { return $node->safe_psql('postgres', @_) }

$node->safe_psql('postgres', 'CREATE TABLE t (a bigint)');
define_job($node, 'long', "INSERT INTO t VALUES (1); $LONG", q(max_attempts => 3));
define_job($node, 'quick', 'SELECT 1');

# --- waiting ---

my $id = trigger($node, 'long', q(run_at => now() + interval '1 hour'));
is(value("SELECT job_cancel($id)"), '1', 'a waiting run can be cancelled');
my $row = execution($node, $id);
is(status($row) . ' ' . ($row->{started_at} // 'never started'), 'cancelled false never started',
	'it leaves its row, and never started');
is(value("SELECT count(*) FROM job_queue"), '0', 'and nothing in the queue');
is(value("SELECT job_cancel($id)"), '0', 'twice is once');
$id = trigger($node, 'long', q(run_at => now() + interval '1 hour'));
value("BEGIN; SELECT job_cancel($id); ROLLBACK");
is(value("SELECT count(*) FROM job_queue WHERE execution_id = $id"), '1', 'rolled back it goes on waiting');
is(value(q(SELECT job_cancel('long'))), '1', 'by the name of its job');
$id = trigger($node, 'long', q(run_at => now() + interval '1 hour', key => 'k'));
my $other = trigger($node, 'long', q(run_at => now() + interval '1 hour', key => 'l'));
is(value(q(SELECT job_cancel('long', 'k'))), '1', 'by its key');
is(execution($node, $id)->{status} . ' ' . (execution($node, $other) // 'waits'), 'cancelled waits', 'and no other');
value(q(SELECT job_cancel('long')));

# --- running ---

$id = trigger($node, 'long');
my $pid = wait_started($node, $id);
is(value("SELECT job_cancel($id)"), '1', 'a run in progress can be cancelled');
$row = wait_run($node, $id);
is(status($row) . " $row->{sqlstate}", 'cancelled false 57014', 'it is recorded as cancelled');
is(value('SELECT count(*) FROM t'), '0', 'what it did is undone');
is(value('SELECT count(*) FROM job_queue'), '0', 'it is not tried again, whatever max_attempts says');
is(run_job($node, 'quick')->{status}, 'succeeded', 'and the next run is not hit');
is(value("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '1', 'its worker lives on');

$id = trigger($node, 'long');
$pid = wait_started($node, $id);
value("SELECT pg_cancel_backend($pid)");
is(status(wait_run($node, $id)), 'cancelled false', 'pg_cancel_backend on the worker: cancelled');
is(value('SELECT count(*) FROM job_queue'), '0', 'pg_cancel_backend: not tried again');
value("SELECT pg_cancel_backend($pid)");
is(run_job($node, 'quick')->{status}, 'succeeded', 'pg_cancel_backend between runs cancels nothing');

my $terminated = 0;
my $took = quickest(1, sub {
	$id = trigger($node, 'long');
	$pid = wait_started($node, $id);
	my $at = value("SELECT clock_timestamp() FROM pg_terminate_backend($pid)");
	$terminated++;
	is(status(wait_run($node, $id)), 'cancelled false', 'pg_terminate_backend: cancelled');
	return value("SELECT extract(epoch FROM completed_at - timestamptz '$at') FROM job_execution WHERE id = $id");
});
cmp_ok($took, '<', 1, 'pg_terminate_backend: within a second');
is(value('SELECT count(*) FROM job_queue'), '0', 'pg_terminate_backend: not run again');
is(value('SELECT count(*) FROM t'), '0', 'pg_terminate_backend: what it did is undone');
eventually($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'the worker is gone');
$row = run_job($node, 'quick');
is($row->{status}, 'succeeded', 'pg_terminate_backend: the next run has a worker');
define_job($node, 'suicide', q(SELECT pg_terminate_backend(pg_backend_pid()); ) . $LONG);
is(run_job($node, 'suicide')->{status}, 'cancelled', 'a run that terminates its own process is cancelled');
$pid = run_job($node, 'quick')->{pid};
value("SELECT pg_terminate_backend($pid)");
is(run_job($node, 'quick')->{status}, 'succeeded', 'pg_terminate_backend on an idle worker harms no run');

# The scheduler: another comes, runs in progress go on.
$id = trigger($node, 'long');
wait_started($node, $id);
value(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_janitor scheduler'));
is(run_job($node, 'quick')->{status}, 'succeeded', 'pg_terminate_backend on the scheduler: another takes over');
is(execution($node, $id)->{status}, 'running', 'and runs in progress go on');
is(value("SELECT job_cancel($id)"), '1', 'and can be cancelled');
is(wait_run($node, $id)->{status}, 'cancelled', 'by their ids');

# A command that swallows the cancel and ends well has succeeded.
define_job($node, 'swallows', q(DO $$BEGIN PERFORM pg_sleep(600);	-- a job that takes long
	EXCEPTION WHEN query_canceled THEN NULL; END$$; INSERT INTO t VALUES (job_execution_id())));
$id = trigger($node, 'swallows');
wait_started($node, $id);
eventually($node, q(SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'), 'it sleeps');
value("SELECT job_cancel($id)");
$row = wait_run($node, $id);
is("$row->{status} " . value("SELECT count(*) FROM t WHERE a = $id"), 'succeeded 1',
	'a run that commits has succeeded, whoever wanted it cancelled');

# --- removed while it runs ---

define_job($node, 'removed', $LONG);
$id = trigger($node, 'removed');
wait_started($node, $id);
value(q(SELECT job_unschedule('removed')));
is(execution($node, $id)->{status}, 'running', 'a run in progress outlives its definition');
is(value("SELECT job_cancel($id)"), '1', 'and can still be cancelled');
is(wait_run($node, $id)->{status}, 'cancelled', 'and is recorded');

# --- a cancel hits the run it names and no other ---

# Runs so short that the cancels arrive before, in and after them, and often
# while the worker carries out the next.  The temporary table makes the reset
# between two runs long enough to be hit as well.
define_job($node, 'short', q(CREATE TEMP TABLE x (a int); INSERT INTO t VALUES (job_execution_id())),
	q(max_running => 10));
$node->safe_psql('postgres', q(
	TRUNCATE t;
	CREATE TABLE asked (id bigint, hit int);
	CREATE PROCEDURE race() LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			INSERT INTO asked
			SELECT execution_id, job_cancel(execution_id) FROM job_running()
			WHERE pid IS NOT NULL AND random() < 0.3;
			COMMIT;
			EXIT WHEN NOT EXISTS (SELECT FROM job_queue) AND
				NOT EXISTS (SELECT FROM job_running());
		END LOOP;
	END$$));
value(q(SELECT count(job_trigger('short')) FROM generate_series(1, 600)));
value('CALL race()');
is(value(q(SELECT count(*) FROM job_execution WHERE job_name = 'short' AND completed_at IS NOT NULL)),
	'600', 'each of 600 racing runs has come to its end');
is(value(q(SELECT string_agg(DISTINCT status, ' ' ORDER BY status) FROM job_execution WHERE job_name = 'short')),
	'cancelled succeeded', 'and succeeded or was cancelled');
is(value(q(SELECT count(*) FROM job_execution WHERE job_name = 'short' AND status = 'cancelled'
		AND id NOT IN (SELECT id FROM asked WHERE hit = 1))),
	'0', 'a cancel never hits another run than the one it names');
is(value(q(SELECT count(*) FROM job_execution e FULL JOIN t ON t.a = e.id
		WHERE e.job_name = 'short' AND (e.status = 'succeeded') <> (t.a IS NOT NULL))),
	'0', 'what a run did is there exactly if it succeeded');
is(value(q(SELECT count(*) - count(DISTINCT a) FROM t)), '0', 'and only once');
note(value(q(SELECT status || ' ' || count(*) || ' ' || count(started_at) FROM job_execution WHERE job_name = 'short' GROUP BY status)));
is(value('SELECT count(*) FROM job_queue'), '0', 'nothing is left in the queue');
is(value('SELECT count(*) FROM job_running()'), '0', 'nor in a worker');
is(run_job($node, 'short')->{status}, 'succeeded', 'and the next run is a run like any other');

my $log = slurp_file($node->logfile);
is(() = $log =~ /"pg_janitor worker" \(PID \d+\) exited with exit code 1/g, $terminated + 2,
	'no worker died of a cancel: only of being terminated');
$node->stop;
done_testing();
