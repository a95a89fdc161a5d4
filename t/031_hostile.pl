# What a role without rights, or a job that does not want to end, must not be
# able to do to everybody else.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JanitorCrash;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = crash_node('hostile', 'pg_janitor.shutdown_grace = 1s',
	'pg_janitor.max_workers = 2');
my $postmaster = slurp_file($node->data_dir . '/postmaster.pid');

$node->safe_psql('postgres', q{
	CREATE ROLE nobody_at_all LOGIN;
	CREATE ROLE one LOGIN; CREATE ROLE two LOGIN;
	GRANT ALL ON effect, gate TO one, two;
});
effect_job($node, 'probe', "owner => 'two'");

# A value that cannot be cancelled: it swallows every cancel.
my $endless = 'DO $$BEGIN LOOP BEGIN PERFORM pg_sleep(600);' .	 # a job that takes long
  ' EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$';

subtest 'statements on databases by a role without rights' => sub {
	run_job($node, 'probe');
	my $scheduler = process($node, 'scheduler');
	foreach my $statement ('CREATE DATABASE z TEMPLATE 5',
		'CREATE DATABASE z TEMPLATE postgres', 'DROP DATABASE postgres',
		'DROP DATABASE template1', 'ALTER DATABASE postgres RENAME TO z',
		'ALTER DATABASE postgres SET TABLESPACE pg_default')
	{
		my ($status, $out, $error) = $node->psql('postgres', $statement,
			extra_params => [ '-U', 'nobody_at_all' ]);
		like($error, qr/ERROR/, "$statement: an error");
	}
	is(process($node, 'scheduler'), $scheduler, 'the scheduler has not left');
	is(run_job($node, 'probe')->{status}, 'succeeded', 'jobs run');
};

subtest 'a cancelled run that swallows cancels' => sub {
	define_job($node, 'endless', $endless, "owner => 'one'");
	my $id = trigger($node, 'endless');
	wait_started($node, $id);
	is(value($node, "SELECT job_cancel($id)"), 1, 'it is asked to end');
	my $row = wait_run($node, $id);
	is($row->{status}, 'cancelled', 'it ends, as cancelled');
	is(run_job($node, 'probe')->{status}, 'succeeded', 'other jobs run');
};

subtest 'a backlog of one role does not keep another from being served' => sub {
	define_job($node, 'flood', 'SELECT pg_sleep(0.2)',	# a job that takes long
		"owner => 'one', max_running => 10");
	value($node, q{SELECT count(job_trigger('flood')) FROM generate_series(1, 100)});
	my $id = trigger($node, 'probe');
	is(wait_run($node, $id)->{status}, 'succeeded', 'the other is served');
	cmp_ok(value($node, q{SELECT count(*) FROM job_queue WHERE job_name = 'flood'}),
		'>', 20, 'long before the backlog is done');
	value($node, q{SELECT job_cancel('flood')});
};

subtest 'DROP DATABASE WITH (FORCE) during a run gives its place back' => sub {
	foreach my $round (1 .. 3)
	{
		$node->safe_psql('postgres', 'CREATE DATABASE doomed');
		$node->safe_psql('doomed', 'CREATE EXTENSION pg_janitor');
		define_job($node, 'long', 'SELECT pg_sleep(600)', undef, 'doomed');	# a job that takes long
		wait_started($node, trigger($node, 'long', undef, 'doomed'), 'doomed');
		$node->safe_psql('postgres', 'DROP DATABASE doomed WITH (FORCE)');
	}
	is(run_job($node, 'probe')->{status}, 'succeeded',
		'after more of them than there are places, jobs run');
};

subtest 'a job cancelled before it began does not run' => sub {
	value($node, q{SELECT job_pause('probe')});
	my $id = trigger($node, 'probe');
	is(value($node, "SELECT job_cancel($id)"), 1, 'it waits, and is cancelled');
	value($node, q{SELECT job_resume('probe')});
	is(execution($node, $id)->{status}, 'cancelled', 'its row says so');
	is(value($node, "SELECT count(*) FROM effect WHERE id = $id"), 0,
		'it had no effect');
};

is(slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : 0,
	$postmaster =~ /^(\d+)/ ? $1 : -1, 'nothing of this has ended the server');
is(log_count($node, qr/terminated by signal|all server processes terminated/), 0,
	'nor has anything crashed');

subtest 'a run that swallows cancels does not keep the server from stopping' => sub {
	my $id = trigger($node, 'endless');
	wait_started($node, $id);
	$node->stop('fast');		# dies if it does not
	$node->start;
	my $row = wait_run($node, $id);
	is($row->{status}, 'interrupted', 'it was ended, and is recorded so');
	value($node, q{SELECT job_cancel('endless')});
};

done_testing();
