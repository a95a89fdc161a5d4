"""
The measurements of bench/retention: each makes its table for each way in
turn, round after round, and adds its rows and verdicts to the report.
"""

from dataclasses import dataclass, field
from statistics import median

from .report import ABSENT, WideRow
from .tables import Cascade, Log, Partitioned, Partman as PartmanTable
from .watch import Watch
from .ways import Cron, Job, Loop, Partman, Plain

SIDES = ("one DELETE", "LIMIT 5000 loop", "pg_cron", "pg_partman",
         "pg_janitor", "pg_janitor, parallel => 2")
DELETE, LOOP, CRON, PARTMAN, ONE, TWO = range(len(SIDES))

BULK_ONE, BULK_TWO, CASCADE_TWO = 0.93, 1.05, 1.45
FEW_INDEXED, FEW_SCAN = 2.0, 1.2
SNAPSHOT = 0.8
PARTITION_MS, PARTITION_WAL = 250, 1_000_000
TRANSACTION = 1.0               # seconds
GROWTH_KB = 1024
LOOP_LIMIT = 60                 # seconds, under an old snapshot


@dataclass
class Figures:
    """Results of several rounds, by side."""

    of: dict = field(default_factory=dict)

    def add(self, side, result):
        self.of.setdefault(side, []).append(result)

    def rate(self, side):
        return median(result.rate for result in self.of[side])

    def seconds(self, side):
        return median(result.seconds for result in self.of[side])

    def ratio(self, side, base=DELETE):
        """Rows per second in units of another side's; None: one is absent."""
        if side not in self.of or base not in self.of:
            return None
        return self.rate(side) / self.rate(base)

    def row(self, what, target, show):
        return WideRow(what, target, tuple(
            show(self.of[side]) if side in self.of else ABSENT
            for side in range(len(SIDES))))


def rates(results):
    mark = "*" if any(result.cut_off for result in results) else ""
    return (f"{median(result.rate for result in results):,.0f}{mark}  "
            f"({' '.join(f'{result.rate:,.0f}' for result in results)})")


def times(results):
    return (f"{median(result.seconds for result in results) * 1000:,.0f}  "
            f"({' '.join(f'{result.seconds * 1000:,.0f}' for result in results)})")


def volumes(results):
    return f"{median(result.wal for result in results) / 1e6:,.1f}"


def ratios(report, figures, what, targets):
    """One row of rates relative to one DELETE; a verdict for each target."""
    cells = [ABSENT if figures.ratio(side) is None else
             f"{figures.ratio(side):.2f}" for side in range(len(SIDES))]
    report.rows.append(WideRow(f"{what}: of the one DELETE's rate", ", ".join(
        f"{SIDES[side]} >= {least}" for side, least in targets.items()),
        tuple(cells)))
    for side, least in targets.items():
        ratio = figures.ratio(side)
        report.judge(f"{what}: {SIDES[side]} at least {least} of one DELETE",
                     f"{ratio:.3f}", ratio >= least)


def in_turns(plan, rounds, table, ways):
    """Each way on a fresh table, in each round; of (side, way[, table])."""
    figures = Figures()
    for number in range(rounds):
        for side, way, *own in ways:
            its_table = own[0] if own else table
            its_table.create(plan.sql)
            way.prepare(plan.sql, its_table)
            plan.sql.query("CHECKPOINT")
            result = way.run(plan.sql, its_table)
            figures.add(side, result)
            plan.progress(f"  round {number + 1}: {way.title}: "
                          f"{result.rows:,} rows, {result.seconds * 1000:,.0f} ms")
    return figures


def watched(plan, table, way):
    """One run that is looked at instead of timed."""
    table.create(plan.sql)
    way.prepare(plan.sql, table)
    with Watch(plan.cluster) as watch:
        way.run(plan.sql, table)
    plan.transactions.append((watch.longest, way.title))
    return watch


def bulk(plan, report):
    rows, expired = plan.size(2_000_000), plan.size(1_620_000)
    table = Log(rows, expired)
    ways = [(DELETE, Plain()), (LOOP, Loop()), (ONE, Job()),
            (TWO, Job(parallel=2))]
    if plan.with_cron:
        ways.append((CRON, Cron()))
    figures = in_turns(plan, plan.rounds, table, ways)
    what = f"(a) {rows:,} rows, 81 % expired"
    report.rows.append(figures.row(f"{what}: rows/s", "", rates))
    ratios(report, figures, "(a) of it", {ONE: BULK_ONE, TWO: BULK_TWO})
    report.rows.append(figures.row("(a) of it: WAL, MB", "", volumes))
    watched(plan, table, Job("(a) one worker"))
    watched(plan, table, Job("(a) two workers", parallel=2))


