"""dataset -> teacher -> defense -> target -> attacks -> evidence -> measurements -> record, one function each."""

import inspect
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit.contracts import (
    Attack,
    AttackContext,
    DataAccess,
    Defense,
    DefenseContext,
    Images,
    NotApplicable,
    Reconstructions,
    Task,
)
from audit.data import load, partition
from audit.data.parts import Parts
from audit.errors import AuditError
from audit.evaluation import Evaluation, TargetReport, evaluate_target, leakage
from audit.metrics.accuracy import accuracy
from audit.networks.operations import multiply_accumulates
from audit.networks.training import TrainingRecipe, predict, train
from audit.networks.vgg import PLANS, vgg
from audit.records import AttackResult, DefenseResult, NetworkInfo
from audit.registry import Component, unknown
from audit.settings import DataSettings, EvaluatorRecipe, MeasureSettings, Settings
from audit.spiking.files import build, describe, weights
from audit.spiking.network import SpikingNetwork
from audit.store import Artifact, hash_sources, hash_tensors
from audit.workshop import Made, Workshop, code

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The data of a run and what of it is public."""

    task: Task
    parts: Parts
    split_hash: str


@dataclass(frozen=True)
class Trained:
    """A teacher or an evaluator: the network, its stage, and its line in the record."""

    network: nn.Sequential
    key: str
    info: NetworkInfo


@dataclass(frozen=True)
class Target:
    """What a defense made of the teacher, and what is measured on it alone."""

    component: Component[Defense]
    settings: dict[str, Any]
    network: nn.Module
    key: str
    notes: dict[str, Any]
    report: TargetReport


class AttackFailed(Exception):
    """What an attack raised, or what is wrong with its evidence: apart from failures of the harness itself."""


@dataclass(frozen=True)
class Evidence:
    """What an attack brought back, or why it brought back nothing."""

    component: Component[Attack]
    settings: dict[str, Any]
    found: Reconstructions | None
    result: AttackResult = field(repr=False)


def prepare_data(name: str, root: Path | None, settings: DataSettings) -> Prepared:
    """Load the data set and split it among teacher, evaluator and test; the split does not depend on the run's seed."""
    limits = {"train": settings.train_images, "test": settings.test_images}
    dataset = load(name, root, settings.image_size, {split: n for split, n in limits.items() if n is not None})
    parts = partition(dataset, settings.evaluator_fraction, None, None, None, settings.split_seed)
    _, channels, height, width = parts.test.pixels.shape
    input_range = (-1.0, 1.0) if settings.normalisation == "signed" else (0.0, 1.0)
    task = Task(name, dataset.classes, (channels, height, width), input_range, mirror=name != "digits")
    return Prepared(task, parts, parts.split_hash())


def train_teacher(shop: Workshop, data: Prepared, model: str, recipe: TrainingRecipe, seed: int) -> Trained:
    """The private ANN, trained on the teacher's part."""
    return _train(shop, data, "teacher", data.parts.teacher, model, recipe, seed)


def train_evaluator(shop: Workshop, data: Prepared, model: str, recipe: EvaluatorRecipe, seed: int) -> Trained:
    """The auditor's independent classifier: other data, other width, other seed than the teacher's."""
    return _train(shop, data, "evaluator", data.parts.evaluator, recipe.model or model, recipe, seed + 1_000_003)


def _train(
    shop: Workshop, data: Prepared, role: str, images: Images, model: str, recipe: TrainingRecipe, seed: int
) -> Trained:
    if model not in PLANS:
        raise unknown("model", model, PLANS, hint="python -m audit list")
    task = data.task

    def fresh() -> nn.Sequential:
        return vgg(
            model,
            task.image_shape,
            len(task.classes),
            width=recipe.width,
            hidden=recipe.hidden,
            dropout=recipe.dropout,
            hidden_dropout=recipe.hidden_dropout,
            seed=seed,
        )

    def make() -> Artifact:
        network = fresh()
        with shop.monitor.steps(role, 1):
            losses = train(network, images, task, recipe, seed, shop.device, shop.monitor)
        if not all(torch.isfinite(tensor).all() for tensor in weights(network).values()):
            raise AuditError(f"the {role} diverged; lower {role}.learning_rate (now {recipe.learning_rate})")
        return Artifact(weights(network), {"training_loss": losses})

    settings = {**asdict(recipe), "model": model}
    inputs = {
        "code": code("networks/vgg.py", "networks/training.py", "data/augment.py"),
        "settings": settings,
        "split": data.split_hash,
        "part": role,
        "task": asdict(task),
    }
    made = shop.make(role, "", seed, inputs, make)
    network = fresh()
    network.load_state_dict(made.artifact.tensors)
    network.to(shop.device).eval().requires_grad_(False)
    test = data.parts.test
    logits = predict(network, task.normalise(test.pixels.to(shop.device)))
    info = NetworkInfo(
        architecture=model,
        settings=settings,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_accumulates=round(sum(multiply_accumulates(network.cpu(), task.image_shape).values())),
        hash=hash_tensors(made.artifact.tensors),
        accuracy=accuracy(f"accuracy of the {role}", logits, test.labels),
    )
    return Trained(network.to(shop.device), made.key, info)


