"""The robustness table: a row per network and strength, the worst attack beside FGSM, reasons where nothing ran."""

import subprocess
import sys

import pytest

from audit.reporting.headline import headline
from leaderboards.cells import Number, Table
from leaderboards.rendering import render
from leaderboards.robustness import strength, summary, table, targets_of, variation
from leaderboards.tables import NAMES, build, readable, tabulated
from leaderboards.tracks import Place
from tests.leaderboards.evaded import run, target
from tests.leaderboards.paper.planted import leaking
from tests.leaderboards.paper.planted import run as privacy_run


def cells(made: Table, row: int) -> dict[str, str]:
    return {column.title: cell.main for column, cell in zip(made.columns, made.rows[row], strict=True)}


def test_a_row_has_the_loss_to_fgsm_and_that_to_the_worst_attack_with_its_name() -> None:
    made = table([run(target("phase", 4))])
    assert [row[3].main for row in made.rows] == ["I: 2/255", "II: 8/255", "III: 16/255"]
    found = cells(made, 2)
    assert (found["coding"], found["network"], found["bits per weight"]) == ("phase", "quantized", "4")
    assert found["accuracy loss, FGSM"] == "60.0 %"
    assert found["accuracy loss, all attacks"] == "70.0 %"
    assert found["accuracy loss, worst attack"] == "66.0 %"
    assert found["worst attack"] == "evasion (apgd III)"
    assert found["model size"] == "4,000"


def test_a_record_from_before_all_attacks_were_counted_says_so() -> None:
    older = target().model_copy(update={"evasions": ()})
    assert "not measured on this record" in cells(table([run(older)]), 0)["accuracy loss, all attacks"]


def test_an_attack_without_a_value_is_named_and_never_the_worst() -> None:
    made = table([run(target(losses={"evasion (apgd II)": None}))])
    assert cells(made, 1)["worst attack"] == "evasion (pgd II)"
    assert any("Without a value: evasion (apgd II)" in note.text for note in made.footnotes)


def test_an_attack_by_answers_that_takes_most_says_that_gradients_are_masked() -> None:
    masked = {"square-evasion (II)": 0.5}
    made = table([run(target(losses=masked))])
    assert cells(made, 1)["worst attack"] == "square-evasion (II)"
    assert any("masked" in note.text for note in made.footnotes)
    assert not any("masked" in note.text for note in table([run(target())]).footnotes)


def test_a_place_without_a_run_has_a_row_with_its_reason() -> None:
    made = table([run(target())], [Place("latency", 1, reason="a layer received no positive current")])
    assert [cell.main for cell in made.rows[-1][:4]] == ["latency", "none", "1", "all"]
    assert {cell.main for cell in made.rows[-1][4:]} == {"no run"}
    assert any("latency coding, 1 bit: a layer received no positive current." in n.text for n in made.footnotes)
    alone = table([], [Place("direct", None, reason="nothing ran")])
    assert len(alone.rows) == 1


def test_the_summary_for_a_terminal_has_a_row_per_network_and_says_a_reason_once() -> None:
    absent = [Place("latency", bits, reason="it was not registered") for bits in (8, 1)]
    made = summary([run(target(), target(bits=8))], absent)
    assert [[cell.main for cell in row[:3]] for row in made.rows] == [
        ["direct", "conversion", "32"],
        ["direct", "quantized", "8"],
        ["latency", "none", "8, 1"],
    ]
    assert [cell.main for cell in made.rows[0][4:]] == ["5.0 %", "20.0 %", "60.0 %", "70.0 %"]
    assert sum("it was not registered" in note.text for note in made.footnotes) == 1


def test_networks_that_two_runs_share_have_their_rows_once() -> None:
    shared, own = target(), target(bits=8)
    assert [t.name for t in targets_of([run(shared), run(shared, own)])] == ["conversion", "quantized"]


def test_several_parameter_sets_have_a_column_and_the_range_of_the_losses_a_row() -> None:
    runs = [run(target(structure=(t, 1.0, 0.5), more=by)) for t, by in ((0.4, 0.0), (0.6, 0.1), (0.8, -0.05))]
    made = table(runs)
    assert cells(made, 0)["threshold, gain, leak"] == "0.4, 1, 0.5"
    assert cells(made, 9)["threshold, gain, leak"] == "variation over 3"
    assert [cells(made, row)["accuracy loss, FGSM"] for row in (9, 10, 11)] == ["15.0 %"] * 3
    assert "threshold, gain, leak" not in cells(table(runs[:1]), 0)
    short = [[cell.main for cell in row[2:4]] for row in summary(runs, [Place("latency", 8, reason="none")]).rows]
    assert short == [["32", "0.4, 1, 0.5"], ["32", "0.6, 1, 0.5"], ["32", "0.8, 1, 0.5"], ["8", "none"]]


def test_a_variation_lies_between_what_its_intervals_leave_possible() -> None:
    numbers = [Number(0.2, "fraction", 0.1, 0.3), Number(0.5, "fraction", 0.45, 0.55)]
    found = variation(numbers)
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.15)
    assert found.high == pytest.approx(0.45)
    absent = Number.absent("fraction", "failed", "it diverged")
    assert variation([*numbers, absent]).reason == "it diverged"


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("format", ["csv", "md", "tex", "html"])
def test_every_format_of_a_record_alone_has_every_row(seeds: int, format: str) -> None:
    record = run(target(), target(bits=2), seeds=seeds)
    shown = render(build(record, "robustness"), format)  # type: ignore[arg-type]
    assert "quantized" in shown
    assert len(build(record, "robustness").rows) == 6


def test_a_record_of_evasions_alone_has_no_table_about_leakage_and_one_without_has_none_about_robustness() -> None:
    evaded = run(target())
    assert tabulated(evaded) == ("robustness", "accuracy", "latency", "energy")
    assert readable(evaded) == ("robustness", "accuracy", "energy")
    assert tabulated(privacy_run(leaking("privatesnn", 0.6))) == NAMES
    assert build(privacy_run(leaking("privatesnn", 0.6)), "robustness").rows == ()


def test_the_headline_of_a_record_of_evasions_is_about_what_they_take() -> None:
    text = headline(run(target()))
    assert "of 15 evasions evasion (apgd III) takes most, 66.0 % of the images" in text
    assert "leak" not in text


def test_a_bound_of_no_number_is_said_as_it_is() -> None:
    assert (strength(8), strength(4)) == ("II: 8/255", "4/255")


def test_tables_are_made_without_importing_torch() -> None:
    code = "import sys, leaderboards.robustness, leaderboards.quantization as q; q.layouts.published(); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
