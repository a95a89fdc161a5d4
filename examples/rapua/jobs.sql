-- Rapua's orphaned uploads. Rows go in the database; their files go where they
-- lie, by a worker there (handlers.py). A path is in the arguments of its run
-- before its row is gone, and both are one transaction: no crash between them
-- leaves a file that nobody knows of.

SELECT job_schedule_external('file_delete',
	description => 'Deletes one file of an upload', max_running => 4, retry_delay => '1 s');

SELECT job_schedule_external('disk_inventory',
	description => 'Lists the files on disk, removes directories that are empty');

-- Two steps in order; the second only if the first succeeded.
SELECT job_schedule('orphaned_uploads', '@daily', $$
	WITH gone AS (
		DELETE FROM uploads u
		WHERE u.block_id IS NOT NULL AND u.storage = 'local'
		  AND NOT EXISTS (SELECT FROM blocks b WHERE b.id = u.block_id)
		RETURNING *
	), files AS (
		SELECT original_url AS path FROM gone
		UNION ALL
		SELECT s ->> 'url' FROM gone, jsonb_array_elements(coalesce(sizes, '[]')::jsonb) s
	)
	SELECT count(job_trigger('file_delete', jsonb_build_object('path', path), key => md5(path))) FROM files;
	SELECT job_trigger('disk_inventory', key => 'daily');
$$, description => 'Uploads of blocks that are gone');

-- After an inventory: files that no block mentions at all.
SELECT job_schedule('orphaned_files', NULL, $$
	SELECT count(job_trigger('file_delete', jsonb_build_object('path', path), key => md5(path)))
	FROM orphan_files(job_arg('site_url')) path
$$, args => '{"site_url": "http://localhost:8090"}', run_after => 'disk_inventory');
