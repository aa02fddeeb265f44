"""Accuracy: of a network, and of a spiking network against the number of time-steps it is given."""

from collections.abc import Sequence

import numpy as np

from audit.metrics.arrays import Array, as_classes, as_numpy, same_length
from audit.metrics.statistics import proportion, without_value
from audit.records import Direction, Measurement


def accuracy(name: str, logits_or_predictions: Array, labels: Array) -> Measurement:
    """The fraction of images given their label, with a 95 % Wilson interval; higher is better.

    ``logits_or_predictions``: float [N, C], of which the largest counts (the first one of a tie), or int [N].
    ``labels``: int [N] in 0..C-1. Logits that are not finite make it 'undefined': such an image is neither
    dropped nor counted as wrong. No images: 'insufficient'.
    Raises ValueError for other shapes, different lengths, or a label that the logits have no column for.
    """
    return agreement(name, logits_or_predictions, labels, "higher is better")


def accuracy_over_time(outputs: Array, labels: Array, steps: Sequence[int]) -> tuple[tuple[int, Measurement], ...]:
    """Accuracy after each number of time-steps, as pairs (steps, measurement); PrivateSNN Fig. 5(a) as one curve.

    ``outputs``: one row per entry of ``steps``: float [S, N, C], the output accumulated over that many time-steps, in
    any scale; or int [S, N], the classes predicted from it. ``labels``: int [N]. ``steps``: S distinct numbers from 1.
    The points share their images, so their intervals are not independent. While no spike has reached the last layer
    all its outputs are equal and the prediction is class 0: the curve starts at that class's share of the images.
    Raises ValueError for other shapes, different lengths, or steps that are repeated or below 1.
    """
    history = as_numpy(outputs)
    if history.ndim not in (2, 3):
        raise ValueError(f"outputs must have the shape [S, N, C], or [S, N] for predictions, not {list(history.shape)}")
    same_length(history, np.asarray(steps), "outputs and steps")
    if len(set(steps)) != len(steps) or any(step < 1 for step in steps):
        raise ValueError(f"steps must be distinct and at least 1, not {list(steps)}")
    if history.ndim == 2 and not np.issubdtype(history.dtype, np.integer):
        raise ValueError(f"outputs of the shape [S, N] must be classes, not {history.dtype}")
    rows = zip(steps, history, strict=True)
    return tuple((step, accuracy(f"accuracy at T={step}", row, labels)) for step, row in rows)


def agreement(
    name: str, logits_or_predictions: Array, labels: Array, direction: Direction, reason: str | None = None
) -> Measurement:
    """The fraction of images whose prediction is their label, in the given direction: see `accuracy`."""
    expected = as_classes(labels, "labels")
    given = as_numpy(logits_or_predictions)
    if given.ndim not in (1, 2):
        raise ValueError(f"predictions must have the shape [N], or [N, C] for logits, not {list(given.shape)}")
    same_length(given, expected, "predictions and labels")
    if given.ndim == 2:
        if len(expected) and expected.max() >= given.shape[1]:
            raise ValueError(f"label {expected.max()} has no column in logits of {given.shape[1]} classes")
        if broken := int((~np.isfinite(given).all(axis=1)).sum()):
            why = f"{broken} of {len(given)} images have logits that are not finite"
            return without_value(name, len(given), "fraction", direction, "undefined", why)
        given = given.argmax(axis=1) if len(given) else np.zeros(0, dtype=np.int64)
    predictions = as_classes(given, "predictions")
    return proportion(name, int((predictions == expected).sum()), len(expected), direction, reason=reason)
