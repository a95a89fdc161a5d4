# Two systems forget people, as examples/ defines it, on rows like theirs. The
# numbers are those of the behaviours these tests stand for: H Heimdall, P
# PinTeach.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;
use JanitorCrash qw(clock_while_down eventually_is);

my $examples = "$FindBin::RealBin/../examples";
my $node = janitor_node('erasure', 'restart_after_crash = on');
my $id = '00000000-0000-0000-0000-0000000000';

sub value
{
	my ($query) = @_;
	return $node->safe_psql('postgres', "SET client_min_messages = error; $query");
}

sub example
{
	my ($file) = @_;
	return value(slurp_file("$examples/$file"));
}

# The search_path is how jobs and tables find each other.
sub system_is
{
	my ($name, @files) = @_;
	$node->safe_psql('postgres', "ALTER DATABASE postgres SET search_path = $name, public");
	example("$name/$_") foreach @files;
	return;
}

# Running the definitions again changes nothing.
sub defined_again
{
	my ($number, $file) = @_;
	my $all = q(SELECT (SELECT array_agg(d ORDER BY name)::text FROM job_definition d) ||
		(SELECT array_agg(r ORDER BY job_name, rule)::text FROM job_rule r) || (SELECT count(*) FROM job_change));
	my $before = value($all);
	example($file);
	is(value($all), $before, "$number: defining the same jobs again changes nothing");
	return;
}

# All that there is of somebody, whatever the table.
sub all_of
{
	my ($user, @tables) = @_;
	return value(join ' UNION ALL ', map { qq(SELECT '$_', t::text FROM heimdall."$_" t WHERE t::text LIKE '%$user%') } @tables)
	  . "\n";
}

