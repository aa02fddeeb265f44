"""How far a network in whole numbers does what the network in floating point does."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.spiking.integer import Emulation
from audit.spiking.network import SpikingNetwork
from audit.spiking.watching import watched_logits


@dataclass(frozen=True)
class Agreement:
    """Over ``images`` images: the share of equal ``predictions``; by layer the share of equal ``spikes``, over neurons
    and time-steps; the ``largest_logit_difference``; and by layer how often a membrane was ``saturated``."""

    images: int
    predictions: float
    spikes: dict[str, float]
    largest_logit_difference: float
    saturated: dict[str, int]


@torch.no_grad()
def agreement(
    network: SpikingNetwork, emulation: Emulation, images: Tensor, seed: int = 0, batch_size: int = 32
) -> Agreement:
    """``images`` float [N, C, H, W] in the input range; both see the same coded spikes. In eval(), on the CPU.

    Raises ValueError for no images.
    """
    if not len(images):
        raise ValueError("no images: there is nothing to agree on")
    equal: dict[str, int] = {}
    compared: dict[str, int] = {}
    saturated: dict[str, int] = {}
    same, largest = 0, 0.0
    for number, batch in enumerate(images.split(batch_size)):
        trains: dict[str, list[Tensor]] = {}

        def watch(name: str, spikes: Tensor, trains: dict[str, list[Tensor]] = trains) -> None:
            trains.setdefault(name, []).append(spikes.to(torch.uint8))

        first, second = (torch.Generator().manual_seed(seed + number) for _ in range(2))
        logits = watched_logits(network, batch, watch, first).double()
        run = emulation.run(batch, second)
        same += int((logits.argmax(1) == run.logits.argmax(1)).sum())
        largest = max(largest, float((logits - run.logits).abs().max()))
        for name, spikes in run.spikes.items():
            equal[name] = equal.get(name, 0) + int((torch.cat(trains[name]) == spikes).sum())
            compared[name] = compared.get(name, 0) + spikes.numel()
        for name, times in run.saturated.items():
            saturated[name] = saturated.get(name, 0) + times
    shares = {name: count / compared[name] for name, count in equal.items()}
    return Agreement(len(images), same / len(images), shares, largest, saturated)
