"""docs/submitting.md is a transcript: what it shows is run, with the tiny audit's settings."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from audit.records import Environment
from audit.run import environment
from leaderboards.entries import load
from tests.conftest import TINY, Command

PAGE = Path(__file__).parent.parent / "docs" / "submitting.md"
PROMPT = "$ python -m audit "
TINY_OPTIONS = [text for key, value in TINY.items() if key != "defense.epochs" for text in ("--set", f"{key}={value}")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def examples() -> list[tuple[str, list[str]]]:
    """Every command of the page without its prompt, and the lines that are shown as its answer."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks("console")).splitlines():
        if line.startswith(PROMPT):
            found.append((line.removeprefix(PROMPT), []))
        else:
            found[-1][1].append(line)
    return found


def pattern(shown: list[str]) -> str:
    """Of all that is printed: '...' stands for any lines, HASH for one, and a line may go on after two spaces."""
    parts = []
    for line in shown:
        words = r"\s+".join(map(re.escape, re.split(r"  +", line))).replace("HASH", "[0-9a-f]{64}")
        parts.append(r"(.*\n)*?" if line == "..." else rf"{words}(  .*)?\n")
    return "".join(parts)


def as_a_revision(*given: Any, **named: Any) -> Environment:
    """A reader's copy is a clean one; the one under test may have changes that nobody committed."""
    return environment(*given, **named).model_copy(update={"git_revision": "0123456789ab"})


def test_the_page_is_what_happens(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_store: Path
) -> None:
    monkeypatch.setenv("AUDIT_STORE", str(tiny_store))
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parent.parent))  # of the re-runs, which are processes of their own
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("audit.run.environment", as_a_revision)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    Path("my_defense.py").write_text(code)
    done: list[str] = []
    for line, shown in examples():
        words = shlex.split(line)
        if words[0] == "--defense":
            words[words.index("--seeds") + 1] = "0"
            words += ["--threads", "1", *TINY_OPTIONS]
        outcome = command(*words)
        assert outcome.code == 0, outcome.err + outcome.out
        done.append(words[0])
        if shown:
            assert re.fullmatch(pattern(shown), outcome.out), f"{shown} is not all of\n{outcome.out}"
    assert done == ["--defense", "submit", "verify", "verify", "verify", "tables", "site"]
    (entry,) = load(Path("rows"))
    assert entry.record.submission is not None
    assert (entry.defense, entry.record.submission.name) == ("noisy-weights", "Noisy weights")
    (board,) = Path("site/boards").glob("*digits*")
    assert {"Noisy weights", "Ada Example"} <= set(re.findall(r"Noisy weights|Ada Example", board.read_text("utf-8")))