def cascade(plan, report):
    expired = plan.size(400_000)
    table = Cascade(expired * 5 // 4, expired)
    figures = in_turns(plan, plan.rounds, table, [
        (DELETE, Plain()), (LOOP, Loop()), (ONE, Job()),
        (TWO, Job(parallel=2))])
    what = f"(b) {expired:,} expired rows, {table.children:,} cascading children"
    report.rows.append(figures.row(f"{what}: rows/s", "", rates))
    ratios(report, figures, "(b) of it", {TWO: CASCADE_TWO})
    watched(plan, table, Job("(b) one worker"))
    watched(plan, table, Job("(b) two workers", parallel=2))


def few(plan, report):
    rows, expired = plan.size(10_000_000), plan.size(10_000)
    for indexed, most in ((True, FEW_INDEXED), (False, FEW_SCAN)):
        table = Log(rows, expired, indexed)
        figures = in_turns(plan, plan.few_rounds, table,
                           [(DELETE, Plain()), (ONE, Job())])
        how = "with" if indexed else "without"
        what = (f"(c) 0.1 % of {rows:,} rows expired, {how} an index on the "
                "time column")
        ratio = figures.seconds(ONE) / figures.seconds(DELETE)
        report.rows.append(figures.row(f"{what}: ms",
                                       f"<= {most:g} of one DELETE", times))
        report.judge(f"(c) {how} an index: at most {most:g} times one DELETE",
                     f"{ratio:.3f}", ratio <= most)
        watched(plan, table, Job(f"(c) {how} an index"))


def snapshot(plan, report):
    rows, expired = plan.size(2_000_000), plan.size(1_620_000)
    table = Log(rows, expired)
    without = in_turns(plan, plan.few_rounds, table,
                       [(ONE, Job()), (LOOP, Loop())])
    with plan.old_snapshot():
        held = in_turns(plan, plan.few_rounds, table,
                        [(ONE, Job()), (LOOP, Loop(LOOP_LIMIT))])
        watched(plan, table, Job("(d) with an old snapshot"))
    what = "(d) as (a), an old snapshot held open"
    report.rows.append(held.row(f"{what}: rows/s", "", rates))
    shares = {side: held.rate(side) / without.rate(side)
              for side in (LOOP, ONE)}
    report.rows.append(WideRow(
        "(d) of it: of the rate without the snapshot",
        f"pg_janitor >= {SNAPSHOT}",
        tuple(f"{shares[side]:.2f}" if side in shares else ABSENT
              for side in range(len(SIDES)))))
    if any(result.cut_off for result in held.of[LOOP]):
        report.notes.append(f"*: stopped after {LOOP_LIMIT} s, of which this "
                            "is the rate; it only gets slower")
    report.judge(f"(d) an old snapshot leaves at least {SNAPSHOT} of the rate",
                 f"{shares[ONE]:.2f}", shares[ONE] >= SNAPSHOT)


def partition(plan, report):
    expired = plan.size(1_000_000)
    table = Partitioned(expired * 11 // 10, expired)
    ways = [(DELETE, Plain()), (ONE, Job(partitions="drop"))]
    if plan.with_partman:
        ways.append((PARTMAN, Partman(),
                     PartmanTable(expired * 11 // 10, expired)))
    figures = in_turns(plan, plan.few_rounds, table, ways)
    detached = in_turns(plan, plan.few_rounds, table,
                        [(ONE, Job(partitions="detach"))])
    what = f"(e) an expired partition of {expired:,} rows"
    for how, one in (("dropped", figures), ("detached", detached)):
        report.rows.append(one.row(f"{what}, {how}: ms",
                                   f"< {PARTITION_MS}", times))
        report.rows.append(one.row(f"(e) of it, {how}: WAL, MB",
                                   f"< {PARTITION_WAL / 1e6:g}", volumes))
        wal = median(result.wal for result in one.of[ONE])
        report.judge(f"(e) {how}: under {PARTITION_MS} ms and under "
                     f"{PARTITION_WAL / 1e6:g} MB of WAL, with its exact count",
                     f"{one.seconds(ONE) * 1000:.0f} ms, {wal / 1e6:.2f} MB",
                     one.seconds(ONE) * 1000 < PARTITION_MS
                     and wal < PARTITION_WAL)
    if plan.with_partman:
        report.notes.append("pg_partman drops the partition without counting "
                            "its rows")
    watched(plan, table, Job("(e) dropped", partitions="drop"))
    watched(plan, table, Job("(e) detached", partitions="detach"))


def long_run(plan, report):
    """Many small batches: does memory grow, are transactions short?"""
    rows, expired = plan.size(2_000_000), plan.size(1_620_000)
    watch = watched(plan, Log(rows, expired),
                    Job("(f) batches of 100 rows", batch_rows=100))
    growth = watch.growth()
    report.rows.append(WideRow(
        f"(f) {expired // 100:,} batches: private memory of the worker, kB, "
        "largest / growth after the first fifth", f"growth <= {GROWTH_KB}",
        (ABSENT,) * ONE + (f"{watch.peak():,} / {growth:,}", ABSENT)))
    report.judge(f"(f) memory grows by at most {GROWTH_KB} kB over "
                 f"{expired // 100:,} batches", f"{growth} kB",
                 growth <= GROWTH_KB)
    if plan.transactions:
        longest, where = max(plan.transactions)
        report.rows.append(WideRow(
            "(f) longest transaction in all of these, ms",
            f"< {TRANSACTION * 1000:g}",
            (ABSENT,) * ONE + (f"{longest * 1000:,.0f}", ABSENT)))
        report.judge(f"(f) no transaction takes {TRANSACTION:g} s",
                     f"{longest * 1000:.0f} ms: {where}",
                     longest < TRANSACTION)


MEASUREMENTS = {"a": bulk, "b": cascade, "c": few, "d": snapshot,
                "e": partition, "f": long_run}
