package JanitorContent;

# A database with something of everything that pg_janitor keeps, at rest; and
# all of it as text, to compare.

use strict;
use warnings;

use Exporter 'import';
use JanitorCrash;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(create_roles everything content);

# On each server that the content comes to; owner, worker, and one that is
# nowhere else.
sub create_roles
{
	my ($node) = @_;
	return value($node, 'CREATE ROLE app LOGIN; CREATE ROLE worker LOGIN; CREATE DATABASE app OWNER app');
}

my $definitions = q{
	SET client_min_messages = error;
	GRANT ALL ON SCHEMA public TO app;
	GRANT ALL ON effect, gate TO app;
	SELECT job_grant('app');
	SET ROLE app;
	CREATE TABLE session (id int PRIMARY KEY, at timestamptz);
	CREATE INDEX ON session (at);
	CREATE TABLE lost (id int PRIMARY KEY, at timestamptz);
	CREATE TABLE account (id int PRIMARY KEY, done boolean DEFAULT false);
	INSERT INTO session SELECT i, now() - interval '1 year' FROM generate_series(1, 100) i;
	INSERT INTO account VALUES (1), (2), (3);
	SELECT job_schedule_retention('purge', NULL, 'session', 'at', '30 days');
	SELECT job_set_rule('purge', 'more', 'session', expired_when => 'r.id < 0');
	SELECT job_schedule_retention('purge lost', NULL, 'lost', 'at', '30 days');
	SELECT job_hold_place('session', 'r.id <= 7', 'case 1');
	SELECT job_hold_place('lost', NULL, 'case 2');
	SELECT job_schedule_items('accounts', NULL, 'SELECT id FROM account WHERE NOT done',
		'UPDATE account SET done = true WHERE id = ($1->>''id'')::int AND 1 / (id - 2) IS NOT NULL', max_attempts => 1);
	SELECT job_set_circuit('smtp', failure_threshold => 1, cooldown => '1 hour');
	SELECT job_schedule_external('mail', circuit => 'smtp', max_running => 3);
	SELECT job_schedule_external('copy');
	SELECT job_set_rate_limit('copy', 1, '1 hour', arg => 'teacher');
	SELECT job_mask_create_key('tenant');
	CREATE TABLE person (id int PRIMARY KEY, name text, gone boolean NOT NULL DEFAULT false);
	INSERT INTO person SELECT n, 'p' || n FROM generate_series(1, 3) n;
	SELECT job_schedule_items('forget', NULL, 'SELECT id FROM person WHERE NOT gone');
	SELECT job_set_rule('forget', 'person', 'person', action => 'anonymize',
		match => 'r.id = ($1->>''id'')::int', set => 'name = NULL, gone = true');
	RESET ROLE;
	SELECT job_grant('worker', 'work', 'copy');
	SELECT job_schedule('of nobody', '* * * * * *', 'SELECT 1', owner => 'gone');
};

# Fills the database `app`: jobs, ten of them, of all kinds, and what comes of
# them; somebody who was erased has come back, and is to be erased again.
# Afterwards nothing moves, with one run still in progress.  Returns what is
# asked for later: the ids of a delayed trigger, of the run in progress, of a
# replay that waits, of a claimed run with its token; and the session that the
# run in progress waits for.
sub everything
{
	my ($node) = @_;
	my %is;

	value($node, 'CREATE ROLE gone LOGIN');
	value($node, q{CREATE SCHEMA janitor; CREATE EXTENSION pg_janitor SCHEMA janitor;
		ALTER DATABASE app SET search_path = public, janitor}, 'app');
	prepare_effects($node, 'app');
	value($node, $definitions, 'app');
	effect_job($node, 'probe', "owner => 'app'", 'app');
	effect_job($node, 'tick', "owner => 'app', schedule => '* * * * * *', catch_up => 'all'", 'app');
	define_job($node, 'long', UNTIL_RELEASED, "owner => 'app', max_attempts => 3, on_failure => 'probe'", 'app');

	goes_on($node, 'the original', 'app');
	is(run_job($node, 'accounts', undef, 'app')->{status}, 'failed', 'an item is dead');
	is(run_job($node, 'forget', undef, 'app')->{result}{receipts}, 3, 'there are receipts');
	trigger($node, 'mail', undef, 'app');
	value($node, q{SELECT job_finish(execution_id, token, false, error => 'refused') FROM job_claim('mail')}, 'app');
	trigger($node, 'copy', q{'{"teacher": 7}'}, 'app') for 1 .. 2;
	@is{ 'claimed', 'token' } = split /\|/,
	  value($node, q{SELECT execution_id, token FROM job_claim('copy', lease => '1 hour')}, 'app');
	$is{later} = trigger($node, 'probe',
		q{run_at => now() + interval '1 day', key => 'later', args => '{"n": 1}'}, 'app');

	$is{session} = hold_lock($node, 'app');
	$is{running} = trigger($node, 'long', undef, 'app');
	wait_started($node, $is{running}, 'app');
	value($node, q{SELECT job_pause('tick'); SELECT job_pause('of nobody')}, 'app');
	eventually_is($node, q{SELECT count(*) FROM job_running()}, 1, 'one run is in progress', 'app');
	value($node, 'ALTER DATABASE app SET pg_janitor.enabled = off');
	eventually_is($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1000
		AND database = (SELECT oid FROM pg_database WHERE datname = 'app')}, 0, 'the scheduler has left', 'app');
	value($node, q{UPDATE person SET gone = false, name = 'back' WHERE id = 2}, 'app');
	$is{replay} = value($node, q{SELECT execution_id FROM job_erasure_replay('forget', since => '2000-01-01')}, 'app');
	return \%is;
}

# Whatever is dumped, table by table: as text, in order, but for next
# occurrences, the run that was in progress (0: that too), whose end counts,
# and mask keys that CREATE EXTENSION itself has made in a database restored to.
sub content
{
	my ($node, $running, $database) = @_;
	my %where = (
		job_queue => q{key IS DISTINCT FROM '@schedule'},
		job_execution => "id <> $running",
		job_counter => "job_name NOT IN (SELECT job_name FROM job_execution WHERE id = $running)",
		job_mask_key => q{id NOT IN (SELECT id FROM job_mask_secret)
			OR NOT EXISTS (SELECT FROM job_mask_key k WHERE k.id NOT IN (SELECT id FROM job_mask_secret))});
	my @relations = split /\n/, value($node, q{SELECT c.relname FROM pg_extension x, unnest(extconfig) t
		JOIN pg_class c ON c.oid = t WHERE extname = 'pg_janitor'}, $database);
	my %content = map { $_ => '' } @relations;

	my $rows = value($node, join(' UNION ALL ', map {
		"SELECT '$_', " . (/_seq$/ ? q{concat_ws(' ', last_value, is_called)} : 'to_jsonb(t)::text') .
		" FROM $_ t WHERE " . ($where{$_} || 'true') } @relations) . ' ORDER BY 1, 2', $database);
	for my $row (split /\n/, $rows)
	{
		my ($relation, $what) = split /\|/, $row, 2;
		$content{$relation} .= "$what\n";
	}
	return \%content;
}

1;
