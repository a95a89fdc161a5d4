# A hold is respected by every batch that begins after its commit, waits for
# those in progress, and keeps others from beginning: no row is lost in between.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use JanitorTest;
use JanitorCrash;

my $node = crash_node('holds');
my $holds = "SELECT count(*) FILTER (WHERE granted) || '/' || count(*) FILTER (WHERE NOT granted)
	FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 8";

# Rows to delete, and a trigger that keeps a batch in progress as long as the
# gate is shut.
$node->safe_psql('postgres', q{
	CREATE TABLE doc (id int PRIMARY KEY, at date DEFAULT '2020-01-01');
	INSERT INTO doc SELECT generate_series(1, 10);
	CREATE FUNCTION gated() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE (SELECT shut FROM gate) LOOP END LOOP;
		RETURN OLD;
	END $$;
	CREATE TRIGGER gated BEFORE DELETE ON doc FOR EACH ROW EXECUTE FUNCTION gated();
	SELECT job_schedule_retention('doc', NULL, 'doc', 'at', '1 year');
});

sub left
{
	return value($node, "SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM doc");
}

# --- somebody is placing a hold: batches wait, and respect it

my $placer = $node->background_psql('postgres');
$placer->query_safe('BEGIN');
$placer->query_safe("SELECT job_hold_place('doc', 'id = 3', 'case 1')");
my $id = trigger($node, 'doc');
eventually_is($node, $holds, '1/1', 'a batch waits for an open hold');
is(left(), '1 2 3 4 5 6 7 8 9 10', 'and has touched nothing');
$placer->query_safe('COMMIT');
is(wait_run($node, $id)->{records_processed}, 9, 'it goes on when the hold is committed');
is(left(), '3', 'and respects it');

# --- one that is rolled back is none

$node->safe_psql('postgres', 'INSERT INTO doc VALUES (4)');
$placer->query_safe('BEGIN');
$placer->query_safe("SELECT job_hold_place('doc', 'id = 4', 'case 2')");
$id = trigger($node, 'doc');
eventually_is($node, $holds, '1/1', 'a batch waits for another');
$placer->query_safe('ROLLBACK');
is(wait_run($node, $id)->{records_processed}, 1, 'a hold that is rolled back is none');
is(left(), '3', 'the one before is in force');

# --- a batch is in progress: the hold waits for it

$node->safe_psql('postgres', 'INSERT INTO doc VALUES (5); UPDATE gate SET shut = true');
$id = trigger($node, 'doc');
eventually_is($node, $holds, '1/0', 'a batch is in progress');
$placer->query_until(qr/begun/,
	"\\echo begun\nSELECT job_hold_place('doc', 'id = 5', 'case 3');\n");
eventually_is($node, $holds, '1/1', 'a hold waits for it');
gate($node, 'open');
is(wait_run($node, $id)->{records_processed}, 1, 'the batch ends');
$node->safe_psql('postgres', 'INSERT INTO doc VALUES (5)');
eventually_is($node, "SELECT count(*) FROM job_hold WHERE reason = 'case 3'", 1, 'and the hold is placed');
is(run_job($node, 'doc')->{records_processed}, 0, 'which counts from now on');

# --- a row that becomes held while the batch waits for it

$node->safe_psql('postgres', "SELECT job_hold_release(id) FROM job_hold;
	DELETE FROM doc; INSERT INTO doc VALUES (6), (7);
	ALTER TABLE doc ADD word text; SELECT job_hold_place('doc', \$\$word = 'held'\$\$, 'case 4')");
my $writer = $node->background_psql('postgres');
$writer->query_safe('BEGIN');
$writer->query_safe("UPDATE doc SET word = 'held' WHERE id = 6");
$id = trigger($node, 'doc');
eventually_is($node, 'SELECT count(*) FROM doc WHERE id = 7', 0, 'rows that nobody has locked go');
$writer->query_safe('COMMIT');
is(wait_run($node, $id)->{status}, 'succeeded', 'the run ends');
is(left(), '6', 'a row is judged as it is when it is touched');

# --- a hold and a crash: committed is committed

$node->safe_psql('postgres', "SELECT job_hold_place('doc', NULL, 'case 5')");
crash($node, process($node, 'scheduler'));
is(run_job($node, 'doc')->{records_processed}, 0, 'a hold outlives a crash');

$placer->quit;
$writer->quit;
no_accident($node);
$node->stop;
done_testing();
