"""Labelled image files: listed and checked first, capped next, decoded last."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audit.contracts import Images
from audit.data.base import Dataset
from audit.data.decode import Decoded, decode
from audit.data.strata import choose
from audit.errors import AuditError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Files:
    """Image files and their classes; nothing is decoded yet."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def limited(self, split: str, classes: int, cap: int | None) -> "Files":
        """The stratified subset of at most ``cap`` files, chosen by their names."""
        names = [f"{path.parent.name}/{path.name}" for path in self.paths]
        chosen = choose(split, names, self.labels, classes, cap).tolist()
        return Files(tuple(self.paths[i] for i in chosen), tuple(self.labels[i] for i in chosen))


def entries(folder: Path, layout: str) -> tuple[list[str], list[str]]:
    """The names of the sub-folders and of the other files in ``folder``, each sorted, without the hidden ones."""
    try:
        with os.scandir(folder) as found:
            visible = sorted((entry.name, entry.is_dir()) for entry in found if not entry.name.startswith("."))
    except OSError as error:
        raise AuditError(f"cannot list the folder {folder} ({error.strerror}); expected {layout}") from error
    return [name for name, is_folder in visible if is_folder], [name for name, is_folder in visible if not is_folder]


def images_in(folder: Path, layout: str) -> list[Path]:
    """The image files directly in ``folder``, by name. Raises AuditError if there are none."""
    names = [name for name in entries(folder, layout)[1] if name.lower().endswith(SUFFIXES)]
    if not names:
        raise AuditError(f"no images in the class folder {folder}; expected {layout}")
    return [folder / name for name in names]


def class_files(folder: Path, classes: Sequence[str], layout: str) -> Files:
    """The images of ``folder``/<class>/*. Raises AuditError unless its sub-folders are exactly ``classes``."""
    found = set(entries(folder, layout)[0])
    if missing := [name for name in classes if name not in found]:
        raise AuditError(f"{_count('class folder', missing)} missing in {folder}; expected {layout}")
    if unexpected := sorted(found.difference(classes)):
        raise AuditError(f"{_count('unexpected class folder', unexpected)} in {folder}; expected {layout}")
    return labelled([images_in(folder / name, layout) for name in classes])


def labelled(groups: Sequence[Sequence[Path]]) -> Files:
    """Files from one group of paths per class."""
    labels = (label for label, group in enumerate(groups) for _ in group)
    return Files(tuple(path for group in groups for path in group), tuple(labels))


def decode_dataset(
    name: str,
    classes: tuple[str, ...],
    splits: tuple[Files, Files],
    image_size: int | None,
    limits: Mapping[str, int],
    grey: bool = False,
) -> Dataset:
    """Cap and decode the train and test files; ``grey`` keeps one channel where no file of either has colours."""
    train, test = (
        files.limited(split, len(classes), limits.get(split))
        for split, files in zip(("train", "test"), splits, strict=True)
    )
    decoded = [decode(files.paths, image_size, reference=train.paths[0]) for files in (train, test)]
    channels = 1 if grey and all(part.grey for part in decoded) else 3
    return Dataset(name, classes, _images(decoded[0], train, channels), _images(decoded[1], test, channels))


def _images(decoded: Decoded, files: Files, channels: int) -> Images:
    pixels = torch.from_numpy(np.ascontiguousarray(decoded.pixels[:, :channels]))
    return Images(pixels, torch.tensor(files.labels, dtype=torch.int64))


def _count(what: str, names: Sequence[str]) -> str:
    return f"{what} {names[0]!r}" if len(names) == 1 else f"{len(names)} {what}s ({names[0]!r}, ...)"
