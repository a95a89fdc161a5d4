# What a role learns of the jobs of a role that it is no member of: nothing.
# Neither from the views, nor from any function and its errors, hints and
# context, whatever it is called with, nor from the activity of processes,
# their locks and notifications, nor from an event trigger.
#
# Names of theirs contain zebra, what belongs to them giraffe, their owner is
# okapi; the stranger asks for names that are nearly right (zebr4), which must
# bring out none of these, and for the right ones, which must bring out no more
# than was asked for.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use JanitorCalls;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = janitor_node('strangers', 'pg_janitor.log_runs = all');
my $value = calls_fixture($node);

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	SET client_min_messages = error;
	CREATE ROLE okapi LOGIN;
	CREATE ROLE team; GRANT team TO okapi, stranger;
	CREATE SCHEMA wild AUTHORIZATION okapi; GRANT USAGE ON SCHEMA wild TO stranger;
	SELECT job_grant('okapi');
	SET ROLE okapi;
	CREATE TABLE wild.animals (id int PRIMARY KEY, name text, email text, born timestamptz);
	INSERT INTO wild.animals VALUES (1, 'giraffe', 'giraffe', '2020-01-01');
	SELECT job_set_circuit('zebra wire'), job_set_circuit('team wire', owner => 'team');
	SELECT job_schedule('zebra nightly', '0 0 29 2 *', $$DO 'BEGIN RAISE EXCEPTION ''giraffe''; END'$$,
		description => 'giraffe', tags => '{giraffe}', args => '{"giraffe": "giraffe"}',
		circuit => 'team wire');
	SELECT job_schedule('zebra long', NULL, $$SELECT 'giraffe', pg_advisory_xact_lock(4711)$$);
	SELECT job_schedule_retention('zebra keeps', NULL, 'wild.animals', 'born', '9000 days',
		filter => 'r.name = ''giraffe''');
	SELECT job_schedule_items('zebra people', NULL, 'SELECT name AS giraffe, email FROM wild.animals',
		'SELECT 1/0', settings => '{"search_path": "wild, public"}');
	SELECT job_set_rule('zebra people', 'giraffe', 'wild.animals', action => 'anonymize',
		match => 'r.name = $1->>''giraffe''', set => 'email = NULL');
	SELECT job_schedule_external('zebra mail', circuit => 'zebra wire');
	SELECT job_set_rate_limit('zebra mail', 10, '1 h', 'giraffe');
	SELECT job_hold_place('wild.animals', 'r.name = ''giraffe''', 'giraffe'),
		job_pause('zebra people', 'giraffe');
	RESET ROLE;
	-- a chain that ends in a job of theirs
	SET ROLE stranger;
	SELECT job_schedule('mine', NULL, 'SELECT 1'), job_schedule('tail', NULL, 'SELECT 1');
	RESET ROLE;
	SELECT job_alter('zebra long', '{"run_after": "mine"}'), job_alter('tail', '{"run_after": "zebra long"}');
	CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION job_erasure_watch();
});

my $gate = hold_lock($node);
my %id = (failed => run_job($node, 'zebra nightly')->{id}, running => trigger($node, 'zebra long'));
my $pid = wait_started($node, $id{running});
trigger($node, 'zebra mail', q('{"giraffe": 1}', key => 'giraffe')) for 1 .. 2;
trigger($node, 'zebra mail', q('{"giraffe": 2}'));
@id{qw(leased token)} = split /\|/, value(
	q{SELECT execution_id, token FROM job_claim('zebra mail', worker => 'giraffe') LIMIT 1});
$id{waiting} = trigger($node, 'zebra nightly', "run_at => '2099-01-01', key => 'giraffe'");
$id{hold} = value(q{SELECT max(id) FROM job_hold});

# --- what to try ---

my @names = ('zebra nightly', 'zebra long', 'zebra keeps', 'zebra people', 'zebra mail');
my @views = split /\n/, value(q{SELECT c.relname FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'pg_janitor' AND c.relkind = 'v' ORDER BY 1});
cmp_ok(scalar @views, '>=', 8, 'there are views');

# Every function, with every job's name in whatever argument takes one.
sub calls_with
{
	my ($alter) = @_;
	my (@statements, %seen);

	foreach my $function (sort keys %CALLS)
	{
		my %argument = @{ $CALLS{$function}{args} };

		next if $CALLS{$function}{outside};
		foreach my $name (map { literal($alter->($_)) } @names)
		{
			my %other;
			$other{job_name} = $name if exists $argument{job_name};
			$other{circuit} = literal($alter->('zebra wire')) if exists $argument{circuit};
			$other{relation} = "'wild.animals'" if exists $argument{relation};
			if ($function =~ /^job_schedule/)
			{
				# names of other jobs, in options
				push @statements, map { call_sql($function, $value, owner => undef, job_name => "'other'",
						relation => "'wild.animals'", $_ => $name) } qw(run_after on_failure);
				push @statements, call_sql($function, $value, owner => undef,
					job_name => "'other'", options => "jsonb_build_object('circuit', $other{job_name})");
			}
			next if !%other;
			push @statements, call_sql($function, $value, %other, owner => undef);
		}
		foreach my $id (map { $id{$_} } qw(failed running leased waiting))
		{
			push @statements, call_sql($function, $value, execution_id => $id, timeout => "'0'")
			  if exists $argument{execution_id};
		}
	}
	return grep { !$seen{$_}++ } @statements;
}

