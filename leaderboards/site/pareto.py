"""Leakage against accuracy, energy as the label: where each row of a board lies, and which rows no other one beats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from audit.worst_case import worst_case
from leaderboards.board import Board, Row
from leaderboards.cells import Number
from leaderboards.leakage import MASKED

WIDTH = 660.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 420.0, 16.0, 52.0
LABELS, LINE = 440.0, 17.0
LONGEST_LABEL = 20
STEPS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Point:
    """A row in the drawing's units. ``front``: no row that may be compared with it is better in one and no worse in
    the other; ``sound``: it may be compared, its leakage is no lower bound and rests on no masked gradient."""

    row: Row
    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float
    label_y: float
    sound: bool
    front: bool = False

    @property
    def label(self) -> str:
        name = self.row.name
        name = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
        return f"{name} · {self.energy}"

    @property
    def energy(self) -> str:
        energy = self.row.energy
        return energy.main if not energy.missing else f"energy {energy.status.replace('-', ' ')}"

    @property
    def sentence(self) -> str:
        found = f"accuracy {read(self.row.accuracy)}, leakage {read(self.row.leakage)}, energy {read(self.row.energy)}"
        weak = "" if self.sound else "; not compared, its leakage may be higher"
        return f"{self.row.name}: {found}{'; not dominated' if self.front else weak}."


@dataclass(frozen=True)
class Tick:
    place: float
    text: str


@dataclass(frozen=True)
class Plot:
    """``absent``: rows without a point, with the reason. Lengths are in the units of the drawing."""

    title: str
    points: tuple[Point, ...]
    absent: tuple[str, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    height: float

    @property
    def front(self) -> tuple[Point, ...]:
        return tuple(sorted((point for point in self.points if point.front), key=lambda point: (point.x, point.y)))

    @property
    def steps(self) -> str:
        """The front as a staircase, an SVG path."""
        path = ""
        for point in self.front:
            path += f"V{point.y:.1f}H{point.x:.1f}" if path else f"M{point.x:.1f} {point.y:.1f}"
        return path

    @property
    def description(self) -> str:
        return " ".join(point.sentence for point in self.points)


def read(number: Number) -> str:
    """A number with its interval, or its status with the reason in full."""
    if number.missing:
        return f"{number.status.replace('-', ' ')}: {number.reason or 'no reason recorded'}"
    return " ".join(part for part in (number.main, number.interval_text) if part)


def plots(board: Board) -> list[Plot]:
    """One plot per network, profile and data split: rows of two of them are not compared."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in board.rows:
        groups.setdefault(row.group, []).append(row)
    return [_plot(rows[0].comparable, rows) for rows in groups.values()]


def _plot(title: str, rows: Sequence[Row]) -> Plot:
    drawn = [row for row in rows if not row.leakage.missing and not row.accuracy.missing]
    absent = tuple(
        f"{row.name}: {'leakage' if row.leakage.missing else 'accuracy'} "
        f"{read(row.leakage if row.leakage.missing else row.accuracy)}"
        for row in rows
        if row not in drawn
    )
    if not drawn:
        return Plot(title, (), absent, (), (), 0.0)
    height = max(300.0, TOP + BOTTOM + LINE * len(drawn))
    x_range, x_ticks = _axis([_span(row.accuracy) for row in drawn], LEFT, RIGHT)
    y_range, y_ticks = _axis([_span(row.leakage) for row in drawn], height - BOTTOM, TOP)
    points = []
    for row in drawn:
        left, x, right = (x_range(value) for value in _span(row.accuracy))
        bottom, y, top = (y_range(value) for value in _span(row.leakage))
        points.append(Point(row, x, y, left, right, top, bottom, y, _sound(row)))
    marked = [replace(point, front=point.sound and not _beaten(point, points)) for point in points]
    return Plot(title, _labelled(marked, height), absent, x_ticks, y_ticks, height)


def _sound(row: Row) -> bool:
    return MASKED not in row.flags and not worst_case(row.results).at_least


def _beaten(point: Point, others: Sequence[Point]) -> bool:
    """By the values, without their intervals."""
    own, leaked = point.row.accuracy.value or 0.0, point.row.leakage.value or 0.0
    for other in others:
        accuracy, leakage = other.row.accuracy.value or 0.0, other.row.leakage.value or 0.0
        if other.sound and accuracy >= own and leakage <= leaked and (accuracy, leakage) != (own, leaked):
            return True
    return False


def _span(number: Number) -> tuple[float, float, float]:
    """Low, value and high in percent; without an interval three times the value."""
    value = number.value or 0.0
    low, high = (value if end is None else end for end in (number.low, number.high))
    return 100 * low, 100 * value, 100 * high


class _Scale:
    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._factor = (end - start) / (high - low)

    def __call__(self, value: float) -> float:
        return round(self._start + (value - self._low) * self._factor, 2)


def _axis(spans: Sequence[tuple[float, float, float]], start: float, end: float) -> tuple[_Scale, tuple[Tick, ...]]:
    """From the tick at or below the smallest value to the one at or above the largest; within 0 to 100 %."""
    low, high = min(span[0] for span in spans), max(span[2] for span in spans)
    pad = max(0.08 * (high - low), 0.5)
    low, high = max(0.0, low - pad), min(100.0, high + pad)
    step = next((step for step in STEPS if (high - low) / step <= 6), STEPS[-1])
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    scale = _Scale(first * step, last * step, start, end)
    decimals = 0 if step >= 1 else 1
    ticks = tuple(Tick(scale(n * step), f"{n * step:.{decimals}f}") for n in range(first, last + 1))
    return scale, ticks


def _labelled(points: Sequence[Point], height: float) -> tuple[Point, ...]:
    """Labels in one column at the right, in the order of their points, none over another."""
    order = sorted(range(len(points)), key=lambda place: (points[place].y, points[place].x))
    heights: list[float] = []
    for place in order:
        heights.append(max(points[place].y, heights[-1] + LINE if heights else TOP + LINE / 2))
    lowest = height - BOTTOM
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], lowest)
        lowest = heights[place] - LINE
    found = dict(zip(order, heights, strict=True))
    return tuple(replace(point, label_y=round(found[place], 2)) for place, point in enumerate(points))
