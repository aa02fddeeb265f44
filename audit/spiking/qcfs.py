"""Quantisation-clip-floor-shift: an activation that an integrate-and-fire neuron reproduces (Bu et al., ICLR 2022)."""

import torch
from torch import Tensor, nn


class QuantizedClip(nn.Module):
    """scale * clip(floor(levels * z / scale + 1/2) / levels, 0, 1), with the gradient of the clip (Bu 2022, Eq. 8).

    ``scale`` is learned, their lambda: the threshold of the neuron that takes its place, whose potential starts at half
    of it; then the expected conversion error is 0 for any number of time-steps (their Theorem 2).
    """

    def __init__(self, scale: float, levels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.levels = levels

    def forward(self, z: Tensor) -> Tensor:
        share = (z / self.scale).clamp(0, 1)
        stepped = torch.floor(share * self.levels + 0.5) / self.levels
        return self.scale * (share + (stepped - share).detach())
