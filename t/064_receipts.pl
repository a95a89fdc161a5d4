# There are as many receipts as subjects were erased, whatever crashed and
# however many workers wrote them, in one chain; dumps carry them, and after a
# restore from an old backup whoever was erased since is erased again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

my $node = crash_node('receipts', 'client_min_messages = error', 'wal_level = replica', 'max_wal_senders = 4');

value($node, q{
	CREATE TABLE person (id int PRIMARY KEY, name text, gone boolean NOT NULL DEFAULT false);
	CREATE TABLE visit (person_id int, ip inet, pid int);
	CREATE INDEX ON visit (person_id);
	CREATE TABLE seen (pid int);
	CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen VALUES (pg_backend_pid());
		IF OLD.person_id = 73 THEN PERFORM pg_sleep(600) FROM gate WHERE shut; END IF;    -- a job that takes long
		RETURN OLD;
	END $$;
	CREATE TRIGGER stay BEFORE DELETE ON visit FOR EACH ROW EXECUTE FUNCTION stay();
});

sub fresh_people
{
	my ($count) = @_;
	value($node, "TRUNCATE person, visit, seen;
		INSERT INTO person SELECT n, 'p' || n FROM generate_series(1, $count) n;
		INSERT INTO visit SELECT n, '10.0.0.1' FROM generate_series(1, $count) n, generate_series(1, 2)");
	return;
}

sub forget_job
{
	my ($name, $options) = @_;
	value($node, 'SELECT job_schedule_items(' . literal($name) . ", NULL,
		'SELECT id FROM person WHERE NOT gone ORDER BY id'" . ($options ? ", $options" : '') . ')');
	value($node, 'SELECT job_set_rule(' . literal($name) . q{, 'visits', 'visit', match => $$r.person_id = ($1->>'id')::int$$)});
	value($node, 'SELECT job_set_rule(' . literal($name) . q{, 'person', 'person', action => 'anonymize',
		match => $$r.id = ($1->>'id')::int$$, set => 'name = NULL, gone = true')});
	return;
}

# Those who are gone are those who have a receipt, exactly one, in one chain.
sub receipts_are_true
{
	my ($job, $count, $name) = @_;
	is(value($node, qq{SELECT concat_ws('/', (SELECT count(*) FROM person WHERE gone),
			(SELECT count(*) FROM job_receipt WHERE job_name = '$job'),
			(SELECT count(*) FROM person p WHERE gone AND 1 = (SELECT count(*) FROM job_receipt_find('$job', p.id::text))),
			(SELECT receipts || ' ' || intact FROM job_receipt_verify('$job')))}),
		"$count/$count/$count/$count true", $name);
	return;
}

subtest 'a cancel: receipts for those who are erased' => sub {
	fresh_people(120);
	forget_job('cancelled');
	my ($id) = start_stuck($node, 'cancelled');
	value($node, "SELECT job_cancel($id)");
	is(wait_run($node, $id)->{status}, 'cancelled', 'cancelled');
	my $gone = value($node, 'SELECT count(*) FROM person WHERE gone');
	cmp_ok($gone, '>=', 50, 'some were erased before');
	receipts_are_true('cancelled', $gone, 'they have receipts');
	run_job($node, 'cancelled');
	receipts_are_true('cancelled', 120, 'the others have theirs, in the same chain');
};

subtest 'a crash: receipts and erasures are lost together, or not at all' => sub {
	fresh_people(120);
	forget_job('crashed', q{max_attempts => 2, retry_delay => '0'});
	my ($id, $pid) = start_stuck($node, 'crashed');
	value($node, 'SELECT pg_switch_wal()');    # what was committed is on disk
	crash($node, $pid);
	eventually($node, q{SELECT count(*) = 2 AND bool_and(status <> 'running') FROM job_execution WHERE job_name = 'crashed'},
		'the run is repeated');
	is(value($node, q{SELECT string_agg(status || ' ' || records_processed, ', ' ORDER BY id)
		FROM job_execution WHERE job_name = 'crashed'}), 'interrupted 50, succeeded 70', 'one group before it');
	is(value($node, q{SELECT string_agg(DISTINCT execution_id::text, ' ') FROM job_receipt WHERE job_name = 'crashed'}),
		value($node, q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM job_execution WHERE job_name = 'crashed'}),
		'receipts say which run it was');
	receipts_are_true('crashed', 120, 'each has one receipt');
};

subtest 'several workers write one chain' => sub {
	fresh_people(3000);
	value($node, q{CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_sleep(0.001); RETURN OLD; END $$;    -- a job that takes long
		CREATE TRIGGER dawdle BEFORE DELETE ON visit FOR EACH ROW EXECUTE FUNCTION dawdle()});    # a job that takes long
	forget_job('shared', 'parallel => 3');
	my $run = run_job($node, 'shared');
	is($run->{status}, 'succeeded', 'done');
	is($run->{result}{receipts}, 3000, 'the result has the length of the chain');
	is(value($node, q{SELECT encode(hash, 'hex') FROM job_receipt WHERE job_name = 'shared' AND number = 3000}),
		$run->{result}{receipts_head}, 'and its head');
	cmp_ok(value($node, 'SELECT count(DISTINCT pid) FROM seen'), '>', 1, 'several workers were at it');
	receipts_are_true('shared', 3000, 'each has one receipt');
	value($node, 'DROP TRIGGER dawdle ON visit');
};

# --- dumps, and what the README says is to be done with them ---

my ($after_a_restore) = slurp_file("$FindBin::RealBin/../README.md") =~ /^### After a restore\n(.*?)^##/ms;

