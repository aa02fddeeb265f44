"""Kernel distance (KID) between the features of real and of reconstructed images: over all, and class by class."""

import math
from collections.abc import Sequence

import numpy as np

from audit.metrics.arrays import Array, as_classes, as_numpy, same_length
from audit.metrics.frechet import STILL
from audit.metrics.statistics import without_value
from audit.records import Measurement, Status

LEAST_IMAGES = 2
# Rows of a kernel matrix that are in memory at a time.
ROWS = 512


def kernel_distance(name: str, real_features: Array, fake_features: Array) -> Measurement:
    """The unbiased MMD^2 of the two sets, with the kernel k(x, y) = (x.y / D + 1)^3, over all images at once.

    ``real_features`` [N, D] and ``fake_features`` [M, D]: one row per image, any order, from the same network.
    Without a unit; 0 is expected of two draws from one distribution, so that it can be slightly negative, down to
    -2 (mean k(x, x) - mean k(x, x')) / N for a set against itself; lower means more leakage.
    The published KID is a mean over random subsets. One block of everything estimates the same quantity with less
    variance and without a draw; for N = M it is torchmetrics' `KernelInceptionDistance` with one subset of N.

    - N < 2 or M < 2: 'insufficient', with the counts. Unlike the Fréchet distance it has no bias at any larger size.
    - features that are not finite, or too large for their kernel, or real features that do not vary: 'undefined'.

    No interval. ``n`` is the size of the smaller set. Distances are comparable for one feature network only.
    Raises ValueError for another shape, different D, or D = 0.
    Source: Binkowski et al., "Demystifying MMD GANs", ICLR 2018; Gretton et al., JMLR 13 (2012), Lemma 6.
    """
    real, fake = feature_sets(real_features=real_features, fake_features=fake_features)
    n = min(len(real), len(fake))
    if why := not_finite(real=real, reconstructed=fake):
        return _missing(name, n, "undefined", why)
    if n < LEAST_IMAGES:
        why = f"{len(real)} real and {len(fake)} reconstructed images; needs at least {LEAST_IMAGES} of each"
        return _missing(name, n, "insufficient", why)
    if why := do_not_vary(real):
        return _missing(name, n, "undefined", why)
    return _measured(name, squared_discrepancy(real, fake), n, None)


def class_conditional_distance(
    name: str,
    real_features: Array,
    real_labels: Array,
    fake_features: Array,
    fake_labels: Array,
    classes: Sequence[str],
) -> Measurement:
    """The mean, over the classes that have reconstructions, of the MMD^2 of `kernel_distance` within the class.

    ``real_features`` [N, D] with ``real_labels`` int [N], ``fake_features`` [M, D] with ``fake_labels`` int [M];
    ``classes``: the names of classes 0..C-1. Without a unit, may be slightly negative; lower means more leakage.
    Every class weighs the same and its term is unbiased, so that the expected value does not depend on the images per
    class. A set of good images under wrong labels, which `kernel_distance` cannot see, is far from real here.

    - fewer than 2 images of a class with reconstructions, on either side: 'insufficient', naming the class.
    - classes without reconstructions do not count, and the reason says how many did.
    - 'undefined' as `kernel_distance`; there is no interval; ``n`` is the size of the smaller set.

    Raises ValueError for another shape, different D or lengths, or a label that has no class.
    Source of the distance: Binkowski et al., ICLR 2018.
    """
    real, fake = feature_sets(real_features=real_features, fake_features=fake_features)
    real_classes, fake_classes = (
        _known_classes(labels, rows, what, len(classes))
        for labels, rows, what in ((real_labels, real, "real_labels"), (fake_labels, fake, "fake_labels"))
    )
    n, present = min(len(real), len(fake)), np.unique(fake_classes)
    if why := not_finite(real=real, reconstructed=fake):
        return _missing(name, n, "undefined", why)
    if not len(present):
        return _missing(name, n, "insufficient", "0 reconstructed images")
    counts = {c: (int((real_classes == c).sum()), int((fake_classes == c).sum())) for c in present}
    few = [
        f"class '{classes[c]}' has {of_real} real and {of_fake} reconstructed images"
        for c, (of_real, of_fake) in counts.items()
        if min(of_real, of_fake) < LEAST_IMAGES
    ]
    if few:
        return _missing(name, n, "insufficient", f"{'; '.join(few)}; needs at least {LEAST_IMAGES} of each")
    if why := do_not_vary(real):
        return _missing(name, n, "undefined", why)
    terms = [squared_discrepancy(real[real_classes == c], fake[fake_classes == c]) for c in present]
    absent = f"{len(present)} of {len(classes)} classes have reconstructions" if len(present) < len(classes) else None
    return _measured(name, math.fsum(terms) / len(terms), n, absent)


