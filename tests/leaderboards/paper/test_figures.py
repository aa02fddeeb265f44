import csv
import io

from audit.records import Record
from leaderboards.cells import Table
from leaderboards.paper import build, text
from tests.leaderboards.paper.planted import converted, run

THREE = ("data-free-conversion", "dc-cet", "privatesnn")


def point(steps: int, images: int = 320, names: tuple[str, ...] = THREE) -> Record:
    targets = [
        [converted(name, steps, 0.5 + steps / 1000 + 0.01 * seed, images) for seed in range(3)] for name in names
    ]
    return run(*targets)


def rows(table: Table) -> dict[tuple[str, str], list[str]]:
    """Accuracy and published accuracy by position and defense."""
    return {(row[0].main, row[2].main): [cell.main for cell in row[3:]] for row in table.rows}


def test_several_runs_are_the_points_of_one_sweep_over_T() -> None:
    [table] = build("figure-5a", [point(150), point(16), point(500)])
    found = rows(table)
    assert found["16", "data-free-conversion"] == ["52.6 %", "drawn, not printed"]
    assert found["150", "data-free-conversion"] == ["66.0 %", "82.8"]
    assert found["500", "data-free-conversion"][1].startswith("almost the ANN's")
    assert found["16", "privatesnn"][1] == "no point in the paper"
    assert [place for place, name in found if name == "dc-cet"] == ["16", "150", "500"]
    assert any("3 runs, a conversion of its own" in note.text for note in table.footnotes)


def test_one_run_is_read_out_at_earlier_time_steps_and_says_so() -> None:
    [table] = build("figure-5a", [point(64)])
    assert [place for place, name in rows(table) if name == "privatesnn"] == ["2", "4", "8", "16", "32", "64"]
    assert any(note.text.startswith("One conversion") for note in table.footnotes)


def test_a_published_point_that_no_run_has_keeps_its_row() -> None:
    [table] = build("figure-5a", [point(64)])
    assert rows(table)["150", "data-free-conversion"] == ["not run: --set defense.time_steps=150", "82.8"]


def test_two_runs_at_the_same_T_are_no_sweep() -> None:
    assert len(build("figure-5a", [point(64), point(64, images=80)])) == 2
    assert len(build("figure-5b", [point(64), point(64, images=80)])) == 1


def test_figure_5b_has_a_row_per_number_of_images_with_and_without_distillation() -> None:
    [table] = build("figure-5b", [point(150, 5000), point(150, 80)])
    found = rows(table)
    assert found["5000", "dc-cet"] == ["66.0 %", "86.9"]
    assert found["5000", "privatesnn"] == ["66.0 %", "89.2"]
    assert found["80", "privatesnn"] == ["66.0 %", "drawn, not printed"]
    assert found["80", "data-free-conversion"][1] == "82.8"


def test_a_curve_that_no_run_has_keeps_a_row_that_says_how_to_run_it() -> None:
    [table] = build("figure-5b", [point(150, 80, ("privatesnn",))])
    assert rows(table)["any", "data-free-conversion"] == ["not run: --defense data-free-conversion", "82.8"]


def test_the_csv_of_a_sweep_has_low_and_high_of_every_point() -> None:
    [table] = build("figure-5a", [point(16), point(32)])
    found = [row for row in csv.DictReader(io.StringIO(text(table, "csv"))) if row["defense"] == "dc-cet"]
    assert [row["T [time-steps]"] for row in found] == ["16", "32"]
    for row in found:
        low, high = (float(row[f"accuracy, measured [fraction; higher is better]: {part}"]) for part in ("low", "high"))
        assert 0 < low < high < 1


def test_points_that_differ_in_another_setting_say_so() -> None:
    [table] = build("figure-5a", [point(16), point(32, images=80)])
    assert any("differ in more than time_steps" in n.text and "synthetic_images" in n.text for n in table.footnotes)
    [alike] = build("figure-5a", [point(16), point(32)])
    assert not any("differ in more" in note.text for note in alike.footnotes)


def test_a_sweep_of_other_defenses_shows_them() -> None:
    [table] = build("figure-5a", [point(16, names=("qcfs",)), point(32, names=("qcfs",))])
    assert [place for place, name in rows(table) if name == "qcfs"] == ["16", "32"]
