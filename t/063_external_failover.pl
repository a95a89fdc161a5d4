# Work outside the database when the server fails over: leases go on, their
# holders finish on the new primary; circuits and windows are as they were.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use Test::More;
use JanitorTest;
use JanitorCrash;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_janitor'
log_line_prefix = '%m %b[%p] %q%a '
});
$primary->start;
value($primary, q{
	CREATE EXTENSION pg_janitor;
	SELECT job_set_circuit('api', 2, cooldown => '1 hour');
	SELECT job_schedule_external('calls', circuit => 'api');
	SELECT job_schedule_external('mail', max_running => 2, retry_delay => '0');
	SELECT job_set_rate_limit('mail', 3, '1 hour')});
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

trigger($primary, 'mail') for 1 .. 5;
my %token = map { split /\|/ }
  split /\n/, value($primary, q{SELECT execution_id, token FROM job_claim('mail', 1, '1 hour')
	UNION ALL SELECT execution_id, token FROM job_claim('mail', 1, '5 s')});
my ($kept, $lost) = sort { $a <=> $b } keys %token;
my $later = trigger($primary, 'mail', q{run_at => clock_timestamp() + interval '4 s', key => 'k'});
trigger($primary, 'calls');
value($primary, q{SELECT job_circuit_report('api', false) FROM generate_series(1, 2)});
my $snoozed = trigger($primary, 'mail', q{run_at => clock_timestamp() + interval '1 hour', key => 'far'});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));

subtest 'nothing is claimed or finished on a standby' => sub {
	like(sql_error($standby, "SELECT $_"), qr/(25006|55000): .*(read-only|recovery)/, $_)
	  for q{* FROM job_claim('mail')}, "job_finish($kept, '$token{$kept}')", "job_extend($kept, '$token{$kept}')",
		q{job_circuit_allows('api')}, q{job_circuit_report('api', true)};
	is(value($standby, q{SELECT state FROM job_circuits}), 'open', 'the state of a circuit can be read');
	is(value($standby, q{SELECT string_agg(job_name || ' ' || health, ', ' ORDER BY job_name) FROM job_status}),
		'calls circuit_open, mail running', 'and job_status');
};

$primary->stop('immediate');
eventually($standby, "SELECT max(lease_until) FILTER (WHERE execution_id = $lost) < clock_timestamp() FROM job_lease",
	'a lease is over');
$standby->promote;

is(wait_run($standby, $lost)->{status}, 'interrupted', 'a lease that was over is rescued');
like(sql_error($standby, "SELECT job_finish($lost, '$token{$lost}')"), qr/55000/, 'and its holder comes too late');
is(value($standby, "SELECT job_finish($kept, '$token{$kept}')"), 'succeeded', 'another one finishes what he began before');
is(value($standby, q{SELECT state FROM job_circuits}), 'open', 'the circuit is open');
is(value($standby, q{SELECT count(*) FROM job_claim('calls')}), 0, 'and lets nothing through');
is(value($standby, q{SELECT count(*) FROM job_claim('mail', 10)}), 1, 'the window counts what was admitted before');
is(value($standby, q{SELECT bool_and(run_at > clock_timestamp() + interval '50 min') FROM job_queue WHERE detail = 'rate limit'}),
	't', 'the others wait until it opens');
is(value($standby, "SELECT count(*) FROM job_queue WHERE execution_id IN ($later, $snoozed)"), 2, 'what waits is there');
is(value($standby, q{SELECT count(*) FROM job_execution e WHERE status = 'running'
	AND NOT EXISTS (SELECT FROM job_lease l WHERE l.execution_id = e.id)}), 0, 'nothing runs without a lease');
no_accident($_) for $primary, $standby;
done_testing();
