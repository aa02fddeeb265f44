"""Weights on a grid of few levels: uniform, symmetric, one step per output channel; straight-through gradients."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

WEIGHTED = (nn.Conv2d, nn.Linear)
# Shares of a channel's largest weight that may become the end of its grid.
CLIPS = tuple(share / 100 for share in range(40, 101, 2))


class QuantizedWeight(nn.Module):
    """weight -> step * clamp(round(weight / step), -n, n) with n = 2^(bits - 1) - 1, to parametrise a layer's weight.

    ``step`` [K, 1, ...] is fixed, one per output channel. Backwards the rounding is the identity, and what rounds to a
    level beyond n gets no gradient (the straight-through estimator, Bengio et al. 2013).
    """

    step: Tensor

    def __init__(self, step: Tensor, bits: int) -> None:
        super().__init__()
        self.register_buffer("step", step)
        self.largest = largest_level(bits)

    def forward(self, weight: Tensor) -> Tensor:
        level: Tensor = _Level.apply(weight / self.step, self.largest)
        return self.step * level


class _Level(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, largest: int) -> Tensor:
        level = x.round()
        ctx.save_for_backward(level.abs() <= largest)
        return level.clamp(-largest, largest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


def largest_level(bits: int) -> int:
    """n: the levels are -n ... n. Raises ValueError below 2 bits, where 0 would be the only one."""
    if bits < 2:
        raise ValueError(f"a symmetric grid needs at least 2 bits, not {bits}")
    return int(2 ** (bits - 1) - 1)


@torch.no_grad()
def grid_step(weight: Tensor, bits: int) -> Tensor:
    """The step per output channel, [K, 1, ...], whose grid is nearest to ``weight`` [K, ...] in squared error.

    Grids end at one of `CLIPS` times the channel's largest weight. A channel of zeros gets a step of 1.
    """
    rows = weight.flatten(1)
    n = largest_level(bits)
    peak = rows.abs().amax(1, keepdim=True)
    peak = torch.where(peak > 0, peak, float(n))
    steps = torch.stack([peak * clip / n for clip in CLIPS])
    errors = torch.stack([(step * (rows / step).round().clamp(-n, n) - rows).square().sum(1) for step in steps])
    best = steps[errors.argmin(0), torch.arange(len(rows), device=rows.device)]
    return best.view(-1, *(1,) * (weight.dim() - 1))


def quantize(network: nn.Sequential, bits: int) -> None:
    """In place: every convolution and linear layer computes with quantised weights; those beneath can be trained."""
    for layer in network:
        if isinstance(layer, WEIGHTED):
            parametrize.register_parametrization(layer, "weight", QuantizedWeight(grid_step(layer.weight, bits), bits))


def finish(network: nn.Sequential) -> None:
    """In place: the quantised weights take the place of those beneath."""
    for layer in network:
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def size_in_bits(network: nn.Sequential, bits: int, per_channel: bool = True) -> int:
    """Of the weights at ``bits`` each, and of the biases and a step per output channel, or per layer, at 32."""
    layers = [layer for layer in network if isinstance(layer, WEIGHTED)]
    weights = sum(layer.weight.numel() for layer in layers)
    steps = sum(len(layer.weight) if per_channel else 1 for layer in layers)
    biases = sum(len(layer.weight) for layer in layers if layer.bias is not None)
    return bits * weights + 32 * (steps + biases)


@torch.no_grad()
def relative_distances(network: nn.Sequential, teacher: nn.Sequential) -> dict[str, float]:
    """|W - W_t| / |W_t| by weight layer, of two networks with the same layers."""
    layers = [(name, layer) for name, layer in network.named_children() if isinstance(layer, WEIGHTED)]
    originals = [layer.weight for layer in teacher if isinstance(layer, WEIGHTED)]
    return {
        name: float((layer.weight - original).norm() / original.norm())
        for (name, layer), original in zip(layers, originals, strict=True)
    }
