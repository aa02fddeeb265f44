"""One run of the audit: every stage for every seed, and the record of it."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import attacks
import audit
import defenses
import leaderboards
from audit import __version__
from audit.assessment import Assessor, defense_result
from audit.contracts import Attack, Defense, Monitor, Task
from audit.data import DATASETS
from audit.errors import AuditError
from audit.evidence import Evidence, attack
from audit.membership import Inquiry
from audit.metrics.inception import inception_features
from audit.metrics.similarity import SMALL_WINDOW
from audit.networks.vgg import NETWORKS, vgg
from audit.pipeline import (
    Prepared,
    Subject,
    Target,
    examine,
    examine_gradients,
    prepare_data,
    protect,
    train_evaluator,
    train_teacher,
    untrained,
)
from audit.records import DatasetInfo, DefenseResult, Environment, Record, SeedResult
from audit.registry import ATTACKS, DEFENSES, Component, unknown
from audit.reporting.report import Pictures
from audit.settings import GROUPS, Settings
from audit.spiking.kernels import engine
from audit.store import Store, hash_sources
from audit.suites import CURRENT, PROFILES, SUITES
from audit.verdicts import judged
from audit.workshop import Workshop

PACKAGES = ("torch", "torchvision", "torchmetrics", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors")
UNDEFENDED = "data-free-conversion"
NO_PROTECTION = ("none", "conversion", UNDEFENDED)
SEED_LIMIT = 2**32
NO_ATTACK = "none"


@dataclass(frozen=True)
class Request:
    """What the user asked for; `resolve` made sure that all of it exists."""

    defenses: tuple[Component[Defense], ...]
    attacks: tuple[Component[Attack], ...]
    dataset: str
    model: str
    profile: str
    seeds: tuple[int, ...]
    data_root: Path | None
    device: torch.device
    settings: Settings
    command: str
    baselines: bool = True

    @property
    def compared(self) -> tuple[Component[Defense], ...]:
        """The baselines of the requested defenses, each before the first that names it, and the defenses themselves.

        A defense has the undefended conversion among them, every attack's positive control, unless it is undefended.
        Without ``baselines``, the defenses alone.
        """
        if not self.baselines:
            return self.defenses
        ordered: dict[str, Component[Defense]] = {}
        for component in self.defenses:
            control = () if component.name in NO_PROTECTION else (UNDEFENDED,)
            for name in (*control, *getattr(component.factory, "baselines", ())):
                baseline = next((known for known in self.defenses if known.name == name), None)
                ordered.setdefault(name, baseline or DEFENSES.get(name))
            ordered.setdefault(component.name, component)
        return tuple(ordered.values())


@dataclass(frozen=True)
class Finished:
    """The record, one picture per class and image set for the report, the targets by seed and defense, and the raw
    scores of every image set, from which every leakage measurement can be made again."""

    record: Record
    pictures: Pictures
    targets: Mapping[tuple[int, str], nn.Module]
    scores: Mapping[str, Tensor]


@dataclass(frozen=True)
class SeedAudit:
    """What one seed left behind."""

    result: SeedResult
    targets: list[Target]
    evidence: dict[tuple[str, str], Evidence]
    scores: dict[str, Tensor]


def resolve(
    defense: str | Sequence[Component[Defense]],
    attack: str | Sequence[Component[Attack]],
    dataset: str | None,
    model: str | None,
    profile: str,
    seeds: Sequence[int],
    data_root: Path | None,
    device: str,
    passed: Mapping[str, str],
    command: str,
) -> Request:
    """From names, or components, to checked settings. Raises AuditError before anything is read or trained."""
    hint = "python -m audit list"
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES, hint)
    chosen = PROFILES[profile]
    dataset, model = dataset or chosen.dataset, model or chosen.model
    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS, hint)
    if model not in NETWORKS:
        raise unknown("model", model, NETWORKS, hint)
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) >= SEED_LIMIT:
        given = ",".join(map(str, seeds)) or "nothing"
        raise AuditError(f"a seed is a whole number from 0 to {SEED_LIMIT - 1}, each given once; not {given}")
    request = Request(
        tuple(DEFENSES.select(defense) if isinstance(defense, str) else defense),
        () if attack == NO_ATTACK else tuple(chosen_attacks(attack) if isinstance(attack, str) else attack),
        dataset,
        model,
        profile,
        tuple(seeds),
        data_root,
        _device(device),
        Settings(chosen.settings_for(dataset), passed),
        command,
    )
    check_settings(request)
    return request


def check_settings(request: Request) -> None:
    """Raises AuditError for a setting that no part of the request has, or a value that its part does not take."""
    # What was asked for comes first, so that a bad setting is reported under its name and not under a baseline's.
    components: list[Component[Any]] = [*request.defenses, *request.attacks, *request.compared]
    request.settings.check(components)
    for group in GROUPS:
        request.settings.group(group)
    independent = request.settings.group("evaluator").model or request.model
    if independent not in NETWORKS:
        raise unknown("model", independent, NETWORKS, "python -m audit list")
    for component in components:
        request.settings.build(component)


def chosen_attacks(text: str) -> list[Component[Attack]]:
    """Names of attacks, files and suites, separated by commas; 'all': the suites that are current."""
    chosen: dict[str, Component[Attack]] = {}
    for part in CURRENT if text == "all" else [part.strip() for part in text.split(",")]:
        if part in SUITES:
            entries = SUITES[part].entries
            found = [replace(ATTACKS.get(e.attack), variant=e.variant, presets=e.settings) for e in entries]
        else:
            found = ATTACKS.select(part)
        for component in found:
            chosen.setdefault(component.label, component)
    return list(chosen.values())


def completed_suites(labels: Iterable[str]) -> tuple[str, ...]:
    """The suites whose attacks are all among ``labels``."""
    known = set(labels)
    return tuple(name for name, suite in SUITES.items() if {entry.label for entry in suite.entries} <= known)


def check_defenses(request: Request, task: Task) -> None:
    """Raises AuditError where a defense knows before any training that it cannot give a target."""
    for component in request.defenses:
        defense: Any = request.settings.build(component)
        for seed in request.seeds if hasattr(defense, "check") else ():
            defense.check(task, seed, request.device)


def run(request: Request, store: Store, monitor: Monitor) -> Finished:
    """Every stage of the request; what is in the store already is not made again."""
    data = prepare_data(request.dataset, request.data_root, request.settings.group("data"))
    check_measurable(request, data)
    check_defenses(request, data.task)
    shop = Workshop(store, monitor, request.device)
    results: list[SeedResult] = []
    targets: dict[tuple[int, str], nn.Module] = {}
    scores: dict[str, Tensor] = {}
    pictures: Pictures | None = None
    for seed in request.seeds:
        done = audit_seed(shop, data, request, seed)
        results.append(done.result)
        targets |= {(seed, target.component.name): target.network for target in done.targets}
        scores |= {f"seed {seed}/{name}": tensor for name, tensor in done.scores.items()}
        if pictures is None:
            pictures = picture_grid(data, request, done)
    assert pictures is not None
    record = Record(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        profile=request.profile,
        dataset=DatasetInfo(
            name=data.task.dataset,
            classes=data.task.classes,
            image_shape=data.task.image_shape,
            counts=data.parts.counts(),
            split_hash=data.split_hash,
        ),
        settings_passed=dict(request.settings.passed),
        settings_resolved=plain({group: asdict(request.settings.group(group)) for group in GROUPS}),
        feature_extractor=_feature_extractor(request, results[0]),
        results=tuple(results),
        stages=tuple(shop.stages),
        environment=environment(request.device),
        suites=completed_suites(component.label for component in request.attacks),
    )
    return Finished(record, pictures, targets, scores)


def check_measurable(request: Request, data: Prepared) -> None:
    """Raises AuditError for what would otherwise come out after the teacher is trained."""
    evaluator, measure = request.settings.group("evaluator"), request.settings.group("measure")
    if min(data.task.image_shape[1:]) < SMALL_WINDOW:
        raise AuditError(
            f"images of {data.task.image_shape[1]}x{data.task.image_shape[2]} pixels are too small to compare: "
            f"use --image-size {SMALL_WINDOW} or more"
        )
    for model in {request.model, evaluator.model or request.model}:
        vgg(model, data.task.image_shape, len(data.task.classes), width=0.01)
    if measure.inception_weights is not None:
        inception_features(measure.inception_weights)


def audit_seed(shop: Workshop, data: Prepared, request: Request, seed: int) -> SeedAudit:
    """One seed: train, protect, examine, attack the targets and their untrained twins, measure, judge.

    Without an attack there is nothing to control and nothing to judge: accuracy and energy are all that is measured.
    """
    settings = request.settings
    teacher = train_teacher(shop, data, request.model, settings.group("teacher"), seed)
    recipe = settings.group("evaluator")
    evaluators = [train_evaluator(shop, data, request.model, recipe, second) for second in (False, True)]
    assessor = Assessor.of(shop, data, teacher, evaluators, settings.group("measure"), seed)
    targets: list[Target] = []
    evidence: dict[tuple[str, str], Evidence] = {}
    measured: list[DefenseResult] = []
    with shop.monitor.steps(f"seed {seed}", len(request.compared)) as advance:
        for component in request.compared:
            made = protect(shop, data, teacher, component, settings, seed)
            target = examine(shop, data, made, component, settings, seed)
            targets.append(target)
            if not request.attacks:
                measured.append(defense_result(target, (), (), None, component in request.defenses))
                advance()
                continue
            asked = Inquiry.of(shop, data, component, settings, request.model, seed)
            twin = untrained(shop, data, target, seed)
            subject = Subject(component.name, target.network, target.key)
            results, nulls = [], []
            for item in request.attacks:
                found = attack(shop, data, subject, item, settings, seed, asked)
                evidence[component.name, item.label] = found
                results.append(assessor.result(component.name, target.network, found, asked.truth))
                null = attack(shop, data, twin, item, settings, seed)
                nulls.append(assessor.result(f"{component.name} (untrained)", twin.network, null, None))
            gradients = examine_gradients(shop, data, target, seed)
            measured.append(defense_result(target, results, nulls, gradients, component in request.defenses))
            advance()
    images = [result for defense in measured for result in defense.attacks if result.evidence == "images"]
    sizes = [result.images // len(data.task.classes) for result in images]
    leaks = any(component.evidence != "adversarial" for component in request.attacks)
    per_class = max(sizes, default=0) or len(data.parts.test) // len(data.task.classes)
    result = SeedResult(
        seed=seed,
        teacher=teacher.info,
        evaluator=evaluators[0].info,
        second_evaluator=evaluators[1].info,
        controls=assessor.controls(per_class) if leaks else (),
        defenses=judged(measured, UNDEFENDED) if request.attacks else tuple(measured),
    )
    return SeedAudit(result, targets, evidence, assessor.scores)


def picture_grid(data: Prepared, request: Request, done: SeedAudit) -> Pictures:
    """The paper's Fig. 6: the original, then each attack on the undefended conversion and on the requested defenses.

    One image per class, the first of each set: chosen by nobody. Of an attack's variants the one that leaks most from
    the last requested defense. Without an attack there are none.
    """
    if not request.attacks:
        return Pictures(data.task.classes, ())
    names = {component.name for component in request.defenses} | {UNDEFENDED}
    columns = [("original", _first(data.parts.teacher.pixels, data.parts.teacher.labels, len(data.task.classes)))]
    for attacker in pictured(request, done.result):
        for component in request.compared:
            item = done.evidence[component.name, attacker.label]
            if component.name in names and item.found is not None:
                low, high = data.task.input_range
                pixels = ((item.found.images - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
                first = _first(pixels, item.found.labels, len(data.task.classes))
                columns.append((f"{attacker.label}\non {component.name}", first))
    return Pictures(data.task.classes, tuple(columns))


def pictured(request: Request, result: SeedResult) -> list[Component[Attack]]:
    """One variant of every attack, the one that leaks most from the last requested defense; in the suite's order."""
    audited = next(d for d in reversed(result.defenses) if d.defense == request.defenses[-1].name)
    leaks = {a.attack: a.leakage.value if a.leakage and a.leakage.value is not None else -1.0 for a in audited.attacks}
    best: dict[str, Component[Attack]] = {}
    for attacker in request.attacks:
        known = best.setdefault(attacker.name, attacker)
        if leaks[attacker.label] > leaks[known.label]:
            best[attacker.name] = attacker
    return list(best.values())


