"""Where pieces are made: processes of this machine, or a Ray cluster."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Protocol

from audit.errors import AuditError
from audit.piecework import Done, begin, make_piece
from audit.plan import Piece
from audit.registry import unknown
from audit.request import Request
from audit.store import Store

EXECUTORS = ("local", "ray")
Made = Future[Done]


class Executor(Protocol):
    """Takes pieces, and makes each in some process that has the store.

    ``where``: as the display says it. ``most``: pieces that it takes at a time; None: any number. ``threads``: what
    this process may take where it has to make everything itself. ``lost``: what is raised where a process was lost
    with its piece, or the executor with them.
    """

    where: str
    most: int | None
    threads: int
    lost: tuple[type[Exception], ...]

    def pack(self, request: Request) -> Request:
        """The request as its processes take it."""

    def submit(self, packed: bytes, piece: Piece) -> Made:
        """``packed``: the request, pickled."""

    def advice(self, error: Exception) -> str:
        """One line for an error that is ``lost``."""


@dataclass(frozen=True)
class OnRay:
    """What Ray is told of a piece, and where: 'host:port', 'auto', or None, a Ray of this command's own.

    ``gpus``: the share of one that a piece takes where the device is a GPU. ``memory``: GB that have to be free for a
    piece. ``retries``: how often a piece is given out again whose process or node died.
    """

    address: str | None = None
    gpus: float = 1.0
    memory: float | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        for name, value, sound, wanted in (
            ("gpus", self.gpus, 0 < self.gpus <= 1, "more than 0, at most 1"),
            ("memory", self.memory, self.memory is None or 0 < self.memory < float("inf"), "GB, more than 0"),
            ("retries", self.retries, self.retries >= 0, "0 or more"),
        ):
            if not sound:
                raise AuditError(f"--ray {name}={value}: {wanted}")


@dataclass(frozen=True)
class Crew:
    """Who makes the pieces: ``jobs`` at a time of ``threads`` threads each; without ``ray`` in processes of this
    machine. With it, no ``jobs``: as many as the cluster has room for."""

    jobs: int | None
    threads: int
    ray: OnRay | None = None


def ray_settings(executor: str, address: str | None, passed: Sequence[str]) -> OnRay | None:
    """Of --executor, --address and --ray; None for 'local'. Raises AuditError for what does not go together."""
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    if executor == "local":
        if address or passed:
            raise AuditError(f"{'--address' if address else '--ray'} goes with --executor ray")
        return None
    known = {field.name: int if field.name == "retries" else float for field in fields(OnRay)[1:]}
    values: dict[str, float] = {}
    for option in passed:
        name, _, text = option.partition("=")
        if name not in known:
            raise unknown("setting of --ray", name, known)
        try:
            values[name] = known[name](text)
        except ValueError as error:
            raise AuditError(f"--ray {option}: write it as {name}=NUMBER") from error
    return OnRay(address, **values)  # type: ignore[arg-type]


class Processes:
    """Processes of this machine."""

    lost: tuple[type[Exception], ...] = (BrokenProcessPool,)
    most: int | None = None

    def __init__(self, pool: ProcessPoolExecutor, jobs: int, threads: int) -> None:
        self._pool, self._jobs = pool, jobs
        self.where, self.threads = f"in {jobs} processes", jobs * threads

    def pack(self, request: Request) -> Request:
        return request

    def submit(self, packed: bytes, piece: Piece) -> Made:
        return self._pool.submit(make_piece, packed, piece)

    def advice(self, error: Exception) -> str:
        return (
            f"one of {self._jobs} processes ended (out of memory?); the same command goes on from there, with fewer "
            "processes: --jobs 1"
        )


@contextmanager
def processes(jobs: int, threads: int, store: Store) -> Iterator[Processes]:
    """``jobs`` processes of ``threads`` threads each, which are gone afterwards."""
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(jobs, context, _begin, (store.address, threads))
    try:
        yield Processes(pool, jobs, threads)
    finally:
        # Whoever comes here early is not to wait for pieces that may take an hour.
        pool.shutdown(wait=False, cancel_futures=True)
        ended = [process for process in multiprocessing.active_children() if process not in others]
        for process in ended:
            process.terminate()
        for process in ended:
            # The pool's own thread waits for it as well; one of the two learns that it ended, and a single join of
            # the other comes back before it is known.
            while process.is_alive():
                process.join(0.05)


def _begin(store: str, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that was started by the user tells it to end
    begin(store, threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.join,), daemon=True).start()


def _end_after(join: Callable[[], None]) -> None:
    """A parent that is killed takes its workers along."""
    join()
    os._exit(1)
