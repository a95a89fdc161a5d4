# client.pl DIRECTORY DATABASE SEED
#
# An application that triggers, replaces, prepares, rolls back, cancels and
# pauses, while the server is being killed under it.  Until DIRECTORY/stop
# exists it sends small scripts to the server that DIRECTORY/server names, and
# appends to DIRECTORY/DATABASE.log what it saw committed:
#
#	C token id keyed		committed
#	R token id				rolled back
#	P gid token id			prepared
#	I gid C|R				about to commit or roll back the prepared one
#
# A transaction whose end it did not see is not in there; the invariants leave
# it open what became of it.

use strict;
use warnings;

use IO::Handle;
use IPC::Run;
use Time::HiRes qw(usleep);

my ($dir, $database, $seed) = @ARGV;
srand($seed);

open(my $log, '>>', "$dir/$database.log") or die "$dir/$database.log: $!";
$log->autoflush(1);

my $serial = 0;
my (@prepared, @ending, %end_as);
my @ids = (0);

sub any { return $_[ int(rand(@_)) ]; }

# One transaction with a trigger in it, and what it prints when it is over.
sub trigger_script
{
	my $token = "$database-" . ++$serial;
	my $keyed = rand() < 0.3;
	my $job = $keyed ? any('keyed_1', 'keyed_2') :
	  any('demand_1', 'demand_2', 'demand_3', 'demand_4');
	my $key = $keyed ? any("'a'", "'b'") : 'NULL';
	my $at = rand() < 0.4 ? sprintf("now() + interval '%.1f s'", rand(3)) : 'NULL';
	my $call = "SELECT job_trigger('$job', '{\"token\": \"$token\"}', $at, $key) AS id \\gset\n";
	my $end = rand();

	return "BEGIN;\n${call}ROLLBACK;\n\\echo R $token :id\n" if $end < 0.15;
	if ($end < 0.25 && !$keyed)
	{
		push @prepared, $token;
		return "BEGIN;\n${call}PREPARE TRANSACTION '$token';\n\\echo P $token $token :id\n";
	}
	return "BEGIN;\nSAVEPOINT s;\n${call}ROLLBACK TO s;\nCOMMIT;\n\\echo R $token :id\n"
	  if $end < 0.3;
	return "BEGIN;\n${call}COMMIT;\n\\echo C $token :id " . ($keyed ? 1 : 0) . "\n";
}

sub prepared_script
{
	my $gid = shift @prepared;
	my $what = $end_as{$gid} //= any('C', 'C', 'R');

	# tried again, in the same way, until its end has been seen
	push @ending, $gid;

	# also when there is none: then it was never prepared, or it is done
	return "\\echo I $gid $what\nSELECT count(*) AS n FROM pg_prepared_xacts WHERE gid = '$gid' \\gset\n\\if :n\n"
	  . ($what eq 'C' ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid';\n\\endif\n\\echo D $gid\n";
}

sub one_script
{
	my $what = rand();

	return prepared_script() if $what < 0.2 && @prepared;
	return "SELECT job_cancel(id) FROM job_execution WHERE status = 'running' ORDER BY id DESC LIMIT 1 \\g /dev/null\n"
	  if $what < 0.05;
	return 'SELECT job_cancel(' . any(@ids) . ") \\g /dev/null\n" if $what < 0.08 && $ids[-1];
	return "SELECT job_cancel('" . any(qw(demand_2 keyed_2 wide_1 queued_1 fails_1 child_2 plain_1)) . "') \\g /dev/null\n"
	  if $what < 0.1;
	return "SELECT job_pause('" . any(qw(plain_2 fails_1 parent queued_1 demand_1)) . "', 'torture') \\g /dev/null\n"
	  if $what < 0.12;
	return "SELECT job_resume() \\g /dev/null\n" if $what < 0.15;
	return trigger_script();
}

sub server
{
	open(my $in, '<', "$dir/server") or return;
	my $line = <$in> // '';
	close $in;
	return split ' ', $line;
}

until (-e "$dir/stop")
{
	my ($host, $port) = server();
	my $script = "SET lock_timeout = '5s';\n" . join('', map { one_script() } 1 .. 6);
	my ($out, $err) = ('', '');

	if (!$port) { usleep(20_000); next; }

	# what follows a lost connection is not printed: psql ends
	eval {
		IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1',
				'-h', $host, '-p', $port, '-d', $database, '-f', '-' ],
			'<', \$script, '>', \$out, '2>', \$err, IPC::Run::timeout(60));
	};
	print $log $out;
	push @prepared, grep { $out !~ /^D \Q$_\E$/m } @ending;
	@ending = ();
	print $log "# $_\n" foreach grep { /ERROR/ && !/does not exist/ } split /\n/, $err;
	push @ids, $1 while $out =~ /^C \S+ (\d+)/mg;
	splice(@ids, 0, @ids - 20) if @ids > 20;
	usleep(20_000 + rand(100_000));
}
