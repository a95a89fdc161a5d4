-- The tables of Barycenter, an identity provider, that fill up by themselves:
-- what each of them holds is useless after expires_at (seconds since 1970).

CREATE SCHEMA barycenter;
SET search_path = barycenter, public;

CREATE TABLE sessions
(
	session_id text PRIMARY KEY,
	subject text NOT NULL,
	auth_time bigint NOT NULL,
	created_at bigint NOT NULL,
	expires_at bigint NOT NULL,
	user_agent text,
	ip_address text,
	amr text,
	acr text,
	mfa_verified bigint NOT NULL DEFAULT 0
);
CREATE INDEX sessions_expires_at_idx ON sessions (expires_at);

CREATE TABLE refresh_tokens
(
	token text PRIMARY KEY,
	client_id text NOT NULL,
	subject text NOT NULL,
	scope text NOT NULL,
	created_at bigint NOT NULL,
	expires_at bigint NOT NULL,
	revoked bigint NOT NULL DEFAULT 0,
	parent_token text
);
CREATE INDEX refresh_tokens_expires_at_idx ON refresh_tokens (expires_at);

CREATE TABLE webauthn_challenges
(
	challenge text PRIMARY KEY,
	subject text,
	session_id text,
	challenge_type text NOT NULL,
	created_at bigint NOT NULL,
	expires_at bigint NOT NULL,
	options_json text NOT NULL
);
CREATE INDEX webauthn_challenges_expires_at_idx
	ON webauthn_challenges (expires_at);

CREATE TABLE device_codes
(
	device_code text PRIMARY KEY,
	user_code text NOT NULL,
	client_id text NOT NULL,
	client_name text,
	scope text NOT NULL,
	device_info text,
	created_at bigint NOT NULL,
	expires_at bigint NOT NULL,
	last_poll_at bigint,
	"interval" int NOT NULL DEFAULT 5,
	status text NOT NULL DEFAULT 'pending',
	subject text,
	auth_time bigint,
	amr text,
	acr text
);
CREATE INDEX device_codes_expires_at_idx ON device_codes (expires_at);

-- In the tables of its federation times are ISO-8601 text, in UTC.
CREATE TABLE federation_auth_requests
(
	id text PRIMARY KEY,
	peer_id text NOT NULL,
	state text UNIQUE NOT NULL,
	nonce text NOT NULL,
	pkce_verifier text NOT NULL,
	original_authorize_params text NOT NULL,
	original_session_id text,
	created_at text NOT NULL,
	expires_at text NOT NULL
);

CREATE TABLE peer_requests
(
	id text PRIMARY KEY,
	requesting_issuer text NOT NULL,
	requesting_domain text NOT NULL,
	client_id_at_us text NOT NULL,
	callback_endpoint text NOT NULL,
	request_jws text NOT NULL,
	status text NOT NULL DEFAULT 'pending_approval',
	created_at text NOT NULL,
	expires_at text NOT NULL
);
