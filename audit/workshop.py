"""Where stages are made: looks each one up under the hash of what makes it, and keeps the books."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

import audit
from audit.checkpoints import Clock, Resumable
from audit.contracts import Monitor
from audit.memory import Peaks
from audit.records import StageInfo
from audit.run_log import tell_stage
from audit.spiking.kernels import engine
from audit.store import UNFINISHED, Artifact, Store, Unusable, digest, hash_sources

ROOT = Path(audit.__file__).parent


@dataclass(frozen=True)
class Made:
    """A stage's artifact and the key that it is stored under: later stages name this key as their input."""

    artifact: Artifact
    key: str


@dataclass
class Workshop:
    """Nothing in here leads to private data: a defense is handed methods of it.

    ``elsewhere``: the stages that other processes made for the same run. ``scale`` says how large such a run
    is: what its stages cost is a guess of what others of that scale will.
    """

    store: Store
    monitor: Monitor
    device: torch.device
    stages: list[StageInfo] = field(default_factory=list)
    elsewhere: Sequence[StageInfo] = ()
    scale: str = ""
    _nested: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.monitor = self._resumable = Resumable(self.monitor)
        self._peaks = Peaks()

    def make(self, stage: str, label: str, seed: int, inputs: dict[str, Any], build: Callable[[], Artifact]) -> Made:
        """The artifact of ``stage`` for these inputs and this seed, from the store where it is there.

        ``inputs`` are JSON values: settings, keys of earlier stages, hashes of code. A stage that is made within
        another one has its own line, and its time is not counted twice; that of a process which was killed in it is
        counted as far as it was kept.
        """
        key = self.key(stage, seed, inputs)
        wall, cpu = time.perf_counter(), time.process_time()
        self._nested.append((0.0, 0.0))
        self._peaks.begin()
        before = (0.0, 0.0)

        def make() -> Artifact:
            nonlocal before
            title = f"{stage} {label} seed {seed} {key[:8]}".replace("/", " ").replace("  ", " ")
            with self._resumable.stage(self.store, key, title) as unfinished:
                before = unfinished.clock.spent
                return build()

        try:
            artifact, cached = self.store.get_or_make(stage, key, make)
        except Unusable:  # what is done of it can be stored another time
            raise
        except Exception:
            self.store.drop(UNFINISHED, key)
            raise
        finally:
            inner_wall, inner_cpu = self._nested.pop()
            peak = self._peaks.end()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            self._resumable.leave_out(wall - inner_wall, cpu - inner_cpu)
            if self._nested:
                outer_wall, outer_cpu = self._nested[-1]
                self._nested[-1] = (outer_wall + wall, outer_cpu + cpu)
        self.store.drop(UNFINISHED, key)
        if not cached:
            self.store.costs.add(self.scale, stage, label, wall + before[0])
        line = StageInfo(
            name=f"{stage}: {label}" if label else stage,
            key=key,
            seed=seed,
            cached=cached,
            wall_seconds=round(wall - inner_wall + before[0], 3),
            cpu_seconds=round(cpu - inner_cpu + before[1], 3),
            peak_memory_bytes=None if cached else peak,
        )
        self.stages.append(line)
        tell_stage(line)
        return Made(artifact, key)

    def clock(self) -> Clock:
        """Wall seconds of work on the stage that is being made, earlier processes' included."""
        return self._resumable.clock()

    def key(self, stage: str, seed: int, inputs: dict[str, Any]) -> str:
        """What the artifact is stored under."""
        return digest({"stage": stage, "seed": seed, "device": self.device.type, "torch": torch.__version__, **inputs})

    def books(self) -> list[StageInfo]:
        """A line for each stage, in the order of the first use: what it cost where it was made."""
        made = {line.key: line for line in self.elsewhere if not line.cached}
        lines = []
        for line in self.stages:
            there = made.pop(line.key, None) if line.cached else None
            lines.append(there.model_copy(update={"name": line.name}) if there else line)
        return lines + list(made.values())


def code(*parts: str) -> str:
    """sha256 over the sources of these files and folders of the package: what a stage's result depends on.

    The spiking engine's results depend, in the last bit of a sum, on whether its kernels could be built as well.
    """
    return digest([_sources(parts), engine()]) if "spiking" in parts else _sources(parts)


# What this process computes with is what it has loaded, whatever becomes of the files while it runs.
LOADED = {path: path.read_bytes() for pattern in ("*.py", "*.cpp") for path in ROOT.rglob(pattern)}


@cache
def _sources(parts: tuple[str, ...]) -> str:
    files = [ROOT / part / "__init__.py" if (ROOT / part).is_dir() else ROOT / part for part in parts]
    return hash_sources(files, lambda path: LOADED[path] if path in LOADED else path.read_bytes())


class NotMade(Exception):
    """A stage is not in the store."""


class ClosedWorkshop(Workshop):
    """One that makes nothing: what is not in the store is raised as `NotMade`."""

    def make(self, stage: str, label: str, seed: int, inputs: dict[str, Any], build: Callable[[], Artifact]) -> Made:
        key = self.key(stage, seed, inputs)
        found = self.store.get(stage, key)
        if found is None:
            raise NotMade(f"{stage}: {label}")
        return Made(found, key)
