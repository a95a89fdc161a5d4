-- 200,000 rows a table. Every fifth is good for another hour at least; the
-- others expired up to 30 days ago.

SET search_path = barycenter, public;

CREATE TEMPORARY VIEW rows AS
SELECT g AS n, now_s - 86400 AS created_at,
	CASE WHEN g % 5 = 0 THEN now_s + 3600 + g % 86400
		ELSE now_s - 1 - g % 2592000 END AS expires_at
FROM generate_series(1, 200000) AS g,
	CAST(extract(epoch FROM now()) AS bigint) AS now_s;

INSERT INTO sessions (session_id, subject, auth_time, created_at, expires_at,
	user_agent, ip_address)
SELECT 'session-' || n, 'user-' || n % 5000, created_at, created_at, expires_at,
	'Mozilla/5.0', '192.0.2.' || n % 256
FROM rows;

INSERT INTO refresh_tokens (token, client_id, subject, scope, created_at,
	expires_at)
SELECT 'token-' || n, 'client-' || n % 20, 'user-' || n % 5000, 'openid profile',
	created_at, expires_at
FROM rows;

INSERT INTO webauthn_challenges (challenge, subject, challenge_type,
	created_at, expires_at, options_json)
SELECT 'challenge-' || n, 'user-' || n % 5000, 'authentication', created_at,
	expires_at, '{}'
FROM rows;

INSERT INTO device_codes (device_code, user_code, client_id, scope, created_at,
	expires_at)
SELECT 'code-' || n, 'U-' || n, 'client-' || n % 20, 'openid', created_at,
	expires_at
FROM rows;

ANALYZE sessions, refresh_tokens, webauthn_challenges, device_codes;
