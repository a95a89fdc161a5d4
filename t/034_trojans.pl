# Code of one role that another one's rights would be worth something to: in
# rules, queries and predicates, in triggers, policies, defaults, generated
# columns and indexes of tables, in operators and functions of a schema that
# comes before pg_catalog.  It may run with the rights of its own role, or of
# whoever has named it in a job of his; never with those of somebody who looks
# at a job, defines one for another role, reads a view, or owns a table that
# the other role's table refers to.
#
# The code is mallory's.  It says in the server log where it was run and as
# whom, which no rollback takes back, and tries to make mallory a superuser.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JanitorCalls;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = janitor_node('trojans');
my $value = calls_fixture($node);

sub run_as
{
	my ($user, $sql) = @_;
	return $node->safe_psql('postgres', "SET client_min_messages = error; $sql",
		extra_params => [ '-U', $user ]);
}

$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE ROLE mallory LOGIN; CREATE ROLE bob LOGIN;
	CREATE SCHEMA mallory AUTHORIZATION mallory; CREATE SCHEMA bob AUTHORIZATION bob;
	GRANT USAGE ON SCHEMA mallory, bob TO PUBLIC;
	GRANT CREATE ON DATABASE postgres TO mallory, bob;
	SELECT job_grant('mallory'), job_grant('bob')});
