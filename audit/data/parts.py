"""Who gets which images: the private teacher, the auditor's evaluator, and the test."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from audit.contracts import Images
from audit.data.base import Dataset
from audit.data.strata import Indices, by_class, capped, quotas
from audit.errors import AuditError


@dataclass(frozen=True)
class Parts:
    """Disjoint and stratified; each part is in random order, so that its first n images are a random sample."""

    teacher: Images
    evaluator: Images
    test: Images

    def counts(self) -> dict[str, int]:
        """Images per part."""
        return {role: len(images) for role, images in self._roles().items()}

    def split_hash(self) -> str:
        """sha256 over shape, pixels and labels of every part, in order: equal exactly when the images are."""
        digest = hashlib.sha256()
        for role, images in self._roles().items():
            digest.update(f"{role} {tuple(images.pixels.shape)}\n".encode())
            digest.update(images.pixels.contiguous().numpy().data)
            digest.update(images.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def _roles(self) -> dict[str, Images]:
        return {"teacher": self.teacher, "evaluator": self.evaluator, "test": self.test}


def partition(
    dataset: Dataset,
    evaluator_fraction: float,
    teacher_images: int | None,
    evaluator_images: int | None,
    test_images: int | None,
    seed: int = 0,
) -> Parts:
    """Give ``evaluator_fraction`` of the training images to the evaluator and the others to the teacher.

    The three numbers cap the parts, None takes all; a cap above what there is takes what there is. Raises AuditError
    for a fraction outside (0, 1), for a cap below one image per class, and for a class with too few images.
    """
    if not 0 < evaluator_fraction < 1:
        raise AuditError(f"the evaluator's fraction {evaluator_fraction} is not between 0 and 1; pass for example 0.3")
    # One image of each class for the teacher and one for the evaluator, whatever the fraction.
    groups = _shuffled(dataset, "train", seed, least=2)
    classes, total = len(groups), len(dataset.train)
    wanted = min(max(round(evaluator_fraction * total), classes), total - classes)
    given = quotas(_counts(groups), wanted, reserve=1)
    evaluator = [group[:quota] for group, quota in zip(groups, given, strict=True)]
    teacher = [group[quota:] for group, quota in zip(groups, given, strict=True)]
    return Parts(
        _take(dataset.train, teacher, "teacher", teacher_images, seed),
        _take(dataset.train, evaluator, "evaluator", evaluator_images, seed),
        _take(dataset.test, _shuffled(dataset, "test", seed, least=1), "test", test_images, seed),
    )


def _shuffled(dataset: Dataset, split: str, seed: int, least: int) -> list[Indices]:
    """The positions of each class in random order. Raises AuditError for a class with fewer than ``least``."""
    images = dataset.train if split == "train" else dataset.test
    groups = by_class(images.labels.numpy(), len(dataset.classes))
    for name, group in zip(dataset.classes, groups, strict=True):
        if len(group) < least:
            raise AuditError(
                f"class {name!r} of {dataset.name} has too few {split} images ({len(group)}); it needs {least} or more"
            )
    generator = _generator(seed, split)
    return [generator.permutation(group) for group in groups]


def _counts(groups: list[Indices]) -> Indices:
    return np.array([len(group) for group in groups], dtype=np.int64)


def _take(images: Images, groups: list[Indices], role: str, cap: int | None, seed: int) -> Images:
    """The first images of every class, ``cap`` together, then mixed."""
    counts = _counts(groups)
    total = capped(role, cap, int(counts.sum()), len(groups))
    chosen = np.concatenate([group[:n] for group, n in zip(groups, quotas(counts, total), strict=True)])
    order = torch.from_numpy(_generator(seed, f"{role} order").permutation(chosen))
    return Images(images.pixels[order], images.labels[order])


def _generator(seed: int, purpose: str) -> np.random.Generator:
    # One stream per purpose: a cap on one part leaves the other parts as they are.
    return np.random.default_rng([seed, *purpose.encode()])
