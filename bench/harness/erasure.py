"""
The measurements of bench/erasure: each makes its tables for each way in turn,
round after round, and adds its rows and verdicts to the report.
"""

from statistics import median

from .erasers import Items, Loop, PlainUpdate, Rule
from .people import ROWS_EACH, Customers, People
from .report import ABSENT, WideRow
from .watch import Watch

SIDES = ("loop, commit every 50", "loop, commit each",
         "pg_janitor, rules", "pg_janitor, rules, receipts",
         "pg_janitor, rules, two workers", "pg_janitor, command",
         "one UPDATE")
LOOP, LONE, RULES, RECEIPTS, TWO, COMMAND, PLAIN = range(len(SIDES))

RATE = 5000                     # people a second, on two cores
OF_LOOP, OF_LONE = 1.0, 1.5     # rules alone, without receipts
RECEIPTS_OF_LOOP, TWO_OF_LOOP = 0.7, 1.4
FAILING_EVERY, OF_FAILING = 100, 0.8
GROWTH_KB = 1024
OF_UPDATE, BATCH = 0.9, 1.0     # of one UPDATE; seconds


def in_turns(plan, ways):
    """Each way on fresh tables, in each round; of (side, way, table)."""
    seconds = {}
    for number in range(plan.rounds):
        for side, way, table in ways:
            table.create(plan.sql)
            way.prepare(plan.sql, table)
            plan.sql.query("CHECKPOINT")
            took = way.run(plan.sql, table)
            table.check(plan.sql)
            seconds.setdefault(side, []).append(took)
            plan.progress(f"  round {number + 1}: {way.title}: "
                          f"{took:,.1f} s")
    return seconds


def rate(seconds, side, count):
    return count / median(seconds[side])


def ratio(seconds, side, base):
    """In units of the other one's rate."""
    return median(seconds[base]) / median(seconds[side])


def row(report, what, target, show, seconds):
    report.rows.append(WideRow(what, target, tuple(
        show(side) if side in seconds else ABSENT
        for side in range(len(SIDES)))))


def rates(count, seconds):
    return lambda side: (
        f"{rate(seconds, side, count):,.0f}  "
        f"({' '.join(f'{count / one:,.0f}' for one in seconds[side])})")


def judge(report, what, figure, least):
    report.judge(f"{what}: at least {least}", f"{figure:.2f}", figure >= least)


def people(plan, report):
    count = plan.size(100_000)
    all_well, some_fail = People(count), People(count, FAILING_EVERY)
    done = count - some_fail.failing
    ways = [(LOOP, Loop(50)), (LONE, Loop(1)),
            (RULES, Items(SIDES[RULES], receipts=False)),
            (RECEIPTS, Items(SIDES[RECEIPTS], receipts=True)),
            (TWO, Items(SIDES[TWO], receipts=False, parallel=2)),
            (COMMAND, Items(SIDES[COMMAND], command=True, receipts=False))]
    failing = [("failing", LOOP, Loop(50)),
               ("failing", RULES, Items(SIDES[RULES], receipts=False,
                                        max_attempts=1))]
    seconds = in_turns(plan, [(side, way, all_well) for side, way in ways] +
                       [((name, side), way, some_fail)
                        for name, side, way in failing])
    with_failures = {side: seconds["failing", side] for side in (LOOP, RULES)}

    row(report, f"(a) {count:,} people, {count * ROWS_EACH:,} rows in 6 "
        "tables: people/s", f">= {RATE:,} on two cores",
        rates(count, seconds), seconds)
    row(report, "(a) of it: of the loop that commits every 50", "",
        lambda side: f"{ratio(seconds, side, LOOP):.2f}", seconds)
    row(report, "(a) of whom 1 % cannot be erased: people/s", "",
        rates(done, with_failures), with_failures)
    row(report, "(a) of it: of the rate when nobody fails", "",
        lambda side: f"{rate(with_failures, side, done) / rate(seconds, side, count):.2f}",
        with_failures)

    best = max(rate(seconds, side, count) for side in (RULES, TWO))
    report.judge(f"(a) at least {RATE:,} people a second on two cores",
                 f"{best:,.0f}", best >= RATE)
    for side, base, least in (
            (RULES, LOOP, OF_LOOP), (RECEIPTS, LOOP, RECEIPTS_OF_LOOP),
            (TWO, LOOP, TWO_OF_LOOP), (RULES, LONE, OF_LONE)):
        judge(report, f"(a) {SIDES[side]}, of {SIDES[base]}",
              ratio(seconds, side, base), least)
    judge(report, "(a) rules, with 1 % failing, of the rate without",
          rate(with_failures, RULES, done) / rate(seconds, RULES, count),
          OF_FAILING)


def memory(plan, report):
    """Looked at instead of timed."""
    table = People(plan.size(100_000))
    way = Items("(b)", receipts=True)
    table.create(plan.sql)
    way.prepare(plan.sql, table)
    with Watch(plan.cluster) as watch:
        way.run(plan.sql, table)
    growth = watch.growth()
    row(report, f"(b) {table.people:,} people: private memory of the worker, "
        "kB, largest / growth after the first fifth",
        f"growth <= {GROWTH_KB}", lambda side: f"{watch.peak():,} / {growth:,}",
        (RECEIPTS,))
    row(report, "(b) longest transaction, ms", "",
        lambda side: f"{watch.longest * 1000:,.0f}", (RECEIPTS,))
    report.judge(f"(b) memory grows by at most {GROWTH_KB} kB",
                 f"{growth} kB", growth <= GROWTH_KB)


def one_table(plan, report):
    table = Customers(plan.size(2_000_000))
    rule = Rule()
    seconds = in_turns(plan, [(PLAIN, PlainUpdate(), table),
                              (RULES, rule, table)])
    row(report, f"(c) {table.rows:,} rows of one table anonymized by a "
        "retention rule: rows/s", f">= {OF_UPDATE} of one UPDATE",
        rates(table.rows, seconds), seconds)
    row(report, "(c) of it: of the one UPDATE", "",
        lambda side: f"{ratio(seconds, side, PLAIN):.2f}", seconds)
    row(report, "(c) longest batch, ms", f"< {BATCH * 1000:g}",
        lambda side: f"{rule.longest * 1000:,.0f}", (RULES,))
    judge(report, "(c) a retention rule, of one UPDATE",
          ratio(seconds, RULES, PLAIN), OF_UPDATE)
    report.judge(f"(c) batches under {BATCH:g} s", f"{rule.longest:.2f} s",
                 rule.longest < BATCH)


MEASUREMENTS = {"a": people, "b": memory, "c": one_table}
