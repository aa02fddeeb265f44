"""What a board says of a row: its rank, what it rests on, what sets it apart."""

from pathlib import Path

import pytest

from audit.records import Record
from leaderboards.board import boards, table
from leaderboards.entries import add, changed_options, load
from tests.leaderboards.hostile import Contents, put


@pytest.mark.parametrize(
    ("seeds", "ranked"),
    [((0, 1, 2), True), ((2, 0, 1), True), ((0, 1), False), ((1, 2, 3), False), ((0, 1, 3), False), ((0,), False)],
)
def test_seeds_that_somebody_chose_have_no_rank(
    seeds: tuple[int, ...], ranked: bool, good: Contents, tmp_path: Path
) -> None:
    result = good.record.results[0]
    found = []
    for nth, seed in enumerate(seeds):
        attacks = tuple(
            a.model_copy(
                update={
                    "leakage": a.leakage
                    and a.leakage.model_copy(update=dict.fromkeys(("value", "unclipped"), 0.5 + 0.01 * nth))
                }
            )
            for a in result.defenses[1].attacks[:1]
        )
        own = result.defenses[1].model_copy(update={"attacks": attacks, "flags": ()})
        found.append(result.model_copy(update={"seed": seed, "defenses": (result.defenses[0], own)}))
    add(good.record.model_copy(update={"results": tuple(found)}), b"", None, tmp_path)
    [row] = boards(load(tmp_path))[0].rows
    assert (row.rank == "1", row.seeds) == (ranked, ", ".join(map(str, seeds)))


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
    assert "not in the choice: reconversion. One of them leaks more where it has a value, or never ended" in notes[mark]


def test_options_that_reach_the_undefended_network_make_a_row_of_another_kind(good: Contents) -> None:
    passed = {"defense.time_steps": "4", "privatesnn.time_steps": "4", "defense.distillation_weight": "1"}
    record = good.record.model_copy(update={"settings_passed": passed})
    assert changed_options(record) == ("defense.time_steps=4",)
    alone = record.results[0].model_copy(update={"defenses": record.results[0].defenses[1:]})
    assert changed_options(record.model_copy(update={"results": (alone,)})) == ()
