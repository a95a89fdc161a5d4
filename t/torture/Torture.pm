package Torture;

# The torture test: hundreds of jobs due every few seconds, applications that
# trigger and cancel, and a loop that kills whatever can be killed; then the
# invariants that must hold whatever happened, checked in SQL (invariants.sql).
#
#	torture(seed => N, kills => N, copies => N)
#
# The seed fixes what is killed in which order, not at which instant: the loop
# waits for a number of further runs, then strikes.  Kinds of strikes: see
# %strike below.  copies: how many plain jobs there are in each database.

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(torture);

(my $here = __FILE__) =~ s{[^/]*$}{};
$here = '.' if $here eq '';

use constant WORKERS => 6;
use constant PATIENCE => 180;    # seconds, for whatever has to come

my @databases = ('postgres', 'second');
my ($node, $standbys, $offset, $directory, @clients, %count, $stuck);

# --- small things ---

# Numbers of our own: the seed's sequence is not for others to draw from.
my $state;

sub dice
{
	$state = ($state * 1103515245 + 12345) & 0x7fffffff;
	return ($state >> 8) / (1 << 23) * (shift // 1);
}

sub chance { return dice() < shift; }

sub between { my ($low, $high) = @_; return $low + int(dice($high - $low + 1)); }

sub shuffled
{
	my @list = @_;
	for (my $i = @list - 1; $i > 0; $i--)
	{
		my $j = int(dice($i + 1));
		@list[ $i, $j ] = @list[ $j, $i ];
	}
	return @list;
}

# What a query prints; undef if the server does not answer now.
sub query
{
	my ($sql, $database, $on) = @_;
	my ($out, $err) = ('', '');
	my $status;

	# it dies where psql ends before it has read its input
	eval {
		$status = ($on // $node)->psql($database // 'postgres', $sql,
			stdout => \$out, stderr => \$err, on_error_die => 0, timeout => 60);
	};
	return defined $status && $status == 0 ? $out : undef;
}

# Waits for a query to say t, through crashes and restarts.
sub wait_until
{
	my ($sql, $what, $database) = @_;
	my $deadline = time + PATIENCE;

	return if $stuck;
	until ((query($sql, $database) // '') eq 't')
	{
		if (time > $deadline)
		{
			$stuck = "$what did not come within " . PATIENCE . ' s';
			diag($stuck);
			diag(query(<<'SQL') // 'the server does not answer');
SELECT pid, backend_type, datname, usename, state, wait_event, left(query, 60)
FROM pg_stat_activity WHERE pid <> pg_backend_pid();
SELECT 'running', id, job_name, started_at FROM job_execution WHERE status = 'running';
SELECT count(*), min(run_at), now() FROM job_queue WHERE run_at < now();
SQL
			return;
		}
		usleep(30_000);
	}
	return;
}

sub wait_runs
{
	my ($runs) = @_;
	my $database = $databases[ int(dice(scalar @databases)) ];
	my $base;
	my $deadline = time + PATIENCE;

	until (defined($base = query('SELECT coalesce(max(id), 0) FROM job_execution', $database))
		|| time > $deadline)
	{
		usleep(30_000);
	}
	$base //= 0;
	wait_until("SELECT count(*) >= $runs FROM job_execution WHERE id > $base AND status = 'succeeded'",
		"$runs more runs in $database", $database);
	return;
}

# --- strikes ---

# A process of this kind, once there is one.
sub find_process
{
	my ($kind) = @_;
	my $condition = "backend_type = 'pg_janitor $kind'";
	my $deadline = time + PATIENCE;
	my @pids;

	until (@pids || time > $deadline)
	{
		@pids = split /\n/, query("SELECT pid FROM pg_stat_activity WHERE $condition ORDER BY state = 'active', pid") // '';
		usleep(10_000) if !@pids;
	}
	$stuck //= "no $kind came within " . PATIENCE . ' s' if !@pids;

	# the last ones are in a run
	return @pids ? $pids[ int(sqrt(dice()) * @pids) ] : undef;
}

sub kill_9
{
	my $pid = find_process(@_);
	kill 'KILL', $pid if $pid;
	return;
}

sub terminate
{
	my $pid = find_process(@_);
	query("SELECT pg_terminate_backend($pid)") if $pid;
	return;
}

sub cancel
{
	my $pid = find_process(@_);
	query("SELECT pg_cancel_backend($pid)") if $pid;
	return;
}

# All processes of the server have to be gone before it can be started again.
sub kill_postmaster
{
	my @pids = split /\n/, query('SELECT pid FROM pg_stat_activity') // '';
	my $deadline = time + PATIENCE;

	$node->kill9;
	usleep(10_000) while time < $deadline && grep { kill 0, $_ } @pids;
	$node->start;
	return;
}

sub restart
{
	my ($mode) = @_;
	$node->stop($mode);
	$node->start;
	return;
}

sub shut_down_fast
{
	$node->append_conf('postgresql.conf', 'pg_janitor.shutdown_grace = ' . between(0, 2));
	$node->reload;
	return restart('fast');
}

sub reload
{
	$node->append_conf('postgresql.conf', 'work_mem = ' . between(1000, 9000));
	$node->reload;
	return;
}

# The scheduler's clock jumps over more than what counts as missed.
sub advance_clock
{
	$offset += between(62, 100);
	$node->append_conf('postgresql.conf', "pg_janitor.debug_clock_offset = $offset");
	$node->reload;
	return;
}

sub announce
{
	open(my $out, '>', "$directory/server.new") or die "$directory: $!";
	print $out $node->host, ' ', $node->port, "\n";
	close $out;
	rename("$directory/server.new", "$directory/server") or die "$directory: $!";
	return;
}

# A standby is made, catches up, and takes over after an orderly stop of the
# primary, or after it died (then commits have waited for the standby).
sub promote
{
	my ($mode) = @_;
	my $name = 'standby' . ++$standbys;
	my $standby = PostgreSQL::Test::Cluster->new($name);
	my $old = $node;

	wait_until('SELECT NOT pg_is_in_recovery()', 'the primary');
	return if $stuck;
	$node->backup($name);
	$standby->init_from_backup($node, $name, has_streaming => 1);
	$standby->start;
	if ($mode eq 'immediate')
	{
		$node->append_conf('postgresql.conf', "synchronous_standby_names = '*'");
		$node->reload;
		wait_until("SELECT bool_or(sync_state = 'sync') FROM pg_stat_replication", 'a synchronous standby');
	}
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	is(query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_janitor%'", 'postgres', $standby),
		'0', "$name is silent");
	wait_runs(between(10, 60));
	$node->stop($mode);
	$standby->promote;
	$node = $standby;
	announce();
	$old->clean_node;
	return;
}

my %strike = (
	'kill -9 worker' => sub { kill_9('worker') },
	'kill -9 scheduler' => sub { kill_9('scheduler') },
	'kill -9 launcher' => sub { kill_9('launcher') },
	'kill -9 postmaster' => \&kill_postmaster,
	'terminate worker' => sub { terminate('worker') },
	'terminate scheduler' => sub { terminate('scheduler') },
	'terminate launcher' => sub { terminate('launcher') },
	'cancel worker' => sub { cancel('worker') },
	'immediate stop' => sub { restart('immediate') },
	'fast stop' => \&shut_down_fast,
	'reload' => \&reload,
	'clock' => \&advance_clock,
	'promotion' => sub { promote('fast') },
	'promotion after a crash' => sub { promote('immediate') });

my %harmless = map { $_ => 1 } 'reload', 'clock', 'cancel worker';

# Each kind at least once in each 15 kills.
sub deck
{
	return shuffled(
		('kill -9 worker') x 2, 'kill -9 scheduler', 'kill -9 launcher', ('kill -9 postmaster') x 2,
		('terminate worker') x 2, 'terminate scheduler', 'terminate launcher', 'cancel worker',
		'immediate stop', ('fast stop') x 2, 'reload', 'clock',
		chance(0.5) ? 'promotion' : 'promotion after a crash');
}

sub chaos
{
	my ($kills) = @_;
	my @strikes;
	my $done = 0;

	while ($done < $kills && !$stuck)
	{
		@strikes = deck() if !@strikes;
		my $what = shift @strikes;

		# one in four strikes before the server has come to itself
		wait_runs(chance(0.25) ? 1 : between(10, 120));
		last if $stuck;
		note(sprintf '%s: strike %d: %s', scalar localtime, $done + 1, $what);
		$strike{$what}->();
		$count{$what}++;
		$done++ if !$harmless{$what};

		# the third crash in a row pauses a job; skips count, so let it go on
		if (chance(0.3))
		{
			query('SELECT job_resume()', $_) foreach @databases;
		}
	}
	return $done;
}

# --- before and after ---

sub set_up
{
	my ($copies, $fsync) = @_;

	$node = PostgreSQL::Test::Cluster->new('primary');
	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'pg_janitor'
restart_after_crash = on
fsync = $fsync
shared_buffers = 64MB
max_connections = 60
max_worker_processes = 40
max_prepared_transactions = 100
log_statement = none
log_line_prefix = '%m %b[%p] %q%a '
pg_janitor.max_workers = @{[WORKERS]}
pg_janitor.log_runs = none
pg_janitor.shutdown_grace = 1
CONF
	$node->start;
	query('CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE DATABASE second');
	foreach my $database (@databases)
	{
		my ($out, $err) = ('', '');
		query('CREATE EXTENSION pg_janitor', $database);
		IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', "copies=$copies",
				'-h', $node->host, '-p', $node->port, '-d', $database, '-f', "${here}setup.sql" ],
			'>', \$out, '2>', \$err) or die "setup.sql: $err";
	}
	$directory = PostgreSQL::Test::Utils::tempdir();
	announce();
	return;
}

sub start_clients
{
	my ($seed) = @_;
	my $n = 0;

	foreach my $database (@databases)
	{
		push @clients, IPC::Run::start([ $^X, "${here}client.pl", $directory, $database, $seed * 10 + $n++ ]);
	}
	return;
}

sub stop_clients
{
	open(my $out, '>', "$directory/stop") or die "$directory/stop: $!";
	close $out;
	$_->finish foreach @clients;
	@clients = ();
	return;
}

# What the clients' logs say became of their triggers, into torture.triggers.
sub load_triggers
{
	my ($database) = @_;
	my (%prepared, %intended, %waiting, @rows);

	$waiting{$_} = 1 foreach split /\n/,
	  query("SELECT gid FROM pg_prepared_xacts WHERE database = '$database'", $database) // '';
	foreach (split /\n/, slurp_file("$directory/$database.log"))
	{
		if (/^C (\S+) (\d+) (\d)/) { push @rows, "($2, '$1', '$3', true)"; }
		elsif (/^R (\S+) (\d+)/) { push @rows, "($2, '$1', false, false)"; }
		elsif (/^P (\S+) (\S+) (\d+)/) { $prepared{$1} = $3; }
		elsif (/^I (\S+) ([CR])/) { $intended{$1} = $2; }
		elsif (/^#/) { note("client of $database: $_"); }
	}
	foreach my $gid (keys %waiting)
	{
		my $what = $intended{$gid} //= chance(0.7) ? 'C' : 'R';
		query(($what eq 'C' ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'", $database);
	}
	foreach my $gid (sort keys %prepared)
	{
		push @rows, "($prepared{$gid}, '$gid', false, " . ($intended{$gid} eq 'C' ? 'true' : 'false') . ')'
		  if $intended{$gid};
	}
	query('INSERT INTO torture.triggers VALUES ' . join(', ', @rows), $database) if @rows;
	return scalar @rows;
}

# The schedules end, at an occurrence that is noted; then the queue drains.
sub drain
{
	foreach my $database (@databases)
	{
		wait_until(<<'SQL', 'the end of the schedules', $database);
DO $$
DECLARE
	job text;
	next timestamptz;
BEGIN
	PERFORM job_resume();
	FOR job IN SELECT name FROM torture.jobs WHERE schedule IS NOT NULL LOOP
		SELECT scheduled_for INTO next FROM job_queue
		WHERE job_name = job AND key = '@schedule' FOR UPDATE;
		PERFORM job_disable(job);
		UPDATE torture.jobs SET stop = next WHERE name = job;
	END LOOP;
END $$;
SELECT true
SQL
		load_triggers($database);
	}
	foreach my $database (@databases)
	{
		wait_until(<<'SQL', "the end of all runs in $database", $database);
SELECT NOT EXISTS (SELECT FROM job_queue)
	AND NOT EXISTS (SELECT FROM job_execution WHERE status = 'running')
	OR job_resume() > 1000
SQL
	}
	return;
}

sub load_invariants
{
	my $file = $node->data_dir . '/everywhere';

	foreach my $database (@databases)
	{
		query("COPY (SELECT started_at, completed_at FROM job_execution WHERE status IN ('succeeded', 'failed')) TO '$file.$database'",
			$database);
		query(slurp_file("${here}invariants.sql"), $database);
	}
	foreach my $database (@databases)
	{
		query("COPY torture.everywhere FROM '$file.$_'", $database)
		  foreach grep { $_ ne $database } @databases;
		query('ANALYZE', $database);
	}
	return;
}

sub violations
{
	my ($database) = @_;
	return query('SELECT rule, detail FROM torture.violations(' . WORKERS . ') ORDER BY 1, 2 LIMIT 100', $database)
	  // 'the invariants could not be checked';
}

# --- the checker itself ---

# Each is done and rolled back; the rule has to speak up.
my @tampering = (
	[ '1 one mark', 'a mark is missing', 'DELETE FROM torture.marks WHERE ctid = (SELECT min(ctid) FROM torture.marks)' ],
	[ '1 one mark', 'a mark too many', "INSERT INTO torture.marks SELECT id, job_name, scheduled_for FROM torture.runs WHERE marks AND status NOT IN ('succeeded', 'skipped') LIMIT 1" ],
	[ '1 the records', 'a wrong count', "UPDATE job_execution SET records_processed = 2 WHERE id = (SELECT max(id) FROM torture.runs WHERE marks AND status = 'succeeded')" ],
	[ '2 no execution', 'a mark twice', 'INSERT INTO torture.marks SELECT * FROM torture.marks LIMIT 1' ],
	[ '3 no occurrence twice', 'an occurrence twice', "INSERT INTO job_execution (id, job_name, scheduled_for, started_at, completed_at, status, reason) SELECT 100000000 + id, job_name, scheduled_for, completed_at, completed_at, 'failed', reason FROM torture.runs WHERE occurrence AND status = 'succeeded' LIMIT 1" ],
	[ '3 every occurrence is one row', 'an occurrence lost', "DELETE FROM job_execution WHERE id = (SELECT max(id) FROM torture.runs WHERE occurrence AND job_name = 'nothing_1')" ],
	[ '3 every occurrence is one row', 'a skip not counted', "UPDATE job_execution SET skipped = skipped - 1 WHERE id = (SELECT max(id) FROM job_execution WHERE status = 'skipped')" ],
	[ '3 every occurrence is one of', 'not of the schedule', "UPDATE job_execution SET scheduled_for = scheduled_for + interval '1 ms' WHERE id = (SELECT max(id) FROM torture.runs WHERE occurrence AND job_name = 'nothing_1')" ],
	[ '4 max_running', 'an overlap', "UPDATE job_execution SET completed_at = completed_at + interval '1 min' WHERE id = (SELECT min(id) FROM job_execution WHERE job_name = 'plain_3' AND status = 'succeeded')" ],
	[ '4 max_workers', 'too many at once', "INSERT INTO torture.everywhere SELECT min(started_at), max(completed_at) FROM job_execution, generate_series(1, 6) i GROUP BY i" ],
	[ '5 no run left', 'an open run', "UPDATE job_execution SET status = 'running', completed_at = NULL WHERE id = (SELECT max(id) FROM job_execution)" ],
	[ '6 a retry follows', 'a retry of nothing', "UPDATE job_execution SET retry_of = -1 WHERE id = (SELECT max(id) FROM job_execution WHERE reason = 'retry')" ],
	[ '6 a failure has', 'a retry lost', "DELETE FROM job_execution WHERE id = (SELECT max(id) FROM job_execution WHERE reason = 'retry')" ],
	[ '6 a success has', 'a child lost', "DELETE FROM job_execution WHERE id = (SELECT max(id) FROM job_execution WHERE reason = 'after')" ],
	[ '6 run_after', 'a child of a failure', "UPDATE job_execution SET parent_id = (SELECT max(id) FROM job_execution WHERE status <> 'succeeded') WHERE id = (SELECT max(id) FROM job_execution WHERE reason = 'after')" ],
	[ '6 on_failure is told', 'a failure not told', "DELETE FROM job_execution WHERE id = (SELECT max(id) FROM job_execution WHERE reason = 'failure')" ],
	[ '7 a committed', 'a trigger lost', 'DELETE FROM job_execution WHERE id = (SELECT max(execution_id) FROM torture.triggers WHERE committed)' ],
	[ '7 a trigger rolled', 'a trigger too many', "UPDATE job_execution SET args = jsonb_build_object('token', (SELECT min(token) FROM torture.triggers WHERE NOT committed)) WHERE id = (SELECT max(execution_id) FROM torture.triggers WHERE committed)" ],
	[ '8 what is recorded', 'a row gone and not recorded', "UPDATE torture.fed SET expired = expired + 1 WHERE ctid = (SELECT min(ctid) FROM torture.fed)" ],
	[ '8 what is recorded', 'a row recorded and not gone', "UPDATE job_execution SET records_processed = records_processed + 1 WHERE id = (SELECT max(id) FROM job_execution WHERE job_name = 'purge_5' AND records_processed > 0)" ],
	[ '8 what has not expired', 'a live row gone', "DELETE FROM torture.rows_1 WHERE id = (SELECT id FROM torture.rows_1 WHERE at > now() - interval '1 day' LIMIT 1)" ],
	[ '8 what is archived', 'an archived row lost', "DELETE FROM torture.archive_4 WHERE ctid = (SELECT min(ctid) FROM torture.archive_4)" ],
	[ '9 who is recorded', 'somebody recorded and not erased', "UPDATE torture.people_1 SET erased_by = NULL WHERE id = (SELECT min(id) FROM torture.people_1 WHERE erased_by IS NOT NULL)" ],
	[ '9 who is recorded', 'somebody erased and not recorded', "UPDATE job_execution SET records_processed = records_processed - 1 WHERE id = (SELECT max(id) FROM job_execution WHERE job_name = 'erase_2' AND records_processed > 0)" ],
	[ '9 nobody is erased by halves', 'half an erasure', "INSERT INTO torture.things_2 SELECT min(id) FROM torture.people_2 WHERE erased_by IS NOT NULL" ],
	[ '9 who failed', 'a failure of somebody who can be erased', "UPDATE torture.people_1 SET stays = false WHERE id = (SELECT min(item_key::bigint) FROM job_item_failure WHERE job_name = 'erase_1')" ],
	[ '9 who is erased', 'a receipt lost', "DELETE FROM job_receipt WHERE (job_name, number) = (SELECT job_name, max(number) FROM job_receipt WHERE job_name = 'erase_2' GROUP BY 1)" ],
	[ '9 who is erased', 'a receipt of somebody else', "UPDATE job_receipt SET subject = sha256(subject) WHERE job_name = 'erase_3' AND number = 1" ],
	[ '9 who is erased', 'a receipt of another run', "UPDATE job_receipt SET execution_id = execution_id + 1 WHERE job_name = 'erase_1' AND number = 1" ],
	[ '9 the receipts', 'a receipt that was altered', "UPDATE job_receipt SET verified = NOT verified WHERE job_name = 'erase_1' AND number = 2" ],
	[ '10 the counters', 'a run not counted', "UPDATE job_counter SET succeeded = succeeded - 1 WHERE ctid = (SELECT min(ctid) FROM job_counter)" ]);

sub check_checker
{
	subtest 'the checker finds what is wrong' => sub {
		foreach my $case (@tampering)
		{
			my ($rule, $what, $sql) = @$case;
			my $found = query("BEGIN; $sql; SELECT count(*) > 0 FROM torture.violations(" . WORKERS . ") WHERE starts_with(rule, '$rule'); ROLLBACK");
			is($found, 't', $what);
		}
	};
	return;
}

# --- the whole ---

sub torture
{
	my %options = (seed => 1, kills => 15, copies => 30, fsync => 'off', @_);
	my $began = time;

	local $SIG{PIPE} = 'IGNORE';
	$state = $options{seed};
	dice() foreach 1 .. 10;
	($standbys, $offset, $stuck, %count) = (0, 0, undef);
	note("seed $options{seed}, $options{kills} kills, $options{copies} copies");
	set_up($options{copies}, $options{fsync});
	start_clients($options{seed});
	my $kills = chaos($options{kills});
	stop_clients();
	drain();
	load_invariants();

	diag(sprintf "seed %d: %d kills in %d s", $options{seed}, $kills, time - $began);
	diag("  $_: $count{$_}") foreach sort keys %count;
	foreach my $database (@databases)
	{
		diag("$database: " . (query('TABLE torture.summary', $database) // ''));
	}
	is($stuck, undef, 'nothing got stuck');
	is($kills, $options{kills}, "$options{kills} kills");
	is(violations($_), '', "the invariants hold in $_") foreach @databases;
	check_checker();
	$node->stop('fast');
	return;
}

END
{
	# a test that dies leaves no clients behind
	local $?;
	stop_clients() if @clients;
}

1;
