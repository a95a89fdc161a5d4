# The examples of work outside the database, run end to end: workers in Python
# and shell, a server on the other side that is slow, says 429, 500 and
# invalid_grant, refuses connections and dies in between; and a real directory
# tree. The numbers H-nn and so on are the behaviours of the four systems.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Path qw(make_path);
use IPC::Run;
use Test::More;
use PostgreSQL::Test::Utils;
use JanitorTest;
use JanitorCrash;

my $python = '/usr/bin/python3';
plan skip_all => 'needs python3-psycopg'
  if system("$python -c 'import psycopg' 2>/dev/null") != 0;

my $examples = "$FindBin::RealBin/../examples";
my $node = janitor_node('examples');
my $directory = PostgreSQL::Test::Utils::tempdir();
$ENV{DSN} = $node->connstr('postgres');
$ENV{PATH} = $node->config_data('--bindir') . ":$ENV{PATH}";

# --- the other side ---

my $port_file = "$directory/port";
my $server = fork() // die "fork: $!";
if ($server == 0)
{
	exec $python, "$FindBin::RealBin/harness/misbehaving", $port_file or die;
}
END { my $status = $?; kill 9, $server if $server; waitpid $server, 0 if $server; $? = $status; }
eventually($node, "SELECT (pg_stat_file('$port_file', true)).size > 0", 'the server is there');
my $port = slurp_file($port_file);
my $api = "http://127.0.0.1:$port";
my $refused = 'http://127.0.0.1:1';

sub asked
{
	return (run_command([ $python, '-c',
		"import urllib.request; print(urllib.request.urlopen('$api/count$_[0]').read().decode())" ]))[0];
}

sub sql { return value($node, "SET client_min_messages = error; $_[0]"); }
sub load { return sql(slurp_file("$examples/$_[0]")); }

sql('CREATE TABLE retries (job text, attempt int, delay interval, first interval)');

