package JanitorTally;

# A TAP::Harness that writes down what it counted, for t/harness/suites:
# prove uses it because HARNESS_SUBCLASS says so.  Appends to $JANITOR_TALLY
#	failed NAME		for each test file with a problem
#	skipped NAME WHY	for each that skipped its tests, or some of them
#	sum PASSED FAILED	once, in individual tests
# A file that ends early, ends with an error or breaks its plan counts as a
# failure beside the tests it has passed; skipped tests count as nothing.

use strict;
use warnings;

use parent 'TAP::Harness';

sub runtests
{
	my ($self, @tests) = @_;
	my $aggregate = $self->SUPER::runtests(@tests);
	tally($aggregate) if $ENV{JANITOR_TALLY};
	return $aggregate;
}

sub skipped
{
	my ($parser) = @_;
	return $parser->skip_all || scalar(my @numbers = $parser->skipped) . ' of its tests';
}

sub tally
{
	my ($aggregate) = @_;
	my ($passed, $failed) = (0, 0);

	open(my $out, '>>', $ENV{JANITOR_TALLY})
	  or die "could not write $ENV{JANITOR_TALLY}: $!";
	foreach my $name ($aggregate->descriptions)
	{
		my ($parser) = $aggregate->parsers($name);
		my $wrong = () = $parser->failed;
		$wrong = 1 if $wrong == 0 && $parser->has_problems;
		$passed += () = $parser->passed;
		$passed -= () = $parser->skipped;
		$failed += $wrong;
		print $out "failed $name\n" if $wrong > 0;
		print $out "skipped $name " . skipped($parser) . "\n"
		  if $parser->skip_all || $parser->skipped;
	}
	print $out "sum $passed $failed\n";
	close($out);
	return;
}

1;