def defense_context(
    shop: Workshop, task: Task, access: DataAccess, private: Images, teacher_key: str, seed: int
) -> DefenseContext:
    """What a defense is handed: ``private`` images only where it declares that it needs them."""
    return DefenseContext(
        task=task,
        seed=seed,
        device=shop.device,
        monitor=shop.monitor,
        stored=_remember(shop, teacher_key, seed),
        private_images=private if access is DataAccess.TRAINING_IMAGES else None,
    )


def _remember(
    shop: Workshop, teacher_key: str, seed: int
) -> Callable[[str, Any, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]:
    """Memoise a defense's expensive intermediate under its settings and the teacher."""

    def stored(stage: str, settings: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        inputs = {
            "code": [code("networks", "contracts.py"), hash_sources([Path(inspect.getfile(make))])],
            "settings": [type(settings).__qualname__, asdict(settings)],
            "teacher": teacher_key,
        }
        return shop.make(stage, "", seed, inputs, lambda: Artifact(make())).artifact.tensors

    return stored


def protect(
    shop: Workshop, data: Prepared, teacher: Trained, component: Component[Defense], options: Settings, seed: int
) -> Made:
    """Run a defense on a copy of the teacher; stored with the network's description beside its weights."""
    defense = options.build(component)
    access = component.factory.data_access  # the class's own: what the record says, and no setting can widen

    def make() -> Artifact:
        # Built anew from data: not even an attribute or a hook of the trained object goes along.
        copy = build(describe(teacher.network), weights(teacher.network)).to(shop.device).requires_grad_(True)
        context = defense_context(shop, data.task, access, data.parts.teacher, teacher.key, seed)
        with shop.monitor.steps(f"defense {component.name}", 1):
            network = defense.protect(copy, context)
        try:
            description, notes = describe(network), plain_json(context.notes)
        except (TypeError, ValueError) as error:
            raise AuditError(f"what defense '{component.name}' made cannot be stored: {error}") from error
        return Artifact(weights(network), {"network": description, "notes": notes})

    inputs = {
        "code": [component.code_hash(), code("spiking", "networks", "data/augment.py", "contracts.py")],
        "settings": [component.name, asdict(defense)],
        "teacher": teacher.key,
        "split": data.split_hash if access is DataAccess.TRAINING_IMAGES else None,
    }
    return shop.make("target", component.name, seed, inputs, make)


def examine(
    shop: Workshop, data: Prepared, made: Made, component: Component[Defense], options: Settings, seed: int
) -> Target:
    """Accuracy, accuracy over time and energy of a target on the test images, in one run of all its time-steps."""
    network = build(made.artifact.document["network"], made.artifact.tensors).to(shop.device).requires_grad_(False)
    measure: MeasureSettings = options.group("measure")

    def make() -> Artifact:
        report = evaluate_target(network, data.task, data.parts.test, measure, seed, shop.device, shop.monitor)
        return Artifact(document=report.model_dump(mode="json"))

    settings = {"batch_size": measure.batch_size, "curve_points": measure.curve_points}
    inputs = {
        "code": code("spiking", "networks", "metrics", "evaluation.py", "records.py"),
        "settings": settings,
        "target": made.key,
        "split": data.split_hash,
    }
    report = shop.make("evaluation", component.name, seed, inputs, make).artifact.document
    return Target(
        component,
        asdict(options.build(component)),
        network,
        made.key,
        made.artifact.document["notes"],
        TargetReport.model_validate(report),
    )


def attack(
    shop: Workshop,
    data: Prepared,
    target: Target,
    evaluation: Evaluation,
    component: Component[Attack],
    options: Settings,
    seed: int,
) -> Evidence:
    """Run an attack on a copy of the target and measure what it brought back; a failure is a result with a reason."""
    settings = options.build(component)

    def make() -> Artifact:
        copy = build(describe(target.network), weights(target.network)).to(shop.device)
        context = AttackContext(data.task, seed, shop.device, shop.monitor)
        try:
            with shop.monitor.steps(f"attack {component.name} on {target.component.name}", 1):
                found = settings.reconstruct(copy, context)
            _check(found, data.task)
            notes = plain_json(context.notes)
        except (NotApplicable, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # an attack is anybody's code: whatever it raises is its result
            raise AttackFailed(f"{type(error).__name__}: {error}") from error
        tensors = {"images": found.images.detach().cpu(), "labels": found.labels.cpu()}
        return Artifact(tensors, {"notes": notes})

    inputs = {
        "code": [component.code_hash(), code("spiking", "networks", "contracts.py")],
        "settings": [component.name, asdict(settings)],
        "target": target.key,
        "task": asdict(data.task),
    }
    values: dict[str, Any] = {"attack": component.name, "settings": asdict(settings)}
    try:
        made = shop.make("attack", f"{component.name} on {target.component.name}", seed, inputs, make)
    except NotApplicable as reason:
        return Evidence(component, asdict(settings), None, _without(values, "not-applicable", str(reason)))
    except AttackFailed as failure:
        log.warning(
            "attack %s on %s failed", component.name, target.component.name, exc_info=failure.__cause__ or failure
        )
        return Evidence(component, asdict(settings), None, _without(values, "failed", str(failure)))
    found = Reconstructions(made.artifact.tensors["images"], made.artifact.tensors["labels"])
    result = AttackResult(
        **values,
        status="ok",
        images=len(found.labels),
        images_hash=hash_tensors(made.artifact.tensors),
        measurements=leakage(evaluation, found),
        notes=made.artifact.document["notes"],
    )
    return Evidence(component, asdict(settings), found, result)


def control(evaluation: Evaluation, name: str, images: Tensor, labels: Tensor) -> AttackResult:
    """An image set that no attack made, measured like one: where the scale of leakage begins and ends."""
    found = Reconstructions(images, labels)
    return AttackResult(
        attack=name,
        settings={},
        status="ok",
        images=len(labels),
        images_hash=hash_tensors({"images": images, "labels": labels}),
        measurements=leakage(evaluation, found),
    )


def controls(evaluation: Evaluation, data: Prepared, count: int, seed: int) -> tuple[AttackResult, ...]:
    """``count`` of the teacher's own training images, and as many of uniform noise."""
    private = data.parts.teacher
    images = data.task.normalise(private.pixels[:count])
    low, high = data.task.input_range
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(images.shape, generator=generator) * (high - low) + low
    return (
        control(evaluation, "real training images", images, private.labels[:count]),
        control(evaluation, "uniform noise", noise, private.labels[:count]),
    )


def defense_result(target: Target, evidence: Sequence[Evidence], requested: bool) -> DefenseResult:
    """A target's part of the record."""
    component, report = target.component, target.report
    return DefenseResult(
        defense=component.name,
        origin=component.origin,
        summary=component.summary,
        requested=requested,
        data_access=component.factory.data_access.value,
        settings=target.settings,
        target_hash=hash_tensors(weights(target.network)),
        time_steps=target.network.time_steps if isinstance(target.network, SpikingNetwork) else None,
        accuracy=report.accuracy,
        accuracy_over_time=report.accuracy_over_time,
        energy=report.energy,
        attacks=tuple(item.result for item in evidence),
        notes=target.notes,
    )


def _without(values: dict[str, Any], status: Any, reason: str) -> AttackResult:
    return AttackResult(**values, status=status, reason=reason, images=0, images_hash=None, measurements=())


def plain_json(notes: dict[str, Any]) -> dict[str, Any]:
    """The notes as the record will hold them. Raises TypeError or ValueError where they are no JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(notes, allow_nan=False))
    return plain


def _check(found: Reconstructions, task: Task) -> None:
    """Raises ValueError where an attack's evidence is not what the contract says."""
    if not isinstance(found, Reconstructions):
        raise TypeError(f"a {type(found).__name__} came back, not Reconstructions")
    images, labels = found.images, found.labels
    if images.dtype != torch.float32 or labels.dtype != torch.int64:
        raise TypeError(f"images are {images.dtype} and labels {labels.dtype}, not torch.float32 and torch.int64")
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels have shape {tuple(labels.shape)}, not (N,) with N > 0")
    if labels.min() < 0 or labels.max() >= len(task.classes):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; there are {len(task.classes)} classes")
    expected = (len(labels), *task.image_shape)
    if tuple(images.shape) != expected:
        raise ValueError(f"images have shape {tuple(images.shape)}, not {expected}")
    if not torch.isfinite(found.images).all():
        raise ValueError("diverged: an image has values that are not finite")
    low, high = task.input_range
    if found.images.min() < low - 1e-5 or found.images.max() > high + 1e-5:
        raise ValueError(f"images leave the input range [{low}, {high}]")
