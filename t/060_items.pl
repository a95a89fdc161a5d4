# Items are done completely or not at all, counted exactly whatever ends their
# run, and handled once each by however many workers (H-06 to H-16).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('items', "client_min_messages = error");

# A query of items that are there until they are done.
sub items_job
{
	my ($name, $command, $options) = @_;
	return value($node, 'SELECT job_schedule_items(' . literal($name) . ', '
		. ($options && $options =~ /\bschedule =>/ ? '' : 'schedule => NULL, ')
		. q{items => 'SELECT id FROM item WHERE done_by IS NULL ORDER BY id', }
		. 'command => ' . literal($command) . ($options ? ", $options" : '') . ')');
}

sub fresh_items
{
	my ($count) = @_;
	value($node, "TRUNCATE item, note; INSERT INTO item SELECT n FROM generate_series(1, $count) n");
	return;
}

value($node, q{
	CREATE TABLE item (id int PRIMARY KEY, done_by int);
	CREATE TABLE note (id int, pid int DEFAULT pg_backend_pid());
});

# Notes the item and marks it as done; what comes in between is the test's.
my $do = q{INSERT INTO note (id) VALUES (($1->>'id')::int);};
my $mark = q{UPDATE item SET done_by = job_execution_id() WHERE id = ($1->>'id')::int};

# The 73rd item, in the middle of the second group, takes long.
my $stuck = q{SELECT pg_sleep(600) FROM gate WHERE shut AND ($1->>'id')::int = 73;};    # a job that takes long

