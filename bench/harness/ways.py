"""
The ways to delete expired rows that are compared.  Each has the same calls:

    prepare(sql, table)		once the table is there; not measured
    run(sql, table)			returns a Result

Seconds are those of the delete itself: of a statement from sending it to its
answer, commit included; of a job of pg_janitor job_execution.duration, that
is from the moment its worker begins (planning, guards, every batch with its
commit, the record) to the record's transaction; of pg_cron end_time -
start_time of its own record.
"""

import time
from dataclasses import dataclass

from .sides import OWNER, next_minute, sleep_until, wait_for
from .tables import KEEP

LOOP_ROWS = 5000
CRON_TIMEOUT = 55


@dataclass
class Result:
    seconds: float
    rows: int
    wal: int                    # bytes
    cut_off: bool = False       # a limit of time ended it

    @property
    def rate(self):
        return self.rows / self.seconds


class Way:
    title = None

    def prepare(self, sql, table):
        pass

    def run(self, sql, table):
        before = _wal(sql)
        result = self._run(sql, table)
        result.wal = _wal(sql) - before
        return result

    def _run(self, sql, table):
        raise NotImplementedError


class Plain(Way):
    title = "one DELETE"

    def _run(self, sql, table):
        _, before, after = sql.timed(
            f"DELETE FROM {table.name} "
            f"WHERE created_at < now() - interval '{KEEP}'")
        return Result(after - before, table.expired, 0)


class Loop(Way):
    """
    What people write, in its fastest form: with id IN (SELECT id ...) it takes
    almost three times as long.
    """

    title = f"loop, LIMIT {LOOP_ROWS}"

    def __init__(self, at_most=None):
        self._at_most = at_most         # seconds; then it is stopped

    def prepare(self, sql, table):
        sql.query(f"""
            CREATE OR REPLACE PROCEDURE log_loop(at_most float8)
            LANGUAGE plpgsql AS $$
            DECLARE n bigint; started timestamptz := clock_timestamp();
            BEGIN
                LOOP
                    DELETE FROM {table.name} WHERE ctid = ANY (ARRAY(
                        SELECT ctid FROM {table.name}
                        WHERE created_at < now() - interval '{KEEP}'
                        LIMIT {LOOP_ROWS}));
                    GET DIAGNOSTICS n = ROW_COUNT;
                    COMMIT;
                    EXIT WHEN n = 0;
                    EXIT WHEN clock_timestamp() > started + at_most * interval '1 s';
                END LOOP;
            END $$""")

    def _run(self, sql, table):
        _, before, after = sql.timed(f"CALL log_loop({self._at_most or 'NULL'})")
        left = int(sql.value(f"SELECT count(*) FROM {table.name} "
                             f"WHERE created_at < now() - interval '{KEEP}'"))
        return Result(after - before, table.expired - left, 0, left > 0)


class Cron(Way):
    """pg_cron with the plain DELETE as its command."""

    title = "pg_cron, one DELETE"

    def _run(self, sql, table):
        start = next_minute(3)
        before = sql.value("SELECT coalesce(max(runid), 0) FROM cron.job_run_details")
        sql.query(f"SELECT cron.schedule_in_database('log', '* * * * *', "
                  f"$$DELETE FROM {table.name} "
                  f"WHERE created_at < now() - interval '{KEEP}'$$, "
                  f"current_database(), '{OWNER}')")
        sleep_until(start)
        done = wait_for(sql, CRON_TIMEOUT, "SELECT count(*) > 0 "
                        f"FROM cron.job_run_details WHERE runid > {before} "
                        "AND end_time IS NOT NULL", 0.25)
        sql.query("SELECT cron.unschedule(jobid) FROM cron.job")   # of another role
        if not done:
            raise RuntimeError("pg_cron has not run its job")
        status, seconds, message = sql.query(
            "SELECT status, extract(epoch FROM end_time - start_time), "
            f"return_message FROM cron.job_run_details WHERE runid > {before} "
            "ORDER BY runid LIMIT 1")[0]
        if status != "succeeded":
            raise RuntimeError(f"pg_cron: {message}")
        return Result(float(seconds), table.expired, 0)


class Partman(Way):
    """pg_partman's retention: it drops, and does not count."""

    title = "pg_partman"

    def _run(self, sql, table):
        _, before, after = sql.timed("SELECT partman.run_maintenance('public.log')")
        left = int(sql.value(f"SELECT count(*) FROM {table.name}"))
        return Result(after - before, table.rows - left, 0)


class Job(Way):
    """pg_janitor."""

    _serial = 0

    def __init__(self, title="pg_janitor", **options):
        self.title = title
        self._options = options
        self.execution = None           # id of the last run

    def prepare(self, sql, table):
        Job._serial += 1
        self.name = f"bench_{Job._serial}"
        options = "".join(f", {name} => {_literal(value)}"
                          for name, value in self._options.items())
        sql.query(f"SELECT job_schedule_retention('{self.name}', NULL, "
                  f"'{table.name}', 'created_at', '{KEEP}', "
                  f"owner => '{OWNER}'{options})")
        # a worker that is there, as after the last occurrence of any job
        sql.query(f"SELECT job_schedule('bench_warm', NULL, 'SELECT 1', "
                  f"owner => '{OWNER}')")
        warm = sql.value("SELECT job_trigger('bench_warm')")
        sql.query(f"SELECT job_wait({warm})")

    def _run(self, sql, table):
        self.execution = int(sql.value(f"SELECT job_trigger('{self.name}')"))
        sql.query(f"SELECT job_wait({self.execution}, '15 min')")
        status, seconds, rows, message = sql.query(
            "SELECT status, extract(epoch FROM duration), records_processed, "
            "coalesce(error_message, detail) FROM job_execution "
            f"WHERE id = {self.execution}")[0]
        if status != "succeeded" or int(rows) != table.expired:
            raise RuntimeError(f"{self.title}: {status}, {rows} rows, not "
                               f"{table.expired}: {message}")
        return Result(float(seconds), int(rows), 0)


def _wal(sql):
    return int(sql.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


def _literal(value):
    return f"'{value}'" if isinstance(value, str) else str(value).lower()
