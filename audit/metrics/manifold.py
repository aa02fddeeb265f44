"""How reconstructions lie on the manifold of real features: density, coverage, and how near private images they are."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial.distance import cdist

from audit.metrics.arrays import Array, as_classes, same_length
from audit.metrics.frechet import STILL
from audit.metrics.kernel import do_not_vary, feature_sets, not_finite
from audit.metrics.statistics import nested_mean, without_value
from audit.records import Measurement, Status

NEIGHBOURS = 5
# Rows of a distance matrix that are in memory at a time.
ROWS = 512


def density(name: str, real_features: Array, fake_features: Array, k: int = NEIGHBOURS) -> Measurement:
    """In how many real balls a reconstruction lies on average, over k: 1/(k M) sum_j sum_i [Y_j in B(X_i, r_i)].

    ``real_features`` X [N, D], ``fake_features`` Y [M, D]: one row per image, any order, from the same network. r_i is
    the distance from X_i to its k-th nearest other real image; a ball is open, as in the published code.
    From 0, can exceed 1; 1 is expected of real images, and is exact for a set against itself; higher means more
    leakage. Reconstructions that are all alike but typical are dense: read it beside `coverage`.

    - N <= k or M = 0: 'insufficient', with the counts.
    - features that are not finite, or real features that do not vary: 'undefined', with the reason.

    No interval: the reconstructions share their balls. ``n`` is the size of the smaller set.
    Raises ValueError for another shape, different D, D = 0, or k below 1.
    Source: Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020, Sec. 3.
    """
    real, fake = feature_sets(real_features=real_features, fake_features=fake_features)
    if missing := _missing(name, real, fake, k, "ratio"):
        return missing
    radii = _radii(real, k)
    inside = sum(int((cdist(fake[part], real) < radii).sum()) for part in _parts(len(fake)))
    return _leak(name, inside / (k * len(fake)), min(len(real), len(fake)), "ratio")


def coverage(name: str, real_features: Array, fake_features: Array, k: int = NEIGHBOURS) -> Measurement:
    """The fraction of real balls B(X_i, r_i), as in `density`, that hold a reconstruction; higher means more leakage.

    In [0, 1]; 1 for a set against itself. Of M real images that are not among the N,
    1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)) is expected, 0.97 for M = N and k = 5: it grows with M, so that it is
    comparable for one N and M only. Inputs, failures, errors and ``n``: as `density`. No interval: the balls overlap.
    Source: Naeem et al., ICML 2020, Sec. 3.
    """
    real, fake = feature_sets(real_features=real_features, fake_features=fake_features)
    if missing := _missing(name, real, fake, k, "fraction"):
        return missing
    nearest = np.concatenate([cdist(real[part], fake).min(axis=1) for part in _parts(len(real))])
    return _leak(name, float((nearest < _radii(real, k)).mean()), min(len(real), len(fake)), "fraction")


def nearest_neighbour(
    name: str,
    fake_features: Array,
    fake_labels: Array,
    private_features: Array,
    private_labels: Array,
    real_features: Array,
    real_labels: Array,
) -> Measurement:
    """How far reconstructions are from the nearest private training image of their class, in units of held-out images.

    The mean of `nearest_distances` of the reconstructions, over that of the real images that were not trained on; each
    is a mean over the images of a class, then over the classes that have reconstructions, never a sum over images.
    Features [., D] from one network, any order; labels int, one per image. From 0; 1 is as near as a real image of
    the distribution; below it lies what shows the training images themselves; lower means more leakage.
    Both means are taken against the same private images, whose number therefore matters little.

    - no reconstruction, or a class of theirs without a private or a held-out image: 'insufficient', naming it.
    - features that are not finite, or held-out images at distance 0: 'undefined', with the reason.

    No interval: make one from `nearest_distances` with `audit.metrics.statistics.mean`.
    ``n``: the reconstructions. Raises ValueError for another shape, different D or lengths.
    Source: the KNN distance of Zhang et al., "The secret revealer", CVPR 2020, Sec. 4, here relative to real images.
    """
    fake, private, real = feature_sets(
        fake_features=fake_features, private_features=private_features, real_features=real_features
    )
    fake_classes = _classes(fake_labels, fake, "fake_labels")
    private_classes = _classes(private_labels, private, "private_labels")
    real_classes = _classes(real_labels, real, "real_labels")

    def missing(status: Status, why: str) -> Measurement:
        return without_value(name, len(fake), "times real-to-real", "lower means more leakage", status, why)

    if why := not_finite(reconstructed=fake, private=private, real=real):
        return missing("undefined", why)
    if not len(fake):
        return missing("insufficient", "0 reconstructed images")
    for which, found in (("private", private_classes), ("held-out real", real_classes)):
        if absent := sorted(set(fake_classes.tolist()) - set(found.tolist())):
            return missing("insufficient", f"no {which} image of class {', '.join(map(str, absent))}")
    compared = np.isin(real_classes, fake_classes)
    real, real_classes = real[compared], real_classes[compared]
    distances = nearest_distances(fake, fake_classes, private, private_classes)
    unit_distances = nearest_distances(real, real_classes, private, private_classes)
    if not (np.isfinite(distances).all() and np.isfinite(unit_distances).all()):
        return missing("undefined", "float64 gives no usable distance: the features are too large")
    unit = nested_mean(unit_distances, [real_classes])
    if unit**2 <= STILL * float(np.square(real).sum(axis=1).mean()):
        return missing("undefined", "held-out images are at distance 0 from private ones: a dead network, or copies")
    return Measurement(
        name=name,
        value=nested_mean(distances, [fake_classes]) / unit,
        interval=None,
        n=len(fake),
        unit="times real-to-real",
        direction="lower means more leakage",
    )


def nearest_distances(features: Array, labels: Array, private_features: Array, private_labels: Array) -> np.ndarray:
    """float64 [N]: from each row to the nearest private row of its class, L2, in the unit of the features.

    ``features`` [N, D] with ``labels`` int [N]; ``private_features`` [P, D] with ``private_labels`` int [P].
    NaN for a row that is not finite, and for all rows of a class with a private row that is not.
    Raises ValueError for another shape, different D or lengths, or a class without a private image.
    """
    rows, private = feature_sets(features=features, private_features=private_features)
    classes, private_classes = _classes(labels, rows, "labels"), _classes(private_labels, private, "private_labels")
    distances = np.full(len(rows), np.nan)
    for c in np.unique(classes):
        own, reference = np.flatnonzero(classes == c), private[private_classes == c]
        if not len(reference):
            raise ValueError(f"no private image of class {c}")
        for part in _parts(len(own)):
            distances[own[part]] = cdist(rows[own[part]], reference).min(axis=1)
    return distances


def _parts(n: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, n, ROWS))


def _radii(real: np.ndarray, k: int) -> np.ndarray:
    """float64 [N]: the distance to the k-th nearest other row; the nearest of all is the row itself."""
    return np.concatenate([np.partition(cdist(real[part], real), k, axis=1)[:, k] for part in _parts(len(real))])


def _missing(name: str, real: np.ndarray, fake: np.ndarray, k: int, unit: str) -> Measurement | None:
    """The measurement that stands for a density or coverage that cannot be made."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    status: Status = "undefined"
    why = not_finite(real=real, reconstructed=fake)
    if not why and (len(real) <= k or not len(fake)):
        status = "insufficient"
        why = f"{len(real)} real and {len(fake)} reconstructed images; needs more than {k} real and 1 reconstructed"
    why = why or do_not_vary(real)
    n = min(len(real), len(fake))
    return without_value(name, n, unit, "higher means more leakage", status, why) if why else None


def _leak(name: str, value: float, n: int, unit: str) -> Measurement:
    return Measurement(name=name, value=value, interval=None, n=n, unit=unit, direction="higher means more leakage")


def _classes(labels: Array, rows: np.ndarray, what: str) -> np.ndarray:
    classes = as_classes(labels, what)
    same_length(rows, classes, f"features and {what}")
    return classes
