"""One run of the audit: every stage for every seed, and the record of it."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import attacks
import audit
import defenses
import leaderboards
from audit import __version__
from audit.assessment import defense_result
from audit.contracts import Monitor
from audit.evidence import Evidence
from audit.pictures import picture_grids
from audit.pipeline import Prepared, Target
from audit.records import DatasetInfo, DefenseResult, Environment, Record, SeedResult, StageInfo
from audit.reporting.grid import Pictures
from audit.request import UNDEFENDED, Request, begin, completed_suites
from audit.seed import OneSeed
from audit.settings import GROUPS
from audit.spiking.kernels import engine
from audit.store import Store, hash_sources
from audit.verdicts import judged
from audit.workshop import Workshop

PACKAGES = ("torch", "torchvision", "torchmetrics", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors")


@dataclass(frozen=True)
class Finished:
    """The record, the picture grids of the first seed by requested defense, the targets by seed and defense, and the
    raw scores of every image set, from which every leakage measurement can be made again."""

    record: Record
    pictures: Mapping[str, Pictures]
    targets: Mapping[tuple[int, str], nn.Module]
    scores: Mapping[str, Tensor]


@dataclass(frozen=True)
class SeedAudit:
    """What one seed left behind."""

    result: SeedResult
    targets: list[Target]
    evidence: dict[tuple[str, str], Evidence]
    scores: dict[str, Tensor]


def run(request: Request, store: Store, monitor: Monitor, elsewhere: Sequence[StageInfo] = ()) -> Finished:
    """Every stage of the request; what is in the store already is not made again.

    ``elsewhere``: the stages that other processes made for it.
    """
    data = begin(request)
    shop = Workshop(store, monitor, request.device, elsewhere=elsewhere, scale=request.scale)
    results: list[SeedResult] = []
    targets: dict[tuple[int, str], nn.Module] = {}
    scores: dict[str, Tensor] = {}
    pictures: dict[str, Pictures] = {}
    for seed in request.seeds:
        done = audit_seed(shop, data, request, seed)
        results.append(done.result)
        targets |= {(seed, target.component.name): target.network for target in done.targets}
        scores |= {f"seed {seed}/{name}": tensor for name, tensor in done.scores.items()}
        if seed == request.seeds[0]:
            pictures = picture_grids(data, request, done.result, done.evidence)
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
        stages=tuple(shop.books()),
        environment=environment(request.device),
        suites=completed_suites(component.label for component in request.attacks),
    )
    return Finished(record, pictures, targets, scores)


def audit_seed(shop: Workshop, data: Prepared, request: Request, seed: int) -> SeedAudit:
    """One seed: train, protect, examine, attack the targets and their untrained twins, measure, judge.

    Without an attack there is nothing to control and nothing to judge: accuracy and energy are all that is measured.
    """
    one = OneSeed(shop, data, request, seed)
    teacher, evaluators, assessor = one.teacher, one.evaluators, one.assessor
    targets: list[Target] = []
    evidence: dict[tuple[str, str], Evidence] = {}
    measured: list[DefenseResult] = []
    with shop.monitor.steps(f"seed {seed}", len(request.compared)) as advance:
        for component in request.compared:
            target = one.target(component)
            targets.append(target)
            results, nulls = [], []
            for item in request.attacks:
                evidence[component.name, item.label], found = one.attacked(component, item)
                results.append(found)
                nulls.append(one.null(component, item))
            gradients = one.gradients(component) if request.attacks else None
            together = assessor.evasions(component.name, results)
            wanted = component in request.defenses
            measured.append(defense_result(target, results, nulls, together, gradients, wanted))
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
