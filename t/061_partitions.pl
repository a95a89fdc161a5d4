# Whatever ends the detach of a partition, at whatever instant: the rows that
# are gone from the table are the rows that were recorded, once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use JanitorTest;
use JanitorCrash;

my $node = crash_node('partitions');
my $pending = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'log'::regclass AND inhdetachpending";
my ($inserted, $number) = (0, 0);

# DDL of the worker waits where the gate is shut: `detach` before the rows are
# counted, `drop` after, in the transaction that completes the detach.
$node->safe_psql('postgres', q{
	CREATE TABLE log (id int, at date) PARTITION BY RANGE (at);
	CREATE TABLE log_now PARTITION OF log FOR VALUES FROM ('2100-01-01') TO ('2200-01-01');
	CREATE TABLE stop (at text);
	CREATE FUNCTION stop_at(point text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE EXISTS (SELECT FROM stop WHERE at = point) LOOP
			PERFORM pg_advisory_xact_lock_shared(4712);
		END LOOP;
	END $$;
	CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF pg_backend_pid() IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_janitor worker') THEN
			PERFORM stop_at(CASE tg_tag WHEN 'DROP TABLE' THEN 'drop' ELSE 'detach' END);
		END IF;
	END $$;
	CREATE EVENT TRIGGER on_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'DROP TABLE') EXECUTE FUNCTION on_ddl();
	SELECT job_schedule_retention('log', NULL, 'log', 'at', '1 year', partitions => 'drop');
});

# An expired partition with so many rows; its name.
sub partition
{
	my ($rows) = @_;
	my $from = sprintf '2020-%02d-01', ++$number;
	my $to = sprintf '2020-%02d-01', $number + 1;

	$node->safe_psql('postgres', "CREATE TABLE log_$number PARTITION OF log FOR VALUES FROM ('$from') TO ('$to');
		INSERT INTO log SELECT i, '$from' FROM generate_series(1, $rows) i");
	$inserted += $rows;
	return "log_$number";
}

# What the runs have recorded is what is gone, and nothing is left over.
sub exact
{
	my ($name) = @_;
	is(value($node, "SELECT sum(records_processed) || ' recorded, ' ||
			(SELECT count(*) FROM log) || ' left, ' ||
			(SELECT count(*) FROM pg_inherits WHERE inhdetachpending) || ' pending, ' ||
			(SELECT count(*) FROM job_cursor) || ' slices'
		FROM job_execution WHERE job_name = 'log'"),
		"$inserted recorded, 0 left, 0 pending, 0 slices", "$name: what is gone was recorded, once");
	return;
}

sub table_exists
{
	my ($name) = @_;
	return value($node, "SELECT to_regclass('$name') IS NOT NULL");
}

# --- nothing in the way

my $partition = partition(1000);
is(run_job($node, 'log')->{records_processed}, 1000, 'a partition counts as its rows');
is(table_exists($partition), 'f', 'and is dropped');
exact('undisturbed');

# --- killed while it waits for readers of the parent

$partition = partition(2000);
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT count(*) FROM log');
my $id = trigger($node, 'log');
eventually_is($node, $pending, 1, 'the detach waits for a reader of the parent');
crash($node, wait_started($node, $id));
eval { $reader->quit };
is(value($node, $pending), 1, 'killed there, it is left pending');
is(wait_run($node, $id)->{status}, 'interrupted', 'the run is interrupted');
run_job($node, 'log');
is(table_exists($partition), 'f', 'the next run finishes it');
exact('killed while pending');

# --- killed in the transaction that completes it

foreach my $point ('detach', 'drop')
{
	$partition = partition(300);
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('SELECT FROM pg_advisory_lock(4712)');
	$node->safe_psql('postgres', "INSERT INTO stop VALUES ('$point')");
	$id = trigger($node, 'log');
	eventually($node, "SELECT count(*) = 1 FROM pg_locks
		WHERE locktype = 'advisory' AND objid = 4712 AND NOT granted", "it has come to $point");
	crash($node, wait_started($node, $id));
	eval { $gate->quit };
	is(value($node, $pending), 1, "killed at $point, it is left pending");
	$node->safe_psql('postgres', 'DELETE FROM stop');
	wait_run($node, $id);
	run_job($node, 'log');
	is(table_exists($partition), 'f', 'the next run finishes it');
	exact("killed at $point");
}

# --- somebody else finalizes what we began

$partition = partition(40);
$reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT count(*) FROM log');
$id = trigger($node, 'log');
eventually_is($node, $pending, 1, 'another one waits');
crash($node, wait_started($node, $id));
eval { $reader->quit };
$node->safe_psql('postgres', "ALTER TABLE log DETACH PARTITION $partition FINALIZE");
wait_run($node, $id);
is(run_job($node, 'log')->{records_processed}, 40, 'what others have finalized is counted');
run_job($node, 'log');
is(table_exists($partition), 'f', 'and dropped by the run after that');
exact('finalized by others');

# --- a reader that stays: left to the next run; a hold placed meanwhile wins

$partition = partition(50);
$reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT count(*) FROM log');
my $offset = log_size($node);
my $row = run_job($node, 'log');
is($row->{status} . ' ' . $row->{records_processed}, 'succeeded 0', 'a run does not wait for ever');
ok(log_count($node, qr/leaves the partition public.$partition pending/, $offset), 'and says so');
my $hold = value($node, "SELECT job_hold_place('log', 'id = 1', 'case 1')");
$reader->query_safe('COMMIT');
$reader->quit;
is(run_job($node, 'log')->{records_processed}, 50, 'the next run finishes and counts it');
is(value($node, "SELECT count(*) FROM $partition"), 50, 'but drops nothing that is held');
run_job($node, 'log');
is(table_exists($partition), 't', 'nor does the one after that');
value($node, "SELECT job_hold_release($hold)");
run_job($node, 'log');
is(table_exists($partition), 'f', 'until the hold is released');
exact('held meanwhile');

# --- where there is a default partition, and the parent is in use: its rows

$node->safe_psql('postgres', 'CREATE TABLE log_rest PARTITION OF log DEFAULT');
$partition = partition(60);
$reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT count(*) FROM log');
is(run_job($node, 'log')->{records_processed}, 60, 'rows go where the partition cannot');
is(table_exists($partition), 't', 'it stays');
$reader->query_safe('COMMIT');
$reader->quit;
run_job($node, 'log');
is(table_exists($partition), 'f', 'and goes when it can');
exact('default partition');

# --- a drop that fails

$partition = partition(70);
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
	CREATE EVENT TRIGGER refuse ON sql_drop WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION refuse()});
$offset = log_size($node);
is(run_job($node, 'log')->{records_processed}, 70, 'a partition that cannot be dropped is detached');
ok(log_count($node, qr/could not drop the partition public.$partition at once: not today/, $offset), 'and says why');
$node->safe_psql('postgres', 'DROP EVENT TRIGGER refuse');
run_job($node, 'log');
is(table_exists($partition), 'f', 'and dropped later');
exact('a drop that fails');

# --- a large one costs next to nothing

$partition = partition(200_000);
$node->safe_psql('postgres', "VACUUM $partition");
my $wal = value($node, 'SELECT pg_current_wal_insert_lsn()');
is(run_job($node, 'log', q('{"confirm": true}'))->{records_processed}, 200_000, 'a large partition is counted');
cmp_ok(value($node, "SELECT pg_current_wal_insert_lsn() - '$wal'"), '<', 1_000_000, 'in less than 1 MB of WAL');
exact('large');

no_accident($node);
$node->stop;
done_testing();
