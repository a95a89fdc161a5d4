-- The jobs are to be Barycenter's own: they run with its rights, not with a
-- superuser's.

GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO barycenter;
GRANT SELECT ON job_execution TO barycenter;
