"""The simplest theft: read the weights."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from audit.contracts import Access, AttackContext
from audit.networks.ascent import derived_seed
from audit.networks.perturbations import low_frequency
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork
from audit.spiking.rates import Substitute, rate_network


@dataclass(frozen=True)
class WeightRecovery:
    """The target's weights as an ANN's, with an activation in the place of the neurons; compared with the teacher.

    Access: the target's weights and thresholds. How close the encrypted weights are to the teacher's bounds what any
    reconversion can see. ``activation`` 'relu' is PrivateSNN's reconversion; 'clip' is that of the rates. Cost: none.
    """

    access: ClassVar[Access] = Access.WEIGHTS

    activation: Substitute = "relu"
    queries: Annotated[int, Field(ge=8)] = 64

    def recover(self, target: nn.Module, context: AttackContext) -> nn.Sequential:
        if not isinstance(target, SpikingNetwork):
            assert isinstance(target, nn.Sequential)
            return target
        if self.activation == "relu":
            return target.to_ann()
        generator = torch.Generator().manual_seed(derived_seed(context.seed, "queries", 0))
        low, high = context.task.input_range
        queries = low_frequency(self.queries, context.task.image_shape, generator) * (high - low) + low
        device = torch.Generator(context.device).manual_seed(derived_seed(context.seed, "target", 0))
        return rate_network(target.to(context.device), self.activation, queries.to(context.device), device, False)


register_attack("weight-recovery", WeightRecovery)
