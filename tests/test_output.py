"""The folder of a run: whole or not there."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import SafetensorError

from audit import temporary
from audit.errors import AuditError
from audit.output import claim, write_run
from audit.records import Record
from audit.reporting.grid import Pictures
from audit.run import Finished
from tests.conftest import tiny_run

NAMES = {"record.json", "report.html", "pictures", "tables", "targets"}  # at least


@pytest.fixture(scope="module")
def finished(tiny_store: Path) -> Finished:
    return tiny_run(tiny_store, "none")


@pytest.fixture
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the plots, which take longer than the rest together."""
    monkeypatch.setattr("audit.output.write_report", lambda record, tables, pictures, path: path.write_text("report"))


pytestmark = pytest.mark.usefixtures("plain_report")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_claim_leaves_nothing_behind(tmp_path: Path) -> None:
    claim(tmp_path / "a" / "b")
    assert _names(tmp_path) == set()


def test_a_run_is_written_to_a_folder_that_is_not_there_yet(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    claim(folder)
    write_run(finished, folder)
    assert _names(folder) >= NAMES
    assert _names(folder.parent) == {"b"}
    assert Record.read(folder / "record.json") == finished.record


def test_every_audited_defense_has_a_sheet_of_its_own_grid(finished: Finished, tmp_path: Path) -> None:
    classes, columns = finished.pictures["none"].classes, finished.pictures["none"].columns
    larger = Pictures(classes, (*columns, ("reconversion\non larger", columns[0][1])))
    write_run(replace(finished, pictures={"none": finished.pictures["none"], "larger": larger}), tmp_path / "run")
    assert _names(tmp_path / "run" / "pictures") == {"none.png", "larger.png"}
    sheets = [np.asarray(Image.open(tmp_path / "run" / "pictures" / f"{name}.png")) for name in ("none", "larger")]
    assert sheets[0].shape[0] / len(columns) == pytest.approx(sheets[1].shape[0] / (len(columns) + 1), rel=0.1)


def test_a_run_without_pictures_has_no_folder_for_them(finished: Finished, tmp_path: Path) -> None:
    write_run(replace(finished, pictures={}), tmp_path / "run")
    assert _names(tmp_path / "run") >= NAMES - {"pictures"}
    assert "pictures" not in _names(tmp_path / "run")


def test_an_empty_folder_that_is_there_already_is_filled_and_not_replaced(finished: Finished, tmp_path: Path) -> None:
    # It may be a mount, or the only folder that its user may write to.
    folder = tmp_path / "mount"
    folder.mkdir()
    identity = folder.stat().st_ino
    claim(folder)
    write_run(finished, folder)
    assert _names(folder) >= NAMES
    assert folder.stat().st_ino == identity


def test_a_link_to_an_empty_folder_is_filled(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "far")
    claim(link)
    write_run(finished, link)
    assert _names(tmp_path / "far") >= NAMES
    assert link.is_symlink()


def test_the_current_folder_is_filled(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    claim(Path())
    write_run(finished, Path())
    assert _names(tmp_path) >= NAMES


def test_a_link_to_nowhere_is_refused_before_the_run(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(AuditError, match="is not an empty folder"):
        claim(link)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("No space left"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("where", ["save_network", "write_report", "write_all"])
def test_a_run_that_cannot_be_written_leaves_nothing(
    where: str,
    error: BaseException,
    exists: bool,
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    if exists:
        folder.mkdir()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"audit.output.{where}", fail)
    with pytest.raises(AuditError if isinstance(error, Exception) else KeyboardInterrupt) as raised:
        write_run(finished, folder)
    if isinstance(error, Exception):
        assert f"cannot write the run to {folder}: No space left" in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path != folder] == []


def test_the_record_is_the_last_to_arrive_in_a_folder_that_is_there(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    rename = Path.rename

    def watch(self: Path, target: Path) -> Path:
        moved.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    write_run(finished, tmp_path)
    assert set(moved) >= NAMES
    assert moved[-1] == "record.json"


def test_a_folder_that_a_killed_process_was_filling_is_empty_for_the_same_command(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mount"
    write_run(finished, folder)
    dead = folder / temporary.place(Path()).name.replace(str(os.getpid()), str(2**22 + 1))
    dead.mkdir()
    (folder / "record.json").rename(dead / "record.json")
    claim(folder)
    assert list(folder.iterdir()) == []
    (folder / "tables").mkdir()
    with pytest.raises(AuditError, match="is not an empty folder"):
        claim(folder)


def test_a_second_run_does_not_overwrite_the_first(finished: Finished, tmp_path: Path) -> None:
    write_run(finished, tmp_path / "run")
    with pytest.raises(AuditError, match=r"already holds a run; choose another folder or remove it"):
        claim(tmp_path / "run")
