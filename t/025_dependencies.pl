# What follows from a run is queued in the transaction that records its end;
# nothing of a paused job starts; and job_why names what keeps a job from
# running.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('dependencies', 'pg_janitor.log_runs = none');

effect_job($node, 'probe');

# The queue entry of a paused job that follows from a run: was it written by
# the transaction that recorded the end of that run?
sub same_transaction
{
	my ($job, $parent) = @_;
	eventually($node, "SELECT count(*) > 0 FROM job_queue WHERE parent_id = $parent
		AND job_name = '$job'", "$job waits");
	return value($node, "SELECT q.xmin = e.xmin FROM job_queue q
		JOIN job_execution e ON e.id = q.parent_id
		WHERE q.job_name = '$job' AND e.id = $parent");
}

subtest 'run_after fires in the transaction of the success' => sub {
	effect_job($node, 'parent');
	effect_job($node, 'child', "run_after => 'parent'");
	value($node, q{SELECT job_pause('child')});
	my $row = run_job($node, 'parent');
	is(same_transaction('child', $row->{id}), 't', 'success and entry are one transaction');
	is(queue($node, 'child', 'reason, parent_id'), "after/$row->{id}", 'the entry says what it follows from');
	crash($node, process($node, 'worker'));
	is(queue($node, 'child', 'reason, parent_id'), "after/$row->{id}", 'it survives a crash');
	value($node, q{SELECT job_resume('child')});
	eventually_is($node, "SELECT status || ' ' || reason FROM job_execution WHERE parent_id = $row->{id}",
		'succeeded after', 'the child runs');
	is(history($node, 'child'), 'succeeded', 'once');
	ledger_is_true($node);
};

subtest 'chains' => sub {
	effect_job($node, 'grandchild', "run_after => 'child'");
	effect_job($node, 'sibling', "run_after => 'parent'");
	my $row = run_job($node, 'parent');
	eventually_is($node, "SELECT g.status || ' ' || s.status
		FROM job_execution c JOIN job_execution g ON g.parent_id = c.id AND g.job_name = 'grandchild',
			job_execution s
		WHERE c.parent_id = $row->{id} AND c.job_name = 'child'
		  AND s.parent_id = $row->{id} AND s.job_name = 'sibling'",
		'succeeded succeeded', 'every job of the tree runs');
	ledger_is_true($node);
};

subtest 'cycles are refused' => sub {
	like(sql_error($node, q{SELECT job_alter('parent', '{"run_after": "grandchild"}')}),
		qr/cycle|itself|circular/i, 'over three jobs');
	like(sql_error($node, q{SELECT job_alter('parent', '{"run_after": "parent"}')}),
		qr/cycle|itself|circular/i, 'over one');
	like(sql_error($node, q{SELECT job_schedule('parent', NULL, 'SELECT 1', run_after => 'child')}),
		qr/cycle|itself|circular/i, 'when a job is defined again');
	like(sql_error($node, q{SELECT job_schedule('orphan', NULL, 'SELECT 1', run_after => 'nobody')}),
		qr/nobody/, 'a parent has to exist');

	# two sessions, each of which sees no cycle
	effect_job($node, 'a');
	effect_job($node, 'b');
	my $one = $node->background_psql('postgres', on_error_stop => 0);
	my $two = $node->background_psql('postgres', on_error_stop => 0);
	$one->query_safe(q{BEGIN; SELECT job_alter('a', '{"run_after": "b"}')});
	$two->query_until(qr/go/, qq{\\echo go\nSELECT job_alter('b', '{"run_after": "a"}');\n});
	$one->query_safe('COMMIT');
	$two->query('SELECT 1');
	is(value($node, q{SELECT count(run_after) FROM job_definition WHERE name IN ('a', 'b')}), 1,
		'two sessions cannot make one together');
	$_->quit for ($one, $two);
	value($node, q{SELECT job_unschedule(name) FROM job_definition
		WHERE name IN ('a', 'b') ORDER BY run_after IS NULL});
};

subtest 'a disabled or failing link ends the chain' => sub {
	value($node, q{SELECT job_disable('child')});
	my $row = run_job($node, 'parent');
	eventually($node, "SELECT status = 'succeeded' FROM job_execution
		WHERE parent_id = $row->{id} AND job_name = 'sibling'", 'the sibling runs');
	is(value($node, "SELECT count(*) FROM job_execution WHERE parent_id = $row->{id}"), 1,
		'a disabled child does not');
	is(queue($node, 'child'), '', 'nor does it wait');
	value($node, q{SELECT job_enable('child')});
	define_job($node, 'parent', 'SELECT 1/0');
	$row = run_job($node, 'parent');
	is($row->{status}, 'failed', 'a parent that fails');
	run_job($node, 'probe');
	is(value($node, "SELECT (SELECT count(*) FROM job_execution WHERE parent_id = $row->{id}) +
		(SELECT count(*) FROM job_queue WHERE parent_id = $row->{id})"), 0, 'is followed by nothing');
	ledger_is_true($node);
};

subtest 'on_failure is told in the transaction that records the failure' => sub {
	$node->safe_psql('postgres', 'CREATE TABLE told (args jsonb, parent bigint)');
	define_job($node, 'pager', 'INSERT INTO told (args) VALUES (job_args())');
	define_job($node, 'breaks', 'SELECT 1/0', "on_failure => 'pager'");
	value($node, q{SELECT job_pause('pager')});
	my $row = run_job($node, 'breaks');
	is(same_transaction('pager', $row->{id}), 't', 'failure and entry are one transaction');
	value($node, q{SELECT job_resume('pager')});
	eventually($node, 'SELECT count(*) = 1 FROM told', 'the pager has run');
	is(value($node, 'SELECT args FROM told'), value($node, "SELECT jsonb_build_object(
		'job_name', 'breaks', 'execution_id', $row->{id}, 'status', 'failed',
		'sqlstate', '22012', 'consecutive_failures', 1)"), 'it was told everything');
	run_job($node, 'breaks') for 1 .. 2;
	eventually_is($node, q{SELECT string_agg(args->>'consecutive_failures', ' ' ORDER BY args->>'execution_id')
		FROM told}, '1 2 3', 'failures in a row are counted');
	define_job($node, 'breaks', 'SELECT 1', "on_failure => 'pager'");
	run_job($node, 'breaks');
	define_job($node, 'breaks', $LONG, "on_failure => 'pager', timeout => '0.2 s'");
	run_job($node, 'breaks');
	eventually_is($node, q{SELECT string_agg(concat_ws('/', args->>'status', args->>'consecutive_failures'), ' '
		ORDER BY (args->>'execution_id')::bigint DESC) FROM told},
		'timed_out/1 failed/3 failed/2 failed/1', 'a success ends the count');
	is(history($node, 'pager'), join(' ', ('succeeded') x 4), 'one run each');
};

subtest 'a run that was started by on_failure tells nobody' => sub {
	define_job($node, 'tit', 'SELECT 1/0');
	define_job($node, 'tat', 'SELECT 1/0', "on_failure => 'tit', max_attempts => 2, retry_delay => '0'");
	value($node, q{SELECT job_alter('tit', '{"on_failure": "tat"}')});
	my $row = run_job($node, 'tit');
	eventually($node, "SELECT count(*) = 2 AND bool_and(status = 'failed') FROM job_execution WHERE parent_id = $row->{id}",
		'tat is told, and fails twice');
	run_job($node, 'probe');
	is(history($node, 'tit') . ', ' . history($node, 'tat'), 'failed, failed failed', 'that is all');
	is(value($node, q{SELECT count(*) FROM job_queue WHERE job_name IN ('tit', 'tat')}), 0,
		'nothing waits');
};

subtest 'pg_janitor.on_failure is told for jobs that name nobody' => sub {
	value($node, 'TRUNCATE told');
	set_setting($node, 'pg_janitor.on_failure', 'pager');
	define_job($node, 'quiet', 'SELECT 1/0');
	define_job($node, 'other', 'SELECT 1');
	define_job($node, 'named', 'SELECT 1/0', "on_failure => 'other'");
	run_job($node, $_) for ('quiet', 'named');
	eventually($node, q{SELECT count(*) = 1 FROM job_execution WHERE job_name = 'other'}, 'other has run');
	define_job($node, 'pager', 'INSERT INTO told (args) VALUES (job_args()); SELECT 1/0');
	run_job($node, 'pager');
	run_job($node, 'probe');
	is(value($node, q{SELECT string_agg(args->>'job_name', ' ') FROM told}), 'quiet',
		'neither for one that names another, nor for itself');
	set_setting($node, 'pg_janitor.on_failure', 'nobody');
	is(run_job($node, 'quiet')->{status}, 'failed', 'a job that does not exist here is no obstacle');
	set_setting($node, 'pg_janitor.on_failure', '');
	run_job($node, 'quiet');
	is(value($node, 'SELECT count(*) FROM told'), 1, 'switched off again');
};

subtest 'job_pause and job_resume of one job' => sub {
	effect_job($node, 'tick', "schedule => '* * * * * *'");
	eventually($node, q{SELECT count(*) >= 1 FROM effect WHERE job = 'tick'}, 'it runs');
	value($node, q{SELECT job_pause('tick', reason => 'rest')});
	eventually($node, q{SELECT count(*) = 0 FROM job_execution
		WHERE job_name = 'tick' AND status = 'running'}, 'it rests');
	my $runs = value($node, q{SELECT count(*) FROM effect WHERE job = 'tick'});
	my $id = trigger($node, 'tick');
	eventually_is($node, q{SELECT max(skipped) >= 3 FROM job_execution
		WHERE job_name = 'tick' AND status = 'skipped'}, 't', 'occurrences are skipped');
	is(value($node, q{SELECT count(*) FROM job_execution WHERE job_name = 'tick' AND status = 'skipped'}),
		1, 'in one row');
	is(value($node, q{SELECT count(*) FROM effect WHERE job = 'tick'}), $runs, 'nothing starts');
	is(queue($node, 'tick', 'execution_id'), $id, 'a trigger waits');
	is(run_job($node, 'probe')->{status}, 'succeeded', 'another job is not paused');
	$node->restart;
	is(run_job($node, 'probe')->{status}, 'succeeded', 'after a restart runs go on');
	is(value($node, q{SELECT health FROM job_status WHERE job_name = 'tick'}), 'paused',
		'a pause outlives a restart');
	is(queue($node, 'tick', 'execution_id'), $id, 'so does the trigger');
	value($node, q{SELECT job_disable('tick'); SELECT job_resume('tick')});
	is(outcome($node, $id)->{status}, 'succeeded', 'which runs after the pause');
	value($node, q{SELECT job_enable('tick')});
	ledger_is_true($node);
};

subtest 'a pause until a time ends by itself' => sub {
	value($node, q{SELECT job_pause('probe', until => clock_timestamp() + interval '1 second')});
	my $id = trigger($node, 'probe');
	is(outcome($node, $id)->{status}, 'succeeded', 'what waited runs');
	is(value($node, "SELECT count(*) FROM job_execution e JOIN job_definition d ON d.name = e.job_name
		WHERE e.id = $id AND (d.paused_until IS NULL OR e.started_at >= d.paused_until)"), 1,
		'not before');
};

subtest 'job_pause and job_resume of all' => sub {
	my $lock = hold_lock($node);
	define_job($node, 'held', UNTIL_RELEASED);
	my $held = trigger($node, 'held');
	wait_started($node, $held);
	value($node, q{SELECT job_pause(cancel_running => true)});
	is(outcome($node, $held)->{status}, 'cancelled', 'cancel_running ends what runs');
	release_lock($lock);
	is(value($node, q{SELECT count(*) FROM job_status WHERE health <> 'paused'}), 0, 'all are paused');
	my $id = trigger($node, 'probe');
	eventually($node, q{SELECT max(id) > (SELECT max(id) FROM job_execution
			WHERE job_name = 'tick' AND status = 'succeeded') FROM job_execution
		WHERE job_name = 'tick' AND status = 'skipped' AND skipped > 1}, 'occurrences go by');
	is(queue($node, 'probe', 'execution_id'), $id, 'nothing starts');
	value($node, q{SELECT job_disable('tick'); SELECT job_resume(catch_up => true)});
	is(outcome($node, $id)->{status}, 'succeeded', 'job_resume lets all go on');
	ledger_is_true($node);
};

subtest 'resume with catch_up makes up for a pause with one run' => sub {
	effect_job($node, 'late', "schedule => '* * * * * *'");
	value($node, q{SELECT job_pause('late')});
	eventually($node, q{SELECT max(skipped) >= 2 FROM job_execution
		WHERE job_name = 'late' AND status = 'skipped'}, 'occurrences go by');
	my $before = history($node, 'late');
	value($node, q{BEGIN; SELECT job_resume('late', catch_up => true);
		SELECT job_disable('late'); COMMIT});
	eventually_is($node, q{SELECT string_agg(status, ' ' ORDER BY id) FROM job_execution
		WHERE job_name = 'late' AND id >= (SELECT max(id) FROM job_execution
			WHERE job_name = 'late' AND status = 'skipped')}, 'skipped succeeded', 'one run');
	ledger_is_true($node);
};

subtest 'job_why names the cause' => sub {
	$node->safe_psql('postgres', 'CREATE ROLE alice LOGIN');
	define_job($node, 'why', $LONG, "schedule => '0 0 0 1 1 *', owner => 'alice'");
	is(why($node, 'why'), '', 'nothing, where nothing is wrong');
	value($node, q{SELECT job_disable('why')});
	like(why($node, 'why'), qr/^enabled: .*job_enable\('why'\)/m, 'disabled');
	value($node, q{SELECT job_enable('why'); SELECT job_pause('why', reason => 'lunch')});
	like(why($node, 'why'), qr/^paused: .*job_resume\('why'\)/m, 'paused');
	value($node, q{SELECT job_resume('why'); REVOKE CONNECT ON DATABASE postgres FROM PUBLIC});
	like(why($node, 'why'), qr/^owner: .*CONNECT/mi, 'no CONNECT');
	is(value($node, q{SELECT health FROM job_status WHERE job_name = 'why'}), 'held',
		'no CONNECT: job_status says held');
	value($node, q{GRANT CONNECT ON DATABASE postgres TO PUBLIC; ALTER ROLE alice RENAME TO bob});
	like(why($node, 'why'), qr/^owner: .*alice/m, 'another name');
	value($node, q{DROP ROLE bob});
	like(why($node, 'why'), qr/^owner: .*alice/m, 'role gone');
	is(value($node, q{SELECT health FROM job_status WHERE job_name = 'why'}), 'held',
		'role gone: job_status says held');
	value($node, q{SELECT job_alter('why', '{"owner": "postgres"}')});

	set_setting($node, 'pg_janitor.enabled', 'off');
	like(why($node, 'why'), qr/^setting: .*pg_janitor.enabled/m, 'switched off');
	set_setting($node, 'pg_janitor.enabled', 'on');

	my $first = trigger($node, 'why');
	wait_started($node, $first);
	my $second = trigger($node, 'why');
	like(why($node, 'why'), qr/^running: 1 of at most 1.*max_running/m, 'saturated');

	set_setting($node, 'pg_janitor.max_workers', '1');
	my $id = trigger($node, 'probe');
	like(why($node, 'probe'), qr/^workers: .*max_workers/m, 'no worker');
	value($node, q{SELECT job_cancel('why')});
	is(outcome($node, $id)->{status}, 'succeeded', 'and then there is one');
};

subtest 'what is switched off waits (H-02)' => sub {
	set_setting($node, 'pg_janitor.enabled', 'off');
	my $id = trigger($node, 'probe');
	like($id, qr/^\d+$/, 'job_trigger does not hang');
	is(value($node, "SELECT job_wait($id, '0.5 s')"), '', 'nothing runs');
	is(queue($node, 'probe', 'execution_id'), $id, 'the trigger waits');
	set_setting($node, 'pg_janitor.enabled', 'on');
	is(outcome($node, $id)->{status}, 'succeeded', 'until it is switched on');

	# with a run in progress, so that the scheduler stays and stands by, and without
	set_setting($node, 'pg_janitor.max_workers', 4);
	effect_job($node, 'each', "schedule => '* * * * * *', catch_up => 'all'");
	my $lock = hold_lock($node);
	define_job($node, 'held', UNTIL_RELEASED);
	for my $with ('with a run in progress', 'without')
	{
		wait_started($node, trigger($node, 'held')) if $with =~ /^with /;
		eventually($node, q{SELECT count(*) > 0 FROM effect WHERE job = 'each'}, 'each runs');
		set_setting($node, 'pg_janitor.enabled', 'off');
		my $off = value($node, q{SELECT clock_timestamp() + interval '1 s'});
		eventually($node, "SELECT clock_timestamp() > timestamptz '$off' + interval '2.5 s'", 'occurrences pass');
		set_setting($node, 'pg_janitor.enabled', 'on');
		my $on = value($node, q{SELECT clock_timestamp() - interval '1 s'});
		eventually($node, "SELECT count(*) > 0 FROM job_execution WHERE job_name = 'each'
			AND status = 'succeeded' AND started_at > '$on'", 'each goes on');
		is(value($node, "SELECT count(*) FROM job_execution WHERE job_name = 'each' AND status <> 'skipped'
			AND scheduled_for BETWEEN '$off' AND '$on'"), 0, "$with: nothing is made up, though it is all of a minute");
		like(value($node, q{SELECT detail || ' ' || skipped FROM job_execution WHERE job_name = 'each'
			AND status = 'skipped' ORDER BY id DESC LIMIT 1}), qr/^pg_janitor was switched off ([2-9]|\d\d)$/, "$with: it is counted");
		release_lock($lock) if $with =~ /^with /;
	}
	value($node, q{SELECT job_unschedule('each')});

	value($node, 'ALTER DATABASE postgres SET pg_janitor.enabled = off');
	$node->restart;
	$id = trigger($node, 'probe');
	is(value($node, "SELECT job_wait($id, '0.5 s')"), '', 'the same for one database');
	value($node, 'ALTER DATABASE postgres RESET pg_janitor.enabled');
	is(outcome($node, $id)->{status}, 'succeeded', 'and back');
	ledger_is_true($node);
};

no_accident($node);
$node->stop;
done_testing();
