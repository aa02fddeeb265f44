"""Somebody else's attack on a row's target: in force when it is about that target, and was run again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.records import External, Record, Submission
from leaderboards.acceptance import accept
from leaderboards.board import boards
from leaderboards.entries import Entry, add, load
from leaderboards.verification import Check, Opened, verify
from tests.leaderboards.hostile import Contents, measured, objection, put


def stronger(good: Contents, about: str) -> Contents:
    """Somebody else's attack on the same target, which sees it as clearly as real images."""
    name = "seed 0/privatesnn/reconversion/features/FD, evaluator features"
    scores = good.scores
    nearest = scores["seed 0/real images, 2 per class/features/FD, evaluator features"]
    scores[name] = nearest + 0.01 * torch.randn(nearest.shape, generator=torch.Generator().manual_seed(1))
    record = measured(good.record, scores)
    who = Submission(name="A better reconversion", authors=("C. Breaker",), licence="MIT")
    record = record.model_copy(update={"submission": who, "external": External(about=about)})
    return replace(good.with_scores(scores).claiming(record), submission=who)


def same(opened: Opened) -> str:
    return "the same"


def external_board(good: Contents, other: Contents, root: Path, again: Check | None = same) -> tuple[Entry, Any]:
    path = good.write(root / "a.zip")
    row = accept(verify(path), root / "records")
    path = other.write(root / "b.zip")
    verdict = verify(path, "attacks", again=again)
    assert verdict.accepted, verdict.text()
    entry = accept(verdict, root / "records")
    [board] = boards(load(root / "records"))
    [shown] = board.rows
    assert shown.entry.hash == row.hash
    return entry, shown


def test_a_stronger_attack_by_a_third_party_becomes_the_headline(good: Contents, tmp_path: Path) -> None:
    about = good.record.hash()
    entry, row = external_board(good, stronger(good, about), tmp_path)
    assert entry.path.relative_to(tmp_path / "records").parts[:3] == ("external", "digits", about)
    assert row.leakage.value > row.claimed.value + 0.1
    assert row.worst == f"reconversion, by C. Breaker ({entry.hash[:8]})"
    assert [e.hash for e in row.externals] == [entry.hash]


def test_an_attack_that_only_its_author_ran_changes_no_headline(good: Contents, tmp_path: Path) -> None:
    entry, row = external_board(good, stronger(good, good.record.hash()), tmp_path, again=None)
    assert row.leakage == row.claimed
    assert (row.externals, row.pending) == ((), ((entry, "nobody but its submitter has run it yet"),))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("results", 0, "defenses", 1, "target_hash"), "0" * 64, "other weights than those of the row"),
        (("results", 0, "defenses", 1, "layers_hash"), "0" * 64, "other weights than those of the row"),
        (("results", 0, "seed"), 5, "other weights than those of the row"),
        (("dataset", "split_hash"), "0" * 64, "another split of the data"),
        (("settings_resolved", "evaluator", "epochs"), 1000, "other settings of data, evaluator or measurement"),
        (("profile",), "small", "other settings of data, evaluator or measurement"),
    ],
)
def test_an_attack_on_something_else_changes_no_headline(
    path: tuple[str | int, ...], value: Any, reason: str, good: Contents, tmp_path: Path
) -> None:
    document = put(stronger(good, good.record.hash()).document, path, value)
    root = tmp_path / "records"
    accept(verify(good.write(tmp_path / "a.zip")), root)
    entry = add(Record.model_validate(document), b"", None, root)
    found = {"record": entry.hash, "accepted": True, "rerun": "all", "findings": []}
    entry.verification.write_text(json.dumps(found))
    [row] = boards(load(root))[0].rows
    assert row.leakage == row.claimed
    assert "Breaker" not in row.worst
    [(_, why)] = row.pending
    assert reason in why


def test_an_external_result_is_checked_like_a_row(good: Contents, tmp_path: Path) -> None:
    other = stronger(good, good.record.hash())
    value = ("results", 0, "defenses", 1, "attacks", 0, "measurements", 0, "value")
    assert "FD" in objection(other.at(value, 0.5), tmp_path)
    assert "archive: record.json is no record" in objection(other.at(("external", "about"), "../x"), tmp_path)
