"""What a branch does to the records: rows are added, as they are in its own commits, and nothing else happens."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from leaderboards.changes import PLACE, main
from leaderboards.entries import Entry, add
from leaderboards.site.build import write_site
from tests.leaderboards.hostile import Contents

WHO = ("-c", "user.name=A", "-c", "user.email=a@example.org")
LAYER = ("results", 0, "defenses", 1, "energy", "layers", 0)


def git(repository: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repository), *WHO, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(good: Contents, tmp_path: Path) -> Path:
    """A base with one row, and a branch 'submission' that is checked out."""
    git(tmp_path, "init", "-q", "-b", "main")
    added(good, tmp_path, "first")
    commit(tmp_path)
    git(tmp_path, "checkout", "-q", "-b", "submission")
    return tmp_path


def added(good: Contents, repository: Path, command: str, weights: Mapping[int, bytes] | None = None) -> Entry:
    record = good.record.model_copy(update={"command": command})
    return add(record, good.files["scores.npz"], None, repository / PLACE, weights or {})


def commit(repository: Path) -> None:
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "x")


def checked(repository: Path) -> int:
    """As in the workflow: the base is there, of the branch only its commits."""
    commit(repository)
    git(repository, "checkout", "-q", "main")
    return main(["main", "submission", "--repository", str(repository)])


def test_a_row_that_a_branch_adds_is_checked(
    repository: Path, good: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = added(good, repository, "second")
    (repository / "setup.py").write_text("1 / 0")
    assert checked(repository) == 0
    out = capsys.readouterr().out
    assert f"== {entry.path.relative_to(repository)}" in out
    assert "verdict: accepted" in out
    assert not (repository / "setup.py").exists(), "nothing else of the branch is fetched"


def test_weights_that_a_branch_adds_are_checked_with_their_row(
    repository: Path, good: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    first = added(good, repository, "second", good.weights)
    other = added(good, repository, "third", dict.fromkeys(good.weights, b"no weights"))
    assert checked(repository) == 1
    about = capsys.readouterr().out.split("== ")
    [taken] = [text for text in about if first.hash in text.partition("\n")[0]]
    [refused] = [text for text in about if other.hash in text.partition("\n")[0]]
    assert re.search("weights +passed", taken)
    assert re.search("weights +refused", refused)


@pytest.mark.parametrize(
    ("seed", "said"), [("seed0", "belongs to no record that is added with it"), ("seed00", "is no file of a row")]
)
def test_weights_of_no_row_are_refused(
    repository: Path, capsys: pytest.CaptureFixture[str], seed: str, said: str
) -> None:
    (repository / PLACE / f"{'0' * 64}-{seed}.safetensors").write_bytes(b"")
    assert checked(repository) == 2
    assert said in capsys.readouterr().err


def test_what_the_base_got_since_the_branch_left_it_was_not_removed_by_the_branch(
    repository: Path, good: Contents
) -> None:
    added(good, repository, "second")
    commit(repository)
    git(repository, "checkout", "-q", "main")
    added(good, repository, "third")
    commit(repository)
    assert main(["main", "submission", "--repository", str(repository)]) == 0


def test_a_false_row_is_refused(repository: Path, good: Contents, capsys: pytest.CaptureFixture[str]) -> None:
    false = good.at(("results", 0, "defenses", 1, "flags"), ["masked-gradients"])
    added(false, repository, "second")
    assert checked(repository) == 1
    assert "verdict: refused" in capsys.readouterr().out


def test_a_row_that_nobody_submits_is_refused(
    repository: Path, good: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    added(good.at(("submission",), None), repository, "second")
    assert checked(repository) == 1
    out = capsys.readouterr().out
    assert "submission    refused" in out
    assert "a row without one is the maintainers' own: name who submits it" in out
    assert "verdict: refused" in out


def test_a_layer_that_no_page_can_show_is_refused(
    repository: Path, good: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    added(good.at((*LAYER, "name"), "conv1\x0b"), repository, "second")
    assert checked(repository) == 1
    assert "a layer is called 'conv1\\x0b'" in capsys.readouterr().out


def test_notes_that_cannot_be_drawn_are_left_out_and_break_nothing(repository: Path, good: Contents) -> None:
    losses = {"training_loss": [1e308, -1e308, 1e308]}
    entry = added(good.at(("results", 0, "defenses", 1, "notes"), losses), repository, "second")
    [page] = [path for path in write_site([entry], repository / "site") if path.match("rows/*.html")]
    assert "Accuracy against time-steps" in page.read_text()
    assert "Training after conversion" not in page.read_text()
    (repository / "site").rename(repository.with_name(f"{repository.name}-site"))
    assert checked(repository) == 0


@pytest.mark.parametrize("broken", ["write_site", "build", "render"])
def test_a_row_with_which_the_boards_cannot_be_made_is_refused_in_a_line(
    broken: str,
    repository: Path,
    good: Contents,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no\nverdict: accepted\x1b")

    entry = added(good, repository, "second")
    monkeypatch.setattr(f"leaderboards.changes.{broken}", fail)
    assert checked(repository) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(
        f"refused: with {entry.path.relative_to(repository)} the boards cannot be made: ValueError: "
    )
    assert said.endswith("no\\nverdict: accepted\\x1b")


def test_the_workflow_checks_the_commit_of_its_event() -> None:
    text = (Path(__file__).parents[2] / ".github/workflows/submissions.yml").read_text()
    assert "head.sha" in text
    assert "pull/" not in text


@pytest.mark.parametrize("kind", ["changed", "removed", "verified", "script", "link", "large", "alone", "elsewhere"])
def test_anything_else_is_refused_in_a_line(
    kind: str, repository: Path, good: Contents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = added(good, repository, "second")
    [old] = [path for path in entry.path.parent.glob("*.json") if path != entry.path]
    said = "is no file of a row"
    match kind:
        case "changed":
            old.write_text(old.read_text() + " ")
            said = "is changed or removed"
        case "removed":
            old.unlink()
            said = "is changed or removed"
        case "verified":
            entry.verification.write_text("{}")
        case "script":
            (entry.path.parent / "x\n.py").write_text("")
        case "link":
            entry.scores.unlink()
            entry.scores.symlink_to("/etc/passwd")
        case "large":
            monkeypatch.setattr("leaderboards.changes.LARGEST", 1000)
            said = "at most 1,000"
        case "alone":
            entry.path.unlink()
            said = "belongs to no record"
        case "elsewhere":
            folder = entry.path.parent.parent / "dc-cet"
            folder.mkdir()
            for path in (entry.path, entry.scores):
                path.rename(folder / path.name)
            said = "does not say what its place says"
    assert checked(repository) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_commit_that_is_not_there_is_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["main", "nowhere", "--repository", str(repository)]) == 2
    assert "nowhere" in capsys.readouterr().err
