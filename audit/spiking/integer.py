"""A spiking network in whole numbers, as a chip computes it: weights, thresholds and membranes of few bits."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audit.errors import AuditError
from audit.spiking.encoding import Encoder
from audit.spiking.grid import Bits, levels_of
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF

# So wide that nothing in here leaves 64 bits.
Width = Annotated[int, Field(ge=2, le=40)]

# Of a membrane: how much finer than a weight it counts at most, and how many bits it has for what exceeds thresholds.
FINEST, HEADROOM = 8, 4

MIXED = (
    "its inputs come in another unit per channel, which no whole weight can add up; "
    "quantise with one step per tensor, or let neurons fire in between"
)


@dataclass(frozen=True)
class Chip:
    """Bit widths of the hardware.

    ``weight_bits``: the widest grid that a layer's weights may lie on. ``membrane_bits`` and ``accumulator_bits`` (of
    the last layer, which never fires) are signed and saturate after each time-step's sum. ``threshold_bits`` are
    unsigned. ``fraction_bits``: how much finer than a weight the membrane counts, which thresholds, biases and leaks
    need that are no multiple of a weight. ``leak_bits``: a leak is the nearest multiple of 2^-leak_bits, and what it
    leaves is rounded down. ``input_bits``: those of a pixel under direct coding, beside its sign.
    """

    weight_bits: Bits = 8
    membrane_bits: Width = 24
    threshold_bits: Width = 23
    accumulator_bits: Width = 32
    fraction_bits: Annotated[int, Field(ge=0, le=16)] = 0
    leak_bits: Annotated[int, Field(ge=1, le=16)] = 8
    input_bits: Annotated[int, Field(ge=1, le=16)] = 8


@dataclass
class Run:
    """``logits`` float64 [B, K]; by layer every time-step's ``spikes``, uint8 [T, B, ...], and how often a membrane was
    ``saturated``, the last layer's under its own name."""

    logits: Tensor
    spikes: dict[str, Tensor]
    saturated: dict[str, int]


@dataclass(frozen=True)
class _Neuron:
    """u <- leak u + current, saturated; a spike where u > threshold; then u - threshold (soft) or 0 (hard)."""

    threshold: Tensor
    start: Tensor
    leak: int
    hard: bool
    chip: Chip

    def step(self, current: Tensor, u: Tensor | None) -> tuple[Tensor, Tensor, int]:
        """``u`` None: at rest. Returns spikes, the potential after them, and how many potentials saturated."""
        u = ((self.start if u is None else u) * self.leak) >> self.chip.leak_bits
        u, saturated = _saturated(u + current, self.chip.membrane_bits)
        fired = u > self.threshold
        return fired.long(), torch.where(fired, 0 if self.hard else u - self.threshold, u), saturated


Stateless = Callable[[Tensor], Tensor]
Mapped = Stateless | _Neuron


