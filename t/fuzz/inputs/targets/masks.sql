-- Masks of text: a second time they change nothing, and the empty text stays.
SELECT job_mask_email(email) = email AND job_mask_hash(hash) = hash
	AND job_mask_name(name) = name AND job_mask_phone(phone) = phone
	AND job_mask_text(removed) = removed
	AND (email = '') = ($1 = '') AND (phone = '') = ($1 = '') AND (removed = '') = ($1 = '')
FROM (SELECT job_mask_email($1) AS email, job_mask_hash($1) AS hash, job_mask_name($1) AS name,
	job_mask_phone($1) AS phone, job_mask_text($1) AS removed) m