# The right token in the wrong hands; ids of other things; cycles.
my @others = (
	"SELECT job_finish($id{leased}, '$id{token}')",
	"SELECT job_extend($id{leased}, '$id{token}')",
	"SELECT job_hold_release($id{hold})",
	q{SELECT job_alter('mine', '{"run_after": "tail"}')},
	q{SELECT job_drop_circuit('team wire')},
	q{SELECT * FROM job_logs()}, q{SELECT * FROM job_logs(only_failures => true, max_rows => NULL)},
	q{SELECT job_pause()}, q{SELECT job_resume()},
	q{SELECT job_erasure_gaps('wild.animals')}, q{SELECT job_erasure_gaps('wild.animals', include_covered => true)},
	q{CREATE TABLE public.more (id int, name text, email text)},
	map { "SELECT * FROM $_" } @views,
	'pg_locks', 'pg_stat_activity', 'pg_prepared_xacts', 'pg_stat_user_tables');
$node->safe_psql('postgres', 'GRANT CREATE ON SCHEMA public TO stranger, nobody');

sub reveals_nothing
{
	my ($user, $name, $pattern, @statements) = @_;
	my ($script, $said) = ("SET client_min_messages = debug1;\n", '');
	my $found = 0;

	$script .= "BEGIN;\n\\echo <<<\n$_;\n\\echo >>>\nROLLBACK;\n" foreach @statements;
	$script .= "\\echo END\n";
	IPC::Run::run(
		[ 'stdbuf', '-oL', 'psql', '-Xa', '-U', $user, '-d', $node->connstr('postgres'),
			'-v', 'VERBOSITY=verbose', '-v', 'SHOW_CONTEXT=always' ],
		'<', \$script, '>&', \$said);
	like($said, qr/^END$/m, "$user, $name: the session lived through it");

	# what psql repeats of the statement is no answer
	my @answers = map { s/^.*?;\n//sr } $said =~ /^<<<\n(.*?)^\\echo >>>/msg;
	is(scalar @answers, scalar @statements, "$user, $name: there is an answer to each");
	foreach my $i (0 .. $#answers)
	{
		my $answer = $answers[$i];

		# the server shows the line of an error, which is ours
		$answer =~ s/^LINE \d+: .*\n *\^\n//mg;
		next if $answer !~ $pattern;
		fail("$user, $name: $statements[$i]");
		diag($answer);
		last if ++$found == 10;
	}
	ok(!$found, "$user, $name: nothing is revealed");
	return;
}

foreach my $user (qw(nobody stranger))
{
	reveals_nothing($user, 'what there is', qr/zebra|giraffe/i, @others);
	reveals_nothing($user, 'names nearly right', qr/zebra|giraffe/i,
		calls_with(sub { $_[0] =~ s/zebra/zebr4/r }));
	reveals_nothing($user, 'the right names', qr/giraffe|"okapi"/i,
		grep { !/job_hold_place/ } calls_with(sub { $_[0] }));
}
$gate->quit;

# --- notifications ---

my $told = $node->background_psql('postgres', extra_params => [ '-U', 'nobody' ]);
$told->query_safe('LISTEN pg_janitor');
trigger($node, 'zebra mail');
my $heard = '';
for (my $looks = 0; $looks < 100_000 && $heard !~ /claimable/; $looks++)
{
	$heard .= $told->query_safe('SELECT 1');
}
like($heard, qr/payload "\{"event": "claimable"\}"/, 'who listens is told that there is work');
unlike($heard, qr/zebra|giraffe|okapi/, 'and not of which job');
$told->quit;

# --- a name that another role takes over ---

value(q{
	SET client_min_messages = error;
	ALTER ROLE okapi RENAME TO gone; CREATE ROLE okapi LOGIN; SELECT job_grant('okapi')});
is(one_query($node, 'okapi', q{SELECT count(*) FROM job_status}), '0',
	'whoever takes the name of an owner sees none of his jobs');
is(one_query($node, 'okapi', q{SELECT count(*) FROM job_runs}), '0', 'nor what they did');
is(one_query($node, 'okapi', q{SELECT count(*) FROM job_waiting}), '0', 'nor what waits');
my ($wire, $shared) = try_calls($node, 'okapi', q{SELECT job_circuit_allows('zebra wire')},
	q{DO $$BEGIN ASSERT (SELECT count(*) = 0 FROM job_circuits); END$$});
is($wire->{state}, '42704', 'nor uses his circuits');
is($shared->{state}, '00000', 'nor sees them');

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
