"""Inversion by scores alone: natural evolution strategies on the pixels."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from audit.contracts import Access, AttackContext, Oracle, Reconstructions
from audit.networks.ascent import Positive
from audit.networks.perturbations import (
    CHECKS,
    Count,
    Curve,
    Queries,
    checkpoints,
    grid_at,
    low_frequency,
    margin,
    smooth_noise,
    source,
    unit_rms,
)
from audit.registry import register_attack


@dataclass(frozen=True)
class BlackBoxInversion(Queries):
    """Climbs the class margin along differences of scores (NES: Wierstra 2014; on images: Ilyas 2018, Algorithm 1).

    Access: the target's logits. ``pairs`` antithetic samples x +- ``sigma`` u per update, both in one call; u is noise
    on a lattice that refines from ``coarsest_grid`` to ``finest_grid``, so that the estimate is of the smoothed
    gradient. Differences are divided by their mean size: no step depends on the scale of the logits, which an SNN's
    weights do not fix. ``total_variation`` weighs the smoothness prior against that; ``sigma`` and ``rate``, the RMS
    step of the first update (falling to 0), are in units of the input range. A silent SNN answers the same to
    everything: where no answer has differed yet, the image is drawn anew as smooth noise. Budget: `Queries`.
    """

    access: ClassVar[Access] = Access.SCORES

    pairs: Count = 10
    sigma: Positive = 0.1
    rate: Positive = 0.03
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    total_variation: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1

    def reconstruct(self, target: Oracle, context: AttackContext) -> Reconstructions:
        labels = torch.arange(len(context.task.classes)).repeat(self.images_per_class)
        pairs = min(self.pairs, (self.queries_per_image - len(CHECKS)) // 2)
        confidence, share, silent = Curve(), Curve(), Curve()
        batches = labels.split(max(1, self.queries_per_call // (2 * pairs)))
        images = [
            self._climb(target, batch.to(context.device), pairs, context, n, confidence, share, silent)
            for n, batch in enumerate(batches)
        ]
        context.notes["queries"] = target.queries
        context.notes["queries per image"] = target.queries / len(labels)
        context.notes["target confidence by queries"] = confidence.points()
        context.notes["share labelled with the class by queries"] = share.points()
        context.notes["share of updates without an answer"] = silent.points()[0][1]
        return Reconstructions(torch.cat(images), labels)

    def _climb(
        self,
        target: Oracle,
        labels: Tensor,
        pairs: int,
        context: AttackContext,
        index: int,
        confidence: Curve,
        share: Curve,
        silent: Curve,
    ) -> Tensor:
        low, high = context.task.input_range
        shape, device = context.task.image_shape, context.device
        noise = source(context.seed, "perturbation", index)
        x = torch.rand(len(labels), *shape, generator=source(context.seed, "start", index)).to(device)  # in [0, 1]
        heard = torch.zeros(len(labels), dtype=torch.bool, device=device)
        velocity, unanswered = torch.zeros_like(x), torch.zeros(len(labels), device=device)
        updates = (self.queries_per_image - len(CHECKS)) // (2 * pairs)
        looks, spent = checkpoints(updates), 0

        def ask(units: Tensor) -> Tensor:
            return target(units.clamp(0, 1) * (high - low) + low).float()

        def look(x: Tensor, spent: int) -> None:
            logits = ask(x)
            confidence.add(spent, logits.softmax(1).gather(1, labels[:, None])[:, 0])
            share.add(spent, logits.argmax(1) == labels)

        state = {"x": x, "heard": heard, "velocity": velocity, "unanswered": unanswered, "spent": spent}
        state |= {"noise": noise, "target": target, "confidence": confidence, "share": share}
        with context.monitor.loop("attack updates, black box", updates, **state) as loop:
            for n in loop:
                x, velocity = loop.x, loop.velocity
                if n in looks:
                    look(x, loop.spent)
                    loop.spent += 1
                grid = grid_at(n / updates, self.coarsest_grid, self.finest_grid)
                u = smooth_noise(len(labels) * pairs, shape, grid, noise).to(device).view(len(labels), pairs, *shape)
                both = torch.stack([x[:, None] + self.sigma * u, x[:, None] - self.sigma * u])
                margins = margin(ask(both.flatten(0, 2)), labels[:, None].expand(2, -1, pairs).flatten())
                plus, minus = margins.view(2, len(labels), pairs)
                difference = plus - minus
                answered = difference.abs().sum(1) > 0
                unanswered += ~answered
                size = difference.abs().mean(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
                slope = unit_rms(((difference / size).view(len(labels), pairs, 1, 1, 1) * u).mean(1))
                slope -= self.total_variation * roughness_slope(x)
                steered = self.momentum * velocity + (1 - self.momentum) * slope
                loop.velocity = velocity = torch.where(answered.view(-1, 1, 1, 1), steered, velocity)
                loop.x = x = (x + self.rate * (1 - n / updates) * unit_rms(velocity)).clamp(0, 1)
                heard |= answered
                if not heard.all():
                    x[~heard] = low_frequency(int((~heard).sum()), shape, noise).to(device)
                loop.spent += 2 * pairs
        look(loop.x, loop.spent)
        silent.add(0, unanswered / updates)
        return (loop.x * (high - low) + low).cpu()


def roughness_slope(x: Tensor, softness: float = 0.01) -> Tensor:
    """Gradient of each image's total variation, |d| smoothed below ``softness``; x [N, C, H, W] in [0, 1]."""
    slope = torch.zeros_like(x)
    for dim, edges in ((3, (1, 1)), (2, (0, 0, 1, 1))):
        d = x.diff(dim=dim)
        slope -= F.pad(d / (d.square() + softness**2).sqrt(), edges).diff(dim=dim)
    return slope


register_attack("black-box-inversion", BlackBoxInversion)
