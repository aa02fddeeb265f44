"""Figures 5a and 5b as tables: accuracy against T, and against the number of synthetic images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.records import DefenseResult, Measurement, Record
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words, over_seeds
from leaderboards.lookups import SYNTHETIC_IMAGES, each_defense, no_defense, seeds_of
from leaderboards.paper.measured import (
    ACCURACY,
    Options,
    finished,
    in_the_paper,
    intervals,
    not_run,
    subject,
    targets_of,
    teacher_accuracy,
)
from leaderboards.paper.published import Curve, Point, Published
from leaderboards.paper.setup import TIME_STEPS, differences, moved

SERIES = ("data-free-conversion", "dc-cet", "privatesnn")
NO_POINT = "no point in the paper"


@dataclass(frozen=True)
class Axis:
    """What a figure has on its horizontal axis: ``field`` of the defenses, ``of`` a target under one seed."""

    layout: str
    field: str
    title: str
    unit: str
    what: str
    of: Callable[[DefenseResult], int | None]


def _images(target: DefenseResult) -> int | None:
    made = target.notes.get(SYNTHETIC_IMAGES, target.settings.get(SYNTHETIC_IMAGES))
    return made if isinstance(made, int) else None


TIME = Axis("figure-5a", TIME_STEPS, "T", "time-steps", "accuracy and number of time-steps", lambda d: d.time_steps)
IMAGES = Axis(
    "figure-5b", SYNTHETIC_IMAGES, "synthetic samples", "images", "accuracy and number of synthetic samples", _images
)


def figure_5a(records: Sequence[Record], paper: Published, options: Options) -> list[Table]:
    """Rows by T and network. One record: read out at earlier time-steps; several: a conversion for each T."""
    return [_figure(points, TIME, paper.figure_5a, paper) for points in sweeps(records, TIME)]


def figure_5b(records: Sequence[Record], paper: Published, options: Options) -> list[Table]:
    """Rows by number of synthetic images and network: with distillation, without, and no training at all."""
    return [_figure(points, IMAGES, paper.figure_5b, paper) for points in sweeps(records, IMAGES)]


def sweeps(records: Sequence[Record], axis: Axis) -> list[list[Record]]:
    """Records of one data set and network whose positions on the axis all differ are the points of one sweep.

    Where two stand at the same position, each record is a sweep of its own.
    """
    alike: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        key = (record.dataset.name, record.dataset.split_hash, record.results[0].teacher.architecture)
        alike.setdefault(key, []).append(record)
    found: list[list[Record]] = []
    for group in alike.values():
        found += [group] if _apart(group, axis) else [[record] for record in group]
    return found


def _apart(group: Sequence[Record], axis: Axis) -> bool:
    for name in _names(group):
        places = [_place(targets, axis) for record in group if (targets := targets_of(record, name))]
        if len(set(places)) < len(places):
            return False
    return True


def _names(points: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys((*SERIES, *(name for record in points for name, _ in each_defense(record)))))


def _drawn(points: Sequence[Record]) -> Sequence[str]:
    """Whoever sweeps other defenses wants to see them; of one run, the paper's three."""
    return _names(points) if len(points) > 1 else SERIES


def _place(targets: Sequence[DefenseResult | None], axis: Axis) -> int | None:
    return next((place for d in targets if d is not None and (place := axis.of(d)) is not None), None)


