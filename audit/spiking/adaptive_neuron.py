"""A neuron whose threshold rises with every spike: multiplicative adaptation (Bohte 2012; Zambrano et al. 2019)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.spiking.memory import Pool
from audit.spiking.neuron import LIF
from audit.spiking.surrogate import Surrogate

# Of the table of a transfer function, from no current to that of one spike per time-step; and how many currents are
# tried for it.
ENTRIES, PROBES = 4097, 2**14 + 1


class AdaptiveLIF(LIF):
    """u <- u + current; a spike where u > theta / 2; then u <- u - theta, and theta rises by ``adaptation`` * theta.

    theta is ``threshold`` plus a part that starts at 0 and decays by the factor ``decay`` per time-step: the more a
    neuron fires, the more current a further spike takes, while the spike itself stays the same. Zambrano et al.,
    Frontiers in Neuroscience 12, 2019: a spike where the signal exceeds its own reconstruction by half a threshold, the
    reconstruction growing by the threshold at that time. What is fixed here and left open or different there: time is
    discrete; neither the signal nor its reconstruction decays, since images do not change; spikes have height 1, the
    paper's height h being a matter of the next layer's weights. No gradient flows through reset and adaptation. The
    state is [B, 2, ...]: the potential, and what the threshold has risen by.
    """

    def __init__(
        self,
        threshold: float | Tensor = float("nan"),
        adaptation: float = 0.1,
        decay: float = 0.9,
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__(threshold, surrogate=surrogate)
        if not 0 <= decay < 1 or not 0 <= adaptation < (1 - decay) / max(decay, 1e-9):
            raise ValueError(
                "a threshold that rises faster than it decays grows without end: adaptation must be at least 0 and "
                f"below (1 - decay) / decay, decay in [0, 1), not {adaptation} and {decay}"
            )
        self.adaptation, self.decay = adaptation, decay
        # To fire at half a threshold is to start half full.
        self.initial = 0.5

    @property
    def saturation(self) -> float:
        """The constant current, in thresholds, at which it fires at every time-step in the end."""
        return 1 / (1 - self.adaptation * self.decay / (1 - self.decay))

    def rest(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like).unsqueeze(1).repeat_interleave(2, 1)

    def stretch(
        self, current: Tensor, steps: int, potential: Tensor, pool: Pool | None = None, overwrite: bool = False
    ) -> tuple[Tensor, Tensor, int | None]:
        """As `LIF.stretch`; autograd keeps what the way back needs, so that ``pool`` and ``overwrite`` do nothing."""
        u, risen = potential.unbind(1)
        currents = current.unflatten(0, (-1, len(potential)))
        spikes: list[Tensor] = []
        for t in range(steps):
            u = u + currents[t if len(currents) == steps else 0]
            theta = self.threshold + risen
            spike = _Spike.apply(u, theta / 2, self.surrogate)
            with torch.no_grad():
                drop = spike * theta
                risen = self.decay * (risen + self.adaptation * drop)
            u = u - drop
            spikes.append(spike)
        return torch.cat(spikes), torch.stack((u, risen), 1), None

    def extra_repr(self) -> str:
        return f"threshold={self.threshold.flatten()[0]:.4g}, adaptation={self.adaptation}, decay={self.decay}"


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u, threshold)
        ctx.surrogate = surrogate
        return (u > threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.surrogate(*ctx.saved_tensors), None, None


class AdaptiveRate(nn.Module):
    """The rate at which an `AdaptiveLIF` answers a constant current over T time-steps: its transfer function.

    The neuron begins with its threshold at rest, so that over few steps it fires more often than it goes on to. Its
    number of spikes is a staircase in the current: with the half threshold at which it fires, it gives its k-th spike
    where the current is worth k - 1/2. The function runs through these points, and is read from a table, linear between
    its entries. The threshold is learned, by its logarithm, one for the layer.
    """

    rates: Tensor

    def __init__(self, threshold: float, adaptation: float, decay: float, time_steps: int) -> None:
        super().__init__()
        self.log_threshold = nn.Parameter(torch.tensor(float(threshold)).log())
        neuron = AdaptiveLIF(1.0, adaptation, decay)
        self.largest = neuron.saturation
        currents = np.linspace(0, self.largest, PROBES)
        probes = torch.from_numpy(currents).float().expand(time_steps, PROBES)
        with torch.no_grad():
            spikes, _ = neuron(probes)
        counts, first = np.unique(np.maximum.accumulate(spikes.sum(0).numpy()), return_index=True)
        rates = np.concatenate(([0.0], (counts[1:] - 0.5) / time_steps, [1.0]))
        table = np.interp(np.linspace(0, self.largest, ENTRIES), [0.0, *currents[first[1:]], self.largest], rates)
        self.register_buffer("rates", torch.from_numpy(table).float())

    @property
    def threshold(self) -> Tensor:
        """Above 0, whatever a step of training does."""
        return self.log_threshold.exp()

    def forward(self, z: Tensor) -> Tensor:
        """Mean currents of any shape -> rates in [0, 1], which grow more slowly than the current."""
        place = (z / self.threshold * ((ENTRIES - 1) / self.largest)).clamp(0, ENTRIES - 1)
        left = place.detach().floor().clamp(max=ENTRIES - 2).long()
        return torch.lerp(self.rates[left], self.rates[left + 1], place - left)
