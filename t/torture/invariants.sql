-- What must hold whatever happened, as far as the ledger and the marks
-- show them, in one database whose queue has drained.
--
-- torture.violations(max_workers) has one row for each violation; no row is
-- what is to come out.

CREATE INDEX ON job_execution (retry_of);
CREATE INDEX ON job_execution (parent_id);
CREATE INDEX ON torture.marks (execution_id);
CREATE INDEX ON torture.marks (job_name);

CREATE OR REPLACE VIEW torture.runs AS
	SELECT e.*, d.max_attempts, d.on_failure, d.max_running,
		j.marks, j.period, j.first, j.stop,
		e.status = 'interrupted' AND e.sqlstate = '57P02' AS crashed,
		e.reason = 'schedule' AND e.retry_of IS NULL AS occurrence
	FROM job_execution e
	JOIN job_definition d ON d.name = e.job_name
	LEFT JOIN torture.jobs j ON j.name = e.job_name;

-- Everything that follows from something: executions and entries alike.
CREATE OR REPLACE VIEW torture.followers AS
	SELECT id, job_name, reason, attempt, conflicts, retry_of, parent_id
	FROM job_execution WHERE reason IN ('retry', 'after', 'failure')
	UNION ALL
	SELECT -id, job_name, reason, attempt, conflicts, retry_of, parent_id
	FROM job_queue WHERE reason IN ('retry', 'after', 'failure');

-- What became of the rows of retention jobs: fed, still there, recorded.
CREATE OR REPLACE FUNCTION torture.there(relation text, expired boolean) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM torture.%I WHERE (at < %L) = %L',
		relation, now() - interval '1 day', expired)
		|| CASE WHEN expired AND relation = 'rows_3' THEN ' AND NOT done' ELSE '' END INTO n;
	RETURN n;
END $$;

CREATE OR REPLACE VIEW torture.purged AS
	SELECT j.name, j.relation, f.gone,
		(SELECT coalesce(sum(records_processed), 0) FROM job_execution e WHERE e.job_name = j.name) AS recorded,
		f.missed
	FROM torture.jobs j,
		LATERAL (SELECT sum(expired - torture.there(f.relation, true)) AS gone,
						sum(kept - torture.there(f.relation, false)) AS missed
				 FROM (SELECT relation, sum(expired) AS expired, sum(kept) AS kept
					   FROM torture.fed GROUP BY 1) f
				 WHERE f.relation IN (j.relation, j.beside)) f
	WHERE j.relation IS NOT NULL;

-- Who was erased, by which execution; what is left of them.
CREATE OR REPLACE FUNCTION torture.erased(people text)
RETURNS TABLE (id bigint, stays boolean, erased_by bigint, things bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT p.*, (SELECT count(*) FROM torture.%I t WHERE t.person_id = p.id) FROM torture.%I p',
		replace(people, 'people', 'things'), people);
END $$;

CREATE OR REPLACE VIEW torture.erasures AS
	SELECT j.name, p.* FROM torture.jobs j, torture.erased(j.people) p WHERE j.people IS NOT NULL;

