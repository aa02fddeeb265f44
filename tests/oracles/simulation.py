"""A spiking network one time-step after the other, without folding time into the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from tests.oracles.neuron import lif_by_autograd


def run(network: SpikingNetwork, train: Tensor, first: int = 0, stop: str | None = None) -> Tensor:
    """Input [T, B, ...] of layer number ``first`` -> what the last layer, or layer ``stop``, receives: [T, B, ...].

    Without dropout and with the surrogate of Eq. 5.
    """
    layers = list(network.layers.named_children())[first:]
    potentials: dict[str, Tensor] = {}
    outputs = []
    for h in train:
        for name, layer in layers:
            if name == stop:
                break
            if isinstance(layer, LIF):
                before = potentials.get(name, torch.zeros_like(h))
                spikes, potentials[name] = lif_by_autograd(h[None], before, layer.threshold, layer.leak, layer.reset)
                h = spikes[0]
            elif not isinstance(layer, nn.Dropout):
                h = layer(h)
        outputs.append(h)
    return torch.stack(outputs)


def thresholds(network: SpikingNetwork, trains: list[Tensor]) -> dict[str, float]:
    """Sengupta 2019: layer after layer, the largest current of any neuron, image and time-step becomes the threshold.

    ``trains``: one [T, B, C, H, W] per batch of images. Sets the thresholds of ``network``, and divides by them the
    biases of the layers behind, whose inputs are as much smaller than the ANN's.
    """
    found: dict[str, float] = {}
    for name, neuron in network.neurons.items():
        largest = float("-inf")
        for train in trains:
            for image in range(train.shape[1]):
                for current in run(network, train[:, image : image + 1], stop=name):
                    largest = max(largest, float(current.max()))
        neuron.threshold.fill_(largest)
        found[name] = largest
        names = list(network.layers._modules)
        for behind in names[names.index(name) :]:
            bias = getattr(network.layers._modules[behind], "bias", None)
            if bias is not None:
                bias.div_(largest)
    return found


def deconvolved_gradient(network: SpikingNetwork, train: Tensor, classes: Tensor) -> Tensor:
    """PrivateSNN Algorithm 3, lines 5-9, for a network that begins with a convolution; a spike train [T, B, C, H, W].

    G = sum over t of 1/T dy_c / d(output of the first convolution at t), then the transposed convolution with W1.
    """
    conv = next(iter(network.layers))
    assert isinstance(conv, nn.Conv2d)
    assert not isinstance(conv.padding, str)
    first = torch.stack([conv(x) for x in train]).detach().requires_grad_()
    y = run(network, first, first=1).sum(0)
    (gradient,) = torch.autograd.grad(y.gather(1, classes[:, None]).sum(), first)
    accumulated = sum(gradient[t] / len(train) for t in range(len(train)))
    assert isinstance(accumulated, Tensor)
    return F.conv_transpose2d(accumulated, conv.weight, stride=conv.stride, padding=conv.padding)
