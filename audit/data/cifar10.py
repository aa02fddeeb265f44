"""CIFAR-10 (Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images)."""

from collections.abc import Mapping
from pathlib import Path

from torchvision.datasets import CIFAR10

from audit.data.base import Dataset
from audit.data.cifar import read_cifar

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read(root: Path | None, image_size: int | None, limits: Mapping[str, int]) -> Dataset:
    """50,000 training and 10,000 test images, RGB, 32x32."""
    return read_cifar("cifar10", CLASSES, CIFAR10, root, image_size, limits)
