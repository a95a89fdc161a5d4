"""
(e) The time of one next-occurrence computation, without a server around it:
the lines of t/unit/bench_schedule.
"""

import re
import subprocess

from .install import build_bench_schedule
from .report import Row

TIMEOUT = 120
P99_NS = 1000
JUDGED = ("random schedules", "0 0 0 29 2 1")
LINE = re.compile(r"(?P<name>.+?)\s+p50 +(?P<p50>\d+) ns +p99 +(?P<p99>\d+) ns"
                  r" +max +(?P<max>\d+) ns")


def measure(plan, report):
    if not plan.source:
        return
    program = build_bench_schedule(plan.server, plan.source)
    done = subprocess.run([program], cwd=plan.base, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
    figures = [LINE.match(line) for line in done.stdout.splitlines()]
    worst = {}
    for figure in filter(None, figures):
        judged = figure["name"] in JUDGED
        report.rows.append(Row(
            f"(e) {figure['name']}: next occurrence, ns, median / p99 / max",
            f"{figure['p50']} / {figure['p99']} / {figure['max']}",
            target=f"p99 <= {P99_NS:,}" if judged else ""))
        if judged:
            worst[figure["name"]] = int(figure["p99"])
    if set(worst) != set(JUDGED):
        raise RuntimeError("bench_schedule prints something else:\n"
                           + done.stdout)
    report.judge(f"(e) next occurrence: p99 <= {P99_NS:,} ns",
                 ", ".join(f"{name}: {p99} ns" for name, p99 in worst.items()),
                 max(worst.values()) <= P99_NS)
