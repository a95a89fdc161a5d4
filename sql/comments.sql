--
-- What the install script promises: everything is explained, nothing is open
-- that need not be.  Each query lists the offenders.
--
CREATE EXTENSION pg_janitor;

CREATE VIEW member AS
	SELECT d.classid, d.objid
	FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass
	  AND d.deptype = 'e' AND e.extname = 'pg_janitor';

-- tables, views and functions without a comment
SELECT c.oid::regclass
FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
WHERE c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;

SELECT p.oid::regprocedure
FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
WHERE obj_description(p.oid, 'pg_proc') IS NULL;

-- columns without a comment; four views have the columns of their tables
SELECT a.attrelid::regclass, a.attname
FROM member m JOIN pg_attribute a ON a.attrelid = m.objid AND m.classid = 'pg_class'::regclass
JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relname NOT IN ('job_runs', 'job_waiting', 'job_failed_items', 'job_receipts')
  AND col_description(a.attrelid, a.attnum) IS NULL
ORDER BY 1, 2;

SELECT v.view, v.columns = t.columns AS same
FROM (VALUES ('job_runs', 'job_execution'), ('job_waiting', 'job_queue'), ('job_failed_items', 'job_item_failure'), ('job_receipts', 'job_receipt')) n (v, t),
LATERAL (SELECT n.v AS view, array_agg(attname ORDER BY attnum) AS columns
		 FROM pg_attribute WHERE attrelid = n.v::regclass AND attnum > 0) v,
LATERAL (SELECT array_agg(attname ORDER BY attnum) AS columns
		 FROM pg_attribute WHERE attrelid = n.t::regclass AND attnum > 0) t;

-- comments end as sentences do
SELECT objoid, objsubid, description FROM pg_description d
JOIN member m ON m.classid = d.classoid AND m.objid = d.objoid
WHERE description !~ '[.?]$';

-- names
SELECT p.proname FROM member m
JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
WHERE p.proname !~ '^job_';

-- what PUBLIC may call and read: what the views and commands of jobs need
SELECT p.oid::regprocedure AS open
FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass,
LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE a.grantee = 0
ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";

SELECT c.oid::regclass AS open, a.privilege_type
FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass,
LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
WHERE a.grantee = 0
ORDER BY c.relname COLLATE "C";

-- no SECURITY DEFINER, no triggers, no row security (but on the secrets, which
-- no dump has to read), views are barriers
SELECT p.oid::regprocedure FROM member m
JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
WHERE p.prosecdef OR p.proconfig IS NOT NULL;

SELECT t.tgname FROM member m
JOIN pg_trigger t ON t.tgrelid = m.objid AND m.classid = 'pg_class'::regclass;

SELECT c.oid::regclass FROM member m
JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
WHERE (c.relrowsecurity AND c.relname <> 'job_mask_secret')
   OR (c.relkind = 'v' AND NOT coalesce('security_barrier=true' = ANY (c.reloptions), false));

-- heap access knows plain immediate indexes only
SELECT i.indexrelid::regclass FROM member m
JOIN pg_index i ON i.indrelid = m.objid AND m.classid = 'pg_class'::regclass
WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL OR NOT i.indimmediate;

-- what a dump carries
SELECT c.relname, cond.filter
FROM pg_extension e,
LATERAL unnest(e.extconfig, e.extcondition) AS cond (oid, filter)
JOIN pg_class c ON c.oid = cond.oid
WHERE e.extname = 'pg_janitor'
ORDER BY c.relname COLLATE "C";

-- what no dump carries; and of what is carried, what is left out
SELECT c.oid::regclass AS not_dumped
FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass,
	 pg_extension x
WHERE x.extname = 'pg_janitor' AND c.relkind IN ('r', 'S') AND c.oid <> ALL (x.extconfig)
ORDER BY c.relname COLLATE "C";

SELECT config.oid::regclass AS dumped, config.condition
FROM pg_extension x, unnest(x.extconfig, x.extcondition) config (oid, condition)
WHERE x.extname = 'pg_janitor' AND config.condition <> '';

-- arguments are columns, with the defaults of the columns: what job_schedule()
-- writes if told nothing is what a plain INSERT would
SELECT arg AS argument_without_a_column
FROM pg_proc p, unnest(p.proargnames) arg
WHERE p.proname = 'job_schedule' AND arg NOT IN ('job_name', 'options')
  AND arg NOT IN (SELECT attname FROM pg_attribute
				  WHERE attrelid = 'job_definition'::regclass AND attnum > 0);

SET client_min_messages = error;	-- it will run as a superuser
SELECT job_schedule('by function', NULL, 'SELECT 1', settings => '{"search_path": ""}');
RESET client_min_messages;
INSERT INTO job_definition (name, command, settings)
	VALUES ('by hand', 'SELECT 1', '{"search_path": ""}');
SELECT a.key, a.value AS by_function, b.value AS by_hand
FROM job_definition x, jsonb_each(to_jsonb(x)) a,
	 job_definition y, jsonb_each(to_jsonb(y)) b
WHERE x.name = 'by function' AND y.name = 'by hand' AND a.key = b.key
  AND a.value IS DISTINCT FROM b.value
  AND a.key NOT IN ('name', 'created_at', 'updated_at')
  AND a.key NOT IN ('home', 'home_database', 'environment');	-- by hand none is armed

DROP VIEW member;
DROP EXTENSION pg_janitor;
