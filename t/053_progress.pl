# job_progress tells what each worker is at, to those who may know.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use JanitorTest;
use JanitorHeavy;

my $node = janitor_node('progress', 'max_worker_processes = 16');
$node->safe_psql('postgres', 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	CREATE ROLE boss LOGIN IN ROLE bob');
heavy_job($node, 'big', owner => 'bob', rate => 40, rows => 2000,
	with => 'parallel => 2');
define_job($node, 'held', UNTIL_RELEASED, "owner => 'alice'");

# What a role sees: rows of columns.
sub sees
{
	my ($role, $columns, $where) = @_;
	return $node->safe_psql('postgres', "SET ROLE $role;
		SELECT $columns FROM job_progress " . ($where || ''));
}

is(sees('postgres', 'count(*)'), 0, 'nothing runs');

# A run of kind sql, which waits for a lock.
my $lock = hold_lock($node);
my $holder = $lock->query_safe('SELECT pg_backend_pid()');
my $held = trigger($node, 'held');
my $worker = wait_started($node, $held);
eventually($node, 'SELECT blocked_by IS NOT NULL FROM job_progress', 'it is blocked');
is(sees('postgres', 'execution_id, job_name, pid, phase, relation IS NULL, rows_done, estimated_total IS NULL, time_left IS NULL, waits_for, blocked_by, helper'),
	"$held|held|$worker|running|t|0|t|t|Lock: advisory|{$holder}|f",
	'a run of kind sql: what it waits for, and whose lock');

# A retention run and its helper.
my $big = trigger($node, 'big');
$worker = wait_started($node, $big);
helpers_are($node, 1);
eventually($node, "SELECT bool_and(rows_done > 0 AND waits_for = 'rate') FROM job_progress WHERE job_name = 'big'",
	'both have handled rows');
is(sees('postgres', "execution_id, pid = $worker, phase, relation LIKE 'public.big\\__', rate > 0, blocked_by IS NULL",
		"WHERE job_name = 'big' ORDER BY helper"),
	"$big|t|deleting|t|t|t\n$big|f|deleting|t|t|t",
	'a retention run has a row for its worker and one for its helper');
is(sees('postgres', 'estimated_total > 0, time_left > interval \'0\'', "WHERE pid = $worker"),
	't|t', 'and an end in sight');
my $before = sees('postgres', 'rows_done', "WHERE pid = $worker");
eventually($node, "SELECT rows_done > $before FROM job_progress WHERE pid = $worker",
	'the count goes up');
pass('rows are counted as they go');

# Who sees what.
is(sees('alice', 'DISTINCT job_name'), 'held', 'a role sees runs of its own');
is(sees('bob', 'DISTINCT job_name'), 'big', 'and nobody else\'s');
is(sees('boss', 'DISTINCT job_name, waits_for'), 'big|rate', 'members see them');
$node->safe_psql('postgres', 'CREATE ROLE carol LOGIN');
is(sees('carol', 'count(*)'), 0, 'strangers see nothing');
is(sees('postgres', 'count(DISTINCT job_name)'), 2, 'superusers see all');

end_heavy($node, 'big');
wait_run($node, $big);
release_lock($lock);
wait_run($node, $held);
is(sees('postgres', 'count(*)'), 0, 'what has ended is gone');

# A claimed run whose worker does not take it.
$node->safe_psql('postgres', 'DROP TABLE big');
define_job($node, 'taken', 'SELECT 1', "owner => 'alice'");
run_job($node, 'taken');
$worker = $node->safe_psql('postgres',
	"SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_janitor worker' AND usename = 'alice' LIMIT 1");
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_janitor worker' AND usename = 'alice'"),
	1, 'one idle worker');
kill 'STOP', $worker;
my $taken = trigger($node, 'taken');
eventually($node, "SELECT pid IS NULL AND phase = 'waiting for a worker' FROM job_progress WHERE execution_id = $taken",
	'it waits for a worker');
pass('a claimed run waits for a worker');
kill 'CONT', $worker;
is(wait_run($node, $taken)->{status}, 'succeeded', 'and gets it');

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
