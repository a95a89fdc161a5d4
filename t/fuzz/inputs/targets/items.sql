-- The items of a job, and what is done with each: kept as they were written.
SELECT job_schedule_items('new', NULL, $1, command => $2);
SELECT items = $1 AND command = $2 FROM job_definition WHERE name = 'new'
