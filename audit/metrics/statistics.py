"""Intervals: how far a number measured on n images may be from the one that it estimates."""

import math
from typing import Any

import numpy as np
from scipy import stats

from audit.metrics.arrays import Array, as_numpy
from audit.records import Direction, Measurement

CONFIDENCE = 0.95


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


def without_value(name: str, n: int, unit: str, direction: Direction, status: Any, reason: str) -> Measurement:
    """A measurement that could not be made, with the reason: it keeps its place and is never a 0."""
    return Measurement(
        name=name, value=None, interval=None, n=n, unit=unit, direction=direction, status=status, reason=reason
    )


def _count(value: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{what} must be a whole number from 0, not {value!r}")
    return int(value)


def _check_confidence(confidence: float) -> None:
    if not (math.isfinite(confidence) and 0 < confidence < 1):
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
