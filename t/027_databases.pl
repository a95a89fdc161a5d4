# Commands on databases, on the extension and on roles work as if pg_janitor
# had no idle processes; a run in progress is a session like any other.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('databases', 'pg_janitor.max_workers = 6');

# A database with jobs, whose scheduler and worker are connected.
sub database
{
	my ($name) = @_;
	value($node, "CREATE DATABASE $name");
	value($node, 'CREATE EXTENSION pg_janitor', $name);
	prepare_effects($node, $name);
	effect_job($node, 'probe', undef, $name);
	effect_job($node, 'tick', "schedule => '* * * * * *'", $name);
	goes_on($node, $name, $name);
	return busy($name);
}

sub busy
{
	my ($name) = @_;
	outcome($node, trigger($node, 'probe', undef, $name), $name);
	return eventually($node, "SELECT count(DISTINCT backend_type) = 2 FROM pg_stat_activity
		WHERE datname = '$name' AND backend_type ~ '^pg_janitor (scheduler|worker)'",
		"a scheduler and a worker are connected to $name");
}

sub seconds_since
{
	return value($node, "SELECT extract(epoch FROM clock_timestamp() - timestamptz '$_[0]')");
}

# How long a database takes that nobody is connected to.
sub baseline
{
	my $before = value($node, 'SELECT clock_timestamp()');
	value($node, 'CREATE DATABASE nobodys');
	value($node, 'DROP DATABASE nobodys');
	return seconds_since($before);
}

sub at_once_limit { return 1.2 + 3 * baseline(); }

# A command that has to succeed at once, with both connected: the server would
# give them five seconds to leave.
sub at_once
{
	my ($command, $limit) = @_;
	$limit ||= at_once_limit();
	my $offset = log_size($node);
	my $before = value($node, 'SELECT clock_timestamp()');
	my $error = sql_error($node, $command);
	my $took = seconds_since($before);
	is($error, '', "$command: works");
	cmp_ok($took, '<', $limit, "$command: at once");
	is(log_count($node, 'pg_janitor .*(ERROR|FATAL): .*(does not exist|connect)', $offset), 0,
		"$command: nothing complains");
	return;
}

# Runs go on, within a few seconds.
sub soon
{
	my ($name, $database) = @_;
	my $limit = 4 + 10 * baseline();
	my $before = value($node, 'SELECT clock_timestamp()');
	goes_on($node, $name, $database);
	return cmp_ok(seconds_since($before), '<', $limit, "$name: soon");
}

subtest 'ALTER DATABASE ... RENAME' => sub {
	database('one');
	at_once('ALTER DATABASE one RENAME TO two');
	soon('under the new name', 'two');
	ledger_is_true($node, undef, 'two');
};

subtest 'ALTER DATABASE ... SET TABLESPACE' => sub {
	my $space = PostgreSQL::Test::Utils::tempdir();
	value($node, "CREATE TABLESPACE elsewhere LOCATION '$space'");
	busy('two');
	at_once('ALTER DATABASE two SET TABLESPACE elsewhere');
	soon('in the new place', 'two');
	ledger_is_true($node, undef, 'two');
};

subtest 'CREATE DATABASE ... TEMPLATE' => sub {
	busy('two');
	at_once('CREATE DATABASE copy TEMPLATE two');
	soon('in the template', 'two');
	ledger_is_true($node, undef, 'two');
	is(value($node, q{SELECT count(*) FROM job_definition}, 'copy'), 2, 'the copy has the jobs');
};

subtest 'a run in progress is a session like any other' => sub {
	effect_job($node, 'stays', undef, 'two');
	my ($id, $pid) = start_stuck($node, 'stays', 'two');

	# the server waits five seconds for the others to leave
	for my $command ('DROP DATABASE two', 'CREATE DATABASE three TEMPLATE two')
	{
		like(sql_error($node, $command), qr/55006: .*is being accessed by other users/,
			"$command: the server's own error");
	}
	is(value($node, "SELECT pid FROM job_running() WHERE execution_id = $id", 'two'), $pid,
		'the run goes on');
	value($node, "SELECT job_cancel($id)", 'two');
	is(outcome($node, $id, 'two')->{status}, 'cancelled', 'until it ends');
	cmp_ok(quickest(5, sub {
		my $before = value($node, 'SELECT clock_timestamp()');
		like(sql_error($node, 'ALTER DATABASE two RENAME TO postgres'), qr/already exists/,
			'a command that fails');
		goes_on($node, 'afterwards', 'two');
		return seconds_since($before);
	}), '<', 5, 'keeps nobody out');
	soon('after commands that were refused', 'two');
	ledger_is_true($node, undef, 'two');
};

