import csv
import io
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.records import Measurement, Record
from leaderboards.cells import Number, Table
from leaderboards.paper import ALL, LAYOUTS, Options, build, read, terminal, text
from leaderboards.rendering import Format
from tests.leaderboards.paper.planted import inversion, leaking, run, target

RECORDS = Path(__file__).parents[3] / "leaderboards" / "records"
FORMATS: tuple[Format, ...] = ("csv", "md", "tex", "html")


@pytest.fixture(scope="module", params=["class-leakage-v2/digits", "class-leakage-v2/cifar10"])
def committed(request: pytest.FixtureRequest) -> Record:
    return read(RECORDS / request.param)[0].record


def row(table: Table, defense: str) -> dict[str, str]:
    [found] = [r for r in table.rows if r[1].main == defense]
    return {column.title: cell.main for column, cell in zip(table.columns, found, strict=True)}


def squeezed(shown: str) -> str:
    """Letters and digits only: what a format does to the rest is its own affair."""
    return re.sub(r"[^a-z0-9]", "", unescape(shown).lower())


def test_layouts_are_made_without_importing_torch() -> None:
    code = "import sys, leaderboards.paper as p; p.layouts.published(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_format_of_every_layout_of_a_committed_run_says_how_its_set_up_differs(
    committed: Record, layout: str
) -> None:
    [table] = build(layout, [committed])
    said = [
        "(paper: VGG16)",
        "(paper: 150)",
        "epochs of encryption training 8 (paper: 20)",
        "an evaluator (VGG",
        f"{len(committed.results)} seed",
    ]
    for shown in [*(text(table, format) for format in FORMATS), terminal(table, 100)]:
        for what in said:
            assert squeezed(what) in squeezed(shown), (layout, what)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_footnote_is_in_every_format(committed: Record, layout: str) -> None:
    [table] = build(layout, [committed])
    for format in ("csv", "md", "html"):
        shown = squeezed(text(table, format))
        assert all(squeezed(note.text) in shown for note in table.footnotes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_csv_has_the_same_fields_in_every_row(committed: Record, layout: str) -> None:
    [table] = build(layout, [committed])
    header, *rows = csv.reader(io.StringIO(text(table, "csv")))
    assert len(rows) == len(table.rows)
    assert {len(row) for row in rows} == {len(header)}
    assert header[-2:] == ["table", "footnotes"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_number_has_its_reason_and_a_measured_one_its_interval(committed: Record, layout: str) -> None:
    [table] = build(layout, [committed])
    for cells in table.rows:
        for cell in cells:
            assert cell.main.strip()
            if isinstance(cell, Number):
                assert cell.interval_text or cell.reason


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_of_one_seed_or_of_seeds_that_agree_say_why_they_have_no_interval(layout: str) -> None:
    for spread in ((0.0,), (0.0, 0.0, 0.0)):
        [table] = build(layout, [run(leaking("privatesnn", 0.6, spread), leaking("dc-cet", 0.6, spread))])
        numbers = [cell for row in table.rows for cell in row if isinstance(cell, Number) and cell.value is not None]
        assert all(number.interval_text or "No interval: " in (number.reason or "") for number in numbers)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_terminal_shows_every_cell_within_its_width(committed: Record, width: int) -> None:
    for table in build(ALL, [committed]):
        shown = terminal(table, width)
        longest = max((line for line in shown.splitlines() if "/" not in line), key=len)
        assert len(longest) <= width, longest
        words = set(re.findall(r"\w+", shown, re.ASCII))  # a footnote's number stands right behind its value
        assert all(set(re.findall(r"\w+", cell.main, re.ASCII)) <= words for row in table.rows for cell in row)


def test_published_values_stand_beside_the_measured_ones_of_the_same_defense() -> None:
    measured = run(leaking("conversion", 0.6, real_data=True), leaking("privatesnn", 0.6))
    [table] = build("paper-table-2", [measured])
    ours = [r for r in table.rows if r[0].main == "CIFAR-10"]
    by_defense = {r[2].main: [cell.main for cell in r[3:]] for r in ours}
    assert by_defense["conversion"] == ["Yes", "Yes", "91.5", "90.0 %"]
    assert by_defense["privatesnn"] == ["No", "No", "89.2", "90.0 %"]
    assert by_defense["none"][2:] == ["91.6", "98.2 %"]  # the teacher's
    assert by_defense["rmp-snn"] == ["Yes", "not run", "91.4", "not run: --defense rmp-snn"]
    assert {r[0].main for r in table.rows} == {"CIFAR-10", "CIFAR-100", "TinyImageNet"}
    assert all(r[-1].main.startswith("not run: --dataset") for r in table.rows if r[0].main != "CIFAR-10")


@pytest.mark.parametrize("layout", ["paper-table-1", "paper-table-2", "paper-table-5"])
def test_defenses_that_the_paper_lacks_have_rows_that_say_so(layout: str) -> None:
    [table] = build(layout, [run(leaking("qcfs", 0.6), leaking("weight-normalization-max", 0.6))])
    rows = {cell.main: [c.main for c in row] for row in table.rows for cell in row[:3]}
    assert "not in the paper" in rows["qcfs"]
    assert "QCFS, Bu et al. (2022)" in rows["qcfs"]
    assert "not in this table" in rows["weight-normalization-max"]


def test_runs_of_several_data_sets_share_table_2_and_two_of_one_do_not() -> None:
    one, other = run(leaking("privatesnn", 0.6)), run(leaking("privatesnn", 0.6), dataset="cifar100")
    [table] = build("paper-table-2", [one, other])
    filled = [r[0].main for r in table.rows if r[2].main == "privatesnn" and r[-1].main == "90.0 %"]
    assert filled == ["CIFAR-10", "CIFAR-100"]
    assert len(build("paper-table-2", [one, one])) == 2
    assert len(build("paper-table-5", [one, other])) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_on_another_data_set_names_the_published_one_beside_every_published_value(layout: str) -> None:
    [table] = build(layout, [run(leaking("privatesnn", 0.6), dataset="digits")])
    places = [column.title for column in table.columns] + [r[0].main for r in table.rows]
    assert any("CIFAR-10 in the paper" in place for place in places)
    assert any("data set digits (paper: CIFAR-10)" in note.text for note in table.footnotes)


def test_table_4_has_both_scenarios_without_and_with_encryption_and_the_worst_attack() -> None:
    inception = Measurement(
        name="FID, Inception", value=301.5, low=290.0, high=310.0, interval="bootstrap 95 %", n=2100, unit="distance",
        direction="lower means more leakage",
    )  # fmt: skip
    attacked = inversion("reconversion", 0.3)
    attacked = attacked.model_copy(update={"measurements": (attacked.measurements[0], inception)})
    stronger = inversion("adaptive-inversion", 0.8)
    targets = [[target(name, attacked, stronger)] for name in ("data-free-conversion", "privatesnn")]
    [table] = build("paper-table-4", [run(*targets)])
    rows = {(r[0].main, r[2].main): [cell.main for cell in r[3:]] for r in table.rows}
    first = "Attack scenario 1: reconversion"
    assert rows[first, "data-free-conversion"] == ["354.8", "301.5", "40.00", "30.0 %"]
    assert rows[first, "privatesnn"][0] == rows[first, "dc-cet"][0] == "448.2"
    assert rows[first, "dc-cet"][1] == "not run: --defense dc-cet"
    assert rows["Attack scenario 2: direct-inversion", "privatesnn"][:2] == [
        "422.4",
        "not run: --attack direct-inversion",
    ]
    worst = rows["worst attack of the run", "privatesnn"]
    assert (worst[0], worst[-1]) == ("not in the paper", "80.0 %")


def test_table_5_has_every_accounting_and_the_footnote_on_the_unnamed_constants(committed: Record) -> None:
    [table] = build("paper-table-5", [committed])
    own = row(table, "privatesnn")
    assert own["E_ANN / E_ours, paper" if committed.dataset.name == "cifar10" else "accuracy, measured"]
    assert {"total over T, 45nm-float32", "mean per time-step, 45nm-int32"} <= own.keys()
    assert any("states neither constant set nor accounting" in note.text for note in table.footnotes)


def test_figure_6_says_where_the_pictures_lie() -> None:
    measured = run([target("privatesnn", inversion("reconversion", 0.3))])
    where = "runs/a/pictures/privatesnn.png"
    [table] = build("figure-6", [measured], Options(pictures=[{"privatesnn": where}]))
    assert any(note.text == f"Pictures of privatesnn: {where}." for note in table.footnotes)
    [bare] = build("figure-6", [measured])
    assert any(note.text.startswith("Pictures: none") for note in bare.footnotes)
    assert [r[0].main[:3] for r in table.rows] == ["(a)", "(b)", "(c)", "(c)", "(d)", "(e)", "(e)"]


def test_all_is_every_layout_once(committed: Record) -> None:
    assert [table.name for table in build(ALL, [committed])] == list(LAYOUTS)


def test_an_unknown_layout_is_told_with_the_nearest() -> None:
    with pytest.raises(AuditError, match="unknown layout 'paper-table3'; did you mean 'paper-table-3'"):
        build("paper-table3", [run(leaking("privatesnn", 0.6))])
    with pytest.raises(AuditError, match="known: paper-table-1"):
        build("xyz", [run(leaking("privatesnn", 0.6))])


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_a_threshold_off_the_scale_is_refused(threshold: float) -> None:
    with pytest.raises(AuditError, match="--leakage-threshold"):
        build("paper-table-1", [run(leaking("privatesnn", 0.6))], Options(leakage_threshold=threshold))


def test_runs_without_results_are_refused() -> None:
    empty = run(leaking("privatesnn", 0.6)).model_copy(update={"results": ()})
    for records in ([], [empty]):
        with pytest.raises(AuditError, match="nothing to tabulate"):
            build(ALL, records)
