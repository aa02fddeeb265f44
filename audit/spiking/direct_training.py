"""Training a spiking network from scratch: surrogate gradients through time, on labelled images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Images, Monitor, Task
from audit.data.augment import augment
from audit.errors import AuditError
from audit.networks.epochs import epochs

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Logits = Callable[[Tensor, torch.Generator], Tensor]
"""(images [B, C, H, W] in the input range, generator on their device) -> logits [B, K], differentiable."""


@dataclass(frozen=True)
class DirectRecipe:
    """Cross-entropy, Adam, the rate falling to 0 along a half cosine.

    ``crop``: random shift by up to that many pixels, as of `audit.data.augment.augment`.
    """

    epochs: Count
    learning_rate: Positive
    batch_size: Count
    crop: Annotated[int, Field(ge=0)]


def train_directly(
    network: nn.Module, logits_of: Logits, images: Images, task: Task, recipe: DirectRecipe, seed: int, monitor: Monitor
) -> list[float]:
    """Train ``network`` in place through ``logits_of``; returns the mean loss of every epoch and leaves it in eval().

    Runs on the device of the network's weights. Raises AuditError where the loss stops being finite.
    """
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    network.train().requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    steps = recipe.epochs * -(-len(images) // recipe.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    state = {"network": network, "optimizer": optimizer, "scheduler": scheduler, "draws": generator}
    with epochs(
        monitor, "training through time", len(images), recipe.batch_size, recipe.epochs, order, **state
    ) as batches:
        for index in batches:
            pixels = augment(images.pixels[index], recipe.crop, task.mirror, order)
            logits = logits_of(task.normalise(pixels.to(device)), generator)
            loss = F.cross_entropy(logits, images.labels[index].to(device))
            if not torch.isfinite(loss):
                raise AuditError(
                    "training through time diverged: the loss is not finite; lower defense.training_learning_rate"
                )
            batches.descend(loss, optimizer, len(index))
            scheduler.step()
    network.eval()
    return batches.losses
