"""How many connections a network has: the operations that one image costs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def fan_out(layers: nn.Sequential, image_shape: Sequence[int]) -> dict[str, Tensor]:
    """Per weight layer: how many outputs each input position feeds, float64 [C, H, W] or [D].

    Connections that exist are counted; those into zero padding are not, so a network that spikes everywhere at every
    step does exactly as many operations per step as its ANN. (The common count that multiplies padding too gives more:
    315 M instead of 249 M for VGG16 on 32x32.)
    """
    reach: dict[str, Tensor] = {}
    h = torch.zeros(1, *image_shape)
    for name, layer in layers._modules.items():  # named_children() passes over a pooling used twice
        if isinstance(layer, nn.Conv2d):
            shape = h.shape[1:]
            h = torch.zeros(1, *_conv_shape(layer, h))
            outputs = torch.ones(1, 1, *h.shape[2:], dtype=torch.float64)
            kernel = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64)
            stride, padding = layer.stride, layer.padding
            assert not isinstance(padding, str)
            covered = [(h.shape[2 + d] - 1) * stride[d] + layer.kernel_size[d] - 2 * padding[d] for d in (0, 1)]
            extra = [shape[1 + d] - covered[d] for d in (0, 1)]
            map_ = F.conv_transpose2d(outputs, kernel, stride=stride, padding=padding, output_padding=extra)
            reach[name] = (map_[0] * layer.out_channels).expand(shape)
        elif isinstance(layer, nn.Linear):
            reach[name] = torch.full((layer.in_features,), float(layer.out_features), dtype=torch.float64)
            h = torch.zeros(1, layer.out_features)
        elif isinstance(layer, nn.AvgPool2d | nn.Flatten):
            h = layer(h)
    return reach


def multiply_accumulates(layers: nn.Sequential, image_shape: Sequence[int]) -> dict[str, float]:
    """Multiply-accumulates of the ANN per image, by weight layer; padding is not counted."""
    return {name: float(map_.sum()) for name, map_ in fan_out(layers, image_shape).items()}


def _conv_shape(layer: nn.Conv2d, h: Tensor) -> tuple[int, int, int]:
    weight = layer.weight
    probe = F.conv2d(h.to(weight), weight[:1], None, layer.stride, layer.padding)
    return layer.out_channels, probe.shape[2], probe.shape[3]
