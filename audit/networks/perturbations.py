"""What attacks without a gradient share: smooth noise, what an answer is worth, and how a budget of queries is cut."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from audit.networks.ascent import derived_seed

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]

# At which shares of the updates an attack asks how far it has come: one query per image each.
CHECKS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
GRAINS = (2, 4, 8, 16)


@dataclass(frozen=True)
class Queries:
    """Settings of an attack by questions: ``queries_per_image``, its budget, is never exceeded.

    Its noise refines from a lattice of ``coarsest_grid`` to one of ``finest_grid``; ``queries_per_call`` bounds what
    the target is asked at once.
    """

    images_per_class: Count = 30
    queries_per_image: Annotated[int, Field(ge=16)] = 2000
    coarsest_grid: Count = 4
    finest_grid: Count = 16
    queries_per_call: Count = 4000


def source(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A CPU generator of its own for every purpose: the same numbers on every device."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, index))


def smooth_noise(count: int, image_shape: Sequence[int], grid: int, generator: torch.Generator) -> Tensor:
    """Gaussian noise on a ``grid`` x ``grid`` lattice, bilinearly enlarged -> [count, C, H, W], each of RMS 1.

    A lattice as fine as the image gives white noise.
    """
    channels, height, width = image_shape
    coarse = torch.randn(count, channels, min(grid, height), min(grid, width), generator=generator)
    noise = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return unit_rms(noise)


def low_frequency(count: int, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random images [count, C, H, W] in [0, 1]: noise on lattices of `GRAINS`, each of its own brightness and contrast.

    The brightness is U(0, 1), the RMS contrast U(0.1, 0.5); the grains are mixed at random.
    """
    each = -(-count // len(GRAINS))
    images = torch.cat([smooth_noise(each, image_shape, grid, generator) for grid in GRAINS])
    images = images[torch.randperm(len(images), generator=generator)[:count]]
    brightness, contrast = torch.rand(2, count, 1, 1, 1, generator=generator)
    return (brightness + (0.1 + 0.4 * contrast) * images).clamp(0, 1)


def unit_rms(x: Tensor) -> Tensor:
    """Each image [N, C, H, W] divided by its root mean square; zeros stay zeros."""
    rms = x.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)
    return x / rms.clamp(min=torch.finfo(x.dtype).tiny)


def grid_at(progress: float, coarsest: int, finest: int) -> int:
    """From ``coarsest`` to ``finest``, geometrically, as ``progress`` goes from 0 to 1."""
    return round(coarsest * (finest / coarsest) ** progress)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the class minus that of the runner-up: logits [N, K], labels [N] -> [N]."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).amax(1)


def checkpoints(updates: int) -> set[int]:
    """After how many of ``updates`` to look: 0, then ever later, and the end; at most ``len(CHECKS)``."""
    return {round(updates * share) for share in CHECKS}


class Curve:
    """Means over all images by the number of queries that each of them had cost."""

    def __init__(self) -> None:
        self._values: dict[int, list[Tensor]] = defaultdict(list)

    def add(self, queries: int, values: Tensor) -> None:
        """``values`` [N], one per image of a batch."""
        self._values[queries].append(values.detach().double().cpu())

    def state_dict(self) -> dict[int, list[Tensor]]:
        return dict(self._values)

    def load_state_dict(self, state: dict[int, list[Tensor]]) -> None:
        self._values = defaultdict(list, state)

    def points(self) -> list[list[float]]:
        """[queries per image, mean], in the order of queries."""
        return [[n, round(float(torch.cat(self._values[n]).mean()), 4)] for n in sorted(self._values)]
