-- A hold and its predicate.
SELECT job_hold_place($1, $2);
SELECT count(*) = 1 FROM job_hold
