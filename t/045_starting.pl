# What happens to a run between its claim and its beginning, when no worker has
# taken it yet: it is cancelled, its job is altered, given away, paused or
# removed. It never runs as what the job is no more, and never twice.
#
# The owner's worker is stopped meanwhile. A claim that nobody takes goes back
# into the queue after a fifth of a second and is claimed anew, so that each
# case meets the run now in the ring, now in the queue.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('starting', 'pg_janitor.log_runs = none');

$node->safe_psql('postgres', q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	GRANT ALL ON effect, gate TO alice, bob});
effect_job($node, 'probe');

my $worker;

# A run of alice's that is claimed, and that no worker begins; its id.
sub claimed
{
	effect_job($node, 'hers', "owner => 'alice'");
	$worker = run_job($node, 'hers')->{pid};
	kill 'STOP', $worker;
	my $id = trigger($node, 'hers');
	eventually($node, "SELECT count(*) = 1 FROM job_running() WHERE execution_id = $id AND pid IS NULL",
		'it is claimed');
	return $id;
}

sub go_on { kill 'CONT', $worker; return; }

# What a run has done, and how often.
sub effects
{
	my ($id) = @_;
	return value($node, "SELECT coalesce(string_agg(job, ' '), 'nothing') FROM effect WHERE id = $id");
}

# Each several times: it is chance where the run is just then.
sub rounds
{
	my ($name, $case) = @_;
	return subtest $name => sub {
		$case->(claimed()) for 1 .. 4;
		is(run_job($node, 'probe')->{status}, 'succeeded', 'other jobs run');
		ledger_is_true($node);
	};
}

rounds('job_cancel', sub {
	my ($id) = @_;
	is(value($node, "SELECT job_cancel($id)"), 1, 'it is asked to end');
	go_on();
	my $row = outcome($node, $id);
	is("$row->{status} " . effects($id), 'cancelled nothing', 'it has ended without effect');
});

rounds('job_unschedule', sub {
	my ($id) = @_;
	value($node, q{SELECT job_unschedule('hers')});
	go_on();
	is(outcome($node, $id)->{status} . ' ' . effects($id), 'cancelled nothing', 'it has ended without effect');
});

rounds('job_alter of the command', sub {
	my ($id) = @_;
	value($node, q{SELECT job_alter('hers', jsonb_build_object('command',
		'INSERT INTO effect (id, job) VALUES (job_execution_id(), ''another'')'))});
	go_on();
	is(outcome($node, $id)->{status} . ' ' . effects($id), 'succeeded another', 'it does what the job says now');
});

rounds('job_alter of the owner', sub {
	my ($id) = @_;
	value($node, q{SELECT job_alter('hers', '{"owner": "bob"}')});
	go_on();
	eventually_is($node, "SELECT string_agg(concat_ws(' ', e.status, e.attempt, e.run_as), ', ' ORDER BY id)
		FROM job_execution e WHERE $id IN (id, retry_of) AND status <> 'interrupted'", 'succeeded 1 bob',
		'it runs as the new one, and spends no attempt');
	is(value($node, "SELECT string_agg(f.job, ' ') FROM effect f JOIN job_execution e USING (id) WHERE $id IN (e.id, e.retry_of)"),
		'hers', 'once');
	value($node, q{SELECT job_alter('hers', '{"owner": "alice"}')});
});

rounds('job_pause', sub {
	my ($id) = @_;
	value($node, q{SELECT job_pause('hers')});
	eventually($node, "SELECT count(*) = 1 FROM job_queue WHERE execution_id = $id", 'it is taken back');
	go_on();
	is(run_job($node, 'probe')->{status}, 'succeeded', 'others run');
	is(queue($node, 'hers', 'execution_id') . ' ' . effects($id), "$id nothing", 'it waits');
	value($node, q{SELECT job_resume('hers')});
	is(outcome($node, $id)->{status} . ' ' . effects($id), 'succeeded hers', 'and runs afterwards, once');
});

rounds('job_trigger', sub {
	my ($id) = @_;
	my $second = trigger($node, 'hers');
	go_on();
	is(outcome($node, $_)->{status}, 'succeeded', 'both run') for ($id, $second);
	is(effects($id) . ' ' . effects($second), 'hers hers', 'once each');
	is(value($node, "SELECT count(*) FROM job_execution a, job_execution b WHERE a.id = $id AND b.id = $second
		AND a.started_at < b.completed_at AND b.started_at < a.completed_at"), 0, 'one after the other');
});

rounds('the worker is terminated', sub {
	my ($id) = @_;
	value($node, "SELECT pg_terminate_backend($worker)");
	go_on();
	is(outcome($node, $id)->{status} . ' ' . effects($id), 'succeeded hers', 'another one runs it');
});

rounds('the scheduler is terminated', sub {
	my ($id) = @_;
	my $scheduler = process($node, 'scheduler');
	value($node, "SELECT pg_terminate_backend($scheduler)");
	wait_new_process($node, 'scheduler', $scheduler);
	go_on();
	is(outcome($node, $id)->{status} . ' ' . effects($id), 'succeeded hers', 'it runs once');
});

no_accident($node);
$node->stop;
done_testing();
