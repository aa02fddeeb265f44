"""A spiking network in the language of rates: what its neurons answer on average, and activations that do the same."""

from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF

Substitute = Literal["relu", "clip", "clip-floor", "rate-curve"]

CODER = ""
# The mean currents, in thresholds, at which a rate curve is read: from where, how far beyond saturation, how near.
FIRST_KNOT, BEYOND, SPACING = -0.5, 1.5, 0.05


class Clip(nn.Module):
    """clip(z / theta, 0, 1): the rate of an integrate-and-fire neuron with soft reset, as T grows (Rueckauer 2017)."""

    threshold: Tensor

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.clone())

    def forward(self, z: Tensor) -> Tensor:
        return (z / self.threshold).clamp(0, 1)


class ClipFloor(Clip):
    """clip(floor(T z / theta + initial) / T, 0, 1) with the gradient of the clip (QCFS, Bu 2022).

    That is the rate after T steps of a neuron whose potential starts at ``initial`` times the threshold.
    """

    def __init__(self, threshold: Tensor, time_steps: int, initial: float = 0.0) -> None:
        super().__init__(threshold)
        self.time_steps, self.initial = time_steps, initial

    def forward(self, z: Tensor) -> Tensor:
        rate = super().forward(z)
        levels = torch.floor(rate * self.time_steps + self.initial).clamp(max=self.time_steps)
        return rate + (levels / self.time_steps - rate).detach()


class RateCurve(Clip):
    """A measured curve: ``rates`` at `knots`, linear between them, level outside."""

    rates: Tensor

    def __init__(self, threshold: Tensor, rates: Tensor) -> None:
        super().__init__(threshold)
        self.register_buffer("rates", rates.clone())

    def forward(self, z: Tensor) -> Tensor:
        place = (z / self.threshold - FIRST_KNOT) / SPACING
        place = place.clamp(0, len(self.rates) - 1)
        left = place.detach().floor().clamp(max=len(self.rates) - 2).long()
        return torch.lerp(self.rates[left], self.rates[left + 1], place - left)


class Affine(nn.Module):
    """``scale`` * x + ``shift``, one of each per channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


@dataclass(frozen=True)
class Response:
    """What a layer does on average over T: ``current`` into the neurons and their ``rate``, both [B, ...].

    Of the coder, whose ``neuron`` is None, the images and the mean of what it makes of them.
    """

    neuron: LIF | None
    current: Tensor
    rate: Tensor


@torch.no_grad()
def responses(
    network: SpikingNetwork, x: Tensor, generator: torch.Generator | None, batch_size: int = 16
) -> dict[str, Response]:
    """By layer, front to back, the coder's first under '', for images x [B, C, H, W].

    Keeps all T time-steps of one layer for ``batch_size`` images.
    """
    batches = [_responses(network, batch, generator) for batch in x.split(batch_size)]
    return {
        name: Response(
            first.neuron,
            torch.cat([batch[name].current for batch in batches]),
            torch.cat([batch[name].rate for batch in batches]),
        )
        for name, first in batches[0].items()
    }


def _responses(network: SpikingNetwork, x: Tensor, generator: torch.Generator | None) -> dict[str, Response]:
    steps = network.time_steps
    h = network.encoder(x, steps, generator, 0, steps)
    found = {CODER: Response(None, x, h.mean(0))}
    h = h.flatten(0, 1)
    for name, layer in network.layers.named_children():
        if isinstance(layer, LIF):
            current = h.unflatten(0, (-1, len(x)))
            spikes, _ = layer(current)
            found[name] = Response(layer, current.mean(0), spikes.mean(0))
            h = spikes.flatten(0, 1)
        else:
            h = layer(h)
    return found


def mean_current(network: SpikingNetwork, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """The network's logits in the unit of a rate network's: the mean input current of its last layer, [B, K]."""
    return network(x, generator) / (network.output_scale * network.time_steps)


def coding_gain(x: Tensor, mean: Tensor) -> Tensor:
    """The factor by which a coder's ``mean`` over T stands for the image ``x``, by least squares: 1 for rate coding."""
    return (mean * x).sum() / x.square().sum().clamp(min=1e-12)


def rate_network(
    network: SpikingNetwork, substitute: Substitute, images: Tensor, generator: torch.Generator | None, calibrate: bool
) -> nn.Sequential:
    """The ANN of the same weights whose activations stand for rates: reconversion with a substitute for the neuron.

    ``images`` [B, C, H, W] are the attacker's own: the gain of the input coding, the rate curves and, with
    ``calibrate``, a scale and a shift per channel are measured on them, front to back, so that each layer's activations
    fit the rates of the SNN's. Its logits are the mean input current of the last layer. With 'relu' activations are
    currents instead of rates, in units of the threshold where they are calibrated.
    """
    answered = responses(network, images, generator)
    gain = coding_gain(images, answered.pop(CODER).rate)
    layers: OrderedDict[str, nn.Module] = OrderedDict(coding=Affine(gain, torch.zeros_like(gain)))
    h = layers["coding"](images)
    for name, layer in network.layers.named_children():
        if name not in answered:
            layers[name] = deepcopy(layer).eval()
            with torch.no_grad():
                h = layers[name](h)
            continue
        answer = answered[name]
        layers[name] = _activation(substitute, answer, network.time_steps)
        with torch.no_grad():
            h = layers[name](h)
            if calibrate:
                layers[f"{name}_fit"] = _fit(h, answer.rate)
                h = layers[f"{name}_fit"](h)
    return nn.Sequential(layers).eval().requires_grad_(False)


def _activation(substitute: Substitute, answer: Response, steps: int) -> nn.Module:
    assert answer.neuron is not None
    threshold = answer.neuron.threshold
    match substitute:
        case "relu":
            return nn.ReLU()
        case "clip":
            return Clip(threshold)
        case "clip-floor":
            return ClipFloor(threshold, steps, answer.neuron.initial)
        case "rate-curve":
            return RateCurve(threshold, _curve(answer.neuron, answer.current / threshold, answer.rate))


def _curve(neuron: LIF, current: Tensor, rate: Tensor) -> Tensor:
    """Mean rate around each knot; where no current fell, a straight line to saturation. Never falling."""
    count_of_knots = round((neuron.saturation + BEYOND - FIRST_KNOT) / SPACING) + 1
    place = ((current.flatten() - FIRST_KNOT) / SPACING).round().clamp(0, count_of_knots - 1).long()
    count = torch.bincount(place, minlength=count_of_knots).float()
    total = torch.zeros_like(count).index_add_(0, place, rate.flatten())
    knots = FIRST_KNOT + SPACING * torch.arange(count_of_knots, device=rate.device)
    expected = (knots / neuron.saturation).clamp(0, 1)
    return ((total + expected) / (count + 1)).cummax(0).values


def _fit(h: Tensor, rate: Tensor) -> Affine:
    """Least squares of ``rate`` on ``h``, per channel; the identity where a channel does not move."""
    dims = [0, *range(2, h.dim())]
    h_mean, rate_mean = h.mean(dims, keepdim=True), rate.mean(dims, keepdim=True)
    variance = (h - h_mean).square().mean(dims, keepdim=True)
    covariance = ((h - h_mean) * (rate - rate_mean)).mean(dims, keepdim=True)
    moves = variance > 1e-8
    scale = torch.where(moves & (covariance > 0), covariance / variance.clamp(min=1e-8), 1.0)
    return Affine(scale[0], (rate_mean - scale * h_mean)[0])
