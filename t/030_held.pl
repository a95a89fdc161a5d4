# An open transaction of anybody, on any of our functions or rows, delays the
# job it is about, and no other.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('held', 'max_connections = 120');

effect_job($node, 'probe');
effect_job($node, 'tick', "schedule => '* * * * * *'");

my %call = (
	'job_alter' => q{SELECT job_alter(%s, '{"priority": 5}')},
	'job_trigger with a key' => q{SELECT job_trigger(%s, key => 'k')},
	'job_cancel of a waiting run' => q{SELECT job_cancel(%s, 'k')},
	'job_unschedule' => q{SELECT job_unschedule(%s)},
	'job_pause' => q{SELECT job_pause(%s)},
	'job_schedule' => q{SELECT job_schedule(%s, '* * * * * *', 'SELECT 1')},
	'job_disable' => q{SELECT job_disable(%s)},
	'job_enable' => q{SELECT job_disable(%1$s), job_enable(%1$s)},
	'job_resume' => q{SELECT job_pause(%1$s), job_resume(%1$s)},
	'job_retry' => q{SELECT job_retry(max(id)) FROM job_execution WHERE job_name = %s AND status = 'cancelled'},
	'job_set_rate_limit' => q{SELECT job_set_rate_limit(%s, 1000, '1 s')},
	'job_set_circuit' => q{SELECT job_set_circuit(%1$s); SELECT job_alter(%1$s, jsonb_build_object('circuit', %1$s));
		SELECT job_circuit_report(%1$s, false)},
	'a lock on its queue entries' => q{SELECT FROM job_queue WHERE job_name = %s FOR UPDATE},
	'a lock on its definition' => q{SELECT FROM job_definition WHERE name = %s FOR UPDATE},
	'a lock on its executions' => q{SELECT FROM job_execution WHERE job_name = %s FOR UPDATE});

# Each of them twice, on a job of its own: one is committed, one rolled back.
my %session;
for my $end ('COMMIT', 'ROLLBACK')
{
	for my $name (sort keys %call)
	{
		my $job = "$name, then $end";
		effect_job($node, $job, "schedule => '* * * * * *'");
		value($node, 'SELECT job_cancel(' . trigger($node, $job, "run_at => clock_timestamp() + interval '1 hour'") . ')')
		  if $name eq 'job_retry';
		trigger($node, $job, "run_at => clock_timestamp() + interval '1 hour', key => 'k'");
	}
}
eventually($node, q{SELECT count(DISTINCT job) > 30 FROM effect}, 'all of them run');
# Of all jobs, and what is no job's; pausing all waits for whoever changes one.
for my $sql (q{SELECT job_pause()}, q{SELECT job_resume()}, q{SELECT job_grant('pg_monitor', 'observe')},
	q{SELECT job_mask_create_key('spare')})
{
	my $session = $node->background_psql('postgres');
	$session->query_safe("SET client_min_messages = error; BEGIN; $sql");
	goes_on($node, "$sql, not committed");
	$session->query_safe('ROLLBACK');
	$session->quit;
}

for my $end ('COMMIT', 'ROLLBACK')
{
	for my $name (sort keys %call)
	{
		my $job = "$name, then $end";
		$session{$job} = $node->background_psql('postgres');
		$session{$job}->query_safe('SET client_min_messages = error');
		$session{$job}->query_safe('BEGIN; ' . sprintf($call{$name}, literal($job)));
	}
}

