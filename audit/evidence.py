"""Attacks and what they bring back: run on a copy of a target, handed what they declare, checked, and stored."""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from audit.contracts import (
    Access,
    Adversarial,
    Attack,
    AttackContext,
    Images,
    MembershipScores,
    NotApplicable,
    Oracle,
    Reconstructions,
    Task,
)
from audit.membership import Inquiry
from audit.monitor import Deadline, OutOfTime
from audit.networks.ascent import derived_seed
from audit.observation import first_per_class
from audit.pipeline import Prepared, Subject, fingerprint, plain_json
from audit.records import Status
from audit.registry import Component
from audit.robustness import victims
from audit.settings import Settings
from audit.spiking.files import build, describe, weights
from audit.spiking.network import SpikingNetwork
from audit.store import Artifact, Unusable, hash_tensors
from audit.workshop import Workshop, code

log = logging.getLogger(__name__)
# Of an artifact's document: why the attack does not apply.
NOTHING = "not applicable"


class AttackFailed(Exception):
    """What an attack raised, or what is wrong with its evidence: apart from failures of the harness itself."""


@dataclass(frozen=True)
class Evidence:
    """What an attack brought back, or why it brought back nothing.

    ``tensors``: images and labels of an inversion, scores by signal of a membership inference, weights of a recovered
    network, whose layers ``description`` holds, the changed images of an evasion.
    """

    component: Component[Attack]
    settings: dict[str, Any]
    status: Status = "ok"
    reason: str | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)
    notes: dict[str, Any] = field(default_factory=dict)
    description: dict[str, Any] | None = None
    key: str | None = None

    @property
    def found(self) -> Reconstructions | None:
        """The images of an inversion that ran."""
        if "images" not in self.tensors:
            return None
        return Reconstructions(self.tensors["images"], self.tensors["labels"])

    @property
    def adversarial(self) -> Tensor | None:
        """The changed images of an evasion that ran, one for each of `audit.robustness.victims`."""
        return self.tensors.get("adversarial")

    @property
    def recovered(self) -> nn.Module | None:
        """The network of a weight recovery that ran."""
        return build(self.description, self.tensors) if self.description is not None else None

    def hash(self) -> str | None:
        return hash_tensors(self.tensors) if self.tensors else None


def attack(
    shop: Workshop,
    data: Prepared,
    subject: Subject,
    component: Component[Attack],
    options: Settings,
    seed: int,
    inquiry: Inquiry | None = None,
) -> Evidence:
    """Run an attack on a copy of the subject; a failure is evidence with a reason.

    ``inquiry`` is there for a network that was trained: without it there are no members to infer and no accuracy to
    lose, and membership inference and evasion do not apply.
    """
    settings = options.build(component)
    evades = component.evidence == "adversarial"
    values: dict[str, Any] = {"component": component, "settings": asdict(settings)}

    def make() -> Artifact:
        copy = build(describe(subject.network), weights(subject.network)).to(shop.device)
        leaked = _leaked(data, int(getattr(settings, "leaked_images", 0)), seed)
        monitor = Deadline(shop.monitor, options.group("measure").attack_seconds, shop.clock())
        context = AttackContext(data.task, seed, shop.device, monitor, leaked)
        handed = copy if component.access is Access.WEIGHTS else _oracle(copy, component.access, context)
        images = victims(data.parts.test, settings.images, len(data.task.classes)) if evades else None
        try:
            with shop.monitor.steps(f"attack {component.label} on {subject.name}", 1):
                artifact = _run(settings, handed, context, inquiry, images)
            artifact.document["notes"] = plain_json(context.notes)
        except NotApplicable as reason:  # it depends on what the key holds, and is stored like any evidence
            return Artifact(document={NOTHING: str(reason)})
        except (OutOfTime, Unusable):  # no fault of the attack
            raise
        except Exception as error:  # an attack is anybody's code: whatever it raises is its result
            raise AttackFailed(f"{type(error).__name__}: {error}") from error
        return artifact

    inputs = {
        "code": [component.code_hash(), code("spiking", "networks", "contracts.py", "loops.py")],
        "settings": [component.name, asdict(settings)],
        "target": subject.key,
        "task": asdict(data.task),
        "split": data.split_hash if evades or hasattr(settings, "leaked_images") else None,
        "inquiry": inquiry.key if inquiry is not None and component.evidence == "membership" else None,
    }

    try:
        inputs["reads"] = fingerprint(settings, data.task, seed)
        made = shop.make("attack", f"{component.label} on {subject.name}", seed, inputs, make)
    except OutOfTime as reason:
        return Evidence(**values, status="timed-out", reason=str(reason))
    except AttackFailed as failure:
        log.warning("attack %s on %s failed", component.label, subject.name, exc_info=failure.__cause__ or failure)
        return Evidence(**values, status="failed", reason=str(failure))
    document = made.artifact.document
    if NOTHING in document:
        return Evidence(**values, status="not-applicable", reason=document[NOTHING])
    return Evidence(
        **values,
        tensors=made.artifact.tensors,
        notes=document["notes"],
        description=document.get("network"),
        key=made.key,
    )


