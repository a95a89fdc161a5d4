-- Heimdall, accounts and streaming integrations: the two tables that its jobs
-- which call other platforms work on. The names are its own, in mixed case.

CREATE SCHEMA heimdall;
SET search_path = heimdall, public;

CREATE TABLE "Integration"
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	platform text NOT NULL,
	kind text NOT NULL CHECK (kind IN ('channel', 'bot')),
	api text NOT NULL,			-- where the platform answers
	access_token bytea,			-- encrypted by the application, as is
	refresh_token bytea,		-- this; the database has no key
	expires_at timestamptz,
	status text NOT NULL DEFAULT 'ok',
	last_error text,
	follower_count bigint,
	subscriber_count bigint,
	stats_updated_at timestamptz
);

CREATE TABLE "AuditEvent"
(
	id bigint GENERATED ALWAYS AS IDENTITY,
	ts timestamptz NOT NULL DEFAULT now(),
	actor_id uuid,
	actor_ip inet,
	action text NOT NULL,
	metadata jsonb NOT NULL DEFAULT '{}'
);
