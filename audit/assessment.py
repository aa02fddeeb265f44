"""From evidence to a line of the record: what the auditor makes of what an attack brought back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from audit.answers import Answers
from audit.contracts import Images, Reconstructions
from audit.controls import image_controls, noise
from audit.evasions import together
from audit.evidence import Evidence
from audit.membership import Membership
from audit.metrics.robustness import FULL_PRECISION, model_size
from audit.metrics.weights import compare_networks
from audit.networks.perturbations import margin
from audit.networks.training import predict
from audit.observation import Observation, Observer, Yardstick, measure
from audit.pipeline import Prepared, Target, Trained
from audit.records import AttackResult, DefenseResult, GradientHealth, Measurement
from audit.robustness import Contrast, contrast, victims
from audit.settings import MeasureSettings
from audit.spiking.files import describe, weights
from audit.spiking.network import SpikingNetwork
from audit.store import Artifact, digest, hash_tensors
from audit.workshop import Workshop, code

START_IMAGES = 50
# What measurements depend on, beside the metrics and the networks.
CODE = ("assessment.py", "observation.py", "answers.py", "robustness.py", "controls.py", "membership.py", "records.py")


@dataclass
class Assessor:
    """Measures everything of one seed; ``scores`` collects the raw scores under 'target/attack/...'."""

    shop: Workshop
    data: Prepared
    observer: Observer
    eyes: str
    teacher: Trained
    measure: MeasureSettings
    seed: int
    unfit: str | None = None
    scores: dict[str, Tensor] = field(default_factory=dict)
    _contrasts: dict[str, dict[str, Contrast]] = field(default_factory=dict)
    _yardsticks: dict[int, Yardstick] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        shop: Workshop,
        data: Prepared,
        teacher: Trained,
        evaluators: Sequence[Trained],
        settings: MeasureSettings,
        seed: int,
    ) -> "Assessor":
        """Raises AuditError where Inception weights are named that are not the published ones."""
        networks = tuple(evaluator.network for evaluator in evaluators)
        observer = Observer.of(networks, data.task, data.parts.teacher, settings, shop.device)
        eyes = digest([evaluator.key for evaluator in evaluators] + [str(settings.inception_weights)])
        unfit = observer.unfit(data.parts.test)
        return cls(shop, data, observer, eyes, teacher, settings, seed, unfit)

    def result(
        self, target: str, network: nn.Module, evidence: Evidence, membership: Membership | None
    ) -> AttackResult:
        """Measurements of an attack's evidence; one that brought nothing keeps its place and its reason."""
        component = evidence.component
        values: dict[str, Any] = {
            "attack": component.label,
            "settings": evidence.settings,
            "evidence": component.evidence,
            "access": component.access.value,
            "status": evidence.status,
            "reason": evidence.reason,
            "images": 0,
            "images_hash": evidence.hash(),
            "measurements": (),
            "notes": evidence.notes,
        }
        if evidence.status != "ok":
            return AttackResult(**values)
        label, place = f"{component.label} on {target}", f"{target}/{component.label}"
        if evidence.found is not None:
            found = evidence.found
            observation = self._observed(label, evidence.key, found.images, found.labels)
            values |= {"images": len(found.labels), "scores_hash": self._keep(place, observation)}
            yardstick = self.yardstick(len(found.labels) // len(self.data.task.classes))
            values |= self._measured(
                label, evidence, lambda: measure(observation, yardstick), lambda: self._beats_its_start(network, found)
            )
        elif evidence.adversarial is not None:
            answered = self._contrasted(label, evidence, network)
            self._contrasts.setdefault(target, {})[component.label] = answered
            values |= {"images": len(answered.labels), "scores_hash": self._keep(place, answered)}
            values |= self._measured(label, evidence, answered.measured)
        elif evidence.recovered is not None:
            values |= self._measured(label, evidence, lambda: self._compared(evidence.recovered))
        else:
            assert membership is not None
            correct = self._predicted(network, membership.images) == membership.images.labels
            answers = Answers(evidence.tensors, membership.members, correct)
            values |= {"scores_hash": self._keep(place, answers)}
            values |= self._measured(label, evidence, answers.measured)
        return AttackResult(**values)

    def evasions(self, target: str, attacks: Sequence[AttackResult]) -> tuple[Measurement, ...]:
        """What all evasions of one strength come to, of those whose results are ``attacks``."""
        return together(attacks, self._contrasts.get(target, {}))

    def _measured(
        self,
        label: str,
        evidence: Evidence,
        measurements: Callable[[], tuple[Measurement, ...]],
        beats_its_start: Callable[[], bool] = lambda: True,
    ) -> dict[str, Any]:
        """Of a result, the measurements and the flags. What is measured follows from the attack and who looks at it."""
        inputs = {
            "code": code("metrics", "spiking", "networks", *CODE),
            "eyes": self.eyes,
            "split": self.data.split_hash,
            "teacher": self.teacher.key,
            "private sample": self.measure.reference_images,
            "attack": evidence.key,
        }

        def make() -> Artifact:
            flags = [] if beats_its_start() else ["did-not-beat-its-start"]
            measured = [measurement.model_dump(mode="json") for measurement in measurements()]
            return Artifact(document={"measurements": measured, "flags": flags})

        found = self.shop.make("measurements", label, self.seed, inputs, make).artifact.document
        return {
            "measurements": tuple(Measurement.model_validate(one) for one in found["measurements"]),
            "flags": tuple(found["flags"]),
        }

    def _compared(self, recovered: nn.Module | None) -> tuple[Measurement, ...]:
        """A recovered network beside the teacher."""
        assert isinstance(recovered, nn.Sequential)
        test = self.data.parts.test
        images = self.data.task.normalise(test.pixels.to(self.shop.device))
        return compare_networks(recovered.to(self.shop.device), self.teacher.network, images, test.labels)

    def controls(self, per_class: int) -> tuple[AttackResult, ...]:
        """Image sets that no attack made, measured like one."""
        made = image_controls(self.data.task, self.data.parts.test, per_class, self.seed)
        results = []
        for name, (images, labels) in made.items():
            observation = self.observer.observe(images, labels)
            results.append(
                AttackResult(
                    attack=name,
                    settings={},
                    status="ok",
                    images=len(labels),
                    images_hash=hash_tensors({"images": images, "labels": labels}),
                    measurements=measure(observation, self.yardstick(per_class)),
                    scores_hash=self._keep(name, observation),
                )
            )
        return tuple(results)

    def yardstick(self, per_class: int) -> Yardstick:
        """Held-out real images as many as the attack's, and the private sample."""
        if per_class not in self._yardsticks:
            known = next(iter(self._yardsticks.values()), None)
            private = known.private if known else self.observer.sample(self.measure.reference_images)
            images, labels = image_controls(self.data.task, self.data.parts.test, per_class, self.seed)[
                "held-out real images"
            ]
            self._keep("private sample", private)
            real = self.observer.observe(images, labels)
            self._keep(f"real images, {per_class} per class", real)
            self._yardsticks[per_class] = Yardstick(private, real, self.data.task.classes, self.unfit)
        return self._yardsticks[per_class]

    def _observed(self, label: str, key: str | None, images: Tensor, labels: Tensor) -> Observation:
        inputs = {
            "code": code("observation.py", "metrics/similarity.py", "networks"),
            "eyes": self.eyes,
            "split": self.data.split_hash,
            "attack": key,
        }
        made: Callable[[], Artifact] = lambda: Artifact(self.observer.observe(images, labels).tensors())  # noqa: E731
        return Observation.of(self.shop.make("observation", label, self.seed, inputs, made).artifact.tensors)

    def _contrasted(self, label: str, evidence: Evidence, network: nn.Module) -> Contrast:
        """The target's answers to clean and attacked images, whose attack's key stands for both."""
        changed = evidence.adversarial
        assert changed is not None
        inputs = {
            "code": code("robustness.py", "spiking", "networks"),
            "split": self.data.split_hash,
            "attack": evidence.key,
        }

        def make() -> Artifact:
            test = victims(self.data.parts.test, len(changed), len(self.data.task.classes))
            return Artifact(contrast(network, self.data.task, test, changed, self.seed, self.shop.device).tensors())

        return Contrast.of(self.shop.make("contrast", label, self.seed, inputs, make).artifact.tensors)

    def _keep(self, place: str, scores: Observation | Answers | Contrast) -> str:
        tensors = scores.tensors()
        self.scores |= {f"{place}/{name}": tensor for name, tensor in tensors.items()}
        return hash_tensors(tensors)

    def _beats_its_start(self, network: nn.Module, found: Reconstructions) -> bool:
        """Whether the target sees the class more in some of the finished images than in as many of noise."""
        images, labels = found.images[:START_IMAGES], found.labels[:START_IMAGES]
        start = noise(len(labels), self.data.task, torch.Generator().manual_seed(self.seed))
        finished, random = (margin(self._logits(network, x), labels).mean() for x in (images, start))
        return bool(finished > random)

    def _predicted(self, network: nn.Module, images: Images) -> Tensor:
        return self._logits(network, self.data.task.normalise(images.pixels)).argmax(1)

    @torch.no_grad()
    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        x = images.to(self.shop.device)
        if not isinstance(network, SpikingNetwork):
            return predict(network, x).cpu()
        generator = torch.Generator(self.shop.device).manual_seed(self.seed)
        return torch.cat([network(part, generator).cpu() for part in x.split(100)])


def defense_result(
    target: Target,
    attacks: Sequence[AttackResult],
    untrained: Sequence[AttackResult],
    evasions: Sequence[Measurement],
    gradients: GradientHealth | None,
    requested: bool,
) -> DefenseResult:
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
        layers_hash=digest(describe(target.network)),
        time_steps=target.network.time_steps if isinstance(target.network, SpikingNetwork) else None,
        accuracy=report.accuracy,
        accuracy_over_time=report.accuracy_over_time,
        energy=report.energy,
        attacks=tuple(attacks),
        untrained=tuple(untrained),
        gradients=gradients,
        notes=target.notes,
        size=size_of(target.network, target.notes),
        evasions=tuple(evasions),
    )


def size_of(network: nn.Module, notes: Mapping[str, Any]) -> Measurement:
    """Of the weights: what the defense noted as 'size, bits'; else 'bits per weight', or 32, for each."""
    count = sum(parameter.numel() for parameter in network.parameters())
    noted = {name: notes.get(name) for name in ("size, bits", "bits per weight")}
    size, bits = (value if isinstance(value, int | float) and value > 0 else None for value in noted.values())
    return model_size(count, size / count if size and count else bits or FULL_PRECISION)
