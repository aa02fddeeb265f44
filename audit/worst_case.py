"""The attack that a target is ranked by: chosen on some seeds, reported on the others. Needs records only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.records import AttackResult, DefenseResult, Measurement
from audit.suites import SUITES

DISTANCE = "FD, evaluator features"
REAL_DISTANCE = "FD of as many real images, evaluator features"
# By how much the worst attacks of single seeds may leak more than the reported one before the latter is a lower bound:
# the noise of five attacks of one kind makes up to 0.06 of it (0.02 on digits, 0.06 on CIFAR-10).
CHOICE = 0.1
# Of a target that spikes, an attack of a suite can only be left out where there is no gradient to follow.
BLIND = "no-input-gradient"


@dataclass(frozen=True)
class WorstCase:
    """Per seed the attack that leaks most on the other seeds; empty where no attack has a leakage under every seed.

    ``leakages``: what these attacks leak on the seed itself. ``lost``: attacks that have a leakage, but not under every
    seed; ``why``: the first of them without. ``doubts``: why the target may leak more than what is reported.
    """

    attacks: tuple[str, ...]
    leakages: tuple[Measurement, ...]
    lost: tuple[str, ...]
    why: Measurement | None
    doubts: tuple[str, ...] = ()

    @property
    def at_least(self) -> bool:
        """Whether what is reported is a lower bound, that gives no rank."""
        return bool(self.doubts)


def worst_case(defenses: Sequence[DefenseResult | None]) -> WorstCase:
    """``defenses``: one target under each seed, None where a seed lacks it.

    With one seed there is no other: the attack is chosen and reported on the same one.
    """
    found = {
        attack: [_leakage(defense, attack) for defense in defenses]
        for attack in dict.fromkeys(a.attack for d in defenses if d for a in d.attacks if a.leakage is not None)
    }
    values = {
        attack: [leakage.value for leakage in leakages if leakage is not None and leakage.value is not None]
        for attack, leakages in found.items()
    }
    usable = {attack: known for attack, known in values.items() if len(known) == len(defenses)}
    lost = tuple(attack for attack in found if attack not in usable)
    why = next((m for attack in lost for m in found[attack] if m is not None and m.value is None), None)
    attacks: list[str] = []
    for place in range(len(defenses) if usable else 0):
        others = [i for i in range(len(defenses)) if i != place] or [place]
        attacks.append(max(usable, key=lambda attack: sum(usable[attack][i] for i in others)))
    leakages = [found[attack][place] for place, attack in enumerate(attacks)]
    reported = [m.value for m in leakages if m is not None and m.value is not None]
    mean = sum(reported) / len(reported) if reported else 0.0
    doubts = (*_doubts(found, values, usable, mean), *_left_out(defenses))
    return WorstCase(tuple(attacks), tuple(m for m in leakages if m is not None), lost, why, doubts)


def _doubts(
    found: Mapping[str, Sequence[Measurement | None]],
    values: Mapping[str, Sequence[float]],
    usable: Mapping[str, Sequence[float]],
    mean: float,
) -> Iterator[str]:
    for attack, known in values.items():
        if attack not in usable and max(known, default=0.0) > mean:
            yield f"{attack} leaks more where it has a value"
        elif any(m is not None and m.status in ("failed", "timed-out", "undefined") for m in found[attack]):
            yield f"{attack} came to no result under every seed"
    if usable:
        worst = [max(seed) for seed in zip(*usable.values(), strict=True)]
        if (most := sum(worst) / len(worst)) > mean + CHOICE:
            yield f"another attack is the worst under every seed: the worst of each leak {100 * most:.1f} % on average"


def _left_out(defenses: Sequence[DefenseResult | None]) -> Iterator[str]:
    """Attacks of suites that a spiking target is said to be out of reach of, though its gradient is there."""
    labels = {entry.label for suite in SUITES.values() for entry in suite.entries}
    absent = dict.fromkeys(
        attack.attack
        for defense in defenses
        if defense is not None and defense.time_steps is not None and BLIND not in defense.flags
        for attack in defense.attacks
        if attack.status == "not-applicable" and attack.evidence == "images" and attack.attack in labels
    )
    return (f"{attack} was not run on it" for attack in absent)


def find_attack(defense: DefenseResult | None, attack: str) -> AttackResult | None:
    return next((a for a in defense.attacks if a.attack == attack), None) if defense else None


def measurement(attack: AttackResult | None, name: str) -> Measurement | None:
    """The attack's measurement of that name."""
    return next((m for m in attack.measurements if m.name == name), None) if attack else None


def _leakage(defense: DefenseResult | None, attack: str) -> Measurement | None:
    result = find_attack(defense, attack)
    return result.leakage if result else None
