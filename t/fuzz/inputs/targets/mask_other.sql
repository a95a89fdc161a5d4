-- A unit of time and a zone, an address, a number: a second time nothing
-- changes, and no mask adds anything.
SELECT job_mask_date(t.m, $1, $2) = t.m AND t.m <= t.value
	AND job_mask_ip(a.m, 24, 48) = a.m AND job_mask_number(n.m, 10) = n.m AND n.m <= n.value
FROM (SELECT value, job_mask_date(value, $1, $2) AS m FROM (VALUES (timestamptz '2024-02-29 12:34:56.789+00')) v (value)) t,
	(SELECT job_mask_ip($3::inet, 24, 48) AS m) a,
	(SELECT value, job_mask_number(value, 10) AS m FROM (SELECT $4::numeric AS value) v) n
