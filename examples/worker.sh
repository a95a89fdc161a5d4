#!/bin/bash
#
# A worker for one external job of pg_janitor, in shell: for each run COMMAND
# is started with the run's arguments, a JSON object, on its standard input.
#
#     worker.sh DSN JOB COMMAND [ARGUMENT...]
#
# The command's exit status says what became of it: 0 it succeeded, 75 (the
# EX_TEMPFAIL of sendmail) not now: in $SNOOZE, 65 (EX_DATAERR) it will never
# succeed, anything else: try again.  What it writes to its standard output are
# SQL statements; they are executed in the transaction that finishes the run.
# Ends when there is nothing left to do; cron or a timer starts it again.

set -euo pipefail

dsn=$1 job=$2
shift 2
lease=${LEASE:-1 minute}
snooze=${SNOOZE:-30 seconds}

query() { psql -X -q -v ON_ERROR_STOP=1 -d "$dsn" "$@"; }

claim() {
	query -A -t -F ' ' -v job="$job" -v lease="$lease" -v worker="$(hostname):$$" <<'SQL'
SELECT execution_id, token, args FROM job_claim(:'job', 1, :'lease', :'worker');
SQL
}

# What the worker says, as arguments of job_finish().
word() {	# STATUS
	case $1 in
		0) ;;
		75) echo ", snooze => :'snooze', error => :'error'" ;;
		65) echo ", success => false, permanent => true, error => :'error'" ;;
		*) echo ", success => false, error => :'error'" ;;
	esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
while read -r id token args < <(claim); do
	status=0
	"$@" <<<"$args" >"$work/sql" 2>"$work/error" || status=$?
	{
		echo 'BEGIN;'
		cat "$work/sql"
		echo "SELECT job_finish(:id, :'token' $(word "$status"));"
		echo 'COMMIT;'
	} | query -A -t -v id="$id" -v token="$token" -v snooze="$snooze" \
		-v error="status $status: $(head -c 500 "$work/error")" -f - ||
		echo "execution $id was not finished: its lease is lost" >&2
done
