"""The leaky integrate-and-fire neuron one number at a time, and its gradient by plain autograd."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Slope = Callable[[Tensor, Tensor], Tensor]


def triangle(u: Tensor, threshold: Tensor) -> Tensor:
    """PrivateSNN Eq. 5."""
    return torch.clamp(1 - ((u - threshold) / threshold).abs(), min=0)


def lif_by_hand(
    current: list[float], threshold: float, leak: float, reset: str, potential: float = 0.0
) -> tuple[list[float], float]:
    """One neuron in single precision: its spikes over time and its last potential."""
    u, theta, spikes = np.float32(potential), np.float32(threshold), []
    for i in current:
        u = np.float32(leak) * u + np.float32(i)
        spike = bool(u > theta)
        if spike:
            u = u - theta if reset == "soft" else np.float32(0)
        spikes.append(float(spike))
    return spikes, float(u)


def lif_by_autograd(
    current: Tensor, potential: Tensor, threshold: Tensor, leak: float, reset: str, slope: Slope = triangle
) -> tuple[Tensor, Tensor]:
    """[T, B, ...] of current -> spikes and last potential: straight-through spikes, no gradient through the reset."""
    u, spikes = potential, []
    for i in current:
        u = leak * u + i
        fired = (u > threshold).to(u.dtype)
        spikes.append(fired + slope(u, threshold).detach() * (u - u.detach()))
        u = u - fired * threshold if reset == "soft" else u * (1 - fired)
    return torch.stack(spikes), u