# Lets workers do all there is to do, until nothing waits or is in progress.
sub work
{
	my ($handlers, @jobs) = @_;
	my $names = join ', ', map { literal($_) } @jobs;
	for (;;)
	{
		my ($out, $err) = run_command([ $python, "$examples/worker.py", $ENV{DSN},
			"$examples/$handlers", '--until-idle', '--lease', '20' ]);
		die $err if $err;
		note $out;
		sql("INSERT INTO retries SELECT q.job_name, q.attempt, q.run_at - e.completed_at, d.retry_delay
			FROM job_queue q JOIN job_execution e ON e.id = q.retry_of JOIN job_definition d ON d.name = q.job_name
			WHERE q.job_name IN ($names) AND q.detail IS NULL");
		my $wait = sql("SELECT count(*) FROM job_queue WHERE job_name IN ($names) AND key IS DISTINCT FROM '\@schedule'");
		last if $wait == 0;
		eventually($node, "SELECT min(run_at) <= clock_timestamp() FROM job_queue
			WHERE job_name IN ($names) AND key IS DISTINCT FROM '\@schedule'", 'the next one is due');
	}
	return;
}

# --- Heimdall ---

subtest 'Heimdall: tokens and channel statistics' => sub {
	load('heimdall/schema.sql');
	load_in('heimdall', 'heimdall/jobs.sql');
	# circuits have a test of their own
	sql(q{SELECT job_set_circuit('platforms', 100)});
	sql(q{SELECT job_alter(name, '{"retry_delay": "100 ms"}') FROM job_definition WHERE kind = 'external'});
	# as the application would have stored it
	my ($hex) = run_command([ $python, '-B', '-c',
		"import sys; sys.path[:0] = ['$examples', '$examples/heimdall']; "
		. "import handlers; print(handlers.encrypt('old refresh').hex())" ]);
	my $secret = "decode('$hex', 'hex')";
	my %api = (twitch => "$api/ok/1", kick => "$api/limited/2", youtube => "$api/broken/3",
		trovo => "$api/invalid/4");
	sql(qq{SET search_path = heimdall;
		INSERT INTO "Integration" (platform, kind, api, refresh_token, expires_at, stats_updated_at) VALUES
		('twitch', 'channel', '$api{twitch}', $secret, now() + interval '10 min', now() - interval '7 h'),
		('youtube', 'channel', '$api{youtube}', $secret, now() + interval '14 min', NULL),
		('kick', 'channel', '$api{kick}', $secret, now() + interval '1 min', NULL),
		('trovo', 'channel', '$api{trovo}', $secret, now(), NULL),
		('kick', 'bot', '$api/slow/5', $secret, now(), NULL),
		('kick', 'bot', '$api/dies/6', $secret, now(), NULL),
		('kick', 'bot', '$refused', $secret, now(), NULL),
		('youtube', 'channel', '$api/ok/late', $secret, now() + interval '16 min', now() - interval '1 h'),
		('twitch', 'bot', '$api/ok/none', NULL, now() + interval '1 min', NULL),
		('myspace', 'channel', '$api/ok/unknown', $secret, now(), NULL)});

	my $selected = run_job($node, 'integration_token_refresh');
	is($selected->{records_processed}, 7,
		'H-17, H-18: those within the buffer, with a token, of a known platform');
	is($selected->{result}{skipped}, 2, 'H-18: the others are counted');
	is(run_job($node, 'integration_token_refresh')->{records_processed}, 7, 'asked again');
	is(sql(q{SELECT count(*) FROM job_queue WHERE job_name = 'integration_token'}), 7,
		'each waits once all the same');
	work('heimdall/handlers.py', 'integration_token');
	is(sql(q{SELECT string_agg(platform || ' ' || kind || ' ' || status, ', ' ORDER BY api COLLATE "C")
			FROM heimdall."Integration" WHERE api ~ '/(ok/1|limited|broken|slow|dies)'}),
		'youtube channel ok, kick bot ok, kick channel ok, twitch channel ok, kick bot ok',
		'H-19: refreshed, whatever the other side did first')
	  or note sql('SELECT * FROM job_execution ORDER BY id');
	is(sql(q{SELECT count(*) FROM heimdall."Integration" WHERE expires_at > now() + interval '50 min'}), 5,
		'with their new end');
	is(sql(q{SELECT count(*) FROM heimdall."Integration"
			WHERE position('new' in encode(access_token, 'escape')) > 0}), 0,
		'no token is in the database as it is');
	is(sql(q{SELECT count(*) FROM job_execution WHERE args::text ~ 'new (access|refresh)' OR result::text ~ 'new'}), 0,
		'nor in the record');
	is(sql(q{SELECT action || ' ' || count(*) || ' ' || count(actor_id) || count(actor_ip)
			FROM heimdall."AuditEvent" GROUP BY action ORDER BY action DESC}),
		"integration_token_refreshed 5 00\nintegration_token_error 2 00", 'H-20, H-21: audited, with no user and no address');
	like(sql(q{SELECT status || ' ' || last_error FROM heimdall."Integration" WHERE platform = 'trovo'}),
		qr/^error 400 .*invalid_grant/, 'H-21: an error state');
	like(sql(q{SELECT status || ' ' || last_error FROM heimdall."Integration" WHERE api ~ ':1$'}),
		qr/^error .*refused/, 'H-21: also when the last attempt has failed, and not before');
	is(asked('/invalid/4/token'), 1, 'invalid_grant is not tried again');
	is(sql(q{SELECT string_agg(status || ' ' || attempt, ', ' ORDER BY attempt) FROM job_execution
			WHERE args->>'id' = (SELECT id::text FROM heimdall."Integration" WHERE api ~ 'limited')}),
		'succeeded 1', '429: no attempt is lost');
	is(sql(q{SELECT string_agg(status || ' ' || attempt, ', ' ORDER BY attempt) FROM job_execution
			WHERE args->>'id' = (SELECT id::text FROM heimdall."Integration" WHERE api ~ 'broken')}),
		'failed 1, failed 2, succeeded 3', '500: retried');
	is(sql(q{SELECT count(*) || ' ' || max(attempt) FROM job_execution WHERE status = 'failed'
			AND args->>'id' = (SELECT id::text FROM heimdall."Integration" WHERE api ~ ':1$')}),
		'4 4', 'connection refused: as often as it may');

	is(run_job($node, 'channel_stats_refresh')->{records_processed}, 2,
		'H-22, H-23: stale channels of the two platforms');
	work('heimdall/handlers.py', 'channel_stats');
	is(sql(q{SELECT string_agg(platform || follower_count || '/' || subscriber_count, ' ' ORDER BY platform)
			FROM heimdall."Integration" WHERE follower_count IS NOT NULL}),
		'twitch1234/56 youtube1234/56', 'H-24: their counts are there');
	is(run_job($node, 'channel_stats_refresh')->{records_processed}, 0, 'and fresh');
};

# A script of jobs, of which the statements find their tables.
sub load_in
{
	my ($schema, $file) = @_;
	return sql("SET search_path = $schema, public; " . slurp_file("$examples/$file"));
}

# --- Barycenter ---

subtest 'Barycenter: peer discovery' => sub {
	sql('CREATE SCHEMA barycenter');
	load('barycenter/federation.sql');
	sql(qq{INSERT INTO barycenter.trusted_peers (id, domain, issuer_url, status, pinned_jwks) VALUES
		('p1', 'one', '$api/ok/p1', 'active', NULL),
		('p2', 'two', '$api/broken/p2', 'active', NULL),
		('p3', 'three', '$refused', 'active', 'kept'),
		('p4', 'four', '$api/ok/rotated', 'active', 'kept'),
		('p5', 'five', '$api/ok/p5', 'pending_verification', NULL)});
	is(run_job($node, 'refresh_peer_discovery')->{records_processed}, 4, 'B-08: one run for each active peer');
	work('barycenter/handlers.py', 'peer_discovery');
	is(sql(q{SELECT string_agg(id || ' ' || status || ' ' || (last_discovery_error IS NULL) || ' ' || (jwks_uri IS NOT NULL)
				|| ' ' || jwks_rotated, ', ' ORDER BY id) FROM barycenter.trusted_peers}),
		'p1 active true true false, p2 active false false false, p3 active false false false, '
		. 'p4 active true true true, p5 pending_verification true false false',
		'errors are stored on the peer, its status is untouched');
	is(sql(q{SELECT pinned_jwks FROM barycenter.trusted_peers WHERE id = 'p4'}), 'kept', 'pinned keys stay pinned');
	is(sql(q{SELECT string_agg(id || ' ' || verification, ', ' ORDER BY id) FROM barycenter.trusted_peers WHERE token_endpoint IS NOT NULL}),
		'p1 discovered, p4 discovered', 'their endpoints and their level of verification are kept up to date');
	is(sql(q{SELECT failed || ' ' || error_message || ' ' || rotated::text FROM barycenter.peer_discovery_report}),
		'2 2 peers failed to refresh {four}', 'the report of its source, and a warning of other keys');
};

# --- PinTeach ---

subtest 'PinTeach: delayed runs' => sub {
	load('pinteach/schema.sql');
	load_in('pinteach', 'pinteach/jobs.sql');
	sql(q{SET search_path = pinteach, public;
		INSERT INTO teachers VALUES ('00000000-0000-0000-0000-0000000000a1', 'Ana', 'AUTO_COMPLETE', 15),
			('00000000-0000-0000-0000-0000000000b1', 'Bo', 'PENDING_REVIEW', 15);
		INSERT INTO sessions VALUES
			('00000000-0000-0000-0000-000000000101', '00000000-0000-0000-0000-0000000000a1', 'scheduled', now() - interval '16 min'),
			('00000000-0000-0000-0000-000000000102', '00000000-0000-0000-0000-0000000000b1', 'scheduled', now() - interval '16 min'),
			('00000000-0000-0000-0000-000000000103', '00000000-0000-0000-0000-0000000000a1', 'scheduled', now() - interval '14 min'),
			('00000000-0000-0000-0000-000000000104', '00000000-0000-0000-0000-0000000000a1', 'scheduled', now() + interval '1 day');
		SELECT plan_completion(id) FROM sessions});
	eventually($node, q{SELECT count(*) = 2 FROM pinteach.sessions WHERE status <> 'scheduled'}, 'those whose time is over');
	is(sql(q{SELECT string_agg(right(id::text, 3) || ' ' || status, ', ' ORDER BY id) FROM pinteach.sessions}),
		'101 completed, 102 pending_review, 103 scheduled, 104 scheduled', 'P-02, P-03: each as its teacher wants it');
	is(sql(q{SELECT (SELECT count(*) FROM pinteach.credit_ledger) || ' ' ||
			(SELECT count(*) FROM pinteach.teacher_notifications WHERE kind = 'session_review')}), '1 1', 'P-03: credited, notified');
	is(sql(q{SELECT count(*) FROM job_queue WHERE job_name = 'auto_complete'}), 2, 'the others wait');
	sql(q{SET search_path = pinteach, public;
		UPDATE sessions SET ends_at = now() + interval '2 days' WHERE id::text ~ '104$';
		SELECT plan_completion(id) FROM sessions WHERE id::text ~ '104$';
		UPDATE sessions SET status = 'cancelled_by_student' WHERE id::text ~ '103$';
		SELECT plan_completion(id) FROM sessions WHERE id::text ~ '103$'});
	is(sql(q{SELECT count(*) || ' ' || (min(run_at) > now() + interval '47 h') FROM job_queue WHERE job_name = 'auto_complete'}),
		'1 true', 'P-02: replaced when moved, removed when cancelled');
	my $late = sql(q{SELECT job_trigger('auto_complete', '{"session": "00000000-0000-0000-0000-000000000103"}')});
	is(wait_run($node, $late)->{records_processed}, 0, 'P-04: nothing is done to a session that was cancelled');

	sql(q{SET search_path = pinteach, public;
		INSERT INTO scheduled_messages (teacher_id, channel, body, send_at) VALUES
			('00000000-0000-0000-0000-0000000000a1', 'whatsapp', 'soon', now() + interval '2 s'),
			('00000000-0000-0000-0000-0000000000a1', 'email', 'later', now() + interval '1 day');
		SELECT plan_message(id) FROM scheduled_messages});
	$node->stop;
	$node->start;
	eventually($node, q{SELECT count(*) > 0 FROM pinteach.scheduled_messages WHERE status = 'fired'}, 'P-22: overdue ones run after a start');
	is(sql(q{SELECT count(*) || ' ' || (SELECT count(*) FROM pinteach.contact_log) || ' ' ||
			(SELECT count(*) FROM pinteach.teacher_notifications WHERE kind = 'contact_reminder')
			FROM pinteach.scheduled_messages WHERE status = 'fired'}), '1 1 1', 'P-21: once, logged, the teacher reminded');
};

subtest 'PinTeach: calendar and Drive' => sub {
	$ENV{DRIVE} = $api;
	$ENV{CALENDAR} = "$api/broken";
	# due every five minutes, which would be counted as well
	sql(q{SELECT job_alter('calendar_sync', '{"retry_delay": "100 ms", "schedule": null}')});
	sql(q{INSERT INTO pinteach.session_calendar_sync SELECT gen_random_uuid() FROM generate_series(1, 45)});
	foreach my $left (25, 5, 0)
	{
		my $id = trigger($node, 'calendar_sync');
		work('pinteach/handlers.py', 'calendar_sync');
		is(sql(q{SELECT count(*) FROM pinteach.session_calendar_sync WHERE status = 'pending'}), $left, 'P-05: batches of 20');
		is(sql("SELECT string_agg(status || ' ' || attempt, ', ' ORDER BY id) FROM job_execution WHERE job_name = 'calendar_sync' AND id >= $id"),
			$left == 25 ? 'failed 1, failed 2, succeeded 3' : 'succeeded 1', 'P-07: tried again by itself');
	}
	is(sql(q{SELECT count(DISTINCT google_calendar_event_id) || ' ' || count(google_meet_link) FROM pinteach.session_calendar_sync}),
		'45 45', 'each has its event and its link');

	# P-06: an open circuit
	sql(q{SELECT job_circuit_report('google-calendar', false) FROM generate_series(1, 3)});
	is(sql(q{SELECT job_circuit_allows('google-calendar')}), 'f', 'P-23: the API server sees it, too');
	sql(q{SELECT job_alter('calendar_sync', '{"schedule": "* * * * * *"}')});
	eventually_is($node, q{SELECT count(*) > 0 FROM job_execution WHERE job_name = 'calendar_sync'
		AND status = 'skipped' AND detail = 'its circuit was open'}, 't', 'P-06: skipped, not failed');
	sql(q{SELECT job_alter('calendar_sync', '{"schedule": null}')});

	# P-08 to P-10, P-24, P-25: on demand, three at a time, limited, retried
	sql(q{SELECT job_set_circuit('google-drive', 100)});
	sql(q{SELECT job_alter('drive_copy', '{"retry_delay": "100 ms"}')});
	sql(q{SET search_path = pinteach, public;
		SELECT link_resource('00000000-0000-0000-0000-0000000000a1', path) FROM unnest('{/ok/f1,/broken/f2,/ok/f3,/limited/f4}'::text[]) path;
		SELECT link_resource('00000000-0000-0000-0000-0000000000b1', path) FROM unnest('{/ok/trash,/ok/gone,/invalid/f7}'::text[]) path});
	is(sql(q{SELECT count(*) FROM job_claim('drive_copy', 10, '100 ms')}), 3, 'P-09: three at a time');
	eventually($node, q{SELECT count(*) = 0 FROM job_lease}, 'their worker dies');
	work('pinteach/handlers.py', 'drive_copy');
	is(sql(q{SELECT status || ' ' || count(*) FROM pinteach.drive_file_copies GROUP BY status ORDER BY status}),
		"copied 6\nfailed 1", 'P-08, P-25: copied in the end, but for the one that cannot be');
	is(sql(q{SELECT status || ' ' || attempt FROM job_execution WHERE job_name = 'drive_copy'
			AND args->>'copy' = (SELECT id::text FROM pinteach.drive_file_copies WHERE source ~ 'limited')}),
		'succeeded 1', 'P-10: what is refused is put off, not failed');
	is(sql(q{SELECT count(*) > 0 AND bool_and(delay BETWEEN 0.75 * first * 2 ^ (attempt - 2) AND 1.26 * first * 2 ^ (attempt - 2)) FROM retries}),
		't', 'P-25: each attempt twice as long after the one before') or note sql('SELECT * FROM retries');
	is(sql(q{SELECT bool_and(n <= 5) AND bool_and(mine <= 3) FROM (
			SELECT count(*) OVER w AS n, count(*) OVER t AS mine FROM job_execution WHERE job_name = 'drive_copy'
			WINDOW w AS (ORDER BY started_at RANGE BETWEEN CURRENT ROW AND '1.9 s' FOLLOWING),
				t AS (PARTITION BY args->>'teacher' ORDER BY started_at RANGE BETWEEN CURRENT ROW AND '1.9 s' FOLLOWING)) x}),
		't', 'P-24: never more than the limits of each teacher and of all');

	# P-11
	is(run_job($node, 'drive_sync')->{records_processed}, 6, 'P-11: all files are looked at');
	work('pinteach/handlers.py', 'drive_check');
	is(sql(q{SELECT string_agg(source || ' ' || status, ', ' ORDER BY source COLLATE "C") FROM pinteach.drive_file_copies WHERE status IN ('trashed', 'deleted')}),
		'/ok/gone deleted, /ok/trash trashed', 'what is gone or in the bin is marked');
};

# --- Rapua ---

subtest 'Rapua: orphaned uploads' => sub {
	my $uploads = $ENV{UPLOADS} = "$directory/uploads";
	my $old = time() - 2 * 86400;
	foreach my $path (qw(2025/11/17/used.png 2025/11/17/orphan.png 2025/11/17/orphan-400.png
		2025/12/01/alone.png 2025/11/18/external.png 2025/11/18/abs.png 2025/11/18/shared.png 2025/11/18/photo.JPG 2025/11/17/sed.png 2025/11/18/new.png 2025/11/18/100%_off_[1].png 2025/11/18/100X_off_[1].png))
	{
		my $file = "$uploads/$path";
		make_path($file =~ s{/[^/]*$}{}r);
		append_to_file($file, 'x');
		utime $old, $old, $file if $path !~ /new/;
	}
	make_path("$uploads/2024/01/02");
	system("chmod -R a+rwX $uploads");
	load('rapua/schema.sql');
	load_in('rapua', 'rapua/jobs.sql');
	sql(q{SET search_path = rapua;
		INSERT INTO blocks VALUES ('b1', '{"url": "/static/uploads/2025/11/17/used.png"}'),
			('b2', '{"url": "https://example.com/static/uploads/2025/11/18/external.png"}'),
			('b4', '{"url": "http://localhost:8090/static/uploads/2025/11/18/abs.png"}'),
			('b5', '{"url": "/static/uploads/2025/11/18/shared.png"}'), ('b6', '{"url": "/static/uploads/2025/11/18/shared.png"}'),
			('b3', '{"items": [{"html": "<img src=\"/static/uploads/2025/11/18/100%_off_[1].png\">"}]}');
		INSERT INTO uploads (id, original_url, block_id, sizes) VALUES
			('u1', '/static/uploads/2025/11/17/used.png', 'b1', NULL),
			('u2', '/static/uploads/2025/11/17/orphan.png', 'gone', '[{"breakpoint": 400, "url": "/static/uploads/2025/11/17/orphan-400.png"}]'),
			('u3', '/static/uploads/2025/12/01/alone.png', 'gone', NULL),
			('u4', 'https://cdn.example.com/static/uploads/2025/11/17/x.png', NULL, NULL),
			('u5', '/static/uploads/2025/11/17/missing.png', 'gone', NULL),
			('u6', 'https://cdn.example.com/static/uploads/2025/11/17/evil.png', 'gone', NULL)});
	sql(q{INSERT INTO rapua.uploads (id, original_url, block_id, sizes) VALUES ('u7', '/static/uploads/x', 'gone', 'no JSON')});
	is(run_job($node, 'orphaned_uploads')->{status}, 'failed', 'R-24: the first step fails');
	is(sql(q{SELECT count(*) FROM job_queue WHERE job_name IN ('file_delete', 'disk_inventory')}), 0, 'R-24: the second is not begun');
	sql(q{DELETE FROM rapua.uploads WHERE id = 'u7'});
	is(run_job($node, 'orphaned_uploads')->{status}, 'succeeded', 'R-24: two steps in order');
	is(sql(q{SELECT count(*) FROM job_queue WHERE job_name = 'disk_inventory'}), 1, 'R-24: then it is');
	is(sql('SELECT string_agg(id, $$ $$ ORDER BY id) FROM rapua.uploads'), 'u1 u4',
		'R-26, R-28: uploads of blocks that are gone; those without one are no orphans');
	is(sql(q{SELECT count(*) FROM job_queue WHERE job_name = 'file_delete'}), 5, 'R-26, R-27: their paths survive in the runs, size variants too');
	$node->stop('immediate');
	$node->start;
	work('rapua/handlers.py', 'file_delete', 'disk_inventory', 'orphaned_files');
	eventually($node, q{SELECT count(*) > 0 FROM job_execution WHERE job_name = 'orphaned_files' AND status = 'succeeded'}, 'the inventory is followed');
	work('rapua/handlers.py', 'file_delete', 'disk_inventory');
	my @left = sort split /\n/, (run_command([ 'find', $uploads, '-mindepth', '1', '-printf', '%P\n' ]))[0];
	is_deeply(\@left, [ '2025', '2025/11', '2025/11/17', '2025/11/17/used.png', '2025/11/18',
		map { "2025/11/18/$_" } '100%_off_[1].png', 'abs.png', 'new.png', 'shared.png' ],
		'R-25, R-31, R-32: orphans and empty directories go; what is used, and what is new, stays')
	  or diag(explain(\@left));
	is(sql(q{SELECT status FROM job_execution WHERE args->>'path' ~ 'missing'}), 'succeeded', 'R-30: a file that is missing is no error');
	is(sql(q{SELECT status || ' ' || (error_message ~ 'not a path') || ' ' || attempt FROM job_execution WHERE args->>'path' ~ 'evil'}),
		'failed true 1', 'R-29: other shapes are refused');
	is(run_job($node, 'orphaned_uploads')->{status}, 'succeeded', 'R-33: again');
	is(sql(q{SELECT count(*) FROM job_queue WHERE job_name = 'file_delete'}), 0, 'there is nothing left to do');
	sql(q{SELECT job_cancel('disk_inventory')});
};

# --- workers that stay ---

subtest 'a worker that waits for notifications' => sub {
	sql(q{SELECT job_schedule_external('echo', retry_delay => '100 ms', max_running => 1)});
	append_to_file("$directory/echo.py", <<'PY');
import os

SEEN = set()

def echo(args):
    if "fatal" in args and not os.path.exists(args["fatal"]):
        open(args["fatal"], "w").close()
        os._exit(1)
    if args["n"] % 2 and args["n"] not in SEEN:
        SEEN.add(args["n"])
        raise ValueError("the first time")
    return lambda db: args["n"]

HANDLERS = {"echo": echo}
PY
	my @command = ($python, "$examples/worker.py", $ENV{DSN}, "$directory/echo.py", '--lease', '2');
	my $worker = IPC::Run::start([ @command ], '<', \'', '>', \my $out, '2>', \my $err);
	my @ids = map { trigger($node, 'echo', qq{'{"n": $_}'}) } 1 .. 4;
	is(wait_run($node, $_)->{status}, $ids[0] == $_ || $ids[2] == $_ ? 'failed' : 'succeeded', 'it is told of what is triggered') for @ids;
	eventually($node, q{SELECT count(*) = 6 FROM job_execution WHERE job_name = 'echo' AND status <> 'running'}, 'of what is tried again');
	my $later = trigger($node, 'echo', q{'{"n": 6}', run_at => now() + '1 s'});
	is(wait_run($node, $later)->{records_processed}, 6, 'of what becomes due');
	sql(q{SELECT job_pause('echo')});
	my $paused = trigger($node, 'echo', q{'{"n": 8}'});
	sql(q{SELECT job_resume('echo')});
	is(wait_run($node, $paused)->{records_processed}, 8, 'of what is resumed');
	is(sql(q{SELECT string_agg(status || ' ' || attempt, ', ' ORDER BY status, attempt) FROM job_execution WHERE job_name = 'echo'}),
		'failed 1, failed 1, succeeded 1, succeeded 1, succeeded 1, succeeded 1, succeeded 2, succeeded 2', 'each once');

	# one of two dies with a run in its hands
	my $second = IPC::Run::start([ @command ], '<', \'', '>', \my $out2, '2>', \my $err2);
	my $lost = trigger($node, 'echo', qq{'{"n": 10, "fatal": "$directory/died"}'});
	is(wait_run($node, $lost)->{status}, 'interrupted', 'the run of one that dies is taken back at the end of its lease');
	eventually_is($node, "SELECT string_agg(status || ' ' || attempt, ', ') FROM job_execution WHERE retry_of = $lost AND status <> 'running'",
		'succeeded 2', 'and another one does it');
	$_->kill_kill for $worker, $second;
};

# --- the worker in shell ---

subtest 'a worker in shell' => sub {
	sql(q{CREATE TABLE greeted (name text);
		SELECT job_schedule_external('greet', retry_delay => '0', max_attempts => 2)});
	append_to_file("$directory/greet", <<'SH');
read -r args
name=${args#*\"name\": \"}; name=${name%%\"*}
case $name in
	ada) echo "INSERT INTO greeted VALUES ('ada');" ;;
	bad) echo 'INSERT INTO nowhere VALUES (1);' ;;
	never) echo 'no such name' >&2; exit 65 ;;
	later) exit 75 ;;
	*) exit 1 ;;
esac
SH
	trigger($node, 'greet', qq{'{"name": "$_"}'}) for qw(ada never fails later);
	my ($out, $err) = run_command([ "$examples/worker.sh", $ENV{DSN}, 'greet', 'bash', "$directory/greet" ]);
	is($err, '', 'it complains of nothing');
	is(sql('SELECT name FROM greeted'), 'ada', 'what it says is stored');
	is(sql(q{SELECT string_agg((args->>'name') || ' ' || status || ' ' || attempt, ', ' ORDER BY id) FROM job_execution WHERE job_name = 'greet'}),
		'ada succeeded 1, never failed 1, fails failed 1, fails failed 2', 'with its run');
	is(sql(q{SELECT (args->>'name') || ' ' || attempt FROM job_queue WHERE job_name = 'greet'}), 'later 1', 'or waits');
	trigger($node, 'greet', q{'{"name": "bad"}'});
	($out, $err) = run_command([ "$examples/worker.sh", $ENV{DSN}, 'greet', 'bash', "$directory/greet" ]);
	like($err, qr/was not finished/, 'an error in its statements undoes everything');
	is(sql(q{SELECT status FROM job_execution WHERE args->>'name' = 'bad'}), 'running', 'and leaves the run to its lease');
};

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
