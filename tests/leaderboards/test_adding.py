"""A row is added whole or not at all, and so are the rows of a run."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError
from audit.records import Record
from leaderboards.add import add_run, main
from leaderboards.archive import PNG, SCORES
from leaderboards.entries import MOST_WEIGHTS, add, load, remove, row
from leaderboards.site.build import write_site
from leaderboards.site.templates import PICTURE
from leaderboards.submission import scores_of
from tests.leaderboards.hostile import Contents

CALLS = ("write_bytes", "replace")


def fails_at(count: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """The method, and from its ``count``th call on a disk that is full."""
    calls = iter(range(count))

    def method(self: Path, *given: Any) -> Any:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return original(self, *given)

    return method


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_full_disk_leaves_nothing_behind(
    count: int, name: str, good: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "rows"
    with monkeypatch.context() as patch:
        patch.setattr(Path, name, fails_at(count, getattr(Path, name)))
        with pytest.raises(AuditError, match=r"^cannot write .*\.json: No space left on device$"):
            add(good.record, b"scores", b"picture", root)
    assert files(tmp_path) == []
    entry = add(good.record, b"scores", b"picture", root)
    assert [path.name for path in sorted(entry.path.parent.iterdir())] == [
        entry.path.with_suffix(suffix).name for suffix in (".json", ".npz", ".png")
    ]


def test_weights_lie_beside_a_row_where_they_are_small(good: Contents, tmp_path: Path) -> None:
    entry = add(good.record, b"scores", None, tmp_path / "small", {0: b"first", 10: b"second", 2: b"third"})
    assert {seed: path.read_bytes() for seed, path in entry.weights.items()} == {
        0: b"first",
        2: b"third",
        10: b"second",
    }
    assert [each.weights for each in load(tmp_path / "small")] == [entry.weights]
    remove(entry)
    assert files(tmp_path / "small") == []
    assert add(good.record, b"scores", None, tmp_path / "large", {0: bytes(MOST_WEIGHTS), 1: b"1"}).weights == {}


def test_an_interruption_leaves_nothing_behind_either(
    good: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        add(good.record, b"", None, tmp_path / "rows")
    assert files(tmp_path) == []


def test_a_root_that_is_no_folder_is_said_in_a_line(good: Contents, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("")
    with pytest.raises(AuditError, match=r"^cannot write .*: Not a directory$"):
        add(good.record, b"", None, tmp_path / "rows")
    assert files(tmp_path) == ["rows"]


def test_a_row_that_cannot_be_added_leaves_the_other_rows_where_they_are(good: Contents, tmp_path: Path) -> None:
    first = add(good.record, b"scores", b"picture", tmp_path)
    before = files(tmp_path)
    with pytest.raises(AuditError, match="is there already"):
        add(good.record, b"others", None, tmp_path)
    assert files(tmp_path) == before
    second = add(good.record.model_copy(update={"command": "x"}), b"", None, tmp_path)
    remove(second)
    assert files(tmp_path) == before
    remove(first)
    assert files(tmp_path) == []


@pytest.fixture
def run(good: Contents, tmp_path: Path) -> Path:
    """The folder of a run with two audited defenses, the second of which can be spoilt."""
    folder = tmp_path / "run"
    folder.mkdir()
    [result] = good.record.results
    first, second = (d.model_copy(update={"requested": True}) for d in result.defenses)
    passed = {
        key if key.removeprefix("defense.") in first.settings else key.replace("defense.", "privatesnn."): value
        for key, value in good.record.settings_passed.items()
    }
    results = (result.model_copy(update={"defenses": (first, second)}),)
    whole = good.record.model_copy(update={"results": results, "settings_passed": passed, "submission": None})
    whole.write(folder / "record.json")
    (folder / SCORES).write_bytes(good.files[SCORES])
    return folder


def sheet(side: int) -> bytes:
    """What is taken for a picture of so many pixels a side."""
    return PNG + side.to_bytes(4, "big") * 2


def spoil(run: Path) -> None:
    """A measurement of the second defense that is not what comes out of the raw scores."""
    whole = Record.read(run / "record.json")
    [result] = whole.results
    first, second = result.defenses
    second = second.model_copy(update={"flags": ("masked-gradients",)})
    changed = result.model_copy(update={"defenses": (first, second)})
    whole.model_copy(update={"results": (changed,)}).write(run / "record.json")


def test_every_row_of_a_run_is_added(run: Path, tmp_path: Path) -> None:
    entries = add_run(run, tmp_path / "rows")
    assert [entry.defense for entry in entries] == ["data-free-conversion", "privatesnn"]
    assert {entry.path for entry in load(tmp_path / "rows")} == {entry.path for entry in entries}


def test_every_row_has_the_pictures_of_its_own_defense(run: Path, tmp_path: Path) -> None:
    sheets = {"data-free-conversion": sheet(8), "privatesnn": sheet(16)}
    (run / "pictures").mkdir()
    for name, content in sheets.items():
        (run / "pictures" / f"{name}.png").write_bytes(content)
    entries = add_run(run, tmp_path / "rows")
    assert {entry.defense: entry.pictures and entry.pictures.read_bytes() for entry in entries} == sheets
    (run / "pictures" / "privatesnn.png").unlink()
    [undefended, bare] = add_run(run, tmp_path / "others")
    assert undefended.pictures is not None
    assert bare.pictures is None


def test_no_row_of_a_run_is_added_where_the_pictures_of_one_are_no_image(run: Path, tmp_path: Path) -> None:
    (run / "pictures").mkdir()
    (run / "pictures" / "privatesnn.png").write_bytes(b"<svg>")
    with pytest.raises(AuditError, match=r"privatesnn is refused: .*is no PNG image"):
        add_run(run, tmp_path / "rows")
    assert not (tmp_path / "rows").exists()


def test_no_row_of_a_run_is_added_where_one_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(run)
    assert main([str(run), "--records", str(tmp_path / "rows")]) == 2
    assert "error: privatesnn is refused: [" in capsys.readouterr().err
    assert not (tmp_path / "rows").exists()


def test_no_row_of_a_run_is_added_where_one_is_there_already(run: Path, tmp_path: Path) -> None:
    record = row(Record.read(run / "record.json"), "privatesnn")
    add(record, scores_of(run / SCORES, record), None, tmp_path / "rows")
    before = files(tmp_path)
    with pytest.raises(AuditError, match="is there already"):
        add_run(run, tmp_path / "rows")
    assert files(tmp_path) == before


def test_a_run_whose_rows_cannot_be_written_is_said_in_a_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows").write_text("")
    assert main([str(run), "--records", str(tmp_path / "rows")]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write ")


def test_the_picture_of_a_submitted_row_is_the_submitter_s(good: Contents, tmp_path: Path) -> None:
    own = good.record.model_copy(update={"submission": None})
    said = []
    for number, record in enumerate((good.record, own)):
        entry = add(record, good.files[SCORES], PICTURE + b"pixels", tmp_path / str(number))
        pages = write_site([entry], tmp_path / f"site{number}")
        [page] = [path.read_text() for path in pages if path.match(f"rows/*{entry.hash[:8]}*.html")]
        assert "A row per set of images, a column per class." in page
        said.append("The submitter sent it; whether it shows this defense is not checked." in page)
    assert said == [True, False]