# What is done, what is noted, what the run says: all the same.
sub is_exact
{
	my ($id, $count, $name) = @_;
	is(value($node, "SELECT concat_ws('/', (SELECT count(*) FROM item WHERE done_by = $id),
			(SELECT count(*) FROM note), records_processed)
		FROM job_execution WHERE id = $id"), "$count/$count/$count", $name);
	return;
}

subtest 'a cancel comes between items: those before it are committed' => sub {
	fresh_items(120);
	items_job('cancelled', "$do $stuck $mark");
	my ($id) = start_stuck($node, 'cancelled');
	value($node, "SELECT job_cancel($id)");
	my $run = wait_run($node, $id);
	is($run->{status}, 'cancelled', 'cancelled');
	is_exact($id, 72, 'the item in hand is rolled back, and only that');
	is($run->{failed_records}, undef, 'it has not failed');

	$run = run_job($node, 'cancelled');
	is($run->{records_processed}, 48, 'the next run does the rest');
	is(value($node, 'SELECT count(*), count(DISTINCT id) FROM note'), '120|120', 'each once');
};

subtest 'a timeout likewise' => sub {
	fresh_items(120);
	items_job('timeout', "$do $stuck $mark", q{timeout => '2 s', max_attempts => 1});
	my ($id) = start_stuck($node, 'timeout');
	is(wait_run($node, $id)->{status}, 'timed_out', 'timed out');
	is_exact($id, 72, 'exactly');
};

subtest 'a shutdown likewise, and the run is taken up again' => sub {
	fresh_items(120);
	set_setting($node, 'pg_janitor.shutdown_grace', 1);
	items_job('shutdown', "$do $stuck $mark");
	my ($id) = start_stuck($node, 'shutdown');
	$node->stop('fast');
	$node->start;
	eventually_is($node, q{SELECT string_agg(status || ' ' || records_processed, ', ' ORDER BY id)
		FROM job_execution WHERE job_name = 'shutdown'},
		'interrupted 72, succeeded 48', 'the rest is done after the start');
	is(value($node, 'SELECT count(*), count(DISTINCT id) FROM note'), '120|120', 'each once');
};

subtest 'a crash: the groups that were committed count, exactly' => sub {
	fresh_items(120);
	items_job('crashed', "$do $stuck $mark", q{max_attempts => 2, retry_delay => '0'});
	my ($id, $pid) = start_stuck($node, 'crashed');
	value($node, 'SELECT pg_switch_wal()');    # what was committed is on disk
	crash($node, $pid);
	eventually_is($node, q{SELECT string_agg(status || ' ' || records_processed, ', ' ORDER BY id)
		FROM job_execution WHERE job_name = 'crashed'},
		'interrupted 50, succeeded 70', 'one group before it, the others after it');
	is(value($node, 'SELECT count(*), count(DISTINCT id) FROM note'), '120|120', 'each once');
	is(value($node, 'SELECT count(*) FROM job_cursor'), 0, 'nothing is left behind');
};

# With rules items are handled many at a time; the 73rd is one of the second
# group, and takes long.
value($node, q{
	CREATE FUNCTION stick() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id = 73 AND NEW.done_by IS NOT NULL AND (SELECT shut FROM gate) THEN
			PERFORM pg_sleep(600);    -- a job that takes long
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER stick BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION stick();
});

sub rules_job
{
	my ($name, $options) = @_;
	items_job($name, undef, $options);
	value($node, qq{
		SELECT job_set_rule('$name', 'notes', 'note', match => 'r.id = (\$1->>''id'')::int');
		SELECT job_set_rule('$name', 'item', 'item', action => 'anonymize', set => 'done_by = job_execution_id()',
			done_when => 'r.done_by IS NOT NULL', match => 'r.id = (\$1->>''id'')::int')});
	return;
}

sub fresh_noted
{
	my ($count) = @_;
	fresh_items($count);
	value($node, 'INSERT INTO note SELECT id FROM item, generate_series(1, 2)');
	return;
}

# What is done, what notes are left, what the run says: all the same.
sub is_exact_by_rules
{
	my ($id, $of, $count, $name) = @_;
	is(value($node, "SELECT concat_ws('/', (SELECT count(*) FROM item WHERE done_by = $id),
			$of - (SELECT count(DISTINCT id) FROM note), records_processed)
		FROM job_execution WHERE id = $id"), "$count/$count/$count", $name);
	return;
}

subtest 'items handled together: a cancel rolls back those in hand, the groups before them are committed' => sub {
	fresh_noted(120);
	rules_job('rules cancelled');
	my ($id) = start_stuck($node, 'rules cancelled');
	value($node, "SELECT job_cancel($id)");
	is(wait_run($node, $id)->{status}, 'cancelled', 'cancelled');
	is_exact_by_rules($id, 120, 50, 'one group');
	my $run = run_job($node, 'rules cancelled');
	is($run->{records_processed}, 70, 'the next run does the rest');
	is_deeply($run->{result}->{rows}, { notes => 140, item => 70 }, 'and says what it did');
	is(value($node, 'SELECT count(*) FROM note'), 0, 'nothing is left');
};

subtest 'items handled together: a crash' => sub {
	fresh_noted(120);
	rules_job('rules crashed', q{max_attempts => 2, retry_delay => '0'});
	my ($id, $pid) = start_stuck($node, 'rules crashed');
	value($node, 'SELECT pg_switch_wal()');    # what was committed is on disk
	crash($node, $pid);
	eventually_is($node, q{SELECT string_agg(status || ' ' || records_processed, ', ' ORDER BY id)
		FROM job_execution WHERE job_name = 'rules crashed'},
		'interrupted 50, succeeded 70', 'one group before it, the others after it');
	is(value($node, 'SELECT count(*) FILTER (WHERE done_by IS NULL), (SELECT count(*) FROM note) FROM item'), '0|0', 'all is done');
};

subtest 'items handled together: one that somebody has locked is left, in every table' => sub {
	fresh_noted(120);
	rules_job('rules locked', q{max_attempts => 3, retry_delay => '0'});
	my $other = $node->background_psql('postgres');
	$other->query_safe('BEGIN; UPDATE note SET id = id WHERE id = 7');
	my $run = run_job($node, 'rules locked');
	is($run->{error_message}, '1 of 120 items failed', 'one could not be had');
	is($run->{sqlstate}, '55P03', 'because of a lock');
	is_exact_by_rules($run->{id}, 120, 119, 'the others are done');
	$other->query_safe('ROLLBACK');
	$other->quit;
	is(run_job($node, 'rules locked')->{records_processed}, 1, 'later it is done, too');
};

subtest 'items handled together by several workers' => sub {
	fresh_noted(3000);
	rules_job('rules shared', q{parallel => 3});
	my $run = run_job($node, 'rules shared');
	is($run->{status}, 'succeeded', 'done');
	is_exact_by_rules($run->{id}, 3000, 3000, 'all of them');
	is(value($node, 'SELECT count(*) FROM job_cursor'), 0, 'nothing is left behind');
};

subtest 'a time budget ends a run between groups, as a success' => sub {
	fresh_items(120);
	items_job('budget', "SELECT pg_sleep(0.01); $do $mark", q{stop_after => '100 ms'});    # a job that takes long
	my $run = run_job($node, 'budget');
	is($run->{status}, 'succeeded', 'a success');
	like($run->{detail}, qr/^stopped early, about \d+ items are left$/, 'that says so');
	is_exact($run->{id}, $run->{records_processed}, 'counted');
	cmp_ok($run->{records_processed}, '<', 120, 'not everything');
};

subtest 'a commit that fails is the failure of one item' => sub {
	value($node, q{
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN IF NEW.id = 60 THEN RAISE 'not sixty'; END IF; RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON item
			DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
	});
	fresh_items(120);
	items_job('late', "$do $mark", q{max_attempts => 3});
	my $run = run_job($node, 'late');
	is($run->{error_message}, '1 of 120 items failed', 'one has failed');
	is_exact($run->{id}, 119, 'all others are done, once');
	is(value($node, 'SELECT item_key, sqlstate, attempts FROM job_failed_items'), '60|P0001|1', 'it was that one');

	# its notification came with the commit that failed, and was not delivered
	fresh_items(120);
	items_job('late, told', "$do $mark", q{max_attempts => 1, channel => 'late'});
	my $stdout;
	$node->psql('postgres', q{LISTEN late; CALL job_run('late, told'); SELECT 1}, stdout => \$stdout, stderr => \my $stderr, on_error_stop => 0);
	my %told;
	$told{$1}++ while $stdout =~ /"key": "60".*?"status": "(\w+)"/g;
	is_deeply(\%told, { dead => 1 }, 'what was rolled back is not announced');
	is(scalar(() = $stdout =~ /"status": "done"/g), 119, 'what was done is, once each');
	value($node, 'DROP TRIGGER late ON item');
};

subtest 'attempts of an item come later and later' => sub {
	fresh_items(1);
	items_job('backoff', 'SELECT 1/0', q{max_attempts => 5, retry_delay => '1 h', retry_max_delay => '3 h'});
	foreach my $attempt ([ 1, 1 ], [ 2, 2 ], [ 3, 3 ], [ 4, 3 ])
	{
		my ($number, $hours) = @$attempt;
		is(run_job($node, 'backoff')->{error_message}, '1 of 1 items failed', "attempt $number");
		is(value($node, "SELECT attempts, dead, extract(epoch FROM next_attempt_at - last_at) / 3600 BETWEEN 0.74 * $hours AND 1.26 * $hours
			FROM job_failed_items WHERE job_name = 'backoff'"), "$number|f|t", "the next one is about $hours hours later");
		is(run_job($node, 'backoff')->{detail}, '1 waiting for another attempt', 'not before its time');
		value($node, q{UPDATE job_item_failure SET next_attempt_at = now() WHERE job_name = 'backoff'});
	}
	run_job($node, 'backoff');
	is(value($node, q{SELECT attempts, dead, next_attempt_at FROM job_failed_items WHERE job_name = 'backoff'}), '5|t|', 'the last one');
	is(run_job($node, 'backoff')->{detail}, '1 dead', 'it is dead');
};

subtest 'an item that somebody has locked is left, the others are done' => sub {
	fresh_items(120);
	items_job('locked', "$do $mark", q{max_attempts => 3, retry_delay => '0'});
	my $other = $node->background_psql('postgres');
	$other->query_safe('BEGIN; UPDATE item SET id = id WHERE id = 7');
	my $run = run_job($node, 'locked');
	is($run->{error_message}, '1 of 120 items failed', 'one could not be had');
	is($run->{sqlstate}, '55P03', 'because of a lock');
	is_exact($run->{id}, 119, 'the others are done');
	$other->query_safe('ROLLBACK');
	$other->quit;
	is(run_job($node, 'locked')->{records_processed}, 1, 'later it is done, too');
};

subtest 'several workers handle each item once' => sub {
	fresh_items(2000);
	items_job('shared', "SELECT pg_sleep(0.001); $do $mark", q{parallel => 3});    # a job that takes long
	my $run = run_job($node, 'shared');
	is($run->{status}, 'succeeded', 'done');
	is_exact($run->{id}, 2000, 'all of them');
	is(value($node, 'SELECT count(DISTINCT id) FROM note'), 2000, 'each once');
	cmp_ok(value($node, 'SELECT count(DISTINCT pid) FROM note'), '>', 1, 'by several workers');
	is(value($node, 'SELECT count(*) FROM job_cursor'), 0, 'nothing is left behind');
};

subtest 'what is done is announced by its commit, with nothing but the key' => sub {
	fresh_items(2);
	items_job('told', "SELECT 1 / (2 - (\$1->>'id')::int); $do $mark",
		q{channel => 'account_deleted', max_attempts => 1});
	my ($stdout, $stderr);
	$node->psql('postgres', q{LISTEN account_deleted; CALL job_run('told'); SELECT 1},
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	my @events = $stdout =~ /"account_deleted" with payload "(\{.*?\})" received/g;
	is(scalar(@events), 3, 'an event for each item and the run');
	s/"execution_id": \d+/"execution_id": N/ foreach @events;
	is_deeply(\@events, [
		'{"job": "told", "key": "1", "event": "item", "status": "done", "execution_id": N}',
		'{"job": "told", "key": "2", "event": "item", "status": "dead", "execution_id": N}',
		'{"job": "told", "event": "run", "failed": 1, "status": "failed", "records": 1, "execution_id": N}'
	], 'they say which and how');
};

subtest 'down for three quarter-hours: one run for all that was missed' => sub {
	fresh_items(2);
	set_clock($node, "timestamptz '2031-01-02 12:01:00 UTC'");
	items_job('deletions', "$do $mark", q{schedule => '0 */15 * * * *'});
	$node->stop;
	clock_while_down($node, 1925124660);    # 2031-01-02 12:51
	$node->start;
	eventually_is($node, q{SELECT string_agg(concat_ws(' ', status, records_processed, skipped,
			to_char(scheduled_for AT TIME ZONE 'UTC', 'HH24:MI')), ', ' ORDER BY id)
		FROM job_execution WHERE job_name = 'deletions'},
		'skipped 2 12:30, succeeded 2 12:45', 'one run, which stands for the last of them');
};

ledger_is_true($node);
quiet_log($node, 'nothing died', 'terminated by signal 9');
$node->stop;
done_testing();
