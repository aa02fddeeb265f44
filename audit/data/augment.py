"""Random shift and mirror: the augmentation of PrivateSNN's code."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(pixels: Tensor, crop: int, mirror: bool, generator: torch.Generator) -> Tensor:
    """Each image [C, H, W] shifted by up to ``crop`` pixels (edges filled with 0) and, half the time, mirrored.

    [N, C, H, W] of any dtype, same shape back. ``generator`` is a CPU generator.
    """
    count, channels, height, width = pixels.shape
    if crop:
        padded = F.pad(pixels, (crop,) * 4)
        shifts = torch.randint(0, 2 * crop + 1, (2, count, 1), generator=generator)
        rows = (shifts[0] + torch.arange(height)).view(count, 1, height, 1)
        columns = (shifts[1] + torch.arange(width)).view(count, 1, 1, width)
        pixels = padded[torch.arange(count).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1), rows, columns]
    if mirror:
        mirrored = torch.rand(count, generator=generator) < 0.5
        pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(3), pixels)
    return pixels
