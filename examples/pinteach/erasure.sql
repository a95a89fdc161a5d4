-- PinTeach forgets students, each in all tables or not at all: those nobody has
-- heard of for as long as their teacher has set, and those who have asked for
-- it. Running this again changes nothing.

-- On Sundays, and after it the steps of retention.sql. A teacher without a
-- threshold, or without settings, keeps all of his students.
SELECT job_schedule_items('inactive_students', '0 0 3 * * 0', $$
	SELECT s.id AS student_id
	FROM students s JOIN retention_settings t ON t.teacher_id = s.teacher_id
	WHERE s.anonymized_at IS NULL
	  AND s.last_activity_at < now() - make_interval(days => t.inactive_student_days)
	ORDER BY s.last_activity_at
	FOR UPDATE OF s $$,
	description => 'Students nobody has heard of');

-- What has been asked for and not been rejected; due in 30 days, and the result
-- of a run says how many are late.
SELECT job_schedule_items('erasure_requests', '@hourly', $$
	SELECT e.id, e.student_id, e.due_at AS due
	FROM erasure_requests e JOIN students s ON s.id = e.student_id
	WHERE e.status = 'processing'
	ORDER BY e.due_at $$,
	channel => 'student_erased', description => 'Students who asked to be forgotten');

-- The same for both.
SELECT job_set_rule(job, 'sessions', 'sessions', action => 'anonymize',
	match => $$r.student_id = ($1->>'student_id')::uuid$$, set => 'notes = NULL, content = NULL')
FROM unnest(ARRAY['inactive_students', 'erasure_requests']) job;
SELECT job_set_rule(job, 'contacts', 'contact_log', match => $$r.student_id = ($1->>'student_id')::uuid$$)
FROM unnest(ARRAY['inactive_students', 'erasure_requests']) job;
SELECT job_set_rule(job, 'messages', 'scheduled_messages', match => $$r.student_id = ($1->>'student_id')::uuid$$)
FROM unnest(ARRAY['inactive_students', 'erasure_requests']) job;
SELECT job_set_rule(job, 'student', 'students', action => 'anonymize',
	match => $$r.id = ($1->>'student_id')::uuid$$,
	set => $$name = 'Deleted student', email = NULL, phone = NULL, anonymized_at = job_now()$$)
FROM unnest(ARRAY['inactive_students', 'erasure_requests']) job;
SELECT job_set_rule('erasure_requests', 'request', 'erasure_requests', action => 'update',
	match => $$r.id = ($1->>'id')::bigint$$, set => $$status = 'completed'$$);

-- What hangs on a lesson, or on a request, says nothing about a student.
SECURITY LABEL FOR pg_janitor ON TABLE credit_ledger IS 'not personal';
SECURITY LABEL FOR pg_janitor ON TABLE session_calendar_sync IS 'not personal';
SECURITY LABEL FOR pg_janitor ON TABLE erasure_requests IS 'not personal';

-- The teacher is told of requests that are late, once each.
SELECT job_schedule('erasure_overdue', '0 0 3 * * 0', $$
	INSERT INTO teacher_notifications (teacher_id, kind, ref)
	SELECT teacher_id, 'erasure_overdue', id::text FROM erasure_requests
	WHERE status IN ('pending', 'processing') AND due_at < now()
	ON CONFLICT DO NOTHING $$);
