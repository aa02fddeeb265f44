"""dataset -> teacher -> defense -> target, one function each; attacks and what they bring back are in `evidence`."""

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit.contracts import (
    DataAccess,
    Defense,
    DefenseContext,
    Images,
    Stored,
    Task,
)
from audit.controls import untrained_twin
from audit.data import load, partition
from audit.data.parts import Parts
from audit.errors import AuditError
from audit.evaluation import TargetReport, evaluate_target
from audit.health import gradient_health
from audit.metrics.accuracy import accuracy
from audit.networks.folding import fold_batch_norms
from audit.networks.operations import multiply_accumulates
from audit.networks.training import TrainingRecipe, predict, train
from audit.networks.vgg import NETWORKS, vgg
from audit.records import GradientHealth, NetworkInfo
from audit.registry import Component, unknown
from audit.settings import DataSettings, EvaluatorRecipe, MeasureSettings, Settings
from audit.spiking.files import build, describe, weights
from audit.spiking.network import SpikingNetwork
from audit.store import Artifact, digest, hash_sources, hash_tensors
from audit.workshop import Made, Workshop, code

EVALUATOR_SEED = 1_000_003
SECOND_WIDTH = 0.8
PHOTOGRAPHS = ("cifar10", "cifar100", "tinyimagenet")


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


@dataclass(frozen=True)
class Subject:
    """What an attack is run on: a target, or the untrained network of its shape."""

    name: str
    network: nn.Module
    key: str


def prepare_data(name: str, root: Path | None, settings: DataSettings) -> Prepared:
    """Load the data set and split it among teacher, evaluator and test; the split does not depend on the run's seed."""
    limits = {"train": settings.train_images, "test": settings.test_images}
    dataset = load(name, root, settings.image_size, {split: n for split, n in limits.items() if n is not None})
    parts = partition(dataset, settings.evaluator_fraction, None, None, None, settings.split_seed)
    _, channels, height, width = parts.test.pixels.shape
    mirror = name in PHOTOGRAPHS if settings.mirror is None else settings.mirror
    input_range = (-1.0, 1.0) if settings.normalisation == "signed" else (0.0, 1.0)
    task = Task(name, dataset.classes, (channels, height, width), input_range, mirror=mirror)
    return Prepared(task, parts, parts.split_hash())


def train_teacher(shop: Workshop, data: Prepared, model: str, recipe: TrainingRecipe, seed: int) -> Trained:
    """The private ANN, trained on the teacher's part."""
    return _train(shop, data, "teacher", data.parts.teacher, model, recipe, seed)


def train_evaluator(
    shop: Workshop, data: Prepared, model: str, recipe: EvaluatorRecipe, second: bool = False
) -> Trained:
    """The auditor's independent classifier: other data, other width, other seed than the teacher's.

    One for all seeds of a run: a distance is comparable only within one network's features. The ``second`` one, again
    with another width and seed, is asked whether it recognises the same images.
    """
    seed, role = (EVALUATOR_SEED + 1, "second evaluator") if second else (EVALUATOR_SEED, "evaluator")
    recipe = replace(recipe, width=recipe.width * SECOND_WIDTH) if second else recipe
    return _train(shop, data, role, data.parts.evaluator, recipe.model or model, recipe, seed)


def _train(
    shop: Workshop, data: Prepared, role: str, images: Images, model: str, recipe: TrainingRecipe, seed: int
) -> Trained:
    if model not in NETWORKS:
        raise unknown("model", model, NETWORKS, hint="python -m audit list")
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
        return Artifact(weights(fold_batch_norms(network)), {"training_loss": losses})

    settings = {**asdict(recipe), "model": model}
    inputs = {
        "code": code(
            "networks/vgg.py",
            "networks/training.py",
            "networks/folding.py",
            "networks/epochs.py",
            "data/augment.py",
            "contracts.py",
            "loops.py",
        ),
        "settings": settings,
        "split": data.split_hash,
        "part": role,
        "task": asdict(task),
    }
    made = shop.make(role, "", seed, inputs, make)
    network = fold_batch_norms(fresh())
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


