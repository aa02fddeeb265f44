"""The simplest theft: read the weights."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from audit.contracts import Access, AttackContext, NotApplicable
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork


@dataclass(frozen=True)
class WeightRecovery:
    """The target's weights as an ANN's, with ReLU in the place of the neurons (PrivateSNN, 2022, attack 1, first step).

    Access: the target's weights. Weights near the teacher's say that nothing hides in them; far ones do not say the
    opposite, since a permutation of hidden channels moves every weight and no answer. Cost: none.
    """

    access: ClassVar[Access] = Access.WEIGHTS

    def recover(self, target: nn.Module, context: AttackContext) -> nn.Sequential:
        if isinstance(target, SpikingNetwork):
            return target.to_ann()
        if not isinstance(target, nn.Sequential):
            raise NotApplicable("the target is no sequence of layers, to be compared with the teacher's one by one")
        return target


register_attack("weight-recovery", WeightRecovery)
