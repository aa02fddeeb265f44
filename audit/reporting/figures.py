"""Figures of one run, as SVG and PNG text for a page that loads nothing from elsewhere."""

import base64
import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from audit.records import DefenseResult, Record

# Okabe and Ito's colours, which colour-blind readers can tell apart, and markers for those who see none.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a07500", "#56b4e9", "#777777")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
INK, FAINT = "#010203", "#010204"  # replaced by the page's own colours, so that a figure follows dark mode
SIZE = (5.0, 3.6)
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,
}


def accuracy_over_time(record: Record) -> str | None:
    """Fig. 5a of the paper: accuracy against T, one line per defense, the teacher as a dashed line. SVG, or None."""
    points = [
        {"defense": d.defense, "T": steps, "accuracy": 100 * m.value, "low": m.low, "high": m.high}
        for result in record.results
        for d in result.defenses
        for steps, m in d.accuracy_over_time
        if m.value is not None
    ]
    if not points:
        return None
    frame = pd.DataFrame(points)
    with _style("accuracy"):
        figure, axes = _canvas()
        sns.lineplot(
            frame, x="T", y="accuracy", hue="defense", style="defense", errorbar=None, ax=axes, **_look(record, frame)
        )
        for name in dict.fromkeys(frame["defense"]):
            colour = SERIES[_place(record, name)]
            _band(axes, frame[frame["defense"] == name], colour, several=len(record.results) > 1)
            _ring(axes, frame, name, record, colour)
        teachers = [r.teacher.accuracy.value for r in record.results if r.teacher.accuracy.value is not None]
        if teachers:
            level = 100 * sum(teachers) / len(teachers)
            axes.axhline(level, color=INK, linewidth=1.0, linestyle=(0, (5, 3)), label="teacher (ANN)", zorder=1.5)
        steps = sorted(int(t) for t in frame["T"].unique())
        if len(steps) > 1 and steps[-1] >= 8 * steps[0]:
            axes.set_xscale("log", base=2)
        axes.set_xticks(_thinned(steps, 8), [str(s) for s in _thinned(steps, 8)])
        axes.minorticks_off()
        axes.set(xlabel="time-steps T", ylabel="test accuracy, %")
        _legend(axes)
        return _svg(figure, "accuracy")


def spike_density(record: Record) -> str | None:
    """Spikes per neuron and time-step of each layer with neurons, one line per defense. SVG, or None."""
    points = [
        {
            "defense": d.defense,
            "layer": layer.name,
            "density": layer.spikes_per_neuron / d.energy.time_steps,
        }
        for result in record.results
        for d in result.defenses
        if d.energy is not None
        for layer in d.energy.layers
        if layer.spikes_per_neuron is not None
    ]
    if not points:
        return None
    frame = pd.DataFrame(points)
    layers = list(dict.fromkeys(frame["layer"]))
    frame["place"] = frame["layer"].map({name: place for place, name in enumerate(layers)})
    with _style("spikes"):
        figure, axes = _canvas()
        sns.lineplot(
            frame, x="place", y="density", hue="defense", style="defense", errorbar=None, ax=axes,
            **_look(record, frame),
        )  # fmt: skip
        turned = len(layers) > 6 or max(map(len, layers)) > 11
        labels = [_cut(name, 18) for name in layers]
        axes.set_xticks(range(len(layers)), labels, rotation=60 if turned else 0, ha="right" if turned else "center")
        axes.set_ylim(bottom=0)
        axes.set(xlabel="", ylabel="spikes per neuron and step")
        _legend(axes)
        return _svg(figure, "spikes")


def of_notes(draw: Callable[[Record], str | None], record: Record) -> str | None:
    """None as well where it cannot be drawn: notes hold what somebody's defense wrote, and no check looks at them."""
    try:
        return draw(record)
    except (ArithmeticError, ValueError, SyntaxError):  # numbers without a scale; text that is no XML
        return None


def training_curves(record: Record) -> str | None:
    """Training loss per epoch of every defense that notes a ``training_loss``. SVG, or None."""
    points = [
        {"defense": d.defense, "epoch": epoch, "loss": loss, "seed": result.seed}
        for result in record.results
        for d in result.defenses
        for epoch, loss in enumerate(_losses(d), start=1)
        if math.isfinite(loss)
    ]
    if not points:
        return None
    frame = pd.DataFrame(points)
    with _style("training"):
        figure, axes = _canvas()
        sns.lineplot(
            frame, x="epoch", y="loss", hue="defense", style="defense", units="seed", estimator=None, ax=axes,
            **_look(record, frame),
        )  # fmt: skip
        epochs = sorted(int(epoch) for epoch in frame["epoch"].unique())
        axes.set_xticks(_thinned(epochs, 10))
        axes.set(xlabel="epoch", ylabel="training loss")
        _legend(axes)
        return _svg(figure, "training")