def defense_context(shop: Workshop, task: Task, access: DataAccess, private: Images, seed: int) -> DefenseContext:
    """What a defense is handed: ``private`` images only where it declares that it needs them."""
    return DefenseContext(
        task=task,
        seed=seed,
        device=shop.device,
        monitor=shop.monitor,
        stored=_remember(shop, seed),
        private_images=private if access is DataAccess.TRAINING_IMAGES else None,
    )


def _remember(shop: Workshop, seed: int) -> Stored:
    """Memoise a defense's expensive intermediate under its settings and the network that it is made from."""

    def stored(
        stage: str, network: nn.Module, settings: Any, make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        inputs = {
            "code": [code("networks", "contracts.py", "loops.py"), hash_sources([Path(inspect.getfile(make))])],
            "settings": [type(settings).__qualname__, asdict(settings)],
            "network": [describe(network), hash_tensors(weights(network))],
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
        context = defense_context(shop, data.task, access, data.parts.teacher, seed)
        with shop.monitor.steps(f"defense {component.name}", 1):
            network = defense.protect(copy, context)
        if not isinstance(network, nn.Module):
            raise AuditError(f"defense '{component.name}' returned {type(network).__name__}, not a network")
        try:
            description, notes = describe(network), plain_json(context.notes)
        except (TypeError, ValueError) as error:
            raise AuditError(f"what defense '{component.name}' made cannot be stored: {error}") from error
        return Artifact(weights(network), {"network": description, "notes": notes})

    inputs = {
        "code": [component.code_hash(), code("spiking", "networks", "data/augment.py", "contracts.py", "loops.py")],
        "settings": [component.name, asdict(defense)],
        "teacher": teacher.key,
        "split": data.split_hash if access is DataAccess.TRAINING_IMAGES else None,
        "reads": fingerprint(defense, data.task, seed),
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


def untrained(shop: Workshop, data: Prepared, target: Target, seed: int) -> Subject:
    """The negative control of a target; targets of one shape share it."""
    shape = describe(target.network)

    def make() -> Artifact:
        twin = untrained_twin(target.network, data.task, seed, shop.device)
        return Artifact(weights(twin), {"network": describe(twin)})

    inputs = {"code": code("spiking", "controls.py"), "shape": shape, "task": asdict(data.task)}
    made = shop.make("untrained", digest(shape)[:8], seed, inputs, make)
    network = build(made.artifact.document["network"], made.artifact.tensors).to(shop.device).requires_grad_(False)
    return Subject(f"untrained {digest(shape)[:8]}", network, made.key)


def examine_gradients(shop: Workshop, data: Prepared, target: Target, seed: int) -> GradientHealth | None:
    """The health of a target's gradient with respect to the image; None where its coding has none."""
    network = target.network
    if isinstance(network, SpikingNetwork) and not network.encoder.differentiable:
        return None

    def make() -> Artifact:
        copy = build(describe(network), weights(network))
        return Artifact(document=gradient_health(copy, data.task, seed, shop.device).model_dump(mode="json"))

    inputs = {"code": code("spiking", "networks", "health.py", "records.py"), "target": target.key}
    made = shop.make("gradients", target.component.name, seed, inputs, make)
    return GradientHealth.model_validate(made.artifact.document)


def fingerprint(component: Any, task: Task, seed: int) -> str | None:
    """Of the files that a component reads, where it says so by a method of that name; None where it reads none."""
    method = getattr(component, "fingerprint", None)
    return None if method is None else str(method(task, seed))


def plain_json(notes: dict[str, Any]) -> dict[str, Any]:
    """The notes as the record will hold them. Raises TypeError or ValueError where they are no JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(notes, allow_nan=False))
    return plain