def squared_discrepancy(real: np.ndarray, fake: np.ndarray) -> float:
    """The unbiased MMD^2 between float64 [N, D] and [M, D], N and M at least 2; not finite where a kernel overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        within = sum(
            (_kernel_sum(rows, rows) - _diagonal_sum(rows)) / (len(rows) * (len(rows) - 1)) for rows in (real, fake)
        )
        return within - 2 * _kernel_sum(real, fake) / (len(real) * len(fake))


def feature_sets(**sets: Array) -> list[np.ndarray]:
    """Each as float64 [images, D]. Raises ValueError naming the set of another shape, or two that differ in D."""
    rows = [as_numpy(values).astype(np.float64) for values in sets.values()]
    for what, features in zip(sets, rows, strict=True):
        if features.ndim != 2 or features.shape[1] == 0:
            raise ValueError(f"{what} must have the shape [images, features], not {list(features.shape)}")
        if features.shape[1] != rows[0].shape[1]:
            raise ValueError(f"{next(iter(sets))} have {rows[0].shape[1]} columns, {what} {features.shape[1]}")
    return rows


def not_finite(**sets: np.ndarray) -> str | None:
    """The reason why features [images, D] cannot be compared, if some of them are not finite."""
    broken = {which: int((~np.isfinite(rows).all(axis=1)).sum()) for which, rows in sets.items()}
    counts = " and ".join(f"{count} {which}" for which, count in broken.items())
    return f"features that are not finite: {counts} images" if any(broken.values()) else None


def do_not_vary(real: np.ndarray) -> str | None:
    """The reason why real features [N, D], N at least 1, cannot be compared with, if they are all the same."""
    largest = float(np.abs(real).max()) or 1.0  # squares of what is scaled by it do not overflow
    scaled = real / largest
    if float(scaled.var(axis=0).sum()) > STILL * float(np.square(scaled).mean(axis=0).sum()):
        return None
    return "the features of the real images do not vary: their network is dead, and every set would be near"


def _kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    total = 0.0
    for start in range(0, len(first), ROWS):
        base = first[start : start + ROWS] @ second.T
        base /= first.shape[1]
        base += 1
        total += float((base * base * base).sum())
    return total


def _diagonal_sum(rows: np.ndarray) -> float:
    return float(((np.square(rows).mean(axis=1) + 1) ** 3).sum())


def _known_classes(labels: Array, rows: np.ndarray, what: str, classes: int) -> np.ndarray:
    found = as_classes(labels, what)
    same_length(rows, found, f"features and {what}")
    if len(found) and found.max() >= classes:
        raise ValueError(f"{what}: label {found.max()} has no name among {classes} classes")
    return found


def _measured(name: str, value: float, n: int, reason: str | None) -> Measurement:
    if not math.isfinite(value):
        return _missing(name, n, "undefined", "float64 gives no usable distance: the features are too large")
    return Measurement(
        name=name, value=value, interval=None, n=n, unit="distance", direction="lower means more leakage", reason=reason
    )


def _missing(name: str, n: int, status: Status, reason: str) -> Measurement:
    return without_value(name, n, "distance", "lower means more leakage", status, reason)
