"""
(b) From the commit of job_trigger to the first statement of the run.

A client cannot see the instant of a commit to better than its own wake-up:
the run may start before the client learns that it committed.  So the commit
time comes from the server (track_commit_timestamp; taken before the commit
record is flushed, hence the flush is part of the figure), for a row inserted
by the same statement that triggers, and the start is the clock_timestamp() of
the run's first statement.  The client's view is given beside it.

pg_cron has nothing to compare: it cannot be told to run a job now.
"""

import random
import time

from .report import Row, percentile, spread

WARM_MEDIAN_MS, WARM_P99_MS, COLD_MS = 0.5, 3.0, 20.0
WARM_UP = 50                    # samples thrown away
COLD_WAIT = 30                  # seconds; idle processes leave after 1 s
JOB = """INSERT INTO bench_start
         SELECT job_execution_id(), clock_timestamp()"""
TRIGGER = """INSERT INTO bench_trigger SELECT job_trigger('b_1')
             RETURNING id"""
LATENCY = """
    SELECT extract(epoch FROM s.at) * 1000,
           extract(epoch FROM pg_xact_commit_timestamp(t.xmin)) * 1000,
           extract(epoch FROM e.started_at) * 1000
    FROM bench_trigger t JOIN bench_start s USING (id)
         JOIN job_execution e USING (id)
    WHERE t.id = """


def measure(plan, report):
    janitor = plan.janitor
    if not janitor:
        return
    janitor.restart(track_commit_timestamp="on")
    janitor.create_table("bench_start", "id bigint, at timestamptz")
    janitor.sql.query("CREATE TABLE bench_trigger (id bigint)")
    janitor.define("b", 1, None, JOB)
    if not plan.short:
        janitor.wait_until_settled()
    _report_warm(report, _warm(janitor, plan.warm_samples))
    janitor.restart(**{"track_commit_timestamp": "on",
                       "pg_janitor.worker_idle_timeout": "'1s'"})
    _report_cold(report, _cold(janitor, plan.cold_samples))
    janitor.drop("b")
    janitor.restart()


def _warm(janitor, count):
    samples = []
    for _ in range(WARM_UP + count):
        samples.append(_sample(janitor))
        time.sleep(random.uniform(0.002, 0.006))    # no beat with anything
    return samples[WARM_UP:]


def _cold(janitor, count):
    samples = []
    for _ in range(count):
        if not janitor.wait_until_cold(COLD_WAIT):
            break               # they do not leave: reported as too few
        time.sleep(0.1)
        samples.append(_sample(janitor))
    return samples


def _sample(janitor):
    """One trigger, all times in milliseconds since it was sent."""
    rows, before, after = janitor.sql.timed(TRIGGER)
    execution_id = rows[0][0]
    janitor.sql.query(f"SELECT job_wait({execution_id})")
    ((first, commit, started),) = janitor.sql.query(LATENCY + execution_id)
    return {"from_commit": float(first) - float(commit),
            "recorded": float(started) - float(commit),
            "from_sending": float(first) - before * 1000,
            "from_answer": float(first) - after * 1000,
            "round_trip": (after - before) * 1000}


def _column(samples, name):
    return [sample[name] for sample in samples]


def _report_warm(report, samples):
    latency = _column(samples, "from_commit")
    report.rows += [
        Row("(b) warm: commit to first statement, ms, median / p99 / max",
            spread(latency, 3), target=f"<= {WARM_MEDIAN_MS:g} / {WARM_P99_MS:g}"),
        Row("(b) warm: commit to started_at, ms",
            spread(_column(samples, "recorded"), 3)),
        Row("(b) warm: client sends to first statement, ms",
            spread(_column(samples, "from_sending"), 3)),
        Row("(b) warm: client has its answer to first statement, ms",
            spread(_column(samples, "from_answer"), 3)),
        Row("(b) warm: round trip of the trigger itself, ms",
            spread(_column(samples, "round_trip"), 3)),
    ]
    median, p99 = percentile(latency, 50), percentile(latency, 99)
    report.judge(f"(b) warm trigger: median <= {WARM_MEDIAN_MS:g} ms, "
                 f"p99 <= {WARM_P99_MS:g} ms",
                 f"{median:.3f} ms, {p99:.3f} ms",
                 median <= WARM_MEDIAN_MS and p99 <= WARM_P99_MS)


def _report_cold(report, samples):
    if not samples:
        report.judge(f"(b) cold trigger: at most {COLD_MS:g} ms",
                     "its idle processes never left", False)
        return
    latency = _column(samples, "from_commit")
    report.rows.append(Row(
        "(b) cold: commit to first statement, ms, median / p99 / max",
        spread(latency), target=f"<= {COLD_MS:g}"))
    report.judge(f"(b) cold trigger: at most {COLD_MS:g} ms",
                 f"{max(latency):.2f} ms", max(latency) <= COLD_MS)
