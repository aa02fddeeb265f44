"""A teacher trained further, with other activations in the place of its ReLUs."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import DefenseContext
from audit.errors import AuditError
from audit.networks.training import Positive, TrainingRecipe, train


@dataclass(frozen=True)
class Tuned:
    """Training on the private images, after the teacher's own: SGD with momentum, the rate along a half cosine."""

    tuning_epochs: Annotated[int, Field(ge=1)] = 30
    tuning_learning_rate: Positive = 1e-2
    tuning_batch_size: Annotated[int, Field(ge=1)] = 64
    tuning_crop: Annotated[int, Field(ge=0)] = 4
    tuning_weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4

    def tune(self, network: nn.Sequential, context: DefenseContext) -> None:
        """In place; the epochs' losses go into the notes. Raises AuditError where a weight is no longer finite."""
        assert context.private_images is not None
        recipe = TrainingRecipe(
            self.tuning_epochs,
            self.tuning_learning_rate,
            self.tuning_batch_size,
            self.tuning_weight_decay,
            self.tuning_crop,
            "cosine",
        )
        network.requires_grad_(True)
        context.notes["private images"] = len(context.private_images)
        context.notes["tuning_loss"] = train(
            network, context.private_images, context.task, recipe, context.seed, context.device, context.monitor
        )
        if not all(torch.isfinite(weight).all() for weight in network.parameters()):
            raise AuditError(f"training diverged; lower tuning_learning_rate (now {self.tuning_learning_rate})")
        network.requires_grad_(False).to(memory_format=torch.contiguous_format)


def positive(learned: Mapping[str, Tensor]) -> dict[str, float]:
    """What was learned for each layer as a number. Raises AuditError where a scale or threshold is not above 0."""
    found = {name: float(value) for name, value in learned.items()}
    for name, value in found.items():
        if not value > 0:
            raise AuditError(
                f"training drove the threshold of layer '{name}' to {value:.3g}, where a neuron fires without input; "
                "lower tuning_learning_rate or take fewer tuning_epochs"
            )
    return found


def with_activations(network: nn.Sequential, activation: Callable[[str], nn.Module]) -> nn.Sequential:
    """A copy with ``activation(name)`` in the place of every ReLU."""
    layers = OrderedDict(
        (name, activation(name) if isinstance(layer, nn.ReLU) else deepcopy(layer))
        for name, layer in network.named_children()
    )
    return nn.Sequential(layers).train(network.training)
