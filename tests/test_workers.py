"""Several processes make what one makes: the same record, each stage once, and no end of a run that hangs."""

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audit.errors import AuditError
from audit.executors import Crew, OnRay, ray_settings
from audit.monitor import SilentMonitor
from audit.networks.vgg import vgg
from audit.own_network import OwnNetworks
from audit.plan import Piece, attacked, protected, trained
from audit.records import Record
from audit.run import run
from audit.run_log import kept_log
from audit.store import Artifact, Store
from audit.workers import Workers, shares, workers
from tests.conftest import tiny_request

DC = "data-free-conversion"
RAISES = 'raise TwoPart("on", "purpose")'
OWN = '''
"""A defense of one's own."""
from dataclasses import dataclass
from typing import ClassVar
from audit.contracts import DataAccess
from audit.registry import register_defense
from tests.test_workers import TwoPart

@dataclass(frozen=True)
class Broken:
    """One that gives no network."""
    data_access: ClassVar[DataAccess] = DataAccess.NONE
    def protect(self, teacher, context):
        raise TwoPart("on", "purpose")

register_defense("broken", Broken)
'''
ATTACK = '''
from audit.contracts import Reconstructions
from audit.registry import register_attack
import torch

@dataclass(frozen=True)
class Idle:
    """One that finds nothing."""
    images_per_class: int = 2
    def reconstruct(self, target, context):
        return Reconstructions(torch.zeros(20, *context.task.image_shape), torch.arange(10).repeat(2))

register_attack("idle", Idle)
'''


