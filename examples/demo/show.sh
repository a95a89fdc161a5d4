#!/bin/bash
#
# The demonstration; run by run.sh, as an ordinary user, in a copy of the tree.

set -euo pipefail

rows=200000
expired=$((rows * 8 / 10))
jobs=(cleanup_expired_sessions cleanup_expired_refresh_tokens
	cleanup_expired_challenges cleanup_expired_device_codes)
tables=(sessions refresh_tokens webauthn_challenges device_codes)

bindir=$STAGE/prefix$("$PG_CONFIG" --bindir)
data=$STAGE/data
export PGHOST=$STAGE/tmp PGPORT=5432 PGUSER=barycenter PGDATABASE=barycenter
LD_LIBRARY_PATH=$("$PG_CONFIG" --libdir)	# a server that is not the system's
export LD_LIBRARY_PATH

heading() {
	printf '\n%s\n%s\n' "$1" "${1//?/-}"
}

fail() {
	exec >&2		# even from within $(...)
	printf '\nThe demo FAILED: %s\n' "$1"
	if [ -f "$STAGE/server.log" ]; then
		printf '\nThe end of the server log:\n'
		tail -n 25 "$STAGE/server.log"
	fi
	exit 1
}

run_sql() {
	"$bindir/psql" -X -q -v ON_ERROR_STOP=1 -P pager=off -P border=2 \
		-P footer=off "$@" || fail "psql $*"
}

# One value.
ask() { run_sql -A -t -c "$1"; }

# Shows a statement, then what it returns.
show() { run_sql -e -c "$1"; }

start_server() {
	"$bindir/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C \
		>"$STAGE/initdb.log" 2>&1 || { cat "$STAGE/initdb.log"; exit 1; }
	cat >>"$data/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$PGHOST'
		unix_socket_permissions = 0700
		shared_preload_libraries = 'pg_janitor'
	END
	"$bindir/pg_ctl" -s -w -D "$data" -l "$STAGE/server.log" start ||
		fail "the server did not start"
}

prepare_database() {
	run_sql -U postgres -d postgres \
		-c 'CREATE ROLE barycenter LOGIN' \
		-c 'CREATE DATABASE barycenter OWNER barycenter' \
		-c 'ALTER DATABASE barycenter SET search_path = barycenter, public'
	run_sql -U postgres -c 'CREATE EXTENSION pg_janitor'
	run_sql -U postgres -o /dev/null -f examples/demo/grants.sql
	run_sql -f examples/barycenter/schema.sql
	run_sql -f examples/demo/data.sql
}

# Waits for a condition that the scheduler brings about by itself.
wait_until() {	# SQL SECONDS
	local tries=$(($2 * 5)) answer
	while true; do
		answer=$(ask "SELECT $1")
		[ "$answer" != t ] || break
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "this did not come true in $2 s: $1"
		sleep 0.2
	done
}

# A scheduled run may have come before the one triggered here: it is the sum
# that has to be right.
verify_cleanup() {
	local i found
	for i in "${!jobs[@]}"; do
		found=$(ask "SELECT coalesce(sum(records_processed), 0) FROM job_runs
			WHERE job_name = '${jobs[i]}' AND success")
		[ "$found" = "$expired" ] ||
			fail "${jobs[i]} recorded $found rows, not $expired"
		found=$(ask "SELECT count(*) FROM ${tables[i]}")
		[ "$found" = $((rows - expired)) ] ||
			fail "${tables[i]} holds $found rows, not $((rows - expired))"
	done
	echo "As it should be: $expired rows each were removed and recorded," \
		"$((rows - expired)) each are left."
}

bash t/harness/build || exit 1

heading "A throwaway server: $("$PG_CONFIG" --version), no port, as $(id -un)"
start_server
prepare_database
echo "The database of an identity provider; what has expired has to go:"
run_sql -f examples/demo/contents.sql

heading "Its cleanup jobs, on their real schedules (examples/barycenter/jobs.sql)"
run_sql -o /dev/null -f examples/barycenter/jobs.sql
sed -n '/^SELECT/,/^$/p' examples/barycenter/jobs.sql | head -n 4
show 'SELECT job_name, health, schedule, next_run FROM job_status'

heading "Each of them now, on demand"
for job in "${jobs[@]}"; do
	run_sql -A -t -o "$STAGE/execution" -c "SELECT job_trigger('$job')"
	run_sql -o /dev/null -c "SELECT job_wait($(cat "$STAGE/execution"))"
	echo "SELECT job_trigger('$job');  -- execution $(cat "$STAGE/execution")"
done
echo
show 'SELECT id, job_name, started_at::time(3), completed_at::time(3), success,
	error_message, records_processed, status, duration
FROM job_execution ORDER BY id'
run_sql -f examples/demo/contents.sql
verify_cleanup

heading "The scheduler by itself: a job for every second"
run_sql -c 'CREATE TABLE session_counts (counted_at timestamptz, sessions bigint)'
every_second="SELECT job_schedule('count_sessions', '* * * * * *',
	'INSERT INTO session_counts SELECT now(), count(*) FROM sessions')"
echo "$every_second;"
run_sql -o /dev/null -c "$every_second"
wait_until "count(*) >= 5 FROM job_runs
	WHERE job_name = 'count_sessions' AND success" 20
run_sql -o /dev/null -c "SELECT job_unschedule('count_sessions')"
show "SELECT scheduled_for, status, records_processed AS records,
	round(1000 * extract(epoch FROM started_at - scheduled_for), 1) AS late_ms,
	round(1000 * extract(epoch FROM duration), 1) AS took_ms
FROM job_execution WHERE job_name = 'count_sessions' ORDER BY id LIMIT 5"

heading "Done"
"$bindir/pg_ctl" -s -w -D "$data" -m fast stop || fail "the server did not stop"
echo "All as it should be, in $SECONDS s. The server and its data are gone."
