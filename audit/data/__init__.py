"""The data sets: one file each, one ``load(name, root)``."""

import difflib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from audit.errors import AuditError

if TYPE_CHECKING:
    from audit.data.base import Dataset
    from audit.data.parts import Parts, partition

__all__ = ["DATASETS", "Dataset", "Parts", "load", "partition"]

# Every name is the name of the file beside this one that reads it.
DATASETS: Mapping[str, str] = {
    "cifar10": "CIFAR-10: 60,000 colour photographs, 32x32, 10 classes",
    "cifar100": "CIFAR-100: 60,000 colour photographs, 32x32, 100 classes",
    "digits": "scikit-learn's handwritten digits: 1,797 grey images, 16x16, 10 classes; nothing to download",
    "folder": "your own images: <data-root>/train/<class>/* and <data-root>/test/<class>/*",
    "tinyimagenet": "Tiny ImageNet: colour photographs, 64x64, 200 classes or the subset in wnids.txt",
}


def load(
    name: str, root: Path | None = None, image_size: int | None = None, limits: Mapping[str, int] | None = None
) -> "Dataset":
    """Read the data set called ``name``.

    ``root`` is the folder that holds the data sets, by default the environment variable AUDIT_DATA; for ``folder``
    it is the data set itself, and ``digits`` needs none. ``image_size`` resizes the shorter side and crops the
    centre. ``limits`` caps the splits, ``{"train": n, "test": n}``: the stratified subset is the same on every
    machine, and only its images are decoded.

    Raises AuditError for an unknown name, data that is missing, half unpacked or corrupt, and unusable sizes.
    """
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(DATASETS)}"
        raise AuditError(f"unknown data set {name!r}; {hint} (python -m audit list)")
    if image_size is not None and image_size <= 0:
        raise AuditError(f"--image-size {image_size} is not a size in pixels; pass a whole number above 0")
    limits = limits or {}
    if unknown := sorted(limits.keys() - {"train", "test"}):
        raise AuditError(f"unknown split {unknown[0]!r} in the limits of {name}; the splits are 'train' and 'test'")
    dataset: Dataset = import_module(f"audit.data.{name}").read(root, image_size, limits)
    return dataset


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # The list of data sets is read by commands that have no use for torch, so what needs torch waits here.
        homes = {"Dataset": "base", "Parts": "parts", "partition": "parts"}
        if name not in homes:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{homes[name]}"), name)
