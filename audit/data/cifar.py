"""What CIFAR-10 and CIFAR-100 share: an image-folder copy, or else the official python archive."""

import http.client
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from audit.contracts import Images
from audit.data.base import Dataset, data_root
from audit.data.decode import resize_pixels
from audit.data.files import class_files, decode_dataset
from audit.data.strata import choose
from audit.errors import AuditError


def read_cifar(
    name: str,
    classes: tuple[str, ...],
    archive: type[CIFAR10],
    root: Path | None,
    image_size: int | None,
    limits: Mapping[str, int],
) -> Dataset:
    """``root``/``name``/{train,test}/<class>/* where that folder is there; else torchvision's copy, fetched if need be.

    Labels follow ``classes``, the official order, in both layouts.
    """
    layout = f"{name}/train/<class>/* and {name}/test/<class>/*, or {archive.base_folder}/"
    root = data_root(name, root, layout)
    copy = root / name
    if copy.is_dir():
        splits = (class_files(copy / "train", classes, layout), class_files(copy / "test", classes, layout))
        return decode_dataset(name, classes, splits, image_size, limits)
    try:
        train, test = (archive(root, train=train, download=True) for train in (True, False))
    except (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())
        raise AuditError(
            f"no {name} in {root}, and its download failed ({reason}); "
            f"unpack {archive.filename} there, expected {layout}"
        ) from error
    return Dataset(
        name,
        classes,
        _images("train", train, len(classes), image_size, limits.get("train")),
        _images("test", test, len(classes), image_size, limits.get("test")),
    )


def _images(split: str, source: CIFAR10, classes: int, image_size: int | None, cap: int | None) -> Images:
    names = [f"{split}/{index}" for index in range(len(source.targets))]
    chosen = choose(split, names, source.targets, classes, cap)
    pixels = source.data[chosen] if image_size is None else resize_pixels(source.data[chosen], image_size)
    labels = np.asarray(source.targets, dtype=np.int64)[chosen]
    return Images(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels))
