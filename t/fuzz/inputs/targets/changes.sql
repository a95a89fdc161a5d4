-- Changes of a definition: what is accepted is still one job.
SELECT job_alter($1, $2::jsonb);
SELECT count(*) = 4 FROM job_definition d JOIN job_status s ON s.job_name = d.name