subtest 'DROP DATABASE' => sub {
	busy('two');
	at_once('DROP DATABASE two');
	value($node, 'CREATE DATABASE two');
	value($node, 'DROP DATABASE two');
	database('forced');
	my $limit = at_once_limit();
	trigger($node, 'probe', undef, 'forced');
	at_once('DROP DATABASE forced WITH (FORCE)', $limit);
	value($node, 'DROP DATABASE copy');
};

subtest 'one database of two' => sub {
	database('west');
	database('east');
	at_once('DROP DATABASE east');
	goes_on($node, 'in the other', 'west');
	ledger_is_true($node, undef, 'west');
};

subtest 'DROP EXTENSION, rolled back' => sub {
	my $session = $node->background_psql('west');
	$session->query_safe('SET client_min_messages = error; BEGIN; DROP EXTENSION pg_janitor');
	my $until = value($node, q{SELECT clock_timestamp() + interval '2.2 seconds'});
	eventually($node, "SELECT clock_timestamp() > '$until'", 'jobs have become due');
	$session->query_safe('ROLLBACK');
	goes_on($node, 'after the rollback', 'west');
	$session->query_safe('BEGIN; DROP EXTENSION pg_janitor; CREATE EXTENSION pg_janitor; ROLLBACK');
	$session->quit;
	goes_on($node, 'after a second', 'west');
	ledger_is_true($node, undef, 'west');
};

subtest 'DROP EXTENSION and CREATE EXTENSION' => sub {
	my $limit = at_once_limit();
	my $offset = log_size($node);
	my $before = value($node, 'SELECT clock_timestamp()');
	value($node, 'DROP EXTENSION pg_janitor', 'west');
	cmp_ok(seconds_since($before), '<', $limit, 'at once');
	eventually_is($node, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'west'
		AND backend_type ~ '^pg_janitor'}, 0, 'our processes have left');
	value($node, 'CREATE EXTENSION pg_janitor', 'west');
	value($node, 'TRUNCATE effect', 'west');
	effect_job($node, 'probe', undef, 'west');
	effect_job($node, 'tick', "schedule => '* * * * * *'", 'west');
	goes_on($node, 'created again', 'west');
	$node->safe_psql('west', q{BEGIN; DROP EXTENSION pg_janitor; CREATE EXTENSION pg_janitor;
		TRUNCATE effect; COMMIT});
	effect_job($node, 'probe', undef, 'west');
	effect_job($node, 'tick', "schedule => '* * * * * *'", 'west');
	goes_on($node, 'both in one transaction', 'west');
	$node->safe_psql('west', q{BEGIN; DROP EXTENSION pg_janitor; CREATE SCHEMA janitor;
		CREATE EXTENSION pg_janitor SCHEMA janitor; TRUNCATE effect; COMMIT;
		ALTER DATABASE west SET search_path = janitor, public});
	effect_job($node, 'probe', undef, 'west');
	effect_job($node, 'tick', "schedule => '* * * * * *'", 'west');
	goes_on($node, 'in another schema', 'west');
	ledger_is_true($node, undef, 'west');
	is(log_count($node, 'pg_janitor .*(ERROR|FATAL|could not look)', $offset), 0, 'nothing complains');
};

