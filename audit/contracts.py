"""What a task, a defense, an attack and the evidence between them are."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from audit.loops import Loop


class DataAccess(StrEnum):
    """What a defense is handed beside the teacher's weights."""

    NONE = "none"
    TRAINING_IMAGES = "training-images"
    UNKNOWN = "unknown"
    """The target was there already: the harness hands over no image, and cannot say what somebody else did."""


@dataclass(frozen=True)
class Images:
    """A labelled set: ``pixels`` uint8 [N, C, H, W] in 0..255, ``labels`` int64 [N]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """What is public about the problem: no image can be reached from here.

    ``image_shape`` is (C, H, W); ``input_range`` is what pixels 0..255 become before they enter a network:
    (-1, 1), the normalisation with mean and deviation 0.5, or (0, 1); ``mirror``: a mirror image is a natural one.
    """

    dataset: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    input_range: tuple[float, float] = (-1.0, 1.0)
    mirror: bool = False

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels 0..255 of any dtype -> float in the input range."""
        low, high = self.input_range
        return pixels.to(torch.float32) * ((high - low) / 255) + low

    def around(self, images: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """The lowest and the highest value that each pixel of ``images``, float in the input range, may take.

        ``epsilon`` is a share of the range: an L-infinity bound in units of pixels in [0, 1]. Attacks and the harness
        take the bound from here, so that it holds to the last bit.
        """
        low, high = self.input_range
        reach = epsilon * (high - low)
        return (images - reach).clamp(min=low), (images + reach).clamp(max=high)


class Monitor(Protocol):
    """Where a component reports; it never influences a result."""

    def steps(self, description: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Open a line of the display for ``total`` steps; call what it yields after each of them."""
        ...

    @contextmanager
    def loop(self, description: str, total: int, /, **state: Any) -> Iterator[Loop]:
        """The same for a loop that may take minutes: what it changes is handed over, and kept while it runs.

        After a kill the same stage goes on in the middle of the loop: `audit.loops.Loop` says how to write one.
        """
        with self.steps(description, total) as advance:
            loop = Loop(total, **state)
            loop.after_each(advance)
            yield loop

    def scalar(self, name: str, value: float, step: int) -> None:
        """A point of a curve, for whoever draws it."""
        return


Stored = Callable[[str, nn.Module, Any, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]


@dataclass(frozen=True)
class DefenseContext:
    """Everything a defense is handed beside the teacher.

    ``private_images`` is None unless the defense declares DataAccess.TRAINING_IMAGES.
    ``stored(stage, network, settings, make)`` memoises an expensive intermediate (synthetic images) that ``make`` makes
    from ``network`` and ``settings`` and nothing else, across defenses and runs.
    ``notes`` goes into the record as it is: JSON values only.
    """

    task: Task
    seed: int
    device: torch.device
    monitor: Monitor
    stored: Stored
    private_images: Images | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class Defense(Protocol):
    """Turns a private teacher into the network that ships. Its dataclass fields are its settings.

    ``baselines: ClassVar[tuple[str, ...]]`` may name the defenses that the tables set beside it; without it, that is
    the undefended data-free conversion. ``in_all: ClassVar[bool]`` is False for one that needs what only its user can
    name; ``requires: ClassVar[tuple[str, ...]]`` are modules without which 'all' leaves it out. ``check(task, seed,
    device)`` is called before anything is trained, and raises AuditError where it is known by then that there will be
    no target. ``fingerprint(task, seed) -> str`` is for one that reads files: a hash of them, since a stage is known by
    what made it; an attack may have it as well. ``repeatable: ClassVar[bool]`` is False where nothing can be made of
    other images, so that membership inference has no shadows.
    """

    data_access: ClassVar[DataAccess]

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        """Return the target: a SpikingNetwork, or an ANN where the defense is not a conversion."""
        ...


class Access(StrEnum):
    """What an attacker holds of the target; the harness hands over nothing else."""

    WEIGHTS = "weights"
    SCORES = "scores"
    LABELS = "labels"


class Oracle:
    """A target behind an interface: images in, answers out, every one counted."""

    def __init__(self, answer: Callable[[Tensor], Tensor], draws: torch.Generator | None = None) -> None:
        self._answer, self._draws = answer, draws
        self.queries = 0

    def __call__(self, images: Tensor) -> Tensor:
        """``images`` float [N, C, H, W] in the input range -> logits [N, K] (scores) or classes int64 [N] (labels)."""
        self.queries += len(images)
        return self._answer(images)

    def state_dict(self) -> dict[str, Any]:
        """For a loop that asks it: what was asked so far, and where the target's own random numbers are."""
        return {"queries": self.queries, "draws": None if self._draws is None else self._draws.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.queries = state["queries"]
        if self._draws is not None:
            self._draws.set_state(state["draws"])


@dataclass(frozen=True)
class AttackContext:
    """Everything an attacker is handed beside the target: no teacher, and no private image but those that leaked.

    ``leaked`` holds as many private images as the attack's field ``leaked_images`` says, None where it has no such
    field or it is 0.
    """

    task: Task
    seed: int
    device: torch.device
    monitor: Monitor
    leaked: Images | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reconstructions:
    """Evidence of an inversion: ``images`` float [N, C, H, W] in the task's input range, ``labels`` int64 [N]."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Candidates:
    """What a membership inference attack is asked about, and what its attacker has to learn from.

    ``images``: some from the private training set and as many that are not, in no order that tells them apart.
    ``population``: public images of the same distribution, none of them private and none a candidate.
    ``shadow(i, images)``: the target that the same training and the same defense make of other images, number ``i``;
    None where the target is there and what made it is not.
    """

    images: Images
    population: Images
    shadow: Callable[[int, Images], nn.Module] | None


@dataclass(frozen=True)
class MembershipScores:
    """Evidence of a membership inference: by signal, one score per candidate [N]; higher means 'was trained on'."""

    scores: dict[str, Tensor]


@dataclass(frozen=True)
class Adversarial:
    """Evidence of an evasion: ``images`` float [N, C, H, W] in the input range, one for each handed over, in order."""

    images: Tensor


class NotApplicable(Exception):
    """Raised by an attack that has nothing to say about this kind of target; recorded with its reason."""


class Inversion(Protocol):
    """Recovers images of the private classes from a target.

    An attack's dataclass fields are its settings. ``access: ClassVar[Access]`` says what it holds; without it, the
    weights. With scores or labels alone, ``target`` is an `Oracle`.
    """

    @property
    def images_per_class(self) -> int: ...

    def reconstruct(self, target: Any, context: AttackContext) -> Reconstructions: ...


class MembershipInference(Protocol):
    """Tells the private training images from others of their distribution."""

    def score_members(self, target: Any, context: AttackContext, candidates: Candidates) -> MembershipScores: ...


class WeightRecovery(Protocol):
    """Recovers the private network itself, as an ANN; compared with the teacher by the harness."""

    def recover(self, target: nn.Module, context: AttackContext) -> nn.Sequential: ...


class Evasion(Protocol):
    """Changes images that the target knows by so little that nobody minds, and it errs.

    ``images``: how many of the auditor's labelled test images it is handed, none of them private. ``epsilon``: how far
    a pixel may move, as a share of the input range; the harness checks it by `Task.around`.
    """

    @property
    def images(self) -> int: ...
    @property
    def epsilon(self) -> float: ...

    def evade(self, target: Any, context: AttackContext, images: Images) -> Adversarial: ...


Attack = Inversion | MembershipInference | WeightRecovery | Evasion
