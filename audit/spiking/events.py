"""Convolutions of sparse images on a CPU: only the weight columns of inputs that are not zero are added."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from audit.spiking.kernels import Events, Packed, geometry_of, kernels
from audit.spiking.memory import Pool

# Shares of non-zero inputs up to which events beat the dense operation (measured in benchmarks/).
FORWARD_DENSITY = 0.40
GRADIENT_DENSITY = 0.40
# In bfloat16 the dense operation becomes faster, the event-driven one does not.
BFLOAT16_SHARE = 0.5
# Narrower layers do too little per event: input times output channels.
LEAST_WIDTH = 1024


def convolve(layer: nn.Conv2d, x: Tensor, packed: dict[nn.Module, Packed], pool: Pool) -> tuple[Tensor, Tensor | None]:
    """``layer`` on ``x`` [N, C, H, W], channels-last: by events where that is faster, densely elsewhere.

    Returns its output and, where they were counted, the non-zero inputs of every pixel, int32 [N, H, W]. ``packed``
    keeps the layer's weights in the kernel's order; it must not outlive a change of them.
    """
    library = kernels() if _serves(layer, x) else None
    if library is None:
        return layer(x), None
    counts, total, binary = library.count(x.detach())
    if total > FORWARD_DENSITY * (BFLOAT16_SHARE if _low_precision() else 1) * x.numel():
        return layer(x), counts
    if layer not in packed:
        packed[layer] = Packed.of(layer.weight, layer.bias)
    events = library.events(x.detach(), counts, total, binary)
    return _EventConvolution.apply(x, layer.weight, layer.bias, layer, events, packed[layer], pool), counts


class _EventConvolution(torch.autograd.Function):
    """A convolution whose input comes as events, which are all that stays of it; the gradient of the input is dense."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layer: nn.Conv2d,
        events: Events,
        packed: Packed,
        pool: Pool,
    ) -> Tensor:
        library, geometry = kernels(), _geometry(layer, x.shape)
        assert library is not None
        ctx.pool = pool
        ctx.layer, ctx.shape, ctx.low, ctx.sparse = layer, x.shape, _low_precision(), _sparse_gradient(layer, events)
        inputs = (events.first, events.index, events.value) if ctx.sparse else (x, None, None)
        ctx.save_for_backward(weight, geometry, *inputs)
        return library.convolve(events, packed, geometry, pool)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, geometry, *inputs = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad, grad_weight = grad.contiguous(memory_format=torch.channels_last), None
        if wants_weight and ctx.sparse:
            library = kernels()
            assert library is not None
            grad_weight = library.weight_gradient(Events(ctx.shape, *inputs), grad, geometry)
        # The dense gradients ask for an input, in the right layout, even where only its shape matters.
        batch, channels, height, width = ctx.shape
        x = ctx.pool.empty(batch, height, width, channels).permute(0, 3, 1, 2) if ctx.sparse else inputs[0]
        dtype = torch.bfloat16 if ctx.low else grad.dtype
        grad_x, dense, _ = torch.ops.aten.convolution_backward(
            grad.to(dtype), x.to(dtype), weight.to(dtype), None, ctx.layer.stride, _padding(ctx.layer), (1, 1), False,
            (0, 0), 1, (wants_x, wants_weight and not ctx.sparse, False),
        )  # fmt: skip
        if wants_weight and not ctx.sparse:
            grad_weight = dense.to(grad.dtype)
        grad_bias = grad.sum((0, 2, 3)) if wants_bias else None
        return grad_x.to(grad.dtype) if wants_x else None, grad_weight, grad_bias, *(None,) * 4


def _serves(layer: nn.Conv2d, x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == layer.weight.dtype == torch.float32
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and layer.in_channels * layer.out_channels >= LEAST_WIDTH
        and x.numel() < 2**31
    )


def _sparse_gradient(layer: nn.Conv2d, events: Events) -> bool:
    """Whether the kernel for the weight gradient serves: 3x3, one step at a time, few events."""
    return (
        layer.kernel_size == (3, 3)
        and layer.stride == (1, 1)
        and max(_padding(layer)) <= 2
        and events.density <= GRADIENT_DENSITY
    )


def _geometry(layer: nn.Conv2d, shape: torch.Size) -> Tensor:
    kernel, stride = layer.kernel_size, layer.stride
    return geometry_of(shape, layer.out_channels, (kernel[0], kernel[1]), (stride[0], stride[1]), _padding(layer))


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    assert not isinstance(layer.padding, str)
    return layer.padding[0], layer.padding[1]


def _low_precision() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
