"""What a board says of a row: its rank, what it rests on, what sets it apart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from audit.records import Record, Submission
from leaderboards.board import boards, table
from leaderboards.entries import Entry, add, changed_options, load
from leaderboards.site.pareto import plots
from tests.leaderboards.hostile import Contents, put


def row(good: Contents, leakages: Sequence[float], seeds: Sequence[int] = (0, 1, 2), **values: Any) -> Record:
    """A record whose one attack leaks so much under these seeds."""
    result = good.record.results[0]
    found = []
    for seed, value in zip(seeds, leakages, strict=True):
        attack = result.defenses[1].attacks[0]
        assert attack.leakage
        leakage = attack.leakage.model_copy(update={"value": value, "unclipped": value})
        changed = {"attacks": (attack.model_copy(update={"leakage": leakage}),), "flags": ()}
        own = result.defenses[1].model_copy(update=changed)
        found.append(result.model_copy(update={"seed": seed, "defenses": (result.defenses[0], own)}))
    return good.record.model_copy(update={"results": tuple(found), "settings_passed": {}, **values})


def ranks(root: Path) -> dict[str, str]:
    return {r.name: r.rank for r in boards(load(root))[0].rows}


@pytest.mark.parametrize(
    ("seeds", "ranked"),
    [((0, 1, 2), True), ((2, 0, 1), True), ((0, 1), False), ((1, 2, 3), False), ((0, 1, 3), False), ((0,), False)],
)
def test_seeds_that_somebody_chose_have_no_rank(
    seeds: tuple[int, ...], ranked: bool, good: Contents, tmp_path: Path
) -> None:
    add(row(good, [0.5, 0.51, 0.52][: len(seeds)], seeds), b"", None, tmp_path)
    [shown] = boards(load(tmp_path))[0].rows
    assert (shown.rank == "1", shown.seeds) == (ranked, ", ".join(map(str, seeds)))


def called(name: str) -> dict[str, Submission]:
    return {"submission": Submission(name=name, authors=("A",), licence="MIT")}


def rerun(entry: Entry) -> None:
    found = {"record": entry.hash, "accepted": True, "rerun": "attacks", "findings": []}
    entry.verification.write_text(json.dumps(found), encoding="utf-8")


def test_a_row_that_nobody_ran_again_takes_no_rank_from_one_that_somebody_did(good: Contents, tmp_path: Path) -> None:
    rerun(add(row(good, (0.5, 0.51, 0.52), **called("checked")), b"", None, tmp_path))
    add(row(good, (0.1, 0.11, 0.12), **called("claimed")), b"", None, tmp_path)
    add(row(good, (0.6, 0.61, 0.62), **called("worse")), b"", None, tmp_path)
    assert ranks(tmp_path) == {"checked": "1", "claimed": "1", "worse": "3"}


def test_a_changed_option_or_another_architecture_sets_a_row_apart(good: Contents, tmp_path: Path) -> None:
    add(row(good, (0.5, 0.51, 0.52), **called("plain")), b"", None, tmp_path)
    changed = {"settings_passed": {"measure.batch_size": "50"}}
    add(row(good, (0.1, 0.11, 0.12), **called("changed"), **changed), b"", None, tmp_path)
    other = row(good, (0.1, 0.11, 0.12), **called("padded"))
    document = other.model_dump(mode="json")
    for result in document["results"]:
        result["defenses"][1]["energy"]["layers"][0]["ann_multiply_accumulates"] *= 8
    add(Record.model_validate(document), b"", None, tmp_path)
    assert ranks(tmp_path) == {"plain": "1", "changed": "unranked", "padded": "unranked"}
    found = {r.name: r.comparable for r in boards(load(tmp_path))[0].rows}
    assert found["changed"].endswith("measure.batch_size=50")
    assert found["padded"].endswith("another architecture")
    assert len(plots(boards(load(tmp_path))[0])) == 3


def test_what_a_stranger_says_of_his_access_to_data_is_a_claim(good: Contents, tmp_path: Path) -> None:
    own = add(row(good, (0.5, 0.51, 0.52), submission=None), b"", None, tmp_path)
    theirs = add(row(good, (0.5, 0.51, 0.52), **called("theirs")), b"", None, tmp_path)
    found = {r.entry.hash: r.access for r in boards(load(tmp_path))[0].rows}
    assert found == {own.hash: "none", theirs.hash: "none, claimed"}


def test_what_was_not_in_the_choice_of_the_worst_attack_stands_under_the_board(good: Contents, tmp_path: Path) -> None:
    leakage = good.record.results[0].defenses[1].attacks[0].leakage
    assert leakage
    gone = {"value": None, "unclipped": None, "low": None, "high": None, "status": "timed-out", "reason": "too long"}
    path = ("results", 0, "defenses", 1, "attacks", 0, "leakage")
    record = Record.model_validate(put(good.document, path, leakage.model_copy(update=gone).model_dump()))
    add(record, b"", None, tmp_path)
    made = table(boards(load(tmp_path))[0])
    notes = {note.mark: note.text for note in made.footnotes}
    mark = made.rows[0][[c.title for c in made.columns].index("worst attack")].mark
    assert "not in the choice: reconversion. A lower bound, and unranked: reconversion came to no" in notes[mark]


def test_options_that_reach_the_undefended_network_make_a_row_of_another_kind(good: Contents) -> None:
    passed = {"defense.time_steps": "4", "privatesnn.time_steps": "4", "defense.distillation_weight": "1"}
    record = good.record.model_copy(update={"settings_passed": passed})
    assert changed_options(record) == ("defense.time_steps=4",)
    alone = record.results[0].model_copy(update={"defenses": record.results[0].defenses[1:]})
    assert changed_options(record.model_copy(update={"results": (alone,)})) == ()
