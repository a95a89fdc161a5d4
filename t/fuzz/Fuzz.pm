package Fuzz;

# Calls of SQL functions with arguments that make more or less sense, by a
# generator of its own: the same seed gives the same calls, on every machine.
#
# Half of the arguments of a call are those of a call that works (see
# JanitorCalls.pm), so that what is behind the first check is reached too; of
# the others, some are values of the type that lie on an edge, some are texts
# of the trade, put together and damaged.

use strict;
use warnings;

use Exporter 'import';
use JanitorCalls;
use JanitorTest;

our @EXPORT_OK = qw(fuzz_seed fuzz_signatures fuzz_call);

my $state = 1;

# A generator of 32 bits, small and good enough (xorshift).
sub fuzz_seed { $state = ($_[0] & 0xffffffff) || 1; return; }

sub bits
{
	$state ^= ($state << 13) & 0xffffffff;
	$state ^= $state >> 17;
	$state ^= ($state << 5) & 0xffffffff;
	return $state;
}

sub upto { return bits() % $_[0]; }			# 0 .. n - 1
sub one_of { return $_[ bits() % @_ ]; }
sub chance { return bits() % 100 < $_[0]; }	# in percent

# --- texts ---

my @words = (
	# jobs, kinds, options, actions
	qw(nightly fails keeps people mail new main second default wire spare app nobody postgres sql retention items external
	delete archive update anonymize detach drop rows once all skip queue s ms us day hour month century define operate work observe),
	# schedules
	'* * * * * *', '0 0 29 2 *', '*/5 9-17 * * MON-FRI', '0 0 L * *', '0 0 LW * ?', '0 0 * * 5#3', '0 0 15W * *', '@daily', '@reboot',
	'every 90 seconds', 'every 1 month', '0 0 31 11 *', '60 * * * *',
	# time zones
	qw(UTC Europe/Berlin America/New_York Australia/Lord_Howe Pacific/Apia EST5EDT posixrules localtime),
	# relations, columns
	qw(app.people app.letters pg_class pg_catalog.pg_proc job_definition public.job_queue people sent id person email note ctid),
	# expressions, statements
	'r.id = 1', 'r.note IS NULL', 'job_now() - interval \'1 day\'', 'true', 'NULL', 'r.id / 0 = 1', '(SELECT max(id) FROM app.people)',
	'$1->>\'id\'', 'r.id = ($1->>\'id\')::int', 'email = NULL', 'email = job_mask_email(r.email), note = \'x\'', 'id = DEFAULT',
	'SELECT 1', 'SELECT id, email FROM app.people', 'SELECT id AS due FROM app.letters l JOIN app.people p USING (id) FOR UPDATE OF l',
	'VACUUM', 'CALL x()', 'DO $$BEGIN END$$', 'SELECT 1; SELECT 2', 'interval \'90 days\'',
	# durations, times, formats
	'90', '90 days', '-1 day', '1 us', '178956970 years', '1 mon -30 days', 'infinity', 'now', 'epoch', 'YYYY-MM-DD"T"HH24:MI:SS"Z"',
	'YYYYMMDD', 'DD.MM.YYYY', 'HH12:MI AM', 'FMYYYY', 'TMMonth', 'J', 'YYYY"x',
	# people
	'anna@example.com', 'a@b@c', '@', '+49 (30) 12-34', '00491234', 'anon_0123456789abcdef0123456789abcdef01234567', 'x@anon.invalid',
	# JSON, paths
	'{}', '[]', '{"a": 1}', '{"a": {"b": [1, {"c": null}]}}', '"x"', 'a.b.c', '**', '*.**.a', 'a\\.b', '$.a', 'a..b', '0.-1.99',
	# letters
	"Zo\303\253", "\360\237\230\200", "\342\200\256", "e\314\201", '%s%n', "'", '"', '\\', '--', '/*', ';', '$$', "\t", "\n", ' ', '', '#', '@schedule');

