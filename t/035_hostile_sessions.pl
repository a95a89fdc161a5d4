# What a role with every capability still cannot do: write or lock our tables,
# finish what it has not claimed, set what is the server's to set; and what its
# own settings, transactions and contexts do to it, and to nobody else.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JanitorCalls;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = janitor_node('sessions');
my $value = calls_fixture($node);

sub states
{
	my ($user, @statements) = @_;
	return map { $_->{state} } try_calls($node, $user, @statements);
}

# --- our tables ---

my %relations = map { my ($name, $kind) = split /\|/; ($name => $kind) } split /\n/, $node->safe_psql('postgres', q{
	SELECT c.relname, c.relkind FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'pg_janitor' AND c.relkind IN ('r', 'v', 'S')});
$node->safe_psql('postgres', q{SELECT job_grant('stranger', 'observe'); GRANT CREATE ON SCHEMA public TO stranger});

my @on_tables = ('INSERT INTO %s DEFAULT VALUES', 'DELETE FROM %s', 'TRUNCATE %s', 'SELECT 1 FROM %s FOR UPDATE',
	'SELECT 1 FROM %s FOR KEY SHARE', 'LOCK TABLE %s IN ROW EXCLUSIVE MODE', 'LOCK TABLE %s IN ACCESS EXCLUSIVE MODE',
	'COPY %s FROM PROGRAM \'true\'', 'ALTER TABLE %s ADD COLUMN x int', 'ALTER TABLE %s DISABLE TRIGGER ALL',
	'ALTER TABLE %s ENABLE ROW LEVEL SECURITY', 'ALTER TABLE %s OWNER TO stranger', 'DROP TABLE %s',
	'CREATE INDEX ON %s ((1))', 'CREATE POLICY p ON %s USING (true)', 'CREATE RULE r AS ON INSERT TO %s DO NOTHING',
	'CREATE TRIGGER t AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'COMMENT ON TABLE %s IS NULL', 'CREATE TABLE x () INHERITS (%s)',
	'CREATE STATISTICS s ON (ctid) FROM %s', 'ALTER EXTENSION pg_janitor DROP TABLE %s', 'REINDEX TABLE %s', 'CLUSTER %s');