@dataclass(frozen=True)
class Emulation:
    """What `emulate` makes of a network: called like it, images and generator in, logits out."""

    encoder: Encoder
    time_steps: int
    chip: Chip
    layers: tuple[tuple[str, Mapped], ...]
    unit: Tensor
    """What 1 in the last layer's accumulator is worth in logits; a scalar or [K]."""

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images [B, C, H, W] in the input range -> logits float32 [B, K]."""
        return self.run(x, generator).logits.float()

    @torch.no_grad()
    def run(self, x: Tensor, generator: torch.Generator | None = None) -> Run:
        """The same with what happened on the way; the generator gives the spikes that the network itself would see."""
        return self.run_coded(self.encoder(x, self.time_steps, generator, 0, self.time_steps))

    @torch.no_grad()
    def run_coded(self, train: Tensor) -> Run:
        """The same of what the encoder made, [T, B, C, H, W] on the CPU."""
        names = [name for name, layer in self.layers if isinstance(layer, _Neuron)]
        potentials: dict[str, Tensor] = {}
        spikes: dict[str, list[Tensor]] = {name: [] for name in names}
        last = self.layers[-1][0]
        saturated = dict.fromkeys((*names, last), 0)
        total = torch.zeros((), dtype=torch.int64)
        for coded in train:
            h = whole_inputs(coded, self.encoder, self.chip)
            for name, layer in self.layers:
                if isinstance(layer, _Neuron):
                    h, potentials[name], clipped = layer.step(h, potentials.get(name))
                    spikes[name].append(h.to(torch.uint8))
                    saturated[name] += clipped
                else:
                    h = layer(h)
            total, clipped = _saturated(total + h, self.chip.accumulator_bits)
            saturated[last] += clipped
        return Run(total * self.unit, {name: torch.stack(steps) for name, steps in spikes.items()}, saturated)


def whole_inputs(coded: Tensor, encoder: Encoder, chip: Chip) -> Tensor:
    """One time-step of an encoder's output, float, as int64 multiples of `input_unit`."""
    unit = input_unit(encoder, chip)
    whole = (coded.double() / unit).round().long()
    limit = round(1 / unit)  # direct coding takes any number, an input register does not
    return whole.clamp(-limit, limit)


def input_unit(encoder: Encoder, chip: Chip) -> float:
    """What 1 at the input is worth: a spike of the rate and latency codes, the last phase's, or 1 / (2^bits - 1)."""
    match encoder.coding:
        case "direct":
            return 1 / (2**chip.input_bits - 1)
        case "phase":
            return 2.0**-encoder.phases
        case _:
            return 1.0


def emulate(network: SpikingNetwork, chip: Chip | None = None) -> Emulation:
    """``network``, whose weights lie on a grid, in whole numbers on the CPU.

    Every current is a whole number of units: a layer's step times the unit of its input, over 2^fraction_bits, and with
    a step per channel, one unit per channel. Thresholds and biases are divided by that unit and rounded (a threshold
    with hard reset rounded down, which changes no comparison). A spike is 1. An average pooling of k x k is the sum,
    and its unit k^2 times smaller, so that the layers after it divide their thresholds by less: no quotient is rounded.
    Where thresholds and biases are whole, the leak is 1 or 0, or its fraction has bits enough, and nothing saturates,
    the spikes are those of the network, up to the rounding of its floating-point sums.
    Raises AuditError naming the layer that cannot be mapped.
    """
    chip = chip or Chip()
    unit = torch.tensor(input_unit(network.encoder, chip), dtype=torch.float64)
    layers: list[tuple[str, Mapped]] = []
    mapped: Mapped
    for name, layer in network.layers.named_children():
        match layer:
            case nn.Conv2d() | nn.Linear():
                mapped, unit = _weigh(name, layer, unit, chip)
            case nn.AvgPool2d():
                mapped, unit = _pool(name, layer, unit)
            case nn.Flatten():
                mapped = layer
                if unit.dim():
                    raise AuditError(f"layer '{name}': {MIXED}")
            case nn.Dropout():
                continue
            case LIF() if type(layer) is LIF:
                mapped, unit = _neuron(name, layer, unit, chip), torch.ones((), dtype=torch.float64)
            case _:
                raise AuditError(f"layer '{name}' ({type(layer).__name__}) has no counterpart in whole numbers")
        layers.append((name, mapped))
    scale = network.output_scale.detach().cpu().double()
    return Emulation(network.encoder, network.time_steps, chip, tuple(layers), unit * scale)


def finest(network: SpikingNetwork, chip: Chip | None = None) -> Emulation:
    """`emulate` with as many ``fraction_bits``, up to `FINEST`, as leave the membrane `HEADROOM` bits above thresholds.

    Without them a threshold is rounded to whole weights, and a leak rounds down by up to one in every time-step.
    Where none leaves so many, those of ``chip`` itself. Raises AuditError naming the layer that cannot be mapped.
    """
    chip = chip or Chip()
    below = min(chip.threshold_bits, chip.membrane_bits - 1 - HEADROOM)
    for fraction_bits in range(FINEST, chip.fraction_bits, -1):
        finer = replace(chip, fraction_bits=fraction_bits)
        with suppress(AuditError):
            emulate(network, replace(finer, threshold_bits=below))
            return emulate(network, finer)
    return emulate(network, chip)


