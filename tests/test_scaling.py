"""The simulation of a grid: what it must give where the answer is known, and the document that shows it."""

import json
from pathlib import Path

import pytest

from benchmarks.scaling import DATASETS, DEFENSES, DOCUMENT, SEEDS, Rounds, between, document, grid, makespan, predicted


def test_one_worker_takes_all_the_work_and_many_the_longest_piece_of_each_round() -> None:
    rounds = Rounds(([3.0, 1.0], [2.0, 2.0, 5.0], [1.0] * 4), 0)
    assert sum(makespan(rounds, 1, 0.0)) == rounds.work == 17
    assert makespan(rounds, 100, 0.0) == (3, 5, 1, 0)
    assert makespan(rounds, 2, 0.0) == (3, 7, 2, 0)
    assert makespan(rounds, 2, 0.5) == (3.5, 8.0, 3.0, 0)


def test_the_grid_has_the_pieces_of_the_question() -> None:
    costs = {"teacher": 5.0, "evaluator": 4.0, "second evaluator": 3.0}
    costs |= {f"target {i}": float(i) for i in range(20)} | {f"attack {i}": 1.0 for i in range(12)}
    trained, protected, attacked = grid(costs, 1.0, DEFENSES, DATASETS, SEEDS).pieces
    assert len(trained) == DATASETS * (SEEDS + 2)
    assert len(protected) == DATASETS * SEEDS * DEFENSES
    assert len(attacked) == DATASETS * SEEDS * 12 * (DEFENSES + DEFENSES // 2)
    assert grid(costs, 2.0, DEFENSES, DATASETS, SEEDS).work == sum([*trained, *protected, *attacked]) / 2


def test_a_log_is_read_as_the_rounds_of_its_run(tmp_path: Path) -> None:
    def stage(name: str, seconds: float, cached: bool = False) -> dict[str, object]:
        moment = "2026-01-01T00:00:05+00:00"
        return {"time": moment, "message": "stage", "name": name, "wall_seconds": seconds, "cached": cached}

    events = [
        {"time": "2026-01-01T00:00:00+00:00", "message": "begins", "processes": 2},
        stage("teacher", 4.0),
        stage("evaluator", 3.0),
        stage("target: none", 2.0),
        stage("attack: reconversion on none", 1.0),
        stage("attack: reconversion on none", 9.0, cached=True),
        {"time": "2026-01-01T00:00:10+00:00", "message": "done"},
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, events)))
    workers, took, said = predicted(log)
    assert (workers, took) == (2, 10)
    assert said == pytest.approx(4 + 2 + 1, abs=0.5)


def test_the_document_shows_what_the_simulation_gives() -> None:
    assert between(DOCUMENT.read_text())[1] == document(), "python -m benchmarks.scaling"
