"""The same networks simulated otherwise: plain loops over time, SpikingJelly, snnTorch.

Each function takes one of our networks and its encoded input [T, B, C, H, W] and returns the logits summed over T,
differentiable in the network's own weights.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.simulation import Execution

Simulate = Callable[[Tensor], Tensor]


class _Spike(torch.autograd.Function):
    """1[u > theta] with the triangle of width theta and height 1/theta, as in all the peers below."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(u, threshold)
        return (u > threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        u, threshold = ctx.saved_tensors
        return grad * (1 - ((u - threshold) / threshold).abs()).clamp(min=0) / threshold, None


def ours(network: SpikingNetwork, execution: Execution | None = None) -> Simulate:
    """The engine itself, on the train that it is given."""
    player = copy.copy(network)
    player.execution = execution or Execution()

    def simulate(train: Tensor) -> Tensor:
        player.encoder = _Playback(train)  # type: ignore[assignment]
        return player(train[0], None, len(train))

    return simulate


class _Playback:
    """An encoder that plays a recorded train."""

    static, differentiable = False, True

    def __init__(self, train: Tensor) -> None:
        self.train = train

    def check(self, x: Tensor) -> None:
        pass

    def __call__(self, x: Tensor, steps: int, generator: None, start: int, window: int) -> Tensor:
        return self.train[start : start + steps]


def ours_bfloat16(network: SpikingNetwork) -> Simulate:
    """The engine with its dense weight layers in bfloat16."""
    return ours(network, Execution(precision="bfloat16"))


def plain_loop(network: SpikingNetwork) -> Simulate:
    """One time-step after the other, written as one would write it down."""
    layers = list(network.layers)

    def simulate(train: Tensor) -> Tensor:
        potentials: dict[int, Tensor] = {}
        total = torch.zeros(())
        for h in train:
            for i, layer in enumerate(layers):
                if isinstance(layer, LIF):
                    u = layer.leak * potentials[i] + h if i in potentials else h
                    h = _Spike.apply(u, layer.threshold)
                    potentials[i] = u - h.detach() * layer.threshold
                else:
                    h = layer(h)
            total = total + h
        return total

    return simulate


def tuned_loop(network: SpikingNetwork) -> Simulate:
    """The plain loop with channels last, and each update of a potential in one pass over it."""
    layers = list(network.layers)

    def simulate(train: Tensor) -> Tensor:
        potentials: dict[int, Tensor] = {}
        total = torch.zeros(())
        for h in train:
            h = h.contiguous(memory_format=torch.channels_last)
            for i, layer in enumerate(layers):
                if isinstance(layer, LIF):
                    u = torch.add(h, potentials[i], alpha=layer.leak) if i in potentials else h
                    h = _Spike.apply(u, layer.threshold)
                    potentials[i] = torch.addcmul(u, h.detach(), layer.threshold, value=-1)
                else:
                    h = layer(h)
            total = total + h
        return total

    return simulate


def published_loop(network: SpikingNetwork) -> Simulate:
    """The order of operations of PrivateSNN's published code: normalise, spike, build a reset tensor, subtract it."""
    layers = list(network.layers)

    def simulate(train: Tensor) -> Tensor:
        potentials = {i: torch.zeros(()) for i, layer in enumerate(layers) if isinstance(layer, LIF)}
        total = torch.zeros(())
        for h in train:
            for i, layer in enumerate(layers):
                if isinstance(layer, LIF):
                    u = layer.leak * potentials[i] + h
                    above = u / layer.threshold - 1.0
                    h = _Spike.apply(u, layer.threshold)
                    reset = torch.zeros_like(u)
                    reset[above > 0] = float(layer.threshold)
                    potentials[i] = u - reset
                else:
                    h = layer(h)
            total = total + h
        return total

    return simulate


def spikingjelly(network: SpikingNetwork) -> Simulate:
    """SpikingJelly in multi-step mode: time folded into the batch for the layers, its own neuron over time."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    layers: list[nn.Module] = []
    for layer in network.layers:
        if isinstance(layer, LIF):
            theta = float(layer.threshold)
            shape = surrogate.PiecewiseQuadratic(alpha=1 / theta)
            layers.append(neuron.IFNode(theta, None, shape, detach_reset=True, step_mode="m"))
        else:
            layers.append(layer)

    def simulate(train: Tensor) -> Tensor:
        h = train
        for layer in layers:
            h = layer(h) if isinstance(layer, neuron.IFNode) else functional.seq_to_ann_forward(h, layer)
        for layer in layers:
            if isinstance(layer, neuron.IFNode):
                layer.reset()
        return h.sum(0)

    return simulate


def snntorch(network: SpikingNetwork) -> Simulate:
    """snnTorch's Leaky in a loop over time; with leak 1 its delayed reset is ours."""
    import snntorch as snn

    layers: list[nn.Module] = []
    for layer in network.layers:
        if isinstance(layer, LIF):
            theta = layer.threshold

            def spike(distance: Tensor, theta: Tensor = theta) -> Tensor:
                return _Spike.apply(distance + theta, theta)

            layers.append(snn.Leaky(layer.leak, float(theta), spike, reset_mechanism="subtract"))
        else:
            layers.append(layer)

    def simulate(train: Tensor) -> Tensor:
        potentials = {i: layer.init_leaky() for i, layer in enumerate(layers) if isinstance(layer, snn.Leaky)}
        total = torch.zeros(())
        for h in train:
            for i, layer in enumerate(layers):
                if i in potentials:
                    h, potentials[i] = layer(h, potentials[i])
                else:
                    h = layer(h)
            total = total + h
        return total

    return simulate


PEERS: dict[str, Callable[[SpikingNetwork], Simulate]] = {
    "plain loop": plain_loop,
    "plain loop, tuned": tuned_loop,
    "published code's loop": published_loop,
    "SpikingJelly, multi-step": spikingjelly,
    "snnTorch": snntorch,
    "ours, bfloat16": ours_bfloat16,
    "ours": ours,
}
