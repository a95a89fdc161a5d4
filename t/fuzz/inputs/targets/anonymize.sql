-- What a rule sets, and where: what is accepted can be looked at.
SELECT job_set_rule('keeps', 'new', 'letter', action => 'anonymize', set => $1, expired_when => $2);
SELECT count(*) = 2 FROM job_preview('keeps')