run_as('mallory', q{
	CREATE FUNCTION mallory.steal(place text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
	BEGIN
		RAISE LOG 'trojan % as % of %', place, current_user, session_user;
		IF session_user = 'mallory' THEN RETURN true; END IF;
		BEGIN ALTER ROLE mallory SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN
			EXECUTE 'RESET ROLE'; EXECUTE 'SET ROLE postgres'; ALTER ROLE mallory SUPERUSER;
		EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN
			EXECUTE 'RESET SESSION AUTHORIZATION'; ALTER ROLE mallory SUPERUSER;
		EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN CREATE TEMP TABLE job_definition (a int); EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN EXECUTE 'PREPARE trojan AS SELECT 1'; EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN PERFORM set_config('search_path', 'mallory', false); EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN PERFORM set_config('mallory.was', 'here', false); EXCEPTION WHEN OTHERS THEN NULL; END;
		RETURN true;
	END $$;
	-- what is not VOLATILE may call what is
	CREATE FUNCTION mallory.spy(place text) RETURNS boolean LANGUAGE plpgsql STABLE AS
		$$BEGIN PERFORM mallory.steal(place); RETURN true; END$$;
	CREATE FUNCTION mallory.fold(place text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
		$$BEGIN PERFORM mallory.steal(place); RETURN true; END$$;
	CREATE FUNCTION mallory.spring() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM mallory.steal(TG_ARGV[0]); RETURN coalesce(NEW, OLD); END$$;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mallory TO PUBLIC});

# Whom the code was run as since the last look, "place as user, ...".
my $offset = -s $node->logfile;

sub caught
{
	my $log = slurp_file($node->logfile, $offset);
	my %seen;

	$offset = -s $node->logfile;
	$seen{"$1 as $2"} = 1 while $log =~ /trojan (.*?) as (\S+) of \S+$/mg;
	return join(', ', sort keys %seen);
}

my $untouched = q{
	DO $$BEGIN
		ASSERT current_setting('mallory.was', true) IS DISTINCT FROM 'here';
		ASSERT current_setting('search_path') = 'public';
		ASSERT (SELECT count(*) = 0 FROM pg_prepared_statements);
		ASSERT (SELECT count(*) = 0 FROM pg_class WHERE relnamespace = pg_my_temp_schema());
	END$$};

# Statements of a superuser, in one session that has to be as it was; $ran is
# what of mallory's code they have to run ('': nothing), as herself.
sub superuser_does
{
	my ($name, $sql, $ran) = @_;
	my ($stdout, $stderr) = ('', '');

	caught();
	$node->psql('postgres', "SET search_path = public; $sql; $untouched",
		stdout => \$stdout, stderr => \$stderr);
	unlike($stderr, qr/ERROR/, "$name: works");
	my $caught = caught();
	is($caught, '', "$name: runs nothing of hers") if $ran eq '';
	like($caught, qr/\b$ran as mallory/, "$name: runs what it is about") if $ran ne '';
	unlike($caught, qr/as (?!mallory)/, "$name: as herself") if $ran ne '';
	return;
}

# --- jobs of mallory's that a superuser looks at or defines ---

run_as('mallory', q{
	CREATE DOMAIN mallory.word AS text CHECK (mallory.fold('domain'));
	CREATE TABLE mallory.loot (id int PRIMARY KEY, at timestamptz, word text);
	INSERT INTO mallory.loot SELECT g, now() - interval '90 days', 'w' FROM generate_series(1, 20) g;
	CREATE TABLE mallory.guarded (id int PRIMARY KEY, at timestamptz,
		word text CHECK (mallory.fold('check')) DEFAULT mallory.fold('default')::text,
		made boolean GENERATED ALWAYS AS (mallory.fold('generated')) STORED);
	INSERT INTO mallory.guarded (id, at, word) VALUES (1, '2020-01-01', 'w');
	CREATE INDEX ON mallory.guarded ((mallory.fold('index ' || word)));
	CREATE TRIGGER t BEFORE DELETE OR UPDATE ON mallory.guarded FOR EACH ROW EXECUTE FUNCTION mallory.spring('trigger');
	CREATE CONSTRAINT TRIGGER late AFTER DELETE OR UPDATE ON mallory.guarded DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION mallory.spring('deferred trigger');
	ALTER TABLE mallory.guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE mallory.guarded FORCE ROW LEVEL SECURITY;
	CREATE POLICY p ON mallory.guarded USING (mallory.spy('policy'));
	SELECT job_schedule_retention('m loot', NULL, 'mallory.loot', expired_when => 'mallory.spy(''condition'')');
	SELECT job_schedule_retention('m guarded', NULL, 'mallory.guarded', 'at', '30 days');
	SELECT job_schedule_items('m items', NULL, 'SELECT id, word FROM mallory.loot WHERE mallory.fold(''items'')');
	SELECT job_set_rule('m items', 'r', 'mallory.loot', action => 'anonymize',
		match => 'r.id = ($1->>''id'')::int AND mallory.spy(''match'')', set => 'word = NULL')});

superuser_does('job_preview', q{SELECT * FROM job_preview('m loot', exact => true)}, 'condition');
superuser_does('job_preview of a table with traps', q{SELECT * FROM job_preview('m guarded', exact => true)},
	'policy');
superuser_does('job_alter', q{SELECT job_alter('m loot', '{"settings": {"work_mem": "1MB"}}')},
	'condition');
superuser_does('job_set_rule', q{SELECT job_set_rule('m loot', 'x', 'mallory.guarded', action => 'anonymize',
	expired_when => 'mallory.fold(''again'')', set => 'word = mallory.fold(''value'')::text')},
	'value');
superuser_does('job_schedule_items', q{SELECT job_schedule_items('m items', NULL,
	'SELECT id, word FROM mallory.loot WHERE mallory.fold(''other items'')')},
	'other items');
superuser_does('job_schedule for her', q{SELECT job_schedule('m sql', NULL, 'SELECT mallory.fold(''command'')', owner => 'mallory')}, '');
superuser_does('job_hold_place', q{SELECT job_hold_place('mallory.loot', 'mallory.fold(''hold'')', 'x')}, 'hold');
superuser_does('job_hold_release', q{SELECT job_hold_release(max(id)) FROM job_hold}, '');
superuser_does('the views', q{SELECT * FROM job_status; SELECT * FROM job_runs; SELECT * FROM job_waiting;
	SELECT * FROM job_holds; SELECT * FROM job_progress; SELECT * FROM job_circuits; SELECT * FROM job_failed_items}, '');
superuser_does('looking', q{SELECT * FROM job_why('m loot'); SELECT * FROM job_logs();
	SELECT * FROM job_erasure_gaps('mallory.loot'); SELECT * FROM job_propose_erasure('mallory.guarded')}, '');
superuser_does('an event trigger', q{CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION job_erasure_watch();
	CREATE TABLE public.more (id int, email text); DROP EVENT TRIGGER watch; DROP TABLE public.more}, '');

caught();
run_job($node, 'm loot');
run_job($node, 'm guarded');
run_job($node, 'm items');
unlike(caught(), qr/as (?!mallory)/, 'her own jobs run as mallory');

# --- in the name of others ---

# The server runs these for mallory in a superuser's session, restricted.
run_as('mallory', q{
	CREATE TABLE mallory.bait (a int);
	CREATE FUNCTION mallory.act(what text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN EXECUTE what; RAISE LOG 'trojan % as % of %', what, current_user, session_user; RETURN true;
	EXCEPTION WHEN insufficient_privilege THEN RETURN false; END$$;
	CREATE FUNCTION mallory.acts(what text) RETURNS boolean LANGUAGE plpgsql STABLE AS
		$$BEGIN RETURN mallory.act(what); END$$;
	CREATE MATERIALIZED VIEW mallory.view AS SELECT mallory.acts($$SELECT job_trigger('m sql')$$) AS a,
		mallory.acts($$SELECT job_schedule('m in the name of', NULL, 'SELECT 1')$$) AS b,
		mallory.acts($$SELECT job_hold_place('mallory.bait', reason => 'x')$$) AS c,
		mallory.acts($$SELECT job_pause('m sql')$$) AS d WITH NO DATA});
superuser_does('REFRESH MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW mallory.view', '');
is($node->safe_psql('postgres', q{SELECT array[a, b, c, d] FROM mallory.view}), '{f,f,f,f}',
	'in a restricted operation nothing is defined, triggered or held');

run_as('mallory', q{
	CREATE FUNCTION mallory.define(owner text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
	BEGIN PERFORM job_schedule('m for ' || owner, NULL, 'SELECT 1', owner => owner); RETURN 'defined';
	EXCEPTION WHEN insufficient_privilege THEN RETURN 'refused'; END$$;
	GRANT EXECUTE ON FUNCTION mallory.define TO PUBLIC});
is(run_as('bob', q{SELECT mallory.define('bob')}), 'refused',
	'who calls a SECURITY DEFINER function of hers does not define jobs of his');
is(run_as('postgres', q{SELECT mallory.define('postgres')}), 'refused', 'nor does a superuser');

# --- tables that refer to bob's ---

run_as('bob', q{
	CREATE TABLE bob.parent (id int PRIMARY KEY, at timestamptz, code text UNIQUE);
	GRANT REFERENCES, SELECT ON bob.parent TO mallory;
	INSERT INTO bob.parent SELECT g, now() - interval '90 days', 'c' || g FROM generate_series(1, 10) g});
run_as('mallory', q{
	CREATE TABLE mallory.child (id int PRIMARY KEY, parent int REFERENCES bob.parent ON DELETE CASCADE,
		code text REFERENCES bob.parent (code));
	INSERT INTO mallory.child VALUES (1, 3, NULL), (2, NULL, 'c4');
	CREATE INDEX ON mallory.child (parent); CREATE INDEX ON mallory.child (code);
	CREATE INDEX ON mallory.child ((mallory.fold('child index ' || id)));
	CREATE TRIGGER t AFTER DELETE ON mallory.child FOR EACH ROW EXECUTE FUNCTION mallory.spring('child trigger');
	ALTER TABLE mallory.child ENABLE ROW LEVEL SECURITY;
	CREATE POLICY p ON mallory.child USING (mallory.spy('child policy'));
	GRANT SELECT ON mallory.child TO PUBLIC});
run_as('bob', q{SELECT job_schedule_retention('b parent', NULL, 'bob.parent', 'at', '30 days')});
is(caught() =~ s/child index \d+ as mallory(?:, )?//gr, '', 'bob defines a job: nothing of hers is run');
is(run_as('bob', q{SELECT rows || ' ' || coalesce(cascaded::text, 'unknown') FROM job_preview('b parent', exact => true)}),
	'10 unknown', 'he previews it: what he may not look into is unknown');
is(caught(), '', 'and nothing of hers is run');
run_as('bob', q{SELECT job_schedule_retention('b codes', NULL, 'bob.parent', 'at', '30 days', 'anonymize',
	set => 'code = job_mask_hash(r.code)')});
is(caught(), '', 'nor when his rule changes what hers refers to');
superuser_does('job_preview of his job', q{SELECT * FROM job_preview('b parent', exact => true)}, '');
run_as('mallory', q{SELECT job_hold_place('mallory.child', 'mallory.spy(''child hold'')', 'x')});
caught();
run_as('bob', q{SELECT * FROM job_preview('b codes', exact => true)});
my $run = run_job($node, 'b parent');
is(caught(), '', 'a hold of hers is not run as him');
is("$run->{status} $run->{error_message}", 'failed rule "main" failed: row security of table mallory.child may hide rows that are held',
	'but keeps his rows, and he is told');
run_as('mallory', q{ALTER TABLE mallory.child DISABLE ROW LEVEL SECURITY;
	DELETE FROM mallory.child WHERE code IS NOT NULL});
caught();
$run = run_job($node, 'b parent');
is(caught(), '', 'nor without row security');
is("$run->{status} " . run_as('bob', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM bob.parent}), 'succeeded 3',
	'it counts for all rows of her table');
run_as('mallory', q{SELECT job_hold_release(id) FROM job_holds WHERE in_force AND relation = 'mallory.child'});
caught();
$run = run_job($node, 'b parent');
is("$run->{status} " . run_as('bob', q{SELECT count(*) FROM bob.parent}), 'succeeded 0', 'released, they go');
like(caught(), qr/^child trigger as (?:bob|mallory)$/,
	'her trigger is run as the server has it for every DELETE: below 18 as who deletes');

# --- a name that was hers ---

run_as('mallory', q{
	CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY, at timestamptz);
	SELECT job_hold_place('shop.orders', 'mallory.spy(''stale hold'')', 'x');
	DROP SCHEMA shop CASCADE});
run_as('bob', q{
	CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY, at timestamptz);
	INSERT INTO shop.orders VALUES (1, '2020-01-01');
	SELECT job_schedule_retention('b orders', NULL, 'shop.orders', 'at', '30 days')});
caught();
run_as('bob', q{SELECT * FROM job_preview('b orders', exact => true)});
$run = run_job($node, 'b orders');
is(caught(), '', 'a hold on a table of that name is not run for its successor');
is(run_as('bob', q{SELECT count(*) FROM shop.orders}), '1', 'it counts for all rows');
run_as('bob', q{SELECT job_hold_release(id) FROM job_holds WHERE in_force});
run_job($node, 'b orders');
is(run_as('bob', q{SELECT count(*) FROM shop.orders}), '0', 'until he releases it');

# --- a superuser's job on her table ---

run_as('mallory', q{INSERT INTO mallory.guarded (id, at, word) VALUES (2, '2020-01-01', 'w')});
my ($warned) = try_calls($node, 'postgres',
	q{SELECT job_schedule_retention('s guarded', NULL, 'mallory.guarded', 'at', '30 days')});
like($warned->{said}, qr/triggers and expressions of mallory\.guarded, which role "mallory" can change, run as superuser "postgres"/,
	'a superuser is told whose triggers his job will run');

# --- a schema before pg_catalog ---

# Functions of hers in the place of every function and operator of pg_catalog
# that can be called with plain arguments, and some that match better where
# those of pg_catalog take anything.  Each says so and does what it stands for.
my $traps = q{
	DO $traps$
	DECLARE f record; t text;
	BEGIN
		FOR f IN SELECT p.proname AS name, oidvectortypes(p.proargtypes) AS types, p.pronargs AS n,
					 format_type(p.prorettype, NULL) AS result
				 FROM pg_proc p
				 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset
				   AND p.provariadic = 0 AND p.pronargs < 5
				   AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[] || p.prorettype) a
								   JOIN pg_type y ON y.oid = a WHERE y.typtype = 'p')
		LOOP
			EXECUTE format('CREATE FUNCTION traps.%I(%s) RETURNS %s LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS
				$f$BEGIN PERFORM mallory.spy(%L); RETURN pg_catalog.%I(%s); END$f$', f.name, f.types, f.result,
				'function ' || f.name, f.name,
				(SELECT string_agg('$' || g, ', ' ORDER BY g) FROM generate_series(1, f.n) g));
		END LOOP;
		FOR f IN SELECT o.oprname AS name, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result
				 FROM pg_operator o JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright
				 JOIN pg_type s ON s.oid = o.oprresult
				 WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND 'p' NOT IN (l.typtype, r.typtype, s.typtype)
		LOOP
			EXECUTE format('CREATE FUNCTION traps.%I(%s, %s) RETURNS %s LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS
				$f$BEGIN PERFORM mallory.spy(%L); RETURN $1 OPERATOR(pg_catalog.%s) $2; END$f$',
				'operator ' || f.name, f.l, f.r, f.result, 'operator ' || f.name, f.name);
			EXECUTE format('CREATE OPERATOR traps.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = traps.%I)',
				f.name, f.l, f.r, 'operator ' || f.name);
		END LOOP;
		CREATE FUNCTION traps.anything() RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS
			'BEGIN PERFORM mallory.spy(''anything''); RETURN ''''; END';
		FOREACH t IN ARRAY ARRAY['timestamptz', 'interval', 'bigint', 'text', 'name', 'oid', 'int', 'boolean']
		LOOP
			FOR f IN SELECT repeat('text, ', n) AS before FROM generate_series(0, 4) n
			LOOP
				EXECUTE format('CREATE OR REPLACE FUNCTION traps.format(%s%s) RETURNS text LANGUAGE sql AS
					$f$SELECT traps.anything()$f$', f.before, t);
				EXECUTE format('CREATE OR REPLACE FUNCTION traps.concat_ws(%s%s) RETURNS text LANGUAGE sql AS
					$f$SELECT traps.anything()$f$', f.before, t);
			END LOOP;
			EXECUTE format('CREATE FUNCTION traps.collect(text[], %s) RETURNS text[] LANGUAGE sql AS
				$f$SELECT ARRAY[traps.anything()]$f$', t);
			EXECUTE format('CREATE AGGREGATE traps.array_agg(%s) (SFUNC = traps.collect, STYPE = text[], INITCOND = %L)', t, '{}');
			EXECUTE format('CREATE FUNCTION traps.same(%1$s[], %1$s[]) RETURNS boolean LANGUAGE sql AS
				$f$SELECT traps.anything() IS NULL$f$', t);
			EXECUTE format('CREATE OPERATOR traps.= (LEFTARG = %1$s[], RIGHTARG = %1$s[], FUNCTION = traps.same)', t);
			CONTINUE WHEN t = 'text';
			EXECUTE format('CREATE FUNCTION traps.glue(text, %s) RETURNS text LANGUAGE sql AS $f$SELECT traps.anything()$f$', t);
			EXECUTE format('CREATE OPERATOR traps.|| (LEFTARG = text, RIGHTARG = %s, FUNCTION = traps.glue)', t);
		END LOOP;
	END $traps$;
	GRANT USAGE ON SCHEMA traps TO PUBLIC};
is(run_as('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f',
	'nothing of all this has made mallory a superuser');
run_as('mallory', "CREATE SCHEMA traps; $traps");
run_as('postgres', q{SET search_path = traps, pg_catalog; SELECT lower('A'), 'x' || now()});
like(caught(), qr/anything as postgres.*function lower as postgres/, 'there are traps, and they work');
is(run_as('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 't',
	'for a superuser who walks into one');
$node->safe_psql('postgres', 'ALTER ROLE mallory NOSUPERUSER');

my $path = 'SET LOCAL search_path = traps, pg_catalog, public';
my @functions = grep { !$CALLS{$_}{outside} } sort keys %CALLS;
my @results = try_calls($node, 'postgres', map { "$path; " . call_sql($_, $value) } @functions);
is(join(', ', grep { $results[$_]{state} ne ($CALLS{ $functions[$_] }{state} || '00000') } 0 .. $#functions), '',
	'every function works with such a search_path');
unlike(caught(), qr/as postgres/, 'and runs nothing of it as who calls it');

$ENV{PGOPTIONS} = '-c search_path=public';		# for our own sessions
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET search_path = traps, pg_catalog, public});
$node->restart;
caught();
is(run_job($node, 'nightly')->{status}, 'succeeded', 'with the path set for the database, a job runs');
is(run_job($node, 'keeps')->{status}, 'succeeded', 'with rules');
$node->safe_psql('postgres', q{SELECT job_retry_items('people')});	# now, not after its delay
is(run_job($node, 'people')->{failed_records}, 1, 'with items');
is(caught(), '', 'and nothing is run in its worker or the scheduler');
$node->safe_psql('postgres', q{ALTER DATABASE postgres RESET search_path});
delete $ENV{PGOPTIONS};

# --- a schema that is not empty when the extension comes into it ---

$node->safe_psql('postgres', q{CREATE DATABASE other; GRANT CREATE ON DATABASE other TO mallory});
sub in_other { return $node->safe_psql('other', "SET client_min_messages = error; $_[1]", extra_params => [ '-U', $_[0] ]) }
in_other('mallory', q{
	CREATE SCHEMA mallory; GRANT USAGE ON SCHEMA mallory TO PUBLIC;
	CREATE FUNCTION mallory.spy(place text) RETURNS boolean LANGUAGE plpgsql STABLE AS
		$$BEGIN RAISE LOG 'trojan % as % of %', place, current_user, session_user; RETURN true; END$$;
	CREATE SCHEMA traps;
	CREATE FUNCTION traps.job_mask_create_key(text) RETURNS boolean LANGUAGE sql AS
		$$SELECT mallory.spy('key')$$;
	CREATE FUNCTION traps.job_check_installation(int DEFAULT 1) RETURNS void LANGUAGE sql AS
		$$SELECT mallory.spy('installation')$$;} . $traps);
caught();
$node->psql('other', 'CREATE EXTENSION pg_janitor SCHEMA traps', stderr => \my $refused);
like($refused, qr/ERROR: .*function name "job_\w+" is not unique/, 'functions with our names keep the extension out');
in_other('mallory', q{DROP FUNCTION traps.job_mask_create_key(text), traps.job_check_installation(int)});
in_other('postgres', q{CREATE EXTENSION pg_janitor SCHEMA traps});
is(caught(), '', 'CREATE EXTENSION into a schema of hers runs nothing');
in_other('postgres', q{SET search_path = pg_catalog, traps;
	SELECT job_schedule('j', '@daily', 'SELECT 1'), job_pause('j', 'x', now() + interval '1 day'),
		job_set_circuit('c'), job_alter('j', '{"circuit": "c"}')});
caught();
foreach my $view (split /\n/, in_other('postgres', q{SELECT c.relname FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	WHERE c.relkind = 'v'}))
{
	in_other('postgres', "SELECT * FROM traps.$view");
	is(caught(), '', "nor does reading $view");
}
is(in_other('postgres', q{
	WITH own AS (SELECT classid, objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				 WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'pg_janitor' AND d.deptype = 'e'),
		all_own AS (SELECT * FROM own UNION ALL
			SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r JOIN own ON own.classid = 'pg_class'::regclass AND own.objid = r.ev_class UNION ALL
			SELECT 'pg_attrdef'::regclass, a.oid FROM pg_attrdef a JOIN own ON own.classid = 'pg_class'::regclass AND own.objid = a.adrelid UNION ALL
			SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN own ON own.classid = 'pg_class'::regclass AND own.objid = c.conrelid)
	SELECT coalesce(string_agg(pg_describe_object(d.classid, d.objid, 0) || ' on '
		|| pg_describe_object(d.refclassid, d.refobjid, 0), ', '), '')
	FROM pg_depend d JOIN all_own o USING (classid, objid)
	WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)
	  AND NOT EXISTS (SELECT FROM own WHERE own.classid = d.refclassid AND own.objid = d.refobjid)}), '',
	'nothing of the extension depends on what stood there');

is(run_as('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f',
	'nor has this');
quiet_log($node, 'nothing died');
$node->stop;
done_testing();
