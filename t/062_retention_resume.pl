# A retention run that is cut off, however, keeps what it has done and has
# recorded it; the next one goes on from there, with the instant that ages
# count from, and what both have recorded is what is gone.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('resume', 'pg_janitor.shutdown_grace = 0');
effect_job($node, 'tick', "schedule => '* * * * * *'");
effect_job($node, 'probe');

# The rows of a table, one in a block, all expired but the last 20.  Deleting
# row 100 waits as long as the gate is shut, and not for a lock.
use constant ROWS => 200;

value($node, q{
	CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(4712);
		WHILE NOT pg_try_advisory_xact_lock_shared(4711) OR (SELECT shut FROM gate) LOOP
			PERFORM pg_sleep(0.005);	-- a job that takes long
		END LOOP;
		RETURN OLD;
	END $$});

sub make_table
{
	my ($rows, $gate) = @_;

	$rows ||= ROWS;
	value($node, qq{
		SET client_min_messages = error;
		DROP TABLE IF EXISTS record CASCADE;
		CREATE TABLE record (id int PRIMARY KEY, at timestamptz, filler text) WITH (fillfactor = 10);
		INSERT INTO record SELECT g, now() - CASE WHEN g <= $rows - 20 THEN interval '90 days' ELSE interval '1 day' END
			+ g * interval '1 minute', repeat('x', 1000) FROM generate_series(1, $rows) g;
		CREATE INDEX ON record (at);
		ANALYZE record;
		CREATE TRIGGER gate BEFORE DELETE ON record FOR EACH ROW WHEN (OLD.id = 100) EXECUTE FUNCTION wait_at_gate()});
	return;
}

