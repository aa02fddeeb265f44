"""Spiking networks with few bits per weight: quantised inside training, or rounded afterwards as the control."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import DefenseContext
from audit.registry import register_defense
from audit.spiking.encoding import Coding
from audit.spiking.grid_training import Batch, Criterion
from audit.spiking.rounding import QuantizedInTraining, QuantizedOnPrivateImages, Rounded
from audit.spiking.training import EncryptionRecipe, encryption_loss
from defenses.conversion import RealDataConversion
from defenses.privatesnn import PrivateSNN
from defenses.surrogate_training import SurrogateTraining


@dataclass(frozen=True)
class TrainedOnAnyCode(SurrogateTraining):
    """`surrogate-training` for every coding of the image.

    A latency code is trained through all ``time_steps``, since the beginning of its window holds the bright pixels
    alone, and a phase code through one period of it at least.
    """

    coding: Coding = "rate"  # type: ignore[assignment]

    @property
    def steps(self) -> int:
        match self.coding:
            case "latency" | "log-latency":
                return self.time_steps
            case "phase":
                return min(max(self.training_time_steps, self.phases), self.time_steps)
            case _:
                return super().steps


@dataclass(frozen=True)
class QuantizedPtq(Rounded, TrainedOnAnyCode):
    """Weights of 1 to 8 bits rounded after surrogate-gradient training: the control of quantisation in training.

    The rounding itself needs no image; the network is that which `quantized` begins from, and so it is not data-free.
    With ``bits`` none, it is that network in full precision.
    """

    family: ClassVar[type[Any]] = TrainedOnAnyCode
    baselines: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Quantized(QuantizedOnPrivateImages, TrainedOnAnyCode):
    """Weights of 1 to 8 bits, quantised inside surrogate-gradient training through time (straight-through).

    "Weight Quantization Method for Spiking Neural Networks and Analysis of Adversarial Robustness", Algorithm 2:
    quantise, forward, backward, restore, step. The paper leaves open what its grid is, from where training begins, and
    its neuron. Here: the grid is uniform and symmetric, and ends at the largest weight; training begins from the
    network that `surrogate-training` makes, in full precision, for any coding of the image; ``firing_threshold``,
    ``surrogate_gain`` and ``leak`` are its structural parameters, of which `audit.spiking.structure` reads triples.
    """

    family: ClassVar[type[Any]] = TrainedOnAnyCode
    baselines: ClassVar[tuple[str, ...]] = ("quantized-ptq",)

    @property
    def tuned_steps(self) -> int:
        return self.steps


@dataclass(frozen=True)
class QuantizedPerception(Quantized):
    """Quantised inside training with a loss that keeps each layer's spike activity near the unquantised network's.

    The activity of a layer is its spikes per neuron and image over the time-steps. Both networks see the same spike
    trains, and the squared distance of their activities is relative to the unquantised one's.
    """

    baselines: ClassVar[tuple[str, ...]] = ("quantized", "quantized-ptq")

    perception: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0


@dataclass(frozen=True)
class QuantizedConversionPtq(Rounded, RealDataConversion):
    """Weights of 1 to 8 bits rounded after the conversion on real training images."""

    family: ClassVar[type[Any]] = RealDataConversion
    baselines: ClassVar[tuple[str, ...]] = ("conversion",)


@dataclass(frozen=True)
class QuantizedConversion(QuantizedOnPrivateImages, RealDataConversion):
    """The conversion on real training images, trained on through time with weights of 1 to 8 bits.

    Thresholds stay those that were balanced before.
    """

    family: ClassVar[type[Any]] = RealDataConversion
    baselines: ClassVar[tuple[str, ...]] = ("conversion", "quantized-conversion-ptq")

    @property
    def tuned_steps(self) -> int:
        return self.time_steps


@dataclass(frozen=True)
class QuantizedPrivateSNNPtq(Rounded, PrivateSNN):
    """PrivateSNN's network with its weights rounded to 1 to 8 bits; data-free."""

    family: ClassVar[type[Any]] = PrivateSNN
    baselines: ClassVar[tuple[str, ...]] = ("privatesnn",)


@dataclass(frozen=True)
class QuantizedPrivateSNN(QuantizedInTraining, PrivateSNN):
    """PrivateSNN's network, encrypted on with weights of 1 to 8 bits, on its synthetic images; data-free.

    The loss is that of the encryption before (Kim et al., AAAI 2022, Eq. 3), through the quantised weights.
    """

    family: ClassVar[type[Any]] = PrivateSNN
    baselines: ClassVar[tuple[str, ...]] = ("privatesnn", "quantized-privatesnn-ptq")

    @property
    def tuned_steps(self) -> int:
        return self.time_steps

    def batches(self, teacher: nn.Sequential, context: DefenseContext) -> tuple[int, Batch]:
        made = self.synthesise(teacher, context)
        images = context.task.normalise(made["pixels"].to(context.device))
        labels = made[self.labels].to(context.device)
        with torch.no_grad():
            taught = torch.cat([teacher(batch) for batch in images.split(256)])
        recipe = EncryptionRecipe(distillation=self.distillation, temperature=self.temperature)

        def batch_of(index: Tensor, order: torch.Generator) -> tuple[Tensor, Criterion]:
            own = index.to(context.device)
            return images[own], lambda logits: encryption_loss(logits, taught[own], labels[own], recipe)

        return len(images), batch_of


register_defense("quantized", Quantized)
register_defense("quantized-ptq", QuantizedPtq)
register_defense("quantized-perception", QuantizedPerception)
register_defense("quantized-conversion", QuantizedConversion)
register_defense("quantized-conversion-ptq", QuantizedConversionPtq)
register_defense("quantized-privatesnn", QuantizedPrivateSNN)
register_defense("quantized-privatesnn-ptq", QuantizedPrivateSNNPtq)
