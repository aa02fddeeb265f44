"""Progress displays: a live one for a terminal, and a silent one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class SilentMonitor:
    """Reports nothing."""

    @contextmanager
    def steps(self, description: str, total: int) -> Iterator[Callable[[], None]]:
        yield lambda: None


class LiveMonitor:
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
            disable=not console.is_terminal,  # a file or a pipe would get an empty line
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
