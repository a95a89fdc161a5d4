# Masking again changes nothing, whatever the text, in every kind of encoding;
# a key that was forgotten is gone everywhere, and a dump never brings one.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use JanitorTest;

my $values = 4000;
my $seed = defined $ENV{MASK_SEED} ? $ENV{MASK_SEED} : int(rand(1e9)) / 1e9;
my $node = janitor_node('masks', 'wal_level = replica', 'max_wal_senders = 4');
note("MASK_SEED=$seed");

sub query
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database || 'postgres', $sql);
}

# --- fuzz ---

# One random character that the database can hold, by its encoding.
my %character = (
	UTF8 => q{chr((ARRAY[32 + random() * 94, 161 + random() * 700, 768 + random() * 100,
		12353 + random() * 80, 8205, 127462 + random() * 25, 128512 + random() * 60])[1 + floor(random() * 7)]::int)},
	LATIN1 => q{chr((32 + random() * 94 + floor(random() * 2) * 128)::int)},
	EUC_JP => q{convert_from((ARRAY['\x61', '\x2037', '\xe38182', '\xe38293', '\xe6bca2', '\xe5ad97', '\xefbdb6']::bytea[])[1 + floor(random() * 7)], 'UTF8')},
	SQL_ASCII => q{convert_from(set_byte('\x00', 0, 1 + floor(random() * 255)::int), 'SQL_ASCII')},
);

my %masks = (
	hash => 'job_mask_hash(%s)',
	bytea => q{job_mask_hash(%s::bytea)},
	padded => 'job_mask_hash(%s::char(70))',
	name => 'job_mask_name(%s)',
	email => 'job_mask_email(%s)',
	text => 'job_mask_text(%s)',
	phone => 'job_mask_phone(%s)',
	partial => q{job_mask_partial(%s, id % 5, chr(33 + id % 90), id % 7)},
	keep_all => q{job_mask_partial(%s, id, '0', 0)},
);

# Values begin and end as pseudonyms and numbers do, often enough.
sub make_values
{
	my ($database, $encoding) = @_;
	query(<<"END", $database);
SELECT setseed($seed);
CREATE FUNCTION random_text() RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	t text := (ARRAY['', '', '', 'anon_', '+', '+49', ' +(1)', '00'])[1 + floor(random() * 8)];
BEGIN
	FOR i IN 1 .. (random() * random() * 60)::int LOOP
		t := t || CASE WHEN random() < 0.3 THEN substr('0123456789abcdef', 1 + floor(random() * 16)::int, 1) ELSE $character{$encoding} END;
	END LOOP;
	IF random() < 0.1 THEN t := t || '\@anon.invalid'; END IF;
	IF random() < 0.05 THEN t := 'anon_' || md5(t) || left(md5(t), 8); END IF;
	IF random() < 0.05 THEN t := 'anon_' || left(translate(md5(t), '0189', 'xyzw'), 20); END IF;
	IF random() < 0.05 THEN t := md5(t) || '\@anon.invalid'; END IF;
	RETURN t;
END \$\$;
CREATE TABLE v AS SELECT id, random_text() AS v FROM generate_series(1, $values) id;
END
	return;
}

