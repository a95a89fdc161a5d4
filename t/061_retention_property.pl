# Random tables, random rules, other sessions writing meanwhile: afterwards
# exactly the rows are gone that plain SQL says had expired, and the records
# of the runs add up to them.
#
#	t/061_retention_property.pl [--seed N] [--seconds N] [--cases N]
#
# Each case has a seed of its own, which a failure prints: --seed N --cases 1
# makes that case again.
#
# Every row's real time is kept in the table `truth`, from which the rows are
# made in whatever type the time column has, at least three hours (of dates:
# days) away from the instant at which they expire, so that the instant of a
# run does not matter.  What the writers do does not either: they make rows of
# their own, which are young; they rejuvenate rows of one residue class and
# delete rows of another; and they lock rows and let them go.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Getopt::Long;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use JanitorTest;

my %options = (seed => 1, seconds => 40, cases => 100000);
GetOptions(\%options, 'seed=i', 'seconds=i', 'cases=i') or die 'usage: --seed N --seconds N --cases N';

my $node = janitor_node('property', 'max_worker_processes = 16', "timezone = 'UTC'",
	'fsync = off', 'autovacuum_naptime = 1', 'pg_janitor.max_workers = 6');

sub value
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

# --- dice ---

my $state;

sub dice
{
	$state = ($state * 1103515245 + 12345) & 0x7fffffff;
	return ($state >> 8) / (1 << 23);
}

sub chance { return dice() < shift; }

sub between { my ($low, $high) = @_; return $low + int(dice() * ($high - $low + 1)); }

sub one_of { return $_[ int(dice() * @_) ]; }

# --- a case ---

