"""The spiking network: layers of an ANN with neurons in the place of its activations."""

import copy
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audit.spiking.activity import Activity
from audit.spiking.encoding import Encoder
from audit.spiking.neuron import LIF
from audit.spiking.simulation import Execution, Simulation


class SpikingNetwork(nn.Module):
    """Layers of an ANN with LIF in the place of ReLU; the last layer accumulates and never fires.

    ``layers``: Conv2d, Linear, AvgPool2d, Flatten, Dropout and LIF in order of computation. A call depends on its
    arguments and its generator only: potentials start at 0, dropout (in train() only) keeps one mask per sample for
    all time-steps. Logits are ``output_scale`` times the accumulated input of the last layer. ``execution`` says how
    it is computed; it is no part of the network and is not stored with it.
    """

    output_scale: Tensor

    def __init__(self, layers: nn.Sequential, encoder: Encoder, time_steps: int, output_scale: float = 1.0) -> None:
        super().__init__()
        if time_steps < 1:
            raise ValueError(f"time_steps must be at least 1, not {time_steps}")
        if len(set(layers)) < len(layers):
            raise ValueError("a layer stands in two places: give each place a layer of its own")
        self.layers, self.encoder, self.time_steps = layers, encoder, time_steps
        self.execution = Execution()
        self.register_buffer("output_scale", torch.tensor(float(output_scale)))

    @property
    def neurons(self) -> dict[str, LIF]:
        return {name: layer for name, layer in self.layers.named_children() if isinstance(layer, LIF)}

    def forward(self, x: Tensor, generator: torch.Generator | None = None, time_steps: int | None = None) -> Tensor:
        """Images [B, C, H, W] in the teacher's input range -> logits [B, K].

        Differentiable in the weights, and in x where the coding is; asking for x's gradient otherwise is an AuditError.
        """
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
        if not len(x):
            raise ValueError("no images: the batch is empty")
        total: Tensor | None = None
        outputs: list[Tensor] = []
        done = 0
        for out, steps in Simulation(self, x, at[-1], generator, activity).run():
            readout = out.expand(steps, *out.shape[1:]).cumsum(0)
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
        chunks = Simulation(self, x, self.time_steps, generator, stop=name).run()
        return torch.stack([current.amax(0) for current, _ in chunks]).amax(0)

    def to_ann(self, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
        """The same weights with ``activation`` in the place of every LIF: reconversion (PrivateSNN, attack 1)."""
        layers = OrderedDict(
            (name, activation() if isinstance(layer, LIF) else copy.deepcopy(layer))
            for name, layer in self.layers.named_children()
        )
        return nn.Sequential(layers).train(self.training)
