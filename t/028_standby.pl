# Nothing happens on a standby; after a promotion what is due runs once, and
# what the ledger inherited as running is closed, free of charge (B-32). What
# comes into the tables behind pg_janitor's back is found.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_janitor'
log_line_prefix = '%m %b[%p] %q%a '
restart_after_crash = on
max_connections = 40
max_worker_processes = 16
max_prepared_transactions = 5
timezone = 'UTC'
pg_janitor.shutdown_grace = 0
});
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION pg_janitor');
prepare_effects($primary);
effect_job($primary, 'probe');

subtest 'PREPARE TRANSACTION and COMMIT PREPARED' => sub {
	my ($id) = $primary->safe_psql('postgres', q{
		BEGIN;
		SELECT job_trigger('probe');
		SELECT job_schedule('tick', '* * * * * *', '} . (effect('tick') =~ s/'/''/gr) . q{');
		PREPARE TRANSACTION 'both'}) =~ /^(\d+)/m;
	is(value($primary, "SELECT count(*) FROM job_queue"), 0, 'prepared: nothing is due yet');
	$primary->restart;
	run_job($primary, 'probe');
	is(execution($primary, $id), undef, 'not after a restart either');
	value($primary, q{COMMIT PREPARED 'both'});
	is(outcome($primary, $id)->{status}, 'succeeded', 'committed: the trigger runs');
	goes_on($primary, 'committed');
	$primary->safe_psql('postgres', q{BEGIN; SELECT job_trigger('probe'); PREPARE TRANSACTION 'none'});
	value($primary, q{ROLLBACK PREPARED 'none'});
	goes_on($primary, 'rolled back');
	ledger_is_true($primary);
};

subtest 'jobs that a restore loads are picked up' => sub {
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/definitions';
	effect_job($primary, 'loaded', "schedule => '* * * * * *'");
	value($primary, "COPY (SELECT * FROM job_definition WHERE name = 'loaded') TO '$dump'");
	value($primary, q{SELECT job_unschedule('loaded')});
	value($primary, q{DELETE FROM effect WHERE job = 'loaded'; DELETE FROM job_execution WHERE job_name = 'loaded'});
	value($primary, "COPY job_definition FROM '$dump'");
	eventually_is($primary, q{SELECT count(*) > 1 FROM effect WHERE job = 'loaded'}, 't',
		'a definition gets its entry and runs');
	my $queue = "$dump.queue";
	value($primary, qq{COPY (SELECT 900001, nextval('job_execution_id_seq'), 'probe', clock_timestamp(),
		NULL, 'manual', 1, 0, NULL, NULL, '{"n": 1}', NULL, 'postgres', NULL) TO '$queue'});
	value($primary, "COPY job_queue FROM '$queue'");
	eventually_is($primary, q{SELECT status FROM job_execution
		WHERE job_name = 'probe' AND args = '{"n": 1}'}, 'succeeded', 'a waiting run runs');
	value($primary, q{SELECT job_unschedule('loaded')});
	ledger_is_true($primary);
};

subtest 'a queue that is loaded before its jobs waits for them' => sub {
	my $dir = PostgreSQL::Test::Utils::tempdir();
	effect_job($primary, $_) for ('early', 'never');
	my $early = trigger($primary, 'early', "run_at => clock_timestamp() + interval '1 hour'");
	my $never = trigger($primary, 'never', "run_at => clock_timestamp() + interval '1 hour'");
	value($primary, "COPY (SELECT id, execution_id, job_name, clock_timestamp(), scheduled_for, reason, attempt, conflicts,
			retry_of, parent_id, args, key, triggered_by, detail FROM job_queue WHERE job_name IN ('early', 'never')) TO '$dir/queue';
		COPY (SELECT * FROM job_definition WHERE name = 'early') TO '$dir/definition';
		SELECT job_unschedule('early'), job_unschedule('never');
		DELETE FROM job_execution WHERE job_name IN ('early', 'never');
		COPY job_queue FROM '$dir/queue'");
	run_job($primary, 'probe');

	# definitions have changed, so everything is looked at anew
	define_job($primary, 'another', 'SELECT 1');
	run_job($primary, 'another');
	value($primary, "COPY job_definition FROM '$dir/definition'");
	is(outcome($primary, $early)->{status}, 'succeeded', 'and runs when they have come');
	is(queue($primary, 'never', 'execution_id'), $never, 'the other waits');
	value($primary, q{SELECT job_disable('tick')});
	set_clock($primary, q{clock_timestamp() + interval '65 seconds'});
	is(outcome($primary, $never)->{status}, 'cancelled', 'for a minute');
	set_setting($primary, 'pg_janitor.debug_clock_offset', 0);
	value($primary, q{SELECT job_unschedule('another'), job_unschedule('early'), job_enable('tick')});
	goes_on($primary, 'afterwards');
};

# --- a standby ---

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

sub catch_up
{
	my ($from, $to) = @_;
	return $from->wait_for_catchup($to, 'replay', $from->lsn('flush'));
}

subtest 'a hot standby is silent' => sub {
	my $before = value($primary, q{SELECT max(id) FROM job_execution});
	eventually($primary, qq{SELECT count(*) >= 2 FROM job_execution
		WHERE id > $before AND status = 'succeeded'}, 'the primary runs jobs');
	catch_up($primary, $standby);
	is(value($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^pg_janitor'}), 0,
		'no process');
	is(log_count($standby, '(pg_janitor (launcher|scheduler|worker)\[)|pg_janitor (launcher|scheduler) '), 0,
		'no line in the log');
	for my $call (q{job_trigger('probe')}, q{job_pause()}, q{job_schedule('x', NULL, 'SELECT 1')},
		q{job_alter('probe', '{"priority": 1}')}, q{job_cancel('probe')}, q{job_unschedule('probe')})
	{
		like(sql_error($standby, "SELECT $call"), qr/(25006|55000): .*(read-only|recovery)/, "$call is refused");
	}
	like(why($standby, 'probe'), qr/^server: .*standby/m, 'job_why says so');
	isnt(value($standby, q{SELECT string_agg(health, ' ') FROM job_status}), '', 'job_status works');
};

subtest 'after a promotion what is due runs once' => sub {
	define_job($primary, 'open', effect('open'), 'max_attempts => 1');
	effect_job($primary, 'waits');
	my ($open) = start_stuck($primary, 'open');
	my $due = trigger($primary, 'waits', "run_at => clock_timestamp() + interval '6 seconds'");
	my $later = trigger($primary, 'waits', "run_at => clock_timestamp() + interval '1 hour'");
	my ($prepared) = $primary->safe_psql('postgres', q{BEGIN; SELECT job_trigger('probe'); PREPARE TRANSACTION 'there'}) =~ /^(\d+)/m;
	catch_up($primary, $standby);
	$primary->stop('immediate');
	eventually($standby, "SELECT run_at < clock_timestamp() FROM job_queue WHERE execution_id = $due",
		'a trigger has come due');
	is(execution($standby, $open)->{status}, 'running', 'a run is inherited as running');
	$standby->promote;
	eventually_is($standby, "SELECT string_agg(concat_ws('/', status, attempt), ' ' ORDER BY id)
		FROM job_execution WHERE $open IN (id, retry_of)", 'interrupted/1 succeeded/1',
		'it is closed and run again, free of charge');
	like(join(' ', grep { defined } @{ execution($standby, $open) }{qw(detail error_message)}),
		qr/replaced|promot/, 'the row says why');
	is(outcome($standby, $due)->{status}, 'succeeded', 'what came due has run');
	goes_on($standby, 'promoted');
	is(history($standby, 'waits'), 'succeeded', 'once');
	is(execution($standby, $prepared), undef, 'what was prepared on the old primary waits');
	value($standby, q{COMMIT PREPARED 'there'});
	is(outcome($standby, $prepared)->{status}, 'succeeded', 'and runs when it is committed here');
	is(queue($standby, 'waits', 'execution_id'), $later, 'what is due later waits');
	is(value($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_janitor scheduler'}), 1,
		'there is one scheduler');
	ledger_is_true($standby);
};

subtest 'run_on_start counts a promotion as a start' => sub {
	effect_job($standby, 'starts', 'run_on_start => true');
	is(history($standby, 'starts'), '', 'its definition is none');
};

# --- the old primary as a standby of the new one ---

$standby->backup('backup');
my $demoted = PostgreSQL::Test::Cluster->new('demoted');
$demoted->init_from_backup($standby, 'backup', has_streaming => 1);

subtest 'a primary that comes back as a standby is silent' => sub {
	$demoted->start;
	catch_up($standby, $demoted);
	is(value($demoted, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^pg_janitor'}), 0,
		'no process');

	# by an orderly switch: it stops, gets standby.signal, and starts
	$standby->stop('fast');
	$demoted->promote;
	goes_on($demoted, 'switched over');
	eventually_is($demoted, q{SELECT count(*) FROM effect WHERE job = 'starts'}, 1,
		'run_on_start has run');
	my $offset = log_size($standby);
	$standby->enable_streaming($demoted);
	$standby->set_standby_mode;
	$standby->start;
	catch_up($demoted, $standby);
	goes_on($demoted, 'with the old one as standby');
	catch_up($demoted, $standby);
	is(value($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^pg_janitor'}), 0,
		'no process');
	is(log_count($standby, 'pg_janitor (launcher|scheduler|worker)\[', $offset), 0, 'no line in the log');
	is(value($standby, q{SELECT count(*) - count(DISTINCT id) FROM effect}), 0, 'nothing has run twice');
	ledger_is_true($demoted);
};

no_accident($_) for ($primary, $standby, $demoted);
done_testing();
