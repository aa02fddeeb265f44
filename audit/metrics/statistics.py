"""Intervals: how far a number measured on n images may be from the one that it estimates."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from audit.metrics.arrays import Array, as_classes, as_numpy, same_length
from audit.records import Direction, Measurement

CONFIDENCE = 0.95
RESAMPLES = 2000
# Values drawn at a time by the bootstrap: 8 bytes each, a few times over.
DRAWN = 2_000_000


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a proportion, both ends in [0, 1]; it never has width 0, not even at 0 or n successes.

    The n trials are independent; over repeated draws it covers the true proportion ``confidence`` of the time on
    average over proportions, and can fall a few points short for one near 0 or 1.

    Raises ValueError unless 0 <= successes <= n, n >= 1 and 0 < confidence < 1.
    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    _check_confidence(confidence)
    successes, n = _count(successes, "successes"), _count(n, "n")
    if n == 0:
        raise ValueError("no interval for a proportion of 0 trials")
    if successes > n:
        raise ValueError(f"{successes} successes in {n} trials")
    interval = stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def t_interval(values: Array, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t interval of the mean of ``values`` [K], in their unit: for the same quantity over K seeds.

    The values are independent and roughly normal. Equal values give an interval of width 0.

    Raises ValueError for another shape, fewer than two values, a value that is not finite, or a confidence outside
    (0, 1). Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    _check_confidence(confidence)
    sample = as_numpy(values).astype(np.float64)
    if sample.ndim != 1:
        raise ValueError(f"values must have the shape [K], not {list(sample.shape)}")
    if len(sample) < 2:
        raise ValueError(f"an interval of a mean needs at least 2 values, not {len(sample)}")
    if not np.isfinite(sample).all():
        raise ValueError("an interval of a mean needs finite values")
    mean = float(sample.mean())
    standard_error = float(stats.sem(sample))
    if standard_error == 0:
        return mean, mean
    low, high = stats.t.interval(confidence, df=len(sample) - 1, loc=mean, scale=standard_error)
    return float(low), float(high)


def proportion(
    name: str, successes: int, n: int, direction: Direction, confidence: float = CONFIDENCE, reason: str | None = None
) -> Measurement:
    """``successes`` of ``n`` images as a fraction in [0, 1] with its Wilson interval.

    No images: status 'insufficient', no value. ``reason`` is what to keep in mind reading it.
    Raises ValueError as `wilson` does, except for n = 0.
    """
    if _count(n, "n") == 0 and _count(successes, "successes") == 0:
        return without_value(name, 0, "fraction", direction, "insufficient", "0 images")
    low, high = wilson(successes, n, confidence)
    return Measurement(
        name=name,
        value=successes / n,
        low=low,
        high=high,
        interval=f"Wilson {100 * confidence:g} %",
        n=n,
        unit="fraction",
        direction=direction,
        reason=reason,
    )


def nested_mean(values: Array, levels: Sequence[Array] = ()) -> float:
    """The mean over the units of ``levels[0]`` of the mean over those of ``levels[1]`` in each, ..., of the images.

    ``values`` [N], one per image, with its unit int [N] at each level, outermost first: [seeds, classes]. Every unit
    weighs the same within the one around it, so that the images per class do not matter; without levels, the plain
    mean. Raises ValueError for another shape, different lengths, no values, or a value that is not finite.
    """
    return _nested_mean(*_nested(values, levels))


def hierarchical_bootstrap(
    values: Array,
    levels: Sequence[Array],
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `nested_mean`, in the unit of ``values``: images are not independent within a seed.

    Each resample draws, with replacement, as many units of the outermost level as there are, within each copy of one
    as many units of the next level as it has, and so on down to the images. A level with one unit keeps it, and the
    interval then says nothing about other units: for one seed, it is about that network only. The order of the images
    does not matter; the same ``seed`` gives the same interval.

    It is as good as the outermost level is large: with 12 seeds a 95 % interval covers about 92 times in 100, with 3
    about 75, where `t_interval` of the seeds' means is honest. Units are taken as unrelated: that class 3 is easy under
    every seed counts as fixed.

    Raises ValueError as `nested_mean`, for fewer than 1 resample, or a confidence outside (0, 1).
    Source: Davison and Hinkley, "Bootstrap methods and their application", Cambridge 1997, Sec. 3.8; Saravanan,
    Berman and Sober, "Application of the hierarchical bootstrap to multi-level data in neuroscience", NBDT 2020.
    """
    _check_confidence(confidence)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    sample, starts = _nested(values, levels)
    rng = np.random.default_rng(seed)
    largest = math.prod(int(_members(above, below)[1].max()) for above, below in pairwise(starts))
    at_once = max(1, DRAWN // largest)
    sizes = (min(at_once, resamples - done) for done in range(0, resamples, at_once))
    means = np.concatenate([_resampled_means(sample, starts, size, rng) for size in sizes])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean(
    name: str,
    values: Array,
    levels: Sequence[Array],
    unit: str,
    direction: Direction,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    reason: str | None = None,
) -> Measurement:
    """The `nested_mean` of per-image ``values`` [N] with its `hierarchical_bootstrap` interval.

    No images: 'insufficient'. A value that is not finite: 'undefined', with their number; never a mean of the others.
    One image: no interval. ``reason`` is what to keep in mind reading it.
    Raises ValueError as `hierarchical_bootstrap` does for shapes, lengths, resamples and confidence.
    """
    sample = as_numpy(values).astype(np.float64)
    n = len(np.atleast_1d(sample))
    if n == 0:
        return without_value(name, 0, unit, direction, "insufficient", "0 images")
    if broken := int((~np.isfinite(sample)).sum()):
        why = f"{broken} of {n} images have a value that is not finite"
        return without_value(name, n, unit, direction, "undefined", why)
    value = nested_mean(sample, levels)
    low, high = hierarchical_bootstrap(sample, levels, resamples, confidence, seed)
    return Measurement(
        name=name,
        value=value,
        low=low if n > 1 else None,
        high=high if n > 1 else None,
        interval=f"hierarchical bootstrap {100 * confidence:g} %" if n > 1 else None,
        n=n,
        unit=unit,
        direction=direction,
        reason=reason,
    )


def without_value(name: str, n: int, unit: str, direction: Direction, status: Any, reason: str) -> Measurement:
    """A measurement that could not be made, with the reason: it keeps its place and is never a 0."""
    return Measurement(
        name=name, value=None, interval=None, n=n, unit=unit, direction=direction, status=status, reason=reason
    )


def _nested(values: Array, levels: Sequence[Array]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The values sorted by unit, and where each unit begins: for the whole, for every level, and for the images."""
    sample = as_numpy(values).astype(np.float64)
    if sample.ndim != 1:
        raise ValueError(f"values must have the shape [N], not {list(sample.shape)}")
    if not len(sample):
        raise ValueError("no mean of 0 values")
    if not np.isfinite(sample).all():
        raise ValueError("a mean needs finite values")
    units = [as_classes(level, f"levels[{depth}]") for depth, level in enumerate(levels)]
    for depth, level in enumerate(units):
        same_length(sample, level, f"values and levels[{depth}]")
    order = np.lexsort((sample, *reversed(units)))
    begins = np.arange(len(sample)) == 0
    starts = [np.flatnonzero(begins)]
    for level in units:
        begins[1:] |= np.diff(level[order]) != 0
        starts.append(np.flatnonzero(begins))
    return sample[order], [*starts, np.arange(len(sample))]


def _members(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each unit of one level, the first unit of the level below that lies in it, and how many do."""
    first = np.searchsorted(below, above)
    return first, np.diff(first, append=len(below))


def _nested_mean(sample: np.ndarray, starts: list[np.ndarray]) -> float:
    for above, below in reversed(list(pairwise(starts))):
        first, count = _members(above, below)
        sample = np.add.reduceat(sample, first) / count
    return float(sample[0])


def _resampled_means(
    sample: np.ndarray, starts: list[np.ndarray], resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """float64 [resamples]. One axis per level, as long as its largest unit; weights of 0 fill the smaller ones."""
    drawn = np.zeros(resamples, dtype=np.int64)
    weights = []
    for above, below in pairwise(starts):
        first, count = _members(above, below)
        size = count[drawn][..., None]
        weights.append((np.arange(count.max()) < size) / size)
        chosen = (rng.random((*drawn.shape, count.max())) * size).astype(np.int64)
        drawn = first[drawn][..., None] + chosen
    means = sample[drawn]
    for weight in reversed(weights):
        means = (means * weight).sum(axis=-1)
    return means


def _count(value: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{what} must be a whole number from 0, not {value!r}")
    return int(value)


def _check_confidence(confidence: float) -> None:
    if not (math.isfinite(confidence) and 0 < confidence < 1):
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
