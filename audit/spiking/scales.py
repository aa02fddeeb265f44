"""The scale of each layer of a converted network, which a reconversion to ReLU has to undo."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.rates import Affine, ClipFloor
from audit.spiking.simulation import WEIGHTED

Scales = Mapping[str, Tensor]
# By which a layer's scale is tried to be off, coarse to fine.
FACTORS = (4.0, 2.0, 2**0.5, 2**0.25)


class ScaledReLU(nn.Module):
    """max(z / scale, 0): the activation of a neuron whose spike stands for ``scale``."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.clone())

    def forward(self, z: Tensor) -> Tensor:
        return (z / self.scale).clamp(min=0)


@dataclass(frozen=True)
class Found:
    """``scales`` by neuron layer; the ``misfit`` they leave, and how many combinations were tried."""

    scales: dict[str, Tensor]
    misfit: float
    tried: int


def scaled_ann(network: SpikingNetwork, scales: Scales, gain: Tensor, rates: bool = False) -> nn.Sequential:
    """The ANN of the network's weights with `ScaledReLU` for its neurons; ``gain``: of its input coding.

    The weights stay as they are: dividing an activation undoes a scale of the layer in front, of weights and biases
    alike. With ``rates`` its activations are the network's own: whole spikes over T, at most one per time-step.
    """
    coding = Affine(gain, torch.zeros_like(gain))
    layers: OrderedDict[str, nn.Module] = OrderedDict(coding=coding)
    for name, layer in network.layers.named_children():
        if not isinstance(layer, LIF):
            layers[name] = deepcopy(layer)
        elif rates:
            layers[name] = ClipFloor(scales[name], network.time_steps, layer.initial)
        else:
            layers[name] = ScaledReLU(scales[name])
    return nn.Sequential(layers).eval().requires_grad_(False)


def search_scales(
    network: SpikingNetwork, misfit_of: Callable[[Scales], float], rounds: int = 3, least: float = 0.1
) -> Found:
    """The layer scales for which ``misfit_of`` is smallest, from the two beginnings that conversions leave.

    Weight normalisation leaves 1, threshold balancing the thresholds. From the better one, each layer's scale in turn
    is tried larger and smaller; a step is taken where it lowers the misfit by the share ``least`` or more, as the
    target's own answers are noisy. Where no layer but the first has a bias, scales are a common factor of the logits:
    ReLU is positively homogeneous, there is nothing to search, and 1 is returned.
    """
    neurons = network.neurons
    ones = {name: torch.ones_like(neuron.threshold) for name, neuron in neurons.items()}
    if not _matter(network):
        return Found(ones, misfit_of(ones), 1)
    thresholds = {name: neuron.threshold.clone() for name, neuron in neurons.items()}
    tried = 2
    lowest, best = min(((misfit_of(start), start) for start in (thresholds, ones)), key=lambda pair: pair[0])
    for _ in range(rounds):
        before = lowest
        for name in neurons:
            for factor in FACTORS:
                for step in (factor, 1 / factor):
                    candidate = {**best, name: best[name] * step}
                    found = misfit_of(candidate)
                    tried += 1
                    if found < (1 - least) * lowest:
                        lowest, best = found, candidate
        if lowest == before:
            break
    return Found(best, lowest, tried)


def _matter(network: SpikingNetwork) -> bool:
    weighted = [layer for layer in network.layers if isinstance(layer, WEIGHTED)]
    return any(layer.bias is not None and bool(layer.bias.any()) for layer in weighted[1:])
