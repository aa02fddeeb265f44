"""Is a submission what it says? Every check by itself, with what it found; nothing of the submitter's is executed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Literal

from audit import __version__
from audit.errors import AuditError, Unchecked
from audit.records import DefenseResult, Record
from leaderboards.archive import PICTURES, RECORD, SCORES, TARGET, Manifest, check_picture, target_name, unpack
from leaderboards.checking import CLAIMED
from leaderboards.entries import MOST_WEIGHTS, UNDEFENDED, audited, place, results_of, suite_of, weights_beside
from leaderboards.plausibility import contradictions, implausible, same

Rerun = Literal["none", "attacks", "all"]
State = Literal["passed", "refused", "not checked"]
LONGEST = 1000
# What a value of another kind than a check takes for granted can raise: no traceback, but a refusal.
UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Finding:
    """One check: 'refused' refuses the submission, 'not checked' says why."""

    check: str
    state: State
    detail: str


@dataclass
class Verdict:
    """Everything that was found, in order."""

    rerun: Rerun
    findings: list[Finding] = field(default_factory=list)
    opened: "Opened | None" = None
    """What was checked: a row is made of this, and not of a file that may have changed since."""

    def add(self, check: str, state: State, detail: str) -> None:
        """``detail`` may quote a stranger: it becomes one line of printable characters, that cannot forge another."""
        plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in detail)
        self.findings.append(Finding(check, state, plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}..."))

    @property
    def accepted(self) -> bool:
        return bool(self.findings) and all(finding.state != "refused" for finding in self.findings)

    @property
    def reached(self) -> str:
        """'claimed', 'attacks' or 'all': a re-run that could not be made is none."""
        ran = any((f.check, f.state) == (f"rerun: {self.rerun}", "passed") for f in self.findings)
        return self.rerun if ran and self.rerun != "none" else CLAIMED

    def text(self) -> str:
        """For a terminal: a line per check, and the verdict."""
        width = max(len(f.check) for f in self.findings)
        lines = [f"{f.check:<{width}}  {f.state:<11}  {f.detail}" for f in self.findings]
        return "\n".join([*lines, f"verdict: {'accepted' if self.accepted else 'refused'}"])

    def document(self, record: str) -> str:
        """For a file beside the record with that hash."""
        found = [{"check": f.check, "state": f.state, "detail": f.detail} for f in self.findings]
        whole = {
            "record": record,
            "accepted": self.accepted,
            "rerun": self.reached,
            "version": __version__,
            "checked": datetime.now(UTC).date().isoformat(),
            "findings": found,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Opened:
    """An archive, or a committed row, that could be read; a row has no manifest, and targets where they are small."""

    manifest: Manifest | None
    contents: dict[str, bytes]
    record: Record

    @property
    def defense(self) -> str:
        return audited(self.record)

    @property
    def targets(self) -> dict[int, bytes]:
        """Weights by seed."""
        found = {name: content for name, content in self.contents.items() if TARGET.fullmatch(name)}
        return {int(name.rpartition("-seed")[2].removesuffix(".safetensors")): found[name] for name in found}


Check = Callable[[Opened], str]
"""Returns what it found in order, raises AuditError with what it did not, or `Unchecked`."""


def verify(path: Path, rerun: Rerun = "none", data_root: Path | None = None, again: Check | None = None) -> Verdict:
    """Check an archive. ``again`` runs attacks, or everything, once more and compares; it needs ``rerun`` other than
    'none'. An archive that cannot be opened has that one finding."""
    verdict = Verdict(rerun)
    try:
        manifest, contents = unpack(path)
        if RECORD not in contents:
            raise AuditError(f"there is no {RECORD} in it")
        opened = Opened(manifest, contents, Record.parse(contents[RECORD], RECORD))
    except AuditError as error:
        verdict.add("archive", "refused", str(error))
        return verdict
    verdict.opened = opened
    verdict.add("archive", "passed", f"{len(contents)} files, as its manifest lists them")
    return _checked(verdict, opened, data_root, again)


def verify_row(path: Path, rerun: Rerun = "none", data_root: Path | None = None, again: Check | None = None) -> Verdict:
    """Check a committed row in the same way, its weights where they are beside it."""
    verdict = Verdict(rerun)
    try:
        content = path.read_bytes()
        record = Record.parse(content, str(path))
        if hashlib.sha256(content).hexdigest() != path.stem:
            raise AuditError(f"{path.name} is not named after its content")
        contents = {RECORD: content, SCORES: path.with_suffix(".npz").read_bytes()}
        beside = weights_beside(path)
        if sum(file.stat().st_size for file in beside.values()) > MOST_WEIGHTS:
            raise AuditError(f"more than {MOST_WEIGHTS:,} bytes of weights lie beside it: they belong in its archive")
        for seed, file in beside.items():
            contents[target_name(audited(record), seed)] = file.read_bytes()
    except OSError as error:
        verdict.add("row", "refused", f"cannot read {error.filename}: {error.strerror}")
        return verdict
    except AuditError as error:
        verdict.add("row", "refused", str(error))
        return verdict
    opened = Opened(None, contents, record)
    if path.with_suffix(".png").is_file():
        contents[PICTURES] = path.with_suffix(".png").read_bytes()
    return _checked(verdict, opened, data_root, again)


def _checked(verdict: Verdict, opened: Opened, data_root: Path | None, again: Check | None) -> Verdict:
    for name, check in checks(data_root):
        _look(verdict, name, check, opened)
        if name == "row" and verdict.findings[-1].state == "refused":
            return verdict  # the rest is about that row
    if again is not None and verdict.accepted:
        _look(verdict, f"rerun: {verdict.rerun}", again, opened)
    return verdict


def _look(verdict: Verdict, name: str, check: Check, opened: Opened) -> None:
    try:
        verdict.add(name, "passed", check(opened))
    except Unchecked as reason:
        verdict.add(name, "not checked", str(reason))
    except AuditError as error:
        verdict.add(name, "refused", str(error))
    except UNFORESEEN as error:
        verdict.add(name, "refused", f"it cannot be checked: {type(error).__name__}: {error}")


def checks(data_root: Path | None) -> Iterator[tuple[str, Check]]:
    """By name, in order."""
    yield "row", row
    yield "suite", suite
    yield "settings", settings
    yield "plausibility", plausibility
    yield "weights", weights
    yield "raw scores", raw_scores
    yield "verdicts", verdicts
    yield "data split", lambda opened: split(opened, data_root)
    yield "version", version


def row(opened: Opened) -> str:
    """One defense, with its undefended control, submitted by whom the manifest says."""
    from audit.data import DATASETS
    from audit.registry import ATTACKS, RESERVED

    record = opened.record
    name = audited(record)
    place(record)
    if name in (*RESERVED, *ATTACKS.names()):
        raise AuditError(f"'{name}' is the name of an attack or of a group of settings: the defense needs another")
    if record.dataset.name not in DATASETS:
        raise AuditError(f"the data set '{record.dataset.name}' is unknown here")
    found = results_of(record, name)
    if opened.manifest is not None and record.submission != opened.manifest.submission:
        raise AuditError("the record and the manifest do not name the same submission")
    if record.external is None and name != UNDEFENDED:
        _beside_the_undefended(record, name)
    for result in record.results:
        names = [d.defense for d in result.defenses]
        if set(names) - {name, UNDEFENDED} or len(set(names)) < len(names):
            raise AuditError(f"seed {result.seed}: a row holds its defense and {UNDEFENDED}, not {', '.join(names)}")
        if [d.defense for d in result.defenses if d.requested] != [name]:
            raise AuditError(f"seed {result.seed}: the row is about {name}, which was not the one requested")
    seeds = [result.seed for result in record.results]
    if len(set(seeds)) < len(seeds):
        raise AuditError("a seed is in it twice")
    if len({d.target_hash for d in found}) < len(found):
        raise AuditError("two seeds have the same target: they are no two runs")
    if PICTURES in opened.contents:
        check_picture(opened.contents[PICTURES])
    return f"{name} on {record.dataset.name}, seeds {', '.join(map(str, seeds))}"


def _beside_the_undefended(record: Record, name: str) -> None:
    """Raises AuditError where a seed lacks the positive control: what protects nothing is audited without one."""
    try:
        results_of(record, UNDEFENDED)
    except AuditError as error:
        advice = f"--defense {name},{UNDEFENDED}, and submit with --defense {name}"
        raise AuditError(f"{error}: audit {name} together with it: {advice}") from error


def suite(opened: Opened) -> str:
    """Every attack of the suites that it names, on the target, its untrained twin and the undefended network."""
    from audit.request import completed_suites as completed
    from audit.suites import SUITES

    record = opened.record
    if record.external is not None:
        return "an external result: attacks of its own"
    primary = suite_of(record)
    wanted = {entry.label for name in record.suites for entry in SUITES[name].entries}
    for result in record.results:
        for defense in result.defenses:
            for where, attacks in ((defense.defense, defense.attacks), ("its untrained twin", defense.untrained)):
                names = [attack.attack for attack in attacks]
                if missing := wanted - set(names):
                    raise AuditError(f"seed {result.seed}: {where} was not attacked by {min(missing)}")
                if len(set(names)) < len(names):
                    raise AuditError(f"seed {result.seed}: an attack on {where} is in it twice")
                if record.suites != (whole := completed(names)):
                    named = ", ".join(whole)
                    raise AuditError(f"seed {result.seed}: the attacks on {where} are those of the suites {named}")
    return f"{primary}: {len(wanted)} attacks on every network"


def settings(opened: Opened) -> str:
    """What the profile, the suite and the passed options resolve to is what the attacks say that they ran with."""
    from leaderboards.resolution import resolved_again

    return resolved_again(opened.record)


def plausibility(opened: Opened) -> str:
    count = 0
    for where, measurement in opened.record.measurements():
        count += 1
        if reason := implausible(measurement):
            raise AuditError(f"{where}: {reason}")
    for line in contradictions(opened.record):
        raise AuditError(line)
    return f"{count:,} measurements: values in range, intervals around them, counts that add up"


def weights(opened: Opened) -> str:
    """Every target is there, is a network of the task, and has the hash that the record names; a row need have none."""
    from audit.assessment import size_of
    from audit.networks.operations import multiply_accumulates
    from audit.spiking.files import describe
    from audit.spiking.files import weights as state
    from audit.spiking.network import SpikingNetwork
    from audit.spiking.strangers import Expected, parse_network
    from audit.store import digest, hash_tensors
    from leaderboards.resolution import as_set

    record = opened.record
    if opened.manifest is None and not opened.targets:
        raise Unchecked("they are not beside the row: --rerun all makes them again")
    expected = Expected(record.dataset.image_shape, len(record.dataset.classes))
    seeds = {result.seed: result for result in record.results}
    if set(opened.targets) != set(seeds):
        raise AuditError(f"there are targets of the seeds {sorted(opened.targets)}, and results of {sorted(seeds)}")
    for name in filter(TARGET.fullmatch, opened.contents):
        if name not in {target_name(opened.defense, seed) for seed in seeds}:
            raise AuditError(f"{name} is the target of no seed of {opened.defense}")
    for (seed, content), result in zip(sorted(opened.targets.items()), results_by_seed(record), strict=True):
        network = parse_network(content, f"the target of seed {seed}", expected)
        if hash_tensors(state(network)) != result.target_hash:
            raise AuditError(f"the target of seed {seed} does not have the hash that the record names")
        steps = network.time_steps if isinstance(network, SpikingNetwork) else None
        if steps != result.time_steps:
            raise AuditError(f"the target of seed {seed} has T = {steps}, the record says {result.time_steps}")
        if isinstance(network, SpikingNetwork):
            as_set(network, result)
        if isinstance(network, SpikingNetwork) and result.energy is not None:
            claimed = {layer.name: layer.ann_multiply_accumulates for layer in result.energy.layers}
            if claimed != multiply_accumulates(network.layers, record.dataset.image_shape):
                raise AuditError(f"the energy of seed {seed} is not that of the layers of its target")
        if result.size not in (None, size_of(network, result.notes)):
            raise AuditError(f"the size of seed {seed} is not that of the weights of its target")
        if result.layers_hash not in (None, digest(describe(network))):
            raise AuditError(f"the target of seed {seed} does not have the layers that the record names")
    return f"{len(seeds)} networks, finite, with the hashes of the record"


def results_by_seed(record: Record) -> list[DefenseResult]:
    """The audited defense, in the order of the seeds' numbers."""
    ordered = sorted(record.results, key=lambda result: result.seed)
    return results_of(record.model_copy(update={"results": tuple(ordered)}), audited(record))


