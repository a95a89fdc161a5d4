-- PinTeach, a teaching platform: the tables of its jobs that come later, or
-- call Google; and those that grow, or hold what must not be kept for ever.

CREATE SCHEMA pinteach;
SET search_path = pinteach, public;

CREATE TYPE sync_status AS ENUM ('synced', 'pending', 'failed');

CREATE TABLE teachers
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	name text NOT NULL,
	completion_mode text NOT NULL DEFAULT 'AUTO_COMPLETE' CHECK (completion_mode IN ('AUTO_COMPLETE', 'PENDING_REVIEW')),
	grace_period_minutes int NOT NULL DEFAULT 15
);

CREATE TABLE sessions
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	teacher_id uuid NOT NULL REFERENCES teachers,
	status text NOT NULL,
	ends_at timestamptz NOT NULL,
	hold_expires_at timestamptz,
	notes text,
	content jsonb,
	student_id uuid
);
CREATE INDEX ON sessions (student_id);

CREATE TABLE credit_ledger
(
	session_id uuid,
	action text NOT NULL,
	amount int NOT NULL,
	UNIQUE (session_id, action)
);

CREATE TABLE teacher_notifications
(
	teacher_id uuid NOT NULL,
	kind text NOT NULL,
	ref text NOT NULL,
	UNIQUE (teacher_id, kind, ref)
);

CREATE TABLE contact_log
(
	teacher_id uuid,
	channel text,
	body text,
	created_at timestamptz NOT NULL DEFAULT now(),
	student_id uuid
);
CREATE INDEX ON contact_log (student_id);

CREATE TABLE scheduled_messages
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	teacher_id uuid,
	channel text,
	body text,
	send_at timestamptz NOT NULL,
	status text NOT NULL DEFAULT 'pending',
	student_id uuid
);
CREATE INDEX ON scheduled_messages (student_id);

CREATE TABLE session_calendar_sync
(
	session_id uuid PRIMARY KEY,
	teacher_id uuid,
	status sync_status NOT NULL DEFAULT 'pending',
	google_calendar_event_id text,
	google_meet_link text,
	last_error text
);

CREATE TABLE drive_file_copies
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	teacher_id uuid,
	source text NOT NULL,
	status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'copying', 'copied', 'failed', 'trashed', 'deleted')),
	drive_file_id text,
	checked_at timestamptz
);

-- How long each teacher keeps what is his; NULL: for ever.
CREATE TABLE retention_settings
(
	teacher_id uuid PRIMARY KEY REFERENCES teachers,
	inactive_student_days int,
	session_content_days int,
	contact_log_days int
);

CREATE TABLE students
(
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	teacher_id uuid NOT NULL REFERENCES teachers,
	name text,
	email text,
	phone text,
	last_activity_at timestamptz,
	anonymized_at timestamptz
);

CREATE TABLE audit_logs
(
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	created_at timestamptz NOT NULL DEFAULT now(),
	retention_tier text,
	actor_type text,
	action text
);
CREATE INDEX audit_logs_created_at_idx ON audit_logs (created_at);

CREATE TABLE webhook_events
(
	event_id text PRIMARY KEY,
	received_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE erasure_requests
(
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	teacher_id uuid NOT NULL REFERENCES teachers,
	student_id uuid REFERENCES students,
	status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processing', 'completed', 'rejected')),
	requested_at timestamptz NOT NULL DEFAULT now(),
	due_at timestamptz NOT NULL DEFAULT now() + interval '30 days'
);
