"""Raw scores of an evasion, one row per image, and every measurement of it from them alone."""

from collections import deque
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
from audit.spiking.integer import Emulation, finest
from audit.spiking.network import SpikingNetwork
from audit.spiking.watching import watched_logits

# What enters the first layer; no layer is called so, since its name has a space.
CODED = "coded input"
CLEAN, ATTACKED = "accuracy on the clean images", "accuracy under attack"
KINDS = ("logits/clean", "logits/attacked", "spikes/clean/", "spikes/attacked/", "signal/", "noise/")
# Of the same network computed in whole numbers, as a chip does it.
ON_CHIP = ("chip/clean", "chip/attacked")
# At a time: every neuron's spikes in every time-step are held for each.
BATCH = 25


@dataclass(frozen=True)
class Contrast:
    """What a target answers to N images and, with the same random numbers, to what an evasion made of them.

    ``clean``, ``attacked``: logits [N, K]. By layer of neurons, [N]: ``spikes`` and ``spikes_attacked`` per neuron,
    summed over T. By `CODED` and layer, [N]: ``signal`` sum_t ||s_t(x)||^2 and ``noise`` sum_t ||s_t(x') - s_t(x)||^2
    of its spike trains s, so that a spike that only moves in time is noise too. An ANN has no layer of spikes.
    ``chip``: the logits to both of the network in whole numbers, `audit.spiking.integer`, where the target has one.
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
        return finest(network)
    except AuditError:
        return None


@torch.no_grad()
def _batch(network: SpikingNetwork, clean: Tensor, attacked: Tensor, seed: int) -> dict[str, Tensor]:
    """A row of every kind for each image; both sets get the random numbers of ``seed``, so that what differs between
    their spikes is the images' doing."""
    kept: dict[str, deque[Tensor]] = {layer: deque() for layer in network.neurons}
    rows: dict[str, Tensor] = {}

    def add(name: str, values: Tensor) -> None:
        rows[name] = rows[name] + values if name in rows else values

    def keep(layer: str, spikes: Tensor) -> None:
        kept[layer].append(spikes.bool())
        add(f"spikes/clean/{layer}", _squares(spikes) / spikes[0, 0].numel())
        add(f"signal/{layer}", _squares(spikes))

    def compare(layer: str, spikes: Tensor) -> None:
        before = kept[layer].popleft()  # both runs cut time in the same places
        add(f"spikes/attacked/{layer}", _squares(spikes) / spikes[0, 0].numel())
        add(f"noise/{layer}", _squares(spikes.bool() ^ before))

    def source() -> torch.Generator:
        return torch.Generator(clean.device).manual_seed(seed)

    steps = network.time_steps
    before, after = (network.encoder(x, steps, source(), 0, steps) for x in (clean, attacked))
    rows |= {f"signal/{CODED}": _squares(before), f"noise/{CODED}": _squares(after - before)}
    for name, x, watch in ((KINDS[0], clean, keep), (KINDS[1], attacked, compare)):
        rows[name] = watched_logits(network, x, watch, source())
    return rows


def _squares(train: Tensor) -> Tensor:
    """Sum of squares by image of [S, B, ...], in double; of spikes, their number."""
    return train.flatten(2).double().square().sum((0, 2))
