# A saturated queue: 200,000 waiting runs of one job that is busy do not slow
# the dispatch of another one: from the commit of a trigger to its started_at
# it takes at most twice as long as without them.
#
# Both are measured in one server, in turns: without, with, a few times if
# something else keeps the machine busy meanwhile; if need be all of it anew.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;

use constant TRIGGERS => 100;    # in each round
use constant BACKLOG => 200_000;

my $node = janitor_node('saturated', 'log_statement = none', 'autovacuum_naptime = 1s');

define_job($node, 'busy', UNTIL_RELEASED, 'max_running => 1');
define_job($node, 'other', 'SELECT 1');

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE committed (execution_id bigint, round text, at timestamptz);

-- Each trigger is alone: the one before has ended.  The time is taken before
-- the commit, which so counts as a part of what is measured.
CREATE PROCEDURE measure(round text, triggers int) LANGUAGE plpgsql AS $$
DECLARE
	id bigint;
	ended text;
BEGIN
	FOR i IN 1 .. triggers LOOP
		id := job_trigger('other');
		INSERT INTO committed VALUES (id, round, clock_timestamp());
		COMMIT;
		ended := job_wait(id, '30 seconds');
		IF ended IS DISTINCT FROM 'succeeded' THEN
			RAISE EXCEPTION 'execution % ended %', id, ended;
		END IF;
		COMMIT;
	END LOOP;
END $$;
SQL

sub measure
{
	my ($round) = @_;
	$node->safe_psql('postgres', "CALL measure('$round', " . TRIGGERS . ')');
	return;
}

sub median
{
	my ($round) = @_;
	return $node->safe_psql('postgres', <<"SQL");
SELECT round((percentile_cont(0.5) WITHIN GROUP
	(ORDER BY extract(epoch FROM e.started_at - c.at)) * 1000)::numeric, 3)
FROM committed c JOIN job_execution e ON e.id = c.execution_id
WHERE c.round = '$round'
SQL
}

# Reading it takes a moment, in which the other job's first run may have to wait.
sub pile_up
{
	$node->safe_psql('postgres', 'SELECT count(job_trigger(\'busy\')) FROM generate_series(1, ' . BACKLOG . ')');
	run_job($node, 'other');
	is($node->safe_psql('postgres', "SELECT count(*) FROM job_queue WHERE job_name = 'busy'"), BACKLOG, 'the backlog waits');
	return;
}

# A run of the busy job, until the lock is released.
sub hold_busy
{
	my $lock = hold_lock($node);
	wait_started($node, trigger($node, 'busy'));
	return $lock;
}

my $lock = hold_busy();
measure('to warm up');

# In rounds of their own names; the lock is released when the backlog is gone.
my $try = 0;
my $ratio = quickest(2, sub {
	my $without = 'without ' . ++$try;

	measure($without);
	$lock ||= hold_busy();
	pile_up();
	my $ratio = quickest(2, sub {
		my $with = 'with ' . ++$try;
		measure($with);
		diag(sprintf 'trigger to start, median: %.3f ms without, %.3f ms with %d waiting runs of another job',
			median($without), median($with), BACKLOG);
		return median($with) / median($without);
	});
	is($node->safe_psql('postgres', "SELECT job_cancel('busy') >= " . BACKLOG), 't', 'the backlog is cancelled');
	is($node->safe_psql('postgres', q{SELECT sum(cancelled) >= } . BACKLOG . q{ FROM job_counter WHERE job_name = 'busy'}),
		't', 'and counted');
	release_lock($lock);
	undef $lock;
	eventually($node, "SELECT count(*) = 0 FROM job_queue WHERE job_name = 'busy'", 'the queue is empty');
	return $ratio;
});
cmp_ok($ratio, '<=', 2, 'a saturated job does not slow the dispatch of another one');

quiet_log($node, 'a quiet log');
$node->stop;
done_testing();
