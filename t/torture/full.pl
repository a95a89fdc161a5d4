# The torture test in full: make torture TORTURE="--seed 7 --kills 300".

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Getopt::Long;
use Test::More;

use Torture;

my %options = (seed => time % 100000, kills => 200, copies => 100, fsync => 'on');
GetOptions(\%options, 'seed=i', 'kills=i', 'copies=i', 'fsync=s') or die 'usage: --seed N --kills N --copies N --fsync on|off';

torture(%options);

done_testing();
