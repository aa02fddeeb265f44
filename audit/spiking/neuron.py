"""The leaky integrate-and-fire neuron (PrivateSNN Eq. 1) over a stretch of time-steps."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from audit.spiking.surrogate import Surrogate

Reset = Literal["soft", "hard"]


class _Fire(torch.autograd.Function):
    """Spikes of a stretch of time; the backward pass is written out so that only the slopes are kept."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, potential: Tensor, threshold: Tensor, leak: float, reset: Reset, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]:
        spikes = torch.empty_like(current)
        keep = any(ctx.needs_input_grad[:2])
        slopes = torch.empty_like(current) if keep else None
        u = potential.clone()
        for t in range(len(current)):
            if leak != 1:
                u.mul_(leak)
            u.add_(current[t])
            if slopes is not None:
                slopes[t] = surrogate(u, threshold)
            torch.gt(u, threshold, out=spikes[t])
            if reset == "soft":
                u.addcmul_(spikes[t], threshold, value=-1)
            else:
                u.masked_fill_(spikes[t] > 0, 0)
        if slopes is not None:
            # A hard reset cuts the path through the old potential of a neuron that fired; a soft one does not.
            ctx.save_for_backward(slopes, *([spikes] if reset == "hard" else []))
        ctx.leak, ctx.reset = leak, reset
        return spikes, u

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_spikes, grad_potential = gradients
        slopes, *rest = ctx.saved_tensors
        grad_current = torch.empty_like(slopes)
        carried = grad_potential.clone()
        for t in range(len(slopes) - 1, -1, -1):
            if ctx.reset == "hard":
                carried.masked_fill_(rest[0][t] > 0, 0)
            carried.addcmul_(grad_spikes[t], slopes[t])
            grad_current[t] = carried
            if ctx.leak != 1:
                carried.mul_(ctx.leak)
        return grad_current, carried, None, None, None, None


class LIF(nn.Module):
    """u <- leak * u + current; a spike where u > threshold (strict); then u <- u - threshold (soft) or 0 (hard).

    No gradient flows through the reset. ``threshold`` is a buffer, a scalar or [C, 1, 1]; NaN until it is set.
    The state is an argument and a result, never hidden; train() and eval() behave alike.
    """

    threshold: Tensor

    def __init__(
        self,
        threshold: float | Tensor = float("nan"),
        leak: float = 1.0,
        reset: Reset = "soft",
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= leak <= 1:
            raise ValueError(f"leak is a factor in [0, 1], not {leak}")
        self.register_buffer("threshold", torch.as_tensor(threshold, dtype=torch.float32).clone())
        self.leak, self.reset, self.surrogate = leak, reset, surrogate or Surrogate()

    def forward(self, current: Tensor, potential: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``current`` [S, B, ...], ``potential`` [B, ...] (None: zeros) -> spikes [S, B, ...], potential [B, ...]."""
        if potential is None:
            potential = torch.zeros_like(current[0])
        spikes, potential = _Fire.apply(current, potential, self.threshold, self.leak, self.reset, self.surrogate)
        return spikes, potential

    def extra_repr(self) -> str:
        return f"threshold={self.threshold.flatten()[0]:.4g}, leak={self.leak}, reset={self.reset}"
