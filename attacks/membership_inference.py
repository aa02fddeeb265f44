"""Membership inference: which of these images was the target trained on?"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor, nn

from audit.contracts import Access, AttackContext, Candidates, Images, MembershipScores
from audit.networks.ascent import derived_seed
from audit.networks.perturbations import source
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

# With fewer shadows their spread on one image says less than their mean spread over all images: LiRA's authors found
# the turning point about there.
SHADOWS_FOR_OWN_VARIANCE = 64
LEAST_DEVIATION = 1e-6
# Of a model's two largest logits, on average, once they are scaled: the answers of an image classifier trained with
# cross-entropy, neither so near that all probabilities are alike nor so far that they round to 0 and 1.
USUAL_GAP = 5.0
POOLED_SIDE = 4


@dataclass(frozen=True)
class MembershipAttack:
    """Scores each candidate by the target's confidence in its label, alone and against shadows of the target.

    Access: the target as it runs, with its number of time-steps in the attacker's hand; of the weights nothing is
    used, and of an `Oracle` or an ANN the signal 'time-steps' is left out. Signals, each higher for a member, with
    p = the softmax probability of the image's label and its log-odds ln p / (1 - p):

    - 'loss': -cross-entropy (Yeom et al., CSF 2018).
    - 'confidence gap': the label's logit minus the largest other.
    - 'time-steps': p, averaged over ``time_points`` equal parts of T (p depends on T: arXiv 2502.13191).
    - 'input dropout': p, averaged over ``masks`` that set a share ``dropout`` of the inputs to 0 (the same; its code
      has 0.01 and 10).
    - 'quantile': the gap minus its ``quantile`` among non-members like this one, regressed on the population (Bertran
      et al., NeurIPS 2023), here by boosted trees on the label, 4x4 pooled pixels and the shadows' logits.
    - 'lira': the log-odds minus their mean over shadows, by their deviation (Carlini et al., S&P 2022, offline).
    - 'rmia': of population images z, the share with LR(x, z) >= ``gamma`` (Zarifzadeh et al., ICML 2024, offline), p(x)
      from the shadows with ``offline_scaling`` for the paper's a. It has steps of 1 / population, and so many ties.

    Every model's logits are first scaled so that its two largest differ by `USUAL_GAP` on average over the population
    images that it was not trained on: whether a target gives sums over T or means is a unit and no privacy, and where
    probabilities round to 0 or 1 for want of it, 'loss' and 'rmia' see nothing.

    Shadow i trains on a random share ``shadow_fraction`` of the population, drawn from ``shadow_seed`` and not from the
    run's: an attacker trains his shadows once. The target and they are asked about ``population_images`` of it; an
    image counts against those shadows only that did not see it. Without shadows, no 'lira' and no 'rmia'. Cost: that of
    ``shadows`` trainings and defenses.
    """

    access: ClassVar[Access] = Access.WEIGHTS

    shadows: Annotated[int, Field(ge=0)] = 4
    shadow_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    shadow_seed: Annotated[int, Field(ge=0)] = 0
    population_images: Annotated[int, Field(ge=2)] = 2000
    gamma: Positive = 1.0
    offline_scaling: Annotated[float, Field(ge=0, le=1)] = 0.3
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.9
    time_points: Count = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.01
    masks: Count = 10
    batch_size: Count = 250

    def score_members(self, target: Any, context: AttackContext, candidates: Candidates) -> MembershipScores:
        images = candidates.images
        if len(candidates.population) < 2:
            raise ValueError(f"{len(candidates.population)} population images; the attacker needs 2 to compare with")
        some = torch.randperm(len(candidates.population), generator=source(self.shadow_seed, "population"))
        some = some[: self.population_images].sort().values
        population = Images(candidates.population.pixels[some], candidates.population.labels[some])
        target = _ready(target, context)
        over_time = self._logits(target, images, context, "candidates", points=self.time_points)
        seen = self._logits(target, population, context, "population")[-1]
        scale = usual_scale(seen)
        context.notes["logits scaled by"] = scale
        over_time, seen = over_time * scale, seen * scale
        own = over_time[-1]
        shadows = self._shadows(context, candidates, some)

        odds = log_odds(own, images.labels)
        scores = {
            "loss": F.logsigmoid(odds),
            "confidence gap": gap(own, images.labels),
            "input dropout": self._under_dropout(target, images, context, scale),
            "quantile": self._above_quantile(own, seen, shadows, images, population, context),
        }
        if len(over_time) > 1:
            scores["time-steps"] = mean_confidence(log_odds(over_time, images.labels))
        else:
            context.notes["time-steps"] = "left out: the target answers for one number of time-steps only"
        if shadows:
            known = shadows.out.any(0)
            out_x, out_z = log_odds(shadows.candidates, images.labels), log_odds(shadows.population, population.labels)
            z = F.logsigmoid(log_odds(seen, population.labels))
            p_out_z = F.logsigmoid(out_z).masked_fill(~shadows.out, -math.inf)
            scores["lira"] = lira(odds, out_x)
            scores["rmia"] = rmia(
                F.logsigmoid(odds), F.logsigmoid(out_x), z[known], p_out_z[:, known], self.gamma, self.offline_scaling
            )
        else:
            why = "no shadows" if candidates.shadow else "no shadows: what made the target is not there"
            context.notes["lira, rmia"] = f"left out, {why}"
        return MembershipScores(scores)

    @torch.no_grad()
    def _logits(
        self, model: Any, images: Images, context: AttackContext, purpose: str, points: int = 1, dropout: float = 0.0
    ) -> Tensor:
        """Float64 [points, N, K] on the CPU; the last is the answer after all T, the only one of what is not spiking.

        Raises ValueError where an answer is not finite.
        """
        generator = torch.Generator(context.device).manual_seed(derived_seed(context.seed, purpose, 0))
        answers: list[Tensor] = []
        batches = images.pixels.split(self.batch_size)
        with context.monitor.loop(purpose, len(batches), generator=generator, answers=answers) as loop:
            for n in loop:
                x = context.task.normalise(batches[n].to(context.device))
                if dropout:
                    x = x * (torch.rand(x.shape, generator=generator, device=x.device) >= dropout)
                if isinstance(model, SpikingNetwork):
                    steps = {max(1, round(model.time_steps * k / points)) for k in range(1, points + 1)}
                    answer = model.outputs_over_time(x, sorted(steps), generator)
                else:
                    answer = model(x)[None]
                answers.append(answer.double().cpu())
        logits = torch.cat(answers, dim=1)
        if broken := int((~logits.isfinite()).any(dim=2).any(dim=0).sum()):
            raise ValueError(f"logits that are not finite for {broken} of {len(images)} images ({purpose})")
        return logits

    def _under_dropout(self, target: Any, images: Images, context: AttackContext, scale: float) -> Tensor:
        masked = []
        for mask in range(self.masks):
            logits = self._logits(target, images, context, f"mask {mask}", dropout=self.dropout)[-1]
            masked.append(log_odds(logits * scale, images.labels))
        return mean_confidence(torch.stack(masked))

    def _shadows(self, context: AttackContext, candidates: Candidates, some: Tensor) -> "Shadows | None":
        """What shadows answer for the candidates and for ``some`` of the population, indices [P]."""
        if not self.shadows or candidates.shadow is None:
            return None
        population, total = candidates.population, len(candidates.population)
        asked = Images(population.pixels[some], population.labels[some])
        size = min(max(1, round(self.shadow_fraction * total)), total - 1)
        on_candidates, on_population, out = [], [], []
        for i in range(self.shadows):
            chosen = torch.randperm(total, generator=source(self.shadow_seed, "shadow images", i))[:size]
            chosen = chosen.sort().values
            shadow = candidates.shadow(i, Images(population.pixels[chosen], population.labels[chosen]))
            shadow = _ready(shadow, context)
            of_candidates = self._logits(shadow, candidates.images, context, f"shadow {i}, candidates")[-1]
            of_population = self._logits(shadow, asked, context, f"shadow {i}, population")[-1]
            unseen = torch.ones(total, dtype=torch.bool).index_fill(0, chosen, False)[some]
            scale = usual_scale(of_population[unseen])
            on_candidates.append(of_candidates * scale)
            on_population.append(of_population * scale)
            out.append(unseen)
        return Shadows(torch.stack(on_candidates), torch.stack(on_population), torch.stack(out))

    def _above_quantile(
        self,
        own: Tensor,
        seen: Tensor,
        shadows: "Shadows | None",
        images: Images,
        population: Images,
        context: AttackContext,
    ) -> Tensor:
        features = [_features(each, own.shape[1], context) for each in (images, population)]
        target_gap = gap(seen, population.labels)
        if shadows:
            # What a shadow says of its own training images is no guide to images that it never saw.
            weight = shadows.out.double()[:, :, None]
            known = shadows.out.any(0)
            mean = (shadows.population * weight).sum(0) / weight.sum(0)
            features = [torch.cat([features[0], shadows.candidates.mean(0)], 1), torch.cat([features[1], mean], 1)]
            features[1], target_gap = features[1][known], target_gap[known]
        model = HistGradientBoostingRegressor(
            loss="quantile",
            quantile=self.quantile,
            # Trees of the default size fit the noise of a few hundred images: of others, too many lie above.
            max_iter=50,
            max_depth=2,
            early_stopping=False,
            random_state=derived_seed(context.seed, "quantile", 0) % 2**32,
        )
        model.fit(features[1].numpy(), target_gap.numpy())
        return gap(own, images.labels) - torch.from_numpy(model.predict(features[0].numpy()))


@dataclass(frozen=True)
class Shadows:
    """Logits of S shadows: on candidates [S, N, K], on the population [S, P, K], and whether each image of the
    population was kept ``out`` of each shadow's training, bool [S, P]."""

    candidates: Tensor
    population: Tensor
    out: Tensor


