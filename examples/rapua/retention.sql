-- Purchases that were begun and never paid: gone after a week. Completed ones
-- are the books, cancelled ones are kept as well. At midnight, in UTC. Running
-- this again changes nothing.

SELECT job_schedule_retention('stale_credit_purchases', '@daily',
	'credit_purchases', 'created_at', '7 days',
	filter => $$r.status IN ('pending', 'failed')$$,
	description => 'Purchases begun or failed more than a week ago');
