"""Membership: how well a score tells the images that a target was trained on from others of their distribution.

Every function takes ``members``, bool [N], True where the target was trained on the image, and a number per image.
They measure one signal at a time: the best of several signals is an optimistic pick, of any of these numbers.
"""

import math

import numpy as np
from scipy import optimize, special, stats

from audit.metrics.arrays import Array, as_numpy, same_length
from audit.metrics.statistics import CONFIDENCE, proportion, wilson, without_value
from audit.records import Direction, Measurement

LEAST_IMAGES = 10
MORE_LEAKAGE: Direction = "higher means more leakage"
# 0.001 * 1000 is 1 in decimals and may be less in binary.
ROUND_OFF = 1e-9


def auc(name: str, scores: Array, members: Array) -> Measurement:
    """P(score of a member > score of a non-member), a tie counting one half: the area under the ROC curve.

    ``scores`` float [N], higher means 'was trained on'. In [0, 1]; 0.5 is chance, and well below it a signal that
    points the wrong way, which is leakage too. ``n`` is N.
    The interval is DeLong's on the logit scale. Where no variance is left, at 0 or 1, it is Newcombe's, which does
    not collapse to a point. Both take the images as independent draws of members and of non-members, given the target:
    what another training run would give is not in it.

    - fewer than 10 members or non-members: 'insufficient'.
    - a score that is not finite, or the same score for every image: 'undefined'. A signal that is mute would look like
      a target that is private.

    Raises ValueError for other shapes or types, or different lengths.
    Source: DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988), by ranks as in Sun and Xu, IEEE SPL 21 (2014);
    Newcombe, Statistics in Medicine 25 (2006), method 5.
    """
    inside, outside = _sides(scores, members)
    if missing := _missing(name, "fraction", inside, outside, LEAST_IMAGES):
        return missing
    beaten, beaten_by = _placements(inside, outside)
    area = float(beaten.mean())
    variance = float(beaten.var(ddof=1) / len(inside) + beaten_by.var(ddof=1) / len(outside))
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    if 0 < area < 1 and variance > 0:
        half = z * math.sqrt(variance) / (area * (1 - area))
        low, high = (float(special.expit(special.logit(area) + end)) for end in (-half, half))
        method = "DeLong"
    else:
        reach = _newcombe(len(inside), len(outside), z)
        low, high = (1 - reach, 1.0) if area == 1 else (0.0, reach)
        method = "Newcombe"
    return Measurement(
        name=name,
        value=area,
        low=low,
        high=high,
        interval=f"{method} {100 * CONFIDENCE:g} %",
        n=len(inside) + len(outside),
        unit="fraction",
        direction=MORE_LEAKAGE,
        reason=None,
    )


def true_positive_rate(name: str, scores: Array, members: Array, false_positive_rate: float) -> Measurement:
    """The fraction of members whose score is above all but ``false_positive_rate`` of the non-members' scores.

    ``scores`` float [N], higher means 'was trained on'. With k = floor(rate * non-members), the threshold is the
    (k + 1)-th largest score of a non-member and only what lies above it is called a member: of tied scores none is, so
    that no more than k non-members ever are. In [0, 1]; chance is ``false_positive_rate``. ``n`` counts the members.

    The Wilson interval is that of the members at this threshold. The threshold comes from the same non-members that
    it is judged by, so its false positive rate on others is not ``false_positive_rate`` but, at worst, what the reason
    says: an order statistic, Beta(k + 1, non-members - k) for scores without ties, and less with them.

    - fewer than 1 / ``false_positive_rate`` non-members: 'insufficient', k would be 0; so are no members at all.
    - a score that is not finite, or the same score for every image: 'undefined'.

    Raises ValueError for other shapes or types, different lengths, or a rate outside (0, 1).
    Source: Carlini et al., "Membership inference attacks from first principles", IEEE S&P 2022.
    """
    if not 0 < false_positive_rate < 1:
        raise ValueError(f"false_positive_rate must lie between 0 and 1, not {false_positive_rate}")
    inside, outside = _sides(scores, members)
    if missing := _missing(name, "fraction", inside, outside, 1):
        return missing.model_copy(update={"n": len(inside)})
    allowed = math.floor(false_positive_rate * len(outside) + ROUND_OFF)
    if allowed < 1:
        least = math.ceil(1 / false_positive_rate - ROUND_OFF)
        why = f"{len(outside)} non-members; a false positive rate of {false_positive_rate:g} needs at least {least}"
        return without_value(name, len(inside), "fraction", MORE_LEAKAGE, "insufficient", why)
    threshold = np.sort(outside)[-1 - allowed]
    worst = float(stats.beta.ppf(CONFIDENCE, allowed + 1, len(outside) - allowed))
    why = (
        f"the threshold comes from the same {len(outside)} non-members: its false positive rate on others is "
        f"below {worst:.2g} with {100 * CONFIDENCE:g} % confidence"
    )
    return proportion(name, int((inside > threshold).sum()), len(inside), MORE_LEAKAGE, reason=why)