def usual_scale(logits: Tensor) -> float:
    """The factor by which the two largest of ``logits`` [P, K] differ by `USUAL_GAP` on average, else 1."""
    largest = logits.topk(2, dim=-1).values
    mean = float((largest[:, 0] - largest[:, 1]).mean()) if len(logits) else 0.0
    return USUAL_GAP / mean if mean > 0 else 1.0


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """ln p / (1 - p) of the label's probability p, [..., N] from [..., N, K]: without the round-off of p near 1."""
    own = F.one_hot(labels, logits.shape[-1]).bool()
    return logits.masked_select(own).view(logits.shape[:-1]) - logits.masked_fill(own, -math.inf).logsumexp(-1)


def gap(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the largest other, [N] from [N, K]."""
    own = F.one_hot(labels, logits.shape[-1]).bool()
    return logits[own] - logits.masked_fill(own, -math.inf).amax(-1)


def mean_confidence(odds: Tensor) -> Tensor:
    """Log-odds [N] of the mean probability over the first dimension of log-odds [M, N]."""
    return F.logsigmoid(odds).logsumexp(0) - F.logsigmoid(-odds).logsumexp(0)


def lira(target: Tensor, out: Tensor) -> Tensor:
    """How many deviations the target's log-odds [N] lie above those of shadows that did not train on x, [S, N]."""
    if len(out) >= SHADOWS_FOR_OWN_VARIANCE:
        deviation = out.std(0)
    else:
        deviation = out.var(0).mean().sqrt() if len(out) > 1 else torch.ones(())
    return (target - out.mean(0)) / deviation.clamp(min=LEAST_DEVIATION)


def rmia(x: Tensor, out_x: Tensor, z: Tensor, out_z: Tensor, gamma: float, a: float) -> Tensor:
    """Share of z with (p(x | target) / p(x)) / (p(z | target) / p(z)) >= gamma, in [0, 1], [N]. All arguments are ln p.

    ``x`` [N] and ``z`` [Z] of the target, ``out_x`` [S, N] and ``out_z`` [S, Z] of the shadows, -inf where a shadow
    trained on z. Offline, p = ((1 + a) p_out + 1 - a) / 2: ``a`` = 1 takes a shadow for all there is to know of p, and
    a = 0 assumes p = 1 of every model that trained on the image.
    """

    def ratio(target: Tensor, out: Tensor) -> Tensor:
        p_out = out.logsumexp(0) - out.isfinite().sum(0).double().log()
        inside = torch.full_like(p_out, math.log((1 - a) / 2) if a < 1 else -math.inf)
        return target - torch.logaddexp(p_out + math.log((1 + a) / 2), inside)

    ratio_z = ratio(z, out_z).sort().values
    return torch.searchsorted(ratio_z, ratio(x, out_x) - math.log(gamma), right=True).double() / len(ratio_z)


def _ready(model: Any, context: AttackContext) -> Any:
    return model.to(context.device).eval().requires_grad_(False) if isinstance(model, nn.Module) else model


def _features(images: Images, classes: int, context: AttackContext) -> Tensor:
    """The label, and the image in a few pixels: what is known of an image without asking anybody, [N, D]."""
    small = F.adaptive_avg_pool2d(context.task.normalise(images.pixels), POOLED_SIDE).flatten(1)
    return torch.cat([F.one_hot(images.labels, classes), small], 1).double()


register_attack("membership-inference", MembershipAttack)
