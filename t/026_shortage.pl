# What the server runs short of makes jobs wait: one clear line in the log, a
# reason that job_status or job_why shows, nothing lost, nothing repeated each
# second, and runs go on by themselves when there is enough again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

# A launcher, the server's own one, and one process more: what takes it is
# the scheduler.
my $node = crash_node('shortage', 'max_worker_processes = 4',
	'pg_janitor.max_workers = 8', 'max_parallel_workers = 4');

$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN; GRANT ALL ON effect, gate TO alice});
effect_job($node, 'probe');
effect_job($node, 'hers', "owner => 'alice'");

my $offset;

sub note_log { $offset = log_size($node); }

# Several of the scheduler's tries, each a second apart, have gone by.
sub tries_go_by
{
	my $until = value($node, q{SELECT clock_timestamp() + interval '3.2 seconds'});
	return eventually($node, "SELECT clock_timestamp() > '$until'", 'tries go by');
}

# Of the lines that pg_janitor's processes have written, all that match.
sub lines
{
	my ($pattern) = @_;
	return log_count($node, qr/pg_janitor (launcher|scheduler|worker).*(LOG|FATAL|ERROR): .*$pattern/, $offset);
}

# A job that cannot run now: what there is to see of it, then what happens
# when $mend has mended it.
sub shortage
{
	my ($job, $log, $why, $mend) = @_;
	note_log();
	my $id = trigger($node, $job);
	logs($node, $log, $offset, 'the log says so');
	tries_go_by();
	is(lines($log), 1, 'once');
	is(queue($node, $job, 'execution_id'), $id, 'the run waits');
	is(execution($node, $id), undef, 'without a row');
	like(why($node, $job), $why, 'job_why says what is missing');
	like(value($node, "SELECT health FROM job_status WHERE job_name = '$job'"),
		qr/^(late|overdue|held|waiting_for_worker)$/, 'job_status shows it');
	$mend->();
	my $row = outcome($node, $id);
	is("$row->{status} " . ($row->{attempt} || ''), 'succeeded 1',
		'it runs by itself afterwards, as its first attempt');
	ledger_is_true($node);
	return;
}

subtest 'max_worker_processes: no process for a worker' => sub {
	run_job($node, 'probe');
	my $worker = process($node, 'worker');
	value($node, "SELECT pg_terminate_backend($worker)");
	my $query = $node->background_psql('postgres');
	$query->query_safe('SET force_parallel_mode = on') if $node->pg_version < 16;
	$query->query_safe('SET debug_parallel_query = on') if $node->pg_version >= 16;
	$query->query_until(qr/go/, "\\echo go\nSELECT pg_sleep(600);\n");	# a job that takes long
	eventually($node, q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'parallel worker'}, 'a query has the last process');
	shortage('probe', qr/could not start a worker/, qr/max_worker_processes/, sub {
		value($node, q{SELECT pg_terminate_backend(leader_pid) FROM pg_stat_activity
			WHERE backend_type = 'parallel worker'});
		$query->{run}->kill_kill;
	});
};

subtest 'max_worker_processes: no process for the scheduler' => sub {
	$node->stop;
	conf_while_down($node, 'max_worker_processes = 2');
	note_log();
	$node->start;
	my $id = trigger($node, 'probe');
	tries_go_by();
	is(log_count($node, qr/LOG: .*could not start a scheduler/, $offset), 1, 'one line in the log');
	is(queue($node, 'probe', 'execution_id'), $id, 'the run waits');
	like(why($node, 'probe'), qr/max_worker_processes/, 'job_why says what is missing');
	like(value($node, q{SELECT health FROM job_status WHERE job_name = 'probe'}),
		qr/late|overdue/, 'job_status shows it, right without a scheduler');
	$node->stop;
	conf_while_down($node, 'max_worker_processes = 8');
	$node->start;
	is(outcome($node, $id)->{status}, 'succeeded', 'it runs when there are more');
	ledger_is_true($node);
};

