# Runs do what they do also when every cache of the server is discarded at each
# chance: nothing points into one for longer than it may.
#
# Needs a server with assertions.  This is the short form; `make
# check-discard-caches` does the same to the regression tests.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JanitorCalls;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = janitor_node('discarded', 'max_worker_processes = 16', 'pg_janitor.worker_idle_timeout = 600');
plan skip_all => 'a server without assertions never discards its caches'
  if $node->safe_psql('postgres', 'SHOW debug_assertions') eq 'off';

calls_fixture($node);
$node->append_conf('postgresql.conf', 'debug_discard_caches = 1');
$node->reload;

# but not by who only waits and looks
$ENV{PGOPTIONS} = '-c debug_discard_caches=0';

# what came of a run
sub run_of
{
	my $run = run_job($node, $_[0]);
	return join ' ', map { $_ // '' } @$run{qw(status records_processed sqlstate)};
}

is(run_of('nightly'), 'succeeded 1 ', 'a statement');
is(run_of('fails'), 'failed  22012', 'an error');
is($node->safe_psql('postgres', q{SET debug_discard_caches = 1;
	SELECT string_agg(job_finish(execution_id, token, records => 2), ' ') FROM job_claim('mail', 10)}),
	'succeeded succeeded', 'a worker outside');

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
