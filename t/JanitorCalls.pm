package JanitorCalls;

# Every SQL function of pg_janitor: a call of it that does what it is for, and
# who may make it.  What is true of all functions is tested with this list: who
# is refused (032_rights.pl), what strangers learn (033_strangers.pl), what
# becomes of arguments that are nonsense (043_fuzz.pl).  A function that is not
# in it fails those tests.
#
# Calls are for the fixture that calls_fixture() makes, and are rolled back:
# jobs of the role app, one of each kind, and what belongs to them.

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use JanitorTest;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(%CALLS calls_fixture call_sql call_name try_calls unlisted
  one_query);

# function => {
#	args		=> named arguments, SQL expressions; <name> is a value of the
#				   fixture
#	who			=> the capabilities that contain it; public; superuser
#	state		=> SQLSTATE that a call by who may ends with (00000)
#	stranger	=> SQLSTATE for who may define, operate and work, and is no
#				   member of the owner (42704: what is not his does not exist)
#	unlike		=> SQLSTATEs of single roles
#	outside		=> it is a procedure, not to be called inside a transaction block
#	scalar		=> it cannot be called in FROM
# }
our %CALLS = (
	'job_schedule' => {
		who => 'define', stranger => '42501',
		args => [ job_name => "'new'", schedule => "'0 3 * * *'", command => "'SELECT 1'",
			owner => "'app'", args => q('{"a": 1}'), timeout => "'1 min'", tags => "'{x,y}'",
			settings => q('{"work_mem": "1MB"}'), retry_delay => "'1 s'",
			options => q('{"priority": 3, "max_attempts": 2}') ]
	},
	'job_schedule_retention' => {
		who => 'define', stranger => '42501',
		args => [ job_name => "'new'", schedule => "'\@daily'", relation => "'app.letters'",
			time_column => "'sent'", keep => "'90 days'", filter => "'r.id > 0'",
			owner => "'app'", options => q('{"batch_rows": 100}') ]
	},
	'job_schedule_items' => {
		who => 'define', stranger => '42501',
		args => [ job_name => "'new'", schedule => 'NULL',
			items => "'SELECT id, email FROM app.people'",
			command => q('UPDATE app.people SET note = NULL WHERE id = ($1->>''id'')::int'),
			owner => "'app'", channel => "'told'" ]
	},
	'job_schedule_external' => {
		who => 'define', stranger => '42501',
		args => [ job_name => "'new'", schedule => "'every 90 seconds'", owner => "'app'",
			max_running => '3' ]
	},
	'job_set_rule' => {
		who => 'define',
		args => [ job_name => "'keeps'", rule => "'extra'", relation => "'app.people'",
			action => "'anonymize'", expired_when => q('r.note = ''old'''),
			set => q('email = job_mask_email(r.email, ''app key''), note = NULL') ]
	},
	'job_drop_rule' => {
		who => 'define', args => [ job_name => "'keeps'", rule => "'second'" ]
	},
	'job_alter' => {
		who => 'define',
		args => [ job_name => "'nightly'",
			changes => q('{"timeout": "5 minutes", "schedule": "@daily", "tags": ["z"], "args": {"b": [1, 2]}}') ]
	},
	'job_enable' => { who => 'define', args => [ job_name => "'nightly'" ] },
	'job_disable' => { who => 'define', args => [ job_name => "'nightly'" ] },
	'job_unschedule' => { who => 'define', args => [ job_name => "'keeps'" ] },

	'job_pause' => {
		who => 'operate define',
		args => [ job_name => "'nightly'", reason => "'because'",
			until => "'2099-01-01'", cancel_running => 'true' ]
	},
	'job_resume' => {
		who => 'operate define',
		args => [ job_name => "'nightly'", catch_up => 'true' ]
	},
	'job_rearm' => { who => 'define', args => [ job_name => "'nightly'" ] },
	'job_trigger' => {
		who => 'operate define',
		args => [ job_name => "'nightly'", args => q('{"a": 2}'),
			run_at => "'2099-01-01'", key => "'a key'" ]
	},
	'job_retry' => { who => 'operate define', args => [ execution_id => '<failed>' ] },
	'job_retry_items' => {
		who => 'operate define',
		args => [ job_name => "'people'", item_key => "'2'" ]
	},
	'job_cancel(bigint)' => {
		who => 'operate define', args => [ execution_id => '<waiting>' ]
	},
	'job_cancel(text, text)' => {
		who => 'operate define', args => [ job_name => "'nightly'", key => "'later'" ]
	},
	'job_wait' => {
		who => 'observe operate define',
		args => [ execution_id => '<failed>', timeout => "'1 s'" ]
	},
	'job_run' => {
		who => 'operate define', outside => 1,
		args => [ job_name => "'nightly'", args => q('{"a": 3}') ]
	},

	'job_next_runs' => {
		who => 'observe operate define', stranger => '00000',
		args => [ schedule => "'0 0 29 2 *'", time_zone => "'Europe/Berlin'",
			after => "'2026-01-01'", count => '3' ]
	},
	'job_why' => { who => 'observe operate define', args => [ job_name => "'nightly'" ] },
	'job_preview' => {
		who => 'operate define', args => [ job_name => "'keeps'", exact => 'true' ]
	},
	'job_logs' => {
		who => 'observe operate define', stranger => '00000',
		args => [ job_name => "'fails'", max_rows => '10', only_failures => 'true',
			since => "'2000-01-01'" ]
	},
	'job_running' => { who => 'public', stranger => '00000', args => [] },
	'job_progress_rows' => { who => 'public', stranger => '00000', args => [] },
	'job_heavy_room' => { who => 'public', stranger => '00000', args => [] },
	'job_owner_problem' => {
		who => 'public', stranger => '00000',
		args => [ owner => "'app'", owner_oid => '10' ]
	},
	'job_disarmed' => {
		who => 'public', stranger => '00000',
		args => [ home => '1', home_database => '1', environment => "'prod'" ]
	},
	'job_circuit_state' => {
		who => 'public', stranger => '00000', args => [ circuit => "'wire'" ]
	},
	'job_erasure_warning' => {
		who => 'public', stranger => '00000', args => [ job_name => "'people'" ]
	},

	'job_hold_place' => {
		who => 'define', stranger => '42501',
		args => [ relation => "'app.letters'", predicate => "'r.id = 4'",
			reason => "'case 7'", until => "'2099-01-01'" ]
	},
	'job_hold_release' => { who => 'define', args => [ id => '<hold>' ] },

	(map { ("job_$_" => { who => 'public', state => '55000', stranger => '55000', args => [] }) }
		qw(args execution_id scheduled_for now)),
	'job_arg' => {
		who => 'public', state => '55000', stranger => '55000', args => [ key => "'a'" ]
	},
	'job_report' => {
		who => 'public', state => '55000', stranger => '55000',
		args => [ records => '1', result => q('{"x": 1}') ]
	},

	'job_claim' => {
		who => 'work define',
		args => [ job_name => "'mail'", max_runs => '2', lease => "'1 min'",
			worker => "'w1'" ]
	},
	'job_extend' => {
		who => 'work define', stranger => '55000',
		args => [ execution_id => '<leased>', token => '<token>', lease => "'2 min'" ]
	},
	'job_finish' => {
		who => 'work define', stranger => '55000',
		args => [ execution_id => '<leased>', token => '<token>', success => 'false',
			records => '1', error => "'503'", result => q('{"x": 1}'), permanent => 'false' ]
	},
	'job_set_circuit' => {
		who => 'define', stranger => '42710',
		args => [ circuit => "'wire'", failure_threshold => '4', window => "'1 min'",
			cooldown => "'5 s'" ]
	},
	'job_drop_circuit' => { who => 'define', args => [ circuit => "'spare'" ] },
	'job_circuit_allows' => {
		who => 'work operate define', args => [ circuit => "'wire'" ]
	},
	'job_circuit_report' => {
		who => 'work operate define', args => [ circuit => "'wire'", success => 'true' ]
	},
	'job_set_rate_limit' => {
		who => 'define',
		args => [ job_name => "'mail'", max_runs => '7', per => "'1 min'", arg => "'to'" ]
	},
	'job_drop_rate_limit' => {
		who => 'define', args => [ job_name => "'mail'", arg => "'teacher'", per => "'1 h'" ]
	},
	'job_rate_limit_wait' => {
		who => 'work observe operate define',
		args => [ job_name => "'mail'", args => q('{"teacher": 7}') ]
	},

	'job_mask_hash' => _keyed("'some text'::text"),
	'job_mask_name' => _keyed("'some name'::text"),
	'job_mask_email' => _keyed("'a\@example.org'"),
	'job_mask_partial' => {
		who => 'public', stranger => '00000',
		args => [ value => "'1234567890'", keep_left => '2', pad => "'x'", keep_right => '2' ]
	},
	'job_mask_phone' => { who => 'public', stranger => '00000', args => [ value => "'+49 30 123456'" ] },
	'job_mask_text' => { who => 'public', stranger => '00000', args => [ value => "'secret'" ] },
	'job_mask_ip' => {
		who => 'public', stranger => '00000',
		args => [ value => "'192.0.2.77'", ipv4_bits => '24', ipv6_bits => '48' ]
	},
	'job_mask_date(date, text)' => {
		who => 'public', stranger => '00000',
		args => [ value => "'2026-07-08'::date", unit => "'month'" ]
	},
	'job_mask_date(timestamp without time zone, text)' => {
		who => 'public', stranger => '00000',
		args => [ value => "'2026-07-08 09:10:11'::timestamp", unit => "'hour'" ]
	},
	'job_mask_date(timestamp with time zone, text, text)' => {
		who => 'public', stranger => '00000',
		args => [ value => "'2026-07-08 09:10:11+02'::timestamptz", unit => "'day'",
			time_zone => "'Europe/Berlin'" ]
	},
	'job_mask_number' => {
		who => 'public', stranger => '00000', args => [ value => '1234.5', step => '100' ]
	},
	'job_mask_json' => {
		who => 'public', stranger => '00000',
		args => [ value => q('{"user": {"email": "a", "n": [1, 2]}}'),
			paths => q('{user.email,**.n.0}'), replacement => q('"gone"') ]
	},
	'job_mask_create_key' => {
		who => 'define', stranger => '42501',
		args => [ name => "'new key'", owner => "'app'", anew => 'false' ]
	},
	'job_mask_forget_key' => {
		who => 'define', stranger => '42501', args => [ name => "'app key'" ]
	},

	'job_erasure_gaps' => {
		who => 'observe operate define', stranger => '42501',
		args => [ relation => "'app.people'", job_name => "'people'", include_covered => 'true' ]
	},
	'job_propose_erasure' => {
		who => 'define', stranger => '42501',
		args => [ relation => "'app.people'", job_name => "'new'" ]
	},
	'job_receipt_verify' => {
		who => 'observe operate define', args => [ job_name => "'people'" ]
	},
	'job_receipt_find' => {
		who => 'operate define', args => [ job_name => "'people'", item_key => "'1'" ]
	},
	'job_receipt_import' => { who => 'superuser', args => [ source => "'job_receipt'" ] },
	'job_erasure_replay' => {
		who => 'operate define', args => [ job_name => "'people'", since => "'2026-01-01'" ]
	},
	'job_erasure_watch' => { who => 'superuser', state => '39P03', scalar => 1, args => [] },

	'job_grant' => {
		who => 'superuser', args => [ role => "'insider'", capability => "'work'", job_name => "'mail'" ]
	},
	'job_revoke' => {
		who => 'superuser', args => [ role => "'m_work'", capability => "'work'", job_name => "'mail'" ]
	},
);

