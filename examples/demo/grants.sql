-- The jobs are to be Barycenter's own: they run with its rights, not with a
-- superuser's. It may look at job_execution, the full record, too.

SELECT job_grant('barycenter', 'define');
SELECT job_grant('barycenter', 'observe');
