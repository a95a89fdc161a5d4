-- Barycenter's cleanup jobs as rules: instead of those of jobs.sql, which they
-- may follow under the same names after job_unschedule(). What a rule adds to
-- a DELETE: short transactions, a preview, guards, holds, and a run that goes
-- on where it was interrupted. Running this again changes nothing.
--
-- keep '0': the column says itself when a row expires. short_keep: that is
-- meant, also in a moment when nothing in the table lies in the future.

SELECT job_schedule_retention('cleanup_expired_sessions', '0 0 * * * *',
	'sessions', 'expires_at', '0', time_unit => 's', short_keep => true,
	description => 'Sessions past their lifetime, hourly on the hour');

SELECT job_schedule_retention('cleanup_expired_refresh_tokens', '0 30 * * * *',
	'refresh_tokens', 'expires_at', '0', time_unit => 's', short_keep => true,
	description => 'Refresh tokens past their lifetime, hourly at half past');

-- A challenge lives five minutes: by its age, where others go by their expiry.
SELECT job_schedule_retention('cleanup_expired_challenges', '0 */5 * * * *',
	'webauthn_challenges', 'created_at', '5 minutes', time_unit => 's', short_keep => true,
	description => 'Challenges nobody answered, every five minutes');

SELECT job_schedule_retention('cleanup_expired_device_codes', '0 45 * * * *',
	'device_codes', 'expires_at', '0', time_unit => 's', short_keep => true,
	description => 'Device codes nobody entered, hourly at a quarter to');

SELECT job_schedule_retention('cleanup_expired_federation_requests', '0 */5 * * * *',
	'federation_auth_requests', 'expires_at', '0', short_keep => true,
	time_format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"',
	description => 'Logins by way of a peer that nobody finished, every five minutes');

-- Requests that were approved or refused stay, however old.
SELECT job_schedule_retention('cleanup_expired_peer_requests', '0 15 * * * *',
	'peer_requests', 'expires_at', '0', short_keep => true,
	time_format => 'YYYY-MM-DD"T"HH24:MI:SS"Z"',
	filter => $$r.status = 'pending_approval'$$,
	description => 'Requests of peers that nobody decided on, hourly at a quarter past');
