-- PinTeach: what comes later, and what calls Google.

-- A session completes itself when its grace period is over: one delayed run
-- each, under its id, so that a new time replaces the old one. What happened
-- to the session meanwhile is looked at when it is done.
SELECT job_schedule('auto_complete', NULL, $$
	WITH done AS (
		UPDATE sessions s
		SET status = CASE t.completion_mode WHEN 'AUTO_COMPLETE' THEN 'completed' ELSE 'pending_review' END
		FROM teachers t
		WHERE s.id = job_arg('session')::uuid AND t.id = s.teacher_id
		  AND s.status IN ('scheduled', 'in_progress')
		  AND s.ends_at + make_interval(mins => t.grace_period_minutes) <= job_now()
		RETURNING s.*
	), consumed AS (
		INSERT INTO credit_ledger SELECT id, 'CONSUME', 1 FROM done WHERE status = 'completed'
		ON CONFLICT DO NOTHING
	), notified AS (
		INSERT INTO teacher_notifications SELECT teacher_id, 'session_review', id::text FROM done WHERE status = 'pending_review'
		ON CONFLICT DO NOTHING
	)
	SELECT count(*) FROM done
$$, max_running => 4);

-- To be called by whatever makes, moves or cancels a session.
CREATE FUNCTION plan_completion(session uuid) RETURNS bigint LANGUAGE sql AS $$
	SELECT CASE WHEN s.status IN ('scheduled', 'in_progress') THEN
		job_trigger('auto_complete', jsonb_build_object('session', s.id),
			s.ends_at + make_interval(mins => t.grace_period_minutes), s.id::text)
	ELSE job_cancel('auto_complete', s.id::text) END
	FROM sessions s JOIN teachers t ON t.id = s.teacher_id WHERE s.id = plan_completion.session
$$;

-- A message is due at its time; the teacher sends it himself.
SELECT job_schedule('scheduled_message', NULL, $$
	WITH due AS (
		UPDATE scheduled_messages SET status = 'fired'
		WHERE id = job_arg('message')::uuid AND status = 'pending' RETURNING *
	), logged AS (
		INSERT INTO contact_log SELECT teacher_id, channel, body FROM due
	), notified AS (
		INSERT INTO teacher_notifications SELECT teacher_id, 'contact_reminder', id::text FROM due
		ON CONFLICT DO NOTHING
	)
	SELECT count(*) FROM due
$$);

CREATE FUNCTION plan_message(message uuid) RETURNS bigint LANGUAGE sql AS $$
	SELECT job_trigger('scheduled_message', jsonb_build_object('message', id), send_at, id::text)
	FROM scheduled_messages WHERE id = plan_message.message
$$;

-- Google: circuits that the API server shares (job_circuit_allows() and
-- job_circuit_report()), limits for each teacher and for all.
SELECT job_set_circuit('google-calendar', 3, "window" => '30 s', cooldown => '15 s');
SELECT job_set_circuit('google-drive', 3, "window" => '30 s', cooldown => '15 s');

SELECT job_schedule_external('calendar_sync', '0 */5 * * * *',
	description => 'Pending sessions to Google Calendar, 20 at a time',
	circuit => 'google-calendar', retry_delay => '1 s');

SELECT job_schedule_external('drive_copy',
	description => 'Copies one file to the Drive of its teacher',
	max_running => 3, retry_delay => '1 s', circuit => 'google-drive');
SELECT job_set_rate_limit('drive_copy', 3, '2 s', 'teacher');
SELECT job_set_rate_limit('drive_copy', 5, '2 s');

SELECT job_schedule_external('drive_check',
	description => 'Is one copied file still there?', circuit => 'google-drive', retry_delay => '1 s');

SELECT job_schedule('drive_sync', '0 0 3 * * *', $$
	SELECT count(job_trigger('drive_check', jsonb_build_object('copy', id, 'teacher', teacher_id), key => id::text))
	FROM drive_file_copies WHERE status IN ('copied', 'trashed')
$$, description => 'All copied files, daily');

-- To be called by whatever links a resource to a session.
CREATE FUNCTION link_resource(teacher uuid, source text) RETURNS bigint LANGUAGE sql AS $$
	WITH new AS (INSERT INTO drive_file_copies (teacher_id, source) VALUES (teacher, source) RETURNING *)
	SELECT job_trigger('drive_copy', jsonb_build_object('copy', id, 'teacher', teacher_id), key => id::text) FROM new
$$;
