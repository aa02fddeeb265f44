"""Attacks and their evidence: run on a copy of the target, checked, measured; and the controls beside them."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from audit.contracts import Attack, AttackContext, NotApplicable, Reconstructions, Task
from audit.evaluation import Evaluation, leakage
from audit.pipeline import Prepared, Target, plain_json
from audit.records import AttackResult, DefenseResult
from audit.registry import Component
from audit.settings import Settings
from audit.spiking.files import build, describe, weights
from audit.spiking.network import SpikingNetwork
from audit.store import Artifact, hash_tensors
from audit.workshop import Workshop, code

log = logging.getLogger(__name__)


class AttackFailed(Exception):
    """What an attack raised, or what is wrong with its evidence: apart from failures of the harness itself."""


@dataclass(frozen=True)
class Evidence:
    """What an attack brought back, or why it brought back nothing."""

    component: Component[Attack]
    settings: dict[str, Any]
    found: Reconstructions | None
    result: AttackResult = field(repr=False)


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
            _check(found, data.task, settings.images_per_class)
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
    """An image set that no attack made, measured like one: a landmark for the leakage table, not its end."""
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


def _check(found: Reconstructions, task: Task, images_per_class: int) -> None:
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
    counts = torch.bincount(labels, minlength=len(task.classes))
    if (counts != images_per_class).any():  # fewer, of the easy classes only, would look like more leakage
        raise ValueError(f"{images_per_class} images of every class were asked for, {counts.tolist()} came back")
    if not torch.isfinite(found.images).all():
        raise ValueError("diverged: an image has values that are not finite")
    low, high = task.input_range
    if found.images.min() < low - 1e-5 or found.images.max() > high + 1e-5:
        raise ValueError(f"images leave the input range [{low}, {high}]")
