"""How often every neuron spikes on every image: the answers that a noise-to-signal ratio is about."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.simulation import Simulation, Stretch


@dataclass(frozen=True)
class Counts:
    """``logits`` [B, K]; ``coded`` [B, ...]: what the coder makes of the images, summed over T; ``spikes``: by layer of
    neurons, front to back, their number for each neuron, [B, ...]."""

    logits: Tensor
    coded: Tensor
    spikes: dict[str, Tensor]


@dataclass
class _Counting(Simulation):
    """A simulation that adds up spikes on the way; it draws the same numbers and makes the same spikes."""

    counts: dict[str, Tensor] = field(default_factory=dict)

    def _fire(self, name: str, lif: LIF, current: Tensor, stretch: Stretch) -> Tensor:
        spikes = super()._fire(name, lif, current, stretch)
        added = spikes.unflatten(0, (stretch.steps, -1)).sum(0)
        self.counts[name] = self.counts[name] + added if name in self.counts else added
        return spikes


@torch.no_grad()
def count_spikes(network: SpikingNetwork, x: Tensor, seed: int) -> Counts:
    """Of images x [B, C, H, W] over the network's T, with the random numbers of ``seed``: the same for two sets of one
    shape, so that what differs between them is the images' doing."""
    generator = torch.Generator(x.device).manual_seed(seed)
    steps = network.time_steps
    coded = network.encoder(x, steps, generator, 0, steps).sum(0)
    simulation = _Counting(network, x, steps, generator.manual_seed(seed))
    total = torch.stack([out.expand(n, *out.shape[1:]).sum(0) for out, n in simulation.run()]).sum(0)
    return Counts(total * network.output_scale, coded, simulation.counts)