sub define
{
	my ($options) = @_;
	value($node, q{SET client_min_messages = error;
		SELECT job_schedule_retention('purge', NULL, 'record', 'at', '30 days', batch_rows => 10}
		  . ($options ? ", $options" : '') . ')');
	return;
}

# The gate is a lock of a session of ours; it does not outlive a crash, but by
# then nobody has to wait any more.
my $gatekeeper;

sub shut_gate { $gatekeeper = hold_lock($node); return; }

sub open_gate
{
	eval { release_lock($gatekeeper) } if $gatekeeper;
	$gatekeeper = undef;
	return;
}

# Starts a run and waits until it stands at the gate: its id and its worker.
sub start_and_stand
{
	shut_gate();
	my $id = trigger($node, 'purge');
	my $pid = wait_started($node, $id);
	wait_at_gate();
	return ($id, $pid);
}

sub wait_at_gate
{
	eventually($node, q{SELECT count(*) > 0 FROM pg_locks
		WHERE locktype = 'advisory' AND objid = 4712 AND granted}, 'a run at the gate');

	# batches are committed asynchronously: one that is not keeps them
	value($node, q{SELECT pg_logical_emit_message(true, 'flush', '')});
	return;
}

my $expired = ROWS - 20;

sub gone_rows { return ROWS - value($node, 'SELECT count(*) FROM record'); }

sub recorded
{
	my ($first) = @_;
	return value($node, "SELECT coalesce(sum(records_processed), 0) FROM job_execution
		WHERE job_name = 'purge' AND id >= $first");
}

sub as_of
{
	return value($node, q{SELECT string_agg(DISTINCT as_of::text, ' ') FROM job_cursor
		WHERE job_name = 'purge' AND state = 'open'});
}

# What has to be true when all is over.
sub all_gone
{
	my ($first, $name) = @_;
	is(gone_rows(), $expired, "$name: every expired row is gone, and no other");
	is(recorded($first), $expired, "$name: the records of all runs add up to them");
	is(value($node, 'SELECT count(*) FROM record WHERE at > now() - interval \'30 days\''), 20,
		"$name: what has not expired is there");
	return;
}

# The job is cut off by $end; then it goes on by itself or is triggered again.
sub is_resumed
{
	my ($name, $end, $status, $by_itself) = @_;
	make_table();
	define($by_itself ? "max_attempts => 2, retry_delay => '0'" : '');
	my ($id, $pid) = start_and_stand();
	my $as_of = as_of();
	isnt($as_of, '', "$name: its progress is in job_cursor");
	$end->($pid, $id);
	my $row = outcome($node, $id);
	is($row->{status}, $status, "$name: the run is $status");
	cmp_ok($row->{records_processed} // -1, '>=', 50, "$name: and has recorded what it did before");
	is($row->{records_processed}, gone_rows(), "$name: exactly that is gone")
	  unless $by_itself;
	is(as_of(), $as_of, "$name: the instant that ages count from is kept")
	  unless $by_itself;
	open_gate();
	if ($by_itself)
	{
		eventually($node, qq{SELECT count(*) = 2 FROM job_execution
			WHERE job_name = 'purge' AND id >= $id AND completed_at IS NOT NULL}, 'the second attempt');
		is(value($node, "SELECT string_agg(status, ' ' ORDER BY id) FROM job_execution
			WHERE job_name = 'purge' AND id >= $id"), "$status succeeded", "$name: it is taken up again");
	}
	else
	{
		is(run_job($node, 'purge')->{status}, 'succeeded', "$name: the next run goes on");
	}
	is(value($node, q{SELECT (result->>'as_of')::timestamptz FROM job_execution
		WHERE job_name = 'purge' ORDER BY id DESC LIMIT 1}), $as_of,
		"$name: ages count from the same instant as before") if $by_itself;
	all_gone($id, $name);
	is(run_job($node, 'purge')->{records_processed}, 0, "$name: nothing is left");
	isnt(value($node, q{SELECT (result->>'as_of')::timestamptz FROM job_execution
		WHERE job_name = 'purge' ORDER BY id DESC LIMIT 1}), $as_of,
		"$name: and from a new one when all was done");
	ledger_is_true($node, $name);
	return;
}

subtest 'kill -9 of the worker' => sub {
	is_resumed('crash', sub { crash($node, $_[0]) }, 'interrupted', 1);
};

subtest 'kill -9 of the worker, no further attempt' => sub {
	is_resumed('crash', sub { crash($node, $_[0]) }, 'interrupted', 0);
};

subtest 'immediate stop' => sub {
	is_resumed('immediate stop', sub { $node->stop('immediate'); $node->start }, 'interrupted', 1);
};

subtest 'fast stop' => sub {
	# the session that holds the lock ends with the server: let the row wait on
	is_resumed('fast stop', sub {
		gate($node, 'shut');
		$node->stop('fast');
		$node->start;
		gate($node, 'open');
	}, 'interrupted', 1);
};

subtest 'pg_terminate_backend' => sub {
	is_resumed('terminated', sub { value($node, "SELECT pg_terminate_backend($_[0])") }, 'cancelled', 0);
};

subtest 'job_cancel' => sub {
	is_resumed('cancelled', sub { value($node, "SELECT job_cancel($_[1])") }, 'cancelled', 0);
};

subtest 'an error in the middle' => sub {
	make_table();
	define();
	value($node, q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
		CREATE TRIGGER refuse BEFORE DELETE ON record FOR EACH ROW WHEN (OLD.id = 90) EXECUTE FUNCTION refuse()});
	my $row = run_job($node, 'purge');
	is($row->{status}, 'failed', 'it fails');
	cmp_ok($row->{records_processed}, '>=', 50, 'what it had done is kept');
	is($row->{records_processed}, gone_rows(), 'and counted');
	value($node, 'DROP FUNCTION refuse() CASCADE');
	run_job($node, 'purge');
	all_gone($row->{id}, 'afterwards');
};

subtest 'a late row behind the position waits for a run that begins anew' => sub {
	make_table();
	define();
	my ($id, $pid) = start_and_stand();
	value($node, "SELECT pg_terminate_backend($pid)");
	outcome($node, $id);
	my $method = value($node, q{SELECT max(method) FROM job_cursor WHERE job_name = 'purge' AND state = 'open'});
	value($node, q{INSERT INTO record VALUES (0, now() - interval '2 years', repeat('x', 1000))});
	open_gate();
	is(run_job($node, 'purge')->{status}, 'succeeded', "the next run goes on ($method)");
	run_job($node, 'purge');
	is(value($node, 'SELECT count(*) FROM record'), 20, 'the row is gone in the end');
	is(recorded($id), $expired + 1, 'and counted once');
};

subtest 'what changes between two runs counts' => sub {
	my %changes = (
		'a table that was rewritten' => [ 'VACUUM FULL record', $expired ],
		'a table that was truncated and filled again' => [
			q{CREATE TABLE copy AS TABLE record; TRUNCATE record; INSERT INTO record SELECT * FROM copy ORDER BY id DESC; DROP TABLE copy}, $expired ],
		'an index that is gone' => [ 'DROP INDEX record_at_idx', $expired ],
		'a rule that keeps longer' => [
			q{SET client_min_messages = error; SELECT job_set_rule('purge', 'main', 'record', 'at', '100 days', batch_rows => 10)}, undef ],
		'a filter' => [
			q{SET client_min_messages = error; SELECT job_set_rule('purge', 'main', 'record', 'at', '30 days', batch_rows => 10, filter => 'r.id < 150')}, 149 ],
		'a hold' => [ q{SELECT job_hold_place('record', 'r.id >= 170', 'a lawsuit')}, 169 ]);
	foreach my $what (sort keys %changes)
	{
		my ($sql, $total) = @{ $changes{$what} };
		make_table();
		define();
		my ($id, $pid) = start_and_stand();
		value($node, "SELECT pg_terminate_backend($pid)");
		outcome($node, $id);
		my $before = gone_rows();
		value($node, $sql);
		open_gate();
		is(run_job($node, 'purge')->{status}, 'succeeded', "$what: the next run succeeds");
		run_job($node, 'purge');
		is(gone_rows(), $total // $before, "$what: what has expired now is gone, and no other row");
		is(recorded($id), gone_rows(), "$what: the records add up");
		value($node, 'SELECT job_hold_release(id) FROM job_hold WHERE released_at IS NULL');
	}
};

subtest 'a time budget' => sub {
	make_table(420);
	define(q{stop_after => '60 ms'});
	value($node, q{CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM pg_sleep(0.001);	-- a job that takes long
			RETURN OLD; END $$;
		CREATE TRIGGER slow BEFORE DELETE ON record FOR EACH ROW EXECUTE FUNCTION slow()});
	my @rows;
	do { push @rows, run_job($node, 'purge') } while ($rows[-1]{records_processed} > 0 && @rows < 100);
	cmp_ok(scalar @rows, '>', 3, 'a run stops when its time is over');
	is(join(' ', sort { $a cmp $b } keys %{ { map { $_->{status} => 1 } @rows } }), 'succeeded', 'each is a success');
	like($rows[0]{detail} // '', qr/./, 'the first says that it stopped');
	is($rows[-1]{detail}, undef, 'the last that it has not');
	is(recorded($rows[0]{id}), 400, 'together they have done all');
	is(value($node, 'SELECT count(*) FROM record'), 20, 'and no more');
	value($node, 'DROP FUNCTION slow() CASCADE');
};

subtest 'rows_per_run' => sub {
	make_table();
	define('rows_per_run => 50');
	my @rows = map { run_job($node, 'purge') } 1 .. 5;
	is(join(' ', map { "$_->{status} $_->{records_processed}" } @rows),
		'succeeded 50 succeeded 50 succeeded 50 succeeded 30 succeeded 0',
		'each run does as much, the next goes on');
	all_gone($rows[0]{id}, 'together');
};

subtest 'two workers' => sub {
	make_table();
	define('parallel => 2');
	my ($id, $pid) = start_and_stand();
	crash($node, $pid);
	is(outcome($node, $id)->{status}, 'interrupted', 'a crash interrupts the run');
	is(outcome($node, $id)->{records_processed}, gone_rows(), 'what both workers have done is counted');
	open_gate();
	is(run_job($node, 'purge')->{status}, 'succeeded', 'the next run goes on');
	all_gone($id, 'parallel');
};

subtest 'a helper that dies' => sub {
	make_table();
	define('parallel => 2');
	shut_gate();
	my $id = trigger($node, 'purge');
	my $leader = wait_started($node, $id);
	wait_at_gate();
	my $at_gate = value($node, q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712});
	value($node, "SELECT pg_terminate_backend($at_gate)") if $at_gate != $leader;
	open_gate();
	my $row = outcome($node, $id);
	is($row->{status}, 'succeeded', 'does not fail the run' . ($at_gate == $leader ? ' (it was the leader that stood there)' : ''));
	run_job($node, 'purge');
	all_gone($id, 'a helper');
};

# --- partitions ---

sub make_partitions
{
	my ($default) = @_;
	value($node, q{
		SET client_min_messages = error;
		DROP TABLE IF EXISTS record_old;
		DROP TABLE IF EXISTS record CASCADE;
		CREATE TABLE record (id int, at timestamptz) PARTITION BY RANGE (at);
		CREATE TABLE record_old PARTITION OF record FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
		CREATE TABLE record_new PARTITION OF record FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
		INSERT INTO record SELECT g, CASE WHEN g <= 180 THEN timestamptz '2019-01-01' ELSE now() END FROM generate_series(1, 200) g;
		SELECT job_schedule_retention('purge', NULL, 'record', 'at', '30 days')});
	value($node, 'CREATE TABLE record_default PARTITION OF record DEFAULT') if $default;
	return;
}

subtest 'a detach that is cut off is finished' => sub {
	make_partitions();
	my $reader = $node->background_psql('postgres');
	$reader->query_safe('BEGIN');
	$reader->query_safe('SELECT count(*) FROM record');
	my $id = trigger($node, 'purge');
	my $pid = wait_started($node, $id);
	eventually($node, q{SELECT count(*) > 0 FROM pg_inherits WHERE inhdetachpending}, 'the detach is half-done');
	crash($node, $pid);
	eval { $reader->quit };
	is(value($node, q{SELECT count(*) FROM pg_inherits WHERE inhdetachpending}), 1, 'it is left half-done');
	my $first = outcome($node, $id);
	is($first->{status}, 'interrupted', 'the run is interrupted');
	is($first->{records_processed} // 0, 0, 'and counts nothing');
	is(run_job($node, 'purge')->{status}, 'succeeded', 'the next run goes on');
	is(value($node, q{SELECT count(*) FROM pg_inherits WHERE inhdetachpending}), 0, 'nothing is left half-done');
	is(value($node, q{SELECT count(*) FROM record}), 20, 'the partition is gone');
	is(recorded($id), 180, 'and its rows are counted once');
};

foreach my $default (0, 1)
{
	subtest 'a partition that cannot be detached is emptied' . ($default ? ', with a default one beside it' : '') => sub {
		make_partitions($default);
		my $reader = $node->background_psql('postgres');
		$reader->query_safe('BEGIN');
		$reader->query_safe('SELECT count(*) FROM record');
		my $id = trigger($node, 'purge');
		my $row = outcome($node, $id);
		is($row->{status}, 'succeeded', 'it does not wait for readers for ever');
		$reader->query_safe('COMMIT');
		$reader->quit;
		run_job($node, 'purge');
		is(value($node, q{SELECT count(*) FROM record}), 20, 'what had expired is gone');
		is(recorded($id), 180, 'and counted once');
	};
}

subtest 'a detached partition is dropped when its time has come' => sub {
	make_partitions();
	value($node, q{SET client_min_messages = error;
		SELECT job_set_rule('purge', 'main', 'record', 'at', '30 days', drop_after => '1 hour')});
	is(run_job($node, 'purge')->{records_processed}, 180, 'it is detached, its rows are counted');
	is(value($node, q{SELECT count(*) FROM record_old}), 180, 'and is still there');
	is(run_job($node, 'purge')->{records_processed}, 0, 'a further run counts nothing');
	is(value($node, q{SELECT count(*) FROM record_old}), 180, 'and leaves it');
	value($node, q{SET client_min_messages = error;
		SELECT job_set_rule('purge', 'main', 'record', 'at', '30 days', drop_after => '0')});
	is(run_job($node, 'purge')->{records_processed}, 0, 'dropping it counts nothing');
	is(value($node, q{SELECT to_regclass('record_old') IS NULL}), 't', 'it is dropped');
};

goes_on($node, 'after all that');
no_accident($node);
$node->stop;
done_testing();