subtest 'Heimdall' => sub {
	my @tables = qw(User ScheduledDeletion Session ApiKey OAuthAccount TwoFactor LoginEvent);
	system_is('heimdall', 'accounts.sql', 'erasure.sql');
	defined_again('H-06', 'heimdall/erasure.sql');
	is(value(q(SELECT schedule, run_on_start FROM job_definition WHERE name = 'scheduled_deletion')),
		'0 */15 * * * *|t', 'H-06, H-15: every quarter of an hour, and at the start');

	# Two are due, one of them cannot be erased, one is in its grace period, one
	# was erased before.
	value(qq(
		INSERT INTO "User" (id, username, email) VALUES ('${id}01', 'due', 'a\@x'), ('${id}02', 'poison', 'b\@x'),
			('${id}03', 'grace', 'c\@x'), ('${id}04', 'due2', 'd\@x'), ('${id}05', 'already', 'e\@x');
		UPDATE "User" SET deleted_at = now() - interval '1 day' WHERE username = 'already';
		INSERT INTO "ScheduledDeletion" (user_id, delete_at)
		SELECT id, CASE username WHEN 'grace' THEN now() + interval '6 days' ELSE now() - interval '1 hour' END FROM "User";
		INSERT INTO "Session" (user_id, ip) SELECT id, '10.0.0.1' FROM "User";
		INSERT INTO "ApiKey" (user_id, key_hash) SELECT id, 'hash' FROM "User";
		INSERT INTO "OAuthAccount" SELECT 'twitch', username, id, email FROM "User";
		INSERT INTO "TwoFactor" SELECT id, 'secret', '{a,b}' FROM "User";
		INSERT INTO "LoginEvent" (actor_id, actor_ip, user_agent, action, metadata)
		SELECT id, '10.0.0.1', 'agent', 'login', '{"email": "x", "ok": true}' FROM "User";
		CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
			\$\$ BEGIN RAISE EXCEPTION 'boom for %', OLD.email; END \$\$;
		CREATE TRIGGER poison BEFORE UPDATE ON "User" FOR EACH ROW WHEN (OLD.username = 'poison') EXECUTE FUNCTION poison()));
	my $poisoned = all_of("${id}02", @tables);
	my $in_grace = all_of("${id}03", @tables);
	my $before = all_of("${id}05", @tables);

	my ($told, $stderr) = ('', '');
	$node->psql('postgres', q(LISTEN account_deleted; CALL job_run('scheduled_deletion'); SELECT 1),
		stdout => \$told, stderr => \$stderr, on_error_stop => 0);
	is(value(q(SELECT success, records_processed, failed_records, error_message FROM job_execution
			WHERE job_name = 'scheduled_deletion')),
		'f|2|1|1 of 3 items failed', 'H-07, H-13, H-14: two of the three that are due, and one is told of');
	is(value(q(SELECT count(*) FROM "User" WHERE deleted_at IS NOT NULL)), 3, 'H-09: they are deleted');
	is(value(q(SELECT username, email, avatar_url, preferred_locale FROM "User" WHERE id::text ~ '0[14]$' ORDER BY id)),
		"deleted_00000000|||\ndeleted_00000000|||", 'H-09: and nobody');
	foreach my $table (qw(Session ApiKey OAuthAccount TwoFactor ScheduledDeletion))
	{
		is(value(qq(SELECT string_agg(right(user_id::text, 1), ' ' ORDER BY user_id) FROM "$table")), '2 3 5',
			"H-08, H-25: theirs is gone from $table");
	}
	is(value(q(SELECT string_agg(right(actor_id::text, 1) || metadata::text, ' ' ORDER BY actor_id) FROM "LoginEvent"
			WHERE actor_ip IS NULL AND user_agent IS NULL)), '1{"ok": true} 4{"ok": true}', 'H-09: what they did stays, who did it does not');
	is(all_of("${id}02", @tables), $poisoned, 'H-13: who could not be erased is unchanged in every table');
	is(all_of("${id}03", @tables), $in_grace, 'H-16: who is in his grace period, too');
	is(all_of("${id}05", @tables), $before, 'H-07: who was deleted before, too');
	is(value('SELECT item_key, attempts, sqlstate, error_message FROM job_failed_items'),
		"${id}02|1|P0001|raised by a function (SQLSTATE P0001)", 'H-13: who it was is recorded, and nothing of him');
	is(value(q(SELECT string_agg(key || ' ' || args::text, ', ' ORDER BY key) FROM job_queue WHERE job_name = 'audit_anonymize')),
		qq(${id}01 {"user": "${id}01"}, ${id}04 {"user": "${id}04"}), 'H-10: the other database is told of those that were erased');
	is(join(' ', sort map { /"key": ".*(\d)".*"status": "(\w+)"/ ? "$1 $2" : () } split /\n/, $told),
		'1 done 2 failed 4 done', 'H-11, H-12: the application hears of each');
	is(value(q(SELECT count(*) FROM job_erasure_gaps('"User"', 'scheduled_deletion') WHERE path IS NOT NULL)), 0,
		'H-25: every table that holds something of a user has its rule');

	value(q(DROP TRIGGER poison ON "User"; SELECT job_retry_items('scheduled_deletion')));
	is(run_job($node, 'scheduled_deletion')->{records_processed}, 1, 'H-13: what kept him was mended, and he is erased');
	is(run_job($node, 'scheduled_deletion')->{records_processed}, 0, 'H-07: nobody is left');

	# The grace period, and how it ends.
	value(qq(INSERT INTO "User" (id, username) VALUES ('${id}06', 'second thoughts')));
	is(value(qq(SELECT request_deletion('${id}06') - now() > interval '6 days 23 hours')), 't', 'H-16: seven days');
	is(value(qq(SELECT cancel_deletion('${id}06'))), 't', 'H-16: called off');
	value(qq(INSERT INTO "ScheduledDeletion" (user_id, delete_at) VALUES ('${id}03', now()) ON CONFLICT (user_id) DO UPDATE SET delete_at = now()));
	is(run_job($node, 'scheduled_deletion')->{records_processed}, 1, 'H-16: over');
	is(value(qq(SELECT cancel_deletion('${id}03'))), 'f', 'H-16: too late');

	# Down for three quarters of an hour: one run, at the start, for all of it.
	value(q(SELECT job_disable('scheduled_deletion')));
	set_clock($node, "timestamptz '2031-01-02 12:01:00 UTC'");
	value(q(SELECT job_enable('scheduled_deletion')));
	is(value(q(SELECT run_at AT TIME ZONE 'UTC' FROM job_queue WHERE job_name = 'scheduled_deletion')), '2031-01-02 12:15:00', 'H-06: the next occurrence');
	value(qq(INSERT INTO "ScheduledDeletion" (user_id, delete_at) VALUES ('${id}06', now())));
	my $last = value(q(SELECT max(id) FROM job_execution));
	$node->stop;
	clock_while_down($node, 1925124660);    # 2031-01-02 12:51
	$node->start;
	eventually_is($node, qq(SELECT string_agg(concat_ws(' ', reason, status, records_processed, skipped), ', ' ORDER BY id)
			FROM job_execution WHERE job_name = 'scheduled_deletion' AND id > $last AND status <> 'running'),
		'schedule skipped 2, schedule succeeded 1', 'H-15: one run for three occurrences and the start');
	is(value(q(SELECT run_at AT TIME ZONE 'UTC' FROM job_queue WHERE job_name = 'scheduled_deletion')),
		'2031-01-02 13:00:00', 'H-15: and then as ever');
	set_setting($node, 'pg_janitor.debug_clock_offset', 0);
	value('DROP SCHEMA heimdall CASCADE');
};

