"""How near the numbers of a re-run are to those of the record, and what it could not make again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from audit.errors import AuditError
from audit.records import AttackResult, DefenseResult, Measurement, Record
from audit.verdicts import leaked
from leaderboards.cells import Footnotes, Number
from leaderboards.entries import UNDEFENDED, audited, results_of
from leaderboards.leakage import MASKED, worst_of

CHECKPOINT = "checkpoint"
# Another machine adds in another order: attacks that take hundreds of steps end in other images of the same kind. On
# the same machine with the same versions all differences are 0. That of the energy is relative, and that of a weight
# recovery where it is beyond 1.
TOLERANCES = {
    "accuracy": 0.02,
    "energy": 0.05,
    "leakage of an attack": 0.10,
    "worst leakage": 0.05,
    "upper end of its interval": 0.10,
    "AUC": 0.05,
    "weight recovery": 0.05,
}
# Of what a weight recovery is measured by, the one that does not need the very teacher.
WITHOUT_TEACHER = "accuracy of the recovered network"


@dataclass
class Differences:
    """The largest difference of each kind so far, and the names of what was not made again."""

    largest: dict[str, float] = field(default_factory=dict)
    lost: dict[str, None] = field(default_factory=dict)

    def near(self, what: str, claimed: float | None, here: float | None, where: str, scale: float = 1.0) -> None:
        """Raises AuditError where the two are farther apart than ``what`` may be, or one of them is absent."""
        if claimed is None and here is None:
            return
        if claimed is None or here is None:
            raise AuditError(f"{where} is {_said(claimed)} in the record and {_said(here)} here")
        difference = abs(claimed - here) / scale
        self.largest[what] = max(self.largest.get(what, 0.0), difference)
        if not difference <= TOLERANCES[what]:
            raise AuditError(
                f"{where} is {claimed:.3f} in the record and {here:.3f} here; {TOLERANCES[what]:g} is tolerated"
            )

    def text(self) -> str:
        shown = ", ".join(f"{w} {self.largest[w]:.3f} (of {TOLERANCES[w]:g})" for w in TOLERANCES if w in self.largest)
        return f"largest differences: {shown}" + (f"; not made again: {'; '.join(self.lost)}" if self.lost else "")


def compare(claimed: Record, again: Record, name: str) -> str:
    """The largest differences, and what was not made again. Raises AuditError for the first number that is farther off
    than its tolerance, and for the first word that is another.

    ``name``: what the target is called in ``again``.
    """
    own, found = audited(claimed), Differences()
    _equal("split of the data", claimed.dataset.split_hash, again.dataset.split_hash, claimed.dataset.name)
    for first, second in zip(claimed.results, again.results, strict=True):
        where = f"seed {first.seed}: accuracy of the teacher"
        found.near("accuracy", first.teacher.accuracy.value, second.teacher.accuracy.value, where)
    _compare_target(claimed, again, own, name, found)
    if own != UNDEFENDED and claimed.external is None:
        _compare_target(claimed, again, UNDEFENDED, UNDEFENDED, found)
    return found.text()


def compare_access(claimed: Record, made: Record, name: str) -> None:
    """Raises AuditError where a defense that was made again declares another access to private data."""
    for result, first, second in zip(claimed.results, results_of(claimed, name), results_of(made, name), strict=True):
        _equal("access to private data", first.data_access, second.data_access, f"seed {result.seed}, {name}")


def other_weights(claimed: Record, again: Record, name: str) -> str:
    """A remark where targets that were made again are not the submitted ones, to the last bit."""
    pairs = zip(results_of(claimed, audited(claimed)), results_of(again, name), strict=True)
    if all(first.target_hash == second.target_hash for first, second in pairs):
        return ""
    submitted = "--rerun attacks runs on those"
    return f"; the targets made again are other weights than the submitted ones, as on another machine; {submitted}"


def _compare_target(claimed: Record, again: Record, own: str, name: str, found: Differences) -> None:
    """One target under every seed, before cells are void: a cell near the threshold is so in one run and not in the
    other, and beside another twin."""
    if name != CHECKPOINT:
        compare_access(claimed, again, own)
    before, after = leaked(results_of(claimed, own)), leaked(results_of(again, name))
    seeds = [result.seed for result in claimed.results]
    for first, second, result, other in zip(before, after, claimed.results, again.results, strict=True):
        where = f"seed {result.seed}, {own}"
        _equal("number of time-steps", first.time_steps, second.time_steps, where)
        _equal("gradient", _health(first), _health(second), where)
        found.near("accuracy", first.accuracy.value, second.accuracy.value, f"{where}: accuracy")
        ratio = _energy(first)
        found.near("energy", ratio, _energy(second), f"{where}: energy ratio", scale=ratio or 1.0)
        # Submitted weights beside a teacher that was trained here: it need not be the one that they were made from.
        strange = first.target_hash == second.target_hash and result.teacher.hash != other.teacher.hash
        _compare_attacks(first, second, where, strange, found)
    worst, worst_again = _worst(before, seeds), _worst(after, seeds)
    found.near("worst leakage", worst.value, worst_again.value, f"{own}: worst leakage")
    if len(seeds) > 1:
        where = f"{own}: upper end of the interval of the worst leakage"
        found.near("upper end of its interval", _upper(worst), _upper(worst_again), where)


def _compare_attacks(
    first: DefenseResult, second: DefenseResult, where: str, strange: bool, found: Differences
) -> None:
    again = {attack.attack: attack for attack in second.attacks}
    for attack in first.attacks:
        place = f"{where}: {attack.attack}"
        other = again.get(attack.attack)
        if other is None or other.status != attack.status:
            raise AuditError(
                f"{place} is '{attack.status}' in the record, '{other.status if other else 'absent'}' here"
            )
        if attack.leakage is not None or other.leakage is not None:
            found.near("leakage of an attack", _value(attack.leakage), _value(other.leakage), f"{place}: leakage")
        _compare_measurements(attack, other, place, strange, found)


def _compare_measurements(
    attack: AttackResult, other: AttackResult, place: str, strange: bool, found: Differences
) -> None:
    """AUCs, and what was recovered of the weights."""
    here = {m.name: m.value for m in other.measurements}
    for m in attack.measurements:
        recovered = attack.evidence == "weights"
        if not recovered and not (attack.evidence == "membership" and m.name.startswith("AUC")):
            continue
        if m.name not in here:  # weights alone make no shadows, which some signals need
            found.lost[m.name] = None
        elif not recovered:
            found.near("AUC", m.value, here[m.name], f"{place}: {m.name}")
        elif strange and m.name != WITHOUT_TEACHER:
            found.lost[f"{m.name} (another teacher)"] = None
        elif m.value is not None or here[m.name] is not None:
            scale = max(1.0, abs(m.value or 0.0))
            found.near("weight recovery", m.value, here[m.name], f"{place}: {m.name}", scale=scale)


def _equal(what: str, claimed: object, here: object, where: str) -> None:
    if claimed != here:
        raise AuditError(f"{where}: the {what} is {claimed} in the record and {here} here")


def _health(result: DefenseResult) -> str:
    """What is wrong with the target's gradient: flags, in no order."""
    flags = {*(result.gradients.flags if result.gradients else ("not examined",)), *({MASKED} & set(result.flags))}
    return ", ".join(sorted(flags)) or "sound"


def _worst(defenses: Sequence[DefenseResult], seeds: Sequence[int]) -> Number:
    return worst_of(defenses, seeds, Footnotes())[0]


def _upper(worst: Number) -> float | None:
    """The value itself where no spread was seen."""
    return worst.value if worst.high is None else worst.high


def _energy(result: DefenseResult) -> float | None:
    return result.energy.measurements[0].value if result.energy else None


def _value(leakage: Measurement | None) -> float | None:
    return leakage.value if leakage is not None else None


def _said(value: float | None) -> str:
    return "without a value" if value is None else f"{value:.3f}"
