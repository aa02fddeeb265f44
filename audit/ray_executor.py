"""Pieces as Ray tasks: Ray finds the node, and gives a piece out again whose process or node died."""

import os
import platform
import secrets
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import attacks
import audit
import defenses
from audit.errors import AuditError
from audit.executors import Crew, Made, OnRay
from audit.piecework import Done, begin, make_piece
from audit.plan import Piece
from audit.remote_store import is_url, open_store
from audit.request import Request
from audit.spiking.kernels import engine
from audit.store import Artifact, Store, Unusable, digest, hash_sources

GB = 1e9
SECONDS = 10.0  # that a cluster has to answer
# An artifact that is in the store while a run is on: who does not find it has another store.
SHARED = "shared"


@dataclass(frozen=True)
class Terms:
    """What a process on another node needs to know before its first piece, and has to agree with."""

    store: str
    token: str
    code: str
    threads: int
    folder: str
    environment: Mapping[str, str]


class RayExecutor:
    """The tasks of one run on a Ray that is connected."""

    def __init__(self, ray: Any, crew: Crew, needs: Mapping[str, float], terms: Terms) -> None:
        assert crew.ray is not None
        self.most, self.threads = crew.jobs, crew.threads
        self.where = "on Ray" if crew.jobs is None else f"on Ray, {crew.jobs} at a time"
        self.lost: tuple[type[Exception], ...] = (ray.exceptions.RayError,)
        self._ray, self._retries, self._terms = ray, crew.ray.retries, terms
        # On a GPU Ray starts a process for each task, so that none keeps memory, or computes on another's.
        self._task = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=needs.get("GPU", 0),
            memory=int(needs["memory"]) if "memory" in needs else None,
            max_retries=crew.ray.retries,
            retry_exceptions=False,
        )(_make)
        self._given: dict[Made, Any] = {}

    def pack(self, request: Request) -> Request:
        """Ray says which GPU: a process sees only its own."""
        return replace(request, device=torch.device(request.device.type))

    def submit(self, packed: bytes, piece: Piece) -> Made:
        made: Made = Future()
        self._given[made] = reference = self._task.remote(self._terms, packed, piece)
        reference.future().add_done_callback(partial(self._hand_on, made))
        return made

    def advice(self, error: Exception) -> str:
        lines = str(error).strip().splitlines() or [""]
        # Of a task that could not be started the traceback comes first.
        reason = lines[-1 if isinstance(error, self._ray.exceptions.RayTaskError) else 0]
        return (
            f"a piece was lost on Ray, after {self._retries} retries of it ({type(error).__name__}: {reason}); "
            "the same command goes on from there; where memory is short: --ray memory=GB"
        )

    def stop(self) -> None:
        """Whoever comes here early is not to wait for pieces that may take an hour."""
        for made, reference in list(self._given.items()):
            if not made.done():
                self._ray.cancel(reference, force=True)

    def _hand_on(self, made: Made, done: Future[Any]) -> None:
        error = done.exception()
        came = error or done.result()
        self._given.pop(made, None)
        if isinstance(came, BaseException):
            made.set_exception(came)
        else:
            made.set_result(came)


@contextmanager
def on_ray(crew: Crew, store: Store, device: torch.device) -> Iterator[RayExecutor]:
    """A Ray that is connected until the end; one that this process is connected to already is taken, and stays.

    Raises AuditError where Ray is not installed, where none answers, and where no node has what a piece needs.
    """
    assert crew.ray is not None
    ray = _imported()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, crew.ray.address)
    try:
        needs = _needs(crew, crew.ray, device)
        _check_nodes(ray.nodes(), needs)
        terms = _terms(store, crew.threads)
        store.put(SHARED, terms.token, Artifact())
        executor = RayExecutor(ray, crew, needs, terms)
        try:
            yield executor
        finally:
            executor.stop()
            store.drop(SHARED, terms.token)
    finally:
        if ours:
            ray.shutdown()


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of an audit is told to anybody
    try:
        return import_module("ray")
    except ImportError as error:
        raise AuditError(f"--executor ray: {error}; pip install 'snn-privacy-audit[ray]'") from error


def _connect(ray: Any, address: str | None) -> None:
    address = address or os.environ.get("RAY_ADDRESS")
    host, _, port = (address or "").rpartition(":")
    try:
        if address and address not in ("auto", "local") and not (host and port.isdigit()):
            raise ValueError("write it as 'host:port', or 'auto'")
        if host.startswith("ray:"):
            raise ValueError("Ray's client is not supported; name the head node, 'host:6379', from one of the nodes")
        if host:  # Ray itself asks for minutes
            socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
        ray.init(address or "local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError: of another version, for one
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        where = f"--address {address}: no Ray cluster is reached" if address else "no Ray could be started here"
        raise AuditError(f"{where}: {reason}") from error


def _needs(crew: Crew, settings: OnRay, device: torch.device) -> dict[str, float]:
    """By Ray's names."""
    needs: dict[str, float] = {"CPU": crew.threads}
    if device.type == "cuda":
        needs["GPU"] = settings.gpus
    if settings.memory is not None:
        needs["memory"] = settings.memory * GB
    return needs


def _check_nodes(nodes: list[dict[str, Any]], needs: Mapping[str, float]) -> None:
    """A task that no node has room for would wait without end."""
    there = [node["Resources"] for node in nodes if node["Alive"]]
    if any(all(node.get(name, 0) >= least for name, least in needs.items()) for node in there):
        return
    asked = ", ".join(f"{value / (GB if name == 'memory' else 1):g} {_unit(name)}" for name, value in needs.items())
    most = ", ".join(
        f"{max((n.get(name, 0) for n in there), default=0) / (GB if name == 'memory' else 1):.4g} {_unit(name)}"
        for name in needs
    )
    raise AuditError(f"a piece needs {asked}, and no node of the cluster has that; the most that one has: {most}")


def _unit(name: str) -> str:
    return {"memory": "GB of memory"}.get(name, name)


def _terms(store: Store, threads: int) -> Terms:
    address = store.address if is_url(store.address) else str(store.root.absolute())
    own = {name: value for name, value in os.environ.items() if name.startswith("AUDIT_")}
    return Terms(address, secrets.token_hex(8), _code(), threads, str(Path.cwd()), own)


def _code() -> str:
    """What has to be the same on every node, since the keys of stages hold it."""
    return digest([torch.__version__, hash_sources((attacks, audit, defenses)), engine()])


# In a process that Ray started.
_agreed: Terms | None = None


def _make(terms: Terms, packed: bytes, piece: Piece) -> Done | Exception:
    """What a piece raises is a result: whatever Ray itself raises is about a process, a node or the installation."""
    try:
        _agree(terms)
        return make_piece(packed, piece)
    except (AuditError, RuntimeError) as error:
        return error


def _agree(terms: Terms) -> None:
    """Become a process of this run. Raises Unusable where what it makes would be of no use to the others."""
    global _agreed
    if terms == _agreed:
        return
    os.environ.update(terms.environment)
    if Path(terms.folder).is_dir():  # names of files are meant from there
        os.chdir(terms.folder)
    here = platform.node()
    if _code() != terms.code:
        raise Unusable(
            f"node {here} has another version of this package, of torch, or no C++ compiler as the others have: "
            "stages would not fit together; install the same on every node"
        )
    store = open_store(terms.store)
    if store.get(SHARED, terms.token) is None:
        raise Unusable(
            f"the store {terms.store} is another one on node {here}: pass --store with a folder that every node sees, "
            "or a URL"
        )
    begin(store, terms.threads)
    _agreed = terms
