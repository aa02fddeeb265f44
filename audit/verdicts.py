"""What the numbers of one seed mean beside their controls: leakage, void cells, flags. Pure functions on the record."""

from collections.abc import Sequence

from audit.metrics.leakage import leakage
from audit.metrics.statistics import without_value
from audit.records import AttackResult, DefenseResult, Measurement
from audit.worst_case import DISTANCE, REAL_DISTANCE, measurement

RELATIVE = "recognised, relative to real images"
# An attack that does not get this far on the undefended twin says nothing about a defended target.
LEAST_CONTROL = 0.05
# Attacks that do nothing but follow the target's own surrogate gradient.
BY_OWN_GRADIENT = ("direct-inversion",)
BY_TRANSFER = ("reconversion", "adaptive-reconversion")
# Flags that were measured on the target itself, and are not read off its numbers.
MEASURED = ("did-not-beat-its-start",)
# Two leakages nearer than this are the same one, for a flag.
MARGIN = 0.05


def judged(defenses: Sequence[DefenseResult], undefended: str) -> tuple[DefenseResult, ...]:
    """The same results with leakage, void cells and flags.

    ``undefended`` names the positive control among ``defenses``: where an attack does not leak there, its cell on every
    other target is void.
    """
    measured = [_flagged(defense) for defense in leaked(defenses)]
    twin = next((defense for defense in measured if defense.defense == undefended), None)
    return tuple(_voided(defense, twin) for defense in measured)


def leaked(defenses: Sequence[DefenseResult]) -> tuple[DefenseResult, ...]:
    """The same results with the leakage that follows from their measurements, and no cell void.

    Whether a cell is void hangs on what the target stands beside: two runs are compared by what comes before.
    """
    return tuple(_with_leakage(defense) for defense in defenses)


def unjudged(defenses: Sequence[DefenseResult]) -> tuple[DefenseResult, ...]:
    """The same results without what `judged` adds: what is left was measured."""

    def bare(attack: AttackResult) -> AttackResult:
        return attack.model_copy(update={"leakage": None, "flags": tuple(f for f in attack.flags if f in MEASURED)})

    return tuple(d.model_copy(update={"flags": (), "attacks": tuple(map(bare, d.attacks))}) for d in defenses)


def _with_leakage(defense: DefenseResult) -> DefenseResult:
    nulls = {attack.attack: attack for attack in defense.untrained}
    attacks = tuple(
        attack.model_copy(update={"leakage": _leakage(attack, nulls.get(attack.attack))}) for attack in defense.attacks
    )
    return defense.model_copy(update={"attacks": attacks})


def _leakage(attack: AttackResult, null: AttackResult | None) -> Measurement | None:
    if attack.evidence != "images" or attack.status == "not-applicable":
        return None
    found = measurement(attack, DISTANCE)
    if found is None:
        reason = attack.reason or "no reason recorded"
        return without_value("leakage", 0, "fraction", "higher means more leakage", attack.status, reason)
    nothing = without_value("", 0, "distance", "lower means more leakage", "undefined", "was not measured")
    beside = measurement(null, DISTANCE) or _failure(null) or nothing
    return leakage(found, beside, measurement(attack, REAL_DISTANCE) or nothing)


def _failure(null: AttackResult | None) -> Measurement | None:
    if null is None or null.status == "ok":
        return None
    return without_value("", 0, "distance", "lower means more leakage", null.status, null.reason or "")


def _voided(defense: DefenseResult, twin: DefenseResult | None) -> DefenseResult:
    """Leakage 'void' where an attack came to nothing and would have anyway.

    A success stays what it is, whatever the controls say, and a cell without a value keeps its own reason.
    """
    masked = defense.gradients is not None and "masked-gradients" in defense.gradients.flags
    positive = {attack.attack: attack.leakage for attack in twin.attacks} if twin and twin is not defense else None
    attacks = []
    for attack in defense.attacks:
        own = attack.leakage
        if own is not None and own.value is not None and own.value < LEAST_CONTROL:
            reason = None
            if positive is not None and twin is not None:
                reason = _fails_there(positive.get(attack.attack), twin.defense)
            if masked and _kind(attack) in BY_OWN_GRADIENT:
                reason = "it follows the target's own gradient, which is masked"
            if reason:
                void = without_value(own.name, own.n, own.unit, own.direction, "void", reason)
                attack = attack.model_copy(update={"leakage": void})
        attacks.append(attack)
    return defense.model_copy(update={"attacks": tuple(attacks)})


def _fails_there(control: Measurement | None, twin: str) -> str | None:
    if control is None or control.value is None:
        why = control.reason if control else "not measured"
        return f"the attack has no leakage on the undefended {twin} to compare with: {why}"
    if control.value < LEAST_CONTROL:
        failed = f"the attack fails on the undefended {twin} too (leakage {control.value:.2f})"
        return f"{failed}: that it fails here is no merit"
    return None


def _flagged(defense: DefenseResult) -> DefenseResult:
    """Flags of the target, from its gradient and from comparing its attacks; and of each attack."""
    flags = list(defense.gradients.flags) if defense.gradients else []
    if defense.gradients is None and defense.time_steps is not None:
        flags.append("no-input-gradient")
    best: dict[str, float] = {}
    for attack in defense.attacks:
        if attack.leakage is not None and attack.leakage.value is not None:
            kinds = ["black-box" if attack.access != "weights" else "white-box"]
            kinds += ["transfer"] if _kind(attack) in BY_TRANSFER else []
            kinds += ["direct"] if _kind(attack) in ("direct-inversion", "adaptive-inversion") else []
            for kind in kinds:
                best[kind] = max(best.get(kind, 0.0), attack.leakage.value)
    for strong, weak, flag in (
        ("white-box", "black-box", "black-box-beats-white-box"),
        ("direct", "transfer", "transfer-beats-direct"),
    ):
        if strong in best and weak in best and best[weak] > best[strong] + MARGIN:
            flags.append(flag)
    attacks = []
    for attack in defense.attacks:
        relative = measurement(attack, RELATIVE)
        if relative is not None and relative.value is not None and relative.value > 1:
            attack = attack.model_copy(update={"flags": (*attack.flags, "prototypes-beat-reality")})
        attacks.append(attack)
    return defense.model_copy(update={"flags": tuple(dict.fromkeys(flags)), "attacks": tuple(attacks)})


def _kind(attack: AttackResult) -> str:
    """The registered name, without the variant."""
    return attack.attack.partition(" (")[0]
