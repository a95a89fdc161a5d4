# Who may call which function and read which table: nobody, until told so, and
# then exactly what the capability says, on jobs of roles that one can act for.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JanitorCalls;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = janitor_node('rights');
my $value = calls_fixture($node);
my @functions = sort keys %CALLS;
my @statements = map { [ call_sql($_, $value), $CALLS{$_}{outside} ] } @functions;

is(unlisted($node), '', 'every function is in the list of calls');

# The SQLSTATE that a role's call has to end with; "denied": by the function's
# own privileges, before it is called.
sub expected
{
	my ($role, $call) = @_;
	my $allowed = $call->{who} =~ /\bpublic\b/ || $role eq 'superuser'
	  || ($role =~ /^m_(\w+)/ && $call->{who} =~ /\b$1\b/)
	  || ($role eq 'stranger' && $call->{who} !~ /\bsuperuser\b/);

	return $call->{unlike}{$role} if $call->{unlike}{$role};
	return 'denied' if !$allowed;
	return $call->{stranger} || '42704' if $role eq 'stranger';
	return $call->{state} || '00000';
}

foreach my $role (qw(nobody insider m_define m_operate m_observe m_work stranger superuser))
{
	my @results = try_calls($node, $role eq 'superuser' ? 'postgres' : $role, @statements);

	foreach my $i (0 .. $#functions)
	{
		my $result = $results[$i];
		my $state = $result->{said} =~ /permission denied for (?:function|procedure) job_/
		  ? 'denied' : $result->{state};

		is($state, expected($role, $CALLS{ $functions[$i] }), "$role: $functions[$i]")
		  or diag $result->{said};
	}
}

# What the roles hold, as the catalogs have it.
my $tables = q{
	SELECT c.oid, c.relname, c.relkind FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'pg_janitor' AND c.relkind IN ('r', 'v', 'S')};

is(one_query($node, 'postgres', qq{
	SELECT string_agg(DISTINCT concat_ws(' ', grantee::regrole, privilege_type), ', ')
	FROM ($tables) t JOIN pg_class c USING (oid), aclexplode(c.relacl)
	WHERE c.relkind <> 'v' AND grantee <> c.relowner}),
	'm_observe SELECT', 'on tables and sequences nobody holds anything, but to observe SELECT');
is(one_query($node, 'postgres', qq{
	SELECT string_agg(relname, ' ' ORDER BY relname) FROM ($tables) t
	WHERE relkind = 'r' AND NOT has_table_privilege('m_observe', oid, 'SELECT')}),
	'job_lease job_mask_secret job_rate_hit',
	'to observe is to read the tables, without tokens, secrets and what only counts');
is(one_query($node, 'postgres', qq{
	SELECT string_agg(DISTINCT concat_ws(' ', grantee::regrole, privilege_type), ', ')
	FROM ($tables) t JOIN pg_class c USING (oid), aclexplode(c.relacl)
	WHERE c.relkind = 'v' AND grantee <> c.relowner}),
	'- SELECT', 'everybody may read the views, and no more');
is(one_query($node, 'postgres', qq{
	SELECT coalesce(string_agg(relname, ' '), '') FROM ($tables) t
	JOIN pg_class c USING (oid, relname, relkind)
	WHERE relkind = 'v' AND NOT coalesce('security_barrier=true' = ANY (c.reloptions), false)}),
	'', 'each view is a security barrier');
is(one_query($node, 'postgres', q{
	SELECT coalesce(string_agg(p.proname, ' '), '') FROM pg_proc p
	WHERE p.proname ~ '^job_' AND p.prosecdef}),
	'', 'no function is SECURITY DEFINER');
is(one_query($node, 'postgres', q{
	SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relname ~ '^job_'}),
	'0', 'no table has a trigger');

subtest 'work is the right to one external job' => sub {
	$node->safe_psql('postgres', q{
		SET client_min_messages = error;
		CREATE ROLE worker LOGIN;
		SELECT job_schedule_external('post', owner => 'app');
		SELECT job_trigger('post');
		SELECT job_grant('worker', 'work', 'mail')});
	my ($granted, $other, $trigger, $finish) = try_calls($node, 'worker',
		q{DO $$BEGIN ASSERT (SELECT count(*) = 1 FROM job_claim('mail')); END$$},
		q{SELECT * FROM job_claim('post')}, q{SELECT job_trigger('mail')},
		"SELECT job_finish($value->{leased}, $value->{token})");
	is($granted->{state}, '00000', 'its runs can be claimed');
	is($other->{state}, '42704', 'those of another job of the same owner cannot');
	like($other->{said}, qr/job "post" does not exist\n(?!.*Perhaps)/s, 'it does not exist');
	is($trigger->{state}, '42501', 'nor can it be triggered');
	is($finish->{state}, '00000', 'a lease is finished by who has its token');
	is(one_query($node, 'worker', 'SELECT count(*) FROM job_status'), '0',
		'it shows nothing of the job');

	$node->safe_psql('postgres', q{SELECT job_revoke('worker', 'work', 'mail')});
	my ($claim) = try_calls($node, 'worker', q{SELECT * FROM job_claim('mail')});
	like($claim->{said}, qr/permission denied for function job_claim/, 'revoked, it is gone');
};

subtest 'what is revoked goes, what another capability contains stays' => sub {
	my $can = sub {
		my ($role) = @_;
		return one_query($node, 'postgres', qq{
			SELECT concat_ws(' ',
				CASE WHEN has_function_privilege('$role', 'job_alter(text, jsonb)', 'EXECUTE') THEN 'define' END,
				CASE WHEN has_function_privilege('$role', 'job_retry(bigint)', 'EXECUTE') THEN 'operate' END,
				CASE WHEN has_function_privilege('$role', 'job_why(text)', 'EXECUTE') THEN 'look' END,
				CASE WHEN has_function_privilege('$role', 'job_finish(bigint, uuid, boolean, bigint, text, jsonb, boolean, interval)', 'EXECUTE') THEN 'work' END,
				CASE WHEN has_table_privilege('$role', 'job_execution', 'SELECT') THEN 'observe' END,
				CASE WHEN EXISTS (SELECT FROM pg_namespace n, aclexplode(n.nspacl) a
					WHERE n.nspname = 'public' AND a.grantee = '$role'::regrole) THEN 'schema' END)});
	};
	$node->safe_psql('postgres', q{CREATE ROLE several;
		SELECT job_grant('several'), job_grant('several', 'operate'), job_grant('several', 'observe')});
	is($can->('several'), 'define operate look work observe schema', 'all of them');
	$node->safe_psql('postgres', q{SELECT job_revoke('several', 'operate')});
	is($can->('several'), 'define operate look work observe schema',
		'without operate: define contains it');
	$node->safe_psql('postgres', q{SELECT job_revoke('several', 'observe')});
	is($can->('several'), 'define operate look work schema', 'without observe');
	$node->safe_psql('postgres', q{SELECT job_grant('several', 'observe'),
		job_grant('several', 'work', 'mail'), job_revoke('several')});
	is($can->('several'), 'look work observe schema', 'observe and work are left of define');
	$node->safe_psql('postgres', q{SELECT job_revoke('several', 'observe')});
	is($can->('several'), 'work schema', 'work alone');
	$node->safe_psql('postgres', q{SELECT job_revoke('several', 'work', 'mail')});
	is($can->('several'), '', 'nothing');
};

subtest 'an owner is changed by who can act for both' => sub {
	$node->safe_psql('postgres', q{
		SET client_min_messages = error;
		CREATE ROLE lib LOGIN; CREATE ROLE app_maker LOGIN IN ROLE app;
		CREATE ROLE app_and_lib LOGIN IN ROLE app, lib;
		SELECT job_grant('lib'), job_grant('app_maker'), job_grant('app_and_lib');
		SELECT job_schedule('moves', NULL, 'SELECT 1', owner => 'app')});
	my $move = q{SELECT job_alter('moves', '{"owner": "lib"}')};
	my $again = q{SELECT job_schedule('moves', NULL, 'SELECT 1', owner => 'lib')};
	foreach my $case ([ app_maker => '42501' ], [ lib => '42704', '42710' ],
		[ app_and_lib => '00000' ],
		[ postgres => '00000' ])
	{
		my ($role, $alter, $replace) = @$case;
		my @results = try_calls($node, $role, $move, $again);
		is($results[0]{state}, $alter, "job_alter(), $role");
		is($results[1]{state}, $replace || $alter, "job_schedule(), $role");
	}
};

subtest 'a job that runs as a superuser' => sub {
	$node->safe_psql('postgres', q{CREATE ROLE boss LOGIN SUPERUSER; CREATE ROLE deputy LOGIN;
		GRANT boss TO deputy; SELECT job_grant('deputy')});
	my %define = (
		sql => q{SELECT job_schedule('s', NULL, 'SELECT 1', owner => 'boss')},
		items => q{SELECT job_schedule_items('s', NULL, 'SELECT id FROM app.people', 'SELECT 1', owner => 'boss')},
		retention => q{SELECT job_schedule_retention('s', NULL, 'app.letters', 'sent', '90 days', owner => 'boss')});
	foreach my $kind (sort keys %define)
	{
		my ($warned) = try_calls($node, 'postgres', $define{$kind});
		is($warned->{state}, '00000', "$kind: can be defined by a superuser");
		like($warned->{said}, qr/WARNING:  01000: job "s" will run as superuser "boss"/,
			"$kind: with a warning");
		my ($denied) = try_calls($node, 'deputy', $define{$kind});
		is($denied->{state}, '42501', "$kind: not by a member of his");
		my ($off) = try_calls($node, 'postgres',
			"SET LOCAL pg_janitor.allow_superuser_jobs = off; $define{$kind}");
		is($off->{state}, '42501', "$kind: not where they are switched off");
	}
};

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
