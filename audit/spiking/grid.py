"""The grid that quantised weights lie on: uniform and symmetric, of 1 to 8 bits, one step per tensor or per channel."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.networks.quantization import grid_step, largest_level
from audit.spiking.simulation import WEIGHTED

Bits = Annotated[int, Field(ge=1, le=8)]
# How far, in steps, a weight may lie from its level: the rounding of float32, and no more.
OFF_GRID = 1e-4


@dataclass(frozen=True)
class Grid:
    """``bits``, K, per weight; one step per output channel (``per_channel``) or one per tensor.

    K >= 2: the levels -n ... n with n = 2^(K - 1) - 1, to the nearest of which a weight is rounded. The grid ends at
    the largest |w|, step = max |w| / n, or (``grid_end`` 'error') at that share of it whose squared error is smallest,
    as of `audit.networks.quantization.grid_step`; what lies beyond becomes the last level.
    K = 1: the sign (of 0: plus) times the mean |w|, which is the scale of least squared error (binary weight networks,
    Rastegari et al., ECCV 2016, Eq. 6).
    """

    bits: Bits
    per_channel: bool = False
    grid_end: Literal["largest", "error"] = "largest"

    def step(self, weight: Tensor) -> Tensor:
        """The distance of two levels, [K, 1, ...] or [1, 1, ...], for ``weight`` [K, ...]; 1 for a tensor of zeros."""
        rows = weight.detach().flatten(1) if self.per_channel else weight.detach().reshape(1, -1)
        if self.bits == 1:
            steps = rows.abs().mean(1)
        elif self.grid_end == "error":
            steps = grid_step(rows, self.bits).flatten()
        else:
            steps = rows.abs().amax(1) / largest_level(self.bits)
            steps = torch.where(steps > 0, steps, 1.0)
        return steps.view(-1, *(1,) * (weight.dim() - 1))

    def level(self, weight: Tensor, step: Tensor) -> Tensor:
        """The levels of ``weight``, whole numbers of its own type."""
        if self.bits == 1:
            return torch.where(weight < 0, -1.0, 1.0)
        n = largest_level(self.bits)
        return (weight / step).round().clamp(-n, n)

    @torch.no_grad()
    def round(self, weight: Tensor) -> Tensor:
        """``weight`` on its grid: levels times step."""
        step = self.step(weight)
        return step * self.level(weight, step)


@torch.no_grad()
def levels_of(weight: Tensor, bits: int) -> tuple[Tensor, Tensor] | None:
    """Levels int64 [K, ...] and step, as of `Grid.step`, of a weight that lies on a grid of ``bits``; None elsewhere.

    One step for the tensor is tried first, then one per channel. What `Grid` rounded is found again, since the largest
    weight of a tensor, or of a channel, lies on its last level.
    """
    for per_channel in (False, True):
        rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
        steps = rows.abs().amax(1) / (1 if bits == 1 else largest_level(bits))
        if bits > 1:
            steps = torch.where(steps > 0, steps, 1.0)
        step = steps.view(-1, *(1,) * (weight.dim() - 1))
        levels = Grid(bits).level(weight, step)
        if bool(((levels * step - weight).abs() <= OFF_GRID * step).all()):
            return levels.long(), step
    return None


@torch.no_grad()
def round_weights(layers: nn.Sequential, grid: Grid) -> None:
    """In place: the weights of convolutions and linear layers go onto their grids; biases stay as they are."""
    for layer in layers:
        if isinstance(layer, WEIGHTED):
            layer.weight.copy_(grid.round(layer.weight))


@contextmanager
def rounded(layers: nn.Sequential, grid: Grid) -> Iterator[None]:
    """In the block the weights lie on their grids; after it they are the full-precision ones again, bit for bit.

    Gradients that a backward pass in the block leaves in the parameters are those at the rounded weights: applied to
    the restored ones, that is the straight-through estimator (Bengio et al. 2013).
    """
    kept = [(layer, layer.weight.detach().clone()) for layer in layers if isinstance(layer, WEIGHTED)]
    round_weights(layers, grid)
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in kept:
                layer.weight.copy_(weight)
