"""The loops of a stage that is not finished, kept in the store every half minute."""

import io
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audit.contracts import Monitor
from audit.curves import Curves
from audit.errors import AuditError
from audit.loops import Loop
from audit.store import UNFINISHED, Artifact, Store

log = logging.getLogger(__name__)


def interval() -> float:
    """Seconds between two checkpoints: AUDIT_CHECKPOINT_SECONDS, 30 without it; 0: after every step."""
    text = os.environ.get("AUDIT_CHECKPOINT_SECONDS", "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise AuditError(f"AUDIT_CHECKPOINT_SECONDS={text}: a number of seconds, 0 or more")
    return seconds


@dataclass
class _Open:
    """A loop that runs: its place, and its state at the end of a step, or from before the first one."""

    place: str
    loop: Loop
    state: dict[str, Any]
    loops_within: int = 0
    nests: bool = False


class Clock:
    """What a stage has cost: in earlier processes, ``spent`` wall and CPU seconds, and in this one. It leads to nothing
    else, so that what an attack is handed may hold it."""

    def __init__(self, spent: tuple[float, float]) -> None:
        self.spent = spent
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def here(self) -> tuple[float, float]:
        """Wall and CPU seconds that this process spent on the stage."""
        return time.monotonic() - self._wall, time.process_time() - self._cpu

    def leave_out(self, wall: float, cpu: float) -> None:
        """Do not count these seconds of this process: they went into a stage within this one."""
        self._wall += wall
        self._cpu += cpu

    def __call__(self) -> float:
        """Wall seconds by now, of all processes."""
        return self.spent[0] + self.here()[0]


class Unfinished:
    """One stage's loops: those that are done, and those that run.

    A loop is known by its place: the how manieth of the stage, or within which step of which loop the how manieth. A
    stage is a function of its inputs, so that after a kill the same loops come in the same order.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key, self._every = store, key, interval()
        self._kept: dict[str, dict[str, Any]] = {}
        self._open: list[_Open] = []
        self._loops = 0
        spent = (0.0, 0.0)
        if (found := store.get(UNFINISHED, key)) is not None:
            self._kept = _unpacked(found.tensors["loops"])
            spent = (found.document["wall_seconds"], found.document["cpu_seconds"])
        self.clock = Clock(spent)
        self._written = time.monotonic()

    @contextmanager
    def opened(self, loop: Loop) -> Iterator[None]:
        """While ``loop`` runs: it goes on from where it was, and is kept from time to time, and once it is done."""
        place = self._place()
        if place in self._kept and not loop.go_on(self._kept[place]):
            self._forget_within(place)
        self._open.append(_Open(place, loop, loop.state()))
        try:
            yield
            loop.end()
            self._forget_within(place)
            self._kept[place] = loop.state()
        finally:
            self._open.pop()

    def _place(self) -> str:
        if not self._open:
            self._loops += 1
            return str(self._loops)
        outer = self._open[-1]
        outer.nests = True
        outer.loops_within += 1
        return f"{outer.place}@{outer.loop.step}/{outer.loops_within}"

    def stepped(self) -> None:
        """After each step of the innermost loop."""
        innermost = self._open[-1]
        innermost.loops_within = 0
        due = time.monotonic() - self._written >= self._every
        # In the middle of a step a loop's state is no state to begin a step from: what has loops within its steps is
        # looked at between them.
        if due or innermost.nests:
            innermost.state = innermost.loop.state()
        if due:
            self._write()

    def _write(self) -> None:
        for one in self._open:
            self._forget_within(one.place, but=f"{one.place}@{one.loop.step}/")
            self._kept[one.place] = one.state
        wall, cpu = (before + here for before, here in zip(self.clock.spent, self.clock.here(), strict=True))
        document = {"wall_seconds": wall, "cpu_seconds": cpu}
        try:
            self._store.put(UNFINISHED, self._key, Artifact({"loops": _packed(self._kept)}, document))
        except AuditError as error:  # the work goes on; it is its result that has to be stored
            log.warning("no checkpoint of what is being made: %s", error)
        self._written = time.monotonic()

    def _forget_within(self, place: str, but: str | None = None) -> None:
        """The loops of its steps, which its own state holds by now, and itself."""
        self._kept = {
            other: state
            for other, state in self._kept.items()
            if (other != place and not other.startswith(f"{place}@")) or (but and other.startswith(but))
        }


class Resumable(Monitor):
    """Reports to another monitor, and keeps the loops of the stage that is being made."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._stages: list[Unfinished] = []
        self._curves: list[Curves] = []

    def steps(self, description: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        return self._monitor.steps(description, total)

    @contextmanager
    def loop(self, description: str, total: int, /, **state: Any) -> Iterator[Loop]:
        with self.steps(description, total) as advance:
            loop = Loop(total, **state)
            loop.after_each(advance)
            if not self._stages:
                yield loop
                return
            stage = self._stages[-1]
            with stage.opened(loop):
                for _ in range(loop.step):
                    advance()
                loop.after_each(stage.stepped)
                yield loop

    def scalar(self, name: str, value: float, step: int) -> None:
        if self._curves:
            self._curves[-1].add(name, value, step)

    @contextmanager
    def stage(self, store: Store, key: str, title: str = "") -> Iterator[Unfinished]:
        """While the stage ``key`` is made: what loops there are is its own. A stage may be made within another one.

        ``title``: where its curves go, see `audit.curves`.
        """
        unfinished = Unfinished(store, key)
        self._stages.append(unfinished)
        self._curves.append(Curves(title or key))
        try:
            yield unfinished
        finally:
            self._curves.pop().close()
            self._stages.pop()

    def leave_out(self, wall: float, cpu: float) -> None:
        """Of every stage that is being made: see `Clock.leave_out`."""
        for stage in self._stages:
            stage.clock.leave_out(wall, cpu)

    def clock(self) -> Clock:
        """Of the stage that is being made: what went into it, without the stages within it and without waiting for one
        that another process makes."""
        return self._stages[-1].clock


def _packed(loops: dict[str, dict[str, Any]]) -> Tensor:
    buffer = io.BytesIO()
    torch.save(loops, buffer)
    return torch.frombuffer(bytearray(buffer.getbuffer()), dtype=torch.uint8)


def _unpacked(packed: Tensor) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = torch.load(io.BytesIO(packed.numpy().tobytes()), weights_only=True)
    return found
