-- Paths and a document: what is masked is the same a second time, and of the
-- same type.
SELECT job_mask_json(m, paths) = m AND (jsonb_typeof(m) = jsonb_typeof(document) OR m = 'null')
FROM (SELECT string_to_array($1, ',') AS paths, $2::jsonb AS document) i, job_mask_json(document, paths) m
