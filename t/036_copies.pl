# What a job does in a database is not done again in a copy of it, until
# job_rearm() says so; nothing is made up for then.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('copies', "pg_janitor.environment = 'prod'", 'wal_level = logical', 'max_wal_senders = 8',
	'pg_janitor.worker_idle_timeout = 1');

# One job for each way to start, and one to see that others go on.
sub make_jobs
{
	my ($database) = @_;
	effect_job($node, 'probe', undef, $database);
	effect_job($node, 'tick', "schedule => '* * * * * *', catch_up => 'all'", $database);
	effect_job($node, 'start', 'run_on_start => true', $database);
	effect_job($node, 'after', "run_after => 'tick'", $database);
	effect_job($node, 'told', undef, $database);
	define_job($node, 'fails', 'SELECT 1/0',
		"max_attempts => 3, retry_delay => '1 hour', on_failure => 'told'", $database);
	value($node, q{SET client_min_messages = error;
		SELECT job_schedule_external('mail', max_attempts => 5, retry_delay => '1 hour')}, $database);
	goes_on($node, 'the original', $database);
	return;
}

# Whatever a database has done up to now.
sub done
{
	my ($on, $database) = @_;
	return value($on, q{SELECT concat_ws(' ', (SELECT count(*) FROM effect),
		(SELECT count(*) FROM job_execution WHERE status NOT IN ('running', 'interrupted')),
		(SELECT last_value FROM job_execution_id_seq))}, $database);
}

