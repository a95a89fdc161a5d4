# Whoever places a hold while a batch is in progress waits for that batch, and
# for no other: the next ones respect the hold.  A held row is never gone once
# its hold has been committed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;

my $node = janitor_node('holds');

# One row in a block, batches of three rows; deleting row 2 waits as long as
# the gate is shut, and not for a lock.
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE TABLE record (id int PRIMARY KEY, at timestamptz, filler text) WITH (fillfactor = 10);
	CREATE TABLE part (id int PRIMARY KEY, record_id int REFERENCES record ON DELETE CASCADE);
	CREATE INDEX ON part (record_id);
	CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(4712);
		WHILE NOT pg_try_advisory_xact_lock_shared(4711) LOOP
			PERFORM pg_sleep(0.005);	-- a job that takes long
		END LOOP;
		RETURN OLD;
	END $$;
	CREATE TRIGGER gate BEFORE DELETE ON record FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION wait_at_gate();
	SELECT job_schedule_retention('purge', NULL, 'record', 'at', '30 days', batch_rows => 3);
	SELECT job_schedule_retention('two', NULL, 'record', 'at', '30 days', batch_rows => 3, parallel => 2)});

my $rows = q{SELECT concat_ws(' / ', (SELECT string_agg(id::text, ' ' ORDER BY id) FROM record),
	(SELECT string_agg(id::text, ' ' ORDER BY id) FROM part))};

# A run stands in the middle of its first batch (rows 1 to 3) while a hold is
# placed; what is left when both are done, and what the run has counted.
sub hold_meanwhile
{
	my ($job, $relation, $predicate, $in_transaction) = @_;

	$node->safe_psql('postgres', q{DELETE FROM record WHERE id <> 2; TRUNCATE record CASCADE;
		INSERT INTO record SELECT g, now() - interval '90 days' + g * interval '1 hour', repeat('x', 1000) FROM generate_series(1, 9) g;
		INSERT INTO part SELECT g, g FROM generate_series(1, 9) g});
	my $gatekeeper = hold_lock($node);
	my $lawyer = $node->background_psql('postgres');
	my $id = trigger($node, $job);
	eventually($node, q{SELECT count(*) > 0 FROM pg_locks
		WHERE locktype = 'advisory' AND objid = 4712 AND granted}, 'a batch at the gate');
	$lawyer->query_safe('BEGIN') if $in_transaction;
	$lawyer->query_until(qr/sent/, "\\echo sent\nSELECT job_hold_place('$relation', '$predicate', 'a lawsuit') > 0;\n\\echo placed\n");
	eventually($node, q{SELECT count(*) > 0 FROM pg_stat_activity
		WHERE wait_event_type = 'Lock' AND query LIKE '%job\_hold\_place%' AND pid <> pg_backend_pid()},
		'the hold waits for the batch');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM record WHERE id = 2'), 1, 'the batch is not over');
	release_lock($gatekeeper);
	$lawyer->query_until(qr/placed/, "\n");
	if ($in_transaction)
	{
		is(execution($node, $id)->{status}, 'running', 'the run waits for the end of that transaction');
		$lawyer->query_safe('COMMIT');
	}
	$lawyer->quit;
	my $row = wait_run($node, $id);
	cmp_ok($row->{result}{rules}{main}{paused_ms}{hold} // 0, '>', 0, 'and says how long')
	  if $in_transaction;
	my $left = $node->safe_psql('postgres', $rows);
	$node->safe_psql('postgres', 'SELECT job_hold_release(id) FROM job_hold WHERE released_at IS NULL');
	return "$row->{status} $row->{records_processed}: $left";
}

is(hold_meanwhile('purge', 'record', 'r.id IN (1, 8)'), 'succeeded 8: 8 / 8',
	'the batch in progress finishes, the next respect the hold');
is(hold_meanwhile('purge', 'part', 'r.id IN (1, 8)'), 'succeeded 8: 8 / 8',
	'the same of a row that a cascade would take');
is(hold_meanwhile('purge', 'record', 'r.id IN (1, 8)', 1), 'succeeded 8: 8 / 8',
	'the same in a transaction that stays open');
like(hold_meanwhile('two', 'record', 'r.id IN (1, 8)'), qr/^succeeded [78]: (1 8 \/ 1 8|8 \/ 8)$/,
	'and of two workers');

quiet_log($node, 'no process of pg_janitor has died or got stuck');
$node->stop;
done_testing();
