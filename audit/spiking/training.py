"""Class encryption training with on-device distillation: PrivateSNN Algorithm 2, step 2, Eq. 3-5."""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Monitor
from audit.errors import AuditError
from audit.networks.epochs import epochs
from audit.spiking.network import SpikingNetwork

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class EncryptionRecipe:
    """L = (1 - m) CE(SNN, Y) + m tau^2 KL(ANN / tau || SNN / tau), m = ``distillation`` (0: CET alone).

    Adam, the rate times 0.1 at 50 % and 70 % of the epochs; spatio-temporal back-propagation over all time-steps.
    """

    epochs: Annotated[int, Field(ge=1)] = 20
    learning_rate: Positive = 1e-4
    batch_size: Annotated[int, Field(ge=1)] = 32
    distillation: Annotated[float, Field(ge=0, le=1)] = 0.7
    temperature: Positive = 20.0


def encrypt(
    network: SpikingNetwork,
    teacher: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: EncryptionRecipe,
    seed: int,
    monitor: Monitor,
) -> list[float]:
    """Train ``network`` in place on ``images`` [N, C, H, W] (its input range) and ``labels`` [N]; returns epoch losses.

    Raises AuditError where the loss stops being finite.
    """
    device = images.device
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        taught = torch.cat([teacher(batch) for batch in images.split(256)])
    network.train().requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    milestones = [max(1, round(recipe.epochs * share)) for share in (0.5, 0.7)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    state = {"network": network, "optimizer": optimizer, "scheduler": scheduler, "draws": generator}
    with epochs(
        monitor, "encryption training", len(images), recipe.batch_size, recipe.epochs, order, **state
    ) as batches:
        for index in batches:
            index = index.to(device)
            logits = network(images[index], generator)
            loss = encryption_loss(logits, taught[index], labels[index], recipe)
            if not torch.isfinite(loss):
                raise AuditError("encryption training diverged: the loss is not finite; lower the learning rate")
            batches.descend(loss, optimizer, len(index))
            if batches.last:
                scheduler.step()
    network.eval()
    return batches.losses


def encryption_loss(logits: Tensor, taught: Tensor, labels: Tensor, recipe: EncryptionRecipe) -> Tensor:
    """Eq. 3 for a batch of SNN logits and teacher logits [B, K]; the distillation term is scaled by tau^2."""
    loss = (1 - recipe.distillation) * F.cross_entropy(logits, labels)
    if recipe.distillation > 0:
        tau = recipe.temperature
        student, tutor = F.log_softmax(logits / tau, 1), F.log_softmax(taught / tau, 1)
        divergence = F.kl_div(student, tutor, log_target=True, reduction="batchmean")
        loss = loss + recipe.distillation * tau**2 * divergence
    return loss
