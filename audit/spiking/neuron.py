"""The leaky integrate-and-fire neuron (PrivateSNN Eq. 1) over a stretch of time-steps."""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from audit.spiking.kernels import Kernels, kernels
from audit.spiking.memory import Pool
from audit.spiking.surrogate import Surrogate

Reset = Literal["soft", "hard"]

_log = logging.getLogger(__name__)


class _Fire(torch.autograd.Function):
    """Spikes of a stretch of time; the backward pass is written out so that only the potentials are kept.

    Every tensor comes as rows in memory order: [S, R, P] over time, [R, P] for a state, [P] for the threshold. A
    current of one step, [1, R, P], stays the same in all ``steps``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        steps: int,
        potential: Tensor,
        threshold: Tensor,
        leak: float,
        reset: Reset,
        surrogate: Surrogate,
        pool: Pool,
        overwrite: bool,
    ) -> tuple[Tensor, Tensor, int | None]:
        keep = ctx.needs_input_grad[0] or ctx.needs_input_grad[2]
        library = _kernels_for(current, potential, threshold)
        if library is not None:
            u = pool.empty_like(potential).copy_(potential)
            spikes, kept, count = library.fire(current, steps, u, threshold, leak, reset == "hard", keep, pool)
        else:
            stretch = _compiled(_forward) if current.is_cuda else _forward
            spikes, u, kept = stretch(current, steps, potential, threshold, leak, reset, keep)
            count = None
        if keep:
            ctx.save_for_backward(kept, threshold)
        ctx.leak, ctx.reset, ctx.surrogate, ctx.pool, ctx.overwrite = leak, reset, surrogate, pool, overwrite
        ctx.repeats = len(current) < steps
        return spikes, u, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor, grad_potential: Tensor, _: None) -> tuple[Tensor | None, ...]:
        kept, threshold = ctx.saved_tensors
        gradients = grad_spikes.contiguous(), grad_potential.contiguous()
        library = _kernels_for(kept, *gradients, threshold)
        if library is not None:
            grad_current = kept if ctx.overwrite else ctx.pool.empty_like(kept)
            carried = library.fire_backward(
                kept, *gradients, threshold, ctx.leak, ctx.reset == "hard", ctx.surrogate, grad_current
            )
        else:
            stretch = _compiled(_backward) if kept.is_cuda else _backward
            grad_current, carried = stretch(kept, *gradients, threshold, ctx.leak, ctx.reset, ctx.surrogate)
        if ctx.repeats:
            grad_current = grad_current.sum(0, keepdim=True)
        return grad_current, None, carried, *(None,) * 6


class LIF(nn.Module):
    """u <- leak * u + current; a spike where u > threshold (strict); then u <- u - threshold (soft) or 0 (hard).

    No gradient flows through the reset. ``threshold`` is a buffer, a scalar, or one value per channel: [C, 1, 1] after
    a convolution, [D] after a linear layer; NaN until it is set. u starts at ``initial`` times the threshold. The state
    is an argument and a result, never hidden; train() and eval() behave alike.
    """

    threshold: Tensor

    def __init__(
        self,
        threshold: float | Tensor = float("nan"),
        leak: float = 1.0,
        reset: Reset = "soft",
        surrogate: Surrogate | None = None,
        initial: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= leak <= 1:
            raise ValueError(f"leak is a factor in [0, 1], not {leak}")
        if not 0 <= initial <= 1:
            raise ValueError(f"a potential starts at a share of the threshold in [0, 1], not {initial}")
        self.register_buffer("threshold", torch.as_tensor(threshold, dtype=torch.float32).clone())
        self.leak, self.reset, self.surrogate, self.initial = leak, reset, surrogate or Surrogate(), initial

    @property
    def saturation(self) -> float:
        """The constant current, in thresholds, at which it fires at every time-step; where it does not leak."""
        return 1.0

    def rest(self, like: Tensor) -> Tensor:
        """The state before the first time-step, for neurons [B, ...]."""
        start = torch.zeros_like(like)
        return start if self.initial == 0 else start + self.initial * self.threshold

    def forward(self, current: Tensor, potential: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``current`` [S, B, ...], ``potential`` [B, ...] (None: at rest) -> spikes [S, B, ...], potential [B, ...]."""
        if potential is None:
            potential = self.rest(current[0])
        spikes, potential, _ = self.stretch(current.flatten(0, 1), len(current), potential)
        return spikes.unflatten(0, (len(current), -1)), potential

    def stretch(
        self, current: Tensor, steps: int, potential: Tensor, pool: Pool | None = None, overwrite: bool = False
    ) -> tuple[Tensor, Tensor, int | None]:
        """The same with time folded into the batch: ``current`` [S * B, ...], or [B, ...] if it stays the same.

        Returns spikes [S * B, ...], the potential after the last step, [B, ...], and the number of spikes where it is
        known already. ``pool``: where their memory comes from. ``overwrite``: the backward pass runs once, and may
        write over what was kept for it.
        """
        batch, *shape = potential.shape
        threshold = self.threshold.flatten().contiguous()
        per_channel = [*shape[:1], *(1 for _ in shape[1:])]
        if len(threshold) > 1 and list(self.threshold.shape) != per_channel:
            raise ValueError(
                f"a threshold is one number or one per channel, {per_channel}, not {list(self.threshold.shape)}"
            )
        spikes, u, count = _Fire.apply(
            _rows(current, len(current) // batch, len(threshold)), steps, _rows(potential, 1, len(threshold))[0],
            threshold, self.leak, self.reset, self.surrogate, pool or Pool(), overwrite,
        )  # fmt: skip
        return _images(spikes, shape), _images(u, shape), count

    def extra_repr(self) -> str:
        return f"threshold={self.threshold.flatten()[0]:.4g}, leak={self.leak}, reset={self.reset}"


def _forward(
    current: Tensor, steps: int, potential: Tensor, threshold: Tensor, leak: float, reset: Reset, keep: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the kernel computes, in torch: one fused loop where it is compiled for a GPU."""
    u, spikes, kept = potential, [], []
    for t in range(steps):
        u = leak * u + current[t if len(current) == steps else 0]
        fired = u > threshold
        if keep:
            kept.append(u)
        spikes.append(fired.to(u.dtype))
        u = torch.where(fired, u - threshold if reset == "soft" else 0.0, u)
    return torch.stack(spikes), u, torch.stack(kept) if keep else None


def _backward(
    kept: Tensor,
    grad_spikes: Tensor,
    grad_potential: Tensor,
    threshold: Tensor,
    leak: float,
    reset: Reset,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor]:
    carried, grads = grad_potential, []
    for t in range(len(kept) - 1, -1, -1):
        if reset == "hard":  # a hard reset cuts the path through the old potential of a neuron that fired
            carried = torch.where(kept[t] > threshold, 0.0, carried)
        carried = carried + grad_spikes[t] * surrogate(kept[t], threshold)
        grads.append(carried)
        carried = leak * carried
    return torch.stack(grads[::-1]), carried


def _rows(x: Tensor, steps: int, period: int) -> Tensor:
    """[steps * B, C, ...] as [steps, R, period] with the channels last: rows along which a threshold repeats."""
    return (x.movedim(1, -1) if x.dim() > 2 else x).reshape(steps, -1, period)


def _images(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `_rows`: [N, *shape]."""
    if len(shape) < 2:
        return rows.reshape(-1, *shape)
    return rows.reshape(-1, *shape[1:], shape[0]).movedim(-1, 1)


def _kernels_for(*tensors: Tensor) -> Kernels | None:
    if any(tensor.device.type != "cpu" or tensor.dtype != torch.float32 for tensor in tensors):
        return None
    return kernels()


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` through torch.compile, one fused kernel for all time-steps; as it is where that fails."""
    if find_spec("triton") is None:
        return function
    compiled = torch.compile(function, dynamic=True)  # one kernel for layers of every size

    def attempt(*arguments: Any) -> Any:
        nonlocal compiled
        try:
            return compiled(*arguments)
        except Exception as error:
            if compiled is function:
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            _log.warning("torch.compile of the neuron failed (%s); the plain loop over time-steps is used", reason)
            compiled = function
            return function(*arguments)

    return attempt
