"""One call of a spiking network: time in chunks, folded into the batch; only the neurons carry a state."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from audit.spiking.activity import Activity
from audit.spiking.budget import plan_time
from audit.spiking.events import convolve
from audit.spiking.kernels import Packed
from audit.spiking.memory import Pool
from audit.spiking.neuron import LIF
from audit.spiking.pooling import average_pool

if TYPE_CHECKING:
    from audit.spiking.network import SpikingNetwork

WEIGHTED = (nn.Conv2d, nn.Linear)
Layers = list[tuple[str, nn.Module]]


@dataclass(frozen=True)
class Execution:
    """How a simulation is computed. It changes results by the rounding of sums only, with ``bfloat16`` by its rounding.

    ``memory``: bytes that the activations of one call may take; what does not fit is computed a second time for the
    backward pass. ``precision``: ``bfloat16`` runs dense weight layers in it; neurons and sums stay in float32.
    """

    memory: int = 2**29
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass
class Stretch:
    """Some time-steps on their way through the layers. ``potentials``: by neuron layer, before and then after them."""

    steps: int
    potentials: dict[str, Tensor]
    activity: Activity | None = None
    once: bool = False
    overwrite: bool = False  # the backward pass runs once: it may write over what was kept for it


@dataclass
class Simulation:
    """One call. ``stop`` names a neuron layer: then its input current is read, and nothing after it is computed."""

    network: "SpikingNetwork"
    x: Tensor
    steps: int
    generator: torch.Generator | None
    activity: Activity | None = None
    stop: str | None = None
    masks: dict[str, Tensor] = field(default_factory=dict)
    packed: dict[nn.Module, Packed] = field(default_factory=dict)
    pool: Pool = field(default_factory=Pool)

    def __post_init__(self) -> None:
        layers = list(self.network.layers.named_children())
        if self.stop is not None:
            layers = layers[: [name for name, _ in layers].index(self.stop)]
        first = next((i for i, (_, layer) in enumerate(layers) if isinstance(layer, LIF)), len(layers))
        # What precedes the first neuron stays the same over time if the input does: it is computed once.
        split = first if self.network.encoder.static else 0
        self.prefix, self.layers = layers[:split], layers[split:]
        self.neurons = [name for name, layer in layers if isinstance(layer, LIF)]
        unset = [name for name, layer in layers if isinstance(layer, LIF) and layer.threshold.isnan().any()]
        if unset:
            raise ValueError(f"layer '{unset[0]}' has no threshold yet: balance the thresholds, or set it")
        # What the backward pass computes again must be what was computed, whatever is switched in between.
        self.training, self.precision = self.network.training, self.network.execution.precision
        self.mask_generator = _mask_generator(self.network, self.generator, self.x.device)

    def run(self) -> Iterator[tuple[Tensor, int]]:
        """Chunk after chunk of time: the last layer's output [S, B, ...] and S; [1, B, ...] if it stays the same."""
        network, x = self.network, self.x
        network.encoder.check(x)
        constant = self._through(self.prefix, x, Stretch(1, {}, self.activity, once=True)) if self.prefix else None
        plan = plan_time(network.layers, x, self.steps, self._differentiates(), network.execution.memory)
        state: list[Tensor] = []
        start = 0
        for steps in plan.chunks:
            train = constant
            if train is None:
                train = network.encoder(x, steps, self.generator, start, network.time_steps).flatten(0, 1)
            if plan.recompute:
                out, *state = _Recomputed.apply(self, steps, train, len(state), *state, *self.tensors())
            else:
                out, *state = self.chunk(train, steps, state, self.activity)
            start += steps
            yield out.unflatten(0, (-1, len(x))), steps

    def tensors(self) -> list[Tensor]:
        """Weights and thresholds of the layers that see time, in order."""
        return [tensor for _, layer in self.layers for tensor in (*layer.parameters(), *layer.buffers())]

    def chunk(
        self,
        train: Tensor,
        steps: int,
        state: list[Tensor],
        activity: Activity | None = None,
        overwrite: bool = False,
    ) -> tuple[Tensor, ...]:
        """The output and the potentials of all neuron layers after ``steps`` more steps, from those before.

        Empties ``state``, so that each layer's memory is free again once the layer has gone on from it.
        """
        potentials = dict(zip(self.neurons, state, strict=False))
        state.clear()
        out = self._through(self.layers, train, Stretch(steps, potentials, activity, overwrite=overwrite))
        return out, *potentials.values()

    def _through(self, layers: Layers, h: Tensor, stretch: Stretch) -> Tensor:
        """``h`` [S * B, ...], or [B, ...] where it stays the same over time."""
        for name, layer in layers:
            if isinstance(layer, LIF):
                h = self._fire(name, layer, h, stretch)
            elif isinstance(layer, nn.Dropout):
                h = self._drop(name, layer, h)
            else:
                h = self._weigh(name, layer, h, stretch)
        return h

    def _weigh(self, name: str, layer: nn.Module, x: Tensor, stretch: Stretch) -> Tensor:
        """A layer without a state."""
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        low = self.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            counts = None
            if isinstance(layer, nn.Conv2d):
                h, counts = convolve(layer, x, self.packed, self.pool)
            elif isinstance(layer, nn.AvgPool2d) and x.dim() == 4:
                h = average_pool(layer, x, self.pool)
            else:
                h = layer(x)
        if stretch.activity is not None and isinstance(layer, WEIGHTED):
            stretch.activity.add_inputs(name, x, counts, stretch.once)
        return h.float() if low else h

    def _fire(self, name: str, lif: LIF, current: Tensor, stretch: Stretch) -> Tensor:
        potential = stretch.potentials.pop(name, None)
        if potential is None:
            potential = lif.rest(current[: len(self.x)])
        h, stretch.potentials[name], count = lif.stretch(
            current, stretch.steps, potential, self.pool, stretch.overwrite
        )
        if stretch.activity is not None:
            stretch.activity.add_spikes(name, h.count_nonzero() if count is None else count, h[0].numel())
        return h

    def _drop(self, name: str, layer: nn.Dropout, h: Tensor) -> Tensor:
        """One mask per sample for all time-steps."""
        if not self.training or layer.p == 0:
            return h
        samples = h.unflatten(0, (-1, len(self.x)))
        if name not in self.masks:
            keep = torch.rand(samples.shape[1:], generator=self.mask_generator, device=h.device) >= layer.p
            self.masks[name] = keep.to(h.dtype) / (1 - layer.p)
        return (samples * self.masks[name]).flatten(0, 1)

    def _differentiates(self) -> bool:
        weights = (weight for _, layer in (*self.prefix, *self.layers) for weight in layer.parameters())
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (self.x, *weights))


