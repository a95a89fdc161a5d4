-- PinTeach's retention. Times in UTC. Running this again changes nothing.

-- The audit log by tier; what has no tier, or an unknown one, half a year.
SELECT job_schedule_retention('audit_cleanup', '0 0 2 1 * *',
	'audit_logs', 'created_at',
	tier_column => 'retention_tier',
	tiers => '{"financial": "7 years", "student": "3 years", "general": "1 year", "*": "6 months"}',
	description => 'Audit log, by tier, monthly');

-- Students nobody has heard of, then what was taught, then who was called:
-- for each teacher as long as the teacher has set, NULL being for ever. The
-- rules of a job run in the order in which they were made.
SELECT job_schedule_retention('data_retention', '0 0 3 * * 0',
	'students', 'last_activity_at',
	keep_expression => $$(SELECT make_interval(days => s.inactive_student_days)
		FROM pinteach.retention_settings s WHERE s.teacher_id = r.teacher_id)$$,
	action => 'anonymize',
	set => $$name = 'Deleted student', email = NULL, phone = NULL, anonymized_at = now()$$,
	done_when => 'r.anonymized_at IS NOT NULL',
	description => 'What teachers have set in retention_settings, on Sundays');

SELECT job_set_rule('data_retention', 'session_content',
	'sessions', 'ends_at',
	keep_expression => $$(SELECT make_interval(days => s.session_content_days)
		FROM pinteach.retention_settings s WHERE s.teacher_id = r.teacher_id)$$,
	action => 'update', set => 'notes = NULL, content = NULL');

SELECT job_set_rule('data_retention', 'contact_log',
	'contact_log', 'created_at',
	keep_expression => $$(SELECT make_interval(days => s.contact_log_days)
		FROM pinteach.retention_settings s WHERE s.teacher_id = r.teacher_id)$$);

-- When that has succeeded: erasure requests past their date, told once each.
SELECT job_schedule('overdue_erasure', NULL,
	$$INSERT INTO teacher_notifications (teacher_id, kind, ref)
	  SELECT teacher_id, 'erasure_overdue', id::text FROM erasure_requests
	  WHERE status IN ('pending', 'processing') AND due_at < now()
	  ON CONFLICT DO NOTHING$$,
	run_after => 'data_retention');

-- A time slot is held for a student for 15 minutes.
SELECT job_schedule_retention('release_holds', '0 * * * * *',
	'sessions', 'hold_expires_at', '0', short_keep => true,
	filter => $$r.status = 'hold'$$, action => 'update', set => $$status = 'expired'$$,
	description => 'Slots held and not taken, every minute');

-- Events are remembered so that none is handled twice; senders give up long
-- before that.
SELECT job_schedule_retention('webhook_cleanup', '0 20 4 * * *',
	'webhook_events', 'received_at', '30 days',
	description => 'Webhook events handled a month ago');
