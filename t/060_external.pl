# Runs in the hands of workers outside: what restarts, crashes, idle servers
# and busy ones do to them, and when workers are told that there is something
# to claim.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use IPC::Run;
use JanitorTest;
use JanitorCrash;

my $node = janitor_node('external', "pg_janitor.worker_idle_timeout = '1s'",
	'restart_after_crash = on', 'max_prepared_transactions = 5');

sub define
{
	my ($name, $options) = @_;
	value($node, 'SELECT job_schedule_external(' . literal($name) .
		($options ? ", $options" : '') . ')');
	return;
}

# Claims one run: (id, token).
sub claim
{
	my ($name, $lease) = @_;
	return split /\|/, value($node, 'SELECT execution_id, token FROM job_claim(' .
		literal($name) . ", lease => '" . ($lease || '1 hour') . "')");
}

sub finish { return value($node, "SELECT job_finish($_[0], '$_[1]')"); }

# What a session that listens is told while it runs the statements.
sub told
{
	my (@statements) = @_;
	my $output = value($node, join("\n", 'LISTEN pg_janitor;', @statements));
	return [ $output =~ /payload "(.*?)" received/g ];
}

define('mail');
define_job($node, 'marker', 'SELECT 1');

subtest 'one notification says that something has become claimable' => sub {
	# the marker starts in the very look that finds the others due
	my $told = told(
		q{BEGIN;},
		q{SELECT count(job_trigger('mail', run_at => now() + '1 s')) FROM generate_series(1, 1000);},
		q{SELECT job_trigger('marker', run_at => now() + '1.2 s') AS id \gset},
		q{COMMIT;},
		q{SELECT job_wait(:id);}, q{SELECT 1;});
	is_deeply($told, ['{"event": "claimable"}'],
		'for a thousand runs that become due');
	value($node, q{SELECT job_cancel('mail')});

	# the end of a run makes room for another
	define('one', 'max_running => 1');
	trigger($node, 'one') for 1 .. 2;
	my ($id, $token) = claim('one');
	is(value($node, q{SELECT count(*) FROM job_claim('one')}), 0, 'full');
	$told = told(qq{SELECT job_finish($id, '$token');},
		q{SELECT job_trigger('marker') AS id \gset}, q{SELECT job_wait(:id);}, q{SELECT 1;});
	is_deeply($told, ['{"event": "claimable"}'], 'when there is room again');
	finish(claim('one'));
};

# Is a session that only listens told, within $while, after these statements?
our $while = '500 ms';

sub is_announced
{
	my ($name, $expected, @statements) = @_;
	my $later = "SELECT job_trigger('marker', run_at => clock_timestamp() + '$while') AS id \\gset
		SELECT job_wait(:id);";
	value($node, $later);    # what is to be told of the past has been told
	my $told = told(@statements, $later, 'SELECT 1;');
	return is(@$told > 0, $expected, $name) || diag(explain($told));
}