def _figure(points: Sequence[Record], axis: Axis, curve: Curve, paper: Published) -> Table:
    first = points[0]
    measured = _measured(points, axis)
    said = {(paper.defense_of(p.system), p.at): p for p in curve.points}
    rows: list[tuple[Cell, ...]] = [
        (Words("any"), Words("ANN"), Words("teacher"), teacher_accuracy(first), Words(NO_POINT, missing=True))
    ]
    places = {at for _, at in measured} | {at for _, at in said if at is not None}
    drawn = [paper.defense_of(system) for system in curve.systems]
    for at in sorted(places):
        for name in _drawn(points):
            point = said.get((name, at)) or said.get((name, None))
            if (name, at) in measured:
                cell: Cell = measured[name, at]
            elif (name, at) in said:
                cell = not_run(f"--set defense.{axis.field}={at}")
            else:
                continue
            published = _published(point, name in drawn, paper)
            rows.append((Words(str(at)), Words(paper.name_of(name)), Words(name), cell, published))
    rows += _never_run(points, drawn, said, paper)
    columns = (
        Column(axis.title, "count", axis.unit),
        Column("network"),
        Column("defense"),
        ACCURACY,
        Column(in_the_paper("accuracy", paper, curve.dataset, first), "count", "%"),
    )
    title = f"{axis.layout.replace('-', ' ').capitalize()} of the PrivateSNN paper, {axis.what}: {subject(first)}"
    sources = "; ".join(f"{p.accuracy.shown}: {p.source}" for p in curve.points)
    remarks = (
        *_how(points, axis),
        f"Published: {curve.source}. Stated: {sources}. '{paper.drawn}': the figure draws the curve, no text gives "
        "its values.",
        f"The paper says: {'; '.join(f'“{quote}”' for quote in curve.quotes)}.",
        intervals(first),
        *differences(points, paper, curve.dataset, axis.field if len(points) > 1 else ""),
        *moved(points, axis.field),
    )
    return finished(axis.layout, title, columns, rows, Footnotes(), remarks)


def _never_run(
    points: Sequence[Record], drawn: Sequence[str], said: dict[tuple[str, int | None], Point], paper: Published
) -> list[tuple[Cell, ...]]:
    """Curves of the paper that no run has a target for."""
    return [
        (
            Words("any"),
            Words(paper.name_of(name)),
            Words(name),
            not_run(f"--defense {name}"),
            _published(said.get((name, None)), True, paper),
        )
        for name in drawn
        if all(targets_of(record, name) is None for record in points)
    ]


def _published(point: Point | None, drawn: bool, paper: Published) -> Words:
    if point is not None:
        return Words(point.accuracy.shown)
    return Words(paper.drawn if drawn else NO_POINT, missing=True)


def _measured(points: Sequence[Record], axis: Axis) -> dict[tuple[str, int], Number]:
    found: dict[tuple[str, int], Number] = {}
    for record in points:
        for name in _drawn(points):
            targets = targets_of(record, name) or []
            if axis is TIME and len(points) == 1:
                found |= {(name, at): number for at, number in _over_time(record, targets).items()}
            elif (place := _place(targets, axis)) is not None:
                numbers = [Number.of(d.accuracy) if d is not None else no_defense("fraction") for d in targets]
                found[name, place] = over_seeds(numbers, seeds_of(record))
    return found


def _over_time(record: Record, targets: Sequence[DefenseResult | None]) -> dict[int, Number]:
    """Read out at every time-step that was measured, the last included."""
    curves = [dict(d.accuracy_over_time) | _last(d) if d is not None else {} for d in targets]
    found = {}
    for at in sorted({at for curve in curves for at in curve}):
        numbers = [Number.of(curve[at]) if at in curve else no_defense("fraction") for curve in curves]
        found[at] = over_seeds(numbers, seeds_of(record))
    return found


def _last(target: DefenseResult) -> dict[int, Measurement]:
    return {} if target.time_steps is None else {target.time_steps: target.accuracy}


def _how(points: Sequence[Record], axis: Axis) -> tuple[str, ...]:
    if axis is TIME and len(points) == 1:
        return (
            "One conversion, made for the largest T and read out at earlier time-steps too. The paper does not say "
            "whether it converted for each T.",
        )
    if len(points) == 1:
        return ("One run, hence one number of samples: give several for a curve.",)
    what = "a conversion of its own" if axis is TIME else "a run of its own"
    return (f"{len(points)} runs, {what} for each value of {axis.field}.",)
