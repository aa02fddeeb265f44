"""The networks that are timed: VGG in which every layer spikes at a given rate, and all sums are exact."""

import torch
from torch import Tensor, nn

from audit.networks.vgg import vgg
from audit.spiking.activity import Activity
from audit.spiking.encoding import Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.simulation import Simulation
from audit.spiking.surrogate import Surrogate
from audit.spiking.twin import spiking_twin

RATE = 0.075
"""Spikes per neuron and time-step: the middle of the 5-10 % that converted networks show."""
UNIT = 2.0**-11
"""Weights and thresholds are multiples of it: every sum fits into float32, and equal networks give equal logits."""


def images(batch: int, seed: int = 0) -> Tensor:
    """Smooth random pictures [B, 3, 32, 32] in [-1, 1]: speed depends on their statistics, not on their content."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 8, 8, generator=generator) * 2 - 1
    return nn.functional.interpolate(coarse, size=32, mode="bilinear").clamp(-1, 1)


@torch.no_grad()
def spiking_vgg(name: str, time_steps: int, exact: bool = True, rate: float = RATE, seed: int = 0) -> SpikingNetwork:
    """``name`` for 32x32 images and ten classes at full width, without dropout; each layer spikes at ``rate``.

    ``exact``: weights and thresholds are rounded to multiples of `UNIT`.
    """
    ann = vgg(name, (3, 32, 32), 10, dropout=0.0, hidden_dropout=0.0, seed=seed).eval()
    for weight in ann.parameters():
        weight.copy_((weight / UNIT).round() * UNIT if exact else weight)
    network = spiking_twin(ann, Encoder("rate"), time_steps, surrogate=Surrogate(per_threshold=True))
    x = images(4, seed)
    for layer, neuron in network.neurons.items():
        chunks = Simulation(network, x, time_steps, torch.Generator().manual_seed(seed), stop=layer).run()
        current = torch.cat([current for current, _ in chunks])
        low, high = 0.0, float(current.max())
        for _ in range(10):  # the rate falls as the threshold rises
            middle = (low + high) / 2
            neuron.threshold.fill_(round(middle / UNIT) * UNIT if exact else middle)
            low, high = (middle, high) if float(neuron(current)[0].mean()) > rate else (low, middle)
    return network


@torch.no_grad()
def rates(network: SpikingNetwork, x: Tensor, time_steps: int, seed: int = 0) -> dict[str, float]:
    """Spikes per neuron and time-step of every neuron layer."""
    activity = Activity()
    network.outputs_over_time(x, [time_steps], torch.Generator().manual_seed(seed), activity)
    return {name: count / activity.sizes[name] / len(x) / time_steps for name, count in activity.spikes.items()}
