#!/bin/bash
#
# See pg_janitor at work: `make demo`.
#
# As root it installs what is missing.  The server is a throwaway one, on a
# private socket, under an ordinary user, in a directory below /tmp; nothing is
# installed into the system's server, and nothing is left.  examples/demo/show.sh
# is the demonstration itself.  The exit status is 0 if all went as it should.

set -euo pipefail
. "$(dirname "$0")/../../t/harness/lib.sh"

stage=
finish() {
	local status=$?
	trap - EXIT
	[ -z "$stage" ] || stage_remove
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

ensure_packages
choose_user
stage_create
run_group bash examples/demo/show.sh
