"""The sweep: one ordinary run per value of a setting, kept as they finish, and the figure that they make."""

import csv
import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from audit.api import audit
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.records import Record
from audit.reporting.headline import headline
from audit.reporting.lines import Line, Scale, draw_lines, figure_of
from audit.request import Request
from audit.run import Finished, run
from audit.spiking.files import load_network, weights
from audit.store import Store, hash_tensors
from audit.sweep import Sweep, carry_out, plan
from audit.sweep_figure import tables_of, write_figure
from leaderboards.tables import readable
from tests.conftest import TINY, Command, tiny_options, tiny_request

DC = "data-free-conversion"
THREE = (DC, "dc-cet", "privatesnn")
LEAKAGE = ("leak", "verdict", "void", "membership")


@pytest.fixture(autouse=True)
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the plots, which take longer than the rest together."""
    monkeypatch.setattr("audit.output.write_report", lambda record, tables, pictures, path: path.write_text("report"))


@pytest.fixture(scope="module")
def swept(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, list[Record], list[Path]]:
    """Two values, given the larger first, for the paper's three networks; and the figure's files."""
    out = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("audit.output.write_report", lambda record, tables, pictures, path: path.write_text("report"))
        planned = plan("synthetic_samples=27,18", tiny_request(",".join(THREE), "none"), out)
        records = carry_out(planned, Store(tiny_store), SilentMonitor())
    write_figure(planned, records, tables_of(planned, records))
    return planned, records, [path for path in out.iterdir() if path.is_file()]


def over(text: str, out: Path, defense: str = DC, attack: str = "none", **changed: str) -> Sweep:
    return plan(text, tiny_request(defense, attack, **changed), out)


def refusal(text: str, out: Path, defense: str = DC, attack: str = "none", **changed: str) -> str:
    with pytest.raises(AuditError) as refused:
        over(text, out, defense, attack, **changed)
    (line,) = str(refused.value).splitlines()
    return line


def test_every_point_is_an_ordinary_run_in_a_folder_of_its_own(
    swept: tuple[Sweep, list[Record], list[Path]], tmp_path: Path
) -> None:
    planned, records, _ = swept
    assert [point.folder.name for point in planned.points] == ["synthetic_images-27", "synthetic_images-18"]
    for point, record in zip(planned.points, records, strict=True):
        assert {"record.json", "report.html", "tables", "targets"} <= {path.name for path in point.folder.iterdir()}
        assert Record.read(point.folder / "record.json") == record
        assert record.settings_passed == {"defense.synthetic_images": str(point.value)}
        for defense in record.results[0].defenses:
            assert defense.settings["synthetic_images"] == point.value
            network = load_network(point.folder / "targets" / f"{defense.defense}-seed0.safetensors")
            assert hash_tensors(weights(network)) == defense.target_hash


def test_the_points_share_what_the_setting_does_not_touch(swept: tuple[Sweep, list[Record], list[Path]]) -> None:
    first, second = ({stage.name: stage.cached for stage in record.stages} for record in swept[1])
    for name in ("teacher", "evaluator", "second evaluator"):
        assert second[name], name
    for name in (f"target: {defense}" for defense in THREE):
        assert not first[name], name
        assert not second[name], name
    assert swept[1][0].results[0].teacher == swept[1][1].results[0].teacher


def test_synthetic_images_are_made_once_for_all_numbers_of_time_steps(tiny_store: Path, tmp_path: Path) -> None:
    records = carry_out(over("time_steps=13,11", tmp_path), Store(tiny_store), SilentMonitor())
    stages = [stage for stage in records[1].stages if stage.name.startswith("synthetic-images")]
    made = [
        stage for record in records for stage in record.stages if stage.name == f"target: {DC}" and not stage.cached
    ]
    assert len(made) == 2
    assert stages
    assert all(stage.cached for stage in stages)


@pytest.mark.parametrize("name", ["figure-5b", "sweep"])
def test_a_figure_is_a_table_in_every_format_with_an_interval_for_each_value_and_network(
    name: str, swept: tuple[Sweep, list[Record], list[Path]]
) -> None:
    planned, records, files = swept
    assert {f"{name}.{end}" for end in ("csv", "md", "tex", "html")} <= {path.name for path in files}
    with (planned.points[0].folder.parent / f"{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    column = next(key for key in rows[0] if key.startswith(("accuracy, measured", "test accuracy")) and "value" in key)
    stem = column.removesuffix("value")
    for point, record in zip(planned.points, records, strict=True):
        for defense in record.results[0].defenses:
            found = [
                row for row in rows if next(iter(row.values())) == str(point.value) and defense.defense in str(row)
            ]
            assert len(found) == 1, (point.value, defense.defense)
            low, value, high = (float(found[0][f"{stem}{part}"]) for part in ("low", "value", "high"))
            assert value == pytest.approx(defense.accuracy.value)
            assert low < value < high
    places = [row for row in (next(iter(row.values())) for row in rows) if row in ("18", "27")]
    assert places == sorted(places)


def test_the_plot_is_a_picture_of_its_own_name(swept: tuple[Sweep, list[Record], list[Path]]) -> None:
    (plot,) = [path for path in swept[2] if path.suffix == ".png"]
    assert plot.name == "figure-5b.png"
    pixels = np.asarray(Image.open(plot).convert("RGB"))
    assert pixels.shape[0] > 500
    # The first three of Okabe and Ito's colours, one per network.
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert (np.abs(pixels.astype(int) - colour).sum(2) < 12).sum() > 50


def test_a_setting_without_a_figure_in_the_paper_gets_the_general_table_and_plot(
    swept: tuple[Sweep, list[Record], list[Path]], tmp_path: Path
) -> None:
    planned = over("dc-cet.labels=nominal,argmax", tmp_path, "dc-cet")
    tables = tables_of(planned, swept[1])
    assert list(tables) == ["sweep"]
    assert write_figure(planned, swept[1], tables) == tmp_path / "sweep.png"
    assert [row[0].main for row in tables["sweep"].rows] == ["nominal"] * 3 + ["argmax"] * 3
    assert {path.name for path in tmp_path.iterdir()} == {
        "sweep.png",
        *(f"sweep.{e}" for e in ("csv", "md", "tex", "html")),
    }


def test_a_finished_point_is_read_and_not_run_again(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    begun: list[str] = []

    def killed(request: Request, store: Store, monitor: SilentMonitor, elsewhere: object) -> Finished:
        begun.append(request.settings.passed["defense.time_steps"])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return run(request, store, monitor)

    monkeypatch.setattr("audit.series.run", killed)
    options = tiny_options("defense.time_steps", "defense.epochs", "attack.", attacks=[])
    given = ("sweep", "--over", "time_steps=8,12", "--defense", DC, "--store", tiny_store, "--out", tmp_path / "out")
    first = command(*given, *options)
    assert (first.code, first.out) == (130, "")
    said = " ".join(first.err.split())
    assert f"Finished stages are kept in {tiny_store}: the same command goes on from there." in said
    assert f"Finished points are in {tmp_path / 'out'}." in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["time_steps-8"]

    second = command(*given, *options)
    assert second.code == 0, second.err
    assert begun == ["8", "12", "12"]
    assert {"time_steps-8", "time_steps-12", "figure-5a.csv", "figure-5a.png"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert "Figure 5a" in second.out

    third = command(*given, *options)
    assert third.code == 0, third.err
    assert len(begun) == 3
    other = command(*given, *options, "--seed", "1")
    assert (other.code, other.out) == (2, "")
    assert "time_steps-8 holds the run of another request (seeds: [0] there, [1] here)" in " ".join(other.err.split())
    assert len(begun) == 3


def test_a_point_that_other_code_made_is_read_with_a_warning_and_every_table_says_so(
    tiny_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tiny_store)
    planned = over("time_steps=8,12", tmp_path)
    (first, _) = carry_out(planned, store, SilentMonitor())
    older = first.model_copy(update={"environment": first.environment.model_copy(update={"code_hash": "older"})})
    older.write(planned.points[0].folder / "record.json")
    records = carry_out(planned, store, SilentMonitor())
    assert records[0] == older
    assert "time_steps-8 was made by another version of the code; remove it to make it again" in caplog.text
    for table in tables_of(planned, records).values():
        assert table.footnotes[-1].text.startswith("The runs were made by ")


def test_a_finished_point_of_other_settings_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    store = Store(tiny_store)
    carry_out(over("time_steps=8", tmp_path), store, SilentMonitor())
    for changed, what in (
        (over("time_steps=8", tmp_path, **{"defense__leak": "0.9"}), f"({DC}.leak: 1.0 there, 0.9 here)"),
        (over("time_steps=8", tmp_path, "conversion"), "(defenses: "),
        (
            over("time_steps=8", tmp_path, attack="reconversion"),
            "(attacks: [] there, ['reconversion'] here)",
        ),
        (over("time_steps=8", tmp_path, **{"data__split_seed": "1"}), "(data.split_seed: 0 there, 1 here)"),
    ):
        with pytest.raises(AuditError, match="holds the run of another request") as refused:
            carry_out(changed, store, SilentMonitor())
        assert what in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"), [("time_steps-8/notes", "is not an empty folder"), ("record.json", "no sweep")]
)
def test_a_folder_that_holds_something_else_is_refused_before_anything_is_run(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.series.run", lambda *_: pytest.fail("it went on"))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("keep me")
    with pytest.raises(AuditError, match=message):
        carry_out(over("time_steps=4,8", tmp_path), Store(tmp_path / "store"), SilentMonitor())
    assert (tmp_path / name).read_text() == "keep me"


BAD = {
    "time_steps": "--over time_steps: write it as setting=value,value, for example --over time_steps=16,32,64",
    "time_steps=": "write it as setting=value,value",
    "=16": "write it as setting=value,value",
    "a.b.c=16": "write it as setting=value,value",
    "time_steps=16,0": "data-free-conversion.time_steps = '0': input should be greater than or equal to 1",
    "time_steps=16,many": "data-free-conversion.time_steps = 'many': input should be a valid integer",
    "time_steps=16,,32": "data-free-conversion.time_steps = '': input should be a valid integer",
    "time_steps=16,32,016": "--over time_steps: the value 16 is given twice",
    "timesteps=16": "unknown setting 'timesteps'; did you mean 'time_steps'?",
    "synthetic_sample=16": "unknown setting 'synthetic_sample'; did you mean 'synthetic_samples'?",
    "distillation=0.5": "unknown setting 'distillation'; ",
    "defense.timesteps=16": "unknown setting 'defense.timesteps'; did you mean 'defense.time_steps'?",
    "privatesnn.epochs=5": "unknown settings group 'privatesnn'",
    "measure.inception_weights=a/b": "a sweep goes over numbers, words and truth values",
}


@pytest.mark.parametrize("text", sorted(BAD))
def test_what_cannot_be_swept_over_is_one_line(text: str, tmp_path: Path) -> None:
    assert BAD[text] in refusal(text, tmp_path)


@pytest.mark.parametrize("key", ["defense.time_steps", "privatesnn.time_steps", "dc-cet.time_steps"])
def test_a_setting_that_is_passed_as_well_is_refused(key: str, tmp_path: Path) -> None:
    text = refusal("time_steps=8,16", tmp_path, "privatesnn", **{key.replace(".", "__"): "9"})
    assert text == f"pass --over defense.time_steps or --set {key}, not both"


def test_a_point_that_cannot_be_made_is_named(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Finished:
        raise AuditError("its threshold would be 0; use more time-steps")

    monkeypatch.setattr("audit.series.run", fail)
    with pytest.raises(AuditError, match=r"^at time_steps = 8: its threshold would be 0"):
        carry_out(over("time_steps=8", tmp_path), Store(tiny_store), SilentMonitor())


def test_bad_input_of_the_command_is_exit_code_2_and_nothing_is_written(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.series.run", lambda *_: pytest.fail("it went on"))
    outcome = command("sweep", "--over", "time_step=16,32", "--out", tmp_path / "out", "--store", tmp_path / "store")
    assert (outcome.code, outcome.out) == (2, "")
    assert "did you mean 'time_steps'?" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_an_axis_is_logarithmic_beyond_a_decade_only() -> None:
    assert Scale("T", [10.0, 101.0], ["10", "101"]).logarithmic
    assert not Scale("T", [10.0, 100.0], ["10", "100"]).logarithmic
    assert not Scale("T", [0.0, 100.0], ["0", "100"]).logarithmic


@pytest.mark.parametrize("last", [4.0, 400.0])
def test_every_point_and_interval_lies_within_the_axes(last: float) -> None:
    line = Line("a", [(2.0, 50.0, 0.0, 60.0), (last, 60.0, 55.0, 100.0)])
    scale = Scale("T", [2.0, last], ["2", str(last)])
    (axes,) = figure_of([line, Line("b", line.points)], Line("teacher", [(2.0, 101.0, None, None)]), scale, "", "").axes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert 0 < left < 2.0 < last < right < 2 * last
    assert -10 < bottom < 0.0 < 101.0 < top < 110


def test_a_plot_takes_a_point_without_an_interval_and_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    lines = [Line("a_$x$", [(1.0, 50.0, 40.0, 60.0), (100.0, 60.0, None, None)]), Line("b", [(1.0, 55.0, None, None)])]
    scale = Scale("T", [1.0, 100.0], ["1", "100"])
    for reference in ([(1.0, 70.0, None, None)], [(1.0, 70.0, None, None), (100.0, 80.0, None, None)], []):
        draw_lines(lines, Line("teacher", reference), scale, "accuracy", "bars: none", tmp_path / "plot.png")
    assert Image.open(io.BytesIO((tmp_path / "plot.png").read_bytes())).format == "PNG"
    assert dict(matplotlib.rcParams) == before


def test_a_run_without_attacks_measures_accuracy_and_energy_and_says_nothing_of_leakage(
    command: Command, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the report as it is
    out = tmp_path / "run"
    given = ("--defense", "dc-cet", "--attack", "none", "--store", tiny_store, "--out", out)
    outcome = command(*given, *tiny_options("attack.", attacks=[]))
    assert outcome.code == 0, outcome.err
    record = Record.read(out / "record.json")
    for defense in record.results[0].defenses:
        assert defense.accuracy.value is not None
        assert defense.energy is not None
        assert (defense.attacks, defense.untrained, defense.gradients, defense.flags) == ((), (), None, ())
    assert record.results[0].controls == ()
    assert record.suites == ()
    assert not [stage for stage in record.stages if stage.name.startswith(("untrained", "gradients", "attack"))]
    assert readable(record) == ("accuracy", "latency", "energy")
    assert {path.stem for path in (out / "tables").iterdir()} == {"accuracy", "latency", "energy"}
    assert not (out / "pictures").exists()
    said = headline(record)
    assert said.startswith("dc-cet classifies ")
    assert said.endswith("; no attack was run: what it leaks is unknown.")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert said in page
    shown = page.partition("How it was made")[0].replace(said, "").replace("nothing on this page is about leakage", "")
    assert not [word for word in LEAKAGE if word in shown.partition("<main>")[2].lower()]
    assert "Figure 1." in shown


def test_the_headline_of_several_targets_without_attacks_is_their_accuracies(
    swept: tuple[Sweep, list[Record], list[Path]],
) -> None:
    text = headline(swept[1][0])
    assert text.startswith(f"Test accuracy of 3 audited targets: {DC} ")
    assert text.endswith("no attack was run: what they leak is unknown.")


def test_the_function_runs_without_attacks_too(tiny_store: Path) -> None:
    settings = {key: value for key, value in TINY.items() if key.startswith(("data.", "teacher.", "evaluator."))}
    record = audit("none", "none", settings=settings, store=tiny_store, progress=False)
    assert [defense.attacks for defense in record.results[0].defenses] == [()]


def test_no_attack_beside_another_attack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="unknown attack 'none'"):
        tiny_request(DC, "none,reconversion")
