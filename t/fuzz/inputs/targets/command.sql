-- A command and its arguments: what is accepted is kept as it was written.
SELECT job_schedule('new', NULL, $2, args => $1::jsonb);
SELECT command = $2 AND args = $1::jsonb FROM job_definition WHERE name = 'new'
