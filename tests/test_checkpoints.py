"""A stage that is interrupted anywhere gives, bit for bit, what it gives undisturbed."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.checkpoints import interval
from audit.errors import AuditError
from audit.evidence import attack
from audit.loops import Loop
from audit.membership import Inquiry
from audit.monitor import SilentMonitor
from audit.pipeline import Subject
from audit.request import Request, begin
from audit.seed import OneSeed
from audit.store import UNFINISHED, Artifact, Store, Unusable
from audit.workshop import Workshop
from tests.conftest import tiny_request

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after almost every step."""
    monkeypatch.setenv("AUDIT_CHECKPOINT_SECONDS", "0.02")


def make(request: Request, store: Store) -> None:
    """What is trained, protected, and attacked; nothing is measured."""
    data = begin(request)
    one = OneSeed(Workshop(store, SilentMonitor(), CPU), data, request, 0)
    for component in request.defenses:
        target = one.target(component)
        subject = Subject(component.name, target.network, target.key)
        asked = Inquiry.of(one.shop, data, component, request.settings, request.model, 0)
        for item in request.attacks:
            found = attack(one.shop, data, subject, item, request.settings, 0, asked)
            assert found.status == "ok", found.reason


def hashes(store: Store) -> dict[str, str]:
    """Of what every stage made; unfinished ones are none."""
    found = {}
    for kept in store.kept():
        artifact = store.get(kept.stage, kept.path.stem)
        assert artifact is not None
        found[f"{kept.stage} {kept.path.stem}"] = artifact.hash()
    return found


@dataclass
class Interruptions:
    """Counts the steps of all loops, and presses Ctrl-C in the one that is ``left`` steps away."""

    made: int = 0
    left: int = 0

    def count(self) -> None:
        self.made += 1
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def until_done(self, every: int, work: Callable[[], None]) -> int:
        """Call ``work`` until it comes to its end, with Ctrl-C in every so manieth step; how many there were."""
        for times in range(100):
            self.left = every
            try:
                work()
            except KeyboardInterrupt:
                continue
            return times
        raise AssertionError("no progress")


@pytest.fixture
def interruptions(monkeypatch: pytest.MonkeyPatch) -> Interruptions:
    steps, found = Loop.__iter__, Interruptions()

    def counted(loop: Loop) -> Iterator[int]:
        for n in steps(loop):
            found.count()
            yield n

    monkeypatch.setattr(Loop, "__iter__", counted)
    return found


SHORT = {
    "defense__tuning_epochs": "1",
    "defense__training_epochs": "1",
    "defense__private_epochs": "2",
    "data-free-distillation__student_epochs": "3",
    "data-free-quantization__finetuning_epochs": "1",
}
QUICK = {"attack__images": "10", "evasion__steps": "3", "square-evasion__queries_per_image": "8"}


@pytest.mark.parametrize(
    ("defense", "attacks", "settings"),
    [
        ("qcfs,surrogate-training,data-free-distillation,data-free-quantization,dp-sgd,quantized", "none", SHORT),
        ("privatesnn", "class-leakage-v2,membership-v1", {}),
        ("conversion", "robustness-v1", QUICK),
    ],
    ids=["defenses", "attacks", "evasions"],
)
def test_what_is_interrupted_ends_as_what_is_not(
    defense: str, attacks: str, settings: dict[str, str], interruptions: Interruptions, tmp_path: Path
) -> None:
    whole, pieces = Store(tmp_path / "whole"), Store(tmp_path / "pieces")
    request = tiny_request(defense, attacks, **settings)
    make(request, whole)
    every = interruptions.made // 8
    times = interruptions.until_done(every, lambda: make(request, pieces))
    assert 7 <= times <= 16  # most steps were made once
    assert hashes(pieces) == hashes(whole)


