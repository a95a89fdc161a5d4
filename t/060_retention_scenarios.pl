# The retention jobs of three systems, as examples/ defines them, on tables and
# rows like theirs.  The numbers are those of the behaviours these tests stand
# for: B Barycenter, R Rapua, P PinTeach.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use JanitorTest;

my $examples = "$FindBin::RealBin/../examples";
my $node = janitor_node('retention', "timezone = 'America/New_York'");

sub example
{
	my ($file) = @_;
	return 'SET client_min_messages = error; ' . slurp_file("$examples/$file");
}

sub value
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

# Runs a job on demand: "status records", and what it says if it failed.
sub run_it
{
	my ($job, $arguments) = @_;
	my $row = run_job($node, $job, $arguments);
	return join(' ', grep { defined } @$row{qw(status records_processed error_message)});
}

# A system's jobs and tables find each other through the search_path.
sub system_is
{
	my ($name) = @_;
	value("ALTER DATABASE postgres SET search_path = $name, public");
	value(example("$name/schema.sql"));
	return;
}

# What a definition leaves behind; the same when it is made again.
my $definitions = q(SELECT
	(SELECT array_agg(d ORDER BY name)::text FROM job_definition d) ||
	(SELECT array_agg(r ORDER BY job_name, rule)::text FROM job_rule r) ||
	(SELECT count(*) FROM job_change));

sub defined_again
{
	my ($name, $jobs) = @_;
	my $before = value($definitions);
	value($jobs);
	is(value($definitions), $before, "$name: defining the same jobs again changes nothing");
	return;
}

