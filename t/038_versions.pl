# Library and extension of different versions: each says what to do, and
# nothing crashes.  An update leads to what an installation of that version is.
#
# Versions there are one of so far; so older ones are made here, by leaving
# things out of the install script, and the scripts that update them, by
# putting what was left out into them.  Whatever real scripts there are is
# compared by the same code.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash;

chomp(my $scripts = `pg_config --sharedir`);
$scripts .= '/extension';
plan skip_all => "$scripts cannot be written to" if !-w $scripts;

my ($current) = slurp_file("$scripts/pg_janitor.control") =~ /default_version = '(.*?)'/;
my $node = crash_node('versions', 'pg_janitor.worker_idle_timeout = 1');
my @made;
END { unlink @made }

# --- what an installation is ---

my $catalog = q{
	WITH member AS (
		SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
		FROM pg_extension x JOIN pg_depend d ON d.refobjid = x.oid AND d.refclassid = 'pg_extension'::regclass
		WHERE x.extname = 'pg_janitor' AND d.deptype = 'e'
	), rel AS (
		SELECT m.name, c.* FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
	)
	SELECT format('%s: %s: comment %s', classid::regclass, name, obj_description(objid, classid::regclass::text)) FROM member
	UNION ALL
	SELECT format('%s: kind %s, method %s, options %s, security %s, rights %s', name, relkind, relam, reloptions,
		relrowsecurity, (SELECT array_agg(a ORDER BY a::text) FROM unnest(relacl) a)) FROM rel
	UNION ALL
	SELECT format('%s: column %s: %s', r.name, a.attnum, row(a.attname, a.attisdropped, format_type(a.atttypid, a.atttypmod),
		a.attnotnull, a.attidentity, a.attgenerated, a.attcollation::regcollation, a.attstorage, a.attcompression,
		pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum), a.attacl))
	FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0
	LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	UNION ALL
	SELECT format('%s: %s', r.name, pg_get_indexdef(i.indexrelid)) FROM rel r JOIN pg_index i ON i.indrelid = r.oid
	UNION ALL
	SELECT format('%s: constraint %s: %s', r.name, conname, pg_get_constraintdef(k.oid))
	FROM rel r JOIN pg_constraint k ON k.conrelid = r.oid WHERE contype <> 'n'
	UNION ALL
	SELECT format('%s: %s', r.name, pg_get_viewdef(r.oid)) FROM rel r WHERE relkind = 'v'
	UNION ALL
	SELECT format('%s: %s', r.name, row(seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle))
	FROM rel r JOIN pg_sequence s ON s.seqrelid = r.oid
	UNION ALL
	SELECT format('%s: trigger or rule', r.name) FROM rel r
	WHERE EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r.oid) OR relkind <> 'v' AND relhasrules
	UNION ALL
	SELECT format('%s: %s rights %s', m.name, pg_get_functiondef(p.oid), (SELECT array_agg(a ORDER BY a::text) FROM unnest(p.proacl) a))
	FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
	UNION ALL
	SELECT format('dumped: %s %s', t::regclass, condition)
	FROM pg_extension, unnest(extconfig, extcondition) AS config (t, condition) WHERE extname = 'pg_janitor'
	ORDER BY 1};

value($node, 'CREATE DATABASE scratch');

# What commands lead to, as a set of lines; nothing stays.
sub catalog
{
	my ($commands) = @_;
	my $lines = value($node, "BEGIN; $commands; $catalog; ROLLBACK", 'scratch');
	return { map { $_ => 1 } split /\n/, $lines };
}

# What an update leads to, against an installation.
my %installed;

sub differences
{
	my ($from, $to) = @_;
	my $updated = catalog("CREATE EXTENSION pg_janitor VERSION '$from'; ALTER EXTENSION pg_janitor UPDATE TO '$to'");
	my $installed = $installed{$to} ||= catalog("CREATE EXTENSION pg_janitor VERSION '$to'");
	return join "\n", (map { "only updated: $_" } grep { !$installed->{$_} } sort keys %$updated),
		(map { "only installed: $_" } grep { !$updated->{$_} } sort keys %$installed);
}

# --- versions made up ---

sub make_script
{
	my ($name, $text) = @_;
	my $file = "$scripts/pg_janitor--$name.sql";
	die "there is a $file" if -e $file && !grep { $_ eq $file } @made;
	push @made, $file;
	append_to_file($file, '') if !-e $file;
	open my $handle, '>', $file or die "$file: $!";
	print $handle $text;
	return close $handle;
}

