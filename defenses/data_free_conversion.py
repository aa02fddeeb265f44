"""DC: conversion on synthetic images."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from audit.contracts import DataAccess, DefenseContext
from audit.networks.synthesis import Synthesis, synthesise
from audit.registry import register_defense
from audit.spiking.network import SpikingNetwork
from audit.spiking.settings import Conversion, Positive


@dataclass(frozen=True)
class DataFreeConversion(Conversion):
    """Conversion by threshold balancing on images synthesised from the teacher (PrivateSNN, 2022, Algorithm 2, step 1).

    ``similarity`` and the ``synthesis_*`` fields are the settings of `audit.networks.synthesis.Synthesis`.
    """

    data_access: ClassVar[DataAccess] = DataAccess.NONE
    baselines: ClassVar[tuple[str, ...]] = ()

    synthetic_images: Annotated[int, Field(ge=1)] = 5000
    similarity: Literal["cosine", "printed"] = "cosine"
    synthesis_steps: Annotated[int, Field(ge=1)] = 2500
    synthesis_learning_rate: Positive = 1e-3
    synthesis_temperature: Positive = 20.0
    synthesis_concentration: Positive = 1.0

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        return self.convert(teacher, self.synthesise(teacher, context)["pixels"], context)

    def synthesise(self, teacher: nn.Sequential, context: DefenseContext) -> dict[str, Tensor]:
        """The synthetic images (made once for all defenses with these settings); their quality goes into the notes."""
        settings = Synthesis(
            self.synthetic_images,
            self.similarity,
            self.synthesis_concentration,
            self.synthesis_steps,
            self.synthesis_learning_rate,
            self.synthesis_temperature,
        )
        made = context.stored(
            "synthetic-images",
            teacher,
            settings,
            lambda: synthesise(teacher, context.task, settings, context.seed, context.device, context.monitor),
        )
        peak = made["soft_labels"].argmax(1)
        context.notes["synthetic_images"] = len(made["pixels"])
        context.notes["teacher agrees with the soft label's peak"] = float((made["argmax"] == peak).float().mean())
        context.notes["teacher agrees with the nominal class"] = float(
            (made["argmax"] == made["nominal"]).float().mean()
        )
        return made


register_defense("data-free-conversion", DataFreeConversion)
