"""A new defense in one file, for ``--defense examples/new_defense.py`` or by itself: noise on the teacher's weights."""

from dataclasses import dataclass

import torch
from torch import nn

from audit import audit
from audit.contracts import DefenseContext
from audit.registry import register_defense
from audit.reporting.headline import headline
from audit.spiking.network import SpikingNetwork
from defenses.data_free_conversion import DataFreeConversion


@dataclass(frozen=True)
class NoisyWeights(DataFreeConversion):
    """Gaussian noise on every weight, ``noise`` times the layer's deviation, then the data-free conversion."""

    noise: float = 0.3

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        generator = torch.Generator().manual_seed(context.seed)
        for weight in teacher.parameters():
            weight.data += self.noise * weight.std() * torch.randn(weight.shape, generator=generator)
        return super().protect(teacher, context)


register_defense("noisy-weights", NoisyWeights)

if __name__ == "__main__":
    record = audit(NoisyWeights, attacks="class-leakage-v1", dataset="digits", out="runs/noisy-weights")
    print(headline(record))