# The first piece of SQL there that matches, with files of this test.
sub told
{
	my ($what) = @_;
	my ($code) = grep { defined && /$what/ } $after_a_restore =~ /```sql\n(.*?)```|`([^`\n]+)`/gs;
	die "the README does not tell: $what" unless defined $code;
	my $directory = $node->basedir;
	$code =~ s{\b(TO|FROM) '(receipts[.\w]*)'}{$1 '$directory/$2'}g;
	return $code =~ s/^\s+(?=\\)//mgr;
}

my $dump = $node->basedir . '/dump.sql';
value($node, 'CREATE ROLE backup LOGIN IN ROLE pg_read_all_data');
value($node, q{INSERT INTO person SELECT n, 'p' || n FROM generate_series(3001, 3010) n});
command_ok([ 'pg_dump', '-U', 'backup', '-f', $dump, '-d', $node->connstr('postgres') ], 'a dump is made');
is(run_job($node, 'shared')->{records_processed}, 10, 'after it, others are erased');
value($node, told('TO .receipts'));

value($node, 'CREATE DATABASE restored TEMPLATE template0');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'it is restored');
is(value($node, q{SELECT string_agg(concat_ws(' ', job_name, receipts, intact), ', ' ORDER BY job_name) FROM job_receipt_verify()}, 'restored'),
	'cancelled 120 t, crashed 120 t, shared 3000 t', 'the chains are whole');
is(value($node, q{SELECT count(*) FROM job_receipt_find('shared', '7')}, 'restored'), 0,
	'but without the key nobody can be found');
value($node, told('job_rearm') . told('FROM .receipts.key'), 'restored');
is(value($node, q{SELECT count(*) FROM job_receipt_find('shared', '7')}, 'restored'), 1, 'with it they can');
is(value($node, told('job_receipt_import'), 'restored'), 10, 'the receipts since the dump are imported');
my $run = (split /\|/, value($node, told('FROM job_erasure_replay'), 'restored'))[1];
is(value($node, told('job_wait') =~ s/execution_id/$run/r, 'restored'), 'succeeded', 'their subjects are looked for');
is(value($node, q{SELECT count(*) FROM person WHERE NOT gone}, 'restored'), 0, 'and erased again');
is(value($node, told('job_resume') . q{; SELECT job_name, receipts, intact FROM job_receipt_verify('shared')}, 'restored'),
	"3\nshared|3020|t", 'the chain goes on');
value($node, 'DROP DATABASE restored');

# --- an old backup ---

fresh_people(400);
forget_job('replayed');
value($node, q{UPDATE person SET gone = true WHERE id > 100});
run_job($node, 'replayed');
value($node, q{UPDATE person SET gone = false, name = 'p' || id WHERE id > 100});
value($node, q{SELECT job_pause('replayed'), job_trigger('replayed', run_at => now() + i * interval '1 us')
	FROM generate_series(1, 20) i});
$node->backup('old');
value($node, q{SELECT job_cancel('replayed'), job_resume('replayed')});
value($node, q{UPDATE person SET gone = true WHERE id > 300});
is(run_job($node, 'replayed')->{records_processed}, 200, 'after a backup, others are erased');
value($node, q{COPY job_receipt TO '} . $node->basedir . q{/receipts'});
my $head = value($node, q{SELECT encode(hash, 'hex') FROM job_receipt WHERE job_name = 'replayed' ORDER BY number DESC LIMIT 1});
my $files = $node->basedir;
$node->stop;

my $old = PostgreSQL::Test::Cluster->new('old');
$old->init_from_backup($node, 'old');
$old->append_conf('postgresql.conf', 'pg_janitor.enabled = off');
$old->start;
value($old, q{SELECT job_pause(reason => 'restored')});
is(value($old, q{SELECT count(*) FROM job_queue WHERE job_name = 'replayed'}), 20, 'runs wait since before');
value($old, 'ALTER SYSTEM SET pg_janitor.enabled = on');
$old->append_conf('postgresql.conf', 'pg_janitor.enabled = on');
$old->reload;
is(value($old, 'SELECT count(*) FROM person WHERE NOT gone'), 300, 'the backup has them all again');
is(value($old, qq{CREATE TEMP TABLE exported (LIKE job_receipt);
		COPY exported FROM '$files/receipts';
		SELECT job_receipt_import('exported')}), 200, 'their receipts are imported');
is(value($old, q{SELECT encode(head, 'hex') FROM job_receipt_verify('replayed')}), $head,
	'up to the head that was noted');
my ($id, $subjects) = split /\|/, value($old, 'SELECT execution_id, subjects FROM job_erasure_replay()');
is($subjects, 200, 'so many are looked for');
is(wait_run($old, $id)->{records_processed}, 200, 'and found, though the job is paused');
is(value($old, 'SELECT min(id), max(id), count(*) FROM person WHERE gone AND id > 100'), '101|300|200',
	'those who were erased since the backup are erased again, and nobody else');
is(value($old, q{SELECT receipts || ' ' || intact FROM job_receipt_verify('replayed')}), '500 true', 'with receipts');
is(value($old, 'SELECT count(*) FROM job_erasure_replay()'), 0, 'there is nothing left to replay');
is(value($old, q{SELECT count(*) FROM job_queue WHERE job_name = 'replayed'}), 20, 'what has waited waits still');
value($old, 'SELECT job_resume()');
eventually_is($old, q{SELECT concat_ws('/', (SELECT count(*) FROM job_queue), (SELECT count(*) FROM person WHERE NOT gone),
		(SELECT receipts FROM job_receipt_verify('replayed'))) WHERE NOT EXISTS (SELECT FROM job_execution WHERE status = 'running')},
	'0/0/600', 'then the job goes on');

quiet_log($node, 'nothing died', 'terminated by signal 9');
quiet_log($old, 'nor in the restored one');
$old->stop;
done_testing();
