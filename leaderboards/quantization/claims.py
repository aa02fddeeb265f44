"""What the quantisation paper concludes in words, each answered by the networks that were measured."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from audit.suites import STRENGTHS
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words, student
from leaderboards.paper.measured import finished
from leaderboards.quantization.grids import ATTACKED_SPIKES
from leaderboards.quantization.measured import CODINGS, NOT_RUN, Measured, paper_column, read, remarks, subject
from leaderboards.quantization.published import Published
from leaderboards.robustness import CLEAN_ACCURACY, CLEAN_SPIKES, LOSS, Target, variation
from leaderboards.tracks import FULL_PRECISION

DIRECT = "direct"
NOTHING = 1e-12  # what a difference of equal losses comes to in floating point
# The paper's factors of sparsity in its order of influence; what makes a network the sparser one by each.
FACTORS: Mapping[str, str] = {"threshold": "a higher threshold", "bits": "fewer bits", "coding": "a sparser coding"}
STRUCTURAL = ("coding", "bits", "firing_threshold", "threshold_scale")
DEFINED = (
    "Answers: 'confirmed' and 'not confirmed' where the two intervals are apart, 'not separated' where they are not or "
    "one has none. Each is given for the accuracy loss and for the share of the clean accuracy that is lost; where the "
    "two differ, both are said. A mean of losses has the mean of their intervals' ends as its own, since all are of "
    "the same images; a sum of ranges has what the widest intervals leave possible. Compared are only networks that "
    "every side has, alike in all settings but the one in question.",
    "The paper does not say how the influence of a factor was computed. Here: of networks alike in all the rest, the "
    "mean accuracy loss to FGSM over the three strengths at the sparsest (the highest threshold; the fewest bits; the "
    "mean of the codings that spike less than direct coding) minus that at the densest; its size and its sign, with a "
    "Student t 95 % interval over these groups. Networks of several bit widths begin with one training: but for the "
    "bits themselves, their mean is one group. All groups share the test images. By FGSM alone: it says nothing of "
    "stronger attacks.",
)


@dataclass(frozen=True)
class Network:
    """What is compared of a target; ``coding`` is the paper's word, ``rest`` every setting but the three factors."""

    target: Target
    coding: str
    bits: float
    threshold: float
    rest: str

    def without(self, factor: str) -> tuple[object, ...]:
        """What it has in common with those that differ in ``factor`` alone."""
        return (self.rest, *(getattr(self, other) for other in FACTORS if other != factor))

    def loss(self, levels: float, relative: bool) -> Number:
        number = read(self.target, levels, LOSS)
        assert isinstance(number, Number)
        if not relative:
            return number
        right = read(self.target, levels, CLEAN_ACCURACY)  # of the attacked images, before the attack
        assert isinstance(right, Number)
        return _scaled(number, 1 / (right.value or 1.0))

    def mean_loss(self, relative: bool) -> float:
        losses = [self.loss(levels, relative).value for levels in STRENGTHS.values()]
        return math.fsum(loss for loss in losses if loss is not None) / len(losses)

    def spikes(self) -> float | None:
        cell = read(self.target, STRENGTHS["II"], CLEAN_SPIKES)
        return cell.value if isinstance(cell, Number) else None


@dataclass(frozen=True)
class Side:
    """What is compared, and its value by the loss and by the share of accuracy."""

    name: str
    loss: Number
    share: Number


def claims(found: Measured, paper: Published) -> Table:
    """A row for each claim, stage and strength; what the runs at hand cannot answer says so."""
    networks, dropped = _networks(found)
    rows = [
        row
        for claim in (_direct_is_worst, _variation_grows, _order_of_influence, _sparser_is_more_robust)
        for row in claim(networks, paper)
    ]
    columns = (
        Column("claim of the paper"),
        Column("of"),
        paper_column("value", paper, found, "%"),
        Column("measured", "measured", "as said", "neutral"),
        Column("against"),
        Column("measured for that", "measured", "as said", "neutral"),
        Column("answer"),
    )
    title = f"Claims of the quantisation paper: {subject(found)}"
    left_out = [f"Left out: {'; '.join(dropped)}."] if dropped else []
    notes = (*paper.claims.notes, *left_out, *DEFINED)
    below = remarks(found, paper, paper.table_2.network, paper.claims.source, notes)
    return finished("quantization-claims", title, columns, rows, Footnotes(), below)


