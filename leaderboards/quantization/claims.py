"""What the quantisation paper concludes in words, each answered by the networks that were measured."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from scipy.special import stdtrit

from audit.suites import STRENGTHS
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words
from leaderboards.paper.measured import finished
from leaderboards.quantization.measured import BEFORE, CODINGS, Measured, not_run, paper_column, read, remarks, subject
from leaderboards.quantization.published import Published
from leaderboards.robustness import CLEAN_SPIKES, LOSS, Target, variation

AFTER = "Q2"
# Of sparsity, in the paper's order: what its value is of a network, and how a sparser one's stands to another's.
THRESHOLD, BITS, CODING = "a higher threshold", "fewer bits", "a sparser coding"
DEFINED = (
    "Answers: 'confirmed' and 'not confirmed' where the two intervals are apart; 'not separated' where they are not. "
    "A mean of accuracy losses has the mean of their intervals' ends as its own, since all are of the same images; a "
    "sum of ranges has what the widest intervals leave possible.",
    "The paper does not say how the influence of a factor was computed. Here: of every two measured networks that "
    "differ in that factor alone (thresholds and bits: all pairs; coding: direct and another one), how much the "
    "accuracy loss to FGSM changes from the denser to the sparser, as a mean over the three strengths; its size and "
    "its sign, with a Student t 95 % interval over the pairs, which share networks and are not independent.",
)


@dataclass(frozen=True)
class Side:
    """What is compared, and its value."""

    name: str
    number: Number


def claims(found: Measured, paper: Published) -> Table:
    """A row for each claim, stage and strength; what the runs at hand cannot answer says so."""
    rows = [
        row
        for claim in (_direct_is_worst, _variation_grows, _order_of_influence, _sparser_is_more_robust)
        for row in claim(found, paper)
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
    below = remarks(found, paper, paper.table_2.network, paper.claims.source, (*paper.claims.notes, *DEFINED))
    return finished("quantization-claims", title, columns, rows, Footnotes(), below)


def _direct_is_worst(found: Measured, paper: Published) -> Iterator[tuple[Cell, ...]]:
    said = "direct coding is the least robust"
    for stage, words in paper.stages.items():
        for name, levels in STRENGTHS.items():
            where = f"loss to FGSM {name}, {words}"
            means = [Side(coding, _mean(_losses(found.all_of(coding, stage), levels))) for coding in CODINGS]
            known = [side for side in means[1:] if side.number.value is not None]
            if means[0].number.value is None or not known:
                yield _unknown(said, where, "yes")
                continue
            other = max(known, key=lambda side: side.number.value or 0)
            yield _compared(said, where, "yes", means[0], other)


def _variation_grows(found: Measured, paper: Published) -> Iterator[tuple[Cell, ...]]:
    """Sums over codings and strengths of the largest minus the smallest over the parameter sets."""
    said = "quantisation widens the variation over parameters"
    bits = sorted({target.bits for coding in CODINGS for target in found.all_of(coding, AFTER)}, reverse=True)
    losses: tuple[Callable[[Target], Cell], ...] = tuple(
        lambda target, levels=levels: read(target, levels, LOSS)  # type: ignore[misc]
        for levels in STRENGTHS.values()
    )
    spikes = (lambda target: read(target, STRENGTHS["II"], CLEAN_SPIKES),)
    for what, readers, printed in (
        ("of accuracy loss", losses, paper.claims.loss_variation),
        ("of spikes per neuron", spikes, paper.claims.spike_variation),
    ):
        for width in bits or [math.nan]:
            where = what if math.isnan(width) else f"{what}, {width:g} bit"
            sides = [_ranges(found, stage, readers, width) for stage in (AFTER, BEFORE)]
            if any(side is None for side in sides):
                yield _unknown(said, where, f"+{printed:g} %")
                continue
            after, before = (side for side in sides if side is not None)
            row = _compared(said, where, f"+{printed:g} %", Side(AFTER, after), Side(BEFORE, before))
            assert after.value is not None
            grown = f"{after.value / before.value - 1:+.0%}; " if before.value else ""
            answer = row[-1]
            assert isinstance(answer, Words)
            yield (*row[:-1], replace(answer, text=grown + answer.text))


def _ranges(found: Measured, stage: str, readers: Sequence[Callable[[Target], Cell]], width: float) -> Number | None:
    """None where a coding was not run with several parameter sets."""
    ranges: list[Number] = []
    for coding in CODINGS:
        group = [t for t in found.all_of(coding, stage) if stage == BEFORE or t.bits == width]
        if len({target.structure for target in group}) < 2:
            return None
        for reader in readers:
            cells = [reader(target) for target in group]
            ranges.append(variation([cell for cell in cells if isinstance(cell, Number)]))
    if any(one.value is None for one in ranges):
        return None
    total = [math.fsum(getattr(one, part) or 0.0 for one in ranges) for part in ("value", "low", "high")]
    return Number(total[0], ranges[0].unit, total[1], total[2], "sum of the widest 95 % intervals", ranges[0].n)


def _order_of_influence(found: Measured, paper: Published) -> Iterator[tuple[Cell, ...]]:
    said = "threshold > bits > coding in influence"
    sizes = [(name, [abs(change) for change in changes]) for name, changes in _changes(found)]
    for (larger, some), (smaller, others) in combinations(sizes, 2):
        where = f"{larger} > {smaller}"
        if not some or not others:
            yield _unknown(said, where, "yes")
            continue
        yield _compared(said, where, "yes", Side(larger, _over_pairs(some)), Side(smaller, _over_pairs(others)))


def _sparser_is_more_robust(found: Measured, paper: Published) -> Iterator[tuple[Cell, ...]]:
    """What each factor changes, against nothing: a loss that falls is a gain."""
    for name, changes in _changes(found):
        said, where = "what is sparser is more robust", f"change of the loss by {name}"
        if not changes:
            yield _unknown(said, where, "yes")
            continue
        nothing = Number(0.0, "fraction", 0.0, 0.0, "nothing", signed=True)
        yield _compared(said, where, "yes", Side("no change", nothing), Side(name, _over_pairs(changes)), swap=True)


def _changes(found: Measured) -> list[tuple[str, list[float]]]:
    """By factor, the change of the loss from the denser to the sparser of two networks alike in all the rest."""
    networks: list[tuple[float, float, str, tuple[float, ...], float]] = []
    for coding in CODINGS:
        for stage in (BEFORE, AFTER):
            for target in found.all_of(coding, stage):
                losses = [number.value for levels in STRENGTHS.values() for number in _losses([target], levels)]
                if losses and None not in losses:
                    mean = math.fsum(loss for loss in losses if loss is not None) / len(losses)
                    networks.append((target.structure[0], target.bits, coding, target.structure[1:], mean))
    changes: dict[str, list[float]] = {THRESHOLD: [], BITS: [], CODING: []}
    for one, other in combinations(networks, 2):
        differs = [a != b for a, b in zip(one[:4], other[:4], strict=True)]
        if differs == [True, False, False, False]:
            denser, sparser = sorted((one, other), key=lambda network: network[0])
            changes[THRESHOLD].append(sparser[4] - denser[4])
        elif differs == [False, True, False, False]:
            denser, sparser = sorted((one, other), key=lambda network: -network[1])
            changes[BITS].append(sparser[4] - denser[4])
        elif differs == [False, False, True, False] and "direct" in (one[2], other[2]):
            denser, sparser = (one, other) if one[2] == "direct" else (other, one)
            changes[CODING].append(sparser[4] - denser[4])
    return list(changes.items())


def _over_pairs(values: Sequence[float]) -> Number:
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Number(mean, "fraction", interval="one pair", n=1, signed=True)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = float(stdtrit(len(values) - 1, 0.975)) * deviation / math.sqrt(len(values))
    interval = f"Student t 95 % over {len(values)} pairs"
    return Number(mean, "fraction", mean - half, mean + half, interval, len(values), signed=True)


def _losses(targets: Sequence[Target], levels: float) -> list[Number]:
    return [cell for target in targets if isinstance(cell := read(target, levels, LOSS), Number)]


def _mean(numbers: Sequence[Number]) -> Number:
    """Without a value where there is none, or one has none."""
    if not numbers or any(number.value is None for number in numbers):
        return Number.absent("fraction", "not-applicable", "not every network has a value")
    ends: list[float | None] = []
    for part in ("value", "low", "high"):
        values = [getattr(number, part) for number in numbers]
        ends.append(None if None in values else math.fsum(values) / len(values))
    return Number(ends[0], numbers[0].unit, ends[1], ends[2], f"mean of {len(numbers)} intervals", numbers[0].n)


def _compared(said: str, where: str, printed: str, one: Side, other: Side, swap: bool = False) -> tuple[Cell, ...]:
    """The claim holds where ``one`` is the larger; ``swap`` shows the other side first."""
    answer = "not separated"
    if None not in (one.number.low, one.number.high, other.number.low, other.number.high):
        assert one.number.low is not None
        assert other.number.low is not None
        if one.number.low > (other.number.high or 0.0):
            answer = "confirmed"
        elif (one.number.high or 0.0) < other.number.low:
            answer = "not confirmed"
    first, second = (other, one) if swap else (one, other)
    return (
        Words(said),
        Words(where if swap else f"{where}: {first.name}"),
        Words(printed),
        first.number,
        Words(second.name),
        second.number,
        Words(answer),
    )


def _unknown(said: str, where: str, printed: str) -> tuple[Cell, ...]:
    return (Words(said), Words(where), Words(printed), not_run(), Words("-"), not_run(), Words("not answered"))
