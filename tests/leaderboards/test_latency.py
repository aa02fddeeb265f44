"""Time-steps to the teacher's accuracy, out of records with planted curves."""

import csv
import io

import pytest

from audit.records import Measurement, Record
from leaderboards.cells import Number
from leaderboards.latency import latency
from leaderboards.tables import build, render
from tests.records_factory import record as made

POINTS = (8, 16, 24, 32)


def accuracy(value: float) -> Measurement:
    return Measurement(
        name="accuracy", value=value, low=value, high=value, interval="Wilson 95 %", n=200, unit="fraction",
        direction="higher is better",
    )  # fmt: skip


def planted(*curves: tuple[float, ...], teacher: float = 0.95) -> Record:
    """One seed per curve of the first spiking defense; every other one keeps none."""
    record = made(seeds=tuple(range(len(curves))))
    results = []
    for result, curve in zip(record.results, curves, strict=True):
        first, *others = [defense for defense in result.defenses if defense.time_steps is not None]
        points = tuple((t, accuracy(value)) for t, value in zip(POINTS, curve, strict=True))
        first = first.model_copy(
            update={"time_steps": 32, "accuracy_over_time": points, "accuracy": accuracy(curve[-1])}
        )
        rest = [other.model_copy(update={"accuracy_over_time": ()}) for other in others]
        named = result.teacher.model_copy(update={"accuracy": accuracy(teacher)})
        results.append(result.model_copy(update={"teacher": named, "defenses": (first, *rest)}))
    return record.model_copy(update={"results": tuple(results)})


def needed(record: Record) -> Number:
    _, rows, _ = latency(record)
    assert len(rows) == 1
    cell = rows[0][-1]
    assert isinstance(cell, Number)
    return cell


def test_it_is_the_first_point_within_a_point_of_the_teacher() -> None:
    assert needed(planted((0.1, 0.93, 0.94, 0.95))).value == 24


def test_exactly_a_point_short_is_within_it() -> None:
    assert needed(planted((0.1, 0.9, 0.93, 0.94))).value == 32


def test_a_point_that_is_lost_again_does_not_count() -> None:
    assert needed(planted((0.1, 0.95, 0.9, 0.95))).value == 32


def test_one_that_never_gets_there_has_a_reason_and_no_number() -> None:
    cell = needed(planted((0.1, 0.2, 0.3, 0.9)))
    assert (cell.value, cell.status) == (None, "undefined")
    assert cell.reason == "more than a point short of the teacher at T = 32"


def test_seeds_are_averaged_and_one_without_a_value_takes_it_from_all() -> None:
    assert needed(planted((0.1, 0.95, 0.95, 0.95), (0.1, 0.2, 0.95, 0.95))).value == 20
    assert needed(planted((0.1, 0.95, 0.95, 0.95), (0.1, 0.2, 0.3, 0.4))).value is None


def test_accuracy_at_a_share_of_t_is_that_of_the_nearest_point() -> None:
    _, rows, _ = latency(planted((0.1, 0.2, 0.3, 0.95)))
    assert [cell.value for cell in rows[0] if isinstance(cell, Number)][:4] == pytest.approx([0.1, 0.2, 0.3, 0.95])


def test_the_table_is_named_and_says_how_it_was_read() -> None:
    text = render(build(planted((0.1, 0.93, 0.94, 0.95)), "latency"), "csv")
    assert "24" in text
    header = next(csv.reader(io.StringIO(text)))
    assert any("steps to within a point of the teacher" in head for head in header)
    assert "read out earlier" in render(build(planted((0.1, 0.93, 0.94, 0.95)), "latency"), "md")