subtest 'PinTeach' => sub {
	system_is('pinteach', 'schema.sql', 'retention.sql', 'erasure.sql');
	defined_again('P-16', 'pinteach/erasure.sql');
	is(value(q(SELECT schedule FROM job_definition WHERE name = 'inactive_students')), '0 0 3 * * 0', 'P-16: Sundays at three');
	value(qq(
		INSERT INTO teachers (id, name) VALUES ('${id}a1', 'Ana'), ('${id}b1', 'Bo'), ('${id}c1', 'Cleo');
		INSERT INTO retention_settings VALUES ('${id}a1', 730, 365, 180), ('${id}b1', NULL, NULL, NULL);
		INSERT INTO students (id, teacher_id, name, email, phone, last_activity_at) VALUES
			('${id}11', '${id}a1', 'Gap', 'g\@x', '1', now() - interval '20 days'),
			('${id}13', '${id}a1', 'Inactive', 'i\@x', '3', now() - interval '800 days'),
			('${id}14', '${id}a1', 'Active', 'a\@x', '4', now() - interval '1 day'),
			('${id}15', '${id}a1', 'Never', 'n\@x', '5', NULL),
			('${id}21', '${id}b1', 'BoInactive', 'b\@x', '5', now() - interval '800 days'),
			('${id}31', '${id}c1', 'CleoInactive', 'c\@x', '6', now() - interval '800 days');
		INSERT INTO sessions (teacher_id, student_id, status, ends_at, notes, content)
		SELECT teacher_id, id, 'completed', now() - interval '10 days', 'notes', '{"a": 1}' FROM students;
		INSERT INTO contact_log (teacher_id, student_id, body) SELECT teacher_id, id, 'called' FROM students;
		INSERT INTO scheduled_messages (teacher_id, student_id, body, send_at) SELECT teacher_id, id, 'hi', now() FROM students;
		INSERT INTO erasure_requests (teacher_id, student_id, status, requested_at, due_at) VALUES
			('${id}a1', '${id}14', 'processing', now() - interval '40 days', now() - interval '10 days'),
			('${id}a1', '${id}11', 'pending', now() - interval '40 days', now() - interval '10 days'),
			('${id}b1', '${id}21', 'rejected', now() - interval '40 days', now() - interval '10 days'),
			('${id}a1', NULL, 'pending', now(), now() + interval '30 days')));
	my $erased = q(SELECT string_agg(right(s.id::text, 2) || ' ' || concat_ws(' ', s.name, s.email, s.phone, l.notes, l.content, c.body, m.body), ', ' ORDER BY s.id)
		FROM students s JOIN sessions l ON l.student_id = s.id LEFT JOIN contact_log c ON c.student_id = s.id
		LEFT JOIN scheduled_messages m ON m.student_id = s.id WHERE anonymized_at IS NOT NULL);
	my $kept = q(SELECT string_agg(right(s.id::text, 2), ' ' ORDER BY s.id) FROM students s JOIN sessions l ON l.student_id = s.id
		JOIN contact_log c ON c.student_id = s.id JOIN scheduled_messages m ON m.student_id = s.id
		WHERE s.email IS NOT NULL AND s.phone IS NOT NULL AND l.notes IS NOT NULL AND l.content IS NOT NULL);

	is(run_job($node, 'inactive_students')->{records_processed}, 1, 'P-16: past the threshold of the teacher');
	is(value($erased), '13 Deleted student', 'P-16: in every table');
	is(value($kept), '11 14 15 21 31', 'P-16: no threshold, or no settings, is for ever; so is a student who has never been active');
	is(run_job($node, 'inactive_students')->{records_processed}, 0, 'P-16: once');

	is(run_job($node, 'erasure_overdue')->{records_processed}, 2, 'P-17: the teacher is told of requests that are late');
	is(run_job($node, 'erasure_overdue')->{records_processed}, 0, 'P-17: once each');

	# A student who cannot be erased makes his request late, and the run says so.
	value(q(ALTER TABLE students ADD CONSTRAINT pays CHECK (name <> 'Deleted student' OR right(id::text, 2) <> '14') NOT VALID));
	my $run = run_job($node, 'erasure_requests');
	is("$run->{status} $run->{records_processed} $run->{failed_records} $run->{result}->{overdue}", 'failed 0 1 1',
		'P-17: one is asked for and could not be done, past its date');
	is(value(q(SELECT due < now(), error_message FROM job_failed_items WHERE job_name = 'erasure_requests')),
		't|check violation (SQLSTATE 23514), constraint "pays", table pinteach.students', 'P-17: why');
	is(value($kept), '11 14 15 21 31', 'P-17: nothing of it was done');
	value(q(ALTER TABLE students DROP CONSTRAINT pays; SELECT job_retry_items('erasure_requests')));
	is(run_job($node, 'erasure_requests')->{records_processed}, 1, 'P-17: done');
	is(value($erased), '13 Deleted student, 14 Deleted student', 'P-17: in every table');
	is(value(q(SELECT string_agg(status, ' ' ORDER BY id) FROM erasure_requests)), 'completed pending rejected pending',
		'P-17: the request says so; others are not touched');
	is(value(q(SELECT relation, columns, path, reason FROM job_erasure_gaps('students', 'erasure_requests') WHERE path IS NOT NULL)), '',
		'P-17: every table that holds something of a student has its rule');
};

quiet_log($node, 'nothing died');
$node->stop;
done_testing();