def _networks(found: Measured) -> tuple[list[Network], list[str]]:
    """Those that can be compared, and why others cannot: no value, or too little accuracy to lose any."""
    networks: list[Network] = []
    dropped: list[str] = []
    for word, known in CODINGS.items():
        coder = next((own for own in known if any(target.coding == own for target in found.targets)), None)
        for target in (target for target in found.targets if target.coding == coder):
            own = f"{target.name}, {target.coding} coding, {target.bits:g} bit, threshold {target.structure[0]:g}"
            cells = [read(target, levels, LOSS) for levels in STRENGTHS.values()]
            if any(not isinstance(cell, Number) or cell.value is None for cell in cells):
                dropped.append(f"{own} (no loss at every strength)")
            elif not target.above_chance:
                dropped.append(f"{own} (accuracy not above chance: nothing to lose)")
            else:
                rest = {k: v for k, v in target.first.settings.items() if k not in STRUCTURAL}
                text = json.dumps([target.name, *target.structure[1:], rest], sort_keys=True, default=str)
                networks.append(Network(target, word, target.bits, target.structure[0], text))
    return networks, dropped


def _direct_is_worst(networks: Sequence[Network], paper: Published) -> Iterator[tuple[Cell, ...]]:
    said = "direct coding is the least robust"
    for words, before in zip(paper.stages.values(), (True, False), strict=True):
        own = [network for network in networks if (network.bits == FULL_PRECISION) == before]
        by_coding = {word: {n.without("coding"): n for n in own if n.coding == word} for word in CODINGS}
        common = set.intersection(*(set(group) for group in by_coding.values()))
        for name, levels in STRENGTHS.items():
            where = f"loss to FGSM {name}, {words}"
            if not common:
                yield _unanswered(said, where, "yes")
                continue
            one, *others = [
                Side(word, *(_mean([group[at].loss(levels, share) for at in common]) for share in (False, True)))
                for word, group in by_coding.items()
            ]
            yield _row(
                said, where, "yes", one, max(others, key=lambda side: side.loss.value or 0), _verdict(one, others)
            )


def _variation_grows(networks: Sequence[Network], paper: Published) -> Iterator[tuple[Cell, ...]]:
    """Sums over codings and strengths of the largest minus the smallest over the parameter sets."""
    said = "quantisation widens the variation over parameters"
    for what, column, printed in (
        ("accuracy loss", LOSS, paper.claims.loss_variation),
        ("spikes per neuron under FGSM", ATTACKED_SPIKES, paper.claims.spike_variation),
    ):
        widths = sorted({n.bits for n in networks if n.bits != FULL_PRECISION}, reverse=True)
        for bits in (*widths, *(() if widths else (None,))):
            where = f"variation of {what}" + ("" if bits is None else f", {bits:g} bit")
            codings, sides = ([], None) if bits is None else _ranges(networks, bits, column)
            if sides is None:
                yield _unanswered(said, where, f"+{printed:g} %")
                continue
            where += "" if len(codings) == len(CODINGS) else f", {', '.join(codings)} coding"
            after, before = (Side(name, one, one) for name, one in zip(("quantised", "before"), sides, strict=True))
            grown = f"{(after.loss.value or 0) / before.loss.value - 1:+.0%}; " if before.loss.value else ""
            yield _row(said, where, f"+{printed:g} %", after, before, grown + _verdict(after, [before]))


def _ranges(networks: Sequence[Network], bits: float, column: Column) -> tuple[list[str], tuple[Number, Number] | None]:
    """After and before, over the parameter sets that both have; of the codings, named, that have two of them or more.

    None where no coding has.
    """
    sums: list[list[Number]] = [[], []]
    codings: list[str] = []
    for word in CODINGS:
        by_bits = [
            {(n.threshold, n.rest): n for n in networks if (n.coding, n.bits) == (word, width)}
            for width in (bits, FULL_PRECISION)
        ]
        common = set(by_bits[0]) & set(by_bits[1])
        if len(common) < 2:
            continue
        codings.append(word)
        for group, total in zip(by_bits, sums, strict=True):
            for levels in STRENGTHS.values():
                cells = [read(group[at].target, levels, column) for at in common]
                total.append(variation([cell for cell in cells if isinstance(cell, Number)]))
    if not codings or any(one.value is None for total in sums for one in total):
        return codings, None
    after, before = (_summed(total) for total in sums)
    return codings, (after, before)


def _order_of_influence(networks: Sequence[Network], paper: Published) -> Iterator[tuple[Cell, ...]]:
    said = "threshold > bits > coding in influence"
    for larger, smaller in combinations(FACTORS, 2):
        sides = [
            Side(FACTORS[f], *(_over_groups([abs(c) for c in _changes(networks, f, share)]) for share in (False, True)))
            for f in (larger, smaller)
        ]
        where = f"change of the loss, {larger} > {smaller}"
        if any(side.loss.value is None for side in sides):
            yield _unanswered(said, where, "yes")
            continue
        yield _row(said, where, "yes", sides[0], sides[1], _verdict(sides[0], sides[1:]))


