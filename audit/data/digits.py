"""Handwritten digits, 8x8, as scikit-learn ships them (UCI Optical Recognition of Handwritten Digits, test half)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from audit.contracts import Images
from audit.data.base import Dataset
from audit.data.decode import resize_pixels
from audit.data.strata import Indices, choose

CLASSES = tuple("0123456789")
TEST_IMAGES = 360
IMAGE_SIZE = 16


def read(root: Path | None, image_size: int | None, limits: Mapping[str, int]) -> Dataset:
    """Grey images, 16x16 by default, in a fixed stratified split; the data comes with scikit-learn, not from ``root``.

    The 16 ink levels are spread over 0..255 before the bilinear resize.
    """
    source = load_digits()
    pixels = np.rint(source.images * (255 / 16)).astype(np.uint8)
    labels = source.target.astype(np.int64)
    names = [f"digits/{index}" for index in range(len(labels))]
    test = choose("test", names, labels.tolist(), len(CLASSES), TEST_IMAGES)
    train = np.setdiff1d(np.arange(len(labels), dtype=np.int64), test)

    def part(split: str, positions: Indices) -> Images:
        names = [str(position) for position in positions]
        chosen = positions[choose(split, names, labels[positions].tolist(), len(CLASSES), limits.get(split))]
        resized = resize_pixels(pixels[chosen], image_size or IMAGE_SIZE)
        return Images(torch.from_numpy(resized[:, None].copy()), torch.from_numpy(labels[chosen]))

    return Dataset("digits", CLASSES, part("train", train), part("test", test))
