"""The rounds of runs, given out to where their pieces are made; one store is all that those places share."""

import logging
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from itertools import islice

import torch

from audit.contracts import Monitor
from audit.errors import AuditError
from audit.executors import Crew, Executor, Made, OnRay, processes
from audit.plan import Piece, attacked, protected, trained
from audit.records import StageInfo
from audit.request import Request, begin
from audit.run_log import tell_stage
from audit.store import Store, Unusable

log = logging.getLogger(__name__)
MOST_BY_DEFAULT = 4


class Workers:
    """An executor that is there from `workers` on until it ends."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def spread(self, requests: Sequence[Request], monitor: Monitor) -> list[list[StageInfo]]:
        """Make the pieces of all requests, in rounds; by request, the stages that were made.

        What fails is left to the run that needs it: it fails there in its own way, or tells of it. A request whose
        components other processes cannot look up is left to this one. Raises AuditError where a process dies for good
        or the store cannot be written to.
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
        packed = {i: pickle.dumps(self._executor.pack(requests[i])) for i in pieces}
        jobs = [(i, piece) for i, several in pieces.items() for piece in several]
        if not jobs:
            return list(pieces), came
        try:
            with monitor.steps(self._executor.where, len(jobs)) as advance:
                for future, i, piece in self._made(packed, jobs):
                    title = piece.title(requests[i])
                    error = future.exception()
                    if error is not None and isinstance(error, (Unusable, *self._executor.lost)):
                        raise error
                    with monitor.steps(title if error is None else f"{title}: {error}", 1):
                        advance()
                    if error is None:
                        done = future.result()
                        came[i][piece] = done.result
                        made[i] += done.stages
                        for line in done.stages:
                            tell_stage(line)
                        for text in done.warnings:
                            log.warning("%s", text)
        except self._executor.lost as error:
            raise AuditError(self._executor.advice(error)) from error
        return [i for i, several in pieces.items() if len(came[i]) == len(several)], came

    def _made(
        self, packed: Mapping[int, bytes], jobs: Sequence[tuple[int, Piece]]
    ) -> Iterator[tuple[Made, int, Piece]]:
        """As they come; a wait without end would not let Ctrl-C through on every system."""
        most = self._executor.most or len(jobs)
        waiting = iter(jobs)
        left: dict[Made, tuple[int, Piece]] = {}
        while True:
            for i, piece in islice(waiting, most - len(left)):
                left[self._executor.submit(packed[i], piece)] = i, piece
            if not left:
                return
            done, _ = wait(left, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                yield future, *left.pop(future)

    def _portable(self, request: Request) -> bool:
        try:
            pickle.dumps(request)
        except pickle.PicklingError as error:
            log.warning("not in several processes: %s", error)
            torch.set_num_threads(self._executor.threads)
            return False
        return True


def _places(twins: Mapping[Piece, str]) -> dict[tuple[int, int], str]:
    return {(piece.seed, piece.defense): key for piece, key in twins.items() if piece.defense is not None}


@contextmanager
def workers(crew: Crew, store: Store, device: torch.device) -> Iterator[Workers | None]:
    """Who makes the pieces; None for one process of this machine, since this one does it then."""
    torch.set_num_threads(crew.threads)
    if crew.ray is not None:
        from audit.ray_executor import on_ray

        with on_ray(crew, store, device) as cluster:
            yield Workers(cluster)
    elif crew.jobs == 1:
        yield None
    else:
        assert crew.jobs is not None
        with processes(crew.jobs, crew.threads, store) as pool:
            yield Workers(pool)


def shares(jobs: int | None, threads: int | None, device: torch.device, ray: OnRay | None = None) -> Crew:
    """As asked for; else the cores, by one thread each as far as that goes, and on Ray all that it has, likewise.

    A GPU is not shared by default. Raises AuditError for less than one.
    """
    for name, value in (("--jobs", jobs), ("--threads", threads)):
        if value is not None and value < 1:
            raise AuditError(f"{name} {value}: at least 1")
    if ray is not None:
        return Crew(jobs, threads or 1, ray)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs is None:
        jobs = 1 if device.type == "cuda" else max(1, min(MOST_BY_DEFAULT, cores // (threads or 1)))
    return Crew(jobs, threads or max(1, (torch.get_num_threads() if jobs == 1 else cores // jobs)))


def _sound(request: Request) -> bool:
    """Whether nothing is known yet that ends its run."""
    try:
        begin(request)
    except AuditError:
        return False
    return True
