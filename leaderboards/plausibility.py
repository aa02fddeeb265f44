"""Whether a measurement can be what it says: ranges, intervals, counts."""

import math

from audit.records import Measurement

ROUNDING = 1e-9
# Differences of two proportions; all other fractions are proportions.
SIGNED = ("train/test gap",)
# Squared or summed distances that cannot be below 0; unbiased kernel distances can.
NEVER_NEGATIVE = ("FD", "FID", "nearest private image")
WILSON = "Wilson 95 %"


def implausible(m: Measurement) -> str | None:
    """What is wrong with it, in a line; None where nothing is."""
    if (m.value is None) == (m.status == "ok"):
        return f"status {m.status} with the value {m.value}"
    if m.value is None:
        return None if m.low is None and m.high is None else "an interval without a value"
    if m.n <= 0:
        return f"a value from {m.n} images"
    return _range(m, m.value) or _interval(m, m.value) or _proportion(m, m.value)


def _range(m: Measurement, value: float) -> str | None:
    low = -math.inf
    if m.unit == "fraction":
        low = -1.0 if m.name in SIGNED else 0.0
    elif m.unit in ("ratio", "pJ", "spikes", "operations") or m.name.startswith(NEVER_NEGATIVE):
        low = 0.0
    high = 1.0 if m.unit == "fraction" else math.inf
    if not low - ROUNDING <= value <= high + ROUNDING:
        return f"{value:g} is outside [{low:g}, {high:g}]"
    if m.unclipped is not None and abs(min(1.0, max(0.0, m.unclipped)) - value) > ROUNDING:
        return f"{value:g} is not {m.unclipped:g} cut to [0, 1]"
    return None


def _interval(m: Measurement, value: float) -> str | None:
    if (m.low is None) != (m.high is None):
        return "half an interval"
    if m.low is None or m.high is None:
        return None
    size = max(1.0, abs(value))
    if not m.low - ROUNDING * size <= value <= m.high + ROUNDING * size:
        return f"{value:g} lies outside its interval [{m.low:g}, {m.high:g}]"
    return None


def _proportion(m: Measurement, value: float) -> str | None:
    """A proportion of n is a whole number of them, and has one Wilson interval."""
    if m.interval != WILSON or m.low is None or m.high is None:
        return None
    from audit.metrics.statistics import wilson

    hits = round(value * m.n)
    if abs(value * m.n - hits) > 1e-6 * max(1, m.n):
        return f"{value:g} of {m.n} images is no whole number of them"
    low, high = wilson(hits, m.n)
    if abs(low - m.low) > 1e-6 or abs(high - m.high) > 1e-6:
        return f"the Wilson interval of {hits} in {m.n} is [{low:.4f}, {high:.4f}], not [{m.low:.4f}, {m.high:.4f}]"
    return None
