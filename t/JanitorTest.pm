package JanitorTest;

# What the TAP tests share: a server with pg_janitor in it, defining and
# running jobs, looking at what became of them.
#
# Nothing here sleeps.  Tests wait for the end of a run (run_job, wait_run)
# or for a condition (poll_query_until), at most PG_TEST_TIMEOUT_DEFAULT.

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(janitor_node define_job run_job trigger wait_run execution
  sql_error literal wait_started eventually set_clock $LONG hold_lock
  release_lock UNTIL_RELEASED quiet_log set_setting quickest on_time);

# The body of a job that ends only when something ends it.
our $LONG = 'SELECT pg_sleep(600)';    # a job that takes long

# The body of a job that ends when the test says so: see hold_lock().
use constant UNTIL_RELEASED => 'SELECT pg_advisory_xact_lock(4711)';

my $decoder = JSON::PP->new->allow_bignum->allow_nonref->utf8(0);

# A started server with the extension in its database postgres, and the given
# lines in its configuration.
sub janitor_node
{
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', join("\n",
		"shared_preload_libraries = 'pg_janitor'",
		"log_line_prefix = '%m %b[%p] %q%a '",
		@settings) . "\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_janitor');
	return $node;
}

# An SQL literal of any text.
sub literal
{
	my ($text) = @_;
	return 'NULL' if !defined $text;
	$text =~ s/'/''/g;
	return $text =~ s/\\/\\\\/g ? "E'$text'" : "'$text'";
}

# Defines a job that runs on demand, unless $options says otherwise: more
# arguments of job_schedule(), as SQL (`owner => 'alice'`).
sub define_job
{
	my ($node, $name, $command, $options, $database) = @_;
	my $sql = 'SELECT job_schedule(' . literal($name) . ', ' .
	  ($options && $options =~ /\bschedule =>/ ?
		  'command => ' : 'NULL, ') . literal($command) .
	  ($options ? ", $options" : '') . ')';
	return $node->safe_psql($database || 'postgres',
		"SET client_min_messages = error; $sql");
}

# Triggers a run; its execution id.  $arguments: more arguments, as SQL.
sub trigger
{
	my ($node, $name, $arguments, $database) = @_;
	return $node->safe_psql($database || 'postgres',
		'SELECT job_trigger(' . literal($name) .
		($arguments ? ", $arguments" : '') . ')');
}

# Waits for a run to end; its row in job_execution, as a hash.  In pieces: a
# run that needs old snapshots to be gone waits for the one of job_wait().
sub wait_run
{
	my ($node, $id, $database) = @_;
	my $timeout = $PostgreSQL::Test::Utils::timeout_default;
	my $row = $node->safe_psql($database || 'postgres', qq{
		DO \$\$
		BEGIN
			FOR i IN 1 .. $timeout LOOP
				EXIT WHEN job_wait($id, '1 s') IS NOT NULL;
				COMMIT;
			END LOOP;
		END \$\$;
		SELECT to_jsonb(e) FROM job_execution e WHERE id = $id});
	die "execution $id has not begun" if $row !~ /(\{.*\})/s;
	return $decoder->decode($1);
}

# Triggers a run and waits for its end.
sub run_job
{
	my ($node, $name, $arguments, $database) = @_;
	return wait_run($node, trigger($node, $name, $arguments, $database),
		$database);
}

# A row of job_execution as it is now; undef if there is none.
sub execution
{
	my ($node, $id, $database) = @_;
	my $row = $node->safe_psql($database || 'postgres',
		"SELECT to_jsonb(e) FROM job_execution e WHERE id = $id");
	return $row eq '' ? undef : $decoder->decode($row);
}

# Waits until a worker carries out this run; its process id.
sub wait_started
{
	my ($node, $id, $database) = @_;
	$database ||= 'postgres';
	eventually($node,
		"SELECT count(pid) = 1 FROM job_running() WHERE execution_id = $id",
		"execution $id was started", $database);
	return $node->safe_psql($database,
		"SELECT pid FROM job_running() WHERE execution_id = $id");
}

# Waits for a condition; says nothing if it comes, dies if it does not.
sub eventually
{
	my ($node, $query, $what, $database) = @_;
	$node->poll_query_until($database || 'postgres', $query)
	  or die "gave up waiting: $what";
	return;
}

# What psql prints to stderr, with SQLSTATEs.
sub sql_error
{
	my ($node, $sql, %options) = @_;
	my ($stdout, $stderr) = ('', '');
	$node->psql($options{database} || 'postgres', $sql,
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0,
		extra_params => [ '-v', 'VERBOSITY=verbose',
			($options{user} ? ('-U', $options{user}) : ()) ]);
	return $stderr;
}

# Jobs whose body is UNTIL_RELEASED run until release_lock().
sub hold_lock
{
	my ($node, $database) = @_;
	my $session = $node->background_psql($database || 'postgres');
	$session->set_query_timer_restart;    # however long it is held
	$session->query_safe('SELECT FROM pg_advisory_lock(4711)');
	return $session;
}

sub release_lock
{
	my ($session) = @_;
	$session->query_safe('SELECT FROM pg_advisory_unlock_all()');
	$session->quit;
	return;
}

# A duration that has a limit, on a machine that others use too: measured until
# it is below the limit, at most five times.  The least of what was measured.
sub quickest
{
	my ($limit, $measure) = @_;
	my $best;

	for (1 .. 5)
	{
		my $took = $measure->();
		$best = $took if !defined $best || $took < $best;
		last if $best < $limit;
	}
	return $best;
}

# A condition: a job of each second has had three occurrences one after the
# other that all succeeded and began within so many seconds.  What delays every
# run lets that never come true; what a busy machine delays now and then does.
sub on_time
{
	my ($job, $limit, $since) = @_;
	$since ||= '-infinity';
	return "SELECT count(*) > 0 FROM (
		SELECT count(*) FILTER (WHERE status = 'succeeded'
				AND started_at < scheduled_for + interval '$limit s') OVER w AS good,
			max(scheduled_for) OVER w - min(scheduled_for) OVER w AS span
		FROM job_execution WHERE job_name = '$job' AND scheduled_for > '$since'
		WINDOW w AS (ORDER BY id ROWS 2 PRECEDING)) x
		WHERE good = 3 AND span = interval '2 s'";
}

# Changes a setting of the server and waits until a session has it.
sub set_setting
{
	my ($node, $name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	eventually($node, "SELECT reset_val = '$value' FROM pg_settings WHERE name = '$name'",
		"$name is $value");
	return;
}

# Sets the scheduler's clock to a time, an SQL expression.
sub set_clock
{
	my ($node, $time) = @_;
	my $offset = $node->safe_psql('postgres',
		"SELECT ceil(extract(epoch FROM $time - clock_timestamp()))::int");
	set_setting($node, 'pg_janitor.debug_clock_offset', $offset);
	return;
}

# No process of ours has died or complained.  To be called at a test's end;
# lines that match $expected are what the test has brought about itself.
sub quiet_log
{
	my ($node, $name, $expected) = @_;
	my $log = slurp_file($node->logfile);
	my @bad;

	$log =~ s/received (fast|smart) shutdown request.*?database system is shut down//gs;
	@bad = grep {
		/background worker "pg_janitor.*exited with exit code|terminated by signal|TRAP:|PANIC:|could not look at the queue/
		  && !($expected && /$expected/)
	} split /\n/, $log;
	is(join("\n", @bad), '', $name);
	return;
}

1;
