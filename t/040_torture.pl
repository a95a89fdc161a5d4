# The short form of the torture test: a fixed seed and 15 kills.  The full one
# is `make torture`; what both do is in t/torture/Torture.pm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/torture";

use Test::More;

use Torture;

torture(seed => 3, kills => 15, copies => 30);

done_testing();
