"""A student taught by a teacher's answers on synthetic images, which are varied as real ones would be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Monitor, Task
from audit.errors import AuditError
from audit.networks.training import Count, Positive, channels_last

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Variation:
    """Random changes of an image: the augmentation of data impressions (Nayak et al., ICML 2019, section 4).

    Each is uniform up to its limit: ``rotation`` in degrees, ``scaling`` as a share of the size, ``shift`` as a share
    of the width and height. ``noise`` is the deviation of Gaussian noise in units of the input range. Images are
    mirrored at random where the task allows it. What comes in from outside is the lowest value, as in `augment`.
    """

    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    scaling: Share = 0.1
    shift: Share = 0.1
    noise: Share = 0.02

    def __call__(self, x: Tensor, task: Task, generator: torch.Generator) -> Tensor:
        """``x`` [B, C, H, W] in the input range, same shape and range back; ``generator`` is a CPU generator."""
        low, high = task.input_range
        draws = torch.rand(6, len(x), generator=generator).to(x.device) * 2 - 1
        angle, size = draws[0] * self.rotation * torch.pi / 180, 1 + draws[1] * self.scaling
        mirror = torch.where(draws[2] < 0, -1.0, 1.0) if task.mirror else torch.ones_like(size)
        aspect = x.shape[3] / x.shape[2]
        cosine, sine = angle.cos() / size, angle.sin() / size
        rows = [
            torch.stack([mirror * cosine, -sine / aspect, 2 * self.shift * draws[3]], 1),
            torch.stack([mirror * sine * aspect, cosine, 2 * self.shift * draws[4]], 1),
        ]
        grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
        moved = F.grid_sample(x - low, grid, padding_mode="zeros", align_corners=False) + low
        noise = torch.randn(x.shape, generator=generator).to(x.device) * self.noise * (high - low)
        return (moved + noise).clamp(low, high)