def test_a_loop_gives_back_everything_that_it_was_handed(tmp_path: Path) -> None:
    def begun() -> tuple[Loop, dict[str, Any]]:
        layer = nn.Linear(2, 2)
        optimizer = torch.optim.Adam(layer.parameters())
        state = {
            "layer": layer,
            "optimizer": optimizer,
            "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2]),
            "generator": torch.Generator(),
            "x": torch.zeros(3),
            "grown": torch.zeros(0),
            "some": [],
            "others": {},
            "number": 0.5,
            "nothing": None,
        }
        return Loop(4, **state), state

    loop, state = begun()
    for n in loop:
        state["layer"](torch.ones(1, 2)).sum().backward()
        state["optimizer"].step()
        state["scheduler"].step()
        state["x"] += torch.rand(3, generator=state["generator"])
        loop.grown = torch.ones(n + 1)
        state["some"].append((n, torch.ones(1)))
        state["others"][n] = "text"
        loop.number += 1
        loop.nothing = n
        if n == 2:
            break
    kept = loop.state()
    again, other = begun()
    assert again.go_on(kept)
    assert list(again) == [2, 3]
    assert torch.equal(other["x"], state["x"])
    assert torch.equal(again.grown, torch.ones(3))
    assert [n for n, _ in other["some"]] == [0, 1, 2]
    assert other["others"] == state["others"]
    assert (again.number, again.nothing) == (3.5, 2)
    assert torch.equal(other["layer"].weight, state["layer"].weight)
    assert torch.rand(1, generator=other["generator"]) == torch.rand(1, generator=state["generator"])
    steps = [optimizer.state_dict()["state"][0]["step"] for optimizer in (other["optimizer"], state["optimizer"])]
    assert steps[0] == steps[1] == 3
    assert other["scheduler"].get_last_lr() == state["scheduler"].get_last_lr()


def test_what_is_kept_shares_no_memory_with_what_goes_on() -> None:
    x = torch.zeros(2)
    loop = Loop(2, x=x, several=[x])
    kept = loop.state()
    x += 1
    assert not kept["state"]["x"].any()
    assert not kept["state"]["several"][0].any()


def test_the_state_of_another_loop_is_not_taken() -> None:
    kept = Loop(3, x=1).state()
    for other in (Loop(4, x=2), Loop(3, y=2), Loop(3, x=2, y=2)):
        assert not other.go_on(kept)
        assert other.step == 0


def test_what_a_loop_cannot_keep_is_named() -> None:
    with pytest.raises(TypeError, match="a loop cannot keep 'call': it is a function"):
        Loop(1, call=lambda: None).state()
    with pytest.raises(ValueError, match="a loop has a 'step' of its own"):
        Loop(1, step=0)


def stage(shop: Workshop, make: Callable[[], Tensor]) -> Tensor:
    return shop.make("stage", "", 0, {}, lambda: Artifact({"x": make()})).artifact.tensors["x"]


