"""The quantisation paper's tables: its values beside ours, both readings of its triples, and what it gets wrong."""

import csv
import io
import re
from html import unescape
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.records import Measurement
from leaderboards.cells import Number, Table
from leaderboards.paper import terminal, text
from leaderboards.quantization import LAYOUTS, build
from leaderboards.quantization.measured import can_mean
from leaderboards.readme import main
from leaderboards.tracks import Place, each_run, read_track, write_absent
from tests.conftest import Command
from tests.leaderboards.evaded import run, target
from tests.leaderboards.paper.planted import leaking
from tests.leaderboards.paper.planted import run as privacy_run

CODINGS = ("direct", "unsigned-rate", "phase", "latency")
RUNS = [run(target(coding, bits)) for coding in CODINGS for bits in (None, 8, 4)]
SWEPT = [
    run(target(coding, bits, (threshold, 1.0, 0.5), more=0.1 * threshold))
    for coding in CODINGS
    for bits in (None, 4)
    for threshold in (0.4, 0.6, 0.8, 1.0)
]


def rows(table: Table) -> list[dict[str, str]]:
    return [{c.title: cell.main for c, cell in zip(table.columns, row, strict=True)} for row in table.rows]


def squeezed(shown: str) -> str:
    return re.sub(r"[^a-z0-9]", "", unescape(shown).lower())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_cell_has_a_value_or_a_reason_and_a_number_its_interval(layout: str) -> None:
    for records in (RUNS, SWEPT, RUNS[:1]):
        [table] = build(layout, records)
        for row in table.rows:
            assert len(row) == len(table.columns)
            for cell in row:
                assert cell.main.strip()
                assert not isinstance(cell, Number) or cell.interval_text or cell.reason


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_footnote_is_in_every_format_and_both_readings_are_among_them(layout: str) -> None:
    [table] = build(layout, RUNS)
    assert any(
        "(threshold, tau, gamma)" in n.text and "(threshold, surrogate gain, leak)" in n.text for n in table.footnotes
    )
    for format in ("csv", "md", "html"):
        shown = squeezed(text(table, format))  # type: ignore[arg-type]
        assert all(squeezed(note.text) in shown for note in table.footnotes)
    header, *lines = csv.reader(io.StringIO(text(table, "csv")))
    assert {len(line) for line in lines} == {len(header)}
    assert terminal(table, 100)


def test_a_published_value_stands_beside_the_measured_one_of_its_coding_stage_and_triple() -> None:
    [table] = build("quantization-2", SWEPT)
    [found] = [
        row
        for row in rows(table)
        if (row["triple in the paper"], row["stage"], row["coding"]) == ("0.6,1.0,0.5", "Q2", "rate")
    ]
    assert (found["network, measured"], found["bits, measured"]) == ("quantized", "4")
    assert [found[f"loss {name}, paper"] for name in ("I", "II", "III")] == ["1.94", "7.81", "16.28"]
    assert [found[f"loss {name}, measured"] for name in ("I", "II", "III")] == ["11.0 %", "26.0 %", "66.0 %"]


def test_a_variation_stands_beside_that_of_the_measured_parameter_sets() -> None:
    [table] = build("quantization-2", SWEPT)
    found = [row for row in rows(table) if row["triple in the paper"] == "variation"]
    assert len(found) == 8
    assert (found[0]["loss I, paper"], found[0]["loss I, measured"]) == ("0.81", "6.0 %")
    [alone] = build("quantization-2", RUNS)
    assert "needs runs with several parameters" in rows(alone)[-1]["loss I, measured"]


def test_the_only_parameters_that_were_run_stand_beside_the_papers_first_triple_and_are_named() -> None:
    [table] = build("quantization-1", RUNS)
    found = rows(table)
    assert {row["threshold, gain, leak, measured"] for row in found} == {"1, 1, 1"}
    assert [row["bits, measured"] for row in found if (row["coding"], row["stage"]) == ("phase", "Q2")] == ["8", "4"]
    assert found[0]["loss II, paper"] == "13,42"


def test_parameters_that_no_triple_can_mean_have_rows_of_their_own() -> None:
    other = run(target("direct", None, (7.0, 1.0, 0.5)))
    [table] = build("quantization-2", [*SWEPT, other])
    own = [row for row in rows(table) if row["triple in the paper"] == "not in the paper"]
    assert [row["threshold, gain, leak, measured"] for row in own] == ["7, 1, 0.5"]


def test_both_readings_of_a_triple_stand_in_its_row() -> None:
    readings = [(0.4, 1.0, 0.5), (0.4, 0.5, 0.0)]
    [table] = build("quantization-2", [run(target("direct", None, reading)) for reading in readings])
    measured = [row for row in rows(table) if row["network, measured"] != "-"]
    own = [row for row in measured if row["triple in the paper"] != "variation"]
    assert [(row["triple in the paper"], row["threshold, gain, leak, measured"]) for row in own] == [
        ("0.4,1.0,0.5", "0.4, 1, 0.5"),
        ("0.4,1.0,0.5", "0.4, 0.5, 0"),
    ]


