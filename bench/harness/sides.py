"""
The two sides: how each is set up, given jobs, and asked what it ran.

Jobs of one measurement share a prefix: job `a_17` is the 17th of `a`.
"""

import time

from .cluster import DATABASE, Cluster

TITLES = ("pg_janitor", "pg_cron")
DEFINED_AT_ONCE = 5000
SETTLED_AFTER = 61              # seconds
OWNER = "jobs"                  # an ordinary role that all jobs run as


class Side:
    title = None                # also the word in its processes' names
    settings = {}

    def __init__(self, bindir, base):
        self.cluster = Cluster(self.title, bindir, base, self.settings)
        self.sql = None

    def create(self):
        self.cluster.create()
        self.cluster.start()
        self.sql = self.cluster.connect()
        self.sql.query(f"CREATE EXTENSION {self.title}")
        self.sql.query(f"CREATE ROLE {OWNER} LOGIN")
        self.create_table("bench_written",
                          "at timestamptz DEFAULT clock_timestamp()")

    def restart(self, **more):
        """Again, with more settings until the next restart."""
        self.disconnect()
        self.cluster.stop()
        self.cluster.start(**more)
        self.sql = self.cluster.connect()

    def disconnect(self):
        if self.sql:
            self.sql.close()
            self.sql = None

    def define(self, prefix, count, schedule, command):
        """
        count jobs; a schedule None: on demand only.  In one transaction as
        long as each of them can hold a lock of its own (both sides alike).
        """
        for first in range(1, count + 1, DEFINED_AT_ONCE):
            last = min(count, first + DEFINED_AT_ONCE - 1)
            self.sql.query(f"SELECT {self._definition(prefix, schedule, command)} "
                           f"FROM generate_series({first}, {last}) i")

    def _definition(self, prefix, schedule, command):
        """SQL that defines job number i."""
        raise NotImplementedError

    def create_table(self, name, columns):
        """One that jobs insert into."""
        self.sql.query(f"CREATE TABLE {name} ({columns})")
        self.sql.query(f"GRANT INSERT ON {name} TO {OWNER}")

    def checkpoint(self):
        """So that none starts in the middle of a measurement."""
        self.sql.query("CHECKPOINT")


class Janitor(Side):
    title = "pg_janitor"
    settings = {"shared_preload_libraries": "'pg_janitor'"}
    never = "0 0 0 1 1 *"

    def _definition(self, prefix, schedule, command):
        when = "NULL" if schedule is None else f"$${schedule}$$"
        return (f"job_schedule('{prefix}_' || i, {when}, $${command}$$, "
                f"owner => '{OWNER}')")

    def drop(self, prefix):
        self.sql.query("SELECT job_unschedule(name) FROM job_definition "
                       f"WHERE starts_with(name, '{prefix}_')")

    def last_id(self):
        return int(self.sql.value(
            "SELECT coalesce(max(id), 0) FROM job_execution"))

    def trigger_all(self, prefix, jobs, times):
        """All in one transaction."""
        self.sql.query(f"SELECT job_trigger('{prefix}_' || j) "
                       f"FROM generate_series(1, {times}) t, "
                       f"generate_series(1, {jobs}) j")

    def lateness(self, prefix, start):
        """Milliseconds of each occurrence that was due at `start` or later."""
        return _floats(self.sql.query(f"""
            SELECT extract(epoch FROM started_at - scheduled_for) * 1000
            FROM job_execution
            WHERE starts_with(job_name, '{prefix}_') AND status = 'succeeded'
              AND scheduled_for >= to_timestamp({start})"""))

    def wait_until_done(self, prefix, timeout):
        """Until nothing of these jobs waits or runs; False: it still does."""
        return wait_for(self.sql, timeout, f"""
            SELECT NOT EXISTS (SELECT FROM job_queue
                               WHERE starts_with(job_name, '{prefix}_'))
               AND NOT EXISTS (SELECT FROM job_execution
                               WHERE completed_at IS NULL
                                 AND status <> 'skipped')""", 0.25)

    def wait_until_settled(self):
        """
        Until the server has been up for a minute: claims are flushed until
        then, lest a job that crashes the server be run again for ever.
        """
        wait_for(self.sql, SETTLED_AFTER + 10, f"""
            SELECT now() > pg_postmaster_start_time()
                           + interval '{SETTLED_AFTER} s'""", 0.5)

    def wait_until_cold(self, timeout):
        """Until no process of ours is connected to the database."""
        return wait_for(self.sql, timeout, """
            SELECT count(*) = 0 FROM pg_stat_activity
            WHERE backend_type IN ('pg_janitor scheduler',
                                   'pg_janitor worker')""", 0.02)


class Cron(Side):
    title = "pg_cron"
    settings = {
        "shared_preload_libraries": "'pg_cron'",
        "cron.use_background_workers": "on",
    }
    never = "0 0 1 1 *"

    def _definition(self, prefix, schedule, command):
        return (f"cron.schedule_in_database('{prefix}_' || i, $${schedule}$$, "
                f"$${command}$$, '{DATABASE}', '{OWNER}')")

    def drop(self, prefix):
        self.sql.query("DELETE FROM cron.job "
                       f"WHERE starts_with(jobname, '{prefix}_')")

    def last_id(self):
        return int(self.sql.value(
            "SELECT coalesce(max(runid), 0) FROM cron.job_run_details"))

    def lateness(self, prefix, start):
        """Milliseconds of each run that started at `start` or later."""
        return _floats(self.sql.query(f"""
            SELECT extract(epoch FROM start_time
                                      - date_trunc('minute', start_time)) * 1000
            FROM cron.job_run_details JOIN cron.job USING (jobid)
            WHERE starts_with(jobname, '{prefix}_') AND status = 'succeeded'
              AND start_time >= to_timestamp({start})"""))

    def wait_until_done(self, after_id, count, timeout):
        return wait_for(self.sql, timeout, f"""
            SELECT count(*) >= {count} FROM cron.job_run_details
            WHERE runid > {after_id} AND end_time IS NOT NULL""", 0.25)


def _floats(rows):
    return [float(value) for (value,) in rows]


def wait_for(sql, timeout, condition, pause):
    """Asks until it is true; False if it is not within timeout seconds."""
    deadline = time.monotonic() + timeout
    while sql.value(condition) != "t":
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def sleep_until(instant):
    """Sleeps until a unix time."""
    time.sleep(max(0.0, instant - time.time()))


def next_minute(lead):
    """Unix time of the next full minute that is at least `lead` s away."""
    return (int(time.time() + lead) // 60 + 1) * 60