# How an instant is written in the time column; `first` is the least value of
# that instant, for bounds of partitions.
my %types = (
	timestamptz => { type => 'timestamptz', write => 'x' },
	timestamp => { type => 'timestamp', write => q(x AT TIME ZONE '%s') },
	date => { type => 'date', write => q((x AT TIME ZONE '%s')::date) },
	seconds => { type => 'bigint', write => 'extract(epoch FROM x)::bigint', unit => 's', odd => '12345' },
	seconds4 => { type => 'int', write => 'extract(epoch FROM x)::int', unit => 's', odd => '0' },
	ms => { type => 'bigint', write => '(extract(epoch FROM x) * 1000)::bigint', unit => 'ms', odd => '1700000000' },
	text => { type => 'text', write => q(to_char(x AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
		format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"', odd => q('2001-1-1') },
	uuid => { type => 'uuid', write => q((lpad(to_hex((extract(epoch FROM x) * 1000)::bigint), 12, '0')
			|| '7' || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid),
		first => q((lpad(to_hex((extract(epoch FROM x) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid) });

# What the case is: everything that is decided by the dice.
sub invent
{
	my ($seed) = @_;
	my %case = (seed => $seed);

	$state = $seed;
	dice() foreach 1 .. 10;
	$case{time} = one_of(sort keys %types);
	$case{collate} = $case{time} eq 'text' && chance(0.7) ? 'COLLATE "C"' : '';
	$case{zone} = one_of('UTC', 'America/New_York', 'Asia/Kolkata');
	$case{rows} = one_of(0, 1, 50, 1500, 1500, 4000);
	$case{fat} = chance(0.3) ? 700 : 10;
	$case{partitioned} = one_of('no', 'no', 'range', 'range', 'list', 'hash');
	$case{default} = chance(0.5);
	$case{below} = $case{partitioned} eq 'range' && chance(0.4);
	$case{partitions} = one_of('detach', 'drop', 'rows');
	$case{nulls} = chance(0.5) && ($case{partitioned} ne 'range' || $case{default});
	$case{index} = one_of('', '(at)', '(at)', '(grp, at)', '(at DESC)', '(at) WHERE flag');
	$case{expired} = one_of(0, 0.001, 0.02, 0.3, 0.8, 1);
	$case{order} = one_of('time', 'random');
	$case{filter} = one_of('', '', 'r.flag', 'r.grp <> 2 AND r.flag IS NOT NULL');
	$case{action} = one_of('delete', 'delete', 'delete', 'archive', 'update');
	$case{which} = one_of('keep', 'keep', 'keep', 'tiers', 'keep_expression', 'keep_last', 'expired_when');
	$case{star} = chance(0.5);
	$case{keep} = one_of('2 hours', '1 day', '30 days', '13 months');
	$case{last} = between(0, 1) ? between(1, 5) : between(50, 400);
	$case{per} = chance(0.5);
	$case{children} = $case{partitioned} eq 'no' && chance(0.35);
	$case{hold} = chance(0.25) ? one_of('some', 'some', 'all', $case{children} ? 'children' : 'some') : 'none';
	$case{parallel} = one_of(1, 1, 2, 3);
	$case{batch_rows} = one_of('NULL', 'NULL', 1, 7, 100, 1000);
	$case{rows_per_run} = chance(0.2) ? between(1, 1000) : 'NULL';
	$case{writers} = $case{which} eq 'keep_last' ? 0 : one_of(0, 1, 2);
	$case{vacuum} = chance(0.2);

	# partitions that can go as a whole are not left to chance
	if (chance(0.25))
	{
		@case{qw(partitioned partitions which action filter hold)} =
		  ('range', one_of('detach', 'drop'), 'keep', 'delete', '', 'none');
		@case{qw(nulls children)} = (0, 0);
		$case{below} = chance(0.4);
		$case{rows_per_run} = 'NULL' if chance(0.7);
	}

	# nor are walks by an index, and slices for several workers
	$case{analyzed} = chance(0.7);
	if (chance(0.35))
	{
		@case{qw(rows fat analyzed index)} = (5000, 1500, 1, one_of('(at)', '(at)', '(at DESC)'));
		$case{expired} = one_of(0.01, 0.05, 0.05, 0.4, 0.9);
		$case{partitioned} = 'no' if chance(0.6);
		$case{children} = 0 if $case{partitioned} ne 'no';
		$case{batch_rows} = one_of('NULL', 100, 1000);
		$case{hold} = 'some' if $case{hold} eq 'children' && !$case{children};
	}

	# of equal times keep_last may keep either
	$case{time} = 'timestamptz' if $case{which} eq 'keep_last' && $case{time} eq 'date';
	# a job of one row in a batch takes its time
	$case{rows} = 300 if $case{batch_rows} eq '1' && $case{rows} > 300;
	# the clock of an expiry of hours is a clock, not a calendar
	$case{keep} = '30 days' if $case{time} eq 'date' && $case{keep} =~ /hours|1 day/;
	return \%case;
}

sub description
{
	my ($case) = @_;
	return join(' ', map { "$_=$case->{$_}" } sort keys %$case);
}

# The keep of a row by its group; NULL: it never expires.
sub keep_of
{
	my ($case) = @_;
	my %keep = (
		keep => "interval '$case->{keep}'",
		keep_last => q(interval '30 days'),
		expired_when => q(interval '30 days'),
		tiers => q(CASE grp WHEN 0 THEN interval '10 days' WHEN 1 THEN interval '200 days' WHEN 2 THEN interval '3 years' ELSE )
		  . ($case->{star} ? q(interval '60 days') : 'NULL') . ' END',
		keep_expression => q(CASE WHEN grp > 0 THEN make_interval(days => grp * 40) END));
	return $keep{ $case->{which} };
}

sub make_table
{
	my ($case) = @_;
	my $type = $types{ $case->{time} };
	my $write = sprintf $type->{write}, $case->{zone};
	my $first = sprintf $type->{first} // $type->{write}, $case->{zone};
	my $margin = $case->{time} eq 'date' ? '3 days' : '3 hours';
	my $keep = keep_of($case);
	my $by = { no => '', range => 'PARTITION BY RANGE (at)', list => 'PARTITION BY LIST (grp)',
		hash => 'PARTITION BY HASH (id)' }->{ $case->{partitioned} };
	my $sql = qq(
		SET client_min_messages = error;
		DROP SCHEMA IF EXISTS prop CASCADE;
		CREATE SCHEMA prop;
		SET search_path = prop, public;
		CREATE TABLE one (t0 timestamptz);
		INSERT INTO one VALUES (now());
		CREATE FUNCTION write(x timestamptz) RETURNS $type->{type} LANGUAGE sql VOLATILE AS \$\$ SELECT $write \$\$;
		CREATE FUNCTION first(x timestamptz) RETURNS $type->{type} LANGUAGE sql VOLATILE AS \$\$ SELECT $first \$\$;
		CREATE TABLE t (id bigint NOT NULL, grp int, at $type->{type} $case->{collate}, flag boolean, status text, fat text) $by;
		CREATE TABLE archive (LIKE t);
		CREATE TABLE written (id bigint, status text, what text);
	);

	value($sql);
	$sql = 'SET client_min_messages = error; SET search_path = prop, public;';

	# Some partitions are all expired, one is mixed, some are young.
	if ($case->{partitioned} eq 'range')
	{
		my $low = 'MINVALUE';
		my $n = 0;
		foreach my $end ('4 years', '2 years', '400 days', '90 days', '15 days', '0 days')
		{
			my $high = value("SELECT quote_literal(prop.first(t0 - interval '$end')) FROM prop.one");
			my $sub = $case->{below} && $n % 2 ? one_of(' PARTITION BY LIST (grp)', ' PARTITION BY HASH (id)') : '';
			$sql .= "CREATE TABLE t$n PARTITION OF t FOR VALUES FROM ($low) TO ($high)$sub;";
			$sql .= "CREATE TABLE t${n}_a PARTITION OF t$n FOR VALUES IN (0, 2);
				CREATE TABLE t${n}_b PARTITION OF t$n DEFAULT;" if $sub =~ /LIST/;
			$sql .= "CREATE TABLE t${n}_$_ PARTITION OF t$n FOR VALUES WITH (MODULUS 2, REMAINDER $_);"
			  foreach $sub =~ /HASH/ ? (0, 1) : ();
			$low = $high;
			$n++;
		}
		$sql .= $case->{default} ? 'CREATE TABLE t_default PARTITION OF t DEFAULT;' :
		  "CREATE TABLE t$n PARTITION OF t FOR VALUES FROM ($low) TO (MAXVALUE);";
	}
	$sql .= q(CREATE TABLE t_a PARTITION OF t FOR VALUES IN (0, 1);
		CREATE TABLE t_b PARTITION OF t FOR VALUES IN (2, NULL);
		CREATE TABLE t_default PARTITION OF t DEFAULT;) if $case->{partitioned} eq 'list';
	$sql .= "CREATE TABLE t_$_ PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER $_);"
	  foreach $case->{partitioned} eq 'hash' ? (0 .. 2) : ();

	# odd: NULL, or a time that is none; goes: this row is to go.
	my $odd = $type->{odd} // 'NULL';
	my $odds = $case->{nulls} ? "CASE i % 13 WHEN 0 THEN 'null' WHEN 1 THEN " . ($type->{odd} ? "'odd'" : "'null'") . ' END' : 'NULL';
	$odds = 'NULL' if $case->{which} =~ /keep_last|expired_when/;
	my $flag = { '' => 'true', 'r.flag' => 'flag', 'r.grp <> 2 AND r.flag IS NOT NULL' => 'grp <> 2 AND flag IS NOT NULL' }->{ $case->{filter} };
	my $partition = $case->{per} ? 'PARTITION BY grp' : '';
	my $held = { none => 'false', some => 'grp = 3', all => 'true',
		children => 'EXISTS (SELECT FROM child c WHERE c.t_id = truth.id AND c.id % 5 = 0)' }->{ $case->{hold} };
	my $is_old = $case->{which} eq 'keep_last' ?
	  "id NOT IN (SELECT id FROM (SELECT id, row_number() OVER ($partition ORDER BY born DESC) AS n
			FROM truth WHERE born IS NOT NULL) s WHERE n <= $case->{last})" :
	  $case->{which} eq 'expired_when' ? "grp = 1 AND flag" :
	  "odd IS NULL AND keep IS NOT NULL AND born < t0 - keep";
	my $old_flag = $case->{which} eq 'keep_last' && $case->{filter} ne '' ?
	  # those it counts are those it is about
	  "id NOT IN (SELECT id FROM (SELECT id, row_number() OVER ($partition ORDER BY born DESC) AS n
			FROM truth) s WHERE n <= $case->{last}) AND ($flag)" : "($is_old) AND ($flag)";
	$sql .= qq(
		SELECT setseed($case->{seed} % 1000 / 1000.0);
		CREATE TABLE truth AS
		SELECT i AS id, grp, keep, odd, flag,
			date_trunc('milliseconds', t0 - coalesce(keep, interval '100 days')
				+ CASE WHEN young THEN 1 ELSE -1 END * (interval '$margin' + random() * interval '80 days')) AS born
		FROM (SELECT *, $keep AS keep FROM (
				SELECT i, (random() * 5)::int AS grp, random() >= $case->{expired} AS young,
					CASE WHEN random() < 0.9 THEN random() < 0.8 END AS flag, $odds AS odd
				FROM generate_series(1, $case->{rows}) i) a) b, one;
		) . ($case->{time} =~ /seconds|text/ ? q(
		UPDATE truth SET born = date_trunc('second', born) + id * interval '1 second';) : '') . qq(
		INSERT INTO t SELECT id, grp, CASE odd WHEN 'null' THEN NULL WHEN 'odd' THEN $odd ELSE write(born) END,
			flag, 'new', repeat('x', $case->{fat})
		FROM truth ORDER BY ) . ($case->{order} eq 'time' ? 'born' : 'md5(id::text)') . qq(;
		CREATE TABLE child (id bigint PRIMARY KEY, t_id bigint);
	);
	$sql .= q(
		ALTER TABLE t ADD PRIMARY KEY (id);
		INSERT INTO child SELECT id * 10 + n, id FROM truth, generate_series(0, id % 3) n;
		ALTER TABLE child ADD FOREIGN KEY (t_id) REFERENCES t ON DELETE CASCADE;
		CREATE INDEX ON child (t_id);) if $case->{children};
	$sql .= 'CREATE INDEX ON t (id);' if !$case->{children};
	$sql .= "CREATE INDEX ON t $case->{index};" if $case->{index};
	$sql .= qq(
		ALTER TABLE truth ADD goes boolean;
		UPDATE truth SET goes = coalesce(($old_flag) AND NOT ($held), false) FROM one;
		ALTER TABLE truth ADD PRIMARY KEY (id);
	);
	$sql .= 'VACUUM ANALYZE t;' if $case->{analyzed};
	$sql .= writer_sql($case);
	value($sql);
	return;
}

# What other sessions do, one commit after the other.
sub writer_sql
{
	my ($case) = @_;
	my $top = $case->{rows} || 1;

	return qq(
		CREATE PROCEDURE prop.writer(me int, n int) LANGUAGE plpgsql AS \$\$
		DECLARE base bigint := me * 1000000; what int; pick bigint; young timestamptz;
		BEGIN
			PERFORM setseed(me / 10.0);
			FOR i IN 1..n LOOP
				what := random() * 6;
				pick := random() * $top;
				young := now() + random() * interval '1 day';
				BEGIN
					IF what = 0 OR what = 1 THEN
						INSERT INTO prop.t SELECT base + i * 10 + j, 4, prop.write(young + j * interval '1 s'), false, 'mine', ''
						FROM generate_series(1, 3) j;
						INSERT INTO prop.written SELECT base + i * 10 + j, NULL, 'insert' FROM generate_series(1, 3) j;
					ELSIF what = 2 THEN
						-- rejuvenates one of those it may
						WITH u AS (UPDATE prop.t SET at = prop.write(young), flag = false
								   WHERE id = pick / 17 * 17 AND id > 0 AND id % 19 <> 0 RETURNING id, status)
						INSERT INTO prop.written SELECT id, status, 'young' FROM u;
					ELSIF what = 3 THEN
						WITH d AS (DELETE FROM prop.t WHERE id = pick / 19 * 19 AND id > 0 RETURNING id, status)
						INSERT INTO prop.written SELECT id, status, 'delete' FROM d;
					ELSIF what = 4 THEN
						WITH d AS (DELETE FROM prop.t WHERE id = base + i / 2 * 10 + 1 RETURNING id, status)
						INSERT INTO prop.written SELECT id, status, 'delete' FROM d;
						UPDATE prop.t SET fat = fat || 'y' WHERE id = base + i / 3 * 10 + 2;
					ELSE
						PERFORM FROM prop.t WHERE id BETWEEN pick AND pick + 5 FOR UPDATE;
						PERFORM pg_sleep(0.03);	-- a job that takes long
					END IF;
				EXCEPTION WHEN serialization_failure OR deadlock_detected THEN NULL;
				END;
				COMMIT;
			END LOOP;
		END \$\$;);
}

sub define
{
	my ($case) = @_;
	my $type = $types{ $case->{time} };
	my @arguments = ("'prop_$case->{seed}'", 'NULL', "'prop.t'");
	my $which = $case->{which};

	push @arguments, "time_column => 'at'" if $which ne 'expired_when';
	push @arguments, "time_unit => '$type->{unit}'" if $type->{unit} && $which ne 'expired_when';
	push @arguments, "time_format => '$type->{format}'" if $type->{format} && $which ne 'expired_when';
	push @arguments, "keep => '$case->{keep}'" if $which eq 'keep';
	push @arguments, "tier_column => 'grp'", 'tiers => \'{"0": "10 days", "1": "200 days", "2": "3 years"'
	  . ($case->{star} ? ', "*": "60 days"' : '') . '}\'' if $which eq 'tiers';
	push @arguments, 'keep_expression => $$CASE WHEN r.grp > 0 THEN make_interval(days => r.grp * 40) END$$'
	  if $which eq 'keep_expression';
	push @arguments, "keep_last => $case->{last}", $case->{per} ? q(keep_per => '{grp}') : () if $which eq 'keep_last';
	push @arguments, 'expired_when => $$r.grp = 1 AND r.flag$$' if $which eq 'expired_when';
	push @arguments, "filter => \$\$$case->{filter}\$\$" if $case->{filter};
	push @arguments, "action => '$case->{action}'" if $case->{action} ne 'delete';
	push @arguments, q(archive_to => 'prop.archive') if $case->{action} eq 'archive';
	push @arguments, q(set => $$status = 'done'$$) if $case->{action} eq 'update';
	push @arguments, "$_ => $case->{$_}" foreach grep { $case->{$_} ne 'NULL' } qw(parallel batch_rows rows_per_run);
	push @arguments, "partitions => '$case->{partitions}'", "time_zone => '$case->{zone}'";
	push @arguments, 'vacuum => true' if $case->{vacuum};
	value('SET client_min_messages = error; SELECT job_schedule_retention(' . join(', ', @arguments) . ')');
	my ($relation, $predicate) = @{ {
		some => [ 't', q('r.grp = 3') ],
		all => [ 't', 'NULL' ],
		children => [ 'child', q('r.id % 5 = 0') ] }->{ $case->{hold} } // [] };
	value("SELECT job_hold_place('prop.$relation', $predicate, 'a lawsuit')") if $relation;
	return;
}

# What is wrong with what has come out; no row is what is to come out.
sub violations
{
	my ($case) = @_;
	my $job = "prop_$case->{seed}";
	my $gone = $case->{action} eq 'update' ? q(t.status = 'done') : 't.id IS NULL';
	my $held_by_writer = 'b.id % 17 = 0 OR b.id % 19 = 0';

	my $children = $case->{children} ? 'true' : 'false';
	my $handled = $case->{action} eq 'update' ?
	  q((SELECT count(*) FROM t WHERE status = 'done') + (SELECT count(*) FROM written WHERE status = 'done' AND what = 'delete')) :
	  q((SELECT count(*) FROM truth b LEFT JOIN t USING (id) WHERE t.id IS NULL)
		- (SELECT count(*) FROM written JOIN truth USING (id) WHERE what = 'delete'));

	# with writers the classes of rows that they change may go either way
	my $sure = $case->{writers} ? "NOT ($held_by_writer)" : 'true';
	return value(qq(
		SET search_path = prop, public;
		SELECT string_agg(v, E'\\n') FROM (
			SELECT format('row %s of %s rows is gone and had not expired: %s', min(b.id), count(*), min(b::text)) AS v
			FROM truth b LEFT JOIN t USING (id)
			WHERE NOT b.goes AND ($gone)
			  AND NOT EXISTS (SELECT FROM written w WHERE w.id = b.id AND w.what = 'delete')
			HAVING count(*) > 0
			UNION ALL
			SELECT format('row %s of %s rows has expired and is there: %s', min(b.id), count(*), min(b::text))
			FROM truth b LEFT JOIN t USING (id)
			WHERE b.goes AND NOT ($gone) AND ($sure)
			HAVING count(*) > 0
			UNION ALL
			SELECT format('row %s of %s rows of a writer is gone', min(w.id), count(*))
			FROM written w LEFT JOIN t USING (id)
			WHERE what = 'insert' AND (t.id IS NULL OR t.status <> 'mine')
			  AND NOT EXISTS (SELECT FROM written d WHERE d.id = w.id AND d.what = 'delete')
			HAVING count(*) > 0
			UNION ALL
			SELECT format('row %s of %s rows was rejuvenated, and is gone', min(w.id), count(*))
			FROM (SELECT id, bool_or(status = 'new') AS new FROM written WHERE what = 'young' GROUP BY id) w
			LEFT JOIN t USING (id)
			WHERE t.id IS NULL OR new AND t.status = 'done'
			HAVING count(*) > 0
			UNION ALL
			SELECT format('a row is there twice: %s', id) FROM t GROUP BY id HAVING count(*) > 1
			UNION ALL
			SELECT format('%s recorded, %s really handled', recorded, handled)
			FROM (SELECT coalesce(sum(records_processed), 0) AS recorded FROM job_execution WHERE job_name = '$job') e,
				LATERAL (SELECT $handled AS handled) h
			WHERE recorded <> handled
			UNION ALL
			SELECT format('archive: %s rows, of which %s are right; %s recorded', count(*),
				count(*) FILTER (WHERE b.goes AND a.grp IS NOT DISTINCT FROM b.grp AND a.status = 'new'), recorded)
			FROM archive a LEFT JOIN truth b USING (id),
				(SELECT coalesce(sum(records_processed), 0) AS recorded FROM job_execution WHERE job_name = '$job') e
			GROUP BY recorded
			HAVING count(*) <> CASE '$case->{action}' WHEN 'archive' THEN recorded ELSE 0 END
			   OR count(*) <> count(*) FILTER (WHERE b.goes AND a.grp IS NOT DISTINCT FROM b.grp AND a.status = 'new')
			UNION ALL
			SELECT format('children: %s without a parent, %s missing',
				count(*) FILTER (WHERE t.id IS NULL), count(*) FILTER (WHERE c.id IS NULL))
			FROM child c FULL JOIN (SELECT t.id, id * 10 + n AS child FROM t JOIN truth USING (id), generate_series(0, id % 3) n) t
				ON c.id = t.child
			WHERE $children AND (t.id IS NULL OR c.id IS NULL)
			HAVING count(*) > 0
			UNION ALL
			SELECT format('execution %s %s: %s', id, status, coalesce(error_message, detail))
			FROM job_execution WHERE job_name = '$job' AND status <> 'succeeded'
			UNION ALL
			SELECT format('execution %s: %s rows, rows_per_run is %s', id, records_processed, $case->{rows_per_run})
			FROM job_execution WHERE job_name = '$job' AND records_processed > $case->{rows_per_run}
		) v));
}

sub run_case
{
	my ($seed) = @_;
	my $case = invent($seed);
	my $job = "prop_$seed";
	my @writers;
	my @counts;

	note(description($case));
	make_table($case);
	define($case);
	foreach my $me (1 .. $case->{writers})
	{
		push @writers, IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
				'-c', "CALL prop.writer($me, " . between(30, 120) . ')' ]);
	}
	my $runs = 0;
	do
	{
		push @counts, run_job($node, $job)->{records_processed} // 0;
		if (@writers && $counts[-1] == 0)
		{
			# they may have kept rows from us
			$_->finish foreach @writers;
			ok(!(grep { $_->result(0) } @writers), "seed $seed: the writers went through");
			@writers = ();
			push @counts, run_job($node, $job)->{records_processed} // 0;
		}
	} while ($counts[-1] > 0 && $runs++ < 5000);
	is(violations($case), '', "seed $seed: what had expired is gone, and counted (@counts[0 .. ($#counts < 8 ? $#counts : 8)])")
	  or diag(description($case));
	value(qq(SELECT job_unschedule('$job');
		SELECT job_hold_release(id) FROM job_hold WHERE released_at IS NULL;));
	return;
}

diag("seed $options{seed}, for $options{seconds} s or $options{cases} cases");
my $until = time + $options{seconds};
my $done = 0;
while ($done < $options{cases} && time < $until)
{
	run_case($options{seed} + $done++);
}
diag("$done cases: " . value(q(
	SELECT string_agg(n || ' ' || k, ', ' ORDER BY n DESC) FROM (
		SELECT k, count(*) AS n FROM job_execution, jsonb_object_keys(result #> '{rules,main}') k GROUP BY 1) s)));
cmp_ok($done, '>', 0, 'cases were made');

quiet_log($node, 'no process of pg_janitor has died or got stuck');
$node->stop;
done_testing();
