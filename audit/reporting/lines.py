"""One plot: a measurement against a setting, one line per network with its intervals, as a PNG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from audit.reporting.figures import MARKERS, SERIES, STYLE

SIZE = (6.0, 4.0)
# Of an axis whose values span more than this factor.
DECADE = 10.0
MOST_TICKS = 9
# Between neighbouring lines, in points: without it their intervals hide each other.
APART = 4.0
# Around the outermost points, of the length of an axis.
MARGIN = 0.06
INK, GRID = "#1d1c1a", "#ddd8cd"


@dataclass(frozen=True)
class Line:
    """``points``: (place on the axis, value, low, high); None where there is no interval."""

    name: str
    points: Sequence[tuple[float, float, float | None, float | None]]


@dataclass(frozen=True)
class Scale:
    """The horizontal axis: ``places`` of the values that were run, in order, what is written there, and its title."""

    title: str
    places: Sequence[float]
    texts: Sequence[str]

    @property
    def logarithmic(self) -> bool:
        """Whether the values span more than a decade."""
        return self.places[0] > 0 and self.places[-1] > DECADE * self.places[0]


def figure_of(lines: Sequence[Line], reference: Line, scale: Scale, y_title: str, note: str) -> Figure:
    """``reference`` is dashed, a level where its values are the same; ``note`` says what the bars are."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="x", visible=False)
    _reference(axes, reference)
    for place, line in enumerate(lines):
        _line(figure, axes, line, place, (place - (len(lines) - 1) / 2) * APART)
    _axis(axes, scale)
    _limits(axes, [*lines, reference], scale)
    axes.set_ylabel(y_title)
    figure.legend(loc="outside lower center", ncols=2, handlelength=1.8, title=note, title_fontsize=9.0)
    return figure


def draw_lines(lines: Sequence[Line], reference: Line, scale: Scale, y_title: str, note: str, path: Path) -> None:
    """Write what `figure_of` makes."""
    settings = {**STYLE, **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color"), INK)}
    settings |= {"xtick.color": INK, "ytick.color": INK, "grid.color": GRID}
    with matplotlib.rc_context(settings):
        figure = figure_of(lines, reference, scale, y_title, note)
        figure.savefig(path, format="png", dpi=160, metadata={"Software": None})


def _reference(axes: Axes, line: Line) -> None:
    dashed: dict[str, Any] = {
        "color": INK,
        "linewidth": 1.0,
        "linestyle": (0, (5, 3)),
        "label": line.name,
        "zorder": 1.5,
    }
    values = {value for _, value, _, _ in line.points}
    if len(values) == 1:
        axes.axhline(values.pop(), **dashed)
    elif values:
        axes.plot([x for x, *_ in line.points], [y for _, y, *_ in line.points], **dashed)


def _line(figure: Figure, axes: Axes, line: Line, place: int, shift: float) -> None:
    colour, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
    # Beside its place on the axis, whatever the scale of that is.
    beside = axes.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
    style: dict[str, Any] = {"color": colour, "transform": beside}
    x, y = [point[0] for point in line.points], [point[1] for point in line.points]
    axes.plot(x, y, marker=marker, markersize=5.5, markeredgewidth=0, linewidth=1.6, label=line.name, **style)
    for at, _, low, high in line.points:
        if low is not None and high is not None:
            axes.plot([at, at], [low, high], linewidth=1.2, alpha=0.7, solid_capstyle="butt", **style)


def _axis(axes: Axes, scale: Scale) -> None:
    if scale.logarithmic:
        axes.set_xscale("log")
    stride = math.ceil(len(scale.places) / MOST_TICKS)
    shown = slice((len(scale.places) - 1) % stride, None, stride)
    axes.set_xticks(scale.places[shown], scale.texts[shown])
    axes.minorticks_off()
    axes.set_xlabel(scale.title)


def _limits(axes: Axes, lines: Sequence[Line], scale: Scale) -> None:
    """Around everything: what is drawn beside its place is not seen by matplotlib's own limits."""
    ends = [end for line in lines for _, *values in line.points for end in values if end is not None]
    if ends:
        room = MARGIN * (max(ends) - min(ends)) or 1.0
        axes.set_ylim(min(ends) - room, max(ends) + room)
    first, last = scale.places[0], scale.places[-1]
    if scale.logarithmic:
        factor = (last / first) ** MARGIN
        axes.set_xlim(first / factor, last * factor)
    else:
        room = MARGIN * (last - first) or 1.0
        axes.set_xlim(first - room, last + room)