class _Recomputed(torch.autograd.Function):
    """A chunk of time of which only the beginning is kept: the backward pass computes it a second time.

    torch.utils.checkpoint would keep, for a moment, what a backward pass needs already in the first computation.
    """

    @staticmethod
    def forward(ctx: Any, simulation: Simulation, steps: int, train: Tensor, states: int, *tensors: Tensor) -> Any:
        ctx.simulation, ctx.steps, ctx.states = simulation, steps, states
        ctx.save_for_backward(train, *tensors)
        ctx.set_materialize_grads(False)  # nothing comes back through the potentials after the last step
        return simulation.chunk(train, steps, list(tensors[:states]), simulation.activity)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        train, *tensors = ctx.saved_tensors  # autograd says so if one of them was changed in place
        if any(now is not then for now, then in zip(ctx.simulation.tensors(), tensors[ctx.states :], strict=True)):
            raise RuntimeError(
                "the network's weights or thresholds are not those of the forward pass, and its backward pass computes "
                "the simulation again: keep them until then, or give it more memory (network.execution)"
            )
        needed = [ctx.needs_input_grad[2], *ctx.needs_input_grad[4:]]
        inputs = [tensor.detach().requires_grad_(need) for tensor, need in zip((train, *tensors), needed, strict=True)]
        inputs[1 + ctx.states :] = tensors[ctx.states :]  # the parameters themselves
        with torch.enable_grad():
            outputs = ctx.simulation.chunk(inputs[0], ctx.steps, inputs[1 : 1 + ctx.states], overwrite=True)
        reached = zip(outputs, gradients, strict=True)
        pairs = [(out, grad) for out, grad in reached if out.requires_grad and grad is not None]
        if not pairs:
            return (None,) * (4 + len(tensors))
        wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
        outs, grads_of = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(outs, wanted, grads_of, allow_unused=True))
        grads = [next(found) if need else None for need in needed]
        return None, None, grads[0], None, *grads[1:]


def _mask_generator(
    network: "SpikingNetwork", generator: torch.Generator | None, device: torch.device
) -> torch.Generator | None:
    """A generator for dropout alone, so that masks do not depend on how time is cut into chunks."""
    if not network.training or not any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in network.layers):
        return None
    if generator is None:
        raise ValueError("dropout draws random numbers in train(): pass a generator")
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    return torch.Generator(device).manual_seed(seed)
