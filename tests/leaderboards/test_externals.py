"""Somebody else's attack on a row's target: in force when it is about that target, and was run again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.records import External, Record, Submission
from audit.worst_case import DISTANCE, REAL_DISTANCE, measurement
from leaderboards.acceptance import accept
from leaderboards.board import boards
from leaderboards.entries import Entry, add, load
from leaderboards.externals import why_not
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
        (("results", 0, "defenses", 1, "target_hash"), "0" * 64, "other targets than those of the row"),
        (("results", 0, "defenses", 1, "layers_hash"), "0" * 64, "other targets than those of the row"),
        (("results", 0, "seed"), 5, "other targets than those of the row"),
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


def in_force(good: Contents, document: Any, root: Path) -> Any:
    """The row on the board beside an external record that somebody is said to have run again."""
    accept(verify(good.write(root / "a.zip")), root / "records")
    entry = add(Record.model_validate(document), b"", None, root / "records")
    found = {"record": entry.hash, "accepted": True, "rerun": "attacks", "findings": []}
    entry.verification.write_text(json.dumps(found))
    [shown] = boards(load(root / "records"))[0].rows
    return shown


TARGET = ("results", 0, "defenses", 1)


def test_an_attack_that_was_given_private_images_changes_no_headline(good: Contents, tmp_path: Path) -> None:
    document = stronger(good, good.record.hash()).document
    document = put(document, (*TARGET, "attacks", 0, "settings", "leaked_images"), 1000)
    shown = in_force(good, document, tmp_path)
    assert shown.leakage == shown.claimed
    assert shown.pending[0][1] == "its attack was given some of the private images"


def test_an_attack_that_fails_takes_nothing_from_a_row(good: Contents, tmp_path: Path) -> None:
    document = stronger(good, good.record.hash()).document
    for place, attack in enumerate(document["results"][0]["defenses"][1]["attacks"]):
        lost = {**attack, "status": "failed", "reason": "it raised", "leakage": None, "measurements": []}
        if attack["leakage"] is not None:
            gone = {"value": None, "unclipped": None, "status": "failed", "reason": "it raised"}
            lost["leakage"] = {**attack["leakage"], **gone}
        document = put(document, (*TARGET, "attacks", place), lost)
    shown = in_force(good, document, tmp_path)
    assert (shown.leakage, len(shown.externals)) == (shown.claimed, 1)
    assert [a.attack for a in shown.results[0].attacks] == [
        a.attack for a in good.record.results[0].defenses[1].attacks
    ]


def test_an_attack_that_spoils_its_own_zero_gains_nothing(good: Contents, tmp_path: Path) -> None:
    document = stronger(good, good.record.hash()).document
    row = good.record.results[0].defenses[1]
    nulls = [m.value for a in row.untrained if (m := measurement(a, DISTANCE)) is not None and m.value is not None]
    attack = document["results"][0]["defenses"][1]["attacks"][0]
    images, real = (
        next(m["value"] for m in attack["measurements"] if m["name"] == n) for n in (DISTANCE, REAL_DISTANCE)
    )
    for place, m in enumerate(document["results"][0]["defenses"][1]["untrained"][0]["measurements"]):
        if m["name"] == DISTANCE:
            document = put(document, (*TARGET, "untrained", 0, "measurements", place, "value"), 1000 * m["value"])
    shown = in_force(good, document, tmp_path)
    [found] = [a for a in shown.results[0].attacks if a.attack.startswith("reconversion, by")]
    assert found.leakage is not None
    assert found.leakage.value == pytest.approx((min(nulls) - images) / (min(nulls) - real))


def test_the_same_targets_under_another_name_are_under_the_same_attack(good: Contents, tmp_path: Path) -> None:
    document = stronger(good, "0" * 64).document
    shown = in_force(good, document, tmp_path)
    assert shown.leakage.value > shown.claimed.value + 0.1


def test_an_attack_under_fewer_seeds_than_the_row_is_not_in_force(good: Contents) -> None:
    second = good.record.results[0].model_copy(update={"seed": 1})
    whole = good.record.model_copy(update={"results": (good.record.results[0], second)})
    row = Entry(whole, Path(f"{'0' * 64}.json"))
    external = Entry(stronger(good, row.hash).record, Path("b.json"))
    assert why_not(external, row) == "it was not run under every seed of the row"


def test_an_external_result_is_checked_like_a_row(good: Contents, tmp_path: Path) -> None:
    other = stronger(good, good.record.hash())
    value = ("results", 0, "defenses", 1, "attacks", 0, "measurements", 0, "value")
    assert "FD" in objection(other.at(value, 0.5), tmp_path)
    assert "archive: record.json is no record" in objection(other.at(("external", "about"), "../x"), tmp_path)
