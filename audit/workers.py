"""Several processes that make the stages of runs; one store is all that they share."""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch

from audit.contracts import Monitor
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.pipeline import prepare_data
from audit.plan import Piece, attacked, make, protected, trained
from audit.records import StageInfo
from audit.request import Request, begin
from audit.seed import OneSeed
from audit.settings import DataSettings
from audit.store import Store, Unusable
from audit.workshop import Workshop

log = logging.getLogger(__name__)
MOST_BY_DEFAULT = 4
Made = Future[tuple[str, list[StageInfo]]]


class Workers:
    """Processes that are there from `workers` on until it ends."""

    def __init__(self, pool: ProcessPoolExecutor, jobs: int, threads: int) -> None:
        self._pool, self.jobs, self.threads = pool, jobs, threads

    def spread(self, requests: Sequence[Request], monitor: Monitor) -> list[list[StageInfo]]:
        """Make the pieces of all requests, in rounds; by request, the stages that were made.

        What fails is left to the run that needs it: it fails there in its own way, or tells of it. A request whose
        components other processes cannot look up is left to this one. Raises AuditError where a process dies or the
        store cannot be written to.
        """
        made: list[list[StageInfo]] = [[] for _ in requests]
        at = [i for i, request in enumerate(requests) if self._portable(request) and _sound(request)]
        at, _ = self._round(requests, {i: trained(requests[i]) for i in at}, made, monitor)
        targets = {i: protected(requests[i]) for i in at}
        at, twins = self._round(requests, targets, made, monitor)
        pieces = {i: list(attacked(requests[i], _places(twins[i]))) for i in at}
        self._round(requests, pieces, made, monitor)
        return made

    def _round(
        self,
        requests: Sequence[Request],
        pieces: Mapping[int, Sequence[Piece]],
        made: list[list[StageInfo]],
        monitor: Monitor,
    ) -> tuple[list[int], dict[int, dict[Piece, str]]]:
        """The requests of which no piece failed, and what came of their pieces."""
        came: dict[int, dict[Piece, str]] = {i: {} for i in pieces}
        packed = {i: pickle.dumps(requests[i]) for i in pieces}
        jobs = [(i, piece) for i, several in pieces.items() for piece in several]
        if not jobs:
            return list(pieces), came
        try:
            with monitor.steps(f"in {self.jobs} processes", len(jobs)) as advance:
                futures = {self._pool.submit(_make, packed[i], piece): (i, piece) for i, piece in jobs}
                for future in _finished(futures):
                    i, piece = futures[future]
                    title = piece.title(requests[i])
                    error = future.exception()
                    if isinstance(error, Unusable | BrokenProcessPool):
                        raise error
                    with monitor.steps(title if error is None else f"{title}: {error}", 1):
                        advance()
                    if error is None:
                        came[i][piece], stages = future.result()
                        made[i] += stages
        except BrokenProcessPool as error:
            raise AuditError(
                f"one of {self.jobs} processes ended (out of memory?); the same command goes on from there, with fewer "
                "processes: --jobs 1"
            ) from error
        return [i for i, several in pieces.items() if len(came[i]) == len(several)], came

    def _portable(self, request: Request) -> bool:
        try:
            pickle.dumps(request)
        except pickle.PicklingError as error:
            log.warning("not in several processes: %s", error)
            torch.set_num_threads(self.jobs * self.threads)
            return False
        return True


def _places(twins: Mapping[Piece, str]) -> dict[tuple[int, int], str]:
    return {(piece.seed, piece.defense): key for piece, key in twins.items() if piece.defense is not None}


@contextmanager
def workers(jobs: int, threads: int, store: Store) -> Iterator[Workers | None]:
    """``jobs`` processes of ``threads`` threads each; None for one, since this one does it then."""
    torch.set_num_threads(threads)
    if jobs == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(jobs, context, _begin, (store.root, threads))
    try:
        yield Workers(pool, jobs, threads)
    finally:
        # Whoever comes here early is not to wait for pieces that may take an hour.
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
                process.join()


def shares(jobs: int | None, threads: int | None, device: torch.device) -> tuple[int, int]:
    """(processes, threads of each): as asked for; else the cores, by one thread each as far as that goes.

    A GPU is not shared by default. Raises AuditError for less than one.
    """
    for name, value in (("--jobs", jobs), ("--threads", threads)):
        if value is not None and value < 1:
            raise AuditError(f"{name} {value}: at least 1")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs is None:
        jobs = 1 if device.type == "cuda" else max(1, min(MOST_BY_DEFAULT, cores // (threads or 1)))
    return jobs, threads or max(1, (torch.get_num_threads() if jobs == 1 else cores // jobs))


def _finished(futures: Iterable[Made]) -> Iterator[Made]:
    """As they come; a wait without end would not let Ctrl-C through on every system."""
    left = set(futures)
    while left:
        done, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
        yield from done


def _sound(request: Request) -> bool:
    """Whether nothing is known yet that ends its run."""
    try:
        begin(request)
    except AuditError:
        return False
    return True


# In a worker.
_store: Store
_requests: dict[bytes, Request] = {}
_seeds: dict[tuple[bytes, int], OneSeed] = {}
_KEPT = 4


def _begin(root: Path, threads: int) -> None:
    """What a process is like before its first piece."""
    global _store
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that was started by the user tells it to end
    logging.disable(logging.WARNING)  # what there is to say is said once, where the run is put together
    _store = Store(root)
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.join,), daemon=True).start()


def _end_after(join: Callable[[], None]) -> None:
    """A parent that is killed takes its workers along."""
    join()
    os._exit(1)


def _make(packed: bytes, piece: Piece) -> tuple[str, list[StageInfo]]:
    """The piece's result, and the stages that were made for it."""
    try:
        one = _one_seed(packed, piece.seed)
        one.shop.stages = []
        return make(piece, one), one.shop.stages
    except AuditError:
        raise
    except Exception as error:  # anybody's code: what it raises may not survive the way back
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _one_seed(packed: bytes, seed: int) -> OneSeed:
    """What this process has of the seed already, so that a teacher is not loaded for every attack on it."""
    if (packed, seed) not in _seeds:
        request = _requests.setdefault(packed, pickle.loads(packed))
        if len(_seeds) >= _KEPT:
            _seeds.pop(next(iter(_seeds)))
        data = next((one.data for one in _seeds.values() if _data(one.request) == _data(request)), None)
        shop = Workshop(_store, SilentMonitor(), request.device, scale=request.scale)
        _seeds[packed, seed] = OneSeed(shop, data or prepare_data(*_data(request)), request, seed)
    return _seeds[packed, seed]


def _data(request: Request) -> tuple[str, Path | None, DataSettings]:
    return request.dataset, request.data_root, request.settings.group("data")
