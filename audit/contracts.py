"""What a task, a defense, an attack and the evidence between them are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class DataAccess(StrEnum):
    """What a defense is handed beside the teacher's weights."""

    NONE = "none"
    TRAINING_IMAGES = "training-images"


@dataclass(frozen=True)
class Images:
    """A labelled set: ``pixels`` uint8 [N, C, H, W] in 0..255, ``labels`` int64 [N]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """What is public about the problem: no image can be reached from here. ``image_shape`` is (C, H, W)."""

    dataset: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]


class Monitor(Protocol):
    """Where a component reports; it never influences a result."""

    def track(self, steps: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """Iterate over ``steps`` while the display shows how far it is."""
        ...


@dataclass(frozen=True)
class DefenseContext:
    """Everything a defense is handed beside the teacher.

    ``private_images`` is None unless the defense declares DataAccess.TRAINING_IMAGES.
    ``stored`` memoises an expensive intermediate (synthetic images) under its settings, across defenses and runs.
    ``notes`` goes into the record as it is: JSON values only.
    """

    task: Task
    seed: int
    device: torch.device
    monitor: Monitor
    stored: Callable[[str, Any, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]
    private_images: Images | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class Defense(Protocol):
    """Turns a private teacher into the network that ships. Its dataclass fields are its settings."""

    data_access: ClassVar[DataAccess]
    baselines: ClassVar[tuple[str, ...]]

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        """Return the target: a SpikingNetwork, or an ANN where the defense is not a conversion."""
        ...


@dataclass(frozen=True)
class AttackContext:
    """Everything an attacker is handed beside the target: no private image, no teacher."""

    task: Task
    seed: int
    device: torch.device
    monitor: Monitor
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reconstructions:
    """An attack's evidence: ``images`` float [N, C, H, W] in [-1, 1], ``labels`` int64 [N], the class each one claims."""

    images: Tensor
    labels: Tensor


class NotApplicable(Exception):
    """Raised by an attack that has nothing to say about this kind of target; recorded with its reason."""


class Attack(Protocol):
    """Recovers images of the private classes from a target. Its dataclass fields are its settings."""

    images_per_class: int

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions: ...
