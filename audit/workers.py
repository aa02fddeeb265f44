"""Several processes that make the stages of runs; one store is all that they share."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from pickle import PicklingError

import torch

from audit.contracts import Monitor
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.pipeline import prepare_data
from audit.plan import Piece, attacked, make, protected, trained
from audit.request import Request, begin
from audit.seed import OneSeed
from audit.settings import DataSettings
from audit.store import Store
from audit.workshop import Books, Workshop

log = logging.getLogger(__name__)
MOST_BY_DEFAULT = 4
# A piece of one of several requests.
Job = tuple[int, Piece]


class Workers:
    """Processes that are there from `workers` on until it ends."""

    def __init__(self, pool: ProcessPoolExecutor, jobs: int) -> None:
        self._pool, self.jobs = pool, jobs

    def spread(self, requests: Sequence[Request], monitor: Monitor) -> Books:
        """Make the pieces of all requests, in rounds; what it cost, for the records.

        A piece that fails is left to the run that needs it, which fails there in its own way, or tells of it. Raises
        AuditError where a process dies.
        """
        books = Books()
        at = [i for i, request in enumerate(requests) if _portable(request) and _sound(request)]
        done = self._round(requests, [(i, piece) for i in at for piece in trained(requests[i])], books, monitor)
        # Without evaluators a run ends, before it comes to what needs them.
        whole = [i for i in at if all((i, p) in done for p in trained(requests[i]) if p.work != "teacher")]
        seeds = {i: [s for s in requests[i].seeds if (i, Piece(s, "teacher")) in done] for i in whole}
        jobs = [(i, piece) for i in whole for piece in protected(requests[i], seeds[i])]
        done = self._round(requests, jobs, books, monitor)
        twins: dict[int, dict[tuple[int, int], str]] = {i: {} for i in whole}
        for i, piece in jobs:
            if (i, piece) in done and piece.defense is not None:
                twins[i][piece.seed, piece.defense] = done[i, piece]
        jobs = [(i, piece) for i in whole for piece in attacked(requests[i], twins[i])]
        self._round(requests, jobs, books, monitor)
        return books

    def _round(
        self, requests: Sequence[Request], jobs: Iterable[Job], books: Books, monitor: Monitor
    ) -> dict[Job, str]:
        """What came of each job that did not fail."""
        jobs = list(jobs)
        done: dict[Job, str] = {}
        if not jobs:
            return done
        with monitor.steps(f"in {self.jobs} processes", len(jobs)) as advance:
            futures = {self._pool.submit(_make, requests[i], piece): (i, piece) for i, piece in jobs}
            for future in _finished(futures):
                i, piece = futures[future]
                with monitor.steps(piece.title(requests[i]), 1):
                    advance()
                try:
                    found, spent = future.result()
                except BrokenProcessPool as error:
                    raise AuditError(
                        f"a process ended while it made {piece.title(requests[i])} (out of memory?); "
                        "the same command goes on from there, with fewer processes: --jobs 1"
                    ) from error
                except Exception as error:  # it comes again where it belongs
                    log.debug("%s failed", piece.title(requests[i]), exc_info=error)
                    continue
                done[i, piece] = found
                books.add(spent)
        return done


@contextmanager
def workers(jobs: int, threads: int, store: Store) -> Iterator[Workers | None]:
    """``jobs`` processes of ``threads`` threads each; None for one, since this one does it then."""
    torch.set_num_threads(threads)
    if jobs == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _begin, (store.root, threads))
    try:
        yield Workers(pool, jobs)
    finally:
        # Whoever comes here early is not to wait for pieces that may take an hour.
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
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


def _finished(futures: Iterable[Future[tuple[str, Books]]]) -> Iterator[Future[tuple[str, Books]]]:
    """As they come; a wait without end would not let Ctrl-C through on every system."""
    left = set(futures)
    while left:
        done, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
        yield from done


def _portable(request: Request) -> bool:
    """Whether other processes can look up its components."""
    try:
        for component in (*request.compared, *request.attacks):
            component.__reduce__()
    except PicklingError as error:
        log.debug("%s", error)
        return False
    return True


def _sound(request: Request) -> bool:
    """Whether nothing is known yet that ends its run."""
    try:
        begin(request)
    except AuditError:
        return False
    return True


# In a worker.
_store: Store
_seeds: dict[tuple[str, int], OneSeed] = {}
_KEPT = 4


def _begin(root: Path, threads: int) -> None:
    """What a process is like before its first piece."""
    global _store
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that was started by the user tells it to end
    _store = Store(root)
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.join,), daemon=True).start()


def _end_after(join: Callable[[], None]) -> None:
    """A parent that is killed takes its workers along."""
    join()
    os._exit(1)


def _make(request: Request, piece: Piece) -> tuple[str, Books]:
    """The piece's result, and the books of what was made for it."""
    one = _one_seed(request, piece.seed)
    one.shop.own = Books()
    found = make(piece, one)
    return found, one.shop.own


def _one_seed(request: Request, seed: int) -> OneSeed:
    """What this process has of the seed already, so that a teacher is not loaded for every attack on it."""
    place = (repr(request), seed)
    if place not in _seeds:
        if len(_seeds) >= _KEPT:
            _seeds.pop(next(iter(_seeds)))
        data = next((one.data for one in _seeds.values() if _data(one.request) == _data(request)), None)
        shop = Workshop(_store, SilentMonitor(), request.device, scale=request.scale)
        _seeds[place] = OneSeed(shop, data or prepare_data(*_data(request)), request, seed)
    return _seeds[place]


def _data(request: Request) -> tuple[str, Path | None, DataSettings]:
    return request.dataset, request.data_root, request.settings.group("data")
