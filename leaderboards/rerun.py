"""The attacks, or everything, once more, in processes of their own."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from audit.errors import AuditError, Unchecked
from audit.records import Record
from leaderboards.archive import ATTACK, DEFENSE, target_name
from leaderboards.comparison import CHECKPOINT, compare, compare_access, other_weights
from leaderboards.entries import UNDEFENDED, audited
from leaderboards.resolution import data_is_here
from leaderboards.verification import Check, Opened

# Where a defense is only to be made, one attack runs, since an audit has one: this is the cheapest.
CHEAPEST = "weight-recovery"


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
        _refuse_own_images(opened.record)
        again = _on_weights(opened, opened.targets, machine, trust_code)
        return compare(opened.record, again, CHECKPOINT) + _left_out(opened.record)

    return check


def rerun_all(machine: Machine, trust_code: bool) -> Check:
    """Teacher, defense and attacks from the beginning; a defense that is the submitter's code needs ``trust_code``.

    That code makes the targets and nothing else: what attacks and measures them is a process that it never was in.
    """

    def check(opened: Opened) -> str:
        record, name = opened.record, opened.defense
        _refuse_own_images(record)
        if DEFENSE in opened.contents:
            if not trust_code:
                raise Unchecked(f"its {DEFENSE} is somebody else's code; --trust-code runs it")
            alone = replace(machine, store=None)  # what such code could write there is not read again
            made, targets = _made(opened, alone)
            compare_access(record, made, name)
            name, again = CHECKPOINT, _on_weights(opened, targets, alone, trust_code)
        else:
            again = _from_the_beginning(opened, machine, trust_code)
        return compare(record, again, name) + other_weights(record, again, name) + _left_out(record)

    return check


def _work() -> AbstractContextManager[str]:
    return tempfile.TemporaryDirectory(prefix="audit-verify-")


def _on_weights(opened: Opened, targets: Mapping[int, bytes], machine: Machine, trust_code: bool) -> Record:
    """The attacks on the weights in these files, by seed."""
    with _work() as folder:
        work = Path(folder)
        for seed, content in targets.items():
            (work / f"target-seed{seed}.safetensors").write_bytes(content)
        settings = _passed(opened.record, made=False)
        settings |= {f"{CHECKPOINT}.path": str(work / "target-seed{seed}.safetensors")}
        return _run(opened.record, CHECKPOINT, _attacks(opened, work, trust_code), settings, work, machine)


def _from_the_beginning(opened: Opened, machine: Machine, trust_code: bool) -> Record:
    """All of it, with a defense whose code is here."""
    from audit.registry import DEFENSES
    from audit.request import NO_PROTECTION

    name = opened.defense
    if name not in DEFENSES.names():
        raise Unchecked(f"the code of '{name}' is neither here nor in the archive")
    if not getattr(DEFENSES.get(name).factory, "repeatable", True):
        raise Unchecked(f"what '{name}' read is a file of the submitter's; --rerun attacks runs on its weights")
    # What protects nothing is compared with nothing, but for a row.
    asked = f"{name},{UNDEFENDED}" if name in NO_PROTECTION and name != UNDEFENDED else name
    with _work() as folder:
        work = Path(folder)
        attacks = _attacks(opened, work, trust_code)
        return _run(opened.record, asked, attacks, _passed(opened.record, made=True), work, machine)


def _made(opened: Opened, machine: Machine) -> tuple[Record, dict[int, bytes]]:
    """What the submitter's defense makes, in a process that is about nothing else: its record, and weights by seed."""
    from audit.registry import ATTACKS

    record = opened.record
    others = {a.attack.partition(" (")[0] for r in record.results for d in r.defenses for a in d.attacks}
    others |= {"attack", *ATTACKS.names()}
    settings = {k: v for k, v in _passed(record, made=True).items() if k.partition(".")[0] not in others}
    with _work() as folder:
        work = Path(folder)
        (work / DEFENSE).write_bytes(opened.contents[DEFENSE])
        made = _run(record, str(work / DEFENSE), CHEAPEST, settings, work, machine)
        if (name := audited(made)) != opened.defense:
            raise AuditError(f"its {DEFENSE} registers '{name}', the record is about '{opened.defense}'")
        seeds = [result.seed for result in record.results]
        if [result.seed for result in made.results] != seeds:
            raise AuditError(f"its {DEFENSE} made targets of other seeds")
        try:
            return made, {seed: (work / "run" / target_name(name, seed)).read_bytes() for seed in seeds}
        except OSError as error:
            raise AuditError(f"its {DEFENSE} left no target: {error.strerror}") from error


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


def _passed(record: Record, made: bool) -> dict[str, str]:
    """The record's options but for those that may name a file; with those of the defense where it is ``made`` again.

    Raises Unchecked where an attack, or the defense, would be another one without.
    """
    from audit.settings import GROUPS, may_name_a_file

    name = audited(record)
    kept = {k: v for k, v in record.settings_passed.items() if made or _without_the_defense(k, name)}
    files = {key for key, value in kept.items() if may_name_a_file(key, value)}
    if needed := sorted(key for key in files if key.partition(".")[0] not in GROUPS):
        raise Unchecked(f"the option '{needed[0]}' may name a file, and a re-run reads none that a submitter names")
    return {key: value for key, value in kept.items() if key not in files}


def _left_out(record: Record) -> str:
    """A remark on options that no re-run takes over."""
    kept = _passed(record, made=False)
    left = sorted(k for k in record.settings_passed if k not in kept and _without_the_defense(k, audited(record)))
    return f"; left out, as it may name a file: {', '.join(left)}" if left else ""


def _without_the_defense(key: str, name: str) -> bool:
    """Whether an option is still one where weights stand in the defense's place."""
    from audit.registry import DEFENSES

    group, _, field = key.partition(".")
    return field in DEFENSES.get(UNDEFENDED).fields if group == "defense" else group != name


def _refuse_own_images(record: Record) -> None:
    if record.dataset.name == "folder":
        raise Unchecked("the submitter's own images: nobody else has them")


def _run(
    record: Record, defense: str, attacks: str, settings: Mapping[str, str], work: Path, machine: Machine
) -> Record:
    """The record of an audit of ``defense`` as ``record`` was made, by a process of its own."""
    options = {
        "defense": defense,
        "attack": attacks,
        "profile": record.profile,
        "dataset": record.dataset.name,
        "model": record.results[0].teacher.architecture,
        "seeds": ",".join(str(result.seed) for result in record.results),
        "device": machine.device,
        "out": work / "run",
        "data-root": machine.data_root and machine.data_root.absolute(),
        # Nobody's: what another run left in a store would be compared with itself.
        "store": machine.store.absolute() if machine.store else work / "store",
        "threads": machine.threads,
    }
    # One word each: no value of a stranger's is taken for an option.
    command = [sys.executable, "-m", "audit", *(f"--{k}={v}" for k, v in options.items() if v is not None)]
    command += [f"--set={key}={value}" for key, value in settings.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        data_is_here(record.dataset.name, machine.data_root)
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise AuditError(f"the re-run ended with exit code {done.returncode}: {last}")
    return Record.read(work / "run" / "record.json")
