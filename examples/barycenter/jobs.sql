-- Barycenter's cleanup jobs. Six fields: second, minute, hour, day of month,
-- month, day of week; in UTC. Running this again changes nothing.

SELECT job_schedule('cleanup_expired_sessions', '0 0 * * * *',
	$$DELETE FROM sessions WHERE expires_at < extract(epoch FROM now())::bigint$$,
	description => 'Sessions past their lifetime, hourly on the hour');

SELECT job_schedule('cleanup_expired_refresh_tokens', '0 30 * * * *',
	$$DELETE FROM refresh_tokens WHERE expires_at < extract(epoch FROM now())::bigint$$,
	description => 'Refresh tokens past their lifetime, hourly at half past');

SELECT job_schedule('cleanup_expired_challenges', '0 */5 * * * *',
	$$DELETE FROM webauthn_challenges WHERE expires_at < extract(epoch FROM now())::bigint$$,
	description => 'Challenges nobody answered, every five minutes');

SELECT job_schedule('cleanup_expired_device_codes', '0 45 * * * *',
	$$DELETE FROM device_codes WHERE expires_at < extract(epoch FROM now())::bigint$$,
	description => 'Device codes nobody entered, hourly at a quarter to');