sub text
{
	my $text = one_of(@words);

	while (chance(35))
	{
		my $at = length $text ? upto(length($text) + 1) : 0;
		my $how = upto(5);

		if ($how == 0) { $text .= one_of(' ', ',', '.', '/', '') . one_of(@words) }
		elsif ($how == 1) { substr($text, $at, 0) = one_of(@words) }
		elsif ($how == 2) { substr($text, $at, 1 + upto(3)) = '' if $at < length $text }
		elsif ($how == 3) { substr($text, $at, 0) = one_of(split(//, q{09-+*/?LW#.:;'"\\%$aZ()[]{}, })) }
		else { $text = $text x (2 + upto(4)) if length $text < 2000 }
	}
	# what is cut through a character is none
	utf8::decode($text) or $text =~ s/[^\x01-\x7e]//g;
	utf8::encode($text) if utf8::is_utf8($text);
	return $text;
}

# --- JSON ---

my @keys = (qw(a b id user email priority timeout schedule command owner tags args settings enabled max_running overlap catch_up
	max_attempts retry_delay keep keep_history keep_runs relation time_column filter set match tiers batch_rows parallel circuit channel
	options confirm search_path work_mem *), '', 'financial');

sub quote
{
	my ($text) = @_;
	$text =~ s/(["\\])/\\$1/g;
	$text =~ s/([\x00-\x1f])/sprintf('\\u%04x', ord $1)/ge;
	return qq("$text");
}

sub json
{
	my ($depth) = @_;
	my $kind = $depth > 4 ? upto(5) : upto(8);

	return one_of(qw(null true false)) if $kind == 0;
	return one_of(qw(0 -1 1 2147483647 2147483648 9223372036854775807 1e400 -1e-400 0.5 99999999999999999999)) if $kind == 1;
	return quote(text()) if $kind < 5;
	return '[' . join(', ', map { json($depth + 1) } 1 .. upto(5)) . ']' if $kind == 5;
	return '{' . join(', ', map { quote(chance(80) ? one_of(@keys) : text()) . ': ' . json($depth + 1) } 1 .. upto(5)) . '}';
}

# --- values of a type, as SQL ---

my %edges = (
	int4 => [ 0, 1, -1, 2, 5, 100, 10000, 2147483647, -2147483648 ],
	int8 => [ 0, 1, -1, 7, 1000, '9223372036854775807', '(-9223372036854775807 - 1)' ],
	float8 => [ qw(0 1 -1 0.5 1e308 -1e-308), "'NaN'", "'Infinity'", "'-0'" ],
	numeric => [ qw(0 1 -1 0.001 12345678901234567890.5 1e1000 -1e-1000), "'NaN'", "'Infinity'", "'-Infinity'" ],
	bool => [ 'true', 'false' ],
	interval => [ map { "'$_'" } '0', '1 us', '1 s', '90', '1 day', '-1 day', '30 days', '1 mon', '1 mon -30 days', '1 year',
		'1000 years', '100000 years', '178000000 years', '-178000000 years', '2147483647 days', '1 mon 2147483647 days', '2562047788 hours' ],
	timestamptz => [ map { "'$_'" } 'now', 'epoch', 'infinity', '-infinity', '2000-01-01', '2026-03-29 02:30 Europe/Berlin',
		'294276-12-31 23:59:59.999999+00', '4713-01-01 00:00 BC', '1969-12-31 23:59:59.999999+00' ],
	timestamp => [ map { "'$_'" } 'now', 'infinity', '-infinity', '2000-02-29', '294276-12-31 23:59:59.999999', '4713-01-01 00:00 BC' ],
	date => [ map { "'$_'" } 'now', 'infinity', '-infinity', '2000-02-29', '5874897-12-31', '4713-01-01 BC', '0001-01-01' ],
	uuid => [ map { "'$_'" } '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '7d444840-9dc0-4bd1-b245-5ffdce74fad2' ],
	inet => [ map { "'$_'" } '192.0.2.7', '192.0.2.7/0', '0.0.0.0/32', '::', '::1/0', '2001:db8::1/127', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '::ffff:1.2.3.4' ],
	oid => [ 0, 1, 10, 4294967295 ],
);

sub of_type
{
	my ($type) = @_;

	return literal(text()) . '::text' if $type eq 'text';
	return literal(json(0)) . '::jsonb' if $type eq 'jsonb';
	return one_of("ARRAY[]::text[]", "'{{a,b},{c,d}}'::text[]", "'{NULL,a}'::text[]", "array_fill('a'::text, '{1000}')",
		'ARRAY[' . join(', ', map { literal(text()) . '::text' } 0 .. upto(4)) . ']') if $type eq '_text';
	return of_type(one_of(qw(text uuid inet int4 date jsonb other))) if $type eq 'anyelement';
	return one_of("'\\x00ff'::bytea", "'x'::char(5)", "'x'::varchar", "'(1,2)'::point", "ROW(1, 'a')", "'a'::\"char\"", "'x'::name")
	  if $type eq 'other';
	return one_of(@{ $edges{$type} }) . "::$type";
}

# --- calls ---

# function => { name => type, ... } of what can be given to it
sub fuzz_signatures
{
	my ($node) = @_;
	my %signature;

	foreach my $function (keys %CALLS)
	{
		my $call = call_name($function);
		my ($types) = $function =~ /\((.*)\)/;
		my $rows = $node->safe_psql('postgres', qq{
			SELECT a.name, t.typname FROM pg_proc p,
				unnest(p.proargtypes::oid[]) WITH ORDINALITY x (type, n)
				JOIN pg_type t ON t.oid = x.type,
				unnest(coalesce(p.proargnames, '{}')) WITH ORDINALITY a (name, n)
			WHERE p.proname = '$call' AND p.pronamespace = 'public'::regnamespace AND a.n = x.n
			  AND (} . (defined $types ? "p.oid = '$function'::regprocedure" : 'true') . ') ORDER BY a.n');
		$signature{$function} = { map { split /\|/ } split /\n/, $rows };
	}
	return \%signature;
}

# A call of a function, of any if none is named.
sub fuzz_call
{
	my ($signature, $value, $function) = @_;
	$function = one_of(sort keys %$signature) if !defined $function;
	my $types = $signature->{$function};
	my $call = $CALLS{$function};
	my %works = @{ $call->{args} };
	my @named;

	foreach my $name (sort keys %$types)
	{
		next if !exists $works{$name} && chance(75);
		next if exists $works{$name} && chance(5);
		my $expression = exists $works{$name} && chance(60) ? $works{$name} :
		  chance(12) ? 'NULL' : of_type($types->{$name});
		$expression =~ s/<(\w+)>/$value->{$1}/g;
		push @named, qq("$name" => $expression);
	}
	return ($call->{outside} ? 'CALL ' : $call->{scalar} ? 'SELECT ' : 'SELECT * FROM ')
	  . call_name($function) . '(' . join(', ', @named) . ')';
}

1;
