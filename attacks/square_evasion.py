"""Evasion by scores alone: the Square attack, the control that needs no gradient."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from audit.contracts import Access, Adversarial, AttackContext, Images, Oracle
from audit.networks.evasion import Bounded, Box
from audit.networks.perturbations import Count, Share, margin, source
from audit.registry import register_attack

# Two answers to one image that differ by more than this share come from a random coder; how many are asked twice.
ROUNDING, PROBES = 1e-3, 4
# Where the side of the squares halves in area, in shares of a budget of 10,000 queries (the paper's, Section 3.1).
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class SquareEvasion(Bounded):
    """Moves random squares to the ends of the bound and keeps what lowers the margin (Andriushchenko, ECCV 2020).

    Access: the target's logits, at most ``queries_per_image`` answers for each image; one that it gets wrong is
    asked about no more. Starts with vertical stripes; the squares cover ``first_share`` of the image at first and half
    of it after each of `HALVINGS`, scaled to the budget. A random coder answers anew each time: what is wrong once is
    asked again, and the mean of the two margins counts; and the best image so far is asked about beside every new one,
    the mean of all its margins counting, so that a lucky answer does not stand against what is tried later. Where this
    does better than the attacks that hold the weights, their gradients are masked.
    """

    access: ClassVar[Access] = Access.SCORES

    queries_per_image: Annotated[int, Field(ge=2)] = 1000
    first_share: Share = 0.3
    batch_size: Count = 500

    def evade(self, target: Oracle, context: AttackContext, images: Images) -> Adversarial:
        x = context.task.normalise(images.pixels.to(context.device))
        labels = images.labels.to(context.device)
        low, high = context.task.input_range
        box = Box(*context.task.around(x, self.epsilon), self.epsilon * (high - low))
        noise = source(context.seed, "squares")
        parts = torch.arange(len(x), device=x.device).split(self.batch_size)
        found = [self._search(target, x[part], labels[part], box.of(part), noise, context) for part in parts]
        context.notes["queries"] = target.queries
        context.notes["queries per image"] = target.queries / len(x)
        return Adversarial(torch.cat(found))

    def _search(
        self, target: Oracle, x: Tensor, labels: Tensor, box: Box, noise: torch.Generator, context: AttackContext
    ) -> Tensor:
        count, _, height, width = x.shape
        stripes = torch.randint(2, (count, x.shape[1], 1, width), generator=noise).to(x) * 2 - 1
        best, least, asked, random = x.clone(), *self._first(target, x, labels)
        spent = asked.clone()  # while `asked` is how many answers `least` is the mean of
        steps = (self.queries_per_image - 1) // (2 if random else 1)
        state = {"best": best, "spent": spent, "least": least, "asked": asked, "noise": noise, "target": target}
        with context.monitor.loop("square, queries", steps, **state) as loop:
            for n in loop:
                standing = ((least >= 0) & (spent < self.queries_per_image)).nonzero()[:, 0]
                if random:
                    standing = standing[spent[standing] + 1 < self.queries_per_image]
                if not len(standing):
                    break
                if random:
                    told = margin(target(best[standing]).float(), labels[standing])
                    least[standing] += (told - least[standing]) / (asked[standing] + 1)
                    asked[standing] += 1
                    spent[standing] += 1
                if n == 0:
                    tried = x[standing] + box.reach * stripes[standing]
                else:
                    side = self._side(n / steps, height, width)
                    tried = _moved(best[standing], x[standing], side, box.reach, noise)
                tried = box.of(standing).inside(tried)
                before = spent[standing]
                margins = self._ask(target, tried, labels, standing, spent)
                better = (margins < least[standing]) | (n == 0)
                kept = standing[better]
                best[kept], least[kept] = tried[better], margins[better]
                asked[kept] = (spent[standing] - before)[better]
        return best

    def _first(self, target: Oracle, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Margins of the images as they are, how many answers each took, and whether the same image got another one.

        Asked twice are those that the target gets wrong, and the first `PROBES`.
        """
        margins = margin(target(x).float(), labels)
        asked = torch.ones(len(x), dtype=torch.int64, device=x.device)
        twice = ((margins < 0) | (torch.arange(len(x), device=x.device) < PROBES)).nonzero()[:, 0]
        again = margin(target(x[twice]).float(), labels[twice])
        changed = (again - margins[twice]).abs() > ROUNDING * again.abs().clamp(min=1)
        margins[twice] = (margins[twice] + again) / 2
        asked[twice] += 1
        return margins, asked, bool(changed.any())

    def _ask(self, target: Oracle, images: Tensor, labels: Tensor, index: Tensor, spent: Tensor) -> Tensor:
        """Margins of ``images``, which are those at ``index``; ``spent`` counts the queries."""
        margins = margin(target(images).float(), labels[index])
        spent[index] += 1
        again = ((margins < 0) & (spent[index] < self.queries_per_image)).nonzero()[:, 0]
        if len(again):
            margins[again] = (margins[again] + margin(target(images[again]).float(), labels[index[again]])) / 2
            spent[index[again]] += 1
        return margins

    def _side(self, progress: float, height: int, width: int) -> int:
        """Of the squares, in pixels: at least 1, at most the image's smaller side."""
        share = self.first_share / 2 ** sum(progress > at for at in HALVINGS)
        return max(1, min(round((share * height * width) ** 0.5), height, width))


def _moved(best: Tensor, x: Tensor, side: int, reach: float, noise: torch.Generator) -> Tensor:
    """``best`` with one square of each image at x +- reach, the sign drawn per channel."""
    count, channels, height, width = best.shape
    rows = torch.randint(height - side + 1, (count, 1), generator=noise) + torch.arange(side)
    columns = torch.randint(width - side + 1, (count, 1), generator=noise) + torch.arange(side)
    signs = (torch.randint(2, (count, channels, 1, 1), generator=noise) * 2 - 1).to(best)
    inside = torch.zeros(count, 1, height, width, dtype=torch.bool)
    inside[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]] = True
    return torch.where(inside.to(best.device), x + reach * signs, best)


register_attack("square-evasion", SquareEvasion)
