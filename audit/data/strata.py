"""Stratified choice: how many images of each class, and which ones."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.errors import AuditError

Indices = NDArray[np.int64]


def quotas(counts: Indices, total: int, reserve: int = 0) -> Indices:
    """Share ``total`` images among classes of ``counts`` images [K]: int64 [K], summing to ``total``.

    Every class gets one; the rest goes out in proportion (largest remainder, ties to the earlier class), and
    ``reserve`` images of each class are left over. Needs K <= total <= sum(counts) - K * reserve and
    counts > reserve.
    """
    room = counts - 1 - reserve
    rest = total - len(counts)
    share, remainder = np.divmod(rest * room, max(int(room.sum()), 1))
    leftover = rest - int(share.sum())
    share[np.argsort(-remainder, kind="stable")[:leftover]] += 1
    return 1 + share


def by_class(labels: Indices, classes: int) -> list[Indices]:
    """The positions of every class in ``labels``, in order."""
    return [np.flatnonzero(labels == label) for label in range(classes)]


def capped(what: str, cap: int | None, available: int, classes: int) -> int:
    """``cap`` or what is available, whichever is less. Raises AuditError where not every class would have an image."""
    if cap is not None and cap < classes:
        raise AuditError(f"{cap} {what} images cannot cover {classes} classes; ask for at least {classes}")
    return available if cap is None else min(cap, available)


def choose(what: str, names: Sequence[str], labels: Sequence[int], classes: int, cap: int | None) -> Indices:
    """At most ``cap`` positions, stratified and ascending, as if drawn at random, the same ones on every machine.

    Images are ranked by the hash of their names: unlike a generator's stream this depends on neither the library
    version nor the other images, and the choice for a smaller cap is part of the choice for a larger one
    (up to one image where a class's quota is rounded).
    """
    groups = by_class(np.asarray(labels, dtype=np.int64), classes)
    total = capped(what, cap, len(names), classes)
    if total == len(names):
        return np.arange(len(names), dtype=np.int64)
    rank = [hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in names]
    counts = np.array([len(group) for group in groups], dtype=np.int64)
    ranked = (sorted(group.tolist(), key=rank.__getitem__) for group in groups)
    chosen = [group[:quota] for group, quota in zip(ranked, quotas(counts, total), strict=True)]
    return np.sort(np.concatenate([np.array(group, dtype=np.int64) for group in chosen]))
