package JanitorHeavy;

# Retention jobs for tests: each has a table of its own with so many expired
# rows, one a block and spread over partitions, and takes them slowly.

use strict;
use warnings;

use Exporter 'import';
use JanitorTest;

our @EXPORT = qw(heavy_job end_heavy rows_left helpers_are);

# Options: database, owner, rows (1000), rate (5 a second), and further
# arguments of job_schedule_retention() as SQL in `with`.
sub heavy_job
{
	my ($node, $name, %options) = @_;
	my %given = (database => 'postgres', owner => 'postgres', rows => 1000,
		rate => 5, with => '', %options);
	my $more = $given{with} ? ", $given{with}" : '';

	$node->safe_psql($given{database}, qq(
		SET client_min_messages = error;
		CREATE TABLE $name (at timestamptz NOT NULL, part int, pad text)
			PARTITION BY LIST (part);
		SELECT format('CREATE TABLE %I PARTITION OF $name FOR VALUES IN (%s)
					   WITH (fillfactor = 10, autovacuum_enabled = off)',
					  '${name}_' || i, i)
		FROM generate_series(0, 7) i \\gexec
		ALTER TABLE $name ALTER pad SET STORAGE PLAIN;
		INSERT INTO $name
		SELECT now() - interval '10 days', i % 8, repeat('x', 1000)
		FROM generate_series(1, $given{rows}) i;
		ALTER TABLE $name OWNER TO $given{owner};
		SELECT format('ALTER TABLE %I OWNER TO $given{owner}', '${name}_' || i)
		FROM generate_series(0, 7) i \\gexec
		SELECT job_schedule_retention('$name', NULL, '$name', 'at', '1 day',
			batch_rows => 1, max_rows_per_second => $given{rate},
			owner => '$given{owner}' $more)));
	return;
}

sub rows_left
{
	my ($node, $name, $database) = @_;
	return $node->safe_psql($database || 'postgres',
		"SELECT count(*) FROM $name");
}

# Leaves nothing to do: the run succeeds.
sub end_heavy
{
	my ($node, $name, $database) = @_;
	$node->safe_psql($database || 'postgres', "DELETE FROM $name");
	return;
}

# Waits until there are so many helpers, of all runs.
sub helpers_are
{
	my ($node, $count) = @_;
	eventually($node,
		"SELECT count(*) = $count FROM job_progress WHERE helper",
		"$count helpers");
	return;
}

1;
