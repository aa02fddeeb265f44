"""Several processes make what one makes: the same record, each stage once, and no end of a run that hangs."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.plan import Piece, attacked, protected, trained
from audit.records import Record
from audit.run import run
from audit.store import Artifact, Store
from audit.workers import Workers, shares, workers
from tests.conftest import tiny_request

DC = "data-free-conversion"
OWN = '''
"""Two defenses of one's own."""
from dataclasses import dataclass
from typing import ClassVar
from audit.contracts import DataAccess
from audit.registry import register_defense

@dataclass(frozen=True)
class Broken:
    """One that gives no network."""
    data_access: ClassVar[DataAccess] = DataAccess.NONE
    def protect(self, teacher, context):
        raise RuntimeError("on purpose")

register_defense("broken", Broken)
'''


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Workers]:
    with workers(2, 1, Store(tmp_path / "store")) as pool:
        assert pool is not None
        yield pool


def told(record: Record) -> dict[str, object]:
    """A record but for when it was made and what it cost."""
    return record.model_dump(exclude={"created", "stages"})


def test_two_processes_make_the_record_that_one_makes(two: Workers, tmp_path: Path) -> None:
    request = tiny_request(f"privatesnn,none,{DC}", "reconversion,adaptive-inversion,membership-inference")
    store, monitor = Store(tmp_path / "store"), SilentMonitor()
    books = two.spread([request], monitor)
    spread = run(request, store, monitor, books).record
    alone = run(request, Store(tmp_path / "alone"), monitor).record
    assert told(spread) == told(alone)
    assert {(line.name, line.key) for line in spread.stages} == {(line.name, line.key) for line in alone.stages}
    made = [line.key for line in books.stages if not line.cached]
    assert len(made) == len(set(made)) == len(alone.stages) - sum(line.cached for line in alone.stages)
    first = {line.key: line for line in reversed(spread.stages)}
    assert not any(first[key].cached for key in made)
    assert all(line.cpu_seconds > 0 for line in spread.stages if line.name == "teacher")


def test_what_fails_elsewhere_is_told_where_the_run_is_put_together(two: Workers, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(OWN)
    request = tiny_request(f"none,{tmp_path / 'broken.py'}")
    books = two.spread([request], SilentMonitor())
    assert {line.name for line in books.stages} >= {"teacher", "attack: reconversion on none"}
    with pytest.raises(RuntimeError, match="on purpose"):
        run(request, Store(tmp_path / "store"), SilentMonitor(), books)


def test_an_attack_without_evidence_is_not_tried_again(two: Workers, tmp_path: Path) -> None:
    request = tiny_request("none", "direct-inversion")  # through spikes, which an ANN has not
    books = two.spread([request], SilentMonitor())
    assert {status for status, _ in books.fruitless.values()} == {"not-applicable"}
    before = dict(books.fruitless)
    record = run(request, Store(tmp_path / "store"), SilentMonitor(), books).record
    (result,) = record.results[0].defenses[0].attacks
    assert (result.status, result.reason) in before.values()


def test_a_process_that_is_killed_ends_the_run_with_a_line(two: Workers) -> None:
    class Killing(SilentMonitor):
        def steps(self, description: str, total: int):  # type: ignore[no-untyped-def]
            for process in multiprocessing.active_children():
                os.kill(process.pid or 0, signal.SIGKILL)
            return super().steps(description, total)

    request = tiny_request("none")
    two.spread([request], SilentMonitor())
    with pytest.raises(AuditError, match=r"a process ended while it made .* goes on from there.*--jobs 1"):
        two.spread([tiny_request("none", teacher__epochs="500")], Killing())


def test_no_process_is_left(tmp_path: Path) -> None:
    with workers(2, 1, Store(tmp_path)) as pool:
        assert pool is not None
        pool.spread([tiny_request("none", "none")], SilentMonitor())
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_the_shares() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert shares(3, 2, cpu) == (3, 2)
    assert shares(1, 2, cpu) == (1, 2)
    assert shares(None, None, gpu)[0] == 1
    jobs, threads = shares(None, None, cpu)
    assert 1 <= jobs <= 4
    assert threads >= 1
    assert shares(None, 10**6, cpu) == (1, 10**6)
    for jobs, threads, name in ((0, 1, "--jobs"), (1, 0, "--threads")):
        with pytest.raises(AuditError, match=f"{name} 0: at least 1"):
            shares(jobs, threads, cpu)


def test_the_rounds_hold_every_part_once() -> None:
    request = tiny_request(f"none,{DC}", "reconversion,direct-inversion")
    assert [piece.work for piece in trained(request)] == ["teacher", "evaluator", "second evaluator"]
    assert protected(request, [0]) == [Piece(0, "target", 0), Piece(0, "target", 1)]
    shared = list(attacked(request, {(0, 0): "twin", (0, 1): "twin"}))
    assert [(p.work, p.defense, p.attack) for p in shared] == [
        ("attack", 0, 0),
        ("control", 0, 0),
        ("attack", 1, 0),
        ("attack", 0, 1),
        ("control", 0, 1),
        ("attack", 1, 1),
    ]


def _make_slowly(root: Path, ready: object, made: object) -> None:
    ready.wait()  # type: ignore[attr-defined]

    def make() -> Artifact:
        with made.get_lock():  # type: ignore[attr-defined]
            made.value += 1  # type: ignore[attr-defined]
        return Artifact({"a": torch.arange(1_000_000)})

    for key in "abcdef":
        Store(root).get_or_make("stage", key, make)


def test_of_several_processes_one_makes_a_stage(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, made = context.Barrier(3), context.Value("i", 0)
    processes = [context.Process(target=_make_slowly, args=(tmp_path, ready, made)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert made.value == 6
