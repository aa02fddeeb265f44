"""What a simulation did: the events that the energy tables count."""

from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor


@dataclass
class Activity:
    """Events of a simulation, summed over images and time-steps.

    ``inputs``: per weight layer, non-zero inputs at each place, int64 [H, W] summed over channels, or [] of a linear
    layer. A layer in ``once`` has an input that does not change over time: it is computed, and counted, once.
    ``spikes``: per neuron layer, the number of spikes. ``sizes``: how many inputs a weight layer and how many neurons
    a neuron layer has for one image.
    """

    images: int = 0
    time_steps: int = 0
    inputs: dict[str, Tensor] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)
    spikes: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"once": sorted(self.once)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in (state | {"once": set(state["once"])}).items():
            setattr(self, name, value)

    def add_inputs(self, name: str, x: Tensor, per_pixel: Tensor | None, once: bool) -> None:
        """``x`` [N, C, H, W] or [N, D]; ``per_pixel`` [N, H, W] is its count of non-zero channels, where known."""
        if per_pixel is None:
            per_pixel = (x != 0).sum(1)
        counts = per_pixel.sum(0)
        self.inputs[name] = self.inputs[name].to(counts.device) + counts if name in self.inputs else counts
        self.sizes[name] = x[0].numel()
        if once:
            self.once.add(name)

    def add_spikes(self, name: str, spikes: int | Tensor, neurons: int) -> None:
        self.spikes[name] = self.spikes.get(name, 0) + int(spikes)
        self.sizes[name] = neurons
