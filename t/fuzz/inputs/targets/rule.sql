-- What a rule says: a column, a format, a condition.  What is accepted can be
-- looked at.
SELECT job_set_rule('keeps', 'new', 'letter', time_column => nullif($1, ''), keep => CASE WHEN $1 <> '' THEN interval '90 days' END,
	time_format => nullif($2, ''), filter => nullif($3, ''), expired_when => nullif($4, ''));
SELECT count(*) = 2 FROM job_preview('keeps')
