# A dump carries whatever cannot be computed again, in every format; where it
# is restored nothing runs until job_rearm(), and then all of it does that can.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;
use JanitorContent;

my $original = crash_node('original', 'pg_janitor.worker_idle_timeout = 1');
my $elsewhere = crash_node('elsewhere', 'pg_janitor.worker_idle_timeout = 1');
my $dumps = PostgreSQL::Test::Utils::tempdir();

# OIDs are not to be the same by accident.
value($elsewhere, "CREATE ROLE r$_") for 1 .. 20;
create_roles($_) for $original, $elsewhere;
value($original, 'CREATE ROLE backup LOGIN IN ROLE pg_read_all_data');
my $is = everything($original);
my $running = $is->{running};
my $all = content($original, $running, 'app');
my @empty = grep { $all->{$_} eq '' } sort keys %$all;
is("@empty", 'job_cursor', 'there is something in every table but one of runs in progress');

# --- dumping and restoring ---

sub dump_as_backup
{
	my ($name, @options) = @_;
	return command_ok([ 'pg_dump', '-U', 'backup', '-f', "$dumps/$name", '-d', $original->connstr('app'),
		'--exclude-table=lost', @options ], "pg_dump @options, by a role that may only read");
}

# Into a new database; psql or pg_restore, which has to succeed.
sub restore
{
	my ($name, $database, @command) = @_;
	if ($database ne 'app')
	{
		value($elsewhere, "CREATE DATABASE $database; ALTER DATABASE $database SET search_path = public, janitor");
	}
	return command_ok([ @command, '-d', $elsewhere->connstr($database),
		$command[0] eq 'psql' ? ('-f', "$dumps/$name") : "$dumps/$name" ], "@command $name");
}

my @psql = ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1');
my %formats = (
	plain => [ [ '-Fp' ], [ @psql ] ],
	custom => [ [ '-Fc' ], [ 'pg_restore', '-e', '-1' ] ],
	directory => [ [ '-Fd', '-j2' ], [ 'pg_restore', '-e', '-j3' ] ],
	extension => [ [ '-Fp', '--extension=pg_janitor' ], [ @psql ] ]);

for my $format (sort keys %formats)
{
	subtest "dump: $format" => sub {
		my ($dump, $restore) = @{ $formats{$format} };
		my $offset = log_size($elsewhere);
		dump_as_backup($format, @$dump);
		restore($format, "as_$format", @$restore);
		is_deeply(content($elsewhere, $running, "as_$format"), $all, 'all of it is there');
		eventually_is($elsewhere, "SELECT status || ': ' || detail FROM job_execution WHERE id = $running",
			'interrupted: it was in progress when the database was copied', 'a run in progress has ended', "as_$format");
		logs($elsewhere, qr/LOG:  10 jobs of database "as_$format" are disarmed/, $offset, 'the log says that nothing runs');
		is_deeply(content($elsewhere, $running, "as_$format"), $all, 'and nothing has followed from anything');
		is(value($elsewhere, q{SELECT count(*) FROM job_queue WHERE key = '@schedule'}, "as_$format"), 0, 'there is no next occurrence');
		is(value($elsewhere, q{SELECT string_agg(DISTINCT health, ' ') FROM job_status}, "as_$format"), 'disarmed', 'job_status says so');
		like(sql_error($elsewhere, q{SELECT job_trigger('probe')}, database => "as_$format"),
			qr/WARNING:  55000: job "probe" will not run: it was made in another database.*job_rearm/s, 'job_trigger() says so');
	};
}

unlike(slurp_file("$dumps/plain"), qr/COPY \S*job_mask_secret|job_home|\t\@schedule\t/,
	'neither secrets, nor the home, nor next occurrences are dumped');

subtest 'dump: schema only' => sub {
	dump_as_backup('schema', '--schema-only');
	restore('schema', 'as_schema', @psql);
	is(value($elsewhere, q{SELECT count(*) FROM job_definition}, 'as_schema'), 0, 'there is no job');
	effect_job($elsewhere, 'new', undef, 'as_schema');
	is(run_job($elsewhere, 'new', undef, 'as_schema')->{status}, 'succeeded', 'new ones run');
};

# Table by table, as slow as can be: each time our processes have seen it
# before the next one comes.
subtest 'a restore into a database that is in use' => sub {
	value($elsewhere, q{CREATE DATABASE in_use; ALTER DATABASE in_use SET search_path = public, janitor});
	value($elsewhere, q{CREATE SCHEMA janitor; CREATE EXTENSION pg_janitor SCHEMA janitor}, 'in_use');
	prepare_effects($elsewhere, 'in_use');
	value($elsewhere, q{SELECT setval('job_execution_id_seq', 1000)}, 'in_use');
	effect_job($elsewhere, 'own', "schedule => '* * * * * *'", 'in_use');
	my $load = sub {
		my ($table) = @_;
		my $rows = value($original, "COPY $table TO STDOUT", 'app');
		value($elsewhere, "COPY $table FROM stdin;\n$rows\n\\.\n", 'in_use');
		return is(run_job($elsewhere, 'own', undef, 'in_use')->{status}, 'succeeded', "$table is loaded, and was looked at");
	};
	my $open = q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM job_execution WHERE status = 'running' AND id < 1000};

	$load->('job_execution');
	is(value($elsewhere, $open, 'in_use'), "$is->{claimed} $running", 'what is in progress waits for its job to be loaded');
	$load->('job_definition');
	is(value($elsewhere, $open, 'in_use'), $is->{claimed}, 'what a worker outside has, for its lease');
	$load->('job_lease');
	is(value($elsewhere, $open, 'in_use'), $is->{claimed}, 'and then goes on');
	eventually_is($elsewhere, "SELECT status || ': ' || detail FROM job_execution WHERE id = $running",
		'interrupted: it was in progress when the database was copied', 'the other one has ended', 'in_use');

	my $since = value($elsewhere, 'SELECT clock_timestamp()');
	eventually_is($elsewhere, "SELECT count(*) >= 2 FROM effect WHERE at > '$since' AND job = 'own'", 't',
		'jobs that were here run on', 'in_use');
	is(value($elsewhere, q{SELECT count(*) FROM job_status WHERE health = 'disarmed'}, 'in_use'), 10, 'those that came do not');
	is(value($elsewhere, q{SELECT count(*) FROM job_execution WHERE id > 1000 AND job_name <> 'own'}, 'in_use'), 0, 'not even a row');
};

