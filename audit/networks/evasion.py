"""Steps along the sign of a loss's gradient within a bound: FGSM, PGD and APGD, on anything that has a slope."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from audit.loops import Loop
from audit.networks.perturbations import Count, margin

Loss = Literal["cross-entropy", "standardised", "margin"]
Slope = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images [N, C, H, W] -> the loss [N] of each, which the attacker raises, and its gradient [N, C, H, W]."""

Opened = Callable[..., AbstractContextManager[Loop]]
"""(steps, what they change by name) -> the loop of these steps, as of `Monitor.loop`."""

# Of APGD: hundredths of the steps between two looks, the share of them that has to climb, the momentum.
FIRST_LOOK, LESS, LEAST = 22, 3, 6
CLIMBING, MOMENTUM = 0.75, 0.75


@dataclass(frozen=True)
class Bounded:
    """Settings of every evasion: ``levels`` is the bound, in 255ths of the pixel range; ``images`` how many to change.

    The bounds of the tables are I, II and III: 2, 8 and 16 levels.
    """

    levels: Annotated[float, Field(gt=0, le=255)] = 8.0
    images: Count = 500

    @property
    def epsilon(self) -> float:
        """The bound in units of pixels in [0, 1]."""
        return self.levels / 255


@dataclass(frozen=True)
class Box:
    """What the images may become: every pixel between ``lower`` and ``upper``; ``reach``: how far it may move."""

    lower: Tensor
    upper: Tensor
    reach: float

    def inside(self, x: Tensor) -> Tensor:
        return x.clamp(self.lower, self.upper)

    def of(self, index: Tensor) -> "Box":
        """For some of the images."""
        return Box(self.lower[index], self.upper[index], self.reach)


@dataclass(frozen=True)
class Climb:
    """Where a climb ended, and the image with the highest loss on its way."""

    last: Tensor
    best: Tensor


def slope_of(logits_of: Callable[[Tensor], Tensor], labels: Tensor, loss: Loss) -> Slope:
    """The slope of ``loss`` for images of ``labels`` [N]; where nothing leads back to the image, a gradient of 0.

    'cross-entropy' is of the logits as they are, the textbook's. 'standardised' is of each image's logits divided by
    their standard deviation at the first call: a spiking network fixes no scale of its logits, and where they are large
    the softmax is 1 to the last bit and the gradient 0. 'margin': the largest other logit minus the label's.
    """
    scale: Tensor | None = None

    def slope(x: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal scale
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = logits_of(x)
            if scale is None:
                spread = logits.detach().std(1, keepdim=True)
                scale = spread.clamp(min=1e-12) if loss == "standardised" else torch.ones_like(spread)
            if loss == "margin":
                each = -margin(logits, labels)
            else:
                each = F.cross_entropy(logits / scale, labels, reduction="none")
            gradient = None
            if each.requires_grad:
                (gradient,) = torch.autograd.grad(each.sum(), x, allow_unused=True)
        found = torch.zeros_like(x) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
        return each.detach(), found

    return slope


@contextmanager
def in_memory(steps: int, /, **state: Any) -> Iterator[Loop]:
    """A loop that nobody keeps."""
    yield Loop(steps, **state)


def fgsm(slope: Slope, x: Tensor, box: Box) -> Tensor:
    """One step as far as the bound allows (Goodfellow, Shlens, Szegedy, ICLR 2015)."""
    return box.inside(x + box.reach * slope(x)[1].sign())


def pgd(slope: Slope, start: Tensor, box: Box, steps: int, step: float, opened: Opened = in_memory) -> Climb:
    """``steps`` of size ``step``, in units of x, each brought back into the box (Madry et al., ICLR 2018)."""
    highest, gradient = slope(start)
    with opened(steps, x=start.clone(), best=start.clone(), highest=highest, gradient=gradient) as now:
        for _ in now:
            now.x = box.inside(now.x + step * now.gradient.sign())
            loss, now.gradient = slope(now.x)
            now.best, now.highest = _better(now.best, now.highest, now.x, loss)
    return Climb(now.x, now.best)


def apgd(slope: Slope, start: Tensor, box: Box, steps: int, opened: Opened = in_memory) -> Climb:
    """PGD with momentum and a step size that halves where an image stops climbing (Croce and Hein, ICML 2020, Alg. 1).

    At a look an image whose loss rose in less than 3/4 of the steps since the last one, or whose best is the same as
    then with an unchanged step, goes back to its best and on with half the step.
    """
    looks = checkpoints(steps)
    loss, gradient = slope(start)
    state = {
        "x": start.clone(),
        "before": start.clone(),
        "best": start.clone(),
        "loss": loss,
        "highest": loss.clone(),
        "highest_then": loss.clone(),
        "gradient": gradient,
        "uphill": gradient.clone(),
        "size": torch.full_like(loss, 2 * box.reach),
        "rises": torch.zeros_like(loss),
        "since": 0,
        "halved": torch.zeros_like(loss, dtype=torch.bool),
    }
    with opened(steps, **state) as now:
        for n in now:
            x, last = now.x, now.loss
            towards = box.inside(x + _wide(now.size, x) * now.gradient.sign())
            if n > 0:
                towards = box.inside(x + MOMENTUM * (towards - x) + (1 - MOMENTUM) * (x - now.before))
            now.before, now.x = x, towards
            now.loss, now.gradient = slope(now.x)
            now.rises, now.since = now.rises + (now.loss > last), now.since + 1
            now.uphill = torch.where(_wide(now.loss > now.highest, x), now.gradient, now.uphill)
            now.best, now.highest = _better(now.best, now.highest, now.x, now.loss)
            if n + 1 in looks:
                stuck = now.rises < CLIMBING * now.since
                still = ~now.halved & (now.highest <= now.highest_then)
                now.halved = stuck | still
                now.size = torch.where(now.halved, now.size / 2, now.size)
                back = _wide(now.halved, x)
                now.x = torch.where(back, now.best, now.x)
                now.gradient = torch.where(back, now.uphill, now.gradient)
                now.loss = torch.where(now.halved, now.highest, now.loss)
                now.rises, now.since = torch.zeros_like(now.rises), 0
                now.highest_then = now.highest.clone()
    return Climb(now.x, now.best)


def checkpoints(steps: int) -> set[int]:
    """After how many of the steps APGD looks: p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06), from 0 and 0.22."""
    shares = [0, FIRST_LOOK]
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - LESS, LEAST))
    return {math.ceil(share * steps / 100) for share in shares[1:] if share <= 100}


def _better(best: Tensor, highest: Tensor, x: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    higher = loss > highest
    return torch.where(_wide(higher, x), x, best), torch.where(higher, loss, highest)


def _wide(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (x.dim() - 1))
