"""How time is cut into chunks, and whether the backward pass computes them again: from the memory there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from audit.spiking.neuron import LIF

# Bytes of the widest layer's activations in one chunk: on a CPU they should not leave the cache, and a GPU wants work.
CPU_CHUNK, GPU_CHUNK = 2**24, 2**29


@dataclass(frozen=True)
class TimePlan:
    """How many time-steps at a time are folded into the batch; ``recompute``: only their boundaries are kept."""

    chunks: tuple[int, ...]
    recompute: bool

    @classmethod
    def of(cls, steps: int, chunk: int, recompute: bool) -> "TimePlan":
        """Chunks of at most ``chunk`` steps, as equal as can be: then what one needed in memory serves the next.

        The shorter ones come first, so that the backward pass, which begins at the end, begins with the longest.
        """
        count = -(-steps // max(1, chunk))
        short, longer = divmod(steps, count)
        return cls((short,) * (count - longer) + (short + 1,) * longer, recompute)


def plan_time(layers: nn.Sequential, x: Tensor, steps: int, gradient: bool, memory: int) -> TimePlan:
    """For images ``x`` [B, C, H, W] over ``steps`` time-steps within ``memory`` bytes, as far as one step allows.

    Three tensors of the widest layer live at once, and about twelve on the way back. For that way a neuron keeps its
    potential at every step (4 bytes) and its spikes (about 1, as events). If all steps do not fit, the potentials at
    the boundaries of chunks are kept, and the chunk is taken that makes boundaries plus one chunk smallest.
    """
    outputs = activation_sizes(layers, x.shape[1:])
    neurons = len(x) * sum(outputs[name] for name, layer in layers.named_children() if isinstance(layer, LIF))
    widest = len(x) * max([x[0].numel(), *outputs.values()])
    fast = max(1, (GPU_CHUNK if x.is_cuda else CPU_CHUNK) // (4 * widest))
    one_step, boundary = 12 * widest, 4 * neurons
    if not gradient:
        return TimePlan.of(steps, min(fast, (memory - boundary) // one_step), recompute=False)
    if 5 * neurons * steps + 48 * widest * min(fast, steps) <= memory:
        return TimePlan.of(steps, fast, recompute=False)
    # Measured: what one step adds to the peak of the second computation, whose temporaries are used again.
    one_step = 5 * neurons + 4 * widest
    return TimePlan.of(steps, round(math.sqrt(steps * boundary / one_step)), recompute=True)


def activation_sizes(layers: nn.Sequential, shape: Sequence[int]) -> dict[str, int]:
    """Output elements per image of every layer, from the input shape (C, H, W) or (D,)."""
    shape, sizes = list(shape), {}
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Conv2d | nn.AvgPool2d):
            kernel, stride, padding = (_pair(getattr(layer, key)) for key in ("kernel_size", "stride", "padding"))
            dilation, spare = _pair(getattr(layer, "dilation", 1)), getattr(layer, "ceil_mode", False)
            for d in (0, 1):
                free = shape[1 + d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1
                shape[1 + d] = (-(-free // stride[d]) if spare else free // stride[d]) + 1
            if isinstance(layer, nn.Conv2d):
                shape[0] = layer.out_channels
        elif isinstance(layer, nn.Linear):
            shape = [*shape[:-1], layer.out_features]
        elif isinstance(layer, nn.Flatten):
            shape = [math.prod(shape)]
        sizes[name] = math.prod(shape)
    return sizes


def _pair(value: int | str | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(value, str):
        raise ValueError(f"padding '{value}' is not supported: give it as a number")
    return (value, value) if isinstance(value, int) else (value[0], value[1])
