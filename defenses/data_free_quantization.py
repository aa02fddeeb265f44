"""The teacher with few bits per weight: an ANN next to the teacher, as compression ships it."""

import copy
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from audit.contracts import DataAccess, DefenseContext
from audit.networks.distillation import DistillationRecipe, Variation, distil
from audit.networks.quantization import finish, quantize, relative_distances, size_in_bits
from audit.networks.synthesised import Synthesised
from audit.networks.training import Count, Positive
from audit.registry import register_defense


@dataclass(frozen=True)
class DataFreeQuantization(Synthesised):
    """Weights of few bits, tuned by distillation on images synthesised from the teacher (Haroush et al., CVPR 2020).

    Every output channel has a symmetric grid of at most 2^``bits`` levels, whose step is chosen by squared error and
    kept; the weights are then tuned through the rounding to answer as the teacher does. It hides nothing by itself:
    it shows how much of a leak a coarser copy of the weights keeps. Unlike in the paper: the images are the data
    impressions of the other data-free defenses, since the paper's best ones match batch-norm statistics, which these
    teachers do not have; activations stay in floating point (a target has no layer that would round them), and so do
    the biases.
    """

    data_access: ClassVar[DataAccess] = DataAccess.NONE
    baselines: ClassVar[tuple[str, ...]] = ("none",)

    bits: Annotated[int, Field(ge=2, le=16)] = 4
    finetuning_epochs: Count = 30
    finetuning_learning_rate: Positive = 1e-4
    finetuning_batch_size: Count = 64
    finetuning_temperature: Positive = 20.0

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Sequential:
        made = self.synthesise(teacher, context)
        network = copy.deepcopy(teacher)
        quantize(network, self.bits)
        context.notes["relative distance to the teacher, rounded"] = relative_distances(network, teacher)
        recipe = DistillationRecipe(
            self.finetuning_epochs,
            self.finetuning_learning_rate,
            self.finetuning_batch_size,
            self.finetuning_temperature,
            Variation(),
        )
        context.notes["training_loss"] = distil(
            network, teacher, made["pixels"], context.task, recipe, context.seed, context.monitor
        )
        finish(network)
        context.notes["bits per weight"] = self.bits
        context.notes["size, bits"] = size_in_bits(network, self.bits)
        context.notes["relative distance to the teacher, tuned"] = relative_distances(network, teacher)
        return network


register_defense("data-free-quantization", DataFreeQuantization)
