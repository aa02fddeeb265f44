"""Robustness: accuracy lost to an evasion, spike activity, and how much of a layer's answer is noise."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from audit.metrics.arrays import Array, as_numpy, same_length
from audit.metrics.statistics import CONFIDENCE, RESAMPLES, mean, without_value
from audit.records import Direction, Measurement

LOSS = "accuracy loss"
# Of the network computed in whole numbers: its own loss, and how often it says on clean images what the target says.
CHIP_LOSS, AGREEMENT = "accuracy loss, whole numbers", "predictions as in whole numbers"
FULL_PRECISION = 32


def accuracy_loss(name: str, clean: Array, attacked: Array, confidence: float = CONFIDENCE) -> Measurement:
    """Share right on the clean images minus share right on the attacked ones, a fraction in [-1, 1]; lower is better.

    ``clean`` and ``attacked`` bool [N]: whether the target is right on image n and on what an attack made of it. The
    interval is that of a difference of paired proportions, by what the attack took and what it gave back, with one
    image added to each (Bonett and Price, J. Educ. Behav. Stat. 37, 2012). No images: 'insufficient'.
    Raises ValueError for different lengths.
    """
    before, after = as_numpy(clean).astype(bool), as_numpy(attacked).astype(bool)
    same_length(before, after, "clean and attacked")
    n = len(before)
    if n == 0:
        return without_value(name, 0, "fraction", "lower is better", "insufficient", "0 images")
    value = float(before.mean() - after.mean())
    centre, half = _paired(before, after, confidence)
    return Measurement(
        name=name,
        value=value,
        low=min(max(-1.0, centre - half), value),
        high=max(min(1.0, centre + half), value),
        interval=f"Bonett-Price {100 * confidence:g} %, paired",
        n=n,
        unit="fraction",
        direction="lower is better",
    )


def variation(name: str, clean: Array, attacked: Array, confidence: float = CONFIDENCE) -> Measurement:
    """Largest minus smallest accuracy loss over parameter sets, the quantisation paper's 'variation', in [0, 2].

    ``clean``, ``attacked`` bool [P, N], the same images in every set. The interval goes from the least to the largest
    range that the sets' intervals leave possible, each at 1 - (1 - confidence) / P so that all of them hold together:
    a range of noise alone is above 0, and a bootstrap would not say so. Fewer than two sets: 'insufficient'.
    Raises ValueError for different shapes.
    """
    before, after = as_numpy(clean).astype(bool), as_numpy(attacked).astype(bool)
    if before.shape != after.shape or before.ndim != 2:
        raise ValueError(f"clean and attacked must both be [P, N], not {before.shape} and {after.shape}")
    sets, n = before.shape
    if sets < 2 or n == 0:
        why = f"a range over {sets} parameter sets of {n} images"
        return without_value(name, n, "fraction", "lower is better", "insufficient", why)
    each = 1 - (1 - confidence) / sets
    found = [accuracy_loss("", b, a, each) for b, a in zip(before, after, strict=True)]
    values, low, high = span_of([m.value for m in found], [m.low for m in found], [m.high for m in found])
    return Measurement(
        name=name,
        value=values,
        low=low,
        high=high,
        interval=f"{100 * confidence:g} %, all {sets} sets together",
        n=n,
        unit="fraction",
        direction="lower is better",
    )


def span_of(
    values: Sequence[float | None], lows: Sequence[float | None], highs: Sequence[float | None]
) -> tuple[float, float, float]:
    """max - min of ``values``, and the least and the largest that it can be within [low, high] of each."""
    known, low, high = (np.array(each, dtype=np.float64) for each in (values, lows, highs))
    return float(known.max() - known.min()), float(max(0.0, low.max() - high.min())), float(high.max() - low.min())


def activity(name: str, spikes: Mapping[str, Array], direction: Direction = "neutral") -> Measurement:
    """Mean inter-layer spike activity: spikes per neuron and image, summed over T, averaged over layers.

    ``spikes``: by layer, float [N], the mean count over the layer's neurons for each image; every layer counts the
    same. Bootstrap interval over the images.
    """
    return mean(name, _over_layers(spikes), [], "spikes", direction)


def activity_change(name: str, clean: Mapping[str, Array], attacked: Mapping[str, Array]) -> Measurement:
    """`activity` on attacked images minus that on the same images clean, paired; positive: the attack makes spikes."""
    return mean(name, _over_layers(attacked) - _over_layers(clean), [], "change in spikes", "neutral")


def noise_to_signal(
    name: str, noise: Array, signal: Array, root: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> Measurement:
    """||s(x') - s(x)||^2 / ||s(x)||^2 of a layer's spike trains s, summed over images before they are divided.

    ``noise``, ``signal`` float [N]: the two squared norms of each image; [L, N] gives the mean of the ratios of L
    layers. ``root``: the square root of each ratio, the relative size of the change. Equal answers give 0. Percentile
    bootstrap over the images. A layer that is silent on all clean images: 'undefined', not 0.
    Raises ValueError for different shapes. The quantisation paper names the ratio and does not define it.
    """
    changed, there = (np.atleast_2d(as_numpy(values).astype(np.float64)) for values in (noise, signal))
    if changed.shape != there.shape:
        raise ValueError(f"noise and signal must have one shape, not {changed.shape} and {there.shape}")
    layers, n = changed.shape
    unit = "ratio of norms" if root else "ratio of powers"
    if n == 0:
        return without_value(name, 0, unit, "lower is better", "insufficient", "0 images")
    if not (np.isfinite(changed).all() and np.isfinite(there).all()):
        return without_value(name, n, unit, "lower is better", "undefined", "an answer is not finite")
    if silent := int((there.sum(1) == 0).sum()):
        why = f"{silent} of {layers} layers answer nothing to the clean images" if layers > 1 else "a silent layer"
        return without_value(name, n, unit, "lower is better", "undefined", why)
    power = 0.5 if root else 1.0
    value = float(np.mean((changed.sum(1) / there.sum(1)) ** power))
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    below = counts @ there.T
    # A resample of silent images only has no ratio; it is one that says nothing, not one that says 0.
    told = (below > 0).all(1)
    ratios = (((counts[told] @ changed.T) / below[told]) ** power).mean(1)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if told.any() else (value, value)
    return Measurement(
        name=name,
        value=value,
        low=min(float(low), value) if n > 1 else None,
        high=max(float(high), value) if n > 1 else None,
        interval=f"bootstrap {100 * CONFIDENCE:g} %" if n > 1 else None,
        n=n,
        unit=unit,
        direction="lower is better",
    )


def model_size(weights: int, bits: float = FULL_PRECISION) -> Measurement:
    """``weights`` times ``bits`` each, in bits: counted, so without an interval; thresholds and scales left out."""
    return Measurement(
        name="model size", value=float(weights * bits), n=weights, unit="bits", direction="lower is better"
    )


def _paired(before: np.ndarray, after: np.ndarray, confidence: float) -> tuple[float, float]:
    """Centre and half-width of the interval of the difference."""
    n = len(before)
    took = (float((before & ~after).sum()) + 1) / (n + 2)
    gave = (float((~before & after).sum()) + 1) / (n + 2)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    return took - gave, z * float(np.sqrt((took + gave - (took - gave) ** 2) / (n + 2)))


def _over_layers(spikes: Mapping[str, Array]) -> np.ndarray:
    """[N]: the mean over layers, each counting the same."""
    return np.mean([as_numpy(rows).astype(np.float64) for rows in spikes.values()], axis=0)
