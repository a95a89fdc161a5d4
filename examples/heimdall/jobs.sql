-- Heimdall's calls to streaming platforms. A scheduled statement selects what
-- is due and queues one run for each; a worker outside (handlers.py) makes the
-- calls. The integration is the key: it is never queued or called twice.

SELECT job_set_circuit('platforms', 5, "window" => '1 minute', cooldown => '15 s');

SELECT job_schedule_external('integration_token',
	description => 'Refreshes the OAuth token of one integration',
	max_running => 4, max_attempts => 4, retry_delay => '1 s', circuit => 'platforms');

-- Its result says how many expire and are left alone: without a refresh token,
-- in error, of a platform that nobody knows.
SELECT job_schedule('integration_token_refresh', '0 */5 * * * *', $$
	SELECT job_report(count(t.id), jsonb_build_object('skipped', count(*) - count(t.id)))
	FROM "Integration" i
	LEFT JOIN LATERAL (
		SELECT job_trigger('integration_token', jsonb_build_object('id', i.id), key => i.id::text) AS id
		WHERE i.refresh_token IS NOT NULL AND i.status = 'ok'
		  AND i.platform IN ('twitch', 'youtube', 'kick', 'trovo')
	) t ON true
	WHERE i.expires_at <= job_now() + make_interval(mins => job_arg('buffer_minutes')::int)
$$, description => 'Tokens that expire within the buffer', args => '{"buffer_minutes": 15}');

SELECT job_schedule_external('channel_stats',
	description => 'Fetches follower and subscriber counts of one channel',
	max_running => 4, retry_delay => '1 s', circuit => 'platforms');
SELECT job_set_rate_limit('channel_stats', 800, '1 minute', 'platform');

SELECT job_schedule('channel_stats_refresh', '0 0 */6 * * *', $$
	SELECT count(job_trigger('channel_stats',
		jsonb_build_object('id', id, 'platform', platform), key => id::text))
	FROM "Integration"
	WHERE kind = 'channel' AND platform IN ('twitch', 'youtube')
	  AND (stats_updated_at IS NULL OR
		   stats_updated_at < job_now() - make_interval(mins => job_arg('stale_minutes')::int))
$$, description => 'Channels whose counts are stale', args => '{"stale_minutes": 360}');