subtest 'Barycenter' => sub {
	system_is('barycenter');
	my $jobs = example('barycenter/retention.sql');
	my $epoch = 'extract(epoch FROM now())::bigint';
	my $iso = q(to_char(now() AT TIME ZONE 'UTC' + interval '%s', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
	my ($past, $future, $long_ago) = map { sprintf $iso, $_ } '-2 seconds', '10 minutes', '-2 days';
	my $data = qq(
		INSERT INTO sessions
		VALUES ('s_old', 'u', $epoch - 7200, $epoch - 7200, $epoch - 3600),
			   ('s_just', 'u', $epoch - 3602, $epoch - 3602, $epoch - 2),
			   ('s_live', 'u', $epoch, $epoch, $epoch + 3600);
		INSERT INTO refresh_tokens
		VALUES ('rt_old', 'c', 'u', 'openid', $epoch - 2592001, $epoch - 2, 0, NULL),
			   ('rt_rotated', 'c', 'u', 'openid', $epoch - 86400, $epoch + 86400, 0, 'rt_old'),
			   ('rt_revoked', 'c', 'u', 'openid', $epoch, $epoch + 2592000, 1, NULL);
		INSERT INTO webauthn_challenges
		SELECT 'ch_' || g, NULL, NULL, 'auth', $epoch - 400 - g, $epoch - 100 - g, '{}'
		FROM generate_series(1, 7) g;
		INSERT INTO webauthn_challenges
		VALUES ('ch_live', NULL, NULL, 'auth', $epoch - 100, $epoch + 200, '{}');
		INSERT INTO device_codes (device_code, user_code, client_id, scope, created_at, expires_at, status)
		VALUES ('dc_old', 'AAAA-1111', 'c', 'openid', $epoch - 1802, $epoch - 2, 'approved'),
			   ('dc_live', 'BBBB-2222', 'c', 'openid', $epoch - 1000, $epoch + 800, 'pending');
		INSERT INTO federation_auth_requests (id, peer_id, state, nonce, pkce_verifier, original_authorize_params, created_at, expires_at)
		VALUES ('f_old', 'p1', 'a', 'n', 'v', '{}', $long_ago, '2000-01-01T00:00:00Z'),
			   ('f_just', 'p1', 'b', 'n', 'v', '{}', $long_ago, $past),
			   ('f_soon', 'p1', 'c', 'n', 'v', '{}', $long_ago, $future),
			   ('f_live', 'p1', 'd', 'n', 'v', '{}', $long_ago, '2099-01-01T00:00:00Z'),
			   ('f_local', 'p1', 'e', 'n', 'v', '{}', $long_ago, '2000-01-01 00:00:00+00'),
			   ('f_odd', 'p1', 'f', 'n', 'v', '{}', $long_ago, '1 January'),
			   ('f_empty', 'p1', 'g', 'n', 'v', '{}', $long_ago, '');
		INSERT INTO peer_requests
		SELECT id, 'https://x', 'x', 'c', 'cb', 'j', status, $long_ago, expires
		FROM (VALUES ('r_expired', 'pending_approval', '2000-01-01T00:00:00Z'),
					 ('r_valid', 'pending_approval', '2099-01-01T00:00:00Z'),
					 ('r_approved', 'approved', '2000-01-01T00:00:00Z'),
					 ('r_rejected', 'rejected', '2000-01-01T00:00:00Z')) v (id, status, expires););
	my @names = qw(sessions refresh_tokens challenges device_codes federation_requests peer_requests);
	my $keys = q(SELECT string_agg(k, ' ' ORDER BY k) FROM (
		SELECT session_id AS k FROM sessions
		UNION ALL SELECT token FROM refresh_tokens
		UNION ALL SELECT challenge FROM webauthn_challenges
		UNION ALL SELECT device_code FROM device_codes
		UNION ALL SELECT id FROM federation_auth_requests
		UNION ALL SELECT id FROM peer_requests) k);
	my $live = 'ch_live dc_live f_empty f_live f_local f_odd f_soon r_approved r_rejected r_valid'
	  . ' rt_revoked rt_rotated s_live';

	value($jobs);
	defined_again('B-02', $jobs);
	is( value(q(SELECT string_agg(name || ' ' || schedule, ', ' ORDER BY name) FROM job_definition
			WHERE kind = 'retention')),
		'cleanup_expired_challenges 0 */5 * * * *, cleanup_expired_device_codes 0 45 * * * *, '
		  . 'cleanup_expired_federation_requests 0 */5 * * * *, cleanup_expired_peer_requests 0 15 * * * *, '
		  . 'cleanup_expired_refresh_tokens 0 30 * * * *, cleanup_expired_sessions 0 0 * * * *',
		'B-03 to B-09: every cleanup is a job with its schedule, the forgotten one too');
	is(join(', ', map { run_it("cleanup_expired_$_") } @names),
		join(', ', ('succeeded 0') x @names),
		'B-11: there is nothing to be done in empty tables, which is a success');

	value($data);
	is(value(q(SELECT count(*) FROM job_preview('cleanup_expired_sessions'))) > 0, 1,
		'a preview says something');
	is(value($keys) =~ /s_old/, 1, 'and changes nothing');
	is(run_it('cleanup_expired_sessions'), 'succeeded 2',
		'B-03: sessions past expires_at (epoch seconds)');
	is(run_it('cleanup_expired_refresh_tokens'), 'succeeded 1',
		'B-04: expired refresh tokens only: revoked and rotated ones stay');
	is(run_it('cleanup_expired_challenges'), 'succeeded 7',
		'B-05: challenges older than five minutes, by created_at');
	is(run_it('cleanup_expired_device_codes'), 'succeeded 1', 'B-06: device codes');
	my $federation = run_job($node, 'cleanup_expired_federation_requests');
	is("$federation->{status} $federation->{records_processed}", 'succeeded 2',
		'B-07: federation requests, by ISO text, in a server that is not in UTC');
	is(run_it('cleanup_expired_peer_requests'), 'succeeded 1',
		'B-09: peer requests that nobody decided on, no others');
	is(value($keys), $live, 'B-03 to B-09: exactly what had expired is gone');
	like(JSON::PP->new->canonical->encode($federation->{result} // {}), qr/\b3\b/,
		'B-07: rows whose time has another shape are counted in the result');
	is(join(', ', map { run_it("cleanup_expired_$_") } @names),
		join(', ', ('succeeded 0') x @names), 'B-11: a second run finds nothing');

	# The other spelling of B-05: an expiry column instead of an age.
	value(q(DELETE FROM webauthn_challenges));
	value(qq(SET client_min_messages = error;
		SELECT job_schedule_retention('challenges_by_expiry', NULL, 'webauthn_challenges',
			'expires_at', '0', time_unit => 's', short_keep => true);
		INSERT INTO webauthn_challenges
		SELECT 'c' || g, NULL, NULL, 'auth', $epoch - g, $epoch - g + 300, '{}'
		FROM generate_series(50, 650, 100) g));
	is(run_it('challenges_by_expiry'), 'succeeded 4', 'B-05: by expires_at');
	is(value('SELECT string_agg(challenge, chr(32) ORDER BY challenge) FROM webauthn_challenges'), 'c150 c250 c50',
		'B-05: what has expired is gone');
	is(run_it('cleanup_expired_challenges'), 'succeeded 0', 'B-05: both spellings mean the same');

	# Strictly before: a session that expires in the second of the run stays.
	value('DELETE FROM sessions');
	value("INSERT INTO sessions SELECT 's' || g, 'u', 0, 0, $epoch + g FROM generate_series(-60, 60) g");
	my $row = run_job($node, 'cleanup_expired_sessions');
	is( value(qq(SELECT count(*) = max(expires_at) - min(expires_at) + 1,
			min(expires_at) BETWEEN floor(extract(epoch FROM min(started_at)))
				AND floor(extract(epoch FROM min(completed_at)))
			FROM sessions, job_execution e WHERE e.id = $row->{id})),
		't|t', 'B-03: what expires in the very second of the run stays, what did before is gone');

	# A table nobody cleaned up for years, in short transactions.
	value(q(
		CREATE TABLE transactions (xid xid8, table_name text);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO barycenter.transactions VALUES (pg_current_xact_id(), TG_TABLE_NAME);
			RETURN OLD; END $$;
		CREATE TRIGGER note BEFORE DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION note();
		DELETE FROM sessions; TRUNCATE transactions;
		INSERT INTO sessions SELECT 'g' || g, 'u', 0, 0, 1000000000 + g FROM generate_series(1, 5000) g;
		ANALYZE sessions;
		SET client_min_messages = error;
		SELECT job_set_rule('cleanup_expired_sessions', 'main', 'sessions', 'expires_at', '0',
			time_unit => 's', short_keep => true, batch_rows => 500)));
	is(run_it('cleanup_expired_sessions'), 'succeeded 5000', 'B-11: a large backlog is worked off in one run');
	is( value('SELECT count(*) >= 10, max(n) <= 750 FROM (SELECT count(*) AS n FROM transactions GROUP BY xid) t'),
		't|t', 'B-11: in many transactions of about batch_rows rows');
};

subtest 'Rapua' => sub {
	system_is('rapua');
	my $jobs = example('rapua/retention.sql');
	value($jobs);
	defined_again('R-22', $jobs);
	value(q(INSERT INTO credit_purchases (id, user_id, credits, amount_paid, stripe_session_id, status, created_at)
		SELECT id, 'u', 1, 1, id, status, now() - age::interval
		FROM (VALUES ('stale_pending', 'pending', '8 days'), ('stale_failed', 'failed', '10 days'),
					 ('recent_pending', 'pending', '2 days'), ('old_completed', 'completed', '30 days'),
					 ('just_kept', 'pending', '6 days 23 hours 59 minutes'), ('just_stale', 'pending', '7 days 1 second'),
					 ('old_cancelled', 'cancelled', '30 days')) v (id, status, age)));
	is(run_it('stale_credit_purchases'), 'succeeded 3', 'R-22, R-23: as many as were deleted');
	is(value(q(SELECT string_agg(id, ' ' ORDER BY id) FROM credit_purchases)),
		'just_kept old_cancelled old_completed recent_pending',
		'R-22: pending and failed ones of more than 7 days are gone, completed and cancelled ones kept');
	is(run_it('stale_credit_purchases'), 'succeeded 0', 'R-22: and that was all');

	# With an error in between nothing is counted that is not gone.
	value(q(
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
		CREATE TRIGGER refuse BEFORE DELETE ON credit_purchases FOR EACH ROW
			WHEN (OLD.id = 'b3') EXECUTE FUNCTION refuse();
		INSERT INTO credit_purchases (id, user_id, credits, amount_paid, stripe_session_id, created_at)
		SELECT 'b' || g, 'u', 1, 1, 'b' || g, now() - interval '9 days' FROM generate_series(1, 4) g));
	my $row = run_job($node, 'stale_credit_purchases');
	is($row->{status}, 'failed', 'R-23: an error fails the run');
	is(value("SELECT count(*) FROM credit_purchases WHERE id LIKE 'b_'"),
		4 - ($row->{records_processed} // 0), 'R-23: what it says it has done is what is gone');
};

subtest 'PinTeach' => sub {
	system_is('pinteach');
	my $jobs = example('pinteach/retention.sql');
	value($jobs);
	defined_again('P-14', $jobs);
	is( value(q(SELECT string_agg(job_name || '.' || rule, ' ' ORDER BY place) FROM job_rule
			WHERE job_name = 'data_retention')),
		'data_retention.main data_retention.session_content data_retention.contact_log',
		'P-16: the rules keep the order in which they were made');

	# Each tier just inside and just outside of what it keeps.
	value(q(INSERT INTO audit_logs (created_at, retention_tier, action)
		SELECT now() - keep::interval + side, tier, tier || sign(extract(epoch FROM side))
		FROM (VALUES ('financial', '7 years'), ('student', '3 years'), ('general', '1 year'),
					 (NULL, '6 months'), ('unheard of', '6 months'), ('Financial', '6 months')) v (tier, keep),
			unnest(ARRAY[interval '2 days', interval '-2 days']) side));
	is(run_it('audit_cleanup'), 'succeeded 6', 'P-14: the audit log by tier');
	is( value(q(SELECT count(*), bool_and(created_at > now() - CASE retention_tier
				WHEN 'financial' THEN interval '7 years' WHEN 'student' THEN interval '3 years'
				WHEN 'general' THEN interval '1 year' ELSE interval '6 months' END) FROM audit_logs)),
		'6|t', 'P-14, P-15: each tier has kept its own time; no tier or an unknown one 6 months');
	value(q(SET client_min_messages = error;
		SELECT job_set_rule('audit_cleanup', 'main', 'audit_logs', 'created_at',
			tier_column => 'retention_tier', tiers => '{"general": "1 day"}')));
	is(run_it('audit_cleanup'), 'succeeded 1', 'P-15: without "*" the tiers that are not named are kept');

	# Ana has set all of it, Bo nothing, Cleo some.
	my $teacher = '00000000-0000-0000-0000-0000000000';
	value(qq(
		INSERT INTO teachers (id, name) VALUES ('${teacher}a1', 'Ana'), ('${teacher}b1', 'Bo'), ('${teacher}c1', 'Cleo'), ('${teacher}d1', 'Dan');
		INSERT INTO retention_settings VALUES ('${teacher}a1', 730, 365, 180), ('${teacher}b1', NULL, NULL, NULL), ('${teacher}c1', NULL, 30, NULL);
		INSERT INTO students (teacher_id, name, email, phone, last_activity_at)
		SELECT t.id, t.name || '-' || days, 'mail', '1', now() - days * interval '1 day'
		FROM teachers t, unnest(ARRAY[1, 729, 731, 3000]) days;
		INSERT INTO students (teacher_id, name, email) VALUES ('${teacher}a1', 'Ana-never', 'mail');
		INSERT INTO sessions (teacher_id, status, ends_at, notes, content)
		SELECT t.id, 'completed', now() - days * interval '1 day', 'notes', '{"a": 1}'
		FROM teachers t, unnest(ARRAY[10, 40, 364, 366, 400]) days;
		INSERT INTO sessions (teacher_id, status, ends_at) VALUES ('${teacher}a1', 'completed', now() - interval '900 days');
		INSERT INTO contact_log (teacher_id, created_at, body)
		SELECT t.id, now() - days * interval '1 day', t.name || days
		FROM teachers t, unnest(ARRAY[10, 179, 181, 900]) days;
		INSERT INTO erasure_requests (teacher_id, status, due_at)
		VALUES ('${teacher}a1', 'pending', now() - interval '1 day'), ('${teacher}a1', 'completed', now() - interval '1 day'),
			   ('${teacher}b1', 'processing', now() - interval '2 days'), ('${teacher}b1', 'pending', now() + interval '2 days')));
	my $untouched = value(q(SELECT count(*), md5(string_agg(s::text, ',' ORDER BY s.id)) FROM students s
		WHERE (name LIKE 'Ana%' AND last_activity_at < now() - interval '730 days') IS NOT TRUE));
	is(run_it('data_retention'), 'succeeded 10', 'P-16: 2 students, 2 and 4 of content, 2 contacts');
	is( value(q(SELECT string_agg(concat_ws(' ', name, email, phone, (anonymized_at IS NOT NULL)::text), ', ')
			FROM students WHERE anonymized_at IS NOT NULL)),
		'Deleted student true, Deleted student true', 'P-16: inactive students are anonymized');
	is( value(q(SELECT count(*), md5(string_agg(s::text, ',' ORDER BY s.id)) FROM students s WHERE anonymized_at IS NULL)),
		$untouched, 'P-16: and nobody else; a teacher without a threshold, or without settings, keeps all');
	is( value(q(SELECT string_agg(t.name || ' ' || n, ', ' ORDER BY t.name) FROM (
			SELECT teacher_id, count(*) AS n FROM sessions WHERE notes IS NULL AND content IS NULL
			  AND ends_at > now() - interval '900 days' GROUP BY 1) s JOIN teachers t ON t.id = s.teacher_id)),
		'Ana 2, Cleo 4', 'P-16: old content is cleared, per teacher');
	is( value(q(SELECT string_agg(body, ' ' ORDER BY body) FROM contact_log WHERE body LIKE 'Ana%'))
		  . ' ' . value(q(SELECT count(*) FROM contact_log WHERE body NOT LIKE 'Ana%')),
		'Ana10 Ana179 12', 'P-16: the contact log of Ana alone is cut');
	eventually($node, q(SELECT count(*) = 1 FROM job_execution WHERE job_name = 'overdue_erasure' AND success),
		'the job that runs after it');
	is(value(q(SELECT count(*) FROM teacher_notifications WHERE kind = 'erasure_overdue')), '2',
		'P-16: last of all, overdue erasure requests are told');
	is(run_it('data_retention'), 'succeeded 0', 'P-16: a second run finds nothing to change');

	# Rules run in order, and one that fails does not keep the others from it.
	value(qq(
		UPDATE sessions SET notes = 'again' WHERE ends_at < now() - interval '365 days' AND teacher_id = '${teacher}a1';
		INSERT INTO contact_log (teacher_id, created_at, body) VALUES ('${teacher}a1', now() - interval '900 days', 'late');
		ALTER TABLE sessions ADD CONSTRAINT broken CHECK (notes IS NOT NULL) NOT VALID));
	my $row = run_job($node, 'data_retention');
	is("$row->{status} $row->{records_processed}", 'failed 1', 'P-16: a rule fails, the ones after it have run');
	like($row->{error_message}, qr/session_content/, 'P-16: the run says which');
	is(value(q(SELECT count(*) FROM contact_log WHERE body = 'late')), '0', 'P-16: and what they did is kept');
	value(q(ALTER TABLE sessions DROP CONSTRAINT broken; SELECT job_cancel('data_retention')));
	is(run_it('data_retention'), 'succeeded 3', 'P-16: the next run makes up for it');

	# Holds on time slots.
	value(qq(INSERT INTO sessions (teacher_id, status, ends_at, hold_expires_at)
		SELECT '${teacher}b1', v.status, now() + interval '1 day', now() + v.till::interval
		FROM (VALUES ('hold', '-1 second'), ('hold', '-1 day'), ('hold', '10 minutes'), ('scheduled', '-1 hour'), ('hold', NULL)) v (status, till)));
	is(run_it('release_holds'), 'succeeded 2', 'P-27: holds past their 15 minutes');
	is( value(q(SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (
			SELECT status, count(*) AS n FROM sessions WHERE ends_at > now() GROUP BY 1) s)),
		'expired 2, hold 2, scheduled 1', 'P-27: expire; what was confirmed meanwhile, or has no end, stays');
	is(run_it('release_holds'), 'succeeded 0', 'P-27: once');

	value(q(INSERT INTO webhook_events SELECT 'e' || g, now() - g * interval '1 day' FROM generate_series(0, 59) g));
	is(run_it('webhook_cleanup'), 'succeeded 30', 'P-28: webhook events older than 30 days');
	is(value(q(SELECT max(now() - received_at) < interval '30 days' FROM webhook_events)), 't', 'P-28: and no younger one');
};

subtest 'mixed case, reserved words, columns that look alike' => sub {
	value(q(
		ALTER DATABASE postgres SET search_path = "Heim dall", public;
		CREATE SCHEMA "Heim dall"));
	value(q(
		CREATE TABLE "User" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "select" timestamptz, "r" text);
		CREATE TABLE "ScheduledDeletion" ("User" uuid REFERENCES "User" ON DELETE CASCADE, "deleteAt" timestamptz);
		CREATE TABLE user_archive ("r" text, id uuid, "select" timestamptz, archived_at timestamptz DEFAULT now());
		INSERT INTO "User" ("select", "r") SELECT now() - g * interval '1 day', 'u' || g FROM generate_series(0, 9) g;
		INSERT INTO "ScheduledDeletion" SELECT id, now() FROM "User";
		SET client_min_messages = error;
		SELECT job_schedule_retention('Löschen "alt"', NULL, '"User"', 'select', '5 days 12 hours',
			action => 'archive', archive_to => 'user_archive', filter => $$r.r <> 'u9'$$)));
	is(run_it('Löschen "alt"'), 'succeeded 3', 'H-08: names of any kind');
	is( value(q(SELECT (SELECT count(*) FROM "User"), (SELECT string_agg(r, ' ' ORDER BY r) FROM user_archive),
			(SELECT count(*) FROM "ScheduledDeletion"))),
		'7|u6 u7 u8|7', 'H-08: what is archived is gone, with what cascades');
};

quiet_log($node, 'no process of pg_janitor has died or got stuck');
$node->stop;
done_testing();
