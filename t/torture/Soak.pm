package Soak;

# A server under a steady load of runs of every kind: nothing in it may grow.
# What is watched, round by round: the memory of the launcher, the scheduler and
# the workers, and the size of each table of pg_janitor with its indexes.
#
#	soak(rate => runs a second, seconds => length of a round, rounds => N)
#	soak(..., until_flat => 1)
#
# The first rounds fill caches, histories and free space maps.  After that a
# round may not need more than the one it is compared with: of all rounds, the
# last with the middle one; until_flat: each with the one before, and it is over
# with the first that does not; what leaks, leaks in each.  A round is a number
# of runs, so a slow machine takes longer, and does not see less.

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use lib "$FindBin::RealBin", "$FindBin::RealBin/..";

use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(soak);

use constant TICK => 0.25;		# seconds between two looks at what is due
use constant SLACK => 64;		# kB of memory that are no growth
use constant PATIENCE => 600;	# seconds that a round may take beyond its own

my ($node, $session, %options);

# Jobs of all kinds.  What is triggered makes the rate; what is scheduled, fails,
# has rules, items and a worker outside goes beside it.
my $set_up = q{
	SET client_min_messages = error;
	CREATE ROLE other LOGIN;
	SELECT job_grant('other');
	CREATE TABLE letter (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sent timestamptz, email text) WITH (autovacuum_vacuum_scale_factor = 0.02);
	CREATE TABLE person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text) WITH (autovacuum_vacuum_scale_factor = 0.02);
	GRANT ALL ON letter, person TO other;
	SELECT count(job_schedule('second ' || g, '* * * * * *', 'SELECT 1', keep_runs => 20, owner => CASE WHEN g = 1 THEN 'other' END)) FROM generate_series(1, 20) g;
	SELECT count(job_schedule('demand ' || g, NULL, 'SELECT 1', max_running => 4, keep_runs => 100)) FROM generate_series(1, 2) g;
	SELECT job_schedule('writes', '* * * * * *', $$INSERT INTO letter (sent, email) SELECT '2020-01-01', 'a@b.c' FROM generate_series(1, 20)$$, keep_runs => 20),
		job_schedule('arrives', '* * * * * *', $$INSERT INTO person (email) SELECT 'a@b.c' FROM generate_series(1, 20)$$, keep_runs => 20),
		job_schedule('fails', '* * * * * *', 'SELECT 1/0', max_attempts => 2, retry_delay => '1 s', keep_runs => 20),
		job_schedule_retention('keeps', '*/2 * * * * *', 'letter', 'sent', '90 days', keep_runs => 20),
		job_schedule_items('people', '*/2 * * * * *', 'SELECT id FROM person', keep_runs => 20, receipts => false),
		job_set_rule('people', 'person', 'person', match => $$r.id = ($1->>'id')::bigint$$),
		job_set_circuit('wire'), job_schedule_external('mail', circuit => 'wire', keep_runs => 20),
		job_set_rate_limit('mail', 1000, '1 s')};

# Triggers what the rate asks for and the queue does not have yet, and is the
# worker of the external job.
my $work = q{
	SELECT count(job_trigger('demand ' || g %% 2 + 1, '{"a": 1}'))
	FROM generate_series(1, least(%d, %d - (SELECT count(*) FROM job_queue WHERE job_name LIKE 'demand%%'))) g;
	SELECT count(job_trigger('mail', key => g::text)) FROM generate_series(1, 3) g;
	SELECT count(job_finish(execution_id, token, records => 1)) FROM job_claim('mail', 10, '1 min');};

sub value { return $session->query_safe($_[0]) }

sub runs { return value('SELECT sum(succeeded + failed) FROM job_metrics') || 0 }

# kB of its own: what it shares with others is as much as it has looked at.
sub memory_of
{
	my ($pid) = @_;
	open(my $status, '<', "/proc/$pid/status") or return 0;
	return join('', <$status>) =~ /^RssAnon:\s+(\d+)/m ? $1 : 0;
}

