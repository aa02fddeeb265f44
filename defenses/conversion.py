"""ANN-SNN conversion with the private training images."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from audit.contracts import DataAccess, DefenseContext
from audit.registry import register_defense
from audit.spiking.network import SpikingNetwork
from audit.spiking.settings import Conversion


@dataclass(frozen=True)
class RealDataConversion(Conversion):
    """ANN-SNN conversion by threshold balancing on real training images (Sengupta 2019)."""

    data_access: ClassVar[DataAccess] = DataAccess.TRAINING_IMAGES
    baselines: ClassVar[tuple[str, ...]] = ()

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        assert context.private_images is not None
        return self.convert(teacher, context.private_images.pixels, context)


register_defense("conversion", RealDataConversion)
