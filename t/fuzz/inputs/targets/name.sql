-- A job's name, and its time zone: what is accepted is found under it.
SELECT job_schedule($2, '0 3 * * *', 'SELECT 1', time_zone => $1);
SELECT job_erasure_warning($2) IS NULL AND (SELECT count(*) > 0 FROM job_why($2))