def raw_scores(opened: Opened) -> str:
    """What the record claims is what comes out of the raw scores."""
    from audit.recompute import read_scores, recomputed, recomputed_together, scored_places

    if SCORES not in opened.contents:
        raise AuditError(f"there is no {SCORES} in it: without raw scores nothing can be checked")
    scores = read_scores(opened.contents[SCORES], SCORES)
    made = 0
    results = opened.record.results
    claimed = [attack.measurements for result in results for _, attack in scored_places(result)]
    claimed += [defense.evasions for result in results for defense in result.defenses]
    made_again = chain(recomputed(opened.record, scores), recomputed_together(opened.record, scores))
    for claims, (where, measurements) in zip(claimed, made_again, strict=True):
        if [m.name for m in claims] != [m.name for m in measurements]:
            raise AuditError(f"{where}: its measurements are not those of its evidence")
        for own, again in zip(claims, measurements, strict=True):
            if not same(own, again):
                raise AuditError(f"{where}: {own.name} is claimed as {own.value}; raw scores give {again.value}")
            made += 1
    return f"{made:,} measurements made again from {len(scores):,} arrays, all equal"


def verdicts(opened: Opened) -> str:
    """Leakage, void cells and flags follow from the measurements."""
    from audit.verdicts import judged, unjudged

    for result in opened.record.results:
        again = judged(unjudged(result.defenses), UNDEFENDED)
        for own, fresh in zip(result.defenses, again, strict=True):
            if own != fresh:
                raise AuditError(f"seed {result.seed}: leakage or flags of {own.defense} follow from no measurement")
    return "leakage, void cells and flags follow from the measurements"


def split(opened: Opened, data_root: Path | None) -> str:
    """The images are the data set's own, split as everybody's."""
    from leaderboards.resolution import data_split

    return data_split(opened.record, data_root)


def version(opened: Opened) -> str:
    own = opened.record.environment
    if own.version != __version__:
        raise Unchecked(f"made by version {own.version}, checked by {__version__}")
    if own.git_revision is None or own.git_revision.endswith("-dirty"):
        raise Unchecked(f"made by a copy of version {own.version} that is no revision of it")
    return f"version {own.version}, revision {own.git_revision}"