# Masks with a key are for whoever may act for its owner, and for nobody else.
sub _keyed
{
	my ($value) = @_;
	return {
		who => 'public', stranger => '42501', unlike => { nobody => '42501' },
		args => [ value => $value, key => "'app key'" ]
	};
}

# The roles and jobs that the calls are about; the values that stand for <...>.
sub calls_fixture
{
	my ($node) = @_;
	my %value;

	$node->safe_psql('postgres', q{
		SET client_min_messages = error;
		CREATE ROLE app LOGIN; CREATE ROLE nobody LOGIN;
		CREATE ROLE insider LOGIN IN ROLE app;
		CREATE ROLE m_define LOGIN IN ROLE app; CREATE ROLE m_operate LOGIN IN ROLE app;
		CREATE ROLE m_observe LOGIN IN ROLE app; CREATE ROLE m_work LOGIN IN ROLE app;
		CREATE ROLE stranger LOGIN;
		CREATE SCHEMA app AUTHORIZATION app;
		SET ROLE app;
		CREATE TABLE app.people (id int PRIMARY KEY, email text, note text);
		CREATE TABLE app.letters (id int PRIMARY KEY, sent timestamptz,
			person int REFERENCES app.people ON DELETE CASCADE);
		INSERT INTO app.people VALUES (1, 'a@example.org', 'x'), (2, 'b@example.org', 'y');
		INSERT INTO app.letters VALUES (1, '2020-01-01', 1), (2, now(), 2);
		RESET ROLE;
		SELECT job_grant('m_define'), job_grant('m_operate', 'operate'),
			job_grant('m_observe', 'observe'), job_grant('stranger'),
			job_grant('stranger', 'operate');
		SET ROLE m_define;
		SELECT job_schedule('nightly', '0 0 29 2 *', 'SELECT 1', args => '{"a": 1}', owner => 'app');
		SELECT job_schedule('fails', NULL, 'SELECT 1/0', owner => 'app');
		SELECT job_schedule_retention('keeps', NULL, 'app.letters', 'sent', '90 days', owner => 'app');
		SELECT job_set_rule('keeps', 'second', 'app.people', expired_when => 'r.note = ''old''');
		SELECT job_schedule_items('people', NULL, 'SELECT id, email FROM app.people',
			command => 'SELECT 1 / (2 - ($1->>''id'')::int)', receipts => true,
			subjects => 'SELECT id, email FROM app.people', owner => 'app');
		SELECT job_set_circuit('wire', owner => 'app'), job_set_circuit('spare', owner => 'app');
		SELECT job_schedule_external('mail', circuit => 'wire', owner => 'app'),
			job_set_rate_limit('mail', 100, '1 h', 'teacher');
		SELECT job_mask_create_key('app key', 'app');
		RESET ROLE;
		SELECT job_grant('m_work', 'work', 'mail');
		SET ROLE stranger;
		SELECT job_schedule_external('own mail');
		RESET ROLE;
		SELECT job_grant('stranger', 'work', 'own mail');
	});
	$value{failed} = run_job($node, 'fails')->{id};
	run_job($node, 'people');
	$value{waiting} = trigger($node, 'nightly', "run_at => '2099-01-01', key => 'later'");
	$value{hold} = $node->safe_psql('postgres',
		q{SELECT job_hold_place('app.people', 'r.id = 1', 'case 1')});
	trigger($node, 'mail', q('{"teacher": 7}')) for 1 .. 3;
	@value{qw(leased token)} = split /\|/, $node->safe_psql('postgres',
		q{SELECT execution_id, token FROM job_claim('mail', lease => '1 day')});
	$value{token} = "'$value{token}'";
	return \%value;
}

