"""Raw scores of an evasion, one row per image, and every measurement of it from them alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.contracts import Images, Task
from audit.errors import AuditError
from audit.metrics.accuracy import accuracy
from audit.metrics.robustness import (
    AGREEMENT,
    CHIP_LOSS,
    LOSS,
    accuracy_loss,
    activity,
    activity_change,
    noise_to_signal,
)
from audit.networks.ascent import derived_seed
from audit.networks.training import predict
from audit.observation import first_per_class
from audit.records import Measurement
from audit.spiking.counts import count_spikes
from audit.spiking.integer import Emulation, emulate
from audit.spiking.network import SpikingNetwork

# What enters the first layer; no layer is called so, since its name has a space.
CODED = "coded input"
CLEAN, ATTACKED = "accuracy on the clean images", "accuracy under attack"
KINDS = ("logits/clean", "logits/attacked", "spikes/clean/", "spikes/attacked/", "signal/", "noise/")
# Of the same network computed in whole numbers, as a chip does it.
ON_CHIP = ("chip/clean", "chip/attacked")
# At a time: two spike counts of every neuron are held for each.
BATCH = 50


@dataclass(frozen=True)
class Contrast:
    """What a target answers to N images and, with the same random numbers, to what an evasion made of them.

    ``clean``, ``attacked``: logits [N, K]. By layer of neurons, [N]: ``spikes`` and ``spikes_attacked``
    per neuron, summed over T. By `CODED` and layer, [N]: ``signal`` ||r(x)||^2 and ``noise`` ||r(x') - r(x)||^2 of its
    spike counts r. An ANN has no layer of spikes. ``chip``: the logits to both of the network in whole numbers,
    `audit.spiking.integer`, where the target has one.
    """

    labels: Tensor
    clean: Tensor
    attacked: Tensor
    spikes: Mapping[str, Tensor]
    spikes_attacked: Mapping[str, Tensor]
    signal: Mapping[str, Tensor]
    noise: Mapping[str, Tensor]
    chip: tuple[Tensor, Tensor] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Named tensors to be stored; `of` is the inverse."""
        named = {"labels": self.labels, KINDS[0]: self.clean, KINDS[1]: self.attacked}
        for kind, rows in zip(KINDS[2:], (self.spikes, self.spikes_attacked, self.signal, self.noise), strict=True):
            named |= {f"{kind}{layer}": values for layer, values in rows.items()}
        return named | dict(zip(ON_CHIP, self.chip or (), strict=False))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Contrast":
        """Raises ValueError where a layer is named in one part and not in the other."""
        parts = [
            {name.removeprefix(kind): rows for name, rows in sorted(tensors.items()) if name.startswith(kind)}
            for kind in KINDS[2:]
        ]
        layers = set(parts[0])
        if set(parts[1]) != layers or any(set(part) != layers | ({CODED} if layers else set()) for part in parts[2:]):
            raise ValueError("its layers are not the same in every part of its raw scores")
        known = [name for name in ON_CHIP if name in tensors]
        if len(known) == 1:
            raise ValueError("of the network in whole numbers, it has one part and not the other")
        chip = (tensors[ON_CHIP[0]], tensors[ON_CHIP[1]]) if known else None
        spikes, attacked, signal, noise = parts
        return cls(tensors["labels"], tensors[KINDS[0]], tensors[KINDS[1]], spikes, attacked, signal, noise, chip)

    def measured(self) -> tuple[Measurement, ...]:
        """Accuracy before and after and what was lost; spikes; noise-to-signal ratios and their square roots."""
        right, still = (logits.argmax(1) == self.labels for logits in (self.clean, self.attacked))
        found = [
            accuracy(CLEAN, self.clean, self.labels),
            accuracy(ATTACKED, self.attacked, self.labels),
            accuracy_loss(LOSS, right, still),
        ]
        if self.chip is not None:
            right, still = (logits.argmax(1) == self.labels for logits in self.chip)
            found.append(accuracy(AGREEMENT, self.chip[0], self.clean.argmax(1)))
            found.append(accuracy_loss(CHIP_LOSS, right, still))
        if not self.spikes:
            return tuple(found)
        found += [
            activity("spikes per neuron, clean", self.spikes),
            activity("spikes per neuron, attacked", self.spikes_attacked),
            activity_change("change of spikes per neuron", self.spikes, self.spikes_attacked),
        ]
        layers = sorted(self.spikes)
        for root, name in ((False, "NSR"), (True, "root NSR")):
            noise, signal = (torch.stack([rows[layer] for layer in layers]) for rows in (self.noise, self.signal))
            found.append(noise_to_signal(f"{name}, {CODED}", self.noise[CODED], self.signal[CODED], root))
            found.append(noise_to_signal(f"{name}, mean over layers", noise, signal, root))
            found += [noise_to_signal(f"{name}, {at}", self.noise[at], self.signal[at], root) for at in layers]
        return tuple(found)


def victims(test: Images, count: int, classes: int) -> Images:
    """``count`` of the auditor's test images, as equally over the classes as can be; or all of them.

    One of every class, then a second one of each that has it, and so on: fewer are always the first of more.
    """
    chosen = first_per_class(test, len(test), classes)
    place = torch.cat([torch.arange(int(n)) for n in torch.bincount(chosen.labels, minlength=classes)])
    order = torch.argsort(place * classes + chosen.labels)[:count]
    return Images(chosen.pixels[order], chosen.labels[order])


def contrast(
    network: nn.Module, task: Task, images: Images, attacked: Tensor, seed: int, device: torch.device
) -> Contrast:
    """Ask the target, as it is, about ``images`` and about ``attacked`` float [N, C, H, W] in the input range."""
    network = network.eval()
    clean = task.normalise(images.pixels)
    if not isinstance(network, SpikingNetwork):
        before, after = (predict(network, x.to(device)).cpu() for x in (clean, attacked))
        return Contrast(images.labels, before, after, {}, {}, {}, {})
    whole = _in_whole_numbers(network)
    steps = network.time_steps
    parts = []
    for n, (before, after) in enumerate(zip(clean.split(BATCH), attacked.split(BATCH), strict=True)):
        own = derived_seed(seed, "contrast", n)
        rows = _batch(network, before.to(device), after.to(device), own)
        if whole is not None:
            for name, batch in zip(ON_CHIP, (before, after), strict=True):
                # Coded where the network runs: a GPU draws other numbers than the CPU from the same seed.
                train = network.encoder(batch.to(device), steps, torch.Generator(device).manual_seed(own), 0, steps)
                rows[name] = whole.run_coded(train.cpu()).logits.float()
        parts.append(rows)
    joined = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    return Contrast.of({"labels": images.labels} | joined)


def _in_whole_numbers(network: SpikingNetwork) -> Emulation | None:
    """None where its weights lie on no grid, or a layer has no counterpart."""
    try:
        return emulate(network)
    except AuditError:
        return None


def _batch(network: SpikingNetwork, clean: Tensor, attacked: Tensor, seed: int) -> dict[str, Tensor]:
    first, second = count_spikes(network, clean, seed), count_spikes(network, attacked, seed)
    rows = {KINDS[0]: first.logits, KINDS[1]: second.logits}
    answered = {CODED: (first.coded, second.coded)}
    answered |= {layer: (counts, second.spikes[layer]) for layer, counts in first.spikes.items()}
    for layer, counts in answered.items():
        before, after = map(_each, counts)
        if layer != CODED:
            rows[f"spikes/clean/{layer}"] = before.mean(1)
            rows[f"spikes/attacked/{layer}"] = after.mean(1)
        rows[f"signal/{layer}"] = before.square().sum(1)
        rows[f"noise/{layer}"] = (after - before).square().sum(1)
    return rows


def _each(counts: Tensor) -> Tensor:
    """[N, neurons], in double: a sum of squares of a hundred thousand neurons."""
    return counts.flatten(1).double()