def _weigh(name: str, layer: nn.Conv2d | nn.Linear, unit: Tensor, chip: Chip) -> tuple[Stateless, Tensor]:
    if unit.dim():
        raise AuditError(f"layer '{name}': {MIXED}")
    weight = layer.weight.detach().cpu()
    found = next(filter(None, (levels_of(weight, bits) for bits in range(1, chip.weight_bits + 1))), None)
    if found is None:
        raise AuditError(
            f"layer '{name}': its weights lie on no grid of up to {chip.weight_bits} bits, neither with one step nor "
            "with one per channel; quantise the network first (--defense quantized), or allow more weight_bits"
        )
    levels, step = found
    unit = step.double().flatten() * unit / 2**chip.fraction_bits
    unit = unit[0] if len(unit) == 1 else unit
    bias = None if layer.bias is None else (layer.bias.detach().cpu().double() / unit).round().long()
    # Sums of whole numbers below 2^53 are exact in double precision, for which there are fast routines.
    levels = levels.double()
    if isinstance(layer, nn.Linear):
        return lambda x: _plus(F.linear(x.double(), levels).long() << chip.fraction_bits, bias), unit
    if layer.padding_mode != "zeros":
        raise AuditError(f"layer '{name}': only zero padding can be mapped, not '{layer.padding_mode}'")
    stride, padding, dilation, groups = layer.stride, layer.padding, layer.dilation, layer.groups
    bias = None if bias is None else bias.view(-1, 1, 1)

    def convolve(x: Tensor) -> Tensor:
        sums = F.conv2d(x.double(), levels, None, stride, padding, dilation, groups).long()
        return _plus(sums << chip.fraction_bits, bias)

    return convolve, unit.view(-1, 1, 1) if unit.dim() else unit


def _plus(current: Tensor, bias: Tensor | None) -> Tensor:
    return current if bias is None else current + bias


def _pool(name: str, layer: nn.AvgPool2d, unit: Tensor) -> tuple[Stateless, Tensor]:
    """The sum instead of the mean: exact where every window divides by the same number."""
    sizes = (layer.kernel_size, layer.stride, layer.padding)
    kernel, stride, padding = (size if isinstance(size, tuple) else (size, size) for size in sizes)
    if layer.ceil_mode or (any(padding) and not layer.count_include_pad):
        raise AuditError(f"layer '{name}': windows at the border that average fewer pixels cannot be mapped to sums")
    divisor = layer.divisor_override or kernel[0] * kernel[1]
    return lambda x: F.avg_pool2d(x, kernel, stride, padding, divisor_override=1), unit / divisor


def _neuron(name: str, neuron: LIF, unit: Tensor, chip: Chip) -> _Neuron:
    hard = neuron.reset == "hard"
    exact = neuron.threshold.detach().cpu().double() / unit
    # Of whole numbers, u > theta is u > floor(theta); a soft reset subtracts theta as well, which should be near.
    threshold = exact.floor() if hard else exact.round()
    least, most = (0 if hard else 1), 2**chip.threshold_bits - 1
    if not bool(((threshold >= least) & (threshold <= most)).all()):
        raise AuditError(
            f"layer '{name}': its thresholds are {float(exact.min()):.4g} to {float(exact.max()):.4g} units, and "
            f"{chip.threshold_bits} bits hold {least} to {most}; change threshold_bits or fraction_bits"
        )
    leak = round(neuron.leak * 2**chip.leak_bits)
    return _Neuron(threshold.long(), (neuron.initial * exact).round().long(), leak, hard, chip)


def _saturated(u: Tensor, bits: int) -> tuple[Tensor, int]:
    clipped = u.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return clipped, int((clipped != u).sum())
