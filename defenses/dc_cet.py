"""DC + CET: conversion on synthetic images, then class encryption training."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from audit.contracts import DefenseContext
from audit.registry import register_defense
from audit.spiking.conversion import balance_thresholds, match_output_scale
from audit.spiking.network import SpikingNetwork
from audit.spiking.settings import Positive
from audit.spiking.training import EncryptionRecipe, encrypt
from defenses.data_free_conversion import DataFreeConversion


@dataclass(frozen=True)
class ClassEncryptionTraining(DataFreeConversion):
    """DC, then spike-based training on synthetic images, without distillation (PrivateSNN, 2022, Table 3: DC + CET).

    ``labels``: 'argmax' trains on the class that the teacher sees in the finished image, 'nominal' on the class that
    its soft label was drawn for. ``logits``: what enters the losses, the last layer's accumulated input as its 'mean'
    over T, its 'sum', or scaled to the 'teacher' by least squares. ``thresholds`` may be balanced again afterwards.
    """

    baselines: ClassVar[tuple[str, ...]] = ("data-free-conversion",)

    epochs: Annotated[int, Field(ge=1)] = 20
    learning_rate: Positive = 1e-4
    batch_size: Annotated[int, Field(ge=1)] = 32
    distillation: Annotated[float, Field(ge=0, le=1)] = 0.0
    temperature: Positive = 20.0
    labels: Literal["argmax", "nominal"] = "argmax"
    logits: Literal["mean", "sum", "teacher"] = "mean"
    thresholds: Literal["kept", "rebalanced"] = "kept"

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        made = self.synthesise(teacher, context)
        network = self.convert(teacher, made["pixels"], context)
        images = context.task.normalise(made["pixels"].to(context.device))
        labels = made[self.labels].to(context.device)
        match self.logits:
            case "sum":
                network.output_scale.fill_(1.0)
            case "teacher":
                match_output_scale(network, teacher, images[: self.threshold_images], context.seed)
        recipe = EncryptionRecipe(self.epochs, self.learning_rate, self.batch_size, self.distillation, self.temperature)
        context.notes["training_loss"] = encrypt(
            network, teacher, images, labels, recipe, context.seed, context.monitor
        )
        if self.thresholds == "rebalanced":
            context.notes["thresholds"] = balance_thresholds(
                network, images[: self.threshold_images], context.seed, self.threshold_percentile, self.threshold_scale
            )
        return network


register_defense("dc-cet", ClassEncryptionTraining)
