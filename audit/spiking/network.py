"""The spiking network: a stack of layers simulated over time, in chunks of time-steps folded into the batch."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audit.spiking.encoding import Encoder
from audit.spiking.neuron import LIF, Reset
from audit.spiking.surrogate import Surrogate

WEIGHTED = (nn.Conv2d, nn.Linear)
STATELESS = (nn.AvgPool2d, nn.Flatten)

# Activations of one chunk of the widest layer, in elements: small enough to stay in a core's cache.
CHUNK_ELEMENTS = 2_000_000


@dataclass
class Activity:
    """Events of a simulation, summed over images and time-steps: what the energy tables count.

    ``inputs``: per weight layer, non-zero inputs at each position, int64 [C, H, W] or [D].
    ``spikes``: per neuron layer, the number of spikes; ``neurons``: how many neurons it has.
    """

    images: int = 0
    time_steps: int = 0
    inputs: dict[str, Tensor] = field(default_factory=dict)
    spikes: dict[str, int] = field(default_factory=dict)
    neurons: dict[str, int] = field(default_factory=dict)


class SpikingNetwork(nn.Module):
    """Layers of an ANN with LIF in the place of ReLU; the last layer accumulates and never fires.

    ``layers``: Conv2d, Linear, AvgPool2d, Flatten, Dropout and LIF in order of computation. A call depends on its
    arguments and its generator only: potentials start at 0, dropout (in train() only) keeps one mask per sample for
    all time-steps. Logits are ``output_scale`` times the accumulated input of the last layer.
    """

    output_scale: Tensor

    def __init__(self, layers: nn.Sequential, encoder: Encoder, time_steps: int, output_scale: float = 1.0) -> None:
        super().__init__()
        if time_steps < 1:
            raise ValueError(f"time_steps must be at least 1, not {time_steps}")
        self.layers, self.encoder, self.time_steps = layers, encoder, time_steps
        self.register_buffer("output_scale", torch.tensor(float(output_scale)))

    @property
    def neurons(self) -> dict[str, LIF]:
        return {name: layer for name, layer in self.layers.named_children() if isinstance(layer, LIF)}

    def forward(self, x: Tensor, generator: torch.Generator | None = None, time_steps: int | None = None) -> Tensor:
        """Images [B, C, H, W] in the teacher's input range -> logits [B, K]; differentiable in x and the weights."""
        return self.outputs_over_time(x, [self.time_steps if time_steps is None else time_steps], generator)[0]

    def outputs_over_time(
        self, x: Tensor, at: Sequence[int], generator: torch.Generator | None = None, activity: Activity | None = None
    ) -> Tensor:
        """Logits after each number of steps in ``at`` (increasing), [len(at), B, K], from one run of the last of them.

        ``output_scale`` is relative to the network's own time_steps: logits after t steps are scaled by time_steps / t,
        so that all of them estimate the same mean.
        """
        if list(at) != sorted(set(at)) or at[0] < 1:
            raise ValueError(f"time-steps must be positive and increasing, not {list(at)}")
        states: dict[str, Tensor | None] = {}
        masks = self._mask_generator(generator, x.device)
        total: Tensor | None = None
        outputs: list[Tensor] = []
        done, chunk = 0, self._chunk_size(x, at[-1])
        while done < at[-1]:
            steps = min(chunk, at[-1] - done)
            train = self.encoder(x, steps, generator)
            readout = self._run_chunk(train, states, masks, activity).cumsum(0)
            readout = readout if total is None else readout + total
            outputs += [readout[t - done - 1] * (self.time_steps / t) for t in at if done < t <= done + steps]
            total, done = readout[-1], done + steps
        if activity is not None:
            activity.images += len(x)
            activity.time_steps = at[-1]
        return torch.stack(outputs) * self.output_scale

    def current_into(self, name: str, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Largest weighted input current of neuron layer ``name`` per image over all time-steps, [B, ...neurons].

        The layers before it spike; nothing after it is computed. For threshold balancing.
        """
        states: dict[str, Tensor | None] = {}
        masks = self._mask_generator(generator, x.device)
        peak: Tensor | None = None
        done, chunk = 0, self._chunk_size(x, self.time_steps)
        while done < self.time_steps:
            steps = min(chunk, self.time_steps - done)
            current = self._run_chunk(self.encoder(x, steps, generator), states, masks, None, stop=name)
            largest = current.amax(0)
            peak = largest if peak is None else torch.maximum(peak, largest)
            done += steps
        assert peak is not None
        return peak

    def to_ann(self, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
        """The same weights with ``activation`` in the place of every LIF: reconversion (PrivateSNN, attack 1)."""
        layers = OrderedDict(
            (name, activation() if isinstance(layer, LIF) else copy.deepcopy(layer))
            for name, layer in self.layers.named_children()
        )
        return nn.Sequential(layers).train(self.training)

    def _run_chunk(
        self,
        train: Tensor,
        states: dict[str, Tensor | None],
        masks: torch.Generator | None,
        activity: Activity | None,
        stop: str | None = None,
    ) -> Tensor:
        """[S, B, ...] of input through all layers (or up to the current of layer ``stop``); updates ``states``."""
        steps, batch = train.shape[:2]
        h = train
        for name, layer in self.layers.named_children():
            if name == stop:
                return h
            if isinstance(layer, LIF):
                h, states[name] = layer(h, states.get(name))
                if activity is not None:
                    activity.spikes[name] = activity.spikes.get(name, 0) + int(h.count_nonzero())
                    activity.neurons[name] = h[0, 0].numel()
            elif isinstance(layer, nn.Dropout):
                if self.training and layer.p > 0:
                    mask = states.get(name)
                    if mask is None:
                        keep = torch.rand(h.shape[1:], generator=masks, device=h.device) >= layer.p
                        mask = states[name] = keep.to(h.dtype) / (1 - layer.p)
                    h = h * mask
            else:
                if activity is not None and isinstance(layer, WEIGHTED):
                    events = (h != 0).sum((0, 1))
                    activity.inputs[name] = activity.inputs.get(name, 0) + events
                folded = h.reshape(steps * batch, *h.shape[2:])
                if folded.dim() == 4:
                    folded = folded.contiguous(memory_format=torch.channels_last)
                h = layer(folded)
                h = h.reshape(steps, batch, *h.shape[1:])
        return h

    def _mask_generator(self, generator: torch.Generator | None, device: torch.device) -> torch.Generator | None:
        """A generator for dropout alone, so that masks do not depend on how time is cut into chunks."""
        if not self.training or not any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in self.layers):
            return None
        if generator is None:
            raise ValueError("dropout draws random numbers in train(): pass a generator")
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        return torch.Generator(device).manual_seed(seed)

    def _chunk_size(self, x: Tensor, steps: int) -> int:
        widest = max(x[0].numel(), max((conv_elements(self.layers, x.shape[1:])), default=1))
        return max(1, min(steps, CHUNK_ELEMENTS // (len(x) * widest)))


def conv_elements(layers: nn.Sequential, shape: Sequence[int]) -> list[int]:
    """Output elements per image of every convolution, from the input shape (C, H, W) alone."""
    sizes, (height, width) = [], shape[-2:]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.AvgPool2d):
            kernel, stride, padding = (_pair(getattr(layer, key)) for key in ("kernel_size", "stride", "padding"))
            height = (height + 2 * padding[0] - kernel[0]) // stride[0] + 1
            width = (width + 2 * padding[1] - kernel[1]) // stride[1] + 1
        if isinstance(layer, nn.Conv2d):
            sizes.append(layer.out_channels * height * width)
    return sizes


def _pair(value: int | str | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(value, str):
        raise ValueError(f"padding '{value}' is not supported: give it as a number")
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def spiking_twin(
    ann: nn.Sequential,
    encoder: Encoder,
    time_steps: int,
    leak: float = 1.0,
    reset: Reset = "soft",
    surrogate: Surrogate | None = None,
) -> SpikingNetwork:
    """The network with ``ann``'s weights (copied) and LIF neurons whose thresholds are not yet set.

    Raises ValueError naming the layer that has no spiking counterpart.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    # Not named_children(): it passes over an activation that stands in several places.
    for name, layer in ann._modules.items():
        if isinstance(layer, nn.ReLU):
            layers[name] = LIF(leak=leak, reset=reset, surrogate=surrogate)
        elif isinstance(layer, (*WEIGHTED, *STATELESS, nn.Dropout)):
            layers[name] = copy.deepcopy(layer)
        else:
            raise ValueError(f"layer '{name}' ({type(layer).__name__}) has no spiking counterpart")
    if not layers or not isinstance(next(reversed(layers.values())), WEIGHTED):
        raise ValueError("the last layer must be a convolution or a linear layer: it accumulates and never fires")
    return SpikingNetwork(nn.Sequential(layers), encoder, time_steps).train(ann.training)
