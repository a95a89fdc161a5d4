-- A schedule in a zone, from a time on: what comes is later than that, in its
-- order, and no more than was asked for.
SELECT count(*) <= 5 AND coalesce(min(run_at) > $3::timestamptz, true) AND count(DISTINCT run_at) = count(*)
	AND array_agg(run_at) IS NOT DISTINCT FROM array_agg(run_at ORDER BY run_at)
FROM job_next_runs($1, $2, $3::timestamptz, 5) AS n (run_at)