# Another version of the extension than the library's: what it looks like between
# the installation of new files and ALTER EXTENSION UPDATE, or the reverse.
subtest 'ALTER EXTENSION UPDATE' => sub {
  SKIP:
	{
		my $scripts = $node->config_data('--sharedir') . '/extension';
		skip "cannot write into $scripts", 1 if !-w $scripts;
		append_to_file("$scripts/pg_janitor--1.0--1.0test.sql",
			'ALTER TABLE job_queue SET (fillfactor = 75); CREATE FUNCTION job_test() RETURNS int LANGUAGE sql RETURN 1;');
		append_to_file("$scripts/pg_janitor--1.0test--1.0.sql",
			'ALTER TABLE job_queue SET (fillfactor = 80); DROP FUNCTION job_test();');
		effect_job($node, 'stays', undef, 'west');

		# with idle processes
		my $limit = at_once_limit();
		goes_on($node, 'before', 'west');
		my $session = $node->background_psql('west');
		my $before = value($node, 'SELECT clock_timestamp()');
		$session->query_safe(q{BEGIN; ALTER EXTENSION pg_janitor UPDATE TO '1.0test'});
		cmp_ok(seconds_since($before), '<', $limit, 'it waits for nobody');
		goes_on($node, 'not committed', 'west');
		$session->query_safe('ROLLBACK');
		$session->quit;
		goes_on($node, 'rolled back', 'west');

		# with a run in progress
		my ($id) = start_stuck($node, 'stays', 'west');
		value($node, q{ALTER EXTENSION pg_janitor UPDATE TO '1.0test'}, 'west');
		like(sql_error($node, q{SELECT job_trigger('probe')}, database => 'west'),
			qr/55000: .*library is version "1\.0" but .* version "1\.0test".*HINT: .*ALTER EXTENSION pg_janitor UPDATE/s,
			'with another version: an error that says what to do');
		value($node, q{ALTER EXTENSION pg_janitor UPDATE TO '1.0'}, 'west');
		goes_on($node, 'updated', 'west');
		value($node, "SELECT job_cancel($id)", 'west');
		is(outcome($node, $id, 'west')->{status}, 'cancelled', 'the run that was in progress can be ended');
		ledger_is_true($node, undef, 'west');
		unlink "$scripts/pg_janitor--1.0--1.0test.sql", "$scripts/pg_janitor--1.0test--1.0.sql";
	}
};

subtest 'a job that drops the extension it runs in' => sub {
	define_job($node, 'saw', 'DROP EXTENSION pg_janitor', undef, 'west');
	trigger($node, 'saw', undef, 'west');
	eventually_is($node, q{SELECT count(*) FROM pg_extension WHERE extname = 'pg_janitor'}, 0,
		'it is gone', 'west');
	eventually_is($node, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'west'
		AND backend_type ~ '^pg_janitor'}, 0, 'so are our processes');
	at_once('DROP DATABASE west');
};

subtest 'REASSIGN OWNED and DROP ROLE of the owner of a job' => sub {
	value($node, q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
		GRANT ALL ON effect, gate TO alice, bob});
	effect_job($node, 'hers', "owner => 'alice'");
	effect_job($node, 'probe');
	effect_job($node, 'tick', "schedule => '* * * * * *'");
	is(outcome($node, trigger($node, 'hers'))->{status}, 'succeeded', 'a worker is hers');
	my $lock = hold_lock($node);
	define_job($node, 'her_run', UNTIL_RELEASED, "owner => 'alice'");
	my $id = trigger($node, 'her_run');
	wait_started($node, $id);
	is(sql_error($node, 'REASSIGN OWNED BY alice TO bob; DROP OWNED BY alice; DROP ROLE alice'),
		'', 'both work with a worker of hers, as with a session of hers');
	release_lock($lock);
	like(outcome($node, $id)->{status}, qr/^(succeeded|failed)$/, 'her run in progress ends');
	$id = trigger($node, 'hers');
	goes_on($node, 'without her');
	like(value($node, q{SELECT health || ' ' || health_detail FROM job_status WHERE job_name = 'hers'}),
		qr/held.*alice/, 'her jobs are held');
	value($node, q{SELECT job_alter(name, '{"owner": "bob"}') FROM job_definition WHERE owner = 'alice'});
	is(outcome($node, $id)->{status}, 'succeeded', 'until they have another owner');
	is(execution($node, $id)->{run_as}, 'bob', 'who runs them');
	eventually_is($node, q{SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor worker' AND usename IS NULL}, 0, 'her workers have left');
	ledger_is_true($node);
};

no_accident($node);
$node->stop;
done_testing();