# Takes the largest value of each series into $round.
sub look
{
	my ($round) = @_;
	my $note = sub {
		my ($series, $value) = @_;
		$round->{$series} = $value if $value > ($round->{$series} // 0);
	};

	foreach (split /\n/, value(q{SELECT backend_type || '|' || pid FROM pg_stat_activity WHERE backend_type LIKE 'pg_janitor %'}))
	{
		my ($type, $pid) = split /\|/;
		$note->("memory of $type", memory_of($pid));
	}
	foreach (split /\n/, value(q{
		SELECT c.relname || '|' || pg_total_relation_size(c.oid) / 1024 FROM pg_class c
		JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		WHERE e.extname = 'pg_janitor' AND c.relkind = 'r'}))
	{
		my ($table, $size) = split /\|/;
		$note->("size of $table", $size);
	}
	return;
}

# The largest value of each series in a round of runs.
sub run_round
{
	my $enough = runs() + $options{rate} * $options{seconds};
	my $began = time;
	my %round;

	while (runs() < $enough)
	{
		my $tick = time;
		value(sprintf $work, $options{rate} * TICK, $options{rate});
		look(\%round);
		die "no end of the round in sight" if $tick > $began + $options{seconds} + PATIENCE;
		my $left = TICK - (time - $tick);
		usleep($left * 1e6) if $left > 0;
	}
	$round{rate} = $options{rate} * $options{seconds} / (time - $began);
	return \%round;
}

# What is larger in one round than in the other, and not by chance.
sub growth
{
	my ($before, $after) = @_;
	my @grown;

	foreach my $series (sort keys %$after)
	{
		my $was = $before->{$series} // 0;
		my $limit = $series =~ /^memory/ ? $was + SLACK : $was * 1.2 + 1024;
		push @grown, "$series: $was -> $after->{$series} kB"
		  if $series ne 'rate' && $after->{$series} > $limit;
	}
	return join(', ', @grown);
}

sub say_round
{
	my ($number, $round) = @_;
	diag(sprintf('round %d: %.0f runs/s, ', $number, $round->{rate})
		. join(', ', map { "$_ $round->{$_} kB" } grep { /^memory|job_(?:queue|execution|counter|lease|cursor|item_failure|rate_hit)$/ } sort keys %$round));
	return;
}

sub soak
{
	%options = (rate => 500, seconds => 300, rounds => 6, @_);
	my ($grown, @rounds);

	$node = janitor_node('soak', 'autovacuum_naptime = 1s', 'log_min_messages = error',
		'max_worker_processes = 16', 'pg_janitor.log_runs = none');
	$node->safe_psql('postgres', $set_up);
	$session = $node->background_psql('postgres');
	$session->set_query_timer_restart;

	while (@rounds < $options{rounds})
	{
		push @rounds, run_round();
		say_round(scalar @rounds, $rounds[-1]) if !$options{until_flat};
		next if @rounds < 3;
		$grown = growth($rounds[ $options{until_flat} ? -2 : int(@rounds / 2) ], $rounds[-1]);
		last if $options{until_flat} && $grown eq '';
	}
	is($grown, '', "$options{rate} runs a second: after a while nothing grows")
	  or map { say_round($_ + 1, $rounds[$_]) } 0 .. $#rounds;
	is(join(', ', grep { !$rounds[-1]{"memory of pg_janitor $_"} } qw(launcher scheduler worker)), '',
		'all processes were looked at');
	is(value(q{SELECT string_agg(job_name, ', ') FROM job_metrics WHERE succeeded = 0 AND job_name <> 'fails' OR job_name = 'fails' AND failed = 0}), '',
		'all jobs have run');
	$session->quit;
	quiet_log($node, 'nothing died');
	$node->stop;
	return;
}

1;
