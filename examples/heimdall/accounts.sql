-- Heimdall's accounts: all that is kept about a user, and the requests to be
-- forgotten. The names are its own, in mixed case. "AuditEvent" stands for a
-- table of another database, see erasure.sql.

CREATE SCHEMA IF NOT EXISTS heimdall;
SET search_path = heimdall, public;

CREATE TABLE "User"
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	username text NOT NULL,
	email text UNIQUE,
	avatar_url text,
	preferred_locale text,
	created_at timestamptz NOT NULL DEFAULT now(),
	deleted_at timestamptz
);

CREATE TABLE "ScheduledDeletion"
(
	user_id uuid PRIMARY KEY REFERENCES "User",
	requested_at timestamptz NOT NULL DEFAULT now(),
	delete_at timestamptz NOT NULL
);
CREATE INDEX ON "ScheduledDeletion" (delete_at);

CREATE TABLE "Session"
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES "User",
	ip inet,
	user_agent text
);
CREATE INDEX ON "Session" (user_id);

CREATE TABLE "ApiKey"
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES "User",
	key_hash text
);
CREATE INDEX ON "ApiKey" (user_id);

CREATE TABLE "OAuthAccount"
(
	provider text,
	provider_id text,
	user_id uuid NOT NULL REFERENCES "User",
	email text,
	PRIMARY KEY (provider, provider_id)
);
CREATE INDEX ON "OAuthAccount" (user_id);

CREATE TABLE "TwoFactor"
(
	user_id uuid PRIMARY KEY REFERENCES "User",
	secret bytea,
	backup_codes text[]
);

CREATE TABLE "LoginEvent"
(
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	ts timestamptz NOT NULL DEFAULT now(),
	actor_id uuid,
	actor_ip inet,
	user_agent text,
	action text NOT NULL,
	metadata jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON "LoginEvent" (actor_id);

-- What the application calls: a deletion in seven days, and its cancellation,
-- which waits while it is carried out, and then finds that it is too late.
CREATE FUNCTION request_deletion(user_id uuid) RETURNS timestamptz LANGUAGE sql AS $$
	INSERT INTO heimdall."ScheduledDeletion" (user_id, delete_at) VALUES (user_id, now() + interval '7 days')
	ON CONFLICT ON CONSTRAINT "ScheduledDeletion_pkey" DO UPDATE SET delete_at = "ScheduledDeletion".delete_at
	RETURNING delete_at
$$;
CREATE FUNCTION cancel_deletion(user_id uuid) RETURNS boolean LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM heimdall."ScheduledDeletion" d WHERE d.user_id = cancel_deletion.user_id RETURNING 1)
	SELECT count(*) > 0 FROM gone
$$;
