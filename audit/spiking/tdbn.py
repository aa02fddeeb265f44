"""Threshold-dependent batch normalisation (tdBN): batch norm over images and time, folded away after training."""

import copy
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.spiking.encoding import Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.simulation import WEIGHTED
from audit.spiking.twin import spiking_twin


class ThresholdDependentNorm(nn.Module):
    """y = weight * (alpha V_th) (x - mean) / sqrt(var + eps) + bias, by channel (Zheng et al., AAAI 2021).

    ``scale`` is alpha V_th; ``weight`` and ``bias`` begin as 1 and 0. Mean and variance are over images, places and
    time-steps in train(), running averages of them in eval(). Time is folded into the batch: [S * B, C, ...].
    A batch's share in these averages is ``momentum``.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, scale: float, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.scale, self.eps, self.momentum = scale, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        mean, variance = self.running_mean, self.running_var
        estimate = self.training and x.numel() > len(weight)  # one value has no variance
        return F.batch_norm(x, mean, variance, weight, self.bias, estimate, self.momentum, self.eps)

    def plain(self, convolution: bool) -> nn.BatchNorm1d | nn.BatchNorm2d:
        """The same map in eval(), as torch's batch norm after a convolution or a linear layer."""
        norm = (nn.BatchNorm2d if convolution else nn.BatchNorm1d)(len(self.weight), self.eps).to(self.weight)
        norm.load_state_dict(self.state_dict() | {"weight": self.weight * self.scale}, strict=False)
        return norm.eval()


class NormalisedNetwork(nn.Module):
    """The layers of ``ann`` with copies of ``neuron`` in the place of ReLU, and tdBN after weight layers but the last.

    It is there to be trained, and then `folded`. Unlike a `SpikingNetwork` it holds all time-steps of a batch at once,
    as its statistics are over time. The weights are ``ann``'s own, not copies; the norm of 'conv1' is 'conv1_norm'.
    Raises ValueError naming the layer that has no spiking counterpart.
    """

    def __init__(self, ann: nn.Sequential, encoder: Encoder, neuron: LIF, alpha: float = 1.0) -> None:
        super().__init__()
        spiking_twin(ann, encoder, 1)  # what could not be folded is refused before it is trained
        last = [name for name, layer in ann.named_children() if isinstance(layer, WEIGHTED)][-1]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for name, layer in ann.named_children():
            layers[name] = copy.deepcopy(neuron) if isinstance(layer, nn.ReLU) else layer
            if isinstance(layer, WEIGHTED) and name != last:
                layers[f"{name}_norm"] = ThresholdDependentNorm(len(layer.weight), alpha * float(neuron.threshold))
        self.layers, self.encoder, self.neuron = nn.Sequential(layers), encoder, neuron

    def forward(self, x: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Images [B, C, H, W] -> the last layer's input, its mean over ``steps`` time-steps, [B, K]."""
        # A static input is one step: what precedes the first neuron is computed once.
        h = x if self.encoder.static else self.encoder(x, steps, generator).flatten(0, 1)
        for layer in self.layers:
            if isinstance(layer, LIF):
                h = layer.stretch(h, steps, layer.rest(h[: len(x)]))[0]
            elif isinstance(layer, nn.Dropout):
                h = _drop(layer, h, len(x), generator)
            else:
                h = layer(h.contiguous(memory_format=torch.channels_last) if h.dim() == 4 else h)
        return h.unflatten(0, (-1, len(x))).mean(0)

    def folded(self, time_steps: int) -> SpikingNetwork:
        """The spiking network with the running statistics in its weights and biases; in eval(), of ``ann``'s names.

        Its logits are means over time as well.
        """
        ann: OrderedDict[str, nn.Module] = OrderedDict()
        convolution = False
        for name, layer in self.layers.named_children():
            if isinstance(layer, ThresholdDependentNorm):
                ann[name] = layer.plain(convolution)
            else:
                ann[name] = nn.ReLU() if isinstance(layer, LIF) else layer
                convolution = isinstance(layer, nn.Conv2d)
        neuron = self.neuron
        network = spiking_twin(
            nn.Sequential(ann).eval(), self.encoder, time_steps, neuron.leak, neuron.reset, neuron.surrogate
        )
        for own in network.neurons.values():
            own.threshold.copy_(neuron.threshold)
        network.output_scale.fill_(1 / time_steps)
        return network.eval()


def _drop(layer: nn.Dropout, h: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """One mask per sample for all time-steps."""
    if not layer.training or layer.p == 0:
        return h
    samples = h.unflatten(0, (-1, batch))
    keep = torch.rand(samples.shape[1:], generator=generator, device=h.device) >= layer.p
    return (samples * (keep.to(h.dtype) / (1 - layer.p))).flatten(0, 1)
