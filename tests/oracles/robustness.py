"""Spikes and noise-to-signal ratios from a plain loop over images, time-steps and layers; no batch, no engine."""

import torch
from torch import Tensor

from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF


def trains_one_by_one(network: SpikingNetwork, x: Tensor, seed: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits [B, K], the coded input [B, T, ...] and, by layer, spikes of every neuron [B, T, ...]."""
    train = network.encoder(x, network.time_steps, torch.Generator().manual_seed(seed), 0, network.time_steps)
    logits, coded, spikes = [], [], {name: [] for name in network.neurons}
    for image in range(len(x)):
        potential: dict[str, Tensor] = {}
        fired: dict[str, list[Tensor]] = {name: [] for name in network.neurons}
        out = torch.tensor(0.0)
        for step in train[:, image : image + 1]:
            h = step
            for name, layer in network.layers.named_children():
                if isinstance(layer, LIF):
                    u = layer.leak * potential.get(name, layer.rest(h)) + h
                    spike = (u > layer.threshold).float()
                    potential[name] = u - spike * layer.threshold if layer.reset == "soft" else u * (1 - spike)
                    fired[name].append(spike)
                    h = spike
                else:
                    h = layer(h)
            out = out + h
        logits.append(out * network.output_scale)
        coded.append(train[:, image])
        for name in spikes:
            spikes[name].append(torch.cat(fired[name]))
    return torch.cat(logits), torch.stack(coded), {name: torch.stack(rows) for name, rows in spikes.items()}


def ratio_by_hand(clean: Tensor, attacked: Tensor) -> float:
    """sum of squared differences over sum of squares, number by number."""
    noise = signal = 0.0
    for before, after in zip(clean.flatten().tolist(), attacked.flatten().tolist(), strict=True):
        noise += (after - before) ** 2
        signal += before**2
    return noise / signal
