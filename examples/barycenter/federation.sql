-- Barycenter's peers: their discovery documents are read again each night.
-- One run for each peer, by a worker outside (handlers.py).

SET search_path = barycenter, public;

CREATE TABLE trusted_peers
(
	id text PRIMARY KEY,
	domain text UNIQUE NOT NULL,
	issuer_url text NOT NULL,
	status text NOT NULL DEFAULT 'pending_verification',
	verification text NOT NULL DEFAULT 'none',
	jwks_uri text,
	token_endpoint text,
	pinned_jwks text,
	last_discovery_refresh timestamptz,
	last_discovery_error text,
	jwks_rotated boolean NOT NULL DEFAULT false	-- it has other keys than the pinned ones
);

SELECT job_schedule_external('peer_discovery',
	description => 'Reads the discovery document of one peer',
	max_running => 4, max_attempts => 2, retry_delay => '1 s');

SELECT job_schedule('refresh_peer_discovery', '0 0 3 * * *', $$
	SELECT count(job_trigger('peer_discovery', jsonb_build_object('id', id, 'issuer', issuer_url), key => id))
	FROM trusted_peers WHERE status = 'active'
$$, description => 'All active peers, nightly');

-- What its source reports of a night: peers that failed make it no success.
CREATE VIEW peer_discovery_report AS
SELECT count(*) AS peers, count(*) FILTER (WHERE last_discovery_error IS NOT NULL) AS failed,
	   array_agg(domain) FILTER (WHERE jwks_rotated) AS rotated,
	   nullif(count(*) FILTER (WHERE last_discovery_error IS NOT NULL), 0) || ' peers failed to refresh' AS error_message
FROM trusted_peers WHERE status = 'active';
