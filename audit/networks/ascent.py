"""Class representative images by gradient ascent on a logit: what both of PrivateSNN's attacks do to a pixel."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from audit.contracts import AttackContext, Reconstructions

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
StepRule = Literal["auto", "raw", "normalised"]

# A raw ascent is given up where, in its pilot, images moved by less than one of 255 grey levels, or ended with more
# than a tenth of their pixels at a limit of the range.
UNMOVED_LEVELS = 1.0
SATURATED_SHARE = 0.1


@dataclass(frozen=True)
class Ascent:
    """x <- x + rate * gradient, kept in the input range; blurred before every ``blur_every``-th update (0: never).

    ``rule`` 'normalised' divides each image's gradient by its root mean square and uses ``normalised_rate``, in units
    of the input range, instead; weight decay is part of the raw rule only. 'auto' tries one raw image per class first:
    where that moves nothing, diverges or saturates, the rule is 'normalised'. The clamp to the input range is this
    project's, no image being outside it; PrivateSNN's Algorithms 1 and 3 have none.
    """

    updates: int
    rate: float
    rule: StepRule
    normalised_rate: float
    blur_every: int = 0
    blur_sigma: float = 1.0
    weight_decay: float = 0.0
    batch_size: int = 250


@dataclass
class Ascended:
    """Finished images and how they came about."""

    images: Tensor
    gradients_missing: float


Gradient = Callable[[Tensor, Tensor], Tensor]
"""(images [B, C, H, W], classes [B]) -> d logit_class / d image, [B, C, H, W]. One that keeps something from call to
call, or draws random numbers, has ``state_dict`` and ``load_state_dict``."""


def class_images(
    gradient_of: Callable[[], Gradient], per_class: int, ascent: Ascent, context: AttackContext
) -> Reconstructions:
    """``per_class`` images of every class, each from its own U(0, 1) start; what happened goes into the notes.

    ``gradient_of`` makes a fresh gradient function per batch, so that one that keeps state starts anew.
    """
    labels = torch.arange(len(context.task.classes)).repeat(per_class)
    rule = ascent.rule
    if rule == "auto":
        first, seed = labels[: len(context.task.classes)], derived_seed(context.seed, "pilot", 0)
        pilot = _ascend(gradient_of(), first, "raw", ascent, context, seed)
        still = _ascend(_no_gradient, first, "raw", ascent, context, seed)
        trouble = _trouble(pilot, still, context)
        rule = "normalised" if trouble else "raw"
        context.notes["step rule"] = f"normalised: a raw step {trouble}" if trouble else "raw"
    else:
        context.notes["step rule"] = rule
    batches = [
        (derived_seed(context.seed, "start", n), batch) for n, batch in enumerate(labels.split(ascent.batch_size))
    ]
    done = [_ascend(gradient_of(), batch, rule, ascent, context, seed) for seed, batch in batches]
    images = torch.cat([part.images for part in done])
    # Blur and decay alone move an image too: what the gradient did is what differs without it.
    unmoved = torch.cat([_ascend(_no_gradient, batch, rule, ascent, context, seed).images for seed, batch in batches])
    weights = torch.tensor([len(part.images) for part in done], dtype=torch.float64)
    missing = torch.tensor([part.gradients_missing for part in done], dtype=torch.float64)
    context.notes["image moved by, grey levels"] = _levels(images - unmoved, context)
    context.notes["share of updates without a gradient"] = float((weights * missing).sum() / weights.sum())
    return Reconstructions(images, labels)


def _no_gradient(x: Tensor, _: Tensor) -> Tensor:
    return torch.zeros_like(x)


def derived_seed(seed: int, purpose: str, index: int) -> int:
    """A seed of its own for every purpose, so that two runs never share a starting image by an offset."""
    return int.from_bytes(hashlib.sha256(f"{purpose}|{seed}|{index}".encode()).digest()[:7])


def _ascend(
    gradient: Gradient,
    labels: Tensor,
    rule: Literal["raw", "normalised"],
    ascent: Ascent,
    context: AttackContext,
    seed: int,
) -> Ascended:
    low, high = context.task.input_range
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(len(labels), *context.task.image_shape, generator=generator) * (high - low) + low
    x, labels = x.to(context.device), labels.to(context.device)
    state = {"gradient": gradient} if hasattr(gradient, "state_dict") else {}
    with context.monitor.loop(f"attack updates, {rule}", ascent.updates, x=x, missing=0.0, **state) as loop:
        for n in loop:
            x = loop.x
            if ascent.blur_every and (n + 1) % ascent.blur_every == 0:
                x = gaussian_blur(x, kernel_size=2 * round(3 * ascent.blur_sigma) + 1, sigma=ascent.blur_sigma)
            step = gradient(x, labels)
            loop.missing += float((step.flatten(1).abs().amax(1) == 0).double().mean())
            if rule == "raw":
                step = ascent.rate * (step - ascent.weight_decay * x)
            else:
                # In double: the square of a gradient of 1e-23 is 0 in float32.
                rms = step.flatten(1).double().square().mean(1).sqrt().to(step.dtype).view(-1, 1, 1, 1)
                step = ascent.normalised_rate * (high - low) * step / rms.clamp(min=torch.finfo(step.dtype).tiny)
            loop.x = (x + step).clamp(low, high)
    return Ascended(loop.x.cpu(), loop.missing / ascent.updates)


def _trouble(pilot: Ascended, still: Ascended, context: AttackContext) -> str | None:
    low, high = context.task.input_range
    if not torch.isfinite(pilot.images).all():
        return "diverged"
    if (moved := _levels(pilot.images - still.images, context)) < UNMOVED_LEVELS:
        return f"moved the image by {moved:.2g} grey levels"
    saturated = float(((pilot.images <= low) | (pilot.images >= high)).double().mean())
    return f"drove {saturated:.0%} of the pixels to their limits" if saturated > SATURATED_SHARE else None


def _levels(difference: Tensor, context: AttackContext) -> float:
    """Mean absolute difference in 8-bit grey levels."""
    low, high = context.task.input_range
    return float(difference.double().abs().mean() * 255 / (high - low))
