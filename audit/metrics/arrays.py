"""Checks that every metric makes on its inputs, in one place."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

Array: TypeAlias = Tensor | np.ndarray | Sequence[float] | Sequence[int] | Sequence[bool]


def as_numpy(values: Array) -> np.ndarray:
    """The same numbers as a numpy array on the CPU; a floating-point tensor becomes float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def as_classes(values: Array, what: str) -> np.ndarray:
    """Class indices as int64 [N]. Raises ValueError naming ``what`` for another shape, a non-integer or a negative."""
    classes = as_numpy(values)
    if classes.ndim != 1:
        raise ValueError(f"{what} must have the shape [N], not {list(classes.shape)}")
    if classes.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"{what} must be integers, not {classes.dtype}")
    if classes.min() < 0:
        raise ValueError(f"{what} must be class indices from 0, found {classes.min()}")
    return classes.astype(np.int64)


def same_length(first: np.ndarray, second: np.ndarray, what: str) -> None:
    """Raises ValueError where the two do not describe the same images."""
    if len(first) != len(second):
        raise ValueError(f"{what} differ in length: {len(first)} and {len(second)}")
