"""Images of a class by optimisation with priors: Adam, total variation, L2, jitter, restarts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from audit.contracts import AttackContext
from audit.networks.ascent import Positive, derived_seed
from audit.networks.perturbations import low_frequency, margin

# Short memories: once the margin is enough, the priors shall not be drowned by what its gradient was.
BETAS = (0.5, 0.9)

Logits = Callable[[Tensor], Tensor]
"""Images [B, C, H, W] in the input range -> logits [B, K], in any scale; differentiable."""


@dataclass(frozen=True)
class Inversion:
    """Settings of an attack by Adam on the pixels, in units of the input range, kept inside it.

    The objective is the margin of the class over the best other one, in units of the logits' spread over the starting
    images, since a spiking network's logits have any scale (max-margin: PLG-MI, Yuan et al., AAAI 2023). Beyond
    ``enough`` it counts no more: what climbs on is a prototype, and the priors decide. ``total_variation`` weighs the
    mean absolute difference of neighbouring pixels, ``l2`` the mean square distance from mid-range, both of images
    scaled to [0, 1]; ``jitter``: random shifts by up to that many pixels.
    """

    images_per_class: Annotated[int, Field(ge=1)] = 30
    updates: Annotated[int, Field(ge=1)] = 150
    rate: Positive = 0.03
    total_variation: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    l2: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    jitter: Annotated[int, Field(ge=0)] = 1
    enough: Positive = 3.0
    batch_size: Annotated[int, Field(ge=1)] = 250


def invert(
    logits_of: Logits,
    labels: Tensor,
    inversion: Inversion,
    context: AttackContext,
    purpose: str,
    draws: torch.Generator | None = None,
) -> tuple[Tensor, list[float]]:
    """An image per entry of ``labels`` [N], each from low-frequency noise, and the mean margin at each update.

    ``purpose`` tells apart the random numbers of several calls; ``draws``: what ``logits_of`` takes its own from.
    Raises ValueError where an image is not finite.
    """
    done: list[Tensor] = []
    margins = torch.zeros(inversion.updates, dtype=torch.float64)
    for number, batch in enumerate(labels.split(inversion.batch_size)):
        generator = torch.Generator().manual_seed(derived_seed(context.seed, purpose, number))
        images, course = _invert(logits_of, batch.to(context.device), inversion, context, generator, draws)
        done.append(images.cpu())
        margins += torch.tensor(course, dtype=torch.float64) * len(batch) / len(labels)
    return torch.cat(done), margins.tolist()


def _invert(
    logits_of: Logits,
    labels: Tensor,
    inversion: Inversion,
    context: AttackContext,
    generator: torch.Generator,
    draws: torch.Generator | None,
) -> tuple[Tensor, list[float]]:
    low, high = context.task.input_range
    unit = low_frequency(len(labels), context.task.image_shape, generator).to(context.device).requires_grad_()
    optimizer = torch.optim.Adam([unit], lr=inversion.rate, betas=BETAS)
    with torch.no_grad():
        spread = spread_of(logits_of(unit * (high - low) + low))
    course: list[float] = []
    state: dict[str, Any] = {"unit": unit, "optimizer": optimizer, "generator": generator, "course": course}
    state |= {} if draws is None else {"draws": draws}
    with context.monitor.loop("attack updates", inversion.updates, **state) as loop:
        for n in loop:
            x = _shifted(unit, inversion.jitter, generator) * (high - low) + low
            margins = margin(logits_of(x).double() / spread, labels).to(unit.dtype)
            loss = -margins.clamp(max=inversion.enough).sum() + len(labels) * (
                inversion.total_variation * total_variation(unit) + inversion.l2 * (unit - 0.5).square().mean()
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                unit.clamp_(0, 1)
            course.append(float(margins.detach().mean()))
            context.monitor.scalar("margin by update", course[-1], n)
    images = unit.detach() * (high - low) + low
    if not torch.isfinite(images).all():
        raise ValueError("diverged: an image has values that are not finite")
    return images, course


def spread_of(logits: Tensor) -> float:
    """Deviation of logits [B, K] around each row's mean, which a softmax does not see; 1 where there is none.

    In double and without a floor: a target may have been scaled by anything that leaves its answers as they are.
    """
    spread = float((logits.double() - logits.double().mean(1, keepdim=True)).std())
    return spread if spread > 0 else 1.0


def total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, rows and columns, in the unit of ``x`` [B, C, H, W]."""
    return x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()


def _shifted(x: Tensor, jitter: int, generator: torch.Generator) -> Tensor:
    if not jitter:
        return x
    rows, columns = (int(torch.randint(-jitter, jitter + 1, (), generator=generator)) for _ in range(2))
    return x.roll((rows, columns), (2, 3))
