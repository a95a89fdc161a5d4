"""
(d) What jobs cost that are not due: CPU and wake-ups of all processes of a
side, with 0, 10,000 and 100,000 jobs defined, both sides in the same minute.

A wake-up is a voluntary context switch.  Processes are found below the
postmaster by their title, again and again, so that one that comes and goes
is counted as well.  The measurement begins when pg_janitor's scheduler has
left (worker_idle_timeout is 1 s here, only to shorten that wait).  The last
measurement on these clusters: the jobs are not dropped.
"""

import os
import time

from .report import ABSENT, Row
from .sides import TITLES

WAKE_UPS = 1                    # a minute
LOOK_AGAIN = 0.25               # seconds between two looks at the processes
SETTLE = 3                      # seconds after the last process has left
LEAVE_TIMEOUT = 120
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def measure(plan, report):
    sides = plan.sides()
    for side in sides:
        more = {"pg_janitor.worker_idle_timeout": "'1s'"} \
            if side is plan.janitor else {}
        side.restart(**more)
    defined, last = 0, None
    for count in plan.idle_jobs:
        for side in sides:
            side.define(f"d{count}", count - defined, side.never, "SELECT 1")
            side.checkpoint()
        defined = count
        last = _both(plan, sides)
        _report(report, count, plan.idle_seconds, last)
    if plan.janitor and last:
        _judge(report, defined, plan.idle_seconds, last[plan.janitor.title])


def _both(plan, sides):
    """{title: (CPU in ms, wake-ups, processes seen)} over idle_seconds."""
    if plan.janitor and not plan.janitor.wait_until_cold(LEAVE_TIMEOUT):
        print("note: pg_janitor's idle processes have not left")
    for side in sides:
        side.disconnect()
    time.sleep(SETTLE)
    counters = [Counter(side) for side in sides]
    end = time.monotonic() + plan.idle_seconds
    while time.monotonic() < end:
        for counter in counters:
            counter.look()
        time.sleep(min(LOOK_AGAIN, max(0.0, end - time.monotonic())))
    result = {counter.title: counter.total() for counter in counters}
    for side in sides:
        side.sql = side.cluster.connect()
    return result


class Counter:
    """Adds up what the processes of a side use from now on."""

    def __init__(self, side):
        self.title = side.title
        self._postmaster = side.cluster.pid
        self._first = {}
        self._last = {}
        self.look()
        self._first = dict(self._last)

    def look(self):
        for pid in children(self._postmaster):
            try:
                if self.title in title_of(pid):
                    self._last[pid] = usage(pid)
            except (FileNotFoundError, ProcessLookupError):
                pass            # it has just left; its last figures count

    def total(self):
        self.look()
        cpu = wake_ups = 0
        for pid, (pid_cpu, pid_wake_ups) in self._last.items():
            before = self._first.get(pid, (0, 0))
            cpu += pid_cpu - before[0]
            wake_ups += pid_wake_ups - before[1]
        return cpu, wake_ups, len(self._last)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def title_of(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read()


def usage(pid):
    """(CPU in ms, voluntary context switches) since the process started."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) * TICK_MS
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("voluntary_ctxt_switches:"):
                return cpu, int(line.split()[1])
    return cpu, 0


def _report(report, count, seconds, result):
    report.rows.append(Row(
        f"(d) {count:,} idle jobs: wake-ups per 60 s / CPU, % of a core",
        *(_cell(result, title, seconds) for title in TITLES),
        f"<= {WAKE_UPS} / 0" if count else ""))


def _cell(result, title, seconds):
    if title not in result:
        return ABSENT
    cpu, wake_ups, processes = result[title]
    return (f"{wake_ups * 60 / seconds:.0f} / {cpu / seconds / 10:.2f}  "
            f"(processes: {processes})")


def _judge(report, count, seconds, usage_of_it):
    cpu, wake_ups, _ = usage_of_it
    report.judge(f"(d) {count:,} idle jobs: at most {WAKE_UPS} wake-up per "
                 "60 s and no measurable CPU",
                 f"{wake_ups} in {seconds} s, {cpu:.0f} ms of CPU",
                 wake_ups <= WAKE_UPS and cpu < TICK_MS)
