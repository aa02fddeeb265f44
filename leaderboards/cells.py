"""What a comparison table is made of: words, counts and measured numbers, each with its footnote."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy.special import stdtrit

from audit.records import Direction, Measurement, Status

SHORT = 30
# What may be below 0 although its unit says otherwise: a difference of two proportions, an unbiased estimate.
SIGNED = ("train/test gap", "KID", "accuracy loss")
NEVER_NEGATIVE = ("ratio", "pJ", "spikes", "operations", "time-steps", "distance", "times real-to-real")
UNITS = {"fraction": "%", "points": "percentage points"}
DIRECTIONS: dict[str, str] = {
    "higher is better": "higher = better",
    "lower is better": "lower = better",
    "lower means more leakage": "lower = more leaks",
    "higher means more leakage": "higher = more leaks",
}


@dataclass(frozen=True)
class Words:
    """A cell that is read, not measured: a name, T, a count of images."""

    text: str
    mark: str = ""
    missing: bool = False
    interval_text: str = ""

    @property
    def main(self) -> str:
        return self.text


@dataclass(frozen=True)
class Number:
    """A measured cell. ``value`` is in the record's own unit; percent is a matter of display."""

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    n: int | None = None
    status: Status = "ok"
    reason: str | None = None
    mark: str = ""
    unclipped: float | None = None
    signed: bool = False

    @classmethod
    def of(cls, m: Measurement) -> "Number":
        return cls(
            m.value,
            m.unit,
            m.low,
            m.high,
            m.interval,
            m.n,
            m.status,
            m.reason,
            unclipped=m.unclipped,
            signed=m.name.startswith(SIGNED),
        )

    def within(self, value: float) -> float:
        """``value`` cut to what such a number can be."""
        if self.unit == "fraction":
            return min(1.0, max(-1.0 if self.signed else 0.0, value))
        return max(0.0, value) if self.unit in NEVER_NEGATIVE and not self.signed else value

    @classmethod
    def absent(cls, unit: str, status: Status, reason: str | None, n: int | None = None) -> "Number":
        return cls(None, unit, n=n, status=status, reason=reason)

    @property
    def missing(self) -> bool:
        return self.value is None

    @property
    def main(self) -> str:
        """The value as read, or the status with the beginning of its reason: never 0, never blank."""
        if self.value is None:
            return f"{self.status.replace('-', ' ')}: {shorten(self.reason or 'no reason recorded')}"
        text = formatted(self.value, self.unit, self.value)
        return text + {"fraction": " %", "ratio": "×"}.get(self.unit, "")

    @property
    def interval_text(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return ""
        return f"[{formatted(self.low, self.unit, self.value)}, {formatted(self.high, self.unit, self.value)}]"


Cell = Words | Number


@dataclass(frozen=True)
class Column:
    """``kind`` 'measured' holds numbers with intervals, 'count' is a plain number, 'words' is text.

    ``family`` is what several columns share ('energy ratio ANN/SNN'): part of the full name, shown small in a header.
    """

    title: str
    kind: Literal["words", "count", "measured"] = "words"
    unit: str = ""
    direction: Direction | None = None
    mark: str = ""
    family: str = ""

    @property
    def full_title(self) -> str:
        return f"{self.family}, {self.title}" if self.family else self.title

    @property
    def detail(self) -> str:
        """Unit as displayed and how to read the direction: '%, higher = better'."""
        parts = ("" if self.family else UNITS.get(self.unit, self.unit), DIRECTIONS.get(self.direction or "", ""))
        return ", ".join(part for part in parts if part)

    @property
    def full_detail(self) -> str:
        """The same, with the family where no header above the column says it."""
        return ", ".join(part for part in (self.family, self.detail) if part)

    @property
    def numeric(self) -> bool:
        return self.kind != "words"


@dataclass(frozen=True)
class Footnote:
    """``mark`` is the number that a cell or a column refers to; '' for a remark about the whole table."""

    mark: str
    text: str


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footnotes: tuple[Footnote, ...]


Rows = tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]


