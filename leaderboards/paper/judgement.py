"""Whether a target addresses data leakage and class leakage: the ticks of Tables 1 and 3, out of measurements."""

from dataclasses import dataclass, replace

from audit.records import Record
from audit.worst_case import WorstCase, worst_case
from leaderboards.cells import Footnotes, Number, Words
from leaderboards.leakage import MASKED, flags_of, worst_of
from leaderboards.lookups import seeds_of
from leaderboards.paper.measured import ANN, Targets

ADDRESSED = "addressed"
NOT_ADDRESSED = "not addressed"
UNDECIDED = "undecided"
# Versions of the suite that attacks adaptively: the paper's two scenarios alone decide nothing.
SUITES = "class-leakage-"
DATA = (
    "Data leakage, measured: addressed where the harness handed the defense no object from which a private image can "
    "be reached, undecided where the target was there already."
)


@dataclass(frozen=True)
class Judgement:
    """``class_leakage``: the tick; ``leakage``: of the worst attack, in [0, 1], with what is to be known reading it."""

    class_leakage: Words
    leakage: Number


def rule(threshold: float) -> str:
    """The footnote that says how a tick on class leakage comes about."""
    return (
        f"Class leakage, measured: addressed where the interval of the worst attack's leakage lies wholly below "
        f"{threshold:g} (0: the same attack on an untrained network, 1: real images), not addressed where it lies "
        "wholly above, else undecided. A lower bound (as of a run without the whole suite of attacks), a void cell and "
        f"a value without an interval are never 'addressed'. The threshold "
        f"is ours (--leakage-threshold, here {threshold:g}); the paper judges by eye and by FID."
    )


def data_leakage(targets: Targets) -> Words:
    """By the access that the harness enforced, under every seed."""
    if all(target is None or target.defense == ANN for target in targets):
        return Words("no conversion")
    access = {target.data_access for target in targets if target is not None}
    if "training-images" in access:
        return Words(NOT_ADDRESSED)
    return Words(ADDRESSED if access == {"none"} else UNDECIDED)


def judge(record: Record, targets: Targets, threshold: float) -> Judgement:
    """By the worst attack: for every seed the one that leaks most on the other seeds."""
    worst = worst_case(targets)
    number, _ = worst_of(targets, seeds_of(record), Footnotes())
    doubts = _doubts(record, targets, worst) if number.value is not None else []
    said = [number.reason or "", *_choice(worst), *([f"A lower bound: {'; '.join(doubts)}"] if doubts else [])]
    shown = replace(number, reason=". ".join(part for part in said if part) or None)
    return Judgement(Words(_tick(number, threshold, bool(doubts))), shown)


def _doubts(record: Record, targets: Targets, worst: WorstCase) -> list[str]:
    """Why the target may leak more than its worst attack says."""
    doubts = [*worst.doubts]
    if MASKED in flags_of(targets):
        doubts.append(f"the target is flagged {MASKED}")
    if not any(name.startswith(SUITES) for name in record.suites):
        doubts.append("no suite of adaptive attacks was run as a whole")
    return doubts


def _tick(number: Number, threshold: float, at_least: bool) -> str:
    if number.value is None:
        what = "no attack" if number.status == "not-applicable" else number.status
        return f"{UNDECIDED}: {what}"
    if number.low is None or number.high is None:
        return f"{UNDECIDED}: no interval"
    if number.low > threshold:
        return NOT_ADDRESSED
    if number.high >= threshold:
        return f"{UNDECIDED}: interval across the threshold"
    return f"{UNDECIDED}: a lower bound" if at_least else ADDRESSED


def _choice(worst: WorstCase) -> list[str]:
    said = [f"Worst attack: {', '.join(dict.fromkeys(worst.attacks))}"] if worst.attacks else []
    return [*said, *([f"Without a value under every seed: {', '.join(worst.lost)}"] if worst.lost else [])]