subtest 'max_workers reached' => sub {
	set_setting($node, 'pg_janitor.max_workers', '1');
	my $lock = hold_lock($node);
	define_job($node, 'held', UNTIL_RELEASED);
	my $held = trigger($node, 'held');
	wait_started($node, $held);
	note_log();
	my @id = (trigger($node, 'probe'), trigger($node, 'hers'));
	tries_go_by();
	is(lines('.'), 0, 'no line in the log: it is as configured');
	like(why($node, $_), qr/^workers: .*max_workers/m, "job_why says so of $_")
	  for ('probe', 'hers');
	is(value($node, q{SELECT count(*) FROM job_execution WHERE status = 'running'}), 1, 'no rows');
	release_lock($lock);
	is(outcome($node, $_)->{status}, 'succeeded', 'what waited runs') for @id;
	set_setting($node, 'pg_janitor.max_workers', '4');
	ledger_is_true($node);
};

subtest 'ALTER ROLE ... NOLOGIN' => sub {
	value($node, 'ALTER ROLE alice NOLOGIN');
	if ($node->pg_version >= 17)
	{
		is(run_job($node, 'hers')->{status}, 'succeeded', 'does not matter from 17 on');
	}
	else
	{
		shortage('hers', qr/"hers" is held.*LOGIN|"hers" is held.*log in/i,
			qr/^owner: .*(LOGIN|log in)/mi,
			sub { value($node, 'ALTER ROLE alice LOGIN') });
	}
	value($node, 'ALTER ROLE alice LOGIN');
};

