"""Rows of figures, as a table for a terminal and as one in Markdown."""

import math
from dataclasses import dataclass

ABSENT = "-"


@dataclass
class Row:
    what: str
    janitor: str = ABSENT
    cron: str = ABSENT
    target: str = ""

    def cells(self):
        return (self.what, self.target, self.janitor, self.cron)


@dataclass
class Verdict:
    target: str
    figure: str
    reached: bool

    def __str__(self):
        word = "reached" if self.reached else "NOT reached"
        return f"{word}: {self.target}: {self.figure}"


@dataclass
class WideRow:
    """A row with any number of sides."""

    what: str
    target: str
    figures: tuple

    def cells(self):
        return (self.what, self.target, *self.figures)


class Report:
    """What one run of a bench has to say."""

    def __init__(self, bench, sides):
        self.bench = bench
        self.columns = ("", "target", *sides)
        self.header = []        # (name, value)
        self.rows = []
        self.notes = []
        self.verdicts = []

    def judge(self, target, figure, reached):
        self.verdicts.append(Verdict(target, figure, reached))

    def text(self):
        widths = [max(len(row[i]) for row in self._table()) for i in range(len(self.columns))]
        lines = [f"{name + ':':18} {value}" for name, value in self.header]
        lines.append("")
        for number, row in enumerate(self._table()):
            lines.append("  ".join(cell.ljust(width) for cell, width
                                   in zip(row, widths)).rstrip())
            if number == 0:
                lines.append("  ".join("-" * width for width in widths))
        lines += [""] + self.notes + [""]
        lines += [str(verdict) for verdict in self.verdicts]
        return "\n".join(lines) + "\n"

    def markdown(self):
        lines = [f"# The last measurement of {self.bench}", ""]
        lines += [f"- {name}: {value}" for name, value in self.header]
        lines.append("")
        for number, row in enumerate(self._table()):
            lines.append("| " + " | ".join(row) + " |")
            if number == 0:
                lines.append("|" + "---|" * len(row))
        lines.append("")
        lines += [f"- {note}" for note in self.notes]
        lines += ["", "## Targets", ""]
        lines += [f"- {verdict}" for verdict in self.verdicts]
        return "\n".join(lines) + "\n"

    def _table(self):
        return [self.columns] + [row.cells() for row in self.rows]


def percentile(samples, percent):
    """Nearest rank: a value that was really measured."""
    ordered = sorted(samples)
    if not ordered:
        return math.inf         # nothing happened: as late as can be
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]


def spread(samples, digits=2):
    """median / p99 / max (n), or a dash."""
    if not samples:
        return ABSENT
    values = " / ".join(f"{percentile(samples, percent):,.{digits}f}"
                        for percent in (50, 99, 100))
    return f"{values}  (n={len(samples):,})"