my $install = slurp_file("$scripts/pg_janitor--$current.sql");
my ($head) = $install =~ /(CREATE FUNCTION job_check_installation.*?DROP FUNCTION job_check_installation\(text\);\n)/s;
ok($head, 'the install script begins with a check of the library');

# Takes what matches out of the text of an older version; what it was.
sub take_out
{
	my ($text, $pattern) = @_;
	$$text =~ s/($pattern)//sm or die "nothing matches $pattern";
	return $1;
}

my $older = $install;
my $update = $head;
$older =~ s/job_check_installation\('\Q$current\E'/job_check_installation('0.1'/ or die 'no check';
take_out(\$older, '^\tbefore jsonb,\n\K\tafter jsonb,\n');
$update .= "ALTER TABLE job_change ADD COLUMN after jsonb;\n" . take_out(\$older, q{^COMMENT ON COLUMN job_change\.after IS [^\n]*\n});
$update .= take_out(\$older, '^CREATE TABLE job_work\n.*?;\n');
take_out(\$older, 'REVOKE [^\n]*\Kjob_work, ');
$update .= "REVOKE ALL ON TABLE job_work FROM PUBLIC;\n";
$update .= take_out(\$older, q{^SELECT pg_catalog\.pg_extension_config_dump\('job_work', ''\);\n});
$update .= take_out(\$older, '^COMMENT ON TABLE job_work IS .*?(?=\n\nCOMMENT)') . "\n";
$update .= take_out(\$older, '^CREATE FUNCTION job_rearm\(.*?COMMENT ON FUNCTION job_rearm IS [^\n]*\n');
make_script('0.1', $older);
make_script("0.1--$current", $update);

subtest 'an update leads to what an installation is' => sub {
	is(differences('0.1', $current), '', "0.1 and an update is $current");
	my @paths = split /\n/, value($node, q{SELECT source || ' ' || target FROM pg_extension_update_paths('pg_janitor')
		WHERE path IS NOT NULL AND source NOT LIKE '0.%'});
	for my $path (@paths)
	{
		my ($from, $to) = split / /, $path;
		is(differences($from, $to), '', "$from and an update is $to")
			if -e "$scripts/pg_janitor--$from.sql" && -e "$scripts/pg_janitor--$to.sql";
	}
};

# Else the comparison would be worth nothing.
my %mistakes = (
	'a column of another type' => [ qr/after jsonb/, 'after json' ],
	'a column in another place' => [ qr/ADD COLUMN after/, 'ADD COLUMN other int, ADD COLUMN after' ],
	'no comment on a column' => [ qr/COMMENT ON COLUMN job_change.after[^\n]*\n/, '' ],
	'no comment on a function' => [ qr/COMMENT ON FUNCTION job_rearm[^\n]*\n/, '' ],
	'a function that PUBLIC may call' => [ qr/REVOKE ALL ON FUNCTION job_rearm FROM PUBLIC;\n/, '' ],
	'a default that differs' => [ qr/'job_name text DEFAULT NULL'|job_rearm\(job_name text DEFAULT NULL\)/, 'job_rearm(job_name text)' ],
	'a table that is not dumped' => [ qr/SELECT pg_catalog.pg_extension_config_dump[^\n]*\n/, '' ],
	'a table that PUBLIC may read' => [ qr/REVOKE ALL ON TABLE job_work FROM PUBLIC/, 'GRANT SELECT ON job_work TO PUBLIC' ],
	'a missing constraint' => [ qr/,\s*CONSTRAINT job_work_pkey PRIMARY KEY \(job_name, role\)/, '' ]);
subtest 'a mistake in an update is found' => sub {
	for my $mistake (sort keys %mistakes)
	{
		my ($what, $by) = @{ $mistakes{$mistake} };
		(my $wrong = $update) =~ s/$what/$by/ or die "$mistake: nothing to change";
		make_script("0.1--$current", $wrong);
		like(differences('0.1', $current), qr/only (updated|installed)/, $mistake);
	}
	make_script("0.1--$current", $update);
};

# --- a new library and an old extension ---

subtest 'an older version of the extension' => sub {
	my $offset = log_size($node);
	effect_job($node, 'probe');
	effect_job($node, 'tick', "schedule => '* * * * * *'");
	my $database = 'older';
	value($node, "CREATE DATABASE $database");
	value($node, q{CREATE EXTENSION pg_janitor VERSION '0.1'}, $database);
	prepare_effects($node, $database);
	for my $call (q{SELECT job_schedule('x', NULL, 'SELECT 1')}, q{SELECT job_trigger('x')},
		q{SELECT job_mask_email('x')}, q{SELECT job_grant('pg_monitor')}, q{SELECT * FROM job_claim('x')},
		q{SELECT job_hold_place('effect', reason => 'x')}, q{CALL job_run('x')})
	{
		like(sql_error($node, $call, database => $database),
			qr/ERROR:  55000: pg_janitor library is version "\Q$current\E" but the extension in this database is version "0.1".*HINT:  Run ALTER EXTENSION pg_janitor UPDATE\./s,
			$call);
	}
	is(value($node, q{SELECT job_mask_text('x')}, $database), '[removed]', 'what needs no table works');
	command_ok([ 'pg_dump', '-f', '/dev/null', '-d', $node->connstr($database) ], 'so does a dump');

	# as the older version has left them
	value($node, sprintf(q{INSERT INTO job_definition (name, schedule, command, settings, home, home_database, environment)
		SELECT n, s, c, '{"search_path": "public"}', last_value, (SELECT oid FROM pg_database WHERE datname = current_database()), ''
		FROM job_home, (VALUES ('probe', NULL, %s), ('tick', '* * * * * *', %s)) x (n, s, c)},
		literal(effect('probe')), literal(effect('tick'))), $database);
	like(sql_error($node, 'SELECT * FROM job_status', database => $database), qr/ERROR:  55000: pg_janitor library is version/,
		'a view that needs the library says so too');
	$node->restart;
	logs($node, qr/LOG:  pg_janitor does not serve database "$database": its extension is version "0.1", the library is version "\Q$current\E"/,
		$offset, 'the log says so');
	goes_on($node, 'other databases');
	is(value($node, q{SELECT count(*) FROM job_execution}, $database), 0, 'nothing has run there');

	value($node, 'ALTER EXTENSION pg_janitor UPDATE', $database);
	goes_on($node, 'updated', $database);
	ledger_is_true($node, 'updated', $database);
};

# --- an old library and a new extension ---

(my $newer = $install) =~ s/job_check_installation\('\Q$current\E'/job_check_installation('99.0-dev'/;
(my $to_newer = $head) =~ s/job_check_installation\('\Q$current\E'/job_check_installation('99.0-dev'/;
my $new_function = q{
CREATE FUNCTION job_brand_new() RETURNS void AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
};
make_script('99.0-dev', "$newer$new_function");
make_script("$current--99.0-dev", "$to_newer$new_function");

subtest 'a newer version of the extension' => sub {
	my $offset = log_size($node);
	my $error = qr/ERROR:  55000: pg_janitor library is version "\Q$current\E", too old for version "99.0-dev" of the extension.*HINT: .*restart the server/s;
	value($node, 'CREATE DATABASE newer');
	like(sql_error($node, q{CREATE EXTENSION pg_janitor VERSION '99.0-dev'}, database => 'newer'), $error,
		'it is not installed while the server has an older library loaded');
	like(sql_error($node, q{ALTER EXTENSION pg_janitor UPDATE TO '99.0-dev'}), $error, 'nor updated to');
	goes_on($node, 'nothing has happened');

	# files of an older version were put back
	my $lock = hold_lock($node);
	define_job($node, 'long', UNTIL_RELEASED);
	my $id = trigger($node, 'long');
	wait_started($node, $id);
	value($node, q{UPDATE pg_extension SET extversion = '99.0-dev' WHERE extname = 'pg_janitor'; ALTER EXTENSION pg_janitor UPDATE TO '99.0-dev'});
	logs($node, qr/LOG:  pg_janitor does not serve database "postgres": its extension is version "99.0-dev".*HINT:  Install the library of that version, and restart the server\./s,
		$offset, 'the log says so');
	like(sql_error($node, q{SELECT job_trigger('probe')}),
		qr/ERROR:  55000: pg_janitor library is version "\Q$current\E" but the extension in this database is version "99.0-dev".*HINT: .*restart the server/s,
		'so does every function');
	release_lock($lock);
	eventually_is($node, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type ~ '^pg_janitor'}, 0,
		'our processes have left');
	value($node, "UPDATE pg_extension SET extversion = '$current' WHERE extname = 'pg_janitor'; ALTER EXTENSION pg_janitor UPDATE");
	goes_on($node, 'with the right version again');
	like(outcome($node, $id)->{status}, qr/^(succeeded|interrupted)$/, 'the run that was in progress is closed');
	ledger_is_true($node);
};

is(sql_error($node, 'ALTER EXTENSION pg_janitor SET SCHEMA pg_catalog') =~ /0A000/, 1, 'the extension cannot be moved');

no_accident($node);
$node->stop;
done_testing();
