"""From a static image to its spike train. Every coder is a frozen setting; randomness comes from a generator."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Coding = Literal["rate", "direct"]


@dataclass(frozen=True)
class Encoder:
    """``rate``: sign(x) 1[u <= |x|] with u uniform in (0, 1), for x in [-1, 1]; on [0, 1] this is the usual 1[u <= x].

    PrivateSNN's text compares the other way round and with 'normal' numbers in [I_min, I_max]; taken literally, dark
    pixels would spike most. ``direct``: x itself at every step, so that the first layer is the coder.

    The backward pass of both hands every step's gradient to x (straight-through for ``rate``: E[spike] = x), which is
    what 'deconvolving' the first layer's accumulated gradient computes (Sharmin 2020; PrivateSNN Algorithm 3).
    """

    coding: Coding = "rate"

    @property
    def binary(self) -> bool:
        """Whether the train holds only -1, 0 and 1, so that a synapse adds or subtracts and never multiplies."""
        return self.coding == "rate"

    def __call__(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        """``x`` float [B, ...] in [-1, 1] -> [steps, B, ...]. ``rate`` needs a generator on x's device."""
        repeated = x.expand(steps, *x.shape)
        if self.coding == "direct":
            return repeated
        if generator is None:
            raise ValueError("rate coding draws random numbers: pass a generator")
        with torch.no_grad():
            fires = torch.rand(repeated.shape, generator=generator, device=x.device, dtype=x.dtype) <= x.abs()
            # rand() is in [0, 1): an exact 0 would make a black pixel spike.
            spikes = torch.where(fires, x.sign(), 0.0)
        return spikes + (repeated - repeated.detach()) if x.requires_grad else spikes
