SELECT 'sessions' AS "table", count(*) AS rows,
	count(*) FILTER (WHERE expires_at < extract(epoch FROM now())) AS expired
FROM barycenter.sessions
UNION ALL
SELECT 'refresh_tokens', count(*),
	count(*) FILTER (WHERE expires_at < extract(epoch FROM now()))
FROM barycenter.refresh_tokens
UNION ALL
SELECT 'webauthn_challenges', count(*),
	count(*) FILTER (WHERE expires_at < extract(epoch FROM now()))
FROM barycenter.webauthn_challenges
UNION ALL
SELECT 'device_codes', count(*),
	count(*) FILTER (WHERE expires_at < extract(epoch FROM now()))
FROM barycenter.device_codes
ORDER BY 1;