# The server counts only client connections against these limits, if at all.
subtest 'connection limits' => sub {
	for (['ALTER ROLE alice CONNECTION LIMIT %s', 'of the role'],
		['ALTER DATABASE postgres CONNECTION LIMIT %s', 'of the database'])
	{
		my ($command, $name) = @$_;
		run_job($node, 'hers');
		value($node, sprintf($command, 0));
		note_log();
		my $id = trigger($node, 'hers');
		tries_go_by();
		cmp_ok(lines('.'), '<=', 3, "$name: the log is not flooded");
		my $row = execution($node, $id);
		ok($row || why($node, 'hers') =~ /connection/i, "$name: it runs, or job_why says why not");
		value($node, sprintf($command, -1));
		is(outcome($node, $id)->{status}, 'succeeded', "$name: it has run in the end");
		is(value($node, "SELECT string_agg(status, ' ') FROM job_execution
			WHERE job_name = 'hers' AND id >= $id"), 'succeeded', "$name: once");
	}
	ledger_is_true($node);
};

subtest 'a role that is renamed' => sub {
	value($node, 'ALTER ROLE alice RENAME TO bob');
	shortage('hers', qr/"hers" is held/, qr/^owner: .*alice/m,
		sub { value($node, 'ALTER ROLE bob RENAME TO alice') });
};

subtest 'CONNECT revoked' => sub {
	value($node, 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
	shortage('hers', qr/"hers" is held/, qr/^owner: .*CONNECT/mi,
		sub { value($node, 'GRANT CONNECT ON DATABASE postgres TO PUBLIC') });
};

subtest 'a role that is dropped' => sub {
	value($node, 'DROP OWNED BY alice; DROP ROLE alice');
	shortage('hers', qr/"hers" is held/, qr/^owner: .*alice/m, sub {
		value($node, 'CREATE ROLE alice LOGIN; GRANT ALL ON effect, gate TO alice');
		run_job($node, 'probe');
		like(why($node, 'hers'), qr/^owner: .*alice/m, 'one of the same name does not inherit the job');
		value($node, q{SELECT job_alter('hers', '{"owner": "alice"}')});
	});
};

subtest 'a table of the job that is dropped' => sub {
	$node->safe_psql('postgres', 'CREATE TABLE needed ()');
	define_job($node, 'needs', 'SELECT count(*) FROM needed; ' . effect('needs'),
		"schedule => '* * * * * *'");
	eventually($node, q{SELECT count(*) > 0 FROM effect WHERE job = 'needs'}, 'it runs');
	note_log();
	value($node, 'DROP TABLE needed');
	eventually_is($node, q{SELECT health FROM job_status WHERE job_name = 'needs'}, 'failing',
		'job_status says failing');
	like(value($node, q{SELECT health_detail FROM job_status WHERE job_name = 'needs'}),
		qr/needed/, 'and why');
	like(why($node, 'needs'), qr/^last run: .*needed/m, 'so does job_why');
	eventually($node, q{SELECT count(*) >= 2 FROM job_execution
		WHERE job_name = 'needs' AND status = 'failed'}, 'it goes on failing');
	value($node, 'CREATE TABLE needed ()');
	eventually_is($node, q{SELECT health FROM job_status WHERE job_name = 'needs'}, 'ok',
		'until there is one again');
	value($node, q{SELECT job_disable('needs')});
	is(lines('"needs" failed'), value($node, q{SELECT count(*) FROM job_execution
		WHERE job_name = 'needs' AND status = 'failed'}), 'one line for each failure');
	is(lines('relation "needed" does not exist'), lines('"needs" failed'), 'and no other');
	ledger_is_true($node);
};

# Both what a run did and that it succeeded wait for the lock, or neither.
subtest 'nobody can write job_execution' => sub {
	my $lock = hold_lock($node);
	my $id = trigger($node, 'held');
	wait_started($node, $id);
	my $table = $node->background_psql('postgres');
	$table->query_safe('BEGIN; LOCK TABLE job_execution');
	note_log();
	$lock->query_safe('SELECT FROM pg_advisory_unlock_all()');
	value($node, q{SELECT job_trigger('probe') FROM generate_series(1, 5)});
	logs($node, qr/could not look at the queue/, $offset, 'the log says so');
	my $until = value($node, q{SELECT clock_timestamp() + interval '3.2 seconds'});
	eventually($node, "SELECT clock_timestamp() > '$until'", 'tries go by');
	is(lines('.'), 1, 'one line in the log');
	$table->query_safe('COMMIT');
	$table->quit;
	$lock->quit;
	is(outcome($node, $id)->{status}, 'succeeded', 'the run in progress is recorded');
	eventually_is($node, q{SELECT count(*) = 0 FROM job_queue WHERE job_name = 'probe'}, 't',
		'what waited runs');
	ledger_is_true($node);
};

# The disk is full for those processes: a limit on the size of files, above
# that of a segment of the write-ahead log.
subtest 'no room to record' => sub {
  SKIP:
	{
		skip 'prlimit is not there', 1 if system('prlimit --version >/dev/null 2>&1') != 0;
		value($node, q{INSERT INTO job_execution (job_name, status, reason, run_as, error_message)
			SELECT 'past', 'failed', 'manual', 'postgres', 'x' FROM generate_series(1, 170000);
			ALTER TABLE job_execution SET (autovacuum_enabled = off)});
		my $size = value($node, q{SELECT pg_relation_size('job_execution')});
		cmp_ok($size, '>', 17 * 1024 * 1024, 'the table is larger than a segment');
		run_job($node, 'probe');
		my @limited = (process($node, 'scheduler'), process($node, 'worker'));
		$size = value($node, q{SELECT pg_relation_size('job_execution')});
		note_log();
		system('prlimit', "--pid=$_", "--fsize=$size:") == 0 or die 'prlimit' for @limited;
		value($node, q{SELECT job_trigger('probe') FROM generate_series(1, 200)});
		logs($node, qr/could not (extend|write)/, $offset, 'the log says so');
		tries_go_by();
		is(lines('could not (extend|write)'), 1, 'one line in the log');
		cmp_ok(value($node, q{SELECT count(*) FROM job_queue WHERE job_name = 'probe'}), '>', 0,
			'runs wait');
		like(value($node, q{SELECT health FROM job_status WHERE job_name = 'probe'}),
			qr/late|overdue/, 'job_status shows it');
		system('prlimit', "--pid=$_", '--fsize=unlimited:') for @limited;
		eventually_is($node, q{SELECT count(*) = 0 FROM job_queue WHERE job_name = 'probe'}, 't',
			'with room again they run');
		ledger_is_true($node);
	}
};

no_accident($node);
$node->stop;
done_testing();
