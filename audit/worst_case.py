"""The attack that a target is ranked by: chosen on some seeds, reported on the others. Needs records only."""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.records import AttackResult, DefenseResult, Measurement

DISTANCE = "FD, evaluator features"
REAL_DISTANCE = "FD of as many real images, evaluator features"


@dataclass(frozen=True)
class WorstCase:
    """Per seed the attack that leaks most on the other seeds; empty where no attack has a leakage under every seed.

    ``leakages``: what these attacks leak on the seed itself. ``lost``: attacks that have a leakage, but not under every
    seed; ``why``: the first of them without.
    """

    attacks: tuple[str, ...]
    leakages: tuple[Measurement, ...]
    lost: tuple[str, ...]
    why: Measurement | None
    at_least: bool = False
    """A lost attack leaks more, where it has a value, than what is reported; or it never came to an end, and might."""


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
    at_least = any(max(values[attack], default=0.0) > mean or _never_ended(found[attack]) for attack in lost)
    return WorstCase(tuple(attacks), tuple(m for m in leakages if m is not None), lost, why, at_least)


def _never_ended(leakages: Sequence[Measurement | None]) -> bool:
    return all(m is None or m.status in ("failed", "timed-out") for m in leakages)


def find_attack(defense: DefenseResult | None, attack: str) -> AttackResult | None:
    return next((a for a in defense.attacks if a.attack == attack), None) if defense else None


def measurement(attack: AttackResult | None, name: str) -> Measurement | None:
    """The attack's measurement of that name."""
    return next((m for m in attack.measurements if m.name == name), None) if attack else None


def _leakage(defense: DefenseResult | None, attack: str) -> Measurement | None:
    result = find_attack(defense, attack)
    return result.leakage if result else None