class TwoPart(Exception):
    """One that does not come back from another process."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("workers"))


@pytest.fixture(scope="module")
def two(store: Store) -> Iterator[Workers]:
    """Two processes for all tests, with one store: a test that counts teachers trains one that no other asks for."""
    with workers(Crew(2, 1), store, torch.device("cpu")) as pool:
        assert pool is not None
        yield pool


def told(record: Record) -> dict[str, object]:
    """A record but for when it was made and what it cost."""
    return record.model_dump(exclude={"created", "stages"})


def test_two_processes_make_the_record_that_one_makes(two: Workers, store: Store, tmp_path: Path) -> None:
    attacks = "reconversion,adaptive-inversion,membership-inference"
    request, monitor = tiny_request(f"privatesnn,none,{DC}", attacks, teacher__epochs="7"), SilentMonitor()
    (elsewhere,) = two.spread([request], monitor)
    spread = run(request, store, monitor, elsewhere).record
    alone = run(request, Store(tmp_path / "alone"), monitor).record
    assert told(spread) == told(alone)
    assert {(line.name, line.key) for line in spread.stages} == {(line.name, line.key) for line in alone.stages}
    made = [line.key for line in elsewhere if not line.cached]
    assert len(made) == len(set(made))
    assert set(made) < {line.key for line in alone.stages if not line.cached}
    first = {line.key: line for line in reversed(spread.stages)}
    assert not any(first[key].cached for key in made)
    assert all(line.cpu_seconds > 0 for line in spread.stages if line.name == "teacher")


def test_what_fails_elsewhere_is_told_where_the_run_is_put_together(two: Workers, store: Store, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(OWN)
    fails, works = tiny_request(f"none,{tmp_path / 'broken.py'}"), tiny_request("none")
    ended, made = two.spread([fails, works], SilentMonitor())
    assert "attack: reconversion on none" in {line.name for line in made}
    assert not any(line.name.startswith("attack") for line in ended)  # its run ends before any attack
    with pytest.raises(TwoPart, match="on purpose"):
        run(fails, store, SilentMonitor(), ended)


def test_every_request_has_its_own_stages(two: Workers, store: Store) -> None:
    requests = [tiny_request(DC, defense__time_steps=steps, teacher__epochs="6") for steps in ("7", "9")]
    made = two.spread(requests, SilentMonitor())
    for request, elsewhere in zip(requests, made, strict=True):
        record = run(request, store, SilentMonitor(), elsewhere).record
        assert len([line for line in record.stages if line.name == f"target: {DC}"]) == 1
    teachers = [line for elsewhere in made for line in elsewhere if line.name == "teacher" and not line.cached]
    assert len(teachers) == 1


def test_an_attack_and_a_defense_in_one_file_go_to_other_processes(two: Workers, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "both.py"
    path.write_text(OWN.replace(RAISES, "return teacher").replace("broken", "plain") + ATTACK)
    request = tiny_request(str(path), str(path))
    (made,) = two.spread([request], SilentMonitor())
    assert {"target: plain", "attack: idle on plain"} <= {line.name for line in made}
    record = run(request, store, SilentMonitor(), made).record
    assert not any(line.wall_seconds == 0 and not line.cached for line in record.stages)


def test_what_only_this_process_knows_stays_in_it(
    two: Workers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    own = OwnNetworks.of({0: vgg("vgg5", (1, 16, 16), 10, width=0.1)}).component()
    request = replace(tiny_request("none"), defenses=(own,))
    assert two.spread([request], SilentMonitor()) == [[]]
    assert "not in several processes: defense 'own-network' is of this process alone" in caplog.text
    assert threads == [2]


def test_a_process_that_is_killed_ends_the_run_with_a_line(tmp_path: Path) -> None:
    others = multiprocessing.active_children()

    class Killing(SilentMonitor):
        def steps(self, description: str, total: int):  # type: ignore[no-untyped-def]
            for process in multiprocessing.active_children():
                if process not in others:
                    os.kill(process.pid or 0, signal.SIGKILL)
            return super().steps(description, total)

    with workers(Crew(2, 1), Store(tmp_path), torch.device("cpu")) as pool:
        assert pool is not None
        pool.spread([tiny_request("none")], SilentMonitor())
        with pytest.raises(AuditError, match=r"one of 2 processes ended .* goes on from there.*--jobs 1"):
            pool.spread([tiny_request("none", teacher__epochs="500")], Killing())


def test_no_process_is_left(tmp_path: Path) -> None:
    others = multiprocessing.active_children()
    with workers(Crew(2, 1), Store(tmp_path), torch.device("cpu")) as pool:
        assert pool is not None
        pool.spread([tiny_request("none", "none")], SilentMonitor())
        assert len(multiprocessing.active_children()) == len(others) + 2
    assert set(multiprocessing.active_children()) == set(others)


def test_a_process_tells_of_a_damaged_file_and_the_log_of_the_run_holds_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store, request = Store(tmp_path), tiny_request("none", "none")
    run(request, store, SilentMonitor())
    (kept,) = (one for one in store.kept() if one.stage == "teacher")
    kept.path.write_bytes(kept.path.read_bytes()[:-1])
    log = tmp_path / "log.jsonl"
    with kept_log(log, asked=True), workers(Crew(2, 1), store, torch.device("cpu")) as pool:
        assert pool is not None
        pool.spread([request], SilentMonitor())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    said = [line["message"] for line in lines if line["level"] == "warning"]
    assert [text.startswith(f"stored teacher {kept.path} is damaged") for text in said] == [True]
    assert "damaged" not in capfd.readouterr().err
    assert store.get("teacher", kept.path.stem) is not None


def test_the_shares() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert shares(3, 2, cpu) == Crew(3, 2)
    assert shares(1, 2, cpu) == Crew(1, 2)
    assert shares(None, None, gpu).jobs == 1
    here = shares(None, None, cpu)
    assert here.jobs is not None
    assert 1 <= here.jobs <= 4
    assert here.threads >= 1
    assert shares(None, 10**6, cpu) == Crew(1, 10**6)
    assert shares(None, None, gpu, OnRay()) == Crew(None, 1, OnRay())
    for jobs, threads, name in ((0, 1, "--jobs"), (1, 0, "--threads")):
        with pytest.raises(AuditError, match=f"{name} 0: at least 1"):
            shares(jobs, threads, cpu)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("rya", None, ()), "unknown executor 'rya'; did you mean 'ray'"),
        (("local", "head:6379", ()), "--address goes with --executor ray"),
        (("local", None, ("gpus=1",)), "--ray goes with --executor ray"),
        (("ray", None, ("gpu=1",)), "unknown setting of --ray 'gpu'; did you mean 'gpus'"),
        (("ray", None, ("gpus",)), "--ray gpus: write it as gpus=NUMBER"),
        (("ray", None, ("retries=1.5",)), "--ray retries=1.5: write it as retries=NUMBER"),
        (("ray", None, ("gpus=2",)), "--ray gpus=2.0: more than 0, at most 1"),
        (("ray", None, ("gpus=nan",)), "--ray gpus=nan: more than 0"),
        (("ray", None, ("memory=0",)), "--ray memory=0.0: GB, more than 0"),
        (("ray", None, ("retries=-1",)), "--ray retries=-1: 0 or more"),
    ],
)
def test_an_executor_that_is_none_is_refused(given: tuple[str, str | None, tuple[str, ...]], message: str) -> None:
    with pytest.raises(AuditError, match=message):
        ray_settings(*given)


def test_an_executor_takes_what_it_is_told() -> None:
    assert ray_settings("local", None, ()) is None
    assert ray_settings("ray", "head:6379", ("gpus=0.5", "memory=4", "retries=1")) == OnRay("head:6379", 0.5, 4.0, 1)


def test_the_rounds_hold_every_part_once() -> None:
    request = tiny_request(f"none,{DC}", "reconversion,direct-inversion")
    assert [piece.work for piece in trained(request)] == ["teacher", "evaluator", "second evaluator"]
    assert protected(request) == [Piece(0, "target", 0), Piece(0, "target", 1)]
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
