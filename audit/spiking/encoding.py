"""From a static image to its spike train. Every coder is a frozen setting; randomness comes from a generator."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from audit.errors import AuditError

Coding = Literal["rate", "unsigned-rate", "direct", "phase", "latency", "log-latency"]

# The lowest value that each coding takes; the highest is 1 everywhere, and 'direct' takes any number.
LOWEST = {"rate": -1.0, "unsigned-rate": 0.0, "phase": 0.0, "latency": 0.0, "log-latency": 0.0}
ROUNDING = 1e-4


@dataclass(frozen=True)
class Encoder:
    """How an image x enters the network at time-step t = 0, 1, ...

    - ``rate``: sign(x) 1[u <= |x|] with u uniform in (0, 1), for x in [-1, 1]. PrivateSNN's text compares the other way
      round and with 'normal' numbers in [I_min, I_max]; taken literally, dark pixels would spike most.
    - ``unsigned-rate``: 1[u <= x] for x in [0, 1], the convention of hardware without negative spikes.
    - ``direct``: x itself at every step, so that the first layer is the coder (Rathi and Roy, 2020).
    - ``phase`` (Kim, Kim, Huh, Lee, Choi, 2018): with K = ``phases``, bit k of x rounded down to K bits, times
      2^-(1 + k), at the steps with t mod K = k; the sum of K steps is x, clipped to 1 - 2^-K.
    - ``latency``: one spike at t = round((T - 1)(1 - x)); ``log-latency``: at t = round((T - 1) - ln(a x + 1)) with
      a = e^(T - 1) - 1. T is the network's number of time-steps. Whether x = 0 spikes, at T - 1, is ``zero_spikes``.

    ``rate`` and ``direct`` have a gradient: every step's is handed to x (straight-through for ``rate``: E[spike] = x),
    which is what 'deconvolving' the first layer's accumulated gradient computes (Sharmin 2020; PrivateSNN
    Algorithm 3). The others have none, and asking for it is an error.
    """

    coding: Coding = "rate"
    phases: Annotated[int, Field(ge=1, le=16)] = 8
    zero_spikes: bool = False

    @property
    def binary(self) -> bool:
        """Whether the train holds only -1, 0 and 1, so that a synapse adds or subtracts and never multiplies."""
        return self.coding not in ("direct", "phase")

    @property
    def static(self) -> bool:
        """Whether every time-step is the same."""
        return self.coding == "direct"

    @property
    def random(self) -> bool:
        return self.coding in ("rate", "unsigned-rate")

    @property
    def differentiable(self) -> bool:
        return self.coding in ("rate", "unsigned-rate", "direct")

    def check(self, x: Tensor) -> None:
        """Raises AuditError where ``x`` cannot be encoded, or needs a gradient that this coding does not have."""
        if x.requires_grad and torch.is_grad_enabled() and not self.differentiable:
            raise AuditError(
                f"{self.coding} coding has no gradient with respect to the image: a spike's time or bit jumps; "
                "differentiate through rate or direct coding, or use an attack that needs no gradient of the input"
            )
        if self.coding in LOWEST and x.numel():
            low, high = (float(value) for value in x.detach().aminmax())
            if not (low >= LOWEST[self.coding] - ROUNDING and high <= 1 + ROUNDING):
                hint = "; --set data.normalisation=unit gives pixels in [0, 1]" if LOWEST[self.coding] == 0 else ""
                raise AuditError(
                    f"{self.coding} coding takes values in [{LOWEST[self.coding]:.0f}, 1], "
                    f"and these images lie in [{low:.4g}, {high:.4g}]{hint}"
                )

    def __call__(
        self, x: Tensor, steps: int, generator: torch.Generator | None, start: int = 0, window: int | None = None
    ) -> Tensor:
        """``x`` float [B, ...] -> what enters at the steps ``start`` ... ``start + steps - 1``, [steps, B, ...].

        ``window`` is the T of the latency codings (None: start + steps). The rate codings need a generator on x's
        device. Raises AuditError as `check` does.
        """
        self.check(x)
        repeated = x.expand(steps, *x.shape)
        if self.coding == "direct":
            return repeated
        with torch.no_grad():
            spikes = self._spikes(x, range(start, start + steps), generator, window or start + steps)
        return spikes + (repeated - repeated.detach()) if x.requires_grad and self.differentiable else spikes

    def _spikes(self, x: Tensor, times: range, generator: torch.Generator | None, window: int) -> Tensor:
        match self.coding:
            case "rate" | "unsigned-rate":
                if generator is None:
                    raise ValueError("rate coding draws random numbers: pass a generator")
                u = torch.empty(len(times), *x.shape, device=x.device, dtype=x.dtype)
                for step in u:  # step by step: on every device the numbers do not depend on how time is cut
                    torch.rand(x.shape, generator=generator, out=step)
                if self.coding == "unsigned-rate":
                    x = x.clamp(min=0)
                # rand() is in [0, 1): with an exact 0 a black pixel would spike, but for its sign.
                return torch.where(u <= x.abs(), x.sign(), 0.0)
            case "phase":
                levels = (x.clamp(0, 1) * 2**self.phases).floor().clamp(max=2**self.phases - 1).int()
                phase = torch.tensor([t % self.phases for t in times], device=x.device)
                phase = phase.reshape(-1, *(1,) * x.dim())
                bits = (levels >> (self.phases - 1 - phase)) & 1
                return bits * torch.pow(2.0, -(1.0 + phase)).to(x.dtype)
            case _:
                return torch.stack([self._spike_time(x, window) == t for t in times]).to(x.dtype)

    def _spike_time(self, x: Tensor, window: int) -> Tensor:
        """When each pixel spikes, int64; -1: never."""
        value, last = x.clamp(0, 1).double(), window - 1
        if self.coding == "latency":
            time = (last * (1 - value)).round()
        elif last == 0:
            time = torch.zeros_like(value)
        else:
            # ln(a x + 1) by way of logarithms: a itself leaves the range of numbers at T = 711.
            log_a = last + math.log1p(-math.exp(-last))
            time = (last - torch.logaddexp(value.log() + log_a, torch.zeros_like(value))).round()
        return time.long() if self.zero_spikes else time.long().where(value > 0, torch.tensor(-1, device=x.device))
