"""What the user asked for: from names, components and options to a checked request."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from audit.contracts import Attack, Defense, Task
from audit.data import DATASETS
from audit.errors import AuditError
from audit.metrics.inception import inception_features
from audit.metrics.similarity import SMALL_WINDOW
from audit.networks.vgg import NETWORKS, vgg
from audit.pipeline import Prepared, prepare_data
from audit.registry import ATTACKS, DEFENSES, Component, unknown
from audit.settings import GROUPS, Settings
from audit.suites import CURRENT, PROFILES, SUITES

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
    def scale(self) -> str:
        """What the cost of a stage depends on most."""
        return f"{self.dataset} {self.model} {self.profile} {self.device.type}"

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
    """Names of attacks, files and suites, separated by commas; 'all' among them: the suites that are current."""
    chosen: dict[str, Component[Attack]] = {}
    asked = [part.strip() for part in text.split(",")]
    for part in chain.from_iterable(CURRENT if part == "all" else [part] for part in asked):
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


def begin(request: Request) -> Prepared:
    """The data of a run. Raises AuditError for what would otherwise come out after hours of training."""
    data = prepare_data(request.dataset, request.data_root, request.settings.group("data"))
    check_measurable(request, data)
    check_defenses(request, data.task)
    return data


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


def check_defenses(request: Request, task: Task) -> None:
    """Raises AuditError where a defense knows before any training that it cannot give a target."""
    for component in request.defenses:
        defense: Any = request.settings.build(component)
        for seed in request.seeds if hasattr(defense, "check") else ():
            defense.check(task, seed, request.device)


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