def png(pixels: NDArray[np.uint8]) -> str:
    """A data URI of one picture, uint8 [H, W, 3] or [H, W, 1] or [H, W]. Its pixels are kept; the page enlarges it."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _losses(defense: DefenseResult) -> Sequence[float]:
    values: Any = defense.notes.get("training_loss")
    if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) for value in values):
        return ()
    return values


class _style:
    """Draw under this project's settings, and leave matplotlib's as they were."""

    def __init__(self, salt: str) -> None:
        self._settings = matplotlib.rc_context({**STYLE, "svg.hashsalt": salt})
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        self._settings.__enter__()
        self._warnings.__enter__()
        # The reader's browser draws the letters: what the fonts of this machine lack does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")

    def __exit__(self, *error: Any) -> None:
        self._warnings.__exit__(*error)
        self._settings.__exit__(*error)


def _canvas() -> tuple[Figure, Axes]:
    """Without pyplot: no global figure, no display."""
    figure = Figure(figsize=SIZE, layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    axes.grid(axis="x", visible=False)
    return figure, axes


def _place(record: Record, name: str) -> int:
    """A defense keeps its colour and marker through all figures of a page."""
    names = list(dict.fromkeys(d.defense for result in record.results for d in result.defenses))
    return names.index(name) % len(SERIES)


def _look(record: Record, frame: pd.DataFrame) -> dict[str, Any]:
    names = list(dict.fromkeys(frame["defense"]))
    return {
        "palette": {name: SERIES[_place(record, name)] for name in names},
        "markers": {name: MARKERS[_place(record, name)] for name in names},
        "dashes": False,
        "hue_order": names,
        "style_order": names,
        "linewidth": 1.6,
        "markersize": 5.5,
        "markeredgewidth": 0,
    }


def _band(axes: Axes, frame: pd.DataFrame, colour: str, several: bool) -> None:
    """One seed: the measurements' intervals; several: the range over the seeds."""
    if several:
        by_steps = frame.groupby("T")["accuracy"]
        limits = pd.DataFrame({"low": by_steps.min(), "high": by_steps.max()})
    else:
        limits = 100 * frame.set_index("T")[["low", "high"]].dropna().astype(float).sort_index()
    if len(limits):
        axes.fill_between(limits.index, limits["low"], limits["high"], color=colour, alpha=0.10, linewidth=0)


def _ring(axes: Axes, frame: pd.DataFrame, name: str, record: Record, colour: str) -> None:
    """A ring around the T that the target runs with, as the paper's red dot."""
    chosen = {d.time_steps for result in record.results for d in result.defenses if d.defense == name}
    here = frame[(frame["defense"] == name) & frame["T"].isin(chosen)].groupby("T")["accuracy"].mean()
    axes.plot(here.index, here, linestyle="", marker="o", markersize=11, markerfacecolor="none", color=colour)


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if old := axes.get_legend():
        old.remove()
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(handles, [_cut(label, 30) for label in labels], loc="outside lower center", ncols=2, handlelength=1.6)


def _thinned(ticks: Sequence[int], most: int) -> list[int]:
    """At most ``most`` ticks, the last one among them."""
    stride = math.ceil(len(ticks) / most)
    return list(ticks[::-1][::stride][::-1])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _svg(figure: Figure, name: str) -> str:
    """Inline SVG: the page's font and ink, ids that no other figure of the page has, nothing beside the drawing."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in root.iter():
        for child in [c for c in parent if c.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
            parent.remove(child)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _own(key, value, name))
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    return ElementTree.tostring(root, encoding="unicode")


def _own(key: str, value: str, name: str) -> str:
    """An attribute of a figure as its page wants it. Text of the record is no attribute and stays as it is."""
    if key == "id":
        return f"{name}-{value}"
    if key == f"{{{XLINK}}}href":
        return f"#{name}-{value.removeprefix('#')}"
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value)
    value = re.sub(r"font-family:[^;]*;?", "", value)
    value = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", value)
    value = value.replace(INK, "currentColor").replace(FAINT, "var(--rule)")
    for place, colour in enumerate(SERIES):
        value = value.replace(colour, f"var(--series-{place})")
    return value
