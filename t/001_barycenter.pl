# Barycenter, an identity provider: its cleanup jobs as pg_janitor runs them.
# The numbers B-nn are the behaviours of the system that these tests stand for.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;

my $examples = "$FindBin::RealBin/../examples/barycenter";
my $node = janitor_node('barycenter');

# Its jobs and tables find each other through the database's search_path.
$node->safe_psql('postgres',
	'ALTER DATABASE postgres SET search_path = barycenter, public');
$node->safe_psql('postgres', slurp_file("$examples/schema.sql"));

# --- B-01 ---

# Nothing is set but shared_preload_libraries.
is( $node->safe_psql('postgres',
		"SELECT string_agg(name, ' ') FROM pg_settings
		 WHERE name LIKE 'pg_janitor.%' AND source <> 'default'"),
	'', 'B-01: no setting of pg_janitor is set');
define_job($node, 'every_second', 'SELECT 1', q(schedule => 'every 1 second'));
my $ran = q(SELECT count(*) > 0 FROM job_execution
	WHERE job_name = 'every_second' AND reason = 'schedule' AND success);
ok($node->poll_query_until('postgres', $ran),
	'B-01: a job that was defined runs, with nothing else to be done');
$node->restart;
ok( $node->poll_query_until('postgres',
		"$ran AND started_at > pg_postmaster_start_time()"),
	'B-01: jobs start with the server');
$node->safe_psql('postgres', q(SELECT job_unschedule('every_second')));

# --- B-02 to B-06, B-13, B-30: the real jobs at their real times ---

my $epoch = 'extract(epoch FROM now())::bigint';
my $data = qq(
	INSERT INTO sessions
	VALUES ('s_old', 'u', $epoch - 7200, $epoch - 7200, $epoch - 3600),
		   ('s_live', 'u', $epoch, $epoch, $epoch + 3600);
	INSERT INTO refresh_tokens
	VALUES ('rt_old', 'c', 'u', 'openid', $epoch - 2592001, $epoch - 1, 0, NULL),
		   ('rt_rev_live', 'c', 'u', 'openid', $epoch, $epoch + 2592000, 1, NULL),
		   ('rt_live', 'c', 'u', 'openid', $epoch, $epoch + 2592000, 0, 'rt_rev_live');
	INSERT INTO webauthn_challenges
	SELECT 'ch_' || g, NULL, NULL, 'auth', $epoch - 400 - g, $epoch - 100 - g, '{}'
	FROM generate_series(1, 7) g;
	INSERT INTO webauthn_challenges
	VALUES ('ch_live', NULL, NULL, 'auth', $epoch, $epoch + 300, '{}');
	INSERT INTO device_codes (device_code, user_code, client_id, scope, created_at, expires_at, status)
	VALUES ('dc_old', 'AAAA-1111', 'c', 'openid', $epoch - 1801, $epoch - 1, 'approved'),
		   ('dc_live', 'BBBB-2222', 'c', 'openid', $epoch, $epoch + 1800, 'pending'););
my $jobs = slurp_file("$examples/jobs.sql");
my $keys = q(SELECT string_agg(k, ' ' ORDER BY k) FROM (
	SELECT session_id AS k FROM sessions
	UNION ALL SELECT token FROM refresh_tokens
	UNION ALL SELECT challenge FROM webauthn_challenges
	UNION ALL SELECT device_code FROM device_codes) k);
my $live = 'ch_live dc_live rt_live rt_rev_live s_live';

# The hour after the next, minus ten minutes: where the jobs are defined.
my $hour = $node->safe_psql('postgres',
	q(SELECT date_trunc('hour', now()) + interval '2 hours'));
set_clock($node, "(timestamptz '$hour' - interval '590 seconds')");
$node->safe_psql('postgres', "SET client_min_messages = error; $jobs");
$node->safe_psql('postgres', $data);

# Which jobs have run for the occurrence at the given time, and their counts.
sub ran_for
{
	my ($time) = @_;
	return $node->safe_psql('postgres',
		"SELECT string_agg(job_name || ' ' || records_processed, ', ' ORDER BY job_name)
		 FROM job_execution WHERE scheduled_for = $time AND success");
}

sub at_minute
{
	my ($minute, $jobs) = @_;
	my $time = "(timestamptz '$hour' + interval '$minute minutes')";

	set_clock($node, "($time + interval '3 seconds')");
	eventually($node,
		"SELECT count(*) = $jobs FROM job_execution
		 WHERE scheduled_for = $time AND success", "the jobs of minute $minute");
	return ran_for($time);
}

is(at_minute(0, 2),
	'cleanup_expired_challenges 7, cleanup_expired_sessions 1',
	'B-03, B-05, B-30: on the hour sessions and challenges are cleaned, each by its own job, and nothing else');
is(at_minute(30, 2),
	'cleanup_expired_challenges 0, cleanup_expired_refresh_tokens 1',
	'B-04, B-05, B-30: at half past refresh tokens, and challenges every five minutes');
is(at_minute(45, 2),
	'cleanup_expired_challenges 0, cleanup_expired_device_codes 1',
	'B-06, B-30: at a quarter to device codes');
is($node->safe_psql('postgres', $keys), $live,
	'B-02: exactly what had expired is gone; a revoked but live token stays');
is( $node->safe_psql('postgres',
		q(SELECT count(*) FROM job_execution WHERE status <> 'succeeded' AND status <> 'skipped')),
	'0', 'B-02: each run has its row, and it says success');
set_setting($node, 'pg_janitor.debug_clock_offset', 0);

# The same on demand.  The definitions are made anew, as a migration that runs
# a second time would.
my $before = $node->safe_psql('postgres',
	'SELECT array_agg(d ORDER BY name)::text FROM job_definition d');
$node->safe_psql('postgres', "SET client_min_messages = error; $jobs");
is( $node->safe_psql('postgres',
		'SELECT array_agg(d ORDER BY name)::text FROM job_definition d'),
	$before, 'B-02: defining the same jobs again changes nothing');
$node->safe_psql('postgres', "DELETE FROM sessions; DELETE FROM refresh_tokens;
	DELETE FROM webauthn_challenges; DELETE FROM device_codes; $data");
my @counts = map { run_job($node, "cleanup_expired_$_")->{records_processed} }
  qw(sessions refresh_tokens challenges device_codes);
is("@counts", '1 1 7 1', 'B-02: on demand the counts are exact: 1, 1, 7, 1');
is($node->safe_psql('postgres', $keys), $live,
	'B-02: on demand exactly what had expired is gone');
is( $node->safe_psql('postgres',
		q(SELECT string_agg(DISTINCT reason, ' ' ORDER BY reason) FROM job_execution
		  WHERE job_name = 'cleanup_expired_sessions')),
	'manual schedule', 'B-13: scheduled and manual runs are both recorded, and told apart');

# The boundary: a session that expires at the very instant of the run.
define_job($node, 'boundary',
	"INSERT INTO sessions VALUES ('s_edge', 'u', 0, 0, $epoch);" .
	$node->safe_psql('postgres',
		q(SELECT command FROM job_definition WHERE name = 'cleanup_expired_sessions')));
is(run_job($node, 'boundary')->{records_processed}, 1,
	'B-03: nothing but the insert counts');
is( $node->safe_psql('postgres', q(SELECT count(*) FROM sessions WHERE session_id = 's_edge')),
	'1', 'B-03: what expires at this very instant stays, the comparison is strict');

# --- B-12, B-16: the table ---

is( $node->safe_psql('postgres',
		q(SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
		  FROM pg_attribute WHERE attrelid = 'job_execution'::regclass AND attnum BETWEEN 1 AND 7)),
	'id bigint, job_name text, started_at timestamp with time zone, '
	  . 'completed_at timestamp with time zone, success boolean, '
	  . 'error_message text, records_processed bigint',
	'B-12: the first seven columns of job_execution, in order, with their types');

$node->safe_psql('postgres', q(
	CREATE ROLE definer LOGIN; SELECT job_grant('definer', 'define');
	CREATE ROLE operator LOGIN; SELECT job_grant('operator', 'operate');
	CREATE ROLE watcher LOGIN; SELECT job_grant('watcher', 'observe');
	CREATE ROLE nobody LOGIN;
	CREATE TABLE public.touched (a int);
	ALTER TABLE public.touched OWNER TO definer;
	GRANT USAGE ON SCHEMA barycenter TO watcher));
is( $node->safe_psql('postgres', q(
		SELECT string_agg(r || ' ' || t || ' ' || p, ', ')
		FROM unnest('{definer,operator,watcher,nobody}'::text[]) r,
			unnest('{job_definition,job_queue,job_execution,job_change}'::text[]) t,
			unnest('{INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER,REFERENCES}'::text[]) p
		WHERE has_table_privilege(r, t, p) OR
			(p IN ('INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(r, t, p)))),
	'', 'B-16: no role that was granted something may write a table of ours');
foreach my $write (
	'UPDATE job_execution SET success = true',
	'DELETE FROM job_execution',
	q(INSERT INTO job_execution (job_name, reason) VALUES ('x', 'manual')),
	'BEGIN; LOCK TABLE job_execution IN SHARE ROW EXCLUSIVE MODE')
{
	like(sql_error($node, $write, user => 'watcher'), qr/ERROR:  42501:/,
		"B-16: an observer is refused: $write");
}
define_job($node, 'forger',
	'INSERT INTO public.touched VALUES (1); UPDATE public.job_execution SET success = true',
	q(owner => 'definer'));
my $forged = run_job($node, 'forger');
is("$forged->{status} $forged->{sqlstate}", 'failed 42501',
	'B-16: the owner of a job cannot forge a record from inside a run');
is($node->safe_psql('postgres', 'SELECT count(*) FROM touched'), '0',
	'B-16: and the failed run has changed nothing');

# --- B-14: running is visible ---

my $lock = hold_lock($node);
define_job($node, 'long', 'INSERT INTO touched VALUES (2); ' . JanitorTest::UNTIL_RELEASED);
my $id = trigger($node, 'long');
wait_started($node, $id);
my $row = execution($node, $id);
is($row->{status}, 'running', 'B-14: the row of a running job is visible to others');
ok(defined $row->{started_at} && !defined $row->{completed_at} && !defined $row->{success}
	  && !defined $row->{error_message} && !defined $row->{records_processed},
	'B-14: it has a start, no end, no outcome');
is($node->safe_psql('postgres', 'SELECT count(*) FROM touched'), '0',
	'B-14: what it does is not visible before it has ended');

# --- B-26: and delays nobody ---

define_job($node, 'quick', 'SELECT 1');
is(run_job($node, 'quick')->{status}, 'succeeded',
	'B-26: another job of the same owner runs beside a long one');
define_job($node, 'tick', 'SELECT 1', q(schedule => '* * * * * *'));
ok($node->poll_query_until('postgres', on_time('tick', 1)),
	'B-26: occurrences of a job on a schedule start before the next is due while the long one runs');
is( $node->safe_psql('postgres', q(
		SELECT count(*) FILTER (WHERE status <> 'skipped') + coalesce(sum(skipped), 0)
			- extract(epoch FROM max(scheduled_for) - min(scheduled_for))::int - 1
		FROM job_execution WHERE job_name = 'tick')),
	'0', 'B-26: and each occurrence is accounted for');
$node->safe_psql('postgres', q(SELECT job_unschedule('tick')));
is(execution($node, $id)->{status}, 'running', 'B-26: the long one was running all the time');
release_lock($lock);
$row = wait_run($node, $id);
is("$row->{id} $row->{status} $row->{records_processed}", "$id succeeded 1",
	'B-14: the same row then has the outcome');
define_job($node, 'rolls_back', 'INSERT INTO touched VALUES (3); SELECT 1/0');
$row = run_job($node, 'rolls_back');
is( $node->safe_psql('postgres', 'SELECT count(*) FROM touched') . " $row->{status}",
	'1 failed', 'B-14: the row survives the rollback of what the job did');

# --- B-15: no record, no run ---

my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe('LOCK TABLE job_execution IN EXCLUSIVE MODE');
my $mark = -s $node->logfile;
$id = trigger($node, 'long');
$node->wait_for_log(qr/lock timeout/, $mark);
is( $node->safe_psql('postgres', 'SELECT count(*) FROM job_running()')
	  . $node->safe_psql('postgres', 'SELECT count(*) FROM touched'),
	'01', 'B-15: what cannot be recorded is not run');
$session->query_safe('COMMIT');
$session->quit;
is(wait_run($node, $id)->{status}, 'succeeded', 'B-15: and runs as soon as it can be');

# --- B-17, B-18, B-19: triggers ---

foreach my $call (
	q(SELECT job_trigger('cleanup_expired_sesions')),
	q(CALL job_run('cleanup_expired_sesions')),
	q(SELECT job_cancel('cleanup_expired_sesions')),
	q(SELECT job_enable('cleanup_expired_sesions')),
	q(SELECT job_alter('cleanup_expired_sesions', '{"timeout": "1 s"}')),
	q(SELECT job_unschedule('cleanup_expired_sesions')))
{
	my $rows = q(SELECT (SELECT count(*) FROM job_execution)
		+ (SELECT count(*) FROM job_queue) + (SELECT count(*) FROM job_change));
	my $count = $node->safe_psql('postgres', $rows);
	my $said = sql_error($node, $call);

	like($said, qr/ERROR:  42704: .*"cleanup_expired_sesions".*HINT: .*"cleanup_expired_sessions"/s,
		"B-18: an unknown name is an error that names the nearest: $call");
	is($node->safe_psql('postgres', $rows), $count, 'B-18: and leaves no row behind');
}

like($node->safe_psql('postgres', q(SELECT job_trigger('quick'))), qr/^\d+$/,
	'B-17: a trigger returns the id of the execution');
define_job($node, 'fails', q(DO $$BEGIN RAISE 'no peer answered' USING ERRCODE = 'JN001'; END$$));
$id = trigger($node, 'fails');
like($id, qr/^\d+$/, 'B-19: a trigger of a job that fails is accepted');
$row = wait_run($node, $id);
ok(!$row->{success} && $row->{completed_at}, 'B-19: its failure is in job_execution');
is("$row->{status} $row->{sqlstate} $row->{error_message}", 'failed JN001 no peer answered',
	'B-19: with status, error code and message');
like(sql_error($node, q(CALL job_run('fails'))),
	qr/ERROR:  JN001: job "fails" failed: no peer answered/,
	'B-19: CALL job_run raises what the run failed with');
like($node->safe_psql('postgres', q(CALL job_run('quick'))), qr/^\d+\|succeeded\|1$/,
	'B-19: CALL job_run returns the outcome of a run that succeeded');

# --- B-20: on demand after a batch ---

$id = $node->safe_psql('postgres', qq(
	BEGIN;
	INSERT INTO sessions SELECT 'batch_' || g, 'u', 0, 0, 1000 + g FROM generate_series(1, 1000) g;
	SELECT job_trigger('cleanup_expired_sessions');
	COMMIT));
cmp_ok(wait_run($node, $id)->{records_processed}, '>=', 1000,
	'B-20: a run that was triggered with a batch sees all of the batch');
is($node->safe_psql('postgres', q(SELECT count(*) FROM sessions WHERE session_id LIKE 'batch%')),
	'0', 'B-20: and cleans it');

# --- B-21: the list ---

is( $node->safe_psql('postgres', q(
		SELECT s.job_name, s.schedule, d.description, s.last_status, s.next_run > now()
		FROM job_status s JOIN job_definition d ON d.name = s.job_name
		WHERE s.job_name LIKE 'cleanup%' ORDER BY 1)),
	join("\n",
		'cleanup_expired_challenges|0 */5 * * * *|Challenges nobody answered, every five minutes|succeeded|t',
		'cleanup_expired_device_codes|0 45 * * * *|Device codes nobody entered, hourly at a quarter to|succeeded|t',
		'cleanup_expired_refresh_tokens|0 30 * * * *|Refresh tokens past their lifetime, hourly at half past|succeeded|t',
		'cleanup_expired_sessions|0 0 * * * *|Sessions past their lifetime, hourly on the hour|succeeded|t'),
	'B-21: the list of jobs has name, schedule, description, the last run and the next');
is( $node->safe_psql('postgres', q(SELECT count(*) FROM job_definition WHERE description IS NOT NULL),
		extra_params => [ '-U', 'watcher' ]),
	'4', 'B-21: a role that was granted observe can list them');

# --- B-22, B-25: the log ---

$node->safe_psql('postgres',
	q(SELECT job_schedule('nothing', NULL, 'DELETE FROM sessions WHERE false');
	  SELECT count(job_trigger('nothing')) FROM generate_series(1, 105)));
eventually($node, q(SELECT count(*) = 105 FROM job_execution WHERE job_name = 'nothing' AND completed_at IS NOT NULL),
	'105 runs');
is( $node->safe_psql('postgres', q(
		SELECT count(*), bool_and(success), min(records_processed), max(records_processed),
			   bool_or(error_message IS NOT NULL)
		FROM job_execution WHERE job_name = 'nothing')),
	'105|t|0|0|f', 'B-25: runs that find nothing are kept, and are successes');
is( $node->safe_psql('postgres', q(SELECT health FROM job_status WHERE job_name = 'nothing')),
	'ok', 'B-25: nothing to do is no problem of the job');
is( $node->safe_psql('postgres', q(SELECT count(*) FROM job_logs())
	  ) . ' ' . $node->safe_psql('postgres', q(SELECT count(*) FROM job_logs(max_rows => 7))),
	'100 7', 'B-22: the log has 100 rows unless told otherwise');
is( $node->safe_psql('postgres', q(
		SELECT array_agg(execution_id) = array_agg(execution_id ORDER BY execution_id DESC),
			   max(execution_id) = (SELECT max(id) FROM job_execution)
		FROM job_logs())),
	't|t', 'B-22: newest first');
is( $node->safe_psql('postgres', q(SELECT DISTINCT job, status FROM job_logs('fails'))),
	'fails|failed', 'B-22: of one job');
is( $node->safe_psql('postgres', q(
		SELECT count(*) > 0 AND array_agg(execution_id ORDER BY execution_id) =
			(SELECT array_agg(id ORDER BY id) FROM job_execution WHERE success = false)
		FROM job_logs(only_failures => true, max_rows => 1000))),
	't', 'B-22: all failures and nothing else');
is( $node->safe_psql('postgres', q(
		SELECT count(*) FROM job_logs('fails', only_failures => true,
			since => (SELECT max(started_at) FROM job_execution WHERE job_name = 'fails')))),
	'1', 'B-22: since a time');

# --- B-29: time zones ---

$node->safe_psql('postgres', q(ALTER DATABASE postgres SET timezone = 'Asia/Tokyo'));
$node->safe_psql('postgres', q(
	SELECT job_schedule('in_utc', '0 0 3 * * *', 'SELECT 1');
	SELECT job_schedule('in_berlin', '0 0 3 * * *', 'SELECT 1', time_zone => 'Europe/Berlin')));
is( $node->safe_psql('postgres', q(
		SELECT job_name, (scheduled_for AT TIME ZONE 'UTC')::time,
			   (scheduled_for AT TIME ZONE 'Europe/Berlin')::time = '03:00'
		FROM job_queue WHERE job_name LIKE 'in\_%' ORDER BY 1 DESC)) =~ s/\|0[12]:00:00\|t/|Berlin/r,
	"in_utc|03:00:00|f\nin_berlin|Berlin",
	'B-29: schedules are read in UTC, whatever the zone of server and session, or in the zone of the job');

# --- B-30: jitter, B-31: the calendar ---

$node->safe_psql('postgres', q(
	SELECT job_schedule('spread_' || g, '@hourly', 'SELECT 1', jitter => '10 minutes')
	FROM generate_series(1, 20) g));
my $spread = q(SELECT string_agg((run_at - scheduled_for)::text, ' ' ORDER BY job_name)
	FROM job_queue WHERE job_name LIKE 'spread%');
is( $node->safe_psql('postgres', q(
		SELECT count(DISTINCT run_at) > 15, bool_and(run_at - scheduled_for < '10 minutes'),
			   bool_and(run_at >= scheduled_for), count(DISTINCT scheduled_for)
		FROM job_queue WHERE job_name LIKE 'spread%')),
	't|t|t|1', 'B-30: jitter spreads jobs of one schedule, by less than it says');
$before = $node->safe_psql('postgres', $spread);
$node->safe_psql('postgres', q(
	SELECT job_disable(name), job_enable(name) FROM job_definition WHERE name LIKE 'spread%'));
is($node->safe_psql('postgres', $spread), $before, 'B-30: and each job by the same time always');

is( $node->safe_psql('postgres', q(
		SELECT string_agg(to_char(r AT TIME ZONE 'UTC', 'Dy HH24:MI:SS'), ', ' ORDER BY o)
		FROM unnest('{0 0 0 * * 0, 0 0 0 * * 7, 0 0 0 * * 1, 0 0 0 * * 6}'::text[]) WITH ORDINALITY s(s, o),
			job_next_runs(s, count => 1) r)),
	'Sun 00:00:00, Sun 00:00:00, Mon 00:00:00, Sat 00:00:00',
	'B-31: weekdays count from Sunday = 0, which is 7 too');
is( $node->safe_psql('postgres', q(
		SELECT count(*), bool_and(q.scheduled_for = next)
		FROM job_definition d JOIN job_queue q ON q.job_name = d.name AND q.reason = 'schedule',
			job_next_runs(d.schedule, d.time_zone, d.updated_at, 1) next
		WHERE d.name LIKE 'in\_%')),
	'2|t', 'B-31: job_next_runs says what the queue says');

quiet_log($node, 'no process of pg_janitor has died or got stuck', qr/lock timeout/);
$node->stop;
done_testing();
