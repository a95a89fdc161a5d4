# Rules that have nothing to do with each other are worked on side by side if
# they say so, all others one after the other; whoever works on a rule, it has
# one limit and one result.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorHeavy;

my $node = janitor_node('rules', 'max_worker_processes = 16', 'pg_janitor.max_workers = 5');

sub value
{
	my ($query) = @_;
	return $node->safe_psql('postgres', "SET client_min_messages = error; $query");
}

# --- which rules are begun together ---

# Tables of one expired row each; deleting it waits as long as the gate is
# shut, and not for a lock.
my @tables = qw(person letter stamp coin);
value(q{CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT pg_try_advisory_xact_lock_shared(4711) LOOP
			PERFORM pg_sleep(0.005);	-- a job that takes long
		END LOOP;
		RETURN OLD;
	END $$});
value("CREATE TABLE $_ (id int PRIMARY KEY, at timestamptz, person_id int);
	CREATE TRIGGER gate BEFORE DELETE ON $_ FOR EACH ROW EXECUTE FUNCTION wait_at_gate()")
  foreach @tables;

sub fill
{
	value('TRUNCATE ' . join(', ', @tables));
	value("INSERT INTO $tables[$_] VALUES ($_, now() - interval '1 year')") foreach 0 .. $#tables;
	return;
}

# A job with one rule for each of these tables; the options of each are those
# given for it, or else the same for all.
sub define
{
	my ($rules, $all, %own) = @_;
	my $first = 1;
	value(q{SELECT FROM job_definition, job_unschedule(name)});
	foreach my $table (@$rules)
	{
		my $options = "'$table', 'at', '30 days', batch_rows => 10, " . ($own{$table} // $all);
		value($first ? "SELECT job_schedule_retention('purge', NULL, $options)" :
			"SELECT job_set_rule('purge', '$table', $options)");
		$first = 0;
	}
	return;
}

# The tables whose rules are begun while the first stands at the gate; and
# then, how the run ends.
sub begun
{
	my $gatekeeper = hold_lock($node);
	fill();
	my $id = trigger($node, 'purge');
	eventually($node, q{SELECT count(*) > 0 FROM pg_stat_activity
		WHERE backend_type = 'pg_janitor worker' AND wait_event = 'PgSleep'}, 'a worker at the gate');
	my $begun = value(q{SELECT string_agg(relation, ' ' ORDER BY id) FROM job_cursor});
	release_lock($gatekeeper);
	my $row = wait_run($node, $id);
	$begun =~ s/public\.//g;
	return "$begun: $row->{status} $row->{records_processed}";
}

sub are_begun
{
	my ($expected, $name) = @_;
	is(begun(), $expected, $name);
	return;
}

define([ qw(stamp coin) ], 'parallel => 2');
are_begun('stamp coin: succeeded 2', 'tables that have nothing to do with each other: together');
define([ qw(stamp coin letter) ], 'parallel => 2', coin => 'parallel => 1');
are_begun('stamp: succeeded 3', 'a rule for one worker is done alone, and in its place');
define([ qw(stamp coin letter) ], 'parallel => 2', coin => 'parallel => 2, stop_on_failure => true');
are_begun('stamp coin: succeeded 3', 'what may stop the rules after it is not overtaken by them');
define([ qw(stamp coin) ], 'parallel => 2', coin => q(parallel => 2, filter => 'NOT EXISTS (SELECT FROM stamp s WHERE s.person_id = r.id)'));
are_begun('stamp: succeeded 2', 'a condition that reads the other table: one after the other');
define([ qw(stamp coin) ], 'parallel => 2', stamp => q(parallel => 2, action => 'archive', archive_to => 'coin'));
are_begun('stamp: succeeded 3', 'an archive that is the other table: one after the other');
define([ qw(stamp stamp) ], 'parallel => 2');
are_begun('stamp: succeeded 1', 'the same table: one after the other');
value('ALTER TABLE letter ADD CONSTRAINT refers FOREIGN KEY (person_id) REFERENCES person');
define([ qw(letter person coin) ], 'parallel => 2');
are_begun('letter: succeeded 3', 'a table that refers to the other: one after the other');
define([ qw(letter coin person) ], 'parallel => 2');
are_begun('letter coin: succeeded 3', 'and what lies between them beside the first');
value(q(ALTER TABLE letter DROP CONSTRAINT refers;
	ALTER TABLE letter ADD CONSTRAINT refers FOREIGN KEY (person_id) REFERENCES person ON DELETE CASCADE;
	ALTER TABLE stamp ADD letter_id int REFERENCES letter ON DELETE SET NULL));
define([ qw(person stamp) ], 'parallel => 2');
are_begun('person: succeeded 2', 'a table that cascades reach: one after the other');
value(q(ALTER TABLE letter DROP CONSTRAINT refers; ALTER TABLE stamp DROP letter_id;
	ALTER TABLE stamp ADD FOREIGN KEY (person_id) REFERENCES person;
	ALTER TABLE coin ADD FOREIGN KEY (person_id) REFERENCES person));
define([ qw(stamp coin) ], 'parallel => 2');
are_begun('stamp coin: succeeded 2', 'both refer to a third one: together');

# One of them fails: the others go on, what all have done is counted.
value(q(ALTER TABLE letter ADD CHECK (person_id IS NULL);
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
	CREATE TRIGGER refuse AFTER DELETE ON coin FOR EACH ROW EXECUTE FUNCTION refuse()));
define([ qw(stamp coin letter person) ], 'parallel => 2', coin => 'parallel => 2');
are_begun('stamp coin letter: failed 3', 'one of several fails');
is(value(q(SELECT error_message FROM job_execution ORDER BY id DESC LIMIT 1)), 'rule "coin" failed: not this one',
	'and is named');
is(value(q(SELECT string_agg(r.key || ' ' || (r.value->>'rows'), ', ' ORDER BY r.key)
		FROM (SELECT result FROM job_execution ORDER BY id DESC LIMIT 1) e, jsonb_each(result->'rules') r)),
	'coin 0, letter 1, main 1, person 1', 'each has its result');
is(value('SELECT (SELECT count(*) FROM coin), (SELECT count(*) FROM stamp)'), '1|0', 'its rows are there');
define([ qw(stamp coin letter) ], 'parallel => 2', coin => 'parallel => 2, stop_on_failure => true');
are_begun('stamp coin: failed 1', 'and if it says so the ones after it do not run');
value('DROP FUNCTION refuse() CASCADE');

# --- at the same time ---

sub rules_in_hand
{
	my ($expected, $name) = @_;
	eventually($node, q{SELECT coalesce(string_agg(r || ' ' || n, ', ' ORDER BY r), '') = '} . $expected . q{'
		FROM (SELECT split_part(relation, '_', 1) AS r, count(*) AS n FROM job_progress
			  WHERE phase = 'deleting' GROUP BY 1) p}, $name);
	pass($name);
	return;
}

heavy_job($node, $_, rate => 20, rows => 4000, with => 'parallel => 2') foreach qw(north south);
value(q{SELECT job_set_rule('north', 'south', 'south', 'at', '1 day', batch_rows => 1, max_rows_per_second => 20, parallel => 3)});
set_setting($node, 'pg_janitor.max_workers', 3);
my $id = trigger($node, 'north');
rules_in_hand('public.north 1, public.south 1', 'a helper goes to the rule that nobody is at');
set_setting($node, 'pg_janitor.max_workers', 5);
rules_in_hand('public.north 2, public.south 2', 'others where there is room');
end_heavy($node, 'north');
rules_in_hand('public.south 3', 'who has nothing to do any more helps with the other');
value("SELECT job_cancel($id)");
my $row = wait_run($node, $id);
is("$row->{status} " . ($row->{records_processed} > 0 ? 'some' : 'none'), 'cancelled some', 'a cancel ends all of it');
helpers_are($node, 0);

# Helpers help with rules that are in hand, not with one that has failed.
value(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
	CREATE TRIGGER refuse BEFORE DELETE ON south_0 FOR EACH ROW EXECUTE FUNCTION refuse();
	SELECT job_unschedule('north');
	SELECT job_schedule_retention('north', NULL, 'south', 'at', '1 day', batch_rows => 1, parallel => 2);
	INSERT INTO north SELECT now() - interval '10 days', i % 8, repeat('x', 1000) FROM generate_series(1, 2000) i;
	SELECT job_set_rule('north', 'north', 'north', 'at', '1 day', batch_rows => 1, max_rows_per_second => 20, parallel => 3,
		filter => 'NOT EXISTS (SELECT FROM south o WHERE o.part < 0)')});
$id = trigger($node, 'north');
rules_in_hand('public.north 3', 'a rule that has failed is left alone');
end_heavy($node, 'north');
like(wait_run($node, $id)->{error_message}, qr/^rule "main" failed: not this one$/, 'and makes the run fail');

# --- one limit for all ---

heavy_job($node, 'limited', rate => 60, rows => 320, with => 'parallel => 3, abort_above_rows => 240');
value(q{UPDATE limited SET at = now() WHERE part >= 6});
$id = trigger($node, 'limited');
helpers_are($node, 2);
value(q{UPDATE limited SET at = now() - interval '10 days' WHERE part >= 6});
$row = wait_run($node, $id);
is("$row->{status} $row->{records_processed}", 'failed 240', 'no worker goes beyond what all together may');
is($row->{error_message}, 'rule "main" failed: more rows of public.limited are expired than the 240 that abort_above_rows allows',
	'which is what the run says');
is(rows_left($node, 'limited'), 80, 'and the rest is there');

# What helpers did is in the result.
is(value(qq{SELECT (result #>> '{rules,main,batches}')::int BETWEEN 240 AND 300,
	(result #>> '{rules,main,paused_ms,rate}')::int > 5000 FROM job_execution WHERE id = $id}), 't|t',
	'the result adds up the batches and the pauses of all workers');

quiet_log($node, 'no process of pg_janitor has died or got stuck');
$node->stop;
done_testing();