-- Whoever was erased beside his receipts.  Their digest is computed here once
-- more: HMAC-SHA-256, with the key of receipts, of an r, the job's name and the
-- person's key.
CREATE OR REPLACE FUNCTION torture.pad(secret bytea, with_byte int) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
	SELECT decode(string_agg(lpad(to_hex(CASE WHEN i < length(secret) THEN get_byte(secret, i) ELSE 0 END # with_byte), 2, '0'), '' ORDER BY i), 'hex')
	FROM generate_series(0, 63) i
$$;

CREATE OR REPLACE VIEW torture.receipts AS
	WITH keys AS MATERIALIZED
		(SELECT id AS key_id, torture.pad(secret, 54) AS inner_pad, torture.pad(secret, 92) AS outer_pad
		 FROM job_mask_key JOIN job_mask_secret USING (id) WHERE name = 'receipts')
	SELECT coalesce(p.name, r.job_name) AS job_name, p.id, p.erased_by, r.number, r.execution_id
	FROM (SELECT e.*, k.key_id,
				 sha256(outer_pad || sha256(inner_pad || convert_to(format(E'r%s\n%s', e.name, e.id), 'UTF8'))) AS subject
		  FROM torture.erasures e, keys k WHERE erased_by IS NOT NULL) p
	FULL JOIN job_receipt r ON r.job_name = p.name AND r.key_id = p.key_id AND r.subject = p.subject;

-- The most intervals [starts, ends) that hold at one instant.
CREATE OR REPLACE FUNCTION torture.peak(starts timestamptz[], ends timestamptz[]) RETURNS bigint
LANGUAGE sql STABLE AS $$
	SELECT max(n) FROM (
		SELECT sum(change) OVER (ORDER BY at, change) AS n
		FROM (SELECT unnest(starts) AS at, 1 AS change
			  UNION ALL SELECT unnest(ends), -1) c) s
$$;

CREATE OR REPLACE FUNCTION torture.violations(max_workers int)
RETURNS TABLE (rule text, detail text)
LANGUAGE sql STABLE AS $$
	-- 1: audit and effect agree
	SELECT '1 one mark for each success, none else',
		format('execution %s of %s is %s and has %s marks', coalesce(r.id, m.execution_id),
			coalesce(r.job_name, m.job_name), coalesce(r.status, 'unknown'), coalesce(m.n, 0))
	FROM (SELECT * FROM torture.runs WHERE marks) r
	FULL JOIN (SELECT execution_id, min(job_name) AS job_name, count(*) AS n
			   FROM torture.marks GROUP BY 1) m ON m.execution_id = r.id
	WHERE coalesce(m.n, 0) <> coalesce((r.status = 'succeeded')::int, 0)
	UNION ALL
	SELECT '1 the records add up', format('%s: %s recorded, %s marks', job_name, recorded, marks)
	FROM (SELECT job_name, sum(records_processed) AS recorded,
				 (SELECT count(*) FROM torture.marks m WHERE m.job_name = r.job_name) AS marks
		  FROM torture.runs r WHERE marks AND status = 'succeeded' GROUP BY 1) s
	WHERE recorded IS DISTINCT FROM marks
	UNION ALL
	SELECT '1 the mark is of this run', format('execution %s: mark of %s for %s, recorded as %s for %s',
		r.id, m.job_name, m.scheduled_for, r.job_name, r.scheduled_for)
	FROM torture.marks m JOIN torture.runs r ON r.id = m.execution_id
	WHERE m.job_name <> r.job_name OR m.scheduled_for IS DISTINCT FROM r.scheduled_for

	-- 2
	UNION ALL
	SELECT '2 no execution id twice', format('%s: %s rows, %s marks', id, max(n), max(m))
	FROM (SELECT id, count(*) AS n, 0 AS m FROM job_execution GROUP BY 1
		  UNION ALL SELECT execution_id, 0, count(*) FROM torture.marks GROUP BY 1) s
	GROUP BY id HAVING max(n) > 1 OR max(m) > 1

	-- 3: no occurrence lost, none twice
	UNION ALL
	SELECT '3 no occurrence twice', format('%s for %s: executions %s', job_name, scheduled_for,
		string_agg(id || ' ' || status, ', ' ORDER BY id))
	FROM torture.runs WHERE occurrence AND status <> 'skipped'
	GROUP BY job_name, scheduled_for HAVING count(*) > 1
	UNION ALL
	SELECT '3 every occurrence is one of the schedule', format('execution %s of %s for %s', id, job_name, scheduled_for)
	FROM torture.runs
	WHERE scheduled_for IS NOT NULL AND period IS NOT NULL
	  AND (scheduled_for < first OR scheduled_for >= stop
		   OR mod(extract(epoch FROM scheduled_for - first), extract(epoch FROM period)) <> 0)
	UNION ALL
	SELECT '3 every occurrence is one row or one counted skip',
		format('%s, every %s from %s to before %s: %s due, %s rows, %s skips', j.name, j.period, j.first, j.stop,
			e.due, r.rows, r.skips)
	FROM torture.jobs j,
		LATERAL (SELECT ceil(extract(epoch FROM j.stop - j.first) / extract(epoch FROM j.period)) AS due) e,
		LATERAL (SELECT count(*) FILTER (WHERE status <> 'skipped') AS rows,
						coalesce(sum(skipped), 0) AS skips
				 FROM torture.runs r WHERE r.job_name = j.name AND occurrence) r
	WHERE j.period IS NOT NULL AND (j.stop IS NULL OR e.due <> r.rows + r.skips)

	-- 4: limits
	UNION ALL
	SELECT '4 max_running', format('%s: %s at once, at most %s allowed', job_name,
		torture.peak(array_agg(started_at), array_agg(completed_at)), max(max_running))
	FROM torture.runs WHERE started_at IS NOT NULL AND completed_at IS NOT NULL
	GROUP BY job_name
	HAVING torture.peak(array_agg(started_at), array_agg(completed_at)) > max(max_running)
	UNION ALL
	SELECT '4 max_workers', format('%s at once, at most %s allowed', n, max_workers)
	FROM (SELECT torture.peak(array_agg(started_at), array_agg(completed_at)) AS n
		  FROM (SELECT started_at, completed_at FROM job_execution WHERE status IN ('succeeded', 'failed')
				UNION ALL SELECT started_at, completed_at FROM torture.everywhere) s) s
	WHERE n > max_workers

	-- 5
	UNION ALL
	SELECT '5 no run left open', format('execution %s of %s, started %s', id, job_name, started_at)
	FROM job_execution WHERE status = 'running'
	UNION ALL
	SELECT '5 nothing left waiting', format('entry %s of %s, %s, due %s', id, job_name, reason, run_at)
	FROM job_queue
	UNION ALL
	SELECT '5 an end has a time', format('execution %s of %s, %s', id, job_name, status)
	FROM job_execution WHERE status <> 'running' AND completed_at IS NULL

	-- 6: what follows
	UNION ALL
	SELECT '6 a retry follows a failure', format('%s of %s, attempt %s, retries %s: %s, attempt %s',
		f.id, f.job_name, f.attempt, f.retry_of, coalesce(p.status, 'no such row'), p.attempt)
	FROM torture.followers f LEFT JOIN job_execution p ON p.id = f.retry_of
	WHERE f.reason = 'retry'
	  AND (p.status IN ('failed', 'timed_out', 'interrupted') AND p.job_name = f.job_name
		   AND CASE WHEN f.attempt = p.attempt
					THEN f.conflicts = p.conflicts + 1 AND p.status = 'failed'
						 AND p.sqlstate IN ('40001', '40P01', '55P03')
						 OR f.conflicts = p.conflicts AND p.status = 'interrupted'
					ELSE f.attempt = p.attempt + 1 AND f.conflicts = 0 END) IS NOT TRUE
	UNION ALL
	SELECT '6 a failure has its retry', format('execution %s of %s, attempt %s, %s %s: %s retries, not %s',
		id, job_name, attempt, status, sqlstate, n, expected)
	FROM (SELECT r.*,
			(SELECT count(*) FROM torture.followers f WHERE f.reason = 'retry' AND f.retry_of = r.id) AS n,
			CASE WHEN status = 'interrupted' AND NOT crashed AND job_name NOT LIKE 'steps%' THEN 1
				 WHEN status = 'failed' AND failed_records > 0 THEN 0
				 WHEN status = 'failed' AND sqlstate IN ('40001', '40P01', '55P03') AND conflicts < 3 THEN 1
				 WHEN status IN ('failed', 'timed_out', 'interrupted') AND attempt < max_attempts THEN 1
				 ELSE 0 END AS expected
		  FROM torture.runs r) s
	WHERE n <> expected
	  -- of a run with a key another one that waited under it takes the place
	  AND NOT (n = 0 AND job_name LIKE 'keyed%' AND
			   EXISTS (SELECT FROM job_execution e WHERE e.job_name = s.job_name AND e.id > s.id))
	UNION ALL
	SELECT '6 run_after follows a success', format('%s of %s after %s: %s', f.id, f.job_name, f.parent_id,
		coalesce(p.job_name || ' ' || p.status, 'no such row'))
	FROM torture.followers f JOIN job_definition d ON d.name = f.job_name
	LEFT JOIN job_execution p ON p.id = f.parent_id
	WHERE f.reason = 'after' AND (p.status = 'succeeded' AND p.job_name = d.run_after) IS NOT TRUE
	UNION ALL
	SELECT '6 a success has what runs after it', format('execution %s of %s has %s runs of %s', p.id, p.job_name, n, d.name)
	FROM job_definition d JOIN job_execution p ON p.job_name = d.run_after AND p.status = 'succeeded',
		LATERAL (SELECT count(*) AS n FROM torture.followers f
				 WHERE f.reason = 'after' AND f.parent_id = p.id AND f.job_name = d.name) f
	WHERE n <> 1
	UNION ALL
	SELECT '6 on_failure is told of each failure', format('execution %s of %s, %s: told %s times', id, job_name, status, n)
	FROM (SELECT r.*,
			(SELECT count(*) FROM torture.followers f
			 WHERE f.reason = 'failure' AND f.parent_id = r.id AND f.job_name = r.on_failure) AS n,
			status IN ('failed', 'timed_out') OR crashed AS bad
		  FROM torture.runs r WHERE on_failure IS NOT NULL AND reason <> 'failure') s
	WHERE n <> bad::int
	UNION ALL
	SELECT '6 on_failure follows a failure', format('%s of %s for %s', f.id, f.job_name, f.parent_id)
	FROM torture.followers f LEFT JOIN torture.runs p ON p.id = f.parent_id
	WHERE f.reason = 'failure' AND (p.on_failure = f.job_name) IS NOT TRUE

	-- 7: triggers
	UNION ALL
	SELECT '7 a committed trigger is one row', format('execution %s, token %s: %s rows', t.execution_id, t.token, n)
	FROM torture.triggers t,
		LATERAL (SELECT count(*) AS n FROM job_execution e
				 WHERE e.id = t.execution_id AND e.reason = 'manual' AND e.retry_of IS NULL
				   AND (t.keyed OR e.args->>'token' = t.token)) e
	WHERE t.committed AND n <> 1
	UNION ALL
	SELECT '7 a token runs once', format('token %s: executions %s', token, ids)
	FROM (SELECT args->>'token' AS token, string_agg(id::text, ', ') AS ids, count(*) AS n
		  FROM job_execution WHERE reason = 'manual' AND retry_of IS NULL GROUP BY 1) s
	WHERE n > 1
	UNION ALL
	SELECT '7 a trigger rolled back leaves nothing', format('token %s: execution %s', t.token, e.id)
	FROM torture.triggers t JOIN job_execution e ON e.args->>'token' = t.token
	WHERE NOT t.committed

	-- 8: retention
	UNION ALL
	SELECT '8 what is recorded is what is gone', format('%s: %s recorded, %s gone', name, recorded, gone)
	FROM torture.purged WHERE recorded <> gone
	UNION ALL
	SELECT '8 what has not expired is there', format('%s: %s rows missing', name, missed)
	FROM torture.purged WHERE missed <> 0
	UNION ALL
	SELECT '8 what is archived is what is gone', format('%s archived, %s gone', n, gone)
	FROM torture.purged, (SELECT count(*) AS n FROM torture.archive_4) a
	WHERE relation = 'rows_4' AND n <> gone
	UNION ALL
	SELECT '8 nothing is done that has not expired', format('%s rows', count(*))
	FROM torture.rows_3 WHERE done AND at > now() - interval '1 day' HAVING count(*) > 0
	UNION ALL
	SELECT '8 each retention job had something to do', format('%s has handled nothing', name)
	FROM torture.purged WHERE coalesce(gone, 0) = 0

	-- 9: items
	UNION ALL
	SELECT '9 who is recorded is who is erased', format('execution %s of %s: %s recorded, %s erased',
		coalesce(e.id, p.erased_by), coalesce(e.job_name, p.name), e.records_processed, p.n)
	FROM (SELECT e.* FROM job_execution e JOIN torture.jobs j ON j.name = e.job_name WHERE j.people IS NOT NULL) e
	FULL JOIN (SELECT name, erased_by, count(*) AS n FROM torture.erasures WHERE erased_by IS NOT NULL GROUP BY 1, 2) p
		ON p.erased_by = e.id AND p.name = e.job_name
	WHERE coalesce(e.records_processed, 0) <> coalesce(p.n, 0)
	UNION ALL
	SELECT '9 nobody is erased by halves', format('%s: %s, erased by %s, has %s things', name, id, erased_by, things)
	FROM torture.erasures WHERE things <> CASE WHEN erased_by IS NULL THEN 3 ELSE 0 END
	UNION ALL
	SELECT '9 who failed is who cannot be erased', format('%s: %s, %s', f.job_name, f.item_key, f.error_message)
	FROM job_item_failure f LEFT JOIN torture.erasures p ON p.name = f.job_name AND p.id = f.item_key::bigint AND p.stays
	WHERE p.id IS NULL
	UNION ALL
	SELECT '9 who is erased has one receipt, of the run that did it',
		format('%s: %s, erased by %s: receipts %s', job_name, coalesce(id::text, 'nobody'), min(erased_by),
			string_agg(format('%s of %s', number, execution_id), ', '))
	FROM torture.receipts
	GROUP BY job_name, id, CASE WHEN id IS NULL THEN number END
	HAVING count(*) > 1 OR bool_and(erased_by = execution_id) IS NOT TRUE
	UNION ALL
	SELECT '9 the receipts of a job are one chain', format('%s: receipt %s: %s', job_name, broken_at, problem)
	FROM job_receipt_verify() WHERE NOT intact
	UNION ALL
	SELECT '9 each items job had something to do', format('%s has erased nobody', name)
	FROM torture.jobs j WHERE people IS NOT NULL AND NOT EXISTS (SELECT FROM torture.erasures p WHERE p.name = j.name AND erased_by IS NOT NULL)

	-- 10: job_metrics
	UNION ALL
	SELECT '10 the counters say what the rows say', format('%s: %s in rows, %s counted', job_name, r.ended, m.counted)
	FROM (SELECT d.name AS job_name,
				 ARRAY[count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'failed'),
					   count(*) FILTER (WHERE status = 'timed_out'), count(*) FILTER (WHERE status = 'cancelled'),
					   count(*) FILTER (WHERE status = 'interrupted'), coalesce(sum(e.skipped), 0),
					   count(e.retry_of), coalesce(sum(e.records_processed), 0)]::bigint[] AS ended
		  FROM job_definition d LEFT JOIN job_execution e ON e.job_name = d.name
		  GROUP BY 1) r
	JOIN (SELECT job_name, ARRAY[succeeded, failed, timed_out, cancelled, interrupted, skipped,
								 retries, records_processed] AS counted
		  FROM job_metrics) m USING (job_name)
	WHERE r.ended <> m.counted
$$;

-- What was looked at, in one line.
CREATE OR REPLACE VIEW torture.summary AS
	SELECT format('%s executions (%s), %s occurrences skipped, %s marks, %s triggers committed, %s rolled back; purged %s; erased %s; %s receipts',
		sum(n), string_agg(n || ' ' || status, ', ' ORDER BY n DESC),
		(SELECT sum(skipped) FROM job_execution),
		(SELECT count(*) FROM torture.marks),
		(SELECT count(*) FROM torture.triggers WHERE committed),
		(SELECT count(*) FROM torture.triggers WHERE NOT committed),
		(SELECT string_agg(format('%s: %s (%s of %s runs cut off)', name, gone,
				(SELECT count(*) FROM job_execution e WHERE e.job_name = name AND e.status NOT IN ('succeeded', 'skipped') AND records_processed > 0),
				(SELECT count(*) FROM job_execution e WHERE e.job_name = name AND e.status <> 'skipped')), ', ' ORDER BY name) FROM torture.purged),
		(SELECT string_agg(format('%s: %s of %s (%s of %s runs cut off)', name, erased, n,
				(SELECT count(*) FROM job_execution e WHERE e.job_name = name AND e.status NOT IN ('succeeded', 'failed', 'skipped') AND records_processed > 0),
				(SELECT count(*) FROM job_execution e WHERE e.job_name = name AND e.status <> 'skipped')), ', ' ORDER BY name)
		 FROM (SELECT name, count(*) AS n, count(erased_by) AS erased FROM torture.erasures GROUP BY 1) p),
		(SELECT count(*) FROM job_receipt))
	FROM (SELECT status, count(*) AS n FROM job_execution GROUP BY 1) s;