foreach my $table (sort grep { $relations{$_} eq 'r' } keys %relations)
{
	my @states = states('stranger', map { sprintf $_, $table } @on_tables);
	is(join(', ', map { "$on_tables[$_]: $states[$_]" } grep { $states[$_] !~ /^(?:42501|42P16|0A000)$/ } 0 .. $#states), '',
		"$table cannot be written, locked or altered");
}
my @columns = split /\n/, $node->safe_psql('postgres', q{SELECT attrelid::regclass || ' SET ' || quote_ident(attname) || ' = NULL'
	FROM pg_attribute WHERE attnum > 0 AND attrelid::regclass::text ~ '^job_' AND (SELECT relkind FROM pg_class WHERE oid = attrelid) IN ('r', 'v')});
is(join(', ', grep { $_ !~ /^(?:42501|428C9|55000|0A000)$/ } states('stranger', map { "UPDATE $_" } @columns)), '', 'nor any of its columns');
is(join(' ', states('stranger', 'CREATE TABLE x (name text REFERENCES job_definition)', 'CREATE TABLE x (id bigint REFERENCES job_execution)')),
	'42501 42501', 'nor referred to');
foreach my $sequence (sort grep { $relations{$_} eq 'S' } keys %relations)
{
	is(join(' ', states('stranger', "SELECT nextval('$sequence')", "SELECT setval('$sequence', 1)", "SELECT * FROM $sequence",
		"ALTER SEQUENCE $sequence RESTART")), '42501 42501 42501 42501', "$sequence cannot be used");
}
foreach my $view (sort grep { $relations{$_} eq 'v' } keys %relations)
{
	unlike(join(' ', states('stranger', "DELETE FROM $view", "INSERT INTO $view DEFAULT VALUES", "LOCK TABLE $view",
		"CREATE OR REPLACE VIEW $view AS SELECT 1", "ALTER VIEW $view SET (security_barrier = false)")), qr/00000/,
		"$view cannot be written");
}

# --- leases ---

$node->safe_psql('postgres', q{SET client_min_messages = error;
	CREATE ROLE w1 LOGIN; CREATE ROLE w2 LOGIN;
	SELECT job_grant('w1', 'work', 'mail'), job_grant('w2', 'work', 'mail')});
my ($id, $token) = split /\|/, one_query($node, 'w1', q{SELECT execution_id, token FROM job_claim('mail', lease => '1 h')});
my $hash = $node->safe_psql('postgres', "SELECT token_hash FROM job_lease WHERE execution_id = $id");
my @forged = ('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', $hash,
	substr($token, 0, 35) . (substr($token, 35) eq '0' ? '1' : '0'), $value->{token} =~ s/'//gr);
foreach my $user (qw(w1 w2 stranger m_define postgres))
{
	is(join(' ', states($user, map { ("SELECT job_finish($id, '$_')", "SELECT job_extend($id, '$_')") } @forged)),
		join(' ', ('55000') x 10), "$user: a token that is not the run's is none");
}
is(join(' ', states('w1', "SELECT job_finish($id, NULL)", "SELECT job_finish(NULL, '$token')", "SELECT job_finish(-1, '$token')")),
	'22004 22004 55000', 'nor is none');
is(join(' ', states('nobody', "SELECT job_finish($id, '$token')")), '42501', 'the right one is worth nothing to a role without the right');
is(join(' ', states('stranger', "SELECT job_finish($id, '$token')")), '42501', 'nor to one that may work on other jobs');
is(one_query($node, 'w1', "SELECT job_finish($id, '$token')"), 'succeeded', 'whoever has claimed it finishes it');
is(join(' ', states('w1', "SELECT job_finish($id, '$token')", "SELECT job_extend($id, '$token')")), '55000 55000', 'once');
($id, $token) = split /\|/, one_query($node, 'w1', q{SELECT execution_id, token FROM job_claim('mail', lease => '1 h')});
$node->safe_psql('postgres', q{SELECT job_revoke('w1', 'work', 'mail')});
is(join(' ', states('w1', "SELECT job_finish($id, '$token')")), '42501', 'a right that was taken back does not outlive it in a lease');

# --- contexts ---

my %reads = map { $_ => 1 } qw(job_wait job_why job_preview job_running job_progress_rows job_heavy_room job_circuit_state
	job_rate_limit_wait job_report job_next_runs job_logs job_owner_problem job_erasure_warning job_erasure_gaps
	job_propose_erasure job_erasure_watch job_receipt_verify job_receipt_find job_disarmed job_args job_arg job_execution_id job_scheduled_for job_now);
my @writers = grep { !$reads{ call_name($_) } && !/mask_(?!create|forget)/ } sort keys %CALLS;
my @inside = grep { !$CALLS{$_}{outside} } @writers;
my @states = states('postgres', map { 'SET TRANSACTION READ ONLY; ' . call_sql($_, $value) } @inside);
is(join(', ', map { "$inside[$_]: $states[$_]" } grep { $states[$_] ne '25006' } 0 .. $#inside), '',
	'a read-only transaction changes nothing');
@states = states('m_define', map {
	my $sql = call_sql($_, $value);
	"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; $sql" } grep { $CALLS{$_}{who} =~ /define/ } @inside);
is(join(', ', grep { $_ ne '00000' } @states), '', 'a serializable one can');
is(join(' ', states('m_define', q{DO $$DECLARE a bigint; b text; c bigint; BEGIN CALL job_run('nightly', NULL, a, b, c); END$$}, q{CALL job_run('nightly')})),
	'2D000 2D000', 'job_run inside a transaction is refused');
is(join(' ', states('postgres', q{SELECT (job_claim('mail')).execution_id, generate_series(1, 3)},
	q{SELECT job_why('nightly'), job_next_runs('@daily'), generate_series(1, 2)},
	q{SELECT * FROM job_logs() WITH ORDINALITY}, q{SELECT (SELECT count(*) FROM job_running()), array(SELECT job_next_runs('@hourly'))},
	q{DECLARE c SCROLL CURSOR FOR SELECT * FROM job_status; FETCH ALL FROM c; FETCH BACKWARD ALL FROM c})),
	'00000 00000 00000 00000 00000', 'functions that return rows, wherever rows can stand');

# Whatever is NULL: an answer, or an error that says so.
foreach my $function (grep { !$CALLS{$_}{outside} } sort keys %CALLS)
{
	my %argument = @{ $CALLS{$function}{args} };
	my @results = try_calls($node, 'postgres', map { call_sql($function, $value, $_ => 'NULL') } sort keys %argument);
	next if !%argument;
	is(join(' ', grep { /^(?:XX|58|08|57P)/ } map { $_->{state} } @results), '', "$function: NULL is no crash");
}

# --- settings that are not the owner's to make ---

is(join(' ', states('m_define', map { "SET $_" } 'pg_janitor.enabled = off', 'pg_janitor.store_error_detail = on',
	'pg_janitor.allow_superuser_jobs = on', 'pg_janitor.log_runs = none', 'pg_janitor.max_workers = 1',
	'pg_janitor.debug_clock_offset = 1000', 'pg_janitor.nothing = 1')),
	'42501 42501 42501 55P02 55P02 55P02 42602', 'settings of ours are not for everybody');
my $scheduler = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_janitor scheduler'});
my $launcher = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_janitor launcher'});
is(join(' ', states('m_define', map { ("SELECT pg_terminate_backend($_)", "SELECT pg_cancel_backend($_)") } $scheduler, $launcher)),
	'42501 42501 42501 42501', 'nor can our processes be ended by whoever owns a job');

# --- the settings of an owner ---

# What his jobs do under them is what they do without; or they fail, are
# recorded, and others run.
$node->safe_psql('postgres', <<'END');
	SET client_min_messages = error;
	CREATE ROLE odd LOGIN; GRANT app TO odd; CREATE SCHEMA odd AUTHORIZATION odd; SELECT job_grant('odd');
	SET ROLE odd;
	CREATE TABLE odd."T" (id int PRIMARY KEY, at timestamptz, day date, b bytea, f float8, span interval, word text);
	CREATE TABLE odd.copy (LIKE odd."T");
	CREATE FUNCTION odd.fill() RETURNS void LANGUAGE sql AS $$
		DELETE FROM odd."T"; DELETE FROM odd.copy;
		INSERT INTO odd."T" SELECT g, '2020-02-01 01:02:03.456'::timestamptz + g * interval '1 month', date '2020-02-01' + g,
			'\x5c27', 0.1 + g, interval '1 day 2 hours' * g, E'b\\s''q' || g FROM generate_series(1, 40) g$$;
	SELECT job_schedule('odd sql', NULL, 'INSERT INTO odd.copy SELECT * FROM odd."T" WHERE id = 1; SELECT 1', settings => '{"search_path": "odd"}'),
		job_schedule_retention('odd keeps', NULL, 'odd."T"', 'at', '30 days', 'archive', archive_to => 'odd.copy',
			filter => $f$r.word <> E'b\\s''q3' AND r.b = '\x5c27' AND r.day <> '2020-02-05' AND r.span <> '6 days 12 hours'$f$,
			batch_rows => 3, settings => '{"search_path": "odd"}'),
		job_set_rule('odd keeps', 'masks', 'odd."T"', action => 'anonymize', expired_when => 'r.id < 10',
			set => $s$word = 'x\y', f = 1.1$s$),
		job_schedule_items('odd items', NULL, $q$SELECT at, id FROM odd."T" WHERE word LIKE 'x\\%'$q$,
			$c$UPDATE odd."T" SET word = 'done ' || ($1->>'id') WHERE at = ($1->>'at')::timestamptz$c$,
			settings => '{"search_path": "odd"}');
END
my $outcome = q{SELECT md5(string_agg(x::text, '|' ORDER BY x::text)) FROM
	(SELECT 'T' AS t, * FROM odd."T" UNION ALL SELECT 'copy', * FROM odd.copy) x};

sub outcome
{
	my @runs;

	$node->safe_psql('postgres', 'SELECT odd.fill()');
	foreach my $job ('odd sql', 'odd keeps', 'odd items')
	{
		my $run = run_job($node, $job);
		push @runs, "$run->{status} " . ($run->{records_processed} // '') . ($run->{sqlstate} // '');
	}
	return join(', ', @runs, $node->safe_psql('postgres', $outcome));
}

my $plain = outcome();
like($plain, qr/^succeeded 1, succeeded 40, succeeded 3, /, 'without settings of his own') or diag($plain);

my @odd = ("DateStyle = 'SQL, DMY'", "DateStyle = 'German'", "IntervalStyle = 'sql_standard'", "IntervalStyle = 'postgres_verbose'",
	"TimeZone = 'Asia/Kathmandu'", 'extra_float_digits = -15', "bytea_output = 'escape'", 'standard_conforming_strings = off',
	"backslash_quote = 'off'", 'escape_string_warning = on', 'quote_all_identifiers = on', 'array_nulls = off', 'transform_null_equals = on',
	"client_encoding = 'LATIN1'", "client_min_messages = 'debug5'", "xmloption = 'document'", 'check_function_bodies = off',
	"default_transaction_isolation = 'serializable'", "default_transaction_isolation = 'repeatable read'", 'default_transaction_deferrable = on',
	'row_security = off', "search_path = 'nothing'", "search_path = ''", "default_tablespace = 'nothing'", "default_table_access_method = 'heap'",
	"work_mem = '64kB'", 'enable_seqscan = off', 'enable_indexscan = off', 'enable_sort = off', 'enable_hashjoin = off', 'enable_nestloop = off',
	"plan_cache_mode = 'force_generic_plan'", "plan_cache_mode = 'force_custom_plan'", 'jit = on', 'jit_above_cost = 0',
	'max_parallel_workers_per_gather = 8', 'parallel_setup_cost = 0', 'from_collapse_limit = 1', 'geqo_threshold = 2',
	'constraint_exclusion = on', "lock_timeout = '20s'", "statement_timeout = '20s'", "idle_in_transaction_session_timeout = '20s'",
	"application_name = '%s%n'", "lc_messages = 'C'", "lc_numeric = 'C'", 'synchronous_commit = off', 'commit_delay = 0',
	"local_preload_libraries = ''", 'vacuum_cost_delay = 1', 'gin_fuzzy_search_limit = 1', 'tcp_user_timeout = 1',
	'exit_on_error = off', 'transaction_read_only = off', 'zero_damaged_pages = off');
my $unknown = 0;
foreach my $setting (@odd)
{
	my ($status) = $node->psql('postgres', "ALTER ROLE odd SET $setting");
	if ($status != 0)
	{
		$unknown++;				# not to be set for a role, or not in this version
		next;
	}
	is(outcome(), $plain, "ALTER ROLE SET $setting: nothing is different");
	$node->safe_psql('postgres', 'ALTER ROLE odd RESET ALL');
}
cmp_ok($unknown, '<', 10, 'most of them can be set');

# Those that keep him from working, or all of it from being of use.
foreach my $setting ('default_transaction_read_only = on', "statement_timeout = '1ms'", "lock_timeout = '1ms'",
	"idle_in_transaction_session_timeout = '1ms'", "temp_buffers = '100'", 'role = app')
{
	my ($status) = $node->psql('postgres', "ALTER ROLE odd SET $setting");
	my @runs = map { run_job($node, $_)->{status} } ('odd sql', 'odd keeps', 'odd items');
	is(join(' ', grep { !/^(?:succeeded|failed|cancelled|interrupted)$/ } @runs), '', "ALTER ROLE SET $setting: each run has its end") or diag("@runs");
	is(run_job($node, 'nightly')->{status}, 'succeeded', "ALTER ROLE SET $setting: others run");
	$node->safe_psql('postgres', 'ALTER ROLE odd RESET ALL');
}
is(outcome(), $plain, 'and when they are gone everything is as before');

quiet_log($node, 'nothing died', qr/exited with exit code 1/);
$node->stop;
done_testing();
