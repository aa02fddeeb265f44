"""docs/submitting.md is a transcript: what it shows is run, with the tiny audit's settings."""

import re
import shlex
from pathlib import Path

import pytest

from leaderboards.entries import load
from tests.conftest import TINY, Command

PAGE = Path(__file__).parent.parent / "docs" / "submitting.md"
PROMPT = "$ python -m audit "
TINY_OPTIONS = [text for key, value in TINY.items() if key != "defense.epochs" for text in ("--set", f"{key}={value}")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_page_is_what_happens(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_store: Path
) -> None:
    monkeypatch.setenv("AUDIT_STORE", str(tiny_store))
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parent.parent))  # of the re-runs, which are processes of their own
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    Path("my_defense.py").write_text(code)
    done: list[str] = []
    printed = ""
    for line in "".join(blocks("console")).splitlines():
        if line.startswith(PROMPT):
            words = shlex.split(line.removeprefix(PROMPT))
            if words[0] == "--defense":
                words[words.index("--seeds") + 1] = "0,1"
                words += ["--threads", "1", *TINY_OPTIONS]
            outcome = command(*words)
            assert outcome.code == 0, outcome.err + outcome.out
            done.append(words[0])
            printed = outcome.out
        else:
            wanted = r"\s+".join(map(re.escape, re.split(r"  +", line)))
            assert re.search(wanted, printed), f"{line!r} is not in {printed}"
    assert done == ["--defense", "submit", "verify", "verify", "verify", "tables", "site"]
    (entry,) = load(Path("rows"))
    assert entry.record.submission is not None
    assert (entry.defense, entry.record.submission.name) == ("noisy-weights", "Noisy weights")
    (board,) = Path("site/boards").glob("*digits*")
    assert {"Noisy weights", "Ada Example"} <= set(re.findall(r"Noisy weights|Ada Example", board.read_text("utf-8")))