def _sparser_is_more_robust(networks: Sequence[Network], paper: Published) -> Iterator[tuple[Cell, ...]]:
    """What each factor changes, against nothing: a loss that falls is a gain."""
    said = "what is sparser is more robust"
    nothing = Number(0.0, "fraction", 0.0, 0.0, "nothing", signed=True)
    for factor, words in FACTORS.items():
        side = Side(words, *(_over_groups(_changes(networks, factor, share)) for share in (False, True)))
        if side.loss.value is None:
            yield _unanswered(said, f"change of the loss by {words}", "yes")
            continue
        spikes = _changes(networks, factor, of=Network.spikes)
        more = math.fsum(spikes) / len(spikes) if spikes else 0.0
        where = f"change of the loss by {words} ({more:+.2f} spikes per neuron)"
        answer = _verdict(Side("no change", nothing, nothing), [side])
        yield _row(said, where, "yes", side, Side("no change", nothing, nothing), answer if more < 0 else "not sparser")


def _changes(
    networks: Sequence[Network],
    factor: str,
    relative: bool = False,
    of: Callable[[Network], float | None] | None = None,
) -> list[float]:
    """Of every group that differs in ``factor`` alone: at its sparsest minus at its densest."""
    value = of or (lambda network: network.mean_loss(relative))
    groups: dict[tuple[object, ...], list[Network]] = {}
    for network in networks:
        groups.setdefault(network.without(factor), []).append(network)
    changes: dict[tuple[object, ...], list[float]] = {}
    for group in groups.values():
        if factor == "coding":
            ends = _direct_and_sparser(group)
        else:
            ordered = sorted(group, key=lambda n: n.threshold if factor == "threshold" else -n.bits)
            ends = [ordered[:1], ordered[-1:]] if len(group) > 1 else [[], []]
        values = [[v for n in end if (v := value(n)) is not None] for end in ends]
        if all(values):
            dense, sparse = (math.fsum(end) / len(end) for end in values)
            one = group[0]
            trained = (one.rest, factor == "coding" or one.coding, factor == "threshold" or one.threshold)
            changes.setdefault(trained, []).append(sparse - dense)
    return [math.fsum(several) / len(several) for several in changes.values()]


def _direct_and_sparser(group: Sequence[Network]) -> list[list[Network]]:
    """Of one set of parameters: direct coding, and the codings that spike less than it."""
    direct = [network for network in group if network.coding == DIRECT]
    spikes = direct[0].spikes() if direct else None
    others = [n for n in group if n.coding != DIRECT and spikes is not None and (n.spikes() or 0.0) < spikes]
    return [direct, others]


def _over_groups(values: Sequence[float]) -> Number:
    """The mean; with no interval where nothing was seen of how they spread."""
    if not values:
        return Number.absent("fraction", "not-applicable", "not run")
    if len(values) == 1:
        return Number(values[0], "fraction", interval="one group", n=1, signed=True)
    mean, half = student(values)
    if half < NOTHING:
        same = f"the same in all {len(values)} groups"
        return Number(mean, "fraction", interval=same, n=len(values), signed=True)
    interval = f"Student t 95 % over {len(values)} groups"
    return Number(mean, "fraction", mean - half, mean + half, interval, len(values), signed=True)


def _mean(numbers: Sequence[Number]) -> Number:
    total = _summed(numbers)
    return replace(_scaled(total, 1 / len(numbers)), interval=f"mean of {len(numbers)} intervals")


def _summed(numbers: Sequence[Number]) -> Number:
    """Its interval is what the ends of all intervals leave possible; none where one has none."""
    ends: list[float | None] = []
    for part in ("value", "low", "high"):
        values = [getattr(number, part) for number in numbers]
        ends.append(None if None in values else math.fsum(values))
    return Number(ends[0], numbers[0].unit, ends[1], ends[2], f"sum of {len(numbers)} intervals", numbers[0].n)


def _scaled(number: Number, by: float) -> Number:
    value, low, high = (None if end is None else by * end for end in (number.value, number.low, number.high))
    return replace(number, value=value, low=low, high=high)


def _verdict(one: Side, others: Sequence[Side]) -> str:
    """Whether ``one`` is larger than all of ``others``, by the loss and by the share of accuracy."""
    by_loss = _apart(one.loss, [side.loss for side in others])
    by_share = _apart(one.share, [side.share for side in others])
    return by_loss if by_loss == by_share else f"by loss {by_loss}, by share of accuracy {by_share}"


def _apart(one: Number, others: Sequence[Number]) -> str:
    if one.low is None or one.high is None or any(other.low is None or other.high is None for other in others):
        return "not separated"
    if all(one.low > other.high for other in others if other.high is not None):
        return "confirmed"
    return (
        "not confirmed" if any(one.high < other.low for other in others if other.low is not None) else "not separated"
    )


def _row(said: str, where: str, printed: str, one: Side, other: Side, answer: str) -> tuple[Cell, ...]:
    names = Words(f"{where}: {one.name}"), Words(printed), one.loss, Words(other.name), other.loss
    return (Words(said), *names, Words(answer))


def _unanswered(said: str, where: str, printed: str) -> tuple[Cell, ...]:
    nothing = Words(NOT_RUN, missing=True)
    return (Words(said), Words(where), Words(printed), nothing, Words("-"), nothing, Words("not answered"))