sub is_told { return is_announced($_[0], 1, @_[ 1 .. $#_ ]); }
sub is_not_told { return is_announced($_[0], '', @_[ 1 .. $#_ ]); }

subtest 'whatever makes something claimable is told' => sub {
	value($node, q{SELECT job_set_circuit('c', 1, cooldown => '1 hour')});
	define('told', q{retry_delay => '50 ms'});
	is_told('a trigger', q{SELECT job_trigger('told');});
	my ($id, $token) = claim('told');
	is_told('the next attempt', "SELECT job_finish($id, '$token', false);");
	($id, $token) = claim('told');
	is_told('the end of a snooze', "SELECT job_finish($id, '$token', snooze => '100 ms');");
	($id, $token) = claim('told');
	is_told('the end of a lease', "SELECT job_extend($id, '$token', '100 ms');");
	is_told('a claim that is rolled back', q{BEGIN;}, q{SELECT count(*) FROM job_claim('told');}, q{ROLLBACK;});
	is_told('one that is rolled back to a savepoint', q{BEGIN;}, q{SAVEPOINT s;},
		q{SELECT count(*) FROM job_claim('told');}, q{ROLLBACK TO s;}, q{COMMIT;});
	finish(claim('told'));

	($id, $token) = (trigger($node, 'told', q{key => 'k'}), (claim('told'))[1]);
	trigger($node, 'told', q{key => 'k'});
	is(value($node, q{SELECT count(*) FROM job_claim('told')}), 0, 'one with a key that is in progress waits');
	is_told('the end of the run with its key', "SELECT job_finish($id, '$token');");
	value($node, q{SELECT job_cancel('told')});

	# workers who were told of a run, and turned away since then
	my $turned_away = q{SELECT count(*) FROM job_claim('told')};
	is_not_told('not while the job is paused', q{SELECT job_pause('told');}, q{SELECT job_trigger('told');});
	is_told('that it is resumed', q{SELECT job_resume('told');});
	value($node, q{SELECT job_pause('told')});
	is(value($node, $turned_away), 0, 'nothing is handed out while it is paused');
	is_told('that it is resumed, also those who asked', q{SELECT job_resume('told');});
	is_told('the end of a pause', q{SELECT job_pause('told', until => clock_timestamp() + '200 ms');}, "$turned_away;");

	value($node, q{SELECT job_alter('told', '{"circuit": "c"}'); SELECT job_circuit_report('c', false)});
	is(value($node, $turned_away), 0, 'nor while its circuit is open');
	is_told('that it needs none any more', q{SELECT job_alter('told', '{"circuit": null}');});
	value($node, q{SELECT job_set_circuit('cooling', 1, cooldown => '3 s'); SELECT job_alter('told', '{"circuit": "cooling"}')});
	{
		local $while = '4 s';
		is_told('the end of the cooldown', q{SELECT job_circuit_report('cooling', false);}, "$turned_away;");
	}
	value($node, q{SELECT job_alter('told', '{"circuit": "c"}')});
	is_not_told('not while it is open', "$turned_away;", q{SELECT job_trigger('told');});
	is_told('that it may be probed', q{SELECT job_set_circuit('c', 1, cooldown => '1 us');});
	is_told('that the probe is there again', q{BEGIN;}, "$turned_away;", q{ROLLBACK;});
	($id, $token) = claim('told');
	value($node, q{SELECT job_set_circuit('c', 1, cooldown => '1 hour')});
	is(value($node, $turned_away), 0, 'the others wait for the probe');
	is_told('that the probe has closed it', "SELECT job_finish($id, '$token');");

	value($node, q{SELECT job_alter('told', '{"max_running": 1}')});
	($id, $token) = claim('told');
	trigger($node, 'told');
	is(value($node, $turned_away), 0, 'nor with as many as may be in progress');
	is_told('that there may be more', q{SELECT job_alter('told', '{"max_running": 2}');});
	finish($id, $token);

	value($node, q{SELECT job_set_rate_limit('told', 1, '300 ms')});
	trigger($node, 'told');
	is_told('that a window opens', q{SELECT count(*) FROM job_claim('told', 10);});
	value($node, q{SELECT job_cancel('told'); SELECT job_drop_rate_limit('told');
		SELECT job_alter('told', '{"circuit": null, "max_running": null}');
		SELECT job_drop_circuit(name) FROM job_circuits});
};

subtest 'claims that are prepared' => sub {
	trigger($node, 'told');
	my ($id) = value($node, q{BEGIN; SELECT execution_id FROM job_claim('told', lease => '1 s'); PREPARE TRANSACTION 'claim'}) =~ /(\d+)/;
	is(value($node, q{SELECT count(*) FROM job_claim('told')}), 0, 'what is claimed so is nobody else\'s');
	is_told('their rollback is told', q{ROLLBACK PREPARED 'claim';});
	value($node, q{BEGIN; SELECT count(*) FROM job_claim('told', lease => '1 s'); PREPARE TRANSACTION 'claim'; COMMIT PREPARED 'claim'});
	is(wait_run($node, $id)->{status}, 'interrupted', 'their leases end at their time');
	value($node, q{SELECT job_cancel('told')});
};

subtest 'CALL job_run() waits for whoever claims' => sub {
	my ($out, $err) = ('', '');
	my $call = IPC::Run::start([ 'psql', '-XAt', '-d', $node->connstr('postgres'), '-c', q{CALL job_run('told')} ],
		'<', \'', '>', \$out, '2>', \$err);
	eventually($node, q{SELECT count(*) = 1 FROM job_queue WHERE job_name = 'told'}, 'it is triggered');
	my ($id, $token) = claim('told');
	value($node, "SELECT job_finish($id, '$token', records => 3)");
	$call->finish;
	is($out, "$id|succeeded|3\n", 'and says what came of it');
};

subtest 'leases outlive restarts and crashes' => sub {
	my %stop = (
		restart => sub { $node->restart },
		'immediate stop' => sub { $node->stop('immediate'); $node->start },
		'crash of a backend' => sub { crash($node, process($node, 'launcher')) });
	foreach my $how (sort keys %stop)
	{
		trigger($node, 'mail') for 1 .. 2;
		my ($id, $token) = claim('mail');
		my ($short) = claim('mail', '100 ms');
		$stop{$how}->();
		is(wait_run($node, $short)->{status}, 'interrupted',
			"$how: a lease that was over is rescued");
		is(execution($node, $id)->{status}, 'running', "$how: another goes on");
		is(finish($id, $token), 'succeeded', "$how: and is finished");
		value($node, q{SELECT job_cancel('mail')});
	}
};

subtest 'what became due while the server was down can be claimed at once' => sub {
	my $id = trigger($node, 'mail', q{run_at => clock_timestamp() + '1 s', key => 'k'});
	is(trigger($node, 'mail', q{args => '{"n": 2}', run_at => clock_timestamp() + '1 s', key => 'k'}),
		$id, 'a key replaces what waits');
	$node->restart;
	eventually($node, q{SELECT min(run_at) < clock_timestamp() FROM job_queue WHERE job_name = 'mail'}, 'it is due');
	my ($claimed, $token) = claim('mail');
	is($claimed, $id, 'with its id');
	is(execution($node, $id)->{args}{n}, 2, 'and its newest arguments');
	finish($claimed, $token);
};

subtest 'a scheduler that left comes back for a lease' => sub {
	trigger($node, 'mail');
	my ($id) = claim('mail', '6 s');
	eventually($node, q{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor scheduler'}, 'the scheduler has left');
	my $row = wait_run($node, $id);
	is($row->{status}, 'interrupted', 'the run is rescued');
	my $late = value($node, "SELECT extract(epoch FROM completed_at - lease_until)
		FROM job_execution WHERE id = $id");
	cmp_ok($late, '>=', 0, 'not before its time');
	cmp_ok($late, '<', 2, 'and at its time');
	value($node, q{SELECT job_cancel('mail')});
};

subtest 'a wake-up, not a poll' => sub {
	trigger($node, 'mail');
	my ($id, $token) = claim('mail', '10 min');
	eventually($node, q{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor scheduler'}, 'nobody waits for a distant lease');
	is(finish($id, $token), 'succeeded', 'and nobody is needed to finish');
	is(value($node, q{SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor scheduler'}), 0, 'nor woken by it');
};

subtest 'occurrences of an external job' => sub {
	define('sync', "schedule => '* * * * * *'");
	eventually($node, q{SELECT sum(skipped) >= 2 FROM job_execution WHERE job_name = 'sync'},
		'nobody claims');
	is(value($node, q{SELECT count(*) FROM job_queue WHERE job_name = 'sync' AND key <> '@schedule'}),
		1, 'one waits for a worker');
	is(value($node, q{SELECT DISTINCT detail FROM job_execution WHERE job_name = 'sync'}),
		'the run before was not claimed yet', 'the others are skipped, and counted');
	my ($id, $token) = claim('sync');
	isnt(execution($node, $id)->{scheduled_for}, undef, 'it stands for its occurrence');
	eventually($node, q{SELECT count(*) = 1 FROM job_queue WHERE job_name = 'sync' AND key = '@queued'},
		'then the next one waits');
	finish($id, $token);

	value($node, q{SELECT job_set_circuit('api', 1, cooldown => '1 hour')});
	value($node, q{SELECT job_cancel('sync')});
	value($node, q{SELECT job_alter('sync', '{"circuit": "api"}')});
	value($node, q{SELECT job_circuit_report('api', false)});
	value($node, q{SELECT job_cancel('sync')});
	eventually($node, q{SELECT count(*) > 0 FROM job_execution WHERE job_name = 'sync'
		AND status = 'skipped' AND detail = 'its circuit was open'}, 'skipped, with the reason');
	is(value($node, q{SELECT health FROM job_status WHERE job_name = 'sync'}), 'circuit_open', 'job_status says so');

	$node->restart;
	is(value($node, q{SELECT state FROM job_circuits}), 'open', 'a circuit outlives a restart');
	is(value($node, q{SELECT job_circuit_allows('api')}), 'f', 'and lets nobody through');
	value($node, q{SELECT job_unschedule('sync')});
};

subtest 'scheduled and triggered runs in the database' => sub {
	define_job($node, 'tick', 'SELECT 1', "schedule => '* * * * * *', circuit => 'api'");
	my $id = trigger($node, 'tick');
	eventually($node, q{SELECT sum(skipped) >= 2 FROM job_execution WHERE job_name = 'tick'
		AND detail = 'its circuit was open'}, 'occurrences are skipped');
	is(value($node, "SELECT attempt FROM job_queue WHERE execution_id = $id"), 1,
		'a triggered run waits, without losing an attempt');
	value($node, q{SELECT job_set_circuit('api', 1, cooldown => '1 us')});
	is(wait_run($node, $id)->{status}, 'succeeded', 'and is the probe, or comes after it');
	eventually_is($node, q{SELECT state FROM job_circuit}, 'closed', 'which closes the circuit');
	eventually_is($node, q{SELECT count(*) > 0 FROM job_execution WHERE job_name = 'tick'
		AND reason = 'schedule' AND status = 'succeeded'}, 't', 'occurrences run again');
	value($node, q{SELECT job_unschedule('tick')});
};

subtest 'the further run of a key waits also inside the database' => sub {
	my $lock = hold_lock($node);
	define_job($node, 'keyed', UNTIL_RELEASED, 'max_running => 3');
	my $first = trigger($node, 'keyed', q{key => 'k'});
	wait_started($node, $first);
	my $second = trigger($node, 'keyed', q{key => 'k'});
	my $other = trigger($node, 'keyed', q{key => 'l'});
	wait_started($node, $other);
	is(value($node, "SELECT count(*) FROM job_queue WHERE execution_id = $second"), 1,
		'it waits, though there is room');
	release_lock($lock);
	is(wait_run($node, $_)->{status}, 'succeeded', 'and runs in its turn') for $first, $second;
};

subtest 'history is bounded, whoever ends the runs' => sub {
	define('many', 'keep_runs => 20');
	value($node, q{SELECT count(job_trigger('many')) FROM generate_series(1, 3000)});
	value($node, q{CREATE TABLE taken AS SELECT * FROM job_claim('many', 3000)});
	is(value($node, q{SELECT count(job_finish(execution_id, token)) FROM taken}), 3000, 'all are finished');
	# somebody has to wake the scheduler
	run_job($node, 'marker');
	eventually_is($node, q{SELECT count(*) < 100 FROM job_execution WHERE job_name = 'many'}, 't',
		'old rows go');
};

no_accident($node);
$node->stop;
done_testing();
