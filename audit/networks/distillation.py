"""A student taught by a teacher's answers on synthetic images, which are varied at random."""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Monitor, Task
from audit.errors import AuditError
from audit.networks.epochs import epochs
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
    scaling: Share = 0.2
    shift: Share = 0.1
    noise: Share = 0.05

    def __call__(self, x: Tensor, task: Task, generator: torch.Generator) -> Tensor:
        """``x`` [B, C, H, W] in the input range, same shape and range back; ``generator`` is a CPU generator."""
        low, high = task.input_range
        draws = torch.rand(5, len(x), generator=generator).to(x.device) * 2 - 1
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


@dataclass(frozen=True)
class DistillationRecipe:
    """Adam, the rate falling to 0 along a half cosine; the loss is `distillation_loss` at ``temperature``."""

    epochs: Count
    learning_rate: Positive
    batch_size: Count
    temperature: Positive
    variation: Variation


def distil(
    student: nn.Module,
    teacher: nn.Module,
    pixels: Tensor,
    task: Task,
    recipe: DistillationRecipe,
    seed: int,
    monitor: Monitor,
) -> list[float]:
    """Train ``student`` in place to answer as ``teacher`` does on ``pixels`` uint8 [N, C, H, W]; the epochs' losses.

    Both see the same variation of an image. The student stays in eval(): without dropout, as the teacher. Runs on the
    device of the student's weights. Raises AuditError where the loss stops being finite.
    """
    device = next(student.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    student.eval().to(memory_format=torch.channels_last).requires_grad_(True)
    optimizer = torch.optim.Adam(student.parameters(), lr=recipe.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    state = {"student": student, "optimizer": optimizer, "scheduler": scheduler}
    with epochs(monitor, "distillation", len(pixels), recipe.batch_size, recipe.epochs, generator, **state) as batches:
        for index in batches:
            x = task.normalise(pixels[index].to(device))
            x = channels_last(recipe.variation(x, task, generator))
            with torch.no_grad():
                taught = teacher(x)
            loss = distillation_loss(student(x), taught, recipe.temperature)
            if not torch.isfinite(loss):
                raise AuditError("distillation diverged: the loss is not finite; lower its learning rate")
            batches.descend(loss, optimizer, len(index))
            if batches.last:
                scheduler.step()
    student.to(memory_format=torch.contiguous_format)
    return batches.losses


def distillation_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """temperature^2 KL(teacher || student), both softened, for logits [B, K] (Hinton et al. 2015); the batch's mean."""
    student, tutor = F.log_softmax(logits / temperature, 1), F.log_softmax(taught / temperature, 1)
    return temperature**2 * F.kl_div(student, tutor, log_target=True, reduction="batchmean")
