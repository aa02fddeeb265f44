"""The settings that every converted network shares, as fields to inherit."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import DefenseContext
from audit.data.augment import augment
from audit.spiking.conversion import balance_thresholds
from audit.spiking.encoding import Coding, Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import Reset
from audit.spiking.surrogate import Shape, Surrogate
from audit.spiking.twin import spiking_twin

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Simulated:
    """How long a spiking network runs, and how an image enters it: ``coding``, with its options, as of `Encoder`."""

    time_steps: Annotated[int, Field(ge=1)] = 150
    coding: Coding = "rate"
    phases: Annotated[int, Field(ge=1, le=16)] = 8
    zero_spikes: bool = False

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.coding, self.phases, self.zero_spikes)


@dataclass(frozen=True)
class Spiking(Simulated):
    """With the surrogate gradient, as of `Surrogate`, that whoever differentiates the network is given."""

    surrogate: Shape = "triangle"
    surrogate_width: Positive = 1.0
    surrogate_gain: Positive = 1.0
    surrogate_per_threshold: bool = False

    @property
    def slope(self) -> Surrogate:
        return Surrogate(self.surrogate, self.surrogate_width, self.surrogate_gain, self.surrogate_per_threshold)


@dataclass(frozen=True)
class Conversion(Spiking):
    """ANN-SNN conversion by threshold balancing (Sengupta 2019), with PrivateSNN's neuron, coder and surrogate.

    ``threshold_percentile``, ``threshold_scale`` and ``threshold_images`` (how many, chosen at random) go to
    `balance_thresholds`; ``threshold_crop`` > 0 shifts and mirrors these images at random, as the published code does.
    """

    leak: Annotated[float, Field(ge=0, le=1)] = 1.0
    reset: Reset = "soft"
    threshold_percentile: Annotated[float, Field(gt=0, le=100)] = 100.0
    threshold_scale: Positive = 1.0
    threshold_images: Annotated[int, Field(ge=1)] = 1024
    threshold_crop: Annotated[int, Field(ge=0)] = 0

    def convert(self, teacher: nn.Sequential, pixels: Tensor, context: DefenseContext) -> SpikingNetwork:
        """The teacher's weights with thresholds balanced on ``pixels`` uint8 [N, C, H, W]; logits are means over T."""
        network = spiking_twin(teacher, self.encoder, self.time_steps, self.leak, self.reset, self.slope)
        network = network.to(context.device).eval()
        generator = torch.Generator().manual_seed(context.seed)
        chosen = some(pixels, self.threshold_images, generator)
        if self.threshold_crop:
            chosen = augment(chosen, self.threshold_crop, context.task.mirror, generator)
        context.notes["threshold_images"] = len(chosen)
        context.notes["thresholds"] = balance_thresholds(
            network,
            context.task.normalise(chosen.to(context.device)),
            context.seed,
            self.threshold_percentile,
            self.threshold_scale,
        )
        network.output_scale.fill_(1 / self.time_steps)
        return network


def some(pixels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of the images [N, C, H, W] at random, or all of fewer, in their order."""
    return pixels[torch.randperm(len(pixels), generator=generator)[:count].sort().values]
