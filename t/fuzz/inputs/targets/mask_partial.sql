-- Of a masked value there are as many characters, and the same a second time.
SELECT job_mask_partial(m, keep_left, $3, keep_right) = m AND length(m) = length($4)
FROM (SELECT $1::int AS keep_left, $2::int AS keep_right) k,
	job_mask_partial($4, keep_left, $3, keep_right) m
