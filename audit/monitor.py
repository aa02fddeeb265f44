"""Progress displays: live in a terminal, lines in a file, or silent; and one that ends what takes too long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from audit.contracts import Monitor
from audit.loops import Loop


class SilentMonitor(Monitor):
    """Reports nothing."""

    @contextmanager
    def steps(self, description: str, total: int) -> Iterator[Callable[[], None]]:
        yield lambda: None


class OutOfTime(Exception):
    """Raised where a component reports progress after its time is over."""


class Deadline(Monitor):
    """Passes on to ``monitor`` until ``clock`` shows more than ``seconds``; None: for ever."""

    def __init__(self, monitor: Monitor, seconds: float | None, clock: Callable[[], float]) -> None:
        self._monitor, self._seconds, self._clock = monitor, seconds, clock

    @contextmanager
    def steps(self, description: str, total: int) -> Iterator[Callable[[], None]]:
        with self._monitor.steps(description, total) as advance:

            def on_time() -> None:
                self._check()
                advance()

            yield on_time

    @contextmanager
    def loop(self, description: str, total: int, /, **state: Any) -> Iterator[Loop]:
        with self._monitor.loop(description, total, **state) as loop:
            loop.after_each(self._check)
            yield loop

    def scalar(self, name: str, value: float, step: int) -> None:
        self._monitor.scalar(name, value, step)

    def _check(self) -> None:
        if self._seconds is not None and self._clock() > self._seconds:
            raise OutOfTime(f"stopped after {self._seconds:g} s; the limit is measure.attack_seconds")


class LineMonitor(Monitor):
    """A line where a stage begins, with the time since the first, for a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console, self._begin = console, time.monotonic()

    def __enter__(self) -> "LineMonitor":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def steps(self, description: str, total: int) -> Iterator[Callable[[], None]]:
        if total == 1:  # a stage; what it counts inside is for a terminal
            minutes, seconds = divmod(int(time.monotonic() - self._begin), 60)
            self._console.print(f"{minutes:4d}:{seconds:02d}  {description}", markup=False, highlight=False)
        yield lambda: None


def monitor_for(console: Console) -> "LiveMonitor | LineMonitor":
    """Live where somebody watches, lines elsewhere."""
    return LiveMonitor(console) if console.is_terminal else LineMonitor(console)


class LiveMonitor(Monitor):
    """A line per open task, with time left; nested tasks appear below each other and vanish when they end."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._depth = 0

    def __enter__(self) -> "LiveMonitor":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def steps(self, description: str, total: int) -> Iterator[Callable[[], None]]:
        task = self._progress.add_task("  " * self._depth + description, total=total)
        self._depth += 1
        try:
            yield lambda: self._progress.advance(task)
        finally:
            self._depth -= 1
            self._progress.remove_task(task)
