"""In a process that makes pieces for another one: what it keeps between them, and how it makes one."""

import logging
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch

from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.pipeline import prepare_data
from audit.plan import Piece, make
from audit.records import StageInfo
from audit.remote_store import open_store
from audit.request import Request
from audit.seed import OneSeed
from audit.settings import DataSettings
from audit.store import Store
from audit.workshop import Workshop

_store: Store
_requests: dict[bytes, Request] = {}
_seeds: dict[tuple[bytes, int], OneSeed] = {}
_KEPT = 4


@dataclass(frozen=True)
class Done:
    """A piece: its ``result``, the ``stages`` that were made for it, and ``warnings`` about the store."""

    result: str
    stages: list[StageInfo]
    warnings: list[str]


class _Warnings(logging.Handler):
    """Keeps them until they are taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())

    def taken(self) -> list[str]:
        said, self._said = self._said, []
        return said


_warnings = _Warnings()


def begin(store: Store | str, threads: int) -> None:
    """What a process is like before its first piece. ``store``: or its address."""
    global _store
    # What there is to say of a result is said once, where the run is put together; of a file, it goes there as well.
    logging.getLogger("audit").setLevel(logging.ERROR)
    for own in ("store", "remote_store", "checkpoints"):
        logger = logging.getLogger(f"audit.{own}")
        logger.setLevel(logging.WARNING)
        logger.addHandler(_warnings)
        logger.propagate = False
    _store = open_store(store) if isinstance(store, str) else store
    _requests.clear()
    _seeds.clear()
    torch.set_num_threads(threads)


def make_piece(packed: bytes, piece: Piece) -> Done:
    """The piece, made. Raises AuditError or RuntimeError, nothing else.

    ``packed``: the request, pickled.
    """
    try:
        one = _one_seed(packed, piece.seed)
        one.shop.stages = []
        result = make(piece, one)
        return Done(result, one.shop.stages, _warnings.taken())
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
