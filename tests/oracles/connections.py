"""Connections of a convolution, counted one by one."""

import numpy as np


def fan_out_by_counting(
    height: int, width: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> np.ndarray:
    """How many output positions each input position feeds, [height, width]: for one output channel."""
    count = np.zeros((height, width))
    rows = (height + 2 * padding[0] - kernel[0]) // stride[0] + 1
    columns = (width + 2 * padding[1] - kernel[1]) // stride[1] + 1
    for row in range(rows):
        for column in range(columns):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    y, x = row * stride[0] + i - padding[0], column * stride[1] + j - padding[1]
                    if 0 <= y < height and 0 <= x < width:
                        count[y, x] += 1
    return count