# `job_cancel` of `job_cancel(bigint)`
sub call_name
{
	my ($function) = @_;
	return $function =~ /^(\w+)/ ? $1 : die;
}

# The statement; $other replaces arguments by name, undef leaves one out.
sub call_sql
{
	my ($function, $value, %other) = @_;
	my $call = $CALLS{$function} or die "no function $function";
	my @args = @{ $call->{args} };
	my @named;

	while (my ($name, $expression) = splice(@args, 0, 2))
	{
		$expression = $other{$name} if exists $other{$name};
		next if !defined $expression;
		$expression =~ s/<(\w+)>/$value->{$1}/g;
		push @named, qq("$name" => $expression);
	}
	return ($call->{outside} ? 'CALL ' : $call->{scalar} ? 'SELECT ' : 'SELECT * FROM ')
	  . call_name($function) . '(' . join(', ', @named) . ')';
}

# Tries statements as a user, each in a transaction that is rolled back, but
# for those that cannot be in one; for each { state, said }.
sub try_calls
{
	my ($node, $user, @statements) = @_;
	my ($script, $out, $said) = ('', '', '');
	my @results;

	foreach my $statement (@statements)
	{
		my ($sql, $outside) = ref $statement ? @$statement : ($statement, 0);
		$script .= "BEGIN;\n" unless $outside;
		$script .= "$sql;\n\\warn '<<<' :SQLSTATE\n";
		$script .= "ROLLBACK;\n" unless $outside;
	}
	IPC::Run::run(
		[ 'psql', '-XAtq', '-U', $user, '-d', $node->connstr('postgres'),
			'-v', 'VERBOSITY=verbose', '-v', 'SHOW_CONTEXT=always' ],
		'<', \$script, '>', \$out, '2>', \$said);
	push @results, { said => $1, state => $2 }
	  while $said =~ /\G(.*?)<<< (\w+)\n/gs;
	is(scalar @results, scalar @statements, "$user: the session has lived through it");
	return @results;
}

# Functions of the extension that are not in the list, and the other way round.
sub unlisted
{
	my ($node) = @_;
	my @there = split /\n/, $node->safe_psql('postgres', q{
		SELECT CASE WHEN count(*) OVER (PARTITION BY p.proname) = 1
			THEN p.proname::text ELSE replace(p.oid::regprocedure::text, ',', ', ') END
		FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
		JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		WHERE e.extname = 'pg_janitor' AND d.deptype = 'e' ORDER BY 1});
	my %there = map { $_ => 1 } @there;

	return join(', ', grep({ !$CALLS{$_} } @there),
		map { "$_ is gone" } grep { !$there{$_} } sort keys %CALLS);
}

# What a query returns to a user.
sub one_query
{
	my ($node, $user, $query) = @_;
	return $node->safe_psql('postgres', $query, extra_params => [ '-U', $user ]);
}

1;
