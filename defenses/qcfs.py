"""Conversion of an ANN that was trained to be converted: quantisation, clip, floor, shift."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from audit.contracts import DataAccess, DefenseContext
from audit.networks.tuning import Tuned, positive, with_activations
from audit.registry import register_defense
from audit.spiking.encoding import Coding
from audit.spiking.network import SpikingNetwork
from audit.spiking.qcfs import QuantizedClip
from audit.spiking.twin import spiking_twin
from audit.spiking.weight_normalization import Normalized, scale_layers


@dataclass(frozen=True)
class Qcfs(Normalized, Tuned):
    """Quantisation-clip-floor-shift ANN and its conversion, for few time-steps (Bu et al., ICLR 2022).

    The teacher's ReLUs become `QuantizedClip` with ``levels`` steps, their scales begin at the 99.9th percentile of the
    activations, and it is trained on (the paper trains from the beginning). Each neuron's threshold is its scale, here
    divided out of the weights; potentials start at half of it; images enter as constant currents.
    """

    data_access: ClassVar[DataAccess] = DataAccess.TRAINING_IMAGES
    baselines: ClassVar[tuple[str, ...]] = ()

    coding: Coding = "direct"
    levels: Annotated[int, Field(ge=1)] = 4

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        start = self.scales(teacher, context, 99.9)
        tuned = with_activations(teacher, lambda name: QuantizedClip(start[name], self.levels))
        self.tune(tuned, context)
        clips = {name: layer for name, layer in tuned.named_children() if isinstance(layer, QuantizedClip)}
        scales = positive({name: layer.scale for name, layer in clips.items()})
        context.notes["layer scales"] = scales
        for name in clips:
            setattr(tuned, name, nn.ReLU())
        network = spiking_twin(tuned, self.encoder, self.time_steps, surrogate=self.slope).eval()
        scale_layers(network.layers, scales)
        for neuron in network.neurons.values():
            neuron.threshold.fill_(1.0)
            neuron.initial = 0.5
        network.output_scale.fill_(1 / self.time_steps)
        return network


register_defense("qcfs", Qcfs)
