-- The jobs that the caller may see, as Prometheus reads them: counters from
-- job_metrics, what is now from job_status.
--
--     psql -XAtq -d app -f metrics.sql
--
-- For the textfile collector of node_exporter, from cron or a timer:
--
--     psql -XAtq -d app -f metrics.sql > dir/app.$$ && mv dir/app.$$ dir/app.prom

WITH label AS (
	SELECT job_name, format('job="%s",kind="%s"',
		replace(replace(job_name, E'\\', E'\\\\'), '"', E'\\"'), kind) AS label
	FROM job_status
), sample AS (
	SELECT s.* FROM job_metrics m JOIN label l USING (job_name), LATERAL (VALUES
		('pg_janitor_runs_total', l.label || ',status="succeeded"', m.succeeded::numeric),
		('pg_janitor_runs_total', l.label || ',status="failed"', m.failed),
		('pg_janitor_runs_total', l.label || ',status="timed_out"', m.timed_out),
		('pg_janitor_runs_total', l.label || ',status="cancelled"', m.cancelled),
		('pg_janitor_runs_total', l.label || ',status="interrupted"', m.interrupted),
		('pg_janitor_skipped_total', l.label, m.skipped),
		('pg_janitor_retries_total', l.label, m.retries),
		('pg_janitor_records_total', l.label, m.records_processed),
		('pg_janitor_failed_records_total', l.label, m.failed_records),
		('pg_janitor_run_seconds_total', l.label, m.run_seconds::numeric)) s (name, label, value)
	UNION ALL
	SELECT s.* FROM job_status j JOIN label l USING (job_name), LATERAL (VALUES
		('pg_janitor_running', l.label, j.running::numeric),
		('pg_janitor_waiting', l.label, j.waiting),
		('pg_janitor_consecutive_failures', l.label, j.consecutive_failures),
		('pg_janitor_overdue', l.label, j.overdue::int),
		('pg_janitor_last_success_seconds', l.label, round(extract(epoch FROM j.last_success)::numeric, 3)),
		('pg_janitor_health', l.label || format(',health="%s"', j.health), 1)) s (name, label, value)
), metric (place, name, type, help) AS (VALUES
	(1, 'pg_janitor_runs_total', 'counter', 'Runs that have ended, by how.'),
	(2, 'pg_janitor_skipped_total', 'counter', 'Occurrences of the schedule that were skipped.'),
	(3, 'pg_janitor_retries_total', 'counter', 'Runs that were another attempt.'),
	(4, 'pg_janitor_records_total', 'counter', 'Records processed.'),
	(5, 'pg_janitor_failed_records_total', 'counter', 'Records that could not be processed.'),
	(6, 'pg_janitor_run_seconds_total', 'counter', 'Time that runs have taken.'),
	(7, 'pg_janitor_running', 'gauge', 'Runs in progress.'),
	(8, 'pg_janitor_waiting', 'gauge', 'Runs that wait, but for the next occurrence.'),
	(9, 'pg_janitor_consecutive_failures', 'gauge', 'Failures since the last success.'),
	(10, 'pg_janitor_overdue', 'gauge', 'Is a run due for over a minute that has not started?'),
	(11, 'pg_janitor_last_success_seconds', 'gauge', 'When the last success ended, since 1970.'),
	(12, 'pg_janitor_health', 'gauge', 'The health of the job, as job_status has it.')
)
SELECT line FROM (
	SELECT place, 1 AS part, NULL AS label, format(E'# HELP %s %s\n# TYPE %1$s %s', name, help, type) AS line
	FROM metric
	UNION ALL
	SELECT m.place, 2, s.label, format('%s{%s} %s', s.name, s.label, s.value)
	FROM sample s JOIN metric m USING (name) WHERE s.value IS NOT NULL
) l ORDER BY place, part, label COLLATE "C";
