"""
(c) How many recorded runs a second.

c1: a backlog: pg_janitor gets 100 triggers for each of 200 jobs in one
transaction; pg_cron, which cannot be triggered, 1,000 jobs due in the same
minute.  The rate is the number of runs over (last end - first start), both
from the side's own records.

c2: 1,000 jobs due every second for 15 s.  pg_cron's finest grain is a minute:
for it, how many of its 1,000 had started one second after they were due.
"""

import time
from statistics import median

from .machine import fdatasync_ms
from .report import ABSENT, Row
from .sides import next_minute, sleep_until

COMMANDS = (("SELECT 1", "SELECT 1"),
            ("one row written", "INSERT INTO bench_written DEFAULT VALUES"))
RATE = 5000
FDATASYNC_MS = 0.15             # up to which the target is meant
JOBS = 200
MANY = 1000                     # jobs due at once
TIMEOUT = 300                   # seconds for one backlog
CRON_TIMEOUT = 50               # it must be done before the next minute


def measure(plan, report):
    rates = {name: {"pg_janitor": [], "pg_cron": []} for name, _ in COMMANDS}
    starts = []                 # pg_cron: (started within 1 s, latest ms)
    flushes = []
    for _ in range(plan.throughput_rounds):
        for name, command in COMMANDS:
            flushes.append(fdatasync_ms(plan.base, plan.fdatasync_rounds))
            if plan.janitor:
                rates[name]["pg_janitor"].append(_backlog(plan, command))
            if plan.cron and not plan.short:
                rate, start = _cron_minute(plan.cron, command)
                rates[name]["pg_cron"].append(rate)
                if command == "SELECT 1":
                    starts.append(start)
    _report_rates(report, rates, median(flushes))
    every_second = _every_second(plan) if plan.janitor else None
    _report_every_second(report, plan, every_second, starts)


def _backlog(plan, command):
    """Runs a second of the backlog."""
    janitor, before = plan.janitor, plan.janitor.last_id()
    janitor.define("c", JOBS, None, command)
    janitor.checkpoint()
    janitor.trigger_all("c", JOBS, plan.triggers_per_job)
    if not janitor.wait_until_done("c", TIMEOUT):
        raise RuntimeError(f"the backlog was not done after {TIMEOUT} s")
    count, seconds = janitor.sql.query(f"""
        SELECT count(*), extract(epoch FROM max(completed_at) - min(started_at))
        FROM job_execution
        WHERE id > {before} AND starts_with(job_name, 'c_')
          AND status = 'succeeded'""")[0]
    janitor.drop("c")
    if int(count) != JOBS * plan.triggers_per_job:
        raise RuntimeError(f"only {count} runs of the backlog succeeded")
    return int(count) / float(seconds)


def _cron_minute(cron, command):
    """1,000 minute jobs, once: (runs a second, (started in 1 s, latest ms))."""
    start = next_minute(8)
    before = cron.last_id()
    cron.define("c", MANY, "* * * * *", command)
    cron.checkpoint()
    sleep_until(start)
    cron.wait_until_done(before, MANY, CRON_TIMEOUT)
    cron.drop("c")
    count, seconds, soon, latest = cron.sql.query(f"""
        SELECT count(*), extract(epoch FROM max(end_time) - min(start_time)),
               count(*) FILTER (WHERE start_time < to_timestamp({start + 1})),
               extract(epoch FROM max(start_time) - to_timestamp({start}))
        FROM cron.job_run_details
        WHERE runid > {before} AND status = 'succeeded'""")[0]
    if int(count) == 0:
        raise RuntimeError(f"pg_cron ran none of its jobs in {CRON_TIMEOUT} s")
    return int(count) / float(seconds), (int(soon), float(latest) * 1000)


def _every_second(plan):
    """Per second that was due: (runs, distinct jobs, latest ms)."""
    janitor = plan.janitor
    janitor.define("s", MANY, "* * * * * *", "SELECT 1")
    start = int(time.time()) + 3
    end = start + plan.every_second_seconds
    sleep_until(end + 2)        # what is later than that was lost or skipped
    rows = janitor.sql.query(f"""
        SELECT count(started_at), count(DISTINCT job_name),
               coalesce(extract(epoch FROM max(started_at - due)) * 1000, 0)
        FROM generate_series(to_timestamp({start}), to_timestamp({end - 1}),
                             interval '1 s') due
             LEFT JOIN job_execution ON scheduled_for = due
                                    AND starts_with(job_name, 's_')
                                    AND status = 'succeeded'
        GROUP BY due ORDER BY due""")
    janitor.drop("s")
    return [(int(runs), int(jobs), float(late)) for runs, jobs, late in rows]


def _report_rates(report, rates, flush):
    for name, sides in rates.items():
        judged = name == COMMANDS[0][0]
        report.rows.append(Row(
            f"(c) backlog, {name}: recorded runs/s, median of rounds",
            _rate(sides["pg_janitor"]), _rate(sides["pg_cron"]),
            f">= {RATE:,} where fdatasync <= {FDATASYNC_MS:g} ms"
            if judged else ""))
    report.rows.append(Row("(c) fdatasync beside it, ms, median", f"{flush:.3f}",
                           f"{flush:.3f}"))
    measured = rates[COMMANDS[0][0]]["pg_janitor"]
    if measured:
        beyond = ("" if flush <= FDATASYNC_MS else
                  ", more than the target is meant for")
        report.judge(f"(c) at least {RATE:,} recorded runs/s of SELECT 1",
                     f"{median(measured):,.0f} runs/s, fdatasync "
                     f"{flush:.3f} ms{beyond}", median(measured) >= RATE)


def _rate(rates):
    if not rates:
        return ABSENT
    return (f"{median(rates):,.0f}  "
            f"({' '.join(f'{rate:,.0f}' for rate in rates)})")


def _report_every_second(report, plan, seconds, starts):
    due = MANY * plan.every_second_seconds
    ran = jobs = latest = soon = cron_latest = ABSENT
    if seconds:
        runs = sum(second[0] for second in seconds)
        fewest = min(second[1] for second in seconds)
        ran = f"{runs:,} of {due:,}"
        jobs = f"{fewest:,} of {MANY:,}"
        latest = f"{max(second[2] for second in seconds):,.0f}"
        report.judge(f"(c) {MANY:,} jobs due each second all run each second",
                     f"{ran}, in the worst second {jobs}",
                     runs == due and fewest == MANY)
    if starts:
        soon = f"{median(start[0] for start in starts):,.0f} of {MANY:,}"
        cron_latest = f"{max(start[1] for start in starts):,.0f}"
    report.rows += [
        Row(f"(c) {MANY:,} due every second, "
            f"{plan.every_second_seconds} s: occurrences run", ran,
            target="all"),
        Row("(c) of it: distinct jobs in the worst second "
            "(pg_cron: started 1 s after a full minute)", jobs, soon,
            f"{MANY:,}"),
        Row("(c) of it: latest start after due, ms", latest, cron_latest),
    ]
