"""Spiking networks trained from scratch on the private images: no conversion, and no weight of the teacher."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from audit.contracts import DataAccess, DefenseContext
from audit.networks.fresh import fresh_copy
from audit.registry import register_defense
from audit.spiking.direct_training import Count, DirectRecipe, Logits, Positive, train_directly
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF, Reset
from audit.spiking.settings import Spiking
from audit.spiking.surrogate import Shape
from audit.spiking.tdbn import NormalisedNetwork
from audit.spiking.twin import spiking_twin


@dataclass(frozen=True)
class SurrogateTraining(Spiking):
    """Spike-based backpropagation from fresh weights on the real training images (Lee et al., Front. Neurosci. 2020).

    Nothing but the layers of the teacher is used. As in the paper: Poisson input, leaky neurons (100 steps), hard
    reset, fixed thresholds, average pooling, one dropout mask for all time-steps, a last layer that accumulates.
    Unlike there: the spike's slope is PrivateSNN's triangle, not 1 / V_th corrected for the leak; poolings do not fire;
    the loss is the cross-entropy of the last layer's mean input, not its squared error; Adam with a falling rate.
    ``firing_threshold`` is 0.5 in every layer, at which fresh Kaiming weights fire about as often at every depth; at
    1, where the paper scales the weights instead, a VGG9 begins silent.

    ``training_time_steps`` (at most ``time_steps``) are trained through, and ``time_steps`` are what the target runs;
    its logits are means over time, so that they mean the same after both.
    """

    data_access: ClassVar[DataAccess] = DataAccess.TRAINING_IMAGES
    baselines: ClassVar[tuple[str, ...]] = ("conversion",)

    coding: Literal["rate", "unsigned-rate", "direct"] = "rate"
    leak: Annotated[float, Field(ge=0, le=1)] = 0.99
    reset: Reset = "hard"
    firing_threshold: Positive = 0.5
    training_time_steps: Count = 8
    training_epochs: Count = 60
    training_learning_rate: Positive = 2e-3
    training_batch_size: Count = 64
    training_crop: Annotated[int, Field(ge=0)] = 4

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        return self.train(fresh_copy(teacher, context.seed).to(context.device), context).eval()

    def train(self, ann: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        """``ann``, of fresh weights, as a trained spiking network of ``time_steps``."""
        neuron, steps = self.neuron, self.steps
        network = spiking_twin(ann, self.encoder, self.time_steps, neuron.leak, neuron.reset, neuron.surrogate)
        network.output_scale.fill_(1 / self.time_steps)
        for own in network.neurons.values():
            own.threshold.copy_(neuron.threshold)
        self.fit(network, lambda x, generator: network(x, generator, steps), context)
        return network

    def fit(self, network: nn.Module, logits_of: Logits, context: DefenseContext) -> None:
        """Train in place, as the fields say; the epochs' losses go into the notes."""
        assert context.private_images is not None
        recipe = DirectRecipe(
            self.training_epochs, self.training_learning_rate, self.training_batch_size, self.training_crop
        )
        context.notes["private images"] = len(context.private_images)
        context.notes["trained through time-steps"] = self.steps
        context.notes["training_loss"] = train_directly(
            network, logits_of, context.private_images, context.task, recipe, context.seed, context.monitor
        )

    @property
    def steps(self) -> int:
        return min(self.training_time_steps, self.time_steps)

    @property
    def neuron(self) -> LIF:
        return LIF(self.firing_threshold, self.leak, self.reset, self.slope)


@dataclass(frozen=True)
class NormalisedSurrogateTraining(SurrogateTraining):
    """The same with threshold-dependent batch norm, folded into the weights afterwards (tdBN, Zheng et al., AAAI 2021).

    As in the paper: the image itself at every time-step, leak 0.25, hard reset, V_th 0.5, ``norm_alpha`` 1, and a
    rectangle of width 1 around V_th as the spike's slope (``surrogate_width`` is in units of V_th). Unlike there: Adam,
    a last layer that is not normalised and accumulates, and the teacher's layers instead of a residual network.
    The statistics are those of the steps trained through, and serve for all ``time_steps``. The target has a bias in
    every layer but the last.
    """

    coding: Literal["rate", "unsigned-rate", "direct"] = "direct"
    leak: Annotated[float, Field(ge=0, le=1)] = 0.25
    surrogate: Shape = "rectangle"
    surrogate_width: Positive = 2.0
    training_time_steps: Count = 4
    training_learning_rate: Positive = 3e-3
    norm_alpha: Positive = 1.0

    def train(self, ann: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        steps = self.steps
        network = NormalisedNetwork(ann, self.encoder, self.neuron, self.norm_alpha).to(context.device)
        self.fit(network, lambda x, generator: network(x, steps, generator), context)
        return network.folded(self.time_steps)


register_defense("surrogate-training", SurrogateTraining)
register_defense("surrogate-training-tdbn", NormalisedSurrogateTraining)
