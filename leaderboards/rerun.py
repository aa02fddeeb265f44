"""The attacks, or everything, once more, in a process of its own; and how near the numbers are to the record's."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.errors import AuditError, Unchecked
from audit.records import DefenseResult, Record
from audit.worst_case import worst_case
from leaderboards.archive import ATTACK, DEFENSE
from leaderboards.entries import UNDEFENDED, audited, results_of
from leaderboards.verification import Check, Opened

CHECKPOINT = "checkpoint"
# Another machine adds in another order: attacks that take hundreds of steps end in other images of the same kind. On
# the same machine with the same versions all differences are 0. The energy's is relative.
TOLERANCES = {"accuracy": 0.02, "energy": 0.05, "leakage of an attack": 0.10, "worst leakage": 0.05, "AUC": 0.05}
# A stranger's options that name files here.
NEVER_PASSED = ("measure.inception_weights",)


@dataclass(frozen=True)
class Machine:
    """Where and how a re-run happens."""

    data_root: Path | None = None
    store: Path | None = None
    threads: int | None = None
    device: str = "auto"


def rerun_attacks(machine: Machine, trust_code: bool = False) -> Check:
    """Run the suite on the submitted weights: no code of the submitter's runs, but for the attack of an external
    result, which needs ``trust_code``."""

    def check(opened: Opened) -> str:
        with tempfile.TemporaryDirectory(prefix="audit-verify-") as made:
            work = Path(made)
            for seed, content in opened.targets.items():
                (work / f"target-seed{seed}.safetensors").write_bytes(content)
            path = {f"{CHECKPOINT}.path": str(work / "target-seed{seed}.safetensors")}
            attacks = _attacks(opened, work, trust_code)
            again = _run(opened.record, CHECKPOINT, attacks, path, work, machine)
        return compare(opened.record, again, CHECKPOINT)

    return check


def rerun_all(machine: Machine, trust_code: bool) -> Check:
    """Teacher, defense and attacks from the beginning; a defense that is the submitter's code needs ``trust_code``."""

    def check(opened: Opened) -> str:
        from audit.registry import DEFENSES

        with tempfile.TemporaryDirectory(prefix="audit-verify-") as made:
            work, name = Path(made), opened.defense
            if DEFENSE in opened.contents:
                if not trust_code:
                    raise Unchecked(f"its {DEFENSE} is somebody else's code; --trust-code runs it")
                (work / DEFENSE).write_bytes(opened.contents[DEFENSE])
                asked = str(work / DEFENSE)
            elif name not in DEFENSES.names():
                raise Unchecked(f"the code of '{name}' is neither here nor in the archive")
            elif not getattr(DEFENSES.get(name).factory, "repeatable", True):
                raise Unchecked(f"what '{name}' read is a file of the submitter's; --rerun attacks runs on its weights")
            else:
                asked = name
            again = _run(opened.record, asked, _attacks(opened, work, trust_code), {}, work, machine)
        return compare(opened.record, again, name)

    return check


def _attacks(opened: Opened, work: Path, trust_code: bool) -> str:
    """What ``--attack`` is given: the suites, and what the record has beside them."""
    from audit.registry import ATTACKS
    from audit.suites import SUITES

    record = opened.record
    ran = {a.attack for result in record.results for d in result.defenses for a in d.attacks}
    ran -= {entry.label for suite in record.suites for entry in SUITES[suite].entries}
    more = {label.partition(" (")[0] for label in ran}
    known = more & set(ATTACKS.names())
    asked = [*record.suites, *sorted(known)]
    if more - known and ATTACK not in opened.contents:
        raise Unchecked(f"the code of '{min(more - known)}' is neither here nor in the archive")
    if more - known:
        if not trust_code:
            raise Unchecked(f"its {ATTACK} is somebody else's code; --trust-code runs it")
        (work / ATTACK).write_bytes(opened.contents[ATTACK])
        asked.append(str(work / ATTACK))
    return ",".join(asked)


