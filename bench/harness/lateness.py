"""
(a) From the due time to started_at, with 1, 20 and 200 jobs due at once.

Minute by minute in turn: pg_cron's jobs are due at second 0 (its only
granularity before 1.5), pg_janitor's every other second from 10 to 50, when
pg_cron has long finished.  Both sides' own records are compared with the due
time: job_execution.started_at with scheduled_for, cron.job_run_details.
start_time with the full minute.
"""

import time

from .report import Row, percentile, spread
from .sides import TITLES, next_minute, sleep_until

SIZES = (1, 20, 200)
JUDGED = 20                     # the size the target speaks of
MEDIAN_MS, P99_MS = 4.0, 20.0
TURNS = "10-50/2 * * * * *"
TURNS_A_MINUTE = 21
SHORT_WAIT = 15                 # seconds --short waits for a full minute
LEAD = 4                        # seconds between defining and the first due


def measure(plan, report):
    for size in SIZES:
        samples, due = _in_seconds(plan, size) if plan.short \
            else _in_minutes(plan, size)
        report.rows.append(Row(
            f"(a) {size} due at once: start after due, ms, median / p99 / max",
            *(spread(samples.get(title)) for title in TITLES),
            f"<= {MEDIAN_MS:g} / {P99_MS:g}" if size == JUDGED else ""))
        if plan.janitor:
            _judge(report, size, samples[plan.janitor.title], due)


def _in_minutes(plan, size):
    """({title: lateness in ms}, occurrences of pg_janitor's jobs)."""
    start = next_minute(LEAD)
    end = start + 60 * plan.lateness_minutes
    # A full minute that comes before `start` is counted on neither side.
    if plan.cron:
        plan.cron.define("a", size, "* * * * *", "SELECT 1")
    if plan.janitor:
        plan.janitor.define("a", size, TURNS, "SELECT 1")
    sleep_until(end - 6)        # leaves time to define the next jobs
    samples = {side.title: side.lateness("a", start) for side in plan.sides()}
    for side in plan.sides():
        side.drop("a")
    return samples, size * plan.lateness_minutes * TURNS_A_MINUTE


def _in_seconds(plan, size):
    """The short form: every second is a turn of pg_janitor."""
    samples = {}
    if plan.janitor:
        plan.janitor.define("a", size, "* * * * * *", "SELECT 1")
        start = int(time.time()) + 2
        sleep_until(start + plan.lateness_seconds - 0.3)
        samples[plan.janitor.title] = plan.janitor.lateness("a", start)
        plan.janitor.drop("a")
    start = next_minute(1)
    if plan.cron and size == JUDGED and start - time.time() < SHORT_WAIT:
        plan.cron.define("a", size, "* * * * *", "SELECT 1")
        sleep_until(start + 1.5)
        samples[plan.cron.title] = plan.cron.lateness("a", start)
        plan.cron.drop("a")
    return samples, size * plan.lateness_seconds


def _judge(report, size, samples, due):
    if len(samples) != due:
        report.notes.append(f"(a) {size} due at once: {len(samples):,} of "
                            f"{due:,} occurrences ran")
    if size == JUDGED:
        median, p99 = percentile(samples, 50), percentile(samples, 99)
        report.judge(f"(a) lateness with {size} due at once: median <= "
                     f"{MEDIAN_MS:g} ms, p99 <= {P99_MS:g} ms",
                     f"{median:.2f} ms, {p99:.2f} ms, "
                     f"{len(samples):,} of {due:,} occurrences ran",
                     median <= MEDIAN_MS and p99 <= P99_MS
                     and len(samples) == due)
