-- Heimdall forgets users when seven days have passed since they asked for it:
-- every quarter of an hour, and once after a start. Running this again changes
-- nothing.

-- The audit store is another database, and no transaction spans two: a run for
-- each user, queued by the very commit that erases him here, carried out over
-- there by a worker, and repeated until it has succeeded.
SELECT job_schedule_external('audit_anonymize', description => 'One user in the audit database',
	max_attempts => 100, retry_delay => '1 minute');

-- Whoever listens on account_deleted logs the user's sessions out, and drops
-- him from the cache. SELECT * FROM job_failed_items lists who could not be
-- forgotten; each is tried again, and the others are not kept from it.
SELECT job_schedule_items('scheduled_deletion', '0 */15 * * * *', $$
	SELECT d.user_id AS id, d.delete_at AS due
	FROM "ScheduledDeletion" d JOIN "User" u ON u.id = d.user_id
	WHERE d.delete_at <= now() AND u.deleted_at IS NULL
	ORDER BY d.delete_at $$,
	$$ SELECT job_trigger('audit_anonymize', jsonb_build_object('user', $1->'id'), key => $1->>'id') $$,
	run_on_start => true, channel => 'account_deleted',
	description => 'Accounts whose grace period is over');

SELECT job_set_rule('scheduled_deletion', 'sessions', '"Session"', match => $$r.user_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('scheduled_deletion', 'api keys', '"ApiKey"', match => $$r.user_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('scheduled_deletion', 'oauth accounts', '"OAuthAccount"', match => $$r.user_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('scheduled_deletion', 'two factor', '"TwoFactor"', match => $$r.user_id = ($1->>'id')::uuid$$);
SELECT job_set_rule('scheduled_deletion', 'logins', '"LoginEvent"', action => 'anonymize',
	match => $$r.actor_id = ($1->>'id')::uuid$$,
	set => $$actor_ip = NULL, user_agent = NULL, metadata = r.metadata - 'email'$$);
SELECT job_set_rule('scheduled_deletion', 'user', '"User"', action => 'anonymize',
	match => $$r.id = ($1->>'id')::uuid$$,
	set => $$username = 'deleted_' || left(r.id::text, 8), email = NULL, avatar_url = NULL,
		preferred_locale = NULL, deleted_at = job_now()$$);
SELECT job_set_rule('scheduled_deletion', 'request', '"ScheduledDeletion"', match => $$r.user_id = ($1->>'id')::uuid$$);
