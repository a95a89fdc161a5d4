# Workers outside that die, come too late, roll back and fail, on a server that
# crashes under them: every run that was enqueued ends exactly once, as
# succeeded or as dead, with its effect if and only if it succeeded.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use IPC::Run;
use JanitorTest;
use JanitorCrash;

my $WORKERS = 4;
my $RUNS = 400;
my $CRASHES = 5;

my $node = janitor_node('torture', 'restart_after_crash = on', "log_statement = 'none'");
value($node, q{
	CREATE TABLE effect (n int);
	SELECT job_schedule_external('work', max_attempts => 3, retry_delay => '10 ms',
		retry_max_delay => '50 ms', max_running => 6);
	SELECT job_set_rate_limit('work', 50, '100 ms');
	-- what a worker does with a run: one transaction to claim, one to finish
	CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
	DECLARE
		run record;
		fate int;
	BEGIN
		LOOP
			SELECT * INTO run FROM job_claim('work', 1, '150 ms');
			COMMIT;
			IF run.execution_id IS NULL THEN
				EXIT WHEN NOT EXISTS (SELECT FROM job_queue UNION ALL SELECT FROM job_lease);
				CONTINUE;
			END IF;
			fate := random() * 9;
			CONTINUE WHEN fate = 0;					-- it dies
			BEGIN
				IF fate = 1 THEN					-- it comes too late
					PERFORM job_wait(run.execution_id, '5 s');
				END IF;
				IF fate = 2 THEN
					PERFORM job_finish(run.execution_id, run.token, false, error => 'no');
				ELSIF fate = 3 THEN
					PERFORM job_finish(run.execution_id, run.token, snooze => '5 ms');
				ELSE
					INSERT INTO effect VALUES ((run.args ->> 'n')::int);
					PERFORM job_finish(run.execution_id, run.token, records => 1);
				END IF;
			EXCEPTION WHEN object_not_in_prerequisite_state THEN
				NULL;								-- and loses what it did
			END;
			IF fate = 4 THEN ROLLBACK; ELSE COMMIT; END IF;
		END LOOP;
	END $$});

sub start_workers
{
	return map { IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'CALL work()' ],
		'<', \'', '>', \my $out, '2>', \my $err) } 1 .. $WORKERS;
}

sub ended { return value($node, q{SELECT count(*) FROM job_execution WHERE status <> 'running'}); }

# a transaction for each: every one that has committed has to be accounted for
my $next = 1;
my @workers;
foreach my $round (1 .. $CRASHES)
{
	my $to = $RUNS * $round / $CRASHES;
	value($node, "SELECT count(job_trigger('work', jsonb_build_object('n', n), key => CASE WHEN n % 7 = 0 THEN n::text END))
		FROM generate_series($next, $to) n");
	$next = $to + 1;
	my $before = ended();
	@workers = start_workers();
	eventually($node, "SELECT count(*) > $before + 20 FROM job_execution WHERE status <> 'running'", 'they are at it');
	my $victim = value($node, q{SELECT coalesce((SELECT min(pid) FROM pg_stat_activity WHERE query = 'CALL work()'),
		(SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_janitor launcher'))});
	crash($node, $victim);
	$_->finish for @workers;
}
@workers = start_workers();
$_->finish for @workers;
eventually($node, q{SELECT NOT EXISTS (SELECT FROM job_queue UNION ALL SELECT FROM job_lease)}, 'nothing is left');

my $ends = q{(SELECT (args ->> 'n')::int AS n,
	count(*) FILTER (WHERE status = 'succeeded') AS good,
	count(*) FILTER (WHERE status <> 'succeeded' AND attempt = 3) AS dead,
	count(*) FILTER (WHERE status = 'running') AS running
	FROM job_execution GROUP BY 1)};
is(value($node, "SELECT count(*) FROM $ends e"), $RUNS, 'every run that was enqueued is recorded');
is(value($node, "SELECT count(*) FROM $ends e WHERE good + dead <> 1 OR running > 0"), 0,
	'each ended exactly once, as succeeded or dead')
  or diag(value($node, "SELECT * FROM $ends e WHERE good + dead <> 1 OR running > 0"));
is(value($node, "SELECT count(*) FROM $ends e FULL JOIN (SELECT n, count(*) AS effects FROM effect GROUP BY n) f USING (n)
	WHERE coalesce(good, 0) <> coalesce(effects, 0)"), 0,
	'with its effect if and only if it succeeded: no two finishes of a run were both let through');
cmp_ok(value($node, "SELECT count(*) FROM $ends e WHERE good = 1"), '>', $RUNS / 2, 'most succeeded');
is(value($node, q{SELECT count(*) FROM job_execution WHERE attempt > 3}), 0, 'none was attempted too often');
no_accident($node);
$node->stop;
done_testing();
