import csv
import io
from pathlib import Path

import pytest

from leaderboards.paper import read
from tests.conftest import Command
from tests.leaderboards.paper.planted import leaking, run
from tests.leaderboards.paper.test_layouts import RECORDS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a finished run."""
    made = tmp_path / "run"
    made.mkdir()
    run(leaking("privatesnn", 0.6)).write(made / "record.json")
    (made / "pictures").mkdir()
    (made / "pictures" / "privatesnn.png").write_bytes(b"png")
    return made


def test_a_run_is_its_folder_or_its_record(command: Command, folder: Path) -> None:
    for path in (folder, folder / "record.json"):
        shown = command("tables", path, "--layout", "figure-6", "--format", "csv")
        assert shown.code == 0
        assert str(folder / "pictures" / "privatesnn.png") in next(csv.DictReader(io.StringIO(shown.out)))["footnotes"]


def test_every_defense_of_a_run_has_its_own_pictures_and_the_undefended_network_those_of_another(
    folder: Path, tmp_path: Path
) -> None:
    names = ("data-free-conversion", "dc-cet", "privatesnn", "none")
    targets = [[t.model_copy(update={"requested": name != names[0]}) for t in leaking(name, 0.6)] for name in names]
    run(*targets).write(folder / "record.json")
    (folder / "pictures" / "dc-cet.png").write_bytes(b"png")
    sheets = {name: str(folder / "pictures" / f"{name}.png") for name in names[1:3]}
    assert read(folder)[0].pictures == {**sheets, names[0]: sheets["dc-cet"]}


def test_the_picture_beside_a_row_is_of_the_defense_that_it_audits(tmp_path: Path) -> None:
    run(leaking("privatesnn", 0.6)).write(tmp_path / "row.json")
    assert read(tmp_path / "row.json")[0].pictures == {}
    (tmp_path / "row.png").write_bytes(b"png")
    assert read(tmp_path / "row.json")[0].pictures == {"privatesnn": str(tmp_path / "row.png")}


def test_a_folder_of_committed_rows_is_one_run(command: Command) -> None:
    shown = command("tables", RECORDS / "class-leakage-v2" / "digits", "--layout", "paper-table-1", "--format", "md")
    assert shown.code == 0
    assert "| DC + CET | dc-cet | not in this table | addressed |" in shown.out


def test_without_a_layout_a_run_has_the_tables_of_its_report(command: Command, folder: Path) -> None:
    shown = command("tables", folder, "--format", "md")
    assert shown.code == 0
    assert "**Verdict: vgg5 on cifar10, profile smoke**" in shown.out
    assert "**Ablation: " in shown.out


def test_several_runs_are_the_points_of_a_sweep(command: Command, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    made = run(leaking("privatesnn", 0.6))
    results = [
        r.model_copy(update={"defenses": tuple(d.model_copy(update={"time_steps": 128}) for d in r.defenses)})
        for r in made.results
    ]
    made.model_copy(update={"results": tuple(results)}).write(other)
    shown = command("tables", folder, other, "--layout", "figure-5a", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert [row["T [time-steps]"] for row in rows if row["defense"] == "privatesnn"] == ["64", "128"]


def test_the_threshold_is_an_option(command: Command, folder: Path) -> None:
    shown = command("tables", folder, "--layout", "paper-table-1", "--leakage-threshold", "0.9", "--format", "csv")
    [own] = [row for row in csv.DictReader(io.StringIO(shown.out)) if row["defense"] == "privatesnn"]
    assert own["class leakage, measured"] == "addressed"


def test_boards_are_shown_as_before(command: Command) -> None:
    shown = command("tables", "--leaderboard", "digits", "--format", "md")
    assert shown.code == 0
    assert "Leaderboard: class-leakage-v2 on digits" in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a run"),
        (("RUN", "--leaderboard", "digits"), "RUN and --leaderboard do not go together"),
        (("--leaderboard", "digits", "--layout", "all"), "--layout is of runs"),
        (("RUN", "--layout", "figure-5c"), "did you mean 'figure-5"),
        (("RUN", "--layout", "all", "--leakage-threshold", "2"), "--leakage-threshold 2"),
        (("nowhere",), "nowhere is no run: give the folder of a run"),
    ],
)
def test_what_makes_no_sense_is_one_line(command: Command, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    refused = command("tables", *(str(folder) if word == "RUN" else word for word in arguments))
    assert refused.code == 2
    assert said in refused.err
    assert refused.err.count("\n") == 1


def test_a_file_or_folder_that_is_no_run_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.json").write_text("{}", encoding="utf-8")
    for name in ("empty", "note.json"):
        refused = command("tables", tmp_path / name, "--layout", "all")
        assert refused.code == 2
        assert name in refused.err
        assert refused.err.count("\n") == 1