def test_loops_within_loops_and_one_after_the_other_go_on(
    tmp_path: Path, interruptions: Interruptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_CHECKPOINT_SECONDS", "0")
    store, begun = Store(tmp_path), []

    def make() -> Tensor:
        source, found = torch.Generator().manual_seed(0), torch.zeros(1)
        with shop.monitor.loop("outer", 3, source=source, found=found) as outer:
            for _ in outer:
                before = torch.rand(1, generator=source)  # between two states: drawn again where the step is
                for _ in range(2):
                    with shop.monitor.loop("inner", 4, source=source, found=found) as inner:
                        for n in inner:
                            begun.append(n)
                            found += torch.rand(1, generator=source)
                            if n == 2 and found > 3:
                                break
                found *= before
        with shop.monitor.loop("last", 5, found=found) as last:
            for n in last:
                begun.append(n)
                found += n
        return found

    shop = Workshop(Store(tmp_path / "whole"), SilentMonitor(), CPU)
    whole, steps = stage(shop, make), len(begun)
    begun.clear()

    def again() -> None:
        nonlocal shop, made
        assert [kept.stage for kept in store.kept()] in ([], [UNFINISHED])
        shop = Workshop(store, SilentMonitor(), CPU)
        made = stage(shop, make)

    made = torch.zeros(1)
    times = interruptions.until_done(4, again)
    assert torch.equal(made, whole)
    assert times > 5
    assert len(begun) < 3 * steps
    assert [kept.stage for kept in store.kept()] == ["stage"]


def test_a_stage_that_fails_begins_anew(tmp_path: Path) -> None:
    store, seen = Store(tmp_path), []

    def make() -> Tensor:
        with shop.monitor.loop("loop", 4, x=torch.zeros(1)) as loop:
            for n in loop:
                seen.append(n)
                time.sleep(0.03)
                if n == 2:
                    raise ValueError("on purpose")
        return loop.x

    for _ in range(2):
        shop = Workshop(store, SilentMonitor(), CPU)
        with pytest.raises(ValueError, match="on purpose"):
            stage(shop, make)
    assert seen == [0, 1, 2, 0, 1, 2]
    assert store.kept() == []


def test_the_time_of_earlier_processes_counts(tmp_path: Path, interruptions: Interruptions) -> None:
    def make() -> Tensor:
        with shop.monitor.loop("loop", 8, x=torch.zeros(1)) as loop:
            for _ in loop:
                limit.append(shop.clock()())
                time.sleep(0.05)
        return loop.x

    limit: list[float] = []
    interruptions.left = 6
    shop = Workshop(Store(tmp_path), SilentMonitor(), CPU)
    with pytest.raises(KeyboardInterrupt):
        stage(shop, make)
    shop = Workshop(Store(tmp_path), SilentMonitor(), CPU)
    stage(shop, make)
    assert limit[0] < 0.05
    assert limit[-1] >= 0.35
    assert shop.stages[0].wall_seconds >= 0.35


def test_the_clock_of_a_stage_stands_still_while_stages_within_it_are_made_or_waited_for(tmp_path: Path) -> None:
    """Two levels down as well; otherwise a limit of time would be another one after a kill."""

    def within(name: str, build: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def make() -> Tensor:
            clock = shop.clock()
            shop.make(name, "", 0, {}, lambda: Artifact({"x": build()}))
            seconds.append(clock())
            return torch.zeros(1)

        return make

    def slow() -> Tensor:
        time.sleep(0.3)
        return torch.zeros(1)

    seconds: list[float] = []
    shop = Workshop(Store(tmp_path), SilentMonitor(), CPU)
    stage(shop, within("middle", within("inner", slow)))
    assert max(seconds) < 0.2
    assert [line.wall_seconds > 0.25 for line in shop.stages] == [True, False, False]

    other = Store(tmp_path)
    held = threading.Event()

    def hold() -> None:
        with other._alone("elsewhere", shop.key("elsewhere", 0, {})):
            held.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    shop.make("waiting", "", 0, {}, lambda: Artifact({"x": within("elsewhere", lambda: torch.zeros(1))()}))
    thread.join()
    assert seconds[-1] < 0.2


def test_a_checkpoint_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Store, name: str, key: str, artifact: Artifact) -> None:
        if name == UNFINISHED:
            raise Unusable("No space left on device")
        real(self, name, key, artifact)

    def make() -> Tensor:
        with shop.monitor.loop("loop", 2, x=torch.zeros(1)) as loop:
            for _ in loop:
                time.sleep(0.03)
                loop.x = loop.x + 1
        return loop.x

    real = Store.put
    monkeypatch.setattr(Store, "put", full)
    shop = Workshop(Store(tmp_path), SilentMonitor(), CPU)
    assert stage(shop, make) == 2
    assert "no checkpoint of what is being made: No space left on device" in caplog.text


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_an_interval_that_is_none_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_CHECKPOINT_SECONDS", text)
    with pytest.raises(AuditError, match=f"AUDIT_CHECKPOINT_SECONDS={text}: a number of seconds, 0 or more"):
        interval()