def train_test_gap(name: str, correct: Array, members: Array) -> Measurement:
    """The target's accuracy on members minus that on non-members, in [-1, 1]: print it beside every membership number.

    ``correct`` bool [N]: whether the target gives the image its label. ``n`` is N. Without a gap most signals have
    nothing to see, and a target that never learnt has none. The 95 % interval is Newcombe's hybrid of two Wilson
    intervals. No members or no non-members: 'insufficient'.
    Raises ValueError for other shapes or types, or different lengths.
    Source: Yeom et al., IEEE CSF 2018; Newcombe, Statistics in Medicine 17 (1998), method 10.
    """
    right, trained = _flags(correct, "correct"), _flags(members, "members")
    same_length(right, trained, "correct and members")
    counts = [int(trained.sum()), int((~trained).sum())]
    if min(counts) == 0:
        why = f"{counts[0]} members and {counts[1]} non-members; needs both"
        return without_value(name, len(right), "fraction", MORE_LEAKAGE, "insufficient", why)
    hits = [int(right[trained].sum()), int(right[~trained].sum())]
    (first, second), (one, other) = np.divide(hits, counts), map(wilson, hits, counts)
    return Measurement(
        name=name,
        value=float(first - second),
        low=float(first - second - math.hypot(first - one[0], other[1] - second)),
        high=float(first - second + math.hypot(one[1] - first, second - other[0])),
        interval=f"Newcombe {100 * CONFIDENCE:g} %",
        n=len(right),
        unit="fraction",
        direction=MORE_LEAKAGE,
        reason=None,
    )


def epsilon_lower_bound(
    name: str, scores: Array, members: Array, delta: float = 1e-5, confidence: float = CONFIDENCE, seed: int = 0
) -> Measurement:
    """The largest epsilon >= 0 that the scores refute (epsilon, ``delta``)-indistinguishability below, in nats.

    ``scores`` float [N]. (epsilon, delta)-differential privacy would give every event A on the output
    P(A | in) <= e^epsilon P(A | out) + delta, and the same with in and out exchanged, so that
    epsilon >= ln((P(A | in) - delta) / P(A | out)). The event, a threshold with its side and which group stands above
    the fraction, is chosen on a random half of the members and of the non-members (``seed``). The other half says
    what it is worth: a Clopper-Pearson lower limit above an upper one, each at (1 + ``confidence``) / 2. The choice
    costs no validity; the best of all thresholds on the same images would "find" leakage where there is none.

    What it means: with ``confidence``, images drawn from this target's members and images drawn from the non-members
    are at least so far apart under this score. 0 is no finding, and no proof of privacy: the reason says how much
    could have been shown at all with so many images. ``n`` is N.
    What it does not mean: the members are those of one training run, fixed, and no image was included by the toss of
    a coin. It bounds the epsilon of the training procedure only where (1) who is a member was drawn at random from the
    same images, and (2) each image's score depends on its own membership and not on the others', as it does over
    models trained independently (Jagielski) and only roughly within one. Both are assumptions; neither is checked.

    - too few images for any outcome to give a bound above 0: 'insufficient', with the counts.
    - a score that is not finite, or the same score for every image: 'undefined'.

    Raises ValueError for other shapes or types, different lengths, a delta outside [0, 1), or a confidence outside
    (0, 1). Source: Jagielski, Ullman, Oprea, NeurIPS 2020; Nasr et al., USENIX Security 2023.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta must lie in [0, 1), not {delta}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    inside, outside = _sides(scores, members)
    if missing := _missing(name, "nats", inside, outside, 1):
        return missing
    draw = np.random.default_rng(seed)
    halves = [np.array_split(draw.permutation(side), 2) for side in (inside, outside)]
    (judged_inside, chosen_inside), (judged_outside, chosen_outside) = halves
    judged, chosen = (judged_inside, judged_outside), (chosen_inside, chosen_outside)
    level, sizes = (1 + confidence) / 2, [len(side) for side in judged]
    most = max(
        float(_refuted(_limits(top, top, level)[0], _limits(0, bottom, level)[1], delta))
        for top, bottom in (sizes, sizes[::-1])
    )
    counts = f"{sizes[0]} members and {sizes[1]} non-members to judge by"
    if not most > 0:
        why = f"{counts}: no outcome would give a bound above 0"
        return without_value(name, len(inside) + len(outside), "nats", MORE_LEAKAGE, "insufficient", why)
    values = np.unique(np.concatenate(chosen))
    thresholds = (values[1:] + values[:-1]) / 2  # between the scores: those of the other half fall beside them
    bound = 0.0
    if len(thresholds):
        kind, index = np.divmod(_bounds(thresholds, chosen, level, delta).argmax(), len(thresholds))
        bound = float(_bounds(thresholds[[index]], judged, level, delta)[kind, 0])
    return Measurement(
        name=name,
        value=max(0.0, bound),
        interval=f"one-sided {100 * confidence:g} % lower bound: Clopper-Pearson, the event chosen on another half",
        n=len(inside) + len(outside),
        unit="nats",
        direction=MORE_LEAKAGE,
        reason=f"{counts}: at most {most:.2g} can be shown; about the training only if membership was random",
    )


Halves = tuple[np.ndarray, np.ndarray]
"""Scores of members and of non-members."""


def _bounds(thresholds: np.ndarray, halves: Halves, level: float, delta: float) -> np.ndarray:
    """What each of T thresholds shows, [4, T]: by the scores up to it or above it, with either group on top."""
    counts = [np.searchsorted(np.sort(side), thresholds, side="right") for side in halves]
    below = [_limits(count, len(side), level) for side, count in zip(halves, counts, strict=True)]
    above = [(1 - high, 1 - low) for low, high in below]
    pairs = [pair for limits in (below, above) for pair in (limits, limits[::-1])]
    return np.stack([_refuted(top[0], bottom[1], delta) for top, bottom in pairs])


def _refuted(top_low: np.ndarray, bottom_high: np.ndarray, delta: float) -> np.ndarray:
    """ln((P - delta) / Q), -inf where nothing is left of P."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(top_low - delta, 0)) - np.log(bottom_high)