def _run(
    settings: Any, target: Any, context: AttackContext, inquiry: Inquiry | None, images: Images | None
) -> Artifact:
    """Call the one method that the attack has, and check what comes back."""
    if hasattr(settings, "reconstruct"):
        found = settings.reconstruct(target, context)
        _check_images(found, context.task, settings.images_per_class)
        return Artifact({"images": found.images.detach().cpu(), "labels": found.labels.cpu()})
    if hasattr(settings, "recover"):
        network = settings.recover(target, context)
        if not isinstance(network, nn.Sequential):
            raise TypeError(f"a {type(network).__name__} came back, not a network of torch.nn.Sequential")
        _check_network(network, context)
        return Artifact(weights(network), {"network": describe(network)})
    if images is not None:
        if inquiry is None:
            raise NotApplicable("nothing was trained: this network has no accuracy to lose")
        evaded = settings.evade(target, context, images)
        _check_bound(evaded, context.task, images, settings.epsilon)
        return Artifact({"adversarial": evaded.images.detach().cpu()})
    if inquiry is None:
        raise NotApplicable("no candidates: nothing was trained on for this network")
    asked = inquiry.candidates()
    scored = settings.score_members(target, context, asked)
    _check_scores(scored, len(asked.images))
    return Artifact({name: scores.detach().cpu() for name, scores in scored.scores.items()})


def _oracle(network: nn.Module, access: Access, context: AttackContext) -> Oracle:
    """The target as a service: nothing but its answers can be reached from what is returned by an honest attack."""
    generator = torch.Generator(context.device).manual_seed(derived_seed(context.seed, "oracle", 0))
    network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def answer(images: Tensor) -> Tensor:
        parts = images.to(context.device).split(100)
        spiking = isinstance(network, SpikingNetwork)
        logits = torch.cat([network(part, generator) if spiking else network(part) for part in parts])
        return logits if access is Access.SCORES else logits.argmax(1)

    return Oracle(answer, generator)


def _leaked(data: Prepared, count: int, seed: int) -> Images | None:
    """``count`` private images, as equally over the classes as can be."""
    if not count:
        return None
    classes = len(data.task.classes)
    chosen = first_per_class(data.parts.teacher, -(-count // classes), classes)
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(derived_seed(seed, "leaked", 0)))
    return Images(chosen.pixels[order[:count]], chosen.labels[order[:count]])


def _check_network(network: nn.Sequential, context: AttackContext) -> None:
    """Raises ValueError where a recovered network does not classify the task's images."""
    with torch.no_grad():
        logits = network.to(context.device).eval()(torch.zeros(2, *context.task.image_shape, device=context.device))
    if tuple(logits.shape) != (2, len(context.task.classes)) or not torch.isfinite(logits).all():
        raise ValueError(f"the network gives {tuple(logits.shape)} for 2 images of {len(context.task.classes)} classes")


def _check_scores(found: MembershipScores, candidates: int) -> None:
    """Raises TypeError or ValueError where a membership inference's evidence is not what the contract says."""
    if not isinstance(found, MembershipScores):
        raise TypeError(f"a {type(found).__name__} came back, not MembershipScores")
    if not found.scores:
        raise ValueError("no scores came back")
    for name, scores in found.scores.items():
        if tuple(scores.shape) != (candidates,) or not scores.is_floating_point():
            raise ValueError(f"'{name}': {scores.dtype} of shape {tuple(scores.shape)}, not floats ({candidates},)")
        if not torch.isfinite(scores).all():
            raise ValueError(f"'{name}': a score is not finite")


def _check_bound(found: Adversarial, task: Task, images: Images, epsilon: float) -> None:
    """Raises TypeError or ValueError where a pixel of an evasion moved farther than its bound, or left the range."""
    if not isinstance(found, Adversarial):
        raise TypeError(f"a {type(found).__name__} came back, not Adversarial")
    clean, changed = task.normalise(images.pixels), found.images.detach().cpu()
    if changed.dtype != torch.float32 or changed.shape != clean.shape:
        expected = tuple(clean.shape)
        raise ValueError(f"images are {changed.dtype} of shape {tuple(changed.shape)}, not torch.float32 {expected}")
    lower, upper = task.around(clean, epsilon)
    outside = int((~((changed >= lower) & (changed <= upper))).flatten(1).any(1).sum())
    if outside:  # what is not finite is outside as well
        raise ValueError(f"{outside} of {len(clean)} images leave the bound, {255 * epsilon:g}/255, or the input range")


def _check_images(found: Reconstructions, task: Task, images_per_class: int) -> None:
    """Raises TypeError or ValueError where an inversion's evidence is not what the contract says."""
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
