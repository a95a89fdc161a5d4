-- Rapua, a game platform: uploads, and the blocks that show them; purchases of
-- credits, one row from the moment somebody begins to pay.

CREATE SCHEMA rapua;
SET search_path = rapua, public;

CREATE TABLE blocks (id text PRIMARY KEY, data jsonb);

CREATE TABLE uploads
(
	id text PRIMARY KEY,
	original_url text NOT NULL,
	"timestamp" timestamptz NOT NULL DEFAULT now(),
	block_id text,				-- NULL: not assigned yet, which is no orphan
	storage text NOT NULL DEFAULT 'local',
	sizes text					-- [{"breakpoint": 400, "url": "..."}]
);

-- What is on the disk of the application, as the worker there last saw it.
CREATE TABLE disk_files (path text PRIMARY KEY, mtime timestamptz NOT NULL);

-- Files that no block mentions and that have been there for a while: one that
-- was uploaded a moment ago may belong to a block that is not saved yet.
CREATE FUNCTION orphan_files(site_url text, min_age interval DEFAULT '1 day')
RETURNS SETOF text LANGUAGE sql STABLE AS $$
	WITH ref AS (
		SELECT DISTINCT m[1] AS path
		FROM rapua.blocks b,
		LATERAL jsonb_path_query(b.data, 'strict $.** ? (@.type() == "string")') v,
		LATERAL regexp_matches(v #>> '{}', '(?:^|["''(\s])(?:' ||
			regexp_replace(site_url, '([.\\+*?\[^\]$(){}=!<>|:/#-])', '\\\1', 'g') ||
			')?(/static/uploads/\d{4}/\d{2}/\d{2}/[^"''()\s]+)', 'g') m
	)
	SELECT d.path FROM rapua.disk_files d LEFT JOIN ref r USING (path)
	WHERE r.path IS NULL AND d.mtime < now() - min_age ORDER BY 1
$$;

CREATE TABLE credit_purchases
(
	id varchar(36) PRIMARY KEY,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	user_id varchar(36) NOT NULL,
	credits int NOT NULL,
	amount_paid int NOT NULL,
	stripe_payment_id varchar(255),
	stripe_session_id varchar(255) UNIQUE NOT NULL,
	stripe_customer_id varchar(255),
	receipt_url varchar(500),
	status varchar(20) NOT NULL DEFAULT 'pending'
);
