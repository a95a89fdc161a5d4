# Shared by the test run, the demo and CI; to be sourced by bash.
#
# What they have in common: find out what the machine lacks and install it
# where we may, choose an ordinary user (the server refuses to run as root),
# and work on a copy of the tree below /tmp, which that user can read wherever
# the tree itself lies, and which keeps the tree free of products.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

is_root() { [ "$(id -u)" = 0 ]; }

# ----- packages -----

# The server to test: pg_config as the caller named it, as a full path.
find_pg_config() {
	pg_config=$(command -v "${PG_CONFIG:-pg_config}" || true)
}

pg_major() { "$pg_config" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/'; }

have_server() {
	[ -n "$pg_config" ] && [ -x "$("$pg_config" --bindir)/initdb" ] &&
		[ -x "$("$pg_config" --bindir)/postgres" ]
}

# Debian ships the makefiles with the client, the headers apart from it.
have_server_dev() {
	[ -n "$pg_config" ] && [ -f "$("$pg_config" --pgxs 2>/dev/null)" ] &&
		[ -f "$("$pg_config" --includedir-server)/postgres.h" ]
}

# The major that this release of Debian carries.
debian_major() {
	apt-cache depends postgresql 2>/dev/null |
		sed -n 's/^ *Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1
}

server_packages() {
	local major
	have_server && have_server_dev && return
	if have_server_dev; then major=$(pg_major); else major=$(debian_major); fi
	have_server || echo "postgresql-${major:-NN}"
	have_server_dev || echo "postgresql-server-dev-${major:-NN}"
}

# The major that this release of Debian carries, or the one that is here.
clang_version() {
	if command -v clang >/dev/null; then
		clang -dumpversion | sed 's/\..*//'
	else
		apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9][0-9]*\)$/\1/p'
	fi
}

# The file of one of clang's libraries, whether it is there or not.
clang_runtime() {	# NAME SUFFIX
	echo "$(clang -print-resource-dir 2>/dev/null)/lib/linux/libclang_rt.$1-$(uname -m)$2"
}

# Debian's names of what is missing.  "static" adds the tools of the static
# checks, "tap" what the TAP tests need, "deb" what Debian packages are made with.
missing_packages() {	# [static] [tap] [deb]
	local want=" $* "
	command -v gcc >/dev/null || echo gcc
	[ -e /usr/include/stdio.h ] || echo libc6-dev
	command -v make >/dev/null || echo make
	command -v perl >/dev/null && perl -MTest::More -e1 2>/dev/null || echo perl
	server_packages
	if [[ $want == *" tap "* ]]; then
		perl -MIPC::Run -e1 2>/dev/null || echo libipc-run-perl
		# the driver of examples/worker.py, for Debian's own Python
		/usr/bin/python3 -c 'import psycopg' 2>/dev/null ||
			echo python3-psycopg
	fi
	if [[ $want == *" static "* ]]; then
		command -v pg_bsd_indent >/dev/null || echo pg-bsd-indent
		command -v cppcheck >/dev/null || echo cppcheck
		command -v clang >/dev/null || echo clang
		command -v clang-tidy >/dev/null || echo clang-tidy
		[ -f "$(clang_runtime fuzzer_no_main .a)" ] || echo "libclang-rt-$(clang_version)-dev"
	fi
	if [[ $want == *" deb "* ]]; then
		command -v git >/dev/null || echo git
		command -v dh >/dev/null || echo debhelper
		dpkg-query -W postgresql-all >/dev/null 2>&1 || echo postgresql-all
		[ -f /usr/share/build-essential/list ] || echo build-essential
		command -v lintian >/dev/null || echo lintian
	fi
}

# Nobody asked for a cluster: the package must not create one by itself.
no_main_cluster() {
	local conf=/etc/postgresql-common/createcluster.conf
	if ! dpkg-query -W -f='${Status}' postgresql-common 2>/dev/null |
			grep -q 'ok installed' && [ ! -e "$conf" ]; then
		mkdir -p "${conf%/*}"
		echo 'create_main_cluster = false' >"$conf"
	fi
}

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
		-o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"
}