release_lock($is->{session});

# --- after the restore ---

subtest 'job_rearm() after a restore' => sub {
	my $database = 'as_custom';
	my $since = value($elsewhere, 'SELECT clock_timestamp()');
	value($elsewhere, q{SELECT job_resume('tick'); SELECT job_resume('of nobody')}, $database);
	my $said = sql_error($elsewhere, 'SELECT job_rearm()', database => $database);
	like($said, qr/WARNING: .*job "of nobody" is held: role "gone" does not exist/, 'it says who is missing');
	like($said, qr/WARNING: .*job "purge lost" will fail: relation public.lost does not exist/, 'and what');
	is(() = $said =~ /WARNING/g, 2, 'and no more');

	goes_on($elsewhere, 'rearmed', $database);
	like(outcome($elsewhere, $is->{replay}, $database)->{error_message}, qr/key/, 'a replay that waited needs a key that is in no dump');
	is(value($elsewhere, "SELECT count(*) FROM job_execution WHERE job_name = 'tick'
		AND started_at > '$since' AND scheduled_for < '$since'", $database), 0, 'nothing is made up for');
	like(value($elsewhere, q{SELECT health || ' ' || health_detail FROM job_status WHERE job_name = 'of nobody'}, $database),
		qr/^held role "gone" does not exist/, 'without its owner a job is held');
	like(run_job($elsewhere, 'purge lost', undef, $database)->{error_message}, qr/public.lost does not exist/,
		'without its table it fails');
	is(run_job($elsewhere, 'purge', undef, $database)->{records_processed}, 93, 'rules are there');
	is(value($elsewhere, 'SELECT count(*) FROM session WHERE id <= 7', $database), 7, 'so are holds');
	is(value($elsewhere, q{SELECT item_key FROM job_failed_items WHERE dead}, $database), 2, 'a dead item is dead');
	is(run_job($elsewhere, 'accounts', undef, $database)->{records_processed}, 0, 'and not tried again');
	is(value($elsewhere, q{SELECT state FROM job_circuits}, $database), 'open', 'an open circuit is open');
	is(value($elsewhere, q{SELECT job_trigger('probe', run_at => now() + interval '2 days', key => 'later')}, $database),
		$is->{later}, 'a delayed trigger is there, with its id and its key');
	cmp_ok(trigger($elsewhere, 'probe', undef, $database), '>', value($original, 'SELECT max(id) FROM job_execution', 'app'),
		'ids go on');
	is(value($elsewhere, "SELECT job_retry($running) > $running", $database), 't', 'what was interrupted can be retried');

	# who may do what
	is(value($elsewhere, "SET ROLE worker; SELECT count(*) FROM job_claim('copy')", $database), 0,
		'a rate limit is in force, for a worker who may claim');
	is(value($elsewhere, "SET ROLE worker; SELECT job_finish($is->{claimed}, '$is->{token}')", $database), 'succeeded',
		'and finish what he had claimed in the original');
	is(value($elsewhere, q{SET ROLE app; SELECT count(*) FROM job_status}, $database), 9, 'owners see their jobs');
	is(value($elsewhere, q{SET ROLE app; SELECT job_schedule('more', NULL, 'SELECT 1') IS NULL}, $database), 't', 'and define others');
	like(sql_error($elsewhere, q{SET ROLE app; SELECT job_mask_email('x', 'tenant')}, database => $database),
		qr/55000/, 'masks do not go on with another secret unasked');
	ledger_is_true($elsewhere, 'rearmed', $database);
};

subtest 'a dump of the restored database' => sub {
	value($elsewhere, q{SELECT job_pause()}, 'as_custom');
	eventually_is($elsewhere, q{SELECT count(*) FROM job_running()}, 0, 'it rests', 'as_custom');
	command_ok([ 'pg_dump', '-Fc', '-f', "$dumps/again", '-d', $elsewhere->connstr('as_custom') ], 'it can be dumped');
	restore('again', 'again', 'pg_restore', '-e');
	is(value($elsewhere, 'SELECT count(*) FROM job_definition', 'again'), 11, 'and restored');
	is(value($elsewhere, q{SELECT string_agg(DISTINCT health, ' ') FROM job_status}, 'again'), 'disarmed', 'disarmed');
};

subtest 'a server that has not loaded the library' => sub {
	$elsewhere->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$elsewhere->restart;
	value($elsewhere, 'CREATE DATABASE unloaded; ALTER DATABASE unloaded SET search_path = public, janitor');
	my ($stdout, $stderr) = run_command([ @psql, '-d', $elsewhere->connstr('unloaded'), '-f', "$dumps/plain" ]);
	like($stderr, qr/WARNING:  pg_janitor is not loaded: jobs will not run/, 'a restore warns');
	is_deeply(content($elsewhere, $running, 'unloaded'), $all, 'and all of it is there');
};

no_accident($original);
no_accident($elsewhere);
$original->stop;
$elsewhere->stop;
done_testing();