# The next three seconds, as another database shows that they pass.
sub three_seconds
{
	my ($database) = @_;
	my $id = value($node, q{SELECT coalesce(max(id), 0) FROM job_execution}, $database);
	return eventually($node, "SELECT count(*) >= 3 FROM job_execution
		WHERE job_name = 'tick' AND status = 'succeeded' AND id > $id", 'time passes', $database);
}

# Nothing of a database runs while that of another one does.
sub rests
{
	my ($on, $database, $name, $meanwhile) = @_;
	eventually_is($on, q{SELECT count(*) FROM job_queue WHERE key = '@schedule'}, 0,
		"$name: there is no next occurrence", $database);
	my $before = done($on, $database);
	$meanwhile->();
	is(done($on, $database), $before, "$name: nothing runs");
	return is(value($on, q{SELECT string_agg(DISTINCT health, ' ') FROM job_status}, $database),
		'disarmed', "$name: job_status says so");
}

# It has occurrences again, and none from before.
sub goes_on_from_now
{
	my ($on, $database, $since, $name) = @_;
	eventually_is($on, "SELECT count(*) >= 2 FROM job_execution WHERE job_name = 'tick'
		AND status = 'succeeded' AND started_at > '$since'", 't', "$name: jobs run", $database);
	return is(value($on, "SELECT count(*) FROM job_execution WHERE job_name = 'tick'
		AND coalesce(completed_at, started_at) > '$since' AND scheduled_for < timestamptz '$since' - interval '1 s'",
		$database), 0, "$name: nothing is made up for");
}

value($node, 'CREATE DATABASE original');
value($node, 'CREATE EXTENSION pg_janitor', 'original');
prepare_effects($node, 'original');
make_jobs('original');

subtest 'CREATE DATABASE ... TEMPLATE' => sub {
	my $failed = trigger($node, 'fails', undef, 'original');
	is(outcome($node, $failed, 'original')->{status}, 'failed', 'a retry waits');
	eventually_is($node, q{SELECT count(*) FROM effect WHERE job = 'told'}, 1,
		'somebody was told', 'original');
	my $later = trigger($node, 'probe', "run_at => clock_timestamp() + interval '1 hour'", 'original');
	my $mail = trigger($node, 'mail', undef, 'original');
	value($node, q{SELECT execution_id FROM job_claim('mail', lease => '3 s')}, 'original');

	my $offset = log_size($node);
	value($node, 'CREATE DATABASE copy TEMPLATE original');
	logs($node, qr/LOG:  7 jobs of database "copy" are disarmed and do not run/, $offset,
		'the log says so');
	rests($node, 'copy', 'the copy', sub { three_seconds('original') });

	for my $name ('probe', 'mail')
	{
		like(sql_error($node, "SELECT job_trigger('$name')", database => 'copy'),
			qr/WARNING:  55000: job "$name" will not run: it was made in another database.*job_rearm\(\)/s,
			"job_trigger('$name') says so");
	}
	like(sql_error($node, "SELECT job_retry($failed)", database => 'copy'), qr/WARNING:  55000/, 'so does job_retry()');
	is(log_count($node, 'WARNING: .*will not run', $offset), 0, 'to whoever triggers, not to the log');
	like(value($node, q{SELECT detail || ': ' || hint FROM job_why('tick') WHERE NOT ok}, 'copy'),
		qr/^the job is disarmed: it was made in another database: SELECT job_rearm\(\);$/, 'and job_why()');
	is(value($node, q{SELECT count(*) FROM job_claim('mail')}, 'copy'), 0, 'nothing is to be claimed');

	# the original's worker ends it there; here it has no consequences
	eventually_is($node, "SELECT status FROM job_execution WHERE id = $mail", 'interrupted',
		'a lease that the copy came with ends', 'copy');
	eventually_is($node, "SELECT status FROM job_execution WHERE id = $mail", 'interrupted',
		'in the original as well', 'original');
	is(queue($node, 'mail', undef, 'original'), 'retry', 'where the run is retried');
	is(queue($node, 'mail', undef, 'copy'), 'manual', 'in the copy it is not');

	$node->restart;
	logs($node, qr/LOG:  7 jobs of database "copy" are disarmed/, $offset, 'it is said after each start');
	rests($node, 'copy', 'after a restart', sub { three_seconds('original') });
	eventually_is($node, q{SELECT count(*) > 0 FROM effect WHERE job = 'start'}, 't',
		'run_on_start runs in the original', 'original');
	is(value($node, q{SELECT count(*) FROM effect WHERE job = 'start'}, 'copy'), 0, 'and not in the copy');

	effect_job($node, 'new', undef, 'copy');
	is(run_job($node, 'new', undef, 'copy')->{status}, 'succeeded', 'what is made in the copy runs there');
	my $since = value($node, 'SELECT clock_timestamp()');
	my $waiting = value($node, q{SELECT execution_id FROM job_queue WHERE job_name = 'probe' AND run_at < now()}, 'copy');
	is(value($node, 'SELECT job_rearm()', 'copy'), 7, 'job_rearm() arms the others');
	goes_on_from_now($node, 'copy', $since, 'rearmed');
	is(outcome($node, $waiting, 'copy')->{status}, 'succeeded', 'a trigger that waited runs');
	is(queue($node, 'probe', 'execution_id', 'copy'), $later, 'one that is for later waits');
	is(value($node, q{SELECT count(*) FROM job_claim('mail')}, 'copy'), 1, 'a worker finds the trigger');
	is(value($node, 'SELECT job_rearm()', 'copy'), 0, 'nothing is disarmed any more');
	ledger_is_true($node, 'the copy', 'copy');
	ledger_is_true($node, 'the original', 'original');
	value($node, 'SELECT job_pause()', 'copy');
};

subtest 'pg_janitor.environment' => sub {
	my $offset = log_size($node);
	set_setting($node, 'pg_janitor.environment', 'staging');
	logs($node, qr/LOG:  7 jobs of database "original" are disarmed.*environment "prod", and here pg_janitor.environment is "staging"/s,
		$offset, 'the log says so');
	effect_job($node, 'tick', "schedule => '* * * * * *'");
	rests($node, 'original', 'another environment', sub { three_seconds('postgres') });
	like(sql_error($node, "SELECT job_trigger('probe')", database => 'original'),
		qr/WARNING:  55000: job "probe" will not run: it was armed in environment "prod"/, 'job_trigger() says so');
	my $since = value($node, 'SELECT clock_timestamp()');
	set_setting($node, 'pg_janitor.environment', 'prod');
	goes_on_from_now($node, 'original', $since, 'the right one again');
	value($node, q{SELECT job_unschedule('tick')});
};

subtest 'pg_janitor.restore_guard' => sub {
	value($node, 'SELECT job_pause()', 'original');
	value($node, 'SELECT job_resume()', 'copy');
	value($node, 'CREATE DATABASE unguarded TEMPLATE original');
	value($node, 'SELECT job_resume()', 'unguarded');
	rests($node, 'unguarded', 'on', sub { three_seconds('copy') });
	eventually_is($node, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'unguarded'
		AND backend_type ~ '^pg_janitor'}, 0, 'nobody is there');
	my $since = value($node, 'SELECT clock_timestamp()');
	set_setting($node, 'pg_janitor.restore_guard', 'off');
	goes_on_from_now($node, 'unguarded', $since, 'off');
	set_setting($node, 'pg_janitor.restore_guard', 'on');
	rests($node, 'unguarded', 'on again', sub { three_seconds('copy') });
	value($node, 'SELECT job_pause()', 'copy');
	value($node, 'SELECT job_resume()', 'original');
};

subtest 'a clone of the files, in another environment' => sub {
	$node->backup('files');
	my $clone = PostgreSQL::Test::Cluster->new('clone');
	$clone->init_from_backup($node, 'files');
	$clone->append_conf('postgresql.conf', "pg_janitor.environment = 'staging'");
	$clone->append_conf('postgresql.auto.conf', "pg_janitor.environment = 'staging'");
	$clone->start;
	rests($clone, 'original', 'the clone', sub { three_seconds('original') });
	my $since = value($clone, 'SELECT clock_timestamp()');
	is(value($clone, 'SELECT job_rearm()', 'original'), 7, 'job_rearm() arms its jobs');
	goes_on_from_now($clone, 'original', $since, 'rearmed');
	$clone->stop;
};

subtest 'a logical subscriber' => sub {
	my $subscriber = crash_node('subscriber', "pg_janitor.environment = 'prod'");
	value($node, 'CREATE PUBLICATION everything FOR ALL TABLES', 'original');
	value($subscriber, 'CREATE SUBSCRIPTION s CONNECTION ' . literal($node->connstr('original'))
		. ' PUBLICATION everything');
	eventually_is($subscriber, q{SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'}, 0,
		'everything is subscribed to');
	$subscriber->restart;
	my $has = q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM job_execution};
	eventually_is($subscriber, q{SELECT count(*) FROM job_queue WHERE key = '@schedule'}, 0,
		'there is no next occurrence');
	is(value($subscriber, q{SELECT string_agg(DISTINCT health, ' ') FROM job_status}), 'disarmed',
		'job_status says so');
	three_seconds('original');
	value($node, q{SELECT job_disable('tick')}, 'original');
	eventually_is($node, q{SELECT count(*) FROM job_running(), job_queue WHERE run_at < clock_timestamp()}, 0,
		'the original rests', 'original');
	eventually_is($subscriber, $has, value($node, $has, 'original'), 'what it has is what came from there');
	is(value($subscriber, 'SELECT last_value FROM job_execution_id_seq'), 1, 'nothing of its own');
	is(log_count($subscriber, 'ERROR'), 0, 'nothing got into the way of the subscription');
	value($subscriber, 'DROP SUBSCRIPTION s');
	no_accident($subscriber);
	$subscriber->stop;
};

no_accident($node);
$node->stop;
done_testing();