def _run(
    record: Record, defense: str, attacks: str, settings: Mapping[str, str], work: Path, machine: Machine
) -> Record:
    """The record of the same audit of ``defense``, made by a process of its own."""
    kept = {k: v for k, v in record.settings_passed.items() if k not in NEVER_PASSED}
    if defense == CHECKPOINT:
        kept = {k: v for k, v in kept.items() if _without_the_defense(k, audited(record))}
    seeds = ",".join(str(result.seed) for result in record.results)
    options = {
        "defense": defense,
        "attack": attacks,
        "profile": record.profile,
        "dataset": record.dataset.name,
        "model": record.results[0].teacher.architecture,
        "seeds": seeds,
        "device": machine.device,
        "out": work / "run",
        "data-root": machine.data_root and machine.data_root.absolute(),
        # Nobody's: what another run left in a store would be compared with itself.
        "store": machine.store.absolute() if machine.store else work / "store",
        "threads": machine.threads,
    }
    # One word each: no value of a stranger's is taken for an option.
    command = [sys.executable, "-m", "audit", *(f"--{k}={v}" for k, v in options.items() if v is not None)]
    command += [f"--set={key}={value}" for key, value in {**kept, **settings}.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise AuditError(f"the re-run ended with exit code {done.returncode}: {last}")
    return Record.read(work / "run" / "record.json")


def _without_the_defense(key: str, name: str) -> bool:
    """Whether an option is still one where weights stand in the defense's place."""
    from audit.registry import DEFENSES

    group, _, field = key.partition(".")
    return field in DEFENSES.get(UNDEFENDED).fields if group == "defense" else group != name


def compare(claimed: Record, again: Record, name: str) -> str:
    """Raises AuditError for the first number that is farther off than its tolerance; otherwise the largest differences.

    ``name``: what the target is called in ``again``.
    """
    own = audited(claimed)
    largest = dict.fromkeys(TOLERANCES, 0.0)
    pairs = [(results_of(claimed, own), results_of(again, name), own)]
    if own != UNDEFENDED and claimed.external is None:
        pairs.append((results_of(claimed, UNDEFENDED), results_of(again, UNDEFENDED), UNDEFENDED))
    for before, after, target in pairs:
        for first, second, result in zip(before, after, claimed.results, strict=True):
            where = f"seed {result.seed}, {target}"
            _near("accuracy", first.accuracy.value, second.accuracy.value, f"{where}: accuracy", largest)
            ratio, again_ratio = _energy(first), _energy(second)
            _near("energy", ratio, again_ratio, f"{where}: energy ratio", largest, scale=ratio or 1.0)
            _compare_attacks(first, second, where, largest)
        _near("worst leakage", _worst(before), _worst(after), f"{target}: worst leakage", largest)
    shown = ", ".join(f"{what} {value:.3f} (of {TOLERANCES[what]:g})" for what, value in largest.items())
    return f"largest differences: {shown}"


def _compare_attacks(first: DefenseResult, second: DefenseResult, where: str, largest: dict[str, float]) -> None:
    again = {attack.attack: attack for attack in second.attacks}
    for attack in first.attacks:
        place = f"{where}: {attack.attack}"
        other = again.get(attack.attack)
        if other is None or other.status != attack.status:
            raise AuditError(
                f"{place} is '{attack.status}' in the record, '{other.status if other else 'absent'}' here"
            )
        if attack.leakage is not None and other.leakage is not None:
            _near("leakage of an attack", attack.leakage.value, other.leakage.value, f"{place}: leakage", largest)
        found = {m.name: m.value for m in other.measurements}
        for m in attack.measurements:
            if m.name.startswith("AUC") and m.name in found:  # weights alone make no shadows, which some signals need
                _near("AUC", m.value, found[m.name], f"{place}: {m.name}", largest)


def _near(
    what: str, claimed: float | None, here: float | None, where: str, largest: dict[str, float], scale: float = 1.0
) -> None:
    if claimed is None and here is None:
        return
    if claimed is None or here is None:
        raise AuditError(f"{where} is {_said(claimed)} in the record and {_said(here)} here")
    difference = abs(claimed - here) / scale
    largest[what] = max(largest[what], difference)
    if difference > TOLERANCES[what]:
        raise AuditError(
            f"{where} is {claimed:.3f} in the record and {here:.3f} here; {TOLERANCES[what]:g} is tolerated"
        )


def _energy(result: DefenseResult) -> float | None:
    return result.energy.measurements[0].value if result.energy else None


def _said(value: float | None) -> str:
    return "without a value" if value is None else f"{value:.3f}"


def _worst(results: Sequence[DefenseResult]) -> float | None:
    values = [m.value for m in worst_case(results).leakages if m.value is not None]
    return sum(values) / len(values) if values and len(values) == len(results) else None
