package Source;

# What the static checks share: finding our C files, and their text with
# comments and literals blanked out.

use strict;
use warnings;

use Exporter 'import';
use FindBin;

our @EXPORT = qw(c_files slurp blank root);

# The checks work from the top of the tree, wherever they are called from.
sub root { return "$FindBin::RealBin/.." }

sub c_files { return sort map { glob("$_/*.[ch]") } @_ }

sub slurp
{
	my ($name) = @_;
	open(my $in, '<', $name) or die "could not open $name: $!\n";
	local $/;
	my $text = <$in>;
	close($in);
	return defined $text ? $text : '';
}

# C source with comments gone and literals empty; line numbers stay.
sub blank
{
	my ($text) = @_;
	$text =~ s{(/\*.*?\*/)|("(?:\\.|[^"\\\n])*")|('(?:\\.|[^'\\\n])*')}
	{
		if (defined $1) { my $comment = $1; $comment =~ s/[^\n]//g; $comment || ' ' }
		elsif (defined $2) { '""' }
		else { "' '" }
	}gsex;
	return $text;
}

1;
