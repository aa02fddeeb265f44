"""DC: conversion on synthetic images."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from audit.contracts import DataAccess, DefenseContext
from audit.networks.synthesised import Synthesised
from audit.registry import register_defense
from audit.spiking.network import SpikingNetwork
from audit.spiking.settings import Conversion


@dataclass(frozen=True)
class DataFreeConversion(Synthesised, Conversion):
    """Conversion by threshold balancing on images synthesised from the teacher (PrivateSNN, 2022, Algorithm 2, step 1).

    ``similarity`` and the ``synthesis_*`` fields are the settings of `audit.networks.synthesis.Synthesis`.
    """

    data_access: ClassVar[DataAccess] = DataAccess.NONE
    baselines: ClassVar[tuple[str, ...]] = ()

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        return self.convert(teacher, self.synthesise(teacher, context)["pixels"], context)


register_defense("data-free-conversion", DataFreeConversion)