def test_a_triple_can_mean_a_gain_and_a_leak_or_a_time_constant_and_a_gain() -> None:
    assert can_mean((0.4, 1.0, 0.5), (0.4, 1.0, 0.5))
    assert can_mean((0.4, 1.0, 0.5), (0.4, 0.5, 0.36788))
    assert can_mean((0.4, 1.0, 0.5), (0.4, 0.5, 0.0))
    assert not can_mean((0.4, 1.0, 0.5), (0.4, 1.0, 1.0))
    assert not can_mean((0.4, 1.0, 0.5), (0.6, 1.0, 0.5))


def test_table_3_says_which_of_its_variations_contradicts_its_column() -> None:
    [table] = build("quantization-3", RUNS)
    assert any("0.1752" in note.text and "1.3167" in note.text for note in table.footnotes)
    assert rows(table)[0]["spikes per neuron, clean"] == "1.00"


def test_table_4_has_a_ratio_for_every_coding_and_strength_and_its_definition() -> None:
    [table] = build("quantization-4", RUNS)
    assert len(table.rows) == 12
    assert any("same random numbers" in note.text for note in table.footnotes)


def test_table_5_has_every_quantised_network_on_both_levels() -> None:
    whole = Measurement(
        name="accuracy loss, whole numbers", value=0.25, n=100, unit="fraction", direction="lower is better"
    )
    on_a_chip = run(target("phase", 2))
    (result,) = on_a_chip.results
    (one,) = result.defenses
    attacks = tuple(a.model_copy(update={"measurements": (*a.measurements, whole)}) for a in one.attacks)
    result = result.model_copy(update={"defenses": (one.model_copy(update={"attacks": attacks}),)})
    [table] = build("quantization-5", [*RUNS, on_a_chip.model_copy(update={"results": (result,)})])
    assert [row["adv_loss FGSM_2, paper"] for row in rows(table)] == ["5.42"] * 9 + ["7.02"] * 9
    said = [row["loss I, measured"] for row in rows(table)[9:]]
    assert sum("25.0 %" in text for text in said) == 1
    assert sum("not measured on these images" in text for text in said) == 8
    assert any("audit.spiking.integer" in note.text for note in table.footnotes)


def test_another_data_set_is_named_beside_every_published_value() -> None:
    for table in build("quantization", [run(target(), dataset="digits")]):
        assert any("CIFAR-10 in the paper" in column.title for column in table.columns)
        assert any("digits (paper: CIFAR-10)" in note.text for note in table.footnotes)


def test_an_unknown_layout_and_runs_without_an_evasion_are_refused() -> None:
    with pytest.raises(AuditError, match="did you mean 'quantization-1'"):
        build("quantization1", RUNS)
    with pytest.raises(AuditError, match="--track robustness"):
        build("quantization-1", [privacy_run(leaking("privatesnn", 0.6))])


def test_the_command_takes_the_folder_of_a_track(command: Command, tmp_path: Path) -> None:
    for name, record in zip("ab", RUNS, strict=False):
        (tmp_path / name).mkdir()
        record.write(tmp_path / name / "record.json")
    write_absent(tmp_path, [Place("latency", 1, {"leak": "0.5"}, "it never spikes")])
    assert each_run([tmp_path]) == [tmp_path / "a", tmp_path / "b"]
    done = command("tables", tmp_path, "--layout", "quantization-1", "--format", "csv")
    assert done.code == 0
    lines = list(csv.DictReader(io.StringIO(done.out)))
    assert [line["bits, measured"] for line in lines if line["network, measured"] == "quantized"] == ["8"]
    assert command("tables", tmp_path / "a", "--layout", "quantization").code == 0
    assert command("tables", tmp_path / "a", "--layout", "quantization-9").code == 2
    together = command("tables", tmp_path, "--format", "md").out
    assert "it never spikes" in together
    assert together.count("| conversion |") == 3


def test_the_pages_take_a_track_and_its_reasons(tmp_path: Path) -> None:
    for name, record in zip("ab", RUNS, strict=False):
        (tmp_path / "track" / name).mkdir(parents=True)
        record.write(tmp_path / "track" / name / "record.json")
    write_absent(tmp_path / "track", [Place("latency", 1, {}, "it never spikes")])
    found = read_track(tmp_path / "track")
    assert found is not None
    assert [place.reason for place in found.absent] == ["it never spikes"]
    page = tmp_path / "README.md"
    page.write_text("<!-- tables: track robustness quantization-1 -->\n<!-- /tables -->\n", encoding="utf-8")
    assert main(["--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "it never spikes" in text
    assert "Table 1 of the quantisation paper" in text
    assert main(["--page", str(page), "--check"]) == 0


def test_a_folder_whose_reasons_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert read_track(tmp_path) is None
    (tmp_path / "track.json").write_text("{}", encoding="utf-8")
    with pytest.raises(AuditError, match="does not say which places have no run"):
        read_track(tmp_path)