def _limits(successes: np.ndarray | int, n: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's (Biometrika 26, 1934) lower and upper limit, each one-sided at ``level``."""
    k = np.asarray(successes)
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - k + 1, 1 - level), 0.0)
    high = np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, 1), level), 1.0)
    return low, high


def _placements(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each member, the share of non-members below it; of each non-member, the share of members above it."""
    ranks = stats.rankdata(np.concatenate([inside, outside]))
    m, n = len(inside), len(outside)
    return (ranks[:m] - stats.rankdata(inside)) / n, 1 - (ranks[m:] - stats.rankdata(outside)) / m


def _newcombe(m: int, n: int, z: float) -> float:
    """How far from 0 or 1 the true area may lie where the observed one is there, for exponential scores."""

    def surplus(truth: float) -> float:
        spread = (1 - truth) / (2 - truth) + truth / (1 + truth)
        variance = truth * (1 - truth) * (1 + ((m + n) / 2 - 1) * spread) / (m * n)
        return truth - z * math.sqrt(variance)

    return float(optimize.brentq(surplus, ROUND_OFF, 1 - ROUND_OFF))


def _sides(scores: Array, members: Array) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the members and of the non-members, float64."""
    values, trained = as_numpy(scores).astype(np.float64), _flags(members, "members")
    if values.ndim != 1:
        raise ValueError(f"scores must have the shape [N], not {list(values.shape)}")
    same_length(values, trained, "scores and members")
    return values[trained], values[~trained]


def _flags(values: Array, what: str) -> np.ndarray:
    flags = as_numpy(values)
    if flags.ndim != 1:
        raise ValueError(f"{what} must have the shape [N], not {list(flags.shape)}")
    if flags.size and flags.dtype != np.bool_:
        raise ValueError(f"{what} must be booleans, not {flags.dtype}")
    return flags.astype(bool)


def _missing(name: str, unit: str, inside: np.ndarray, outside: np.ndarray, least: int) -> Measurement | None:
    """The measurement that says why there is no number, where there is none."""
    scores = np.concatenate([inside, outside])
    if min(len(inside), len(outside)) < least:
        why = f"{len(inside)} members and {len(outside)} non-members; needs at least {least} of each"
        return without_value(name, len(scores), unit, MORE_LEAKAGE, "insufficient", why)
    if broken := int((~np.isfinite(scores)).sum()):
        why = f"{broken} of {len(scores)} images have a score that is not finite"
        return without_value(name, len(scores), unit, MORE_LEAKAGE, "undefined", why)
    if scores.min() == scores.max():
        return without_value(
            name, len(scores), unit, MORE_LEAKAGE, "undefined", "every image has the same score: the signal is mute"
        )
    return None