foreach my $encoding (sort keys %character)
{
	my $database = lc $encoding;
	query("CREATE DATABASE $database ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	query('CREATE EXTENSION pg_janitor', $database);
	make_values($database, $encoding);
	is(query('SELECT count(DISTINCT v) > 1000 FROM v', $database), 't',
		"$encoding: there is something to mask");
	foreach my $mask (sort keys %masks)
	{
		# by bytes: a backslash is no escape in a value
		my $value = $mask eq 'bytea' ? q{convert_to(v, getdatabaseencoding())} : 'v';
		my $once = sprintf $masks{$mask} =~ s/%(?!s)/%%/gr, $value;
		my $twice = sprintf $masks{$mask} =~ s/%(?!s)/%%/gr, 'm';
		is(query("SELECT id, v::text, m::text FROM (SELECT id, v, $once AS m FROM v OFFSET 0) s
			WHERE $twice IS DISTINCT FROM m LIMIT 3", $database),
			'', "$encoding, $mask: masking again changes nothing");
	}
	is(query("SELECT id FROM v WHERE v <> '' AND (job_mask_hash(v) = v OR job_mask_name(v) = v OR job_mask_email(v) = v)", $database),
		'', "$encoding: nothing is taken for a pseudonym that is none");
	is(query(q{SELECT id FROM v, LATERAL job_mask_partial(v, 2, '*', 3) m
		WHERE CASE WHEN length(v) > 5 THEN m <> left(v, 2) || repeat('*', length(v) - 5) || right(v, 3)
			ELSE m <> repeat('*', length(v)) END}, $database),
		'', "$encoding: partial keeps what it should, and nothing else");
}

# JSON: random documents, an oracle for what must be gone.
query(<<"END", 'utf8');
SELECT setseed($seed);
CREATE FUNCTION random_json(depth int) RETURNS jsonb LANGUAGE plpgsql AS \$\$
DECLARE
	kind float := random() * CASE WHEN depth > 4 THEN 0.4 ELSE 1 END;
	n int := floor(random() * 4);
BEGIN
	RETURN CASE
		WHEN kind < 0.2 THEN to_jsonb(random_text())
		WHEN kind < 0.3 THEN to_jsonb(random())
		WHEN kind < 0.4 THEN (ARRAY['null', 'true', '[]', '{}'])[n + 1]::jsonb
		WHEN kind < 0.7 THEN (SELECT coalesce(jsonb_agg(random_json(depth + 1 + 0 * i)), '[]') FROM generate_series(1, n) i)
		ELSE (SELECT coalesce(jsonb_object_agg((ARRAY['a', 'b', 'c', '0', '*'])[1 + floor(random() * 5)], random_json(depth + 1 + 0 * i)), '{}') FROM generate_series(1, n) i)
	END;
END \$\$;
CREATE TABLE j AS SELECT id, random_json(0) AS j,
	(ARRAY['a', 'a.b', '*.a', '**.a', 'a.**.b', '*', '**', '**.*', '**.a.**.b', '0', '*.0', '**.\\*', '**.0.c'])[1 + id % 13] AS path
FROM generate_series(1, $values) id;
END
is(query(q{SELECT id, j, path FROM (SELECT id, j, path, job_mask_json(j, ARRAY[path]) AS m FROM j OFFSET 0) s
	WHERE job_mask_json(m, ARRAY[path]) IS DISTINCT FROM m LIMIT 3}, 'utf8'),
	'', 'JSON: masking again changes nothing');
is(query(q{SELECT id, j FROM j WHERE jsonb_path_exists(job_mask_json(j, '{**.a}'), 'strict $.**.a ? (@ != null)') LIMIT 3}, 'utf8'),
	'', 'JSON: nothing is left where the path leads');
is(query(q{SELECT id, j FROM j WHERE path = 'a.b' AND jsonb_typeof(j -> 'a') = 'object' AND j -> 'a' ? 'b'
	AND job_mask_json(j, '{a.b}') IS DISTINCT FROM jsonb_set(j, '{a,b}', 'null') LIMIT 3}, 'utf8'),
	'', 'JSON: everything else stays');

# --- citext ---

SKIP:
{
	skip 'the server has no citext', 1
	  if query(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'}) eq '0';
	query('CREATE EXTENSION citext', 'utf8');
	is(query(q{SELECT pg_typeof(h), h = job_mask_hash('ALICE'::citext), job_mask_hash(h) = h,
		job_mask_hash(upper(h::text)::citext) = h, job_mask_hash('alice'::text) = h::text
		FROM job_mask_hash('Alice'::citext) h}, 'utf8'),
		'citext|t|t|t|t', 'citext: what is equal has equal pseudonyms');
}

# --- forgetting, and other sessions ---

query(q{SELECT job_mask_create_key('k')});
my $pseudonym = query(q{SELECT job_mask_email('x', 'k')});
my $secret = query(q{SELECT encode(s.secret, 'hex') FROM job_mask_secret s JOIN job_mask_key USING (id) WHERE name = 'k'});
like($secret, qr/^[0-9a-f]{64}$/, 'a secret has 32 bytes');
my $session = $node->background_psql('postgres', on_error_stop => 0);
is($session->query(q{SELECT job_mask_email('x', 'k')}), $pseudonym, 'another session makes the same pseudonym');
is($session->query(q{BEGIN; SELECT job_mask_email('x', 'k')}), $pseudonym, 'and again, from memory');
like(sql_error($node, q{SET lock_timeout = '100ms'; SELECT job_mask_forget_key('k')}),
	qr/55P03/, 'a key is not forgotten under a transaction that uses it');
is($session->query(q{SELECT job_mask_email('x', 'k')}), $pseudonym, 'which goes on with it');
$session->query('COMMIT');
is($session->query(q{SELECT job_mask_email('x', 'k')}), $pseudonym, 'and after it');
$node->backup('primary');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'primary', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', q{SELECT job_mask_email('x', 'k')}), $pseudonym, 'so does a standby');
query(q{SELECT job_mask_forget_key('k')});
is($session->query(q{SELECT job_mask_email('x', 'k')}), '', 'once it is forgotten no session has it');
$session->quit;
$node->wait_for_catchup($standby);
my ($out, $error) = ('', '');
$standby->psql('postgres', q{SELECT job_mask_email('x', 'k')}, stdout => \$out, stderr => \$error);
like($error, qr/mask key "k" has been forgotten/, 'nor has the standby');
$standby->stop;

# the data files, without WAL
query('CHECKPOINT');
my @with_secret;
foreach my $file (glob($node->data_dir . '/base/*/*'))
{
	push @with_secret, $file if -f $file && index(unpack('H*', slurp_file($file)), $secret) >= 0;
}
is(join(' ', @with_secret), '', 'no data file contains the secret any more');

# --- dumps and copies ---

my $default = query(q{SELECT job_mask_email('x')});
my $kept = query(q{SELECT encode(secret, 'hex') FROM job_mask_secret});
my $dump = $node->basedir . '/dump.sql';
query('CREATE ROLE backup LOGIN IN ROLE pg_read_all_data');
command_ok([ 'pg_dump', '-U', 'backup', '-f', $dump, '-d', $node->connstr('postgres') ], 'a role that may read everything dumps');
my $text = slurp_file($dump);
ok($text =~ /job_mask_key/ && index($text, $kept) < 0 && $text !~ /COPY \S*job_mask_secret/,
	'keys are in the dump, secrets are not');
query('CREATE DATABASE restored TEMPLATE template0');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'it is restored');
like(sql_error($node, q{SELECT job_mask_email('x')}, database => 'restored'),
	qr/55000.*the secret of mask key "default" is not in this database.*anew => true/s,
	'a restored database does not go on with other pseudonyms unasked');
like(sql_error($node, q{SELECT job_mask_create_key('default')}, database => 'restored'), qr/55000/, 'nor makes a new key by mistake');
like(sql_error($node, q{SELECT job_mask_email('x', 'k')}, database => 'restored'),
	qr/mask key "k" has been forgotten/, 'and knows what was forgotten');
isnt(query(q{SELECT job_mask_create_key('default', anew => true); SELECT job_mask_email('x')}, 'restored') =~ s/^t\n//r,
	$default, 'with a new key it goes on');

query('CREATE DATABASE copy TEMPLATE utf8');
is(query(q{SELECT job_mask_email('x')}, 'copy'), query(q{SELECT job_mask_email('x')}, 'utf8'),
	'a copy of a database has its keys');

# --- parallel plans ---

my $parallel = q{SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET max_parallel_workers_per_gather = 2; };
like(query("$parallel EXPLAIN SELECT job_mask_email(v) FROM v WHERE job_mask_partial(v, 1, '*', 1) <> ''", 'utf8'),
	qr/Gather/, 'a plan with masks can be parallel');
is(query("$parallel SELECT count(job_mask_email(v)) FROM v WHERE job_mask_partial(v, 1, '*', 1) <> ''", 'utf8'),
	query(q{SELECT count(*) FROM v WHERE v <> ''}, 'utf8'), 'and does the same');
like(sql_error($node, "$parallel SELECT job_mask_email(v, 'nowhere') FROM v", database => 'utf8'),
	qr/42704.*mask key "nowhere" does not exist/, 'an error is the same, too');

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
