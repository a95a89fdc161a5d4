-- A job is defined, runs in a worker, and leaves its row.  psql stops at the
-- first error.

CREATE EXTENSION pg_janitor;
CREATE TABLE done (at timestamptz);
SELECT job_schedule('smoke', NULL, 'INSERT INTO done VALUES (now())');
CALL job_run('smoke');
DO $$
BEGIN
	ASSERT (SELECT count(*) FROM done) = 1, 'the job has not run';
	ASSERT (SELECT status FROM job_execution) = 'succeeded',
		'the run left no row that says so';
END
$$;
DROP EXTENSION pg_janitor;
