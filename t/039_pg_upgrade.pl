# pg_upgrade keeps everything, and the jobs armed.
#
# From the server under test to itself, and between it and those that
# JANITOR_OTHER_SERVERS names, by their pg_config, with blanks between them,
# from the older to the newer one:
#
#	make check-tap PROVE_TESTS=t/039_pg_upgrade.pl \
#		JANITOR_OTHER_SERVERS='/opt/pg17/bin/pg_config /opt/pg18/bin/pg_config'
#
# pg_janitor is built for each of them, in a private copy.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cwd qw(getcwd);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;
use JanitorContent;

# A server with pg_janitor: its major, and where its bin/ is.
sub server
{
	my ($pg_config) = @_;
	my ($major) = `$pg_config --version` =~ /PostgreSQL (\d+)/ or die "$pg_config does not say its version";
	chomp(my $bin = `$pg_config --bindir`);
	return { major => $major, path => dirname($bin) };
}

# The same for a server that is not the one under test, in a private copy.
sub other_server
{
	my ($pg_config) = @_;
	my $source = PostgreSQL::Test::Utils::tempdir();
	my $prefix = PostgreSQL::Test::Utils::tempdir();
	my $top = dirname($FindBin::RealBin);

	system_or_bail('cp', '-R', map({ "$top/$_" } qw(src sql Makefile pg_janitor.control)), $source);
	system_or_bail('sh', '-c', "rm -f $source/src/*.o");
	system_or_bail('make', '-s', '-j2', '-C', $source, "PG_CONFIG=$pg_config", 'all');
	system_or_bail('bash', "$top/t/harness/prefix", $pg_config, $prefix);
	system_or_bail('make', '-s', '-C', $source, "PG_CONFIG=$pg_config", 'install', "DESTDIR=$prefix");
	chomp(my $bin = `$pg_config --bindir`);
	return server("$prefix$bin/pg_config");
}

# Not started yet.
sub make_node
{
	my ($name, $server, @options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, install_path => $server->{path});

	$node->init(extra => [@options]);
	$node->append_conf('postgresql.conf', join "\n", "shared_preload_libraries = 'pg_janitor'", 'max_worker_processes = 16',
		"timezone = 'UTC'", "pg_janitor.environment = 'prod'", 'pg_janitor.worker_idle_timeout = 1',
		"log_line_prefix = '%m %b[%p] %q%a '", '');
	return $node;
}

# The contents, with nothing in progress but a claim; what is asked for later.
sub fill
{
	my ($node) = @_;
	create_roles($node);
	my $is = everything($node);
	release_lock($is->{session});
	outcome($node, $is->{running}, 'app');
	value($node, q{SELECT job_resume('tick')}, 'app');
	return $is;
}

# What a dump does not carry, and pg_upgrade does.
sub undumped
{
	my ($node) = @_;
	return join "\n", map { value($node, $_, 'app') } 'SELECT last_value FROM job_home',
		'SELECT id, secret FROM job_mask_secret ORDER BY id', q{SELECT to_jsonb(q) FROM job_queue q ORDER BY id},
		q{SELECT oid FROM pg_database WHERE datname = 'app'}, q{SELECT job_mask_email('x'), job_mask_email('x', 'tenant')};
}

sub upgrade
{
	my ($from, $to) = @_;
	my $old = make_node("from_$from->{major}_to_$to->{major}", $from);
	$old->start;
	my $is = fill($old);
	my $all = content($old, 0, 'app');
	my $undumped = undumped($old);
	$old->stop;

	my $new = make_node("to_$to->{major}_from_$from->{major}", $to,
		$to->{major} >= 18 && $from->{major} < 18 ? '--no-data-checksums' : ());
	my $here = getcwd();
	chdir PostgreSQL::Test::Utils::tempdir() or die $!;
	command_ok([ "$to->{path}/bin/pg_upgrade", '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir,
		'-b', "$from->{path}/bin", '-B', "$to->{path}/bin", '-s', $new->host,
		'-p', $old->port, '-P', $new->port ], 'pg_upgrade');
	chdir $here or die $!;

	# look before anything can happen
	$new->append_conf('postgresql.auto.conf', 'pg_janitor.enabled = off');
	$new->start;
	is_deeply(content($new, 0, 'app'), $all, 'everything is there');
	is(undumped($new), $undumped, 'also what no dump carries');

	value($new, 'ALTER DATABASE app RESET pg_janitor.enabled');
	value($new, 'ALTER SYSTEM RESET pg_janitor.enabled');
	$new->reload;
	goes_on($new, 'at once', 'app');
	is(value($new, q{SELECT count(*) FROM job_status WHERE health = 'disarmed'}, 'app'), 0, 'all jobs are armed');
	is(log_count($new, 'disarmed'), 0, 'as they always were');
	is(value($new, 'SELECT job_rearm()', 'app'), 0, 'there is nothing to do');
	is(outcome($new, $is->{replay}, 'app')->{records_processed}, 3, 'a replay that waited has its key');
	is(value($new, q{SELECT receipts || ' ' || intact FROM job_receipt_verify('forget')}, 'app'), '6 true', 'and goes on with the chain');
	is(run_job($new, 'purge', undef, 'app')->{records_processed}, 93, 'rules and holds are what they were');
	is(run_job($new, 'purge', undef, 'app')->{records_processed}, 0, 'to the row');
	is(value($new, "SET ROLE worker; SELECT job_finish($is->{claimed}, '$is->{token}')", 'app'), 'succeeded',
		'a worker finishes what he claimed before');
	is(value($new, q{SELECT job_trigger('probe', run_at => now() + interval '2 days', key => 'later')}, 'app'),
		$is->{later}, 'a delayed trigger has its id and its key');
	ledger_is_true($new, 'upgraded', 'app');
	no_accident($new);
	return $new->stop;
}

my $own = server('pg_config');
my @others = map { other_server($_) } split ' ', $ENV{JANITOR_OTHER_SERVERS} || '';
for my $other ($own, grep { $_->{major} != $own->{major} } @others)
{
	my ($from, $to) = $other->{major} < $own->{major} ? ($other, $own) : ($own, $other);
	subtest "from $from->{major} to $to->{major}" => sub { upgrade($from, $to) };
}

done_testing();