subtest 'open transactions delay no other job' => sub {
	goes_on($node, 'meanwhile');
	my $since = value($node, q{SELECT max(scheduled_for) FROM job_execution WHERE job_name = 'tick'});
	eventually_is($node, on_time('tick', 0.9, $since), 't', 'a schedule goes on, on time');
	cmp_ok(quickest(1, sub {
		my $before = value($node, 'SELECT clock_timestamp()');
		my $id = trigger($node, 'probe');
		outcome($node, $id);
		return value($node, "SELECT extract(epoch FROM completed_at - timestamptz '$before')
			FROM job_execution WHERE id = $id");
	}), '<', 1, 'a trigger is run at once');
};

my $last = value($node, 'SELECT max(id) FROM job_execution');
for my $job (sort keys %session)
{
	my ($end) = $job =~ /(COMMIT|ROLLBACK)/;
	$session{$job}->query_safe($end);
	$session{$job}->quit;
}
for my $job (sort keys %session)
{
	next if $job =~ /(unschedule|pause|disable), then COMMIT/;
	eventually_is($node, "SELECT count(*) > 0 FROM job_execution WHERE job_name = '$job'
		AND reason = 'schedule' AND status = 'succeeded' AND id > $last", 't', "$job: it goes on");
}
ledger_is_true($node, 'in the end');
value($node, q{SELECT job_unschedule(name) FROM job_definition WHERE name ~ 'then'});

subtest 'a session that ends with its transaction open' => sub {
	effect_job($node, 'other', "schedule => '* * * * * *'");
	my $session = $node->background_psql('postgres');
	$session->query_safe(q{BEGIN; SELECT job_alter('other', '{"priority": 5}')});
	goes_on($node, 'meanwhile');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	value($node, "SELECT pg_terminate_backend($pid)");
	$session->{run}->kill_kill;
	my $id = value($node, 'SELECT max(id) FROM job_execution');
	eventually_is($node, "SELECT count(*) > 0 FROM job_execution WHERE job_name = 'other'
		AND id > $id AND status = 'succeeded'", 't', 'the job goes on');
	ledger_is_true($node);
};

# The rows were passed over while they were held, and are looked at again each
# second; but whoever lets them go says so, whichever way his transaction ends.
subtest 'a transaction that ends is told at once' => sub {
	my $session = $node->background_psql('postgres');
	my %call = (COMMIT => q{SELECT job_trigger('probe', key => 'k')},
		ROLLBACK => q{SELECT job_cancel('probe', 'k')});
	for my $end (sort keys %call)
	{
		cmp_ok(quickest(0.3, sub {
			my $longest = 0;
			for (1 .. 6)
			{
				my $id = trigger($node, 'probe', "run_at => clock_timestamp() + interval '0.3 s', key => 'k'");
				$session->query_safe('BEGIN');
				$session->query_safe($call{$end});
				eventually($node, "SELECT clock_timestamp() > run_at + interval '0.2 s' FROM job_queue
					WHERE execution_id = $id", 'it is due');
				my $at = $session->query_safe('SELECT clock_timestamp()');
				$session->query_safe($end);
				outcome($node, $id);
				my $took = value($node, "SELECT extract(epoch FROM started_at - timestamptz '$at')
					FROM job_execution WHERE id = $id");
				$longest = $took if $took > $longest;
			}
			return $longest;
		}), '<', 0.3, "$end: the run starts");
	}
	$session->quit;
};

subtest 'job_status and job_why show a job that is held by a transaction' => sub {
	my $session = $node->background_psql('postgres');
	$session->query_safe(q{BEGIN; SELECT FROM job_queue WHERE job_name = 'other' FOR UPDATE});
	eventually_is($node, q{SELECT health IN ('held', 'late', 'overdue') FROM job_status
		WHERE job_name = 'other'}, 't', 'job_status');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	like(why($node, 'other'), qr/\b(held|locked|transaction|process $pid|late|overdue)\b/i, 'job_why');
	$session->query_safe('ROLLBACK');
	$session->quit;
};

# A superuser can stop everything, but not for longer than he holds the lock.
for my $table ('job_execution', 'job_queue', 'job_definition')
{
	subtest "LOCK TABLE $table" => sub {
		my $session = $node->background_psql('postgres');
		my $offset = log_size($node);
		$session->query_safe("BEGIN; LOCK TABLE $table");
		logs($node, qr/could not look at the queue/, $offset, 'the log says so');
		$session->query_safe('COMMIT');
		$session->quit;
		goes_on($node, 'released');
		is(log_count($node, 'could not look at the queue', $offset), 1, 'once');
		ledger_is_true($node);
	};
}

no_accident($node);
$node->stop;
done_testing();