class Footnotes:
    """Numbers footnotes in the order of their first use; the same text is one footnote."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        text = " ".join(text.split())
        if text not in self._texts:
            self._texts.append(text)
        return str(self._texts.index(text) + 1)

    def number(self, number: Number) -> Number:
        """The same cell, pointing to a footnote when the record gives a reason."""
        if not number.reason:
            return number
        prefix = "" if number.value is not None else f"{number.status.replace('-', ' ')}: "
        return replace(number, mark=self.mark(prefix + number.reason))

    def collect(self, columns: Sequence[Column], rows: Sequence[tuple[Cell, ...]]) -> Rows:
        """Mark every number that has a reason; a reason that holds for a whole column is marked once, in its head."""
        marked = [tuple(self.number(cell) if isinstance(cell, Number) else cell for cell in row) for row in rows]
        heads = list(columns)
        for place in range(len(columns)):
            values = [row[place] for row in marked if isinstance(row[place], Number) and not row[place].missing]
            shared = {cell.mark for cell in values}
            if len(values) > 1 and len(shared) == 1 and (mark := shared.pop()):
                heads[place] = replace(columns[place], mark=mark)
                marked = [
                    tuple(
                        replace(c, mark="") if i == place and not c.missing and c.mark == mark else c
                        for i, c in enumerate(row)
                    )
                    for row in marked
                ]
        return tuple(heads), tuple(marked)

    def all(self, *remarks: str) -> tuple[Footnote, ...]:
        numbered = (Footnote(str(i), text) for i, text in enumerate(self._texts, start=1))
        return (*numbered, *(Footnote("", remark) for remark in remarks if remark))


def shorten(text: str, width: int = SHORT) -> str:
    """The first clause, cut when still longer than ``width``."""
    text = re.split(r"[;:,.]\s", " ".join(text.split()), maxsplit=1)[0]
    return text if len(text) <= width else text[: width - 1].rstrip(" ,;:") + "…"


def formatted(value: float, unit: str, like: float) -> str:
    """``value`` with as many decimals as ``like`` deserves, so that an interval matches its value."""
    if unit == "fraction":
        text = f"{100 * value:.1f}"
    elif unit == "points":
        text = f"{value:.1f}"
    elif unit == "time-steps":
        text = f"{value:.{0 if float(like).is_integer() else 1}f}"
    else:
        size = abs(like)
        decimals = max(0, min(2, 3 - math.floor(math.log10(size)))) if size >= 1 else 2
        if 0 < size < 1:
            decimals = 1 - math.floor(math.log10(size))
        text = f"{value:,.{min(decimals, 9)}f}"
    if text.startswith("-"):
        text = text[1:] if float(text.replace(",", "")) == 0 else "−" + text[1:]
    return text


def student(values: Sequence[float]) -> tuple[float, float]:
    """The mean of two values or more, and half the width of its Student t 95 % interval."""
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, float(stdtrit(len(values) - 1, 0.975)) * deviation / math.sqrt(len(values))


def over_seeds(numbers: Sequence[Number], seeds: Sequence[int]) -> Number:
    """One seed: that measurement. Several: the mean and a Student t 95 % interval over the seeds.

    One seed without a value leaves the cell without a value: a mean over the survivors would flatter. Where values were
    cut to a range, the interval is that of the uncut ones, cut afterwards: three times 0 is no certainty of 0.
    Values that are the same under every seed have no interval: nothing was seen of how they spread. ``n`` becomes the
    images per seed (the smallest).
    """
    if len(numbers) == 1:
        return numbers[0]
    images = [number.n for number in numbers if number.n is not None]
    n = min(images) if images else None
    unit = numbers[0].unit
    reasons = list(dict.fromkeys(number.reason for number in numbers if number.value is not None and number.reason))
    lost = [(seed, number) for seed, number in zip(seeds, numbers, strict=True) if number.value is None]
    if lost:
        seed, first = lost[0]
        where = "in every seed" if len(lost) == len(numbers) else f"in {len(lost)} of {len(numbers)} seeds"
        reason = f"{first.reason or 'no reason recorded'} ({where}; first: seed {seed})"
        return Number.absent(unit, first.status, reason, n)
    values = [number.value for number in numbers if number.value is not None]
    mean = math.fsum(values) / len(values)
    uncut = [v if number.unclipped is None else number.unclipped for v, number in zip(values, numbers, strict=True)]
    centre, half = student(uncut)
    if half == 0:
        same = f"the same under all {len(values)} seeds"
        return Number(mean, unit, interval=same, n=n, reason="; ".join(reasons) or None)
    low, high = min(centre - half, mean), max(centre + half, mean)
    low, high = numbers[0].within(low), numbers[0].within(high)
    interval = f"Student t 95 % over {len(values)} seeds"
    return Number(mean, unit, low, high, interval, n, reason="; ".join(reasons) or None)


def drop_in_points(teacher: Number, target: Number) -> Number:
    """Teacher minus target, in percentage points, positive when the defense costs accuracy.

    The interval combines the two Wilson intervals (Newcombe 1998, method 10). It treats the two as independent;
    they saw the same test images, so it is wider than a paired one.
    """
    n = target.n
    if teacher.value is None or target.value is None:
        lost = teacher if teacher.value is None else target
        return Number.absent("points", lost.status, lost.reason, n)
    difference = teacher.value - target.value
    if teacher.low is None or teacher.high is None or target.low is None or target.high is None:
        return Number(100 * difference, "points", n=n)
    down = math.hypot(teacher.value - teacher.low, target.high - target.value)
    up = math.hypot(teacher.high - teacher.value, target.value - target.low)
    return Number(
        100 * difference, "points", 100 * (difference - down), 100 * (difference + up), "Newcombe 95 %, unpaired", n
    )
