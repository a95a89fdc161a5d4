# Whatever the functions are called with: no crash, no assertion, no internal
# error, and the server goes on.
#
# This is the short form, always the same statements; the long one is `make fuzz
# FUZZ="--seed 7 --seconds 600"`, best on a server with assertions.  What has
# gone wrong once is in t/fuzz/sql, and is tried first.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/fuzz";

use Fuzz qw(fuzz_seed fuzz_signatures fuzz_call);
use Getopt::Long;
use IPC::Run;
use JanitorCalls;
use JanitorTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

my %options = (seed => 1, statements => 3000);
GetOptions(\%options, 'seed=i', 'seconds=i', 'statements=i')
  or die 'usage: --seed N --seconds N --statements N';
my $at_once = 500;

my $node = janitor_node('fuzz', 'max_worker_processes = 16', "log_min_messages = 'error'");
my $value = calls_fixture($node);
my $signature = fuzz_signatures($node);
my $tried = 0;
my %states;

# What must not be said, or not be the end of a session.
my $bad = qr/^(?:psql:<stdin>:\d+: )?(?:ERROR|FATAL|PANIC):  (?:XX|58|57P0[^1])|server closed the connection|connection to server was lost/m;

# Carries out statements in one session; those that went wrong.
sub try_statements
{
	my ($user, @statements) = @_;
	my ($script, $out, $said) = ("SET statement_timeout = '3s'; SET client_min_messages = error;\n", '', '');
	my @wrong;

	foreach my $i (0 .. $#statements)
	{
		my $outside = $statements[$i] =~ /^CALL/;
		# grants and keys stay as they are; of the rest a part is committed
		my $end = $statements[$i] =~ /job_(?:grant|revoke|mask_|unschedule|hold_place)/ || $i % 8 ? 'ROLLBACK' : 'COMMIT';
		$script .= "BEGIN;\n" unless $outside;
		$script .= "$statements[$i];\n\\warn '<<<' :SQLSTATE\n";
		$script .= "$end;\n" unless $outside;
	}
	IPC::Run::run(
		[ 'psql', '-XAtq', '-U', $user, '-d', $node->connstr('postgres'), '-v', 'VERBOSITY=verbose' ],
		'<', \$script, '>', \$out, '2>', \$said);
	my $done = 0;
	while ($said =~ /\G(.*?)<<< (\w+)\n/gs)
	{
		my ($errors, $state) = ($1, $2);
		$states{$state}++;
		push @wrong, "$statements[$done];\n$errors" if $errors =~ $bad;
		$done++;
	}
	push @wrong, ($statements[$done] // 'the end') . ";\nthe session ended: " . substr($said, -500) if $done < @statements;
	$tried += $done;
	return @wrong;
}

is(scalar try_statements('postgres', q{DO $$BEGIN RAISE EXCEPTION USING ERRCODE = 'XX000'; END$$}, 'SELECT 1/0'), 1,
	'an internal error would be noticed');
is(scalar try_statements('postgres', 'SELECT 1', 'SELECT pg_terminate_backend(pg_backend_pid())', 'SELECT 1'), 1,
	'so would be a session that ends');

# --- what was found before ---

foreach my $file (sort glob "$FindBin::RealBin/fuzz/sql/*.sql")
{
	my @wrong = try_statements('postgres', grep { /\S/ } split /;\n/, slurp_file($file) =~ s/^--.*\n//gmr);
	is(join("\n", @wrong), '', $file =~ s/.*\///r);
}

# --- and what comes up ---

note("--seed $options{seed}");
fuzz_seed($options{seed});
my $began = Time::HiRes::time();
my @wrong;
my @users = qw(postgres m_define stranger);

# Each function a few times, then any.
foreach my $function (sort keys %$signature)
{
	push @wrong, try_statements('postgres', map { fuzz_call($signature, $value, $function) } 1 .. 10);
}
for (my $round = 0; $options{seconds} ? Time::HiRes::time() < $began + $options{seconds} : $tried < $options{statements}; $round++)
{
	push @wrong, try_statements($users[ $round % @users ], map { fuzz_call($signature, $value) } 1 .. $at_once);
	last if @wrong > 20;
}
is(join("\n", @wrong > 5 ? @wrong[0 .. 4] : @wrong), '', "seed $options{seed}, $tried statements: no internal error, no session lost");
note(join(' ', map { "$_:$states{$_}" } sort { $states{$b} <=> $states{$a} } keys %states));
cmp_ok($states{'00000'} // 0, '>', $tried / 20, 'some of them work');
cmp_ok(scalar keys %states, '>', 15, 'the others fail in many ways');

# --- afterwards ---

$node->safe_psql('postgres', q{SET client_min_messages = error;
	SELECT job_resume(); SELECT job_schedule('after', NULL, 'SELECT 1', owner => 'app')});
is(run_job($node, 'after')->{status}, 'succeeded', 'afterwards jobs run');
$node->safe_psql('postgres', 'SELECT * FROM job_status; SELECT * FROM job_runs; SELECT * FROM job_waiting; SELECT * FROM job_progress');
my $log = slurp_file($node->logfile);
is(join("\n", $log =~ /^(.*(?:TRAP:|PANIC:|terminated by signal|runtime error:|AddressSanitizer|could not look at the queue).*)$/mg), '',
	'no process has died, asserted or got stuck');
$node->stop;
done_testing();
