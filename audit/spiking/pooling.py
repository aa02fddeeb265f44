"""Average pooling over a stretch of time whose backward pass keeps a shape instead of the spikes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from audit.spiking.memory import Pool


def average_pool(layer: nn.AvgPool2d, x: Tensor, pool: Pool) -> Tensor:
    """``layer`` on ``x`` [N, C, H, W], channels-last."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return layer(x)
    return _AveragePool.apply(x, layer, pool)


class _AveragePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.AvgPool2d, pool: Pool) -> Tensor:
        ctx.shape, ctx.layer, ctx.pool = x.shape, layer, pool
        return layer(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        # torch asks for the input, and looks at its shape and layout only.
        batch, channels, height, width = ctx.shape
        x = ctx.pool.empty(batch, height, width, channels).permute(0, 3, 1, 2)
        layer: nn.AvgPool2d = ctx.layer
        grad = grad.contiguous(memory_format=torch.channels_last)
        sizes = layer.kernel_size, layer.stride, layer.padding
        found = torch.ops.aten.avg_pool2d_backward(
            grad, x, *([size] * 2 if isinstance(size, int) else list(size) for size in sizes),
            layer.ceil_mode, layer.count_include_pad, layer.divisor_override,
        )  # fmt: skip
        return found, None, None
