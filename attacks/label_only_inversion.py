"""Inversion by labels alone: away from the decision boundary."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from audit.contracts import Access, AttackContext, Oracle, Reconstructions
from audit.networks.ascent import Positive
from audit.networks.perturbations import (
    CHECKS,
    Count,
    Curve,
    Queries,
    Share,
    checkpoints,
    grid_at,
    low_frequency,
    smooth_noise,
    source,
    unit_rms,
)
from audit.registry import register_attack

# The deviation of an image that is half black and half white: no image in the input range has a larger one.
LARGEST_RADIUS = 0.5


@dataclass(frozen=True)
class LabelOnlyInversion(Queries):
    """Moves an image of the class away from the boundary, further and further (BREP-MI, Kahla et al., CVPR 2022).

    Access: the target's classes. The paper works in a generator's latent space; here it is the image under smooth
    noise, so that nothing public is needed. Starts are searched among random smooth images, with at most
    ``search_share`` of the budget, in one pool for all classes. Then, per round, ``points`` on a sphere of radius r
    around the image: where ``inside_share`` of them have its label (all of them in the paper, but a random target's
    answers never all agree), r grows by ``growth``, to 0.5 at most; where some have, the image moves by ``step`` times
    r from the others towards these, if it keeps its label there; where none has, r shrinks. ``radius`` is the first r,
    an RMS in units of the input range. Images of a class that was never found stay as they started, and are counted.
    Budget: `Queries`, the mean over all images.
    """

    access: ClassVar[Access] = Access.LABELS

    search_share: Share = 0.25
    points: Count = 32
    radius: Positive = 0.2
    inside_share: Share = 0.9
    growth: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 1.2
    step: Positive = 0.33
    finest_grid: Count = 8

    def reconstruct(self, target: Oracle, context: AttackContext) -> Reconstructions:
        labels = torch.arange(len(context.task.classes)).repeat(self.images_per_class)
        share, radius = Curve(), Curve()
        x, found = self._search(target, labels, context, share)
        searched = -(-target.queries // len(labels))
        share.add(searched, found)
        left = self.queries_per_image - searched - len(CHECKS)
        points = min(self.points, left - 1)
        rounds = left // (points + 1)
        times: set[int] = set()
        batches = _where(found).split(max(1, self.queries_per_call // points)) if found.any() else ()
        for n, batch in enumerate(batches):
            seen = self._repel(target, x[batch], labels[batch], points, rounds, context, n)
            x[batch] = seen[-1][1] if seen else x[batch]
            for spent, _, kept, r in seen:
                share.add(searched + spent, kept)
                radius.add(searched + spent, r)
                times.add(searched + spent)
        for spent in times:
            share.add(spent, found[~found])
        low, high = context.task.input_range
        context.notes["queries"] = target.queries
        context.notes["queries per image"] = target.queries / len(labels)
        context.notes["share labelled with the class by queries"] = share.points()
        context.notes["radius by queries, share of the range"] = radius.points()
        context.notes["classes never found"] = [context.task.classes[c] for c in labels[~found].unique().tolist()]
        context.notes["images returned as they started"] = int((~found).sum())
        return Reconstructions(x * (high - low) + low, labels)

    def _search(self, target: Oracle, labels: Tensor, context: AttackContext, share: Curve) -> tuple[Tensor, Tensor]:
        """Images in [0, 1] to start from, and which of them are of a class that was found."""
        noise, shape = source(context.seed, "search"), context.task.image_shape
        drawn = low_frequency(len(labels), shape, noise)
        answers = _labels(target, drawn, context)
        x, found = drawn.clone(), answers == labels
        share.add(1, found)
        _take(x, found, drawn, answers, labels)
        budget = int(self.search_share * (self.queries_per_image - len(CHECKS) - 2)) * len(labels)
        calls = max(0, -(-(budget - target.queries) // self.queries_per_call))
        with context.monitor.loop("search for starts", calls, x=x, found=found, noise=noise, target=target) as loop:
            for _ in loop:
                if found.all():
                    break
                drawn = low_frequency(min(self.queries_per_call, budget - target.queries), shape, noise)
                _take(x, found, drawn, _labels(target, drawn, context), labels)
        for c in labels[~found].unique():
            # Too few starts: images share one, and part by the noise that each is moved by.
            some, wanting = _where((labels == c) & found), _where((labels == c) & ~found)
            if len(some):
                x[wanting] = x[some[torch.arange(len(wanting)) % len(some)]]
                found[wanting] = True
        return x, found

    def _repel(
        self, target: Oracle, x: Tensor, labels: Tensor, points: int, rounds: int, context: AttackContext, index: int
    ) -> list[tuple[int, Tensor, Tensor, Tensor]]:
        """At each look: queries per image, images, whether each has its label, and its radius."""
        noise, shape = source(context.seed, "sphere", index), context.task.image_shape
        look = checkpoints(rounds) - {0}
        state = {"x": x, "r": torch.full((len(x), 1, 1, 1), self.radius), "spent": 0, "seen": []}
        with context.monitor.loop("attack rounds, labels only", rounds, noise=noise, target=target, **state) as loop:
            for n in loop:
                n, x, r = n + 1, loop.x, loop.r
                grid = grid_at(n / rounds, self.coarsest_grid, self.finest_grid)
                u = smooth_noise(len(x) * points, shape, grid, noise).view(len(x), points, *shape)
                sphere = (x[:, None] + r[:, None] * u).clamp(0, 1).flatten(0, 1)
                inside = (_labels(target, sphere, context).view(len(x), points) == labels[:, None]).float()
                mean = inside.mean(1, keepdim=True)
                # Less their mean, the signs estimate the direction with less variance (HopSkipJump, Chen 2020).
                away = ((inside - mean).view(len(x), points, 1, 1, 1) * u).mean(1)
                moved = (x + self.step * r * unit_rms(away)).clamp(0, 1)
                kept = (mean[:, 0] > 0) & (mean[:, 0] < 1)
                if kept.any():
                    kept[kept.clone()] = _labels(target, moved[kept], context) == labels[kept]
                loop.x = x = torch.where(kept.view(-1, 1, 1, 1), moved, x)
                r = r * self.growth ** ((mean >= self.inside_share).float() - (mean == 0).float()).view(-1, 1, 1, 1)
                loop.r = r = r.clamp(max=LARGEST_RADIUS)
                loop.spent += points + 1
                if n in look:
                    loop.spent += 1
                    loop.seen.append((loop.spent, x, _labels(target, x, context) == labels, r.flatten()))
        seen: list[tuple[int, Tensor, Tensor, Tensor]] = loop.seen
        return seen


def _take(x: Tensor, found: Tensor, drawn: Tensor, answers: Tensor, labels: Tensor) -> None:
    """Into ``x``, as starts of the classes that are still not ``found``, what is ``drawn`` and answered with them."""
    for c in labels[~found].unique():
        wanting = _where((labels == c) & ~found)
        fitting = _where(answers == c)[: len(wanting)]
        x[wanting[: len(fitting)]] = drawn[fitting]
        found[wanting[: len(fitting)]] = True


def _where(mask: Tensor) -> Tensor:
    return torch.nonzero(mask)[:, 0]


def _labels(target: Oracle, x: Tensor, context: AttackContext) -> Tensor:
    """The target's classes of images in [0, 1], on the CPU."""
    low, high = context.task.input_range
    return target((x * (high - low) + low).to(context.device)).cpu()


register_attack("label-only-inversion", LabelOnlyInversion)