# Installs what is missing, or says what it is.  Fails if something remains.
ensure_packages() {	# [static] [tap] [deb]
	local missing log
	find_pg_config
	if [[ ${PG_CONFIG:-} == */* ]] && [ -z "$pg_config" ]; then
		echo "there is no $PG_CONFIG" >&2
		return 1
	fi
	missing=$(missing_packages "$@" | xargs)
	[ -n "$missing" ] || return 0
	if ! is_root || ! command -v apt-get >/dev/null; then
		echo "missing packages: $missing" >&2
		return 1
	fi
	log=$(mktemp)
	if ! apt_get update >"$log" 2>&1; then
		cat "$log" >&2		# the lists at hand may still do
	fi
	missing=$(missing_packages "$@" | xargs)	# NN is known now
	echo "installing: $missing"
	no_main_cluster
	# shellcheck disable=SC2086 # one word a package
	if ! apt_get install --no-install-recommends $missing >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		return 1
	fi
	rm -f "$log"
	hash -r
	find_pg_config
	missing=$(missing_packages "$@" | xargs)
	[ -z "$missing" ] || { echo "still missing: $missing" >&2; return 1; }
}

# ----- an ordinary user -----

choose_user() {
	local name
	run_user=$(id -un)
	is_root || return 0
	for name in postgres nobody; do
		if id -u "$name" >/dev/null 2>&1; then
			run_user=$name
			return
		fi
	done
	echo "found no ordinary user to run the server as" >&2
	return 1
}

# Becomes a command run as that user, in the stage, with an environment of its
# own: neither PGHOST nor the like of the caller may reach the tests.
become_user() {	# [setsid] COMMAND...
	local -a lead=() drop=() keep=()
	local name
	if [ "$1" = setsid ]; then lead=(setsid); shift; fi
	for name in PG_TEST_TIMEOUT_DEFAULT PG_TEST_NOCLEAN JANITOR_SUITE_TIMEOUT \
			JANITOR_OTHER_SERVERS JANITOR_CHECK REGRESS ISOLATION PROVE_TESTS PROVE_FLAGS \
			TERM; do
		[ -z "${!name:-}" ] || keep+=("$name=${!name}")
	done
	if is_root; then
		drop=(setpriv "--reuid=$run_user" "--regid=$(id -g "$run_user")"
			--clear-groups)
	fi
	cd "$stage/src"
	# What bash starts in the background would ignore an interrupt, and psql
	# has to be able to receive one.
	exec "${lead[@]}" "${drop[@]}" env --default-signal=INT,QUIT -i \
		PATH="$PATH" HOME="$stage" LC_ALL=C.UTF-8 USER="$run_user" \
		LOGNAME="$run_user" SHELL=/bin/bash TMPDIR="$stage/tmp" \
		STAGE="$stage" PG_CONFIG="$pg_config" "${keep[@]}" "$@"
}

as_user() { ( become_user "$@" ); }

# The same for a command that starts others: in a session of its own, so that
# all of it can be ended, and in the background, so that we can be interrupted.
group=
run_group() {	# COMMAND...
	local status=0
	( become_user setsid "$@" ) &
	group=$!
	wait "$group" || status=$?
	end_group
	return "$status"
}

group_lives() { kill -0 -- "-$group" 2>/dev/null; }

end_group() {
	local tries=50
	[ -n "$group" ] || return 0
	kill -TERM -- "-$group" 2>/dev/null || true
	while group_lives && [ "$tries" -gt 0 ]; do
		sleep 0.1
		tries=$((tries - 1))
	done
	kill -KILL -- "-$group" 2>/dev/null || true
	group=
}

# ----- the stage -----

# The tree as it is, whether committed or not, without what was built in it.
copy_tree() {	# DIR
	tar -C "$repo" --exclude=./.git --exclude=./tmp_install \
		--exclude=./results --exclude='./tmp_check*' --exclude=./output_iso \
		--exclude='*.o' --exclude='*.so' --exclude=./.built-for -cf - . |
		tar -C "$1" --no-same-owner -xf -
}

# A fresh directory of that user: src/ (a copy of the tree), tmp/ (for sockets too: their paths must stay short).
stage_create() {
	stage=$(mktemp -d /tmp/pg_janitor.XXXXXX)
	mkdir "$stage/src" "$stage/tmp"
	copy_tree "$stage/src"
	if is_root; then
		chown -R "$run_user:$(id -g "$run_user")" "$stage"
	fi
}

# Ends what a run that was cut off has left: our group, and the servers whose
# data directories lie in the stage.
stage_end() {
	local pidfile
	end_group
	find "$stage" -name postmaster.pid 2>/dev/null | while read -r pidfile; do
		as_user "$("$pg_config" --bindir)/pg_ctl" stop -s -m immediate \
			-D "${pidfile%/*}" >/dev/null 2>&1 || true
	done
}

stage_remove() {
	stage_end
	cd /
	rm -rf "$stage"
}
