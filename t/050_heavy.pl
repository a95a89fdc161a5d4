# Long runs leave a worker to others: in all databases together, they and
# their helpers hold one less than there are.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use JanitorTest;
use JanitorHeavy;

my $node = janitor_node('heavy', 'pg_janitor.max_workers = 2',
	'max_worker_processes = 16');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION pg_janitor');

# When one of them ran, in seconds.
sub interval
{
	my ($id, $database) = @_;
	return split /\|/, $node->safe_psql($database,
		"SELECT extract(epoch FROM started_at), extract(epoch FROM completed_at)
		 FROM job_execution WHERE id = $id");
}

my %first = map { $_ => 'heavy_' . $_ } qw(postgres other);
heavy_job($node, $first{$_}, database => $_) foreach qw(postgres other);
define_job($node, 'short', 'SELECT 1', undef, $_) foreach qw(postgres other);

my $holds = trigger($node, $first{postgres});
wait_started($node, $holds);
my $waits = trigger($node, $first{other}, undef, 'other');
eventually($node, "SELECT health = 'waiting_for_worker' FROM job_status WHERE job_name = '$first{other}'",
	'the other one waits', 'other');
pass('with two workers, one long run in any database keeps another waiting');
like($node->safe_psql('other', "SELECT detail, hint FROM job_why('$first{other}') WHERE NOT ok"),
	qr/^1 of at most 1 workers.*\|It starts when/m, 'job_why says so');
is($node->safe_psql('other', "SELECT bool_and(ok) FROM job_why('short') WHERE check_name = 'heavy'"),
	'', 'and says nothing of it about short ones');

is(run_job($node, 'short', undef, $_)->{status}, 'succeeded',
	"short runs have a worker in $_") foreach qw(postgres other);
is($node->safe_psql('other', "SELECT count(*) FROM job_execution WHERE job_name = '$first{other}'"),
	0, 'the long one has not begun');

end_heavy($node, $first{postgres});
is(wait_run($node, $holds)->{status}, 'succeeded', 'the first long run ends');
wait_started($node, $waits, 'other');
my $ended = (interval($holds, 'postgres'))[1];
my $began = (interval($waits, 'other'))[0];
cmp_ok($began - $ended, '<', 20, 'and wakes the scheduler of the other database');
cmp_ok($began, '>=', $ended, 'not before');
end_heavy($node, $first{other}, 'other');
is(wait_run($node, $waits, 'other')->{status}, 'succeeded', 'the second ends');

# Two schedulers at once, and room for two.
set_setting($node, 'pg_janitor.max_workers', 3);
my @runs;
foreach my $database (qw(postgres other))
{
	heavy_job($node, "small_$_", database => $database, rows => 8, rate => 20)
	  foreach 1 .. 4;
}
foreach my $database (qw(postgres other))
{
	push @runs, map { [ $_, $database ] } split /\n/,
	  $node->safe_psql($database,
		"SELECT job_trigger('small_' || i) FROM generate_series(1, 4) i");
}
is(wait_run($node, @$_)->{records_processed}, 8, "run $_->[0] in $_->[1]")
  foreach @runs;

my ($at_once, $most) = (0, 0);
my @events = map {
	my ($from, $to) = interval(@$_);
	([ $from, 1 ], [ $to, -1 ])
} @runs;
foreach my $event (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } @events)
{
	$at_once += $event->[1];
	$most = $at_once if $at_once > $most;
}
is($most, 2, 'with three workers two long runs at once, and never three');

# One worker is better than none.
set_setting($node, 'pg_janitor.max_workers', 1);
heavy_job($node, 'last', rows => 8, rate => 100);
is(run_job($node, 'last')->{status}, 'succeeded',
	'a single worker takes long runs as well');

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
