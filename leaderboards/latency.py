"""How many time-steps a spiking network needs: accuracy over time, and when it is within a point of the teacher."""

from collections.abc import Sequence

from audit.records import DefenseResult, Measurement, Record
from leaderboards.cells import Cell, Column, Number, Words, over_seeds
from leaderboards.leakage import Parts
from leaderboards.lookups import each_defense, no_defense, seeds_of, time_steps_of

UNIT = "time-steps"
CLOSE = 0.01
# Accuracies are counts of images divided: a difference of exactly a point is one.
ROUNDING = 1e-9
QUARTERS = (0.25, 0.5, 0.75)


def latency(record: Record) -> Parts:
    """One row per network that spikes: its T, accuracy at shares of T and at T, and the steps to the teacher's."""
    seeds = seeds_of(record)
    teachers = [result.teacher.accuracy for result in record.results]
    rows: list[tuple[Cell, ...]] = []
    for name, targets in each_defense(record):
        if not any(target is not None and target.accuracy_over_time for target in targets):
            continue
        early = [over_seeds([_at(target, share) for target in targets], seeds) for share in QUARTERS]
        last = over_seeds([Number.of(t.accuracy) if t else no_defense("fraction") for t in targets], seeds)
        pairs = zip(targets, teachers, strict=True)
        needed = over_seeds([_needed(target, teacher) for target, teacher in pairs], seeds)
        rows.append((Words(name), Words(time_steps_of(targets)), *early, last, needed))
    columns = (
        Column("network"),
        Column("T", "count", UNIT),
        *(Column(f"accuracy at {share:g} T", "measured", "fraction", "higher is better") for share in QUARTERS),
        Column("accuracy at T", "measured", "fraction", "higher is better"),
        Column("steps to within a point of the teacher", "measured", UNIT, "lower is better"),
    )
    remarks = (
        "One network made for the full T, read out earlier: at each of the record's points it is asked for its answer. "
        "Accuracy at a share of T is that of the nearest point.",
        "Steps to within a point of the teacher: the first point from which on the accuracy never falls more than one "
        "percentage point short of the teacher's on the same images; no finer than the points lie apart.",
    )
    return columns, rows, remarks


def _at(target: DefenseResult | None, share: float) -> Number:
    if target is None:
        return no_defense("fraction")
    if not target.accuracy_over_time or target.time_steps is None:
        return Number.absent("fraction", "not-applicable", "not measured over time")
    wanted = share * target.time_steps
    return Number.of(min(target.accuracy_over_time, key=lambda point: abs(point[0] - wanted))[1])


def _needed(target: DefenseResult | None, teacher: Measurement) -> Number:
    if target is None:
        return no_defense(UNIT)
    if teacher.value is None:
        return Number.absent(UNIT, teacher.status, teacher.reason)
    reached = _first(target.accuracy_over_time, teacher.value - CLOSE - ROUNDING)
    if reached is None:
        return Number.absent(UNIT, "undefined", f"more than a point short of the teacher at T = {target.time_steps}")
    return Number(float(reached), UNIT, n=target.accuracy.n)


def _first(points: Sequence[tuple[int, Measurement]], least: float) -> int | None:
    """The first of the last points that all are at least that right."""
    found = None
    for steps, accuracy in sorted(points, key=lambda point: point[0], reverse=True):
        if accuracy.value is None or accuracy.value < least:
            break
        found = steps
    return found