def _first(pixels: Tensor, labels: Tensor, classes: int) -> np.ndarray:
    index = torch.stack([(labels == label).nonzero()[0, 0] for label in range(classes)])
    return pixels[index].permute(0, 2, 3, 1).numpy()


def environment(device: torch.device) -> Environment:
    """What the numbers depend on beside the settings."""
    packages = (attacks, audit, defenses, leaderboards)
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(audit.__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        revision = asked.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = None
    return Environment(
        version=__version__,
        code_hash=hash_sources(packages),
        git_revision=revision,
        python=platform.python_version(),
        packages={name: version(name) for name in PACKAGES},
        platform=platform.platform(),
        device=torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        threads=torch.get_num_threads(),
        engine=engine() if device.type == "cpu" else None,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise AuditError(f"--device {name} is not a device; use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise AuditError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here; use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise AuditError(f"--device {name} is not supported; use auto, cpu or cuda")
    return device


def _feature_extractor(request: Request, result: SeedResult) -> str:
    evaluator = result.evaluator
    units = evaluator.settings["hidden"] or "its own number of"
    text = f"evaluator features: penultimate layer of the auditor's {evaluator.architecture}, {units} units"
    weights = request.settings.group("measure").inception_weights
    return text + ("; Inception: the published FID weights" if weights else "")


def plain(value: Any) -> Any:
    """Settings as the record holds them: what JSON makes of them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, Path) else value
