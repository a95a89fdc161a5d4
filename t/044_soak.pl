# The short form of the soak, which ends as soon as nothing grows.  The full one
# is `make soak`; what both do is in t/torture/Soak.pm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/torture";

use Test::More;

use Soak;

soak(rate => 300, seconds => 6, rounds => 8, until_flat => 1);

done_testing();
