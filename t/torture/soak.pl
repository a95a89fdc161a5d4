# The soak in full: make soak SOAK="--rate 500 --seconds 300 --rounds 6".

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Getopt::Long;
use Test::More;

use Soak;

my %options = (rate => 500, seconds => 300, rounds => 6);
GetOptions(\%options, 'rate=i', 'seconds=i', 'rounds=i') or die 'usage: --rate N --seconds N --rounds N';

soak(%options);

done_testing();
