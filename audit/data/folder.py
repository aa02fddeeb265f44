"""Anybody's images: one folder per class under train/ and under test/ (or val/)."""

import re
from collections.abc import Mapping
from pathlib import Path

from audit.data.base import Dataset, data_root
from audit.data.files import class_files, decode_dataset, entries
from audit.errors import AuditError

LAYOUT = "train/<class>/* and test/<class>/* (or val/<class>/*) with the same classes in both"


def read(root: Path | None, image_size: int | None, limits: Mapping[str, int]) -> Dataset:
    """``root`` is the data set; its class folders are sorted naturally (class2 before class10).

    Grey where every file is grey, else RGB. Without ``image_size`` all images must share one size.
    """
    root = data_root("folder", root, LAYOUT)
    found, _ = entries(root, LAYOUT)
    if "train" not in found or not {"test", "val"}.intersection(found):
        missing = "train/" if "train" not in found else "test/ (or val/)"
        raise AuditError(f"no {missing} in {root}; expected {LAYOUT}")
    classes = tuple(sorted(entries(root / "train", LAYOUT)[0], key=natural))
    if len(classes) < 2:
        raise AuditError(f"{root / 'train'} has {len(classes)} class folders, an audit needs two; expected {LAYOUT}")
    test = root / ("test" if "test" in found else "val")
    splits = (class_files(root / "train", classes, LAYOUT), class_files(test, classes, LAYOUT))
    return decode_dataset("folder", classes, splits, image_size, limits, grey=True)


def natural(name: str) -> tuple[list[str | int], str]:
    """A sort key that compares the numbers in names as numbers."""
    # Text and digits alternate, starting with text, so that like is always compared with like.
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part.casefold() for index, part in enumerate(parts)], name
