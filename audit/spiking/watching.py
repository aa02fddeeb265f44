"""One run of a spiking network that shows each layer's spikes to whoever watches."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.simulation import Simulation, Stretch

Watcher = Callable[[str, Tensor], None]
"""(name of a neuron layer, its spikes [S, B, ...] in the next S time-steps)."""


def _unseen(name: str, spikes: Tensor) -> None:
    pass


@dataclass
class _Watched(Simulation):
    watch: Watcher = _unseen

    def _fire(self, name: str, lif: LIF, current: Tensor, stretch: Stretch) -> Tensor:
        spikes = super()._fire(name, lif, current, stretch)
        self.watch(name, spikes.unflatten(0, (stretch.steps, -1)))
        return spikes


def watched_logits(
    network: SpikingNetwork, x: Tensor, watch: Watcher, generator: torch.Generator | None, time_steps: int | None = None
) -> Tensor:
    """`SpikingNetwork.forward`, up to the rounding of its sum over time; ``watch`` is called by layer and stretch.

    The spikes are part of the graph as long as all time-steps fit into ``network.execution.memory``: beyond it they are
    computed a second time for the backward pass, and what was watched has no gradient.
    """
    steps = network.time_steps if time_steps is None else time_steps
    total = torch.zeros((), device=x.device)
    for out, length in _Watched(network, x, steps, generator, watch=watch).run():
        total = total + out.expand(length, *out.shape[1:]).sum(0)
    return total * (network.time_steps / steps) * network.output_scale
