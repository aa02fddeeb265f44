"""What the auditor sees in a set of images: raw scores per image, and every leakage measurement from them alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from audit.contracts import Images, Task
from audit.metrics.accuracy import accuracy
from audit.metrics.frechet import frechet_distance
from audit.metrics.images import RECOGNISED, recognised, relative_to_real
from audit.metrics.kernel import class_conditional_distance, kernel_distance
from audit.metrics.manifold import coverage, density, nearest_neighbour
from audit.metrics.similarity import nearest_similarity
from audit.metrics.statistics import mean, without_value
from audit.records import Measurement
from audit.settings import MeasureSettings

Features = Callable[[Tensor], Tensor]

EVALUATOR_DISTANCE = "FD, evaluator features"
REAL_DISTANCE = "FD of as many real images, evaluator features"
INCEPTION_DISTANCE = "FID, Inception"


@dataclass(frozen=True)
class Observation:
    """Raw scores of N images, one row each: nothing else is needed to make or to check a leakage measurement.

    ``features`` [N, D] by the distance's name, ``logits`` [N, K] of each evaluator, ``similarity`` [N]: SSIM to the
    nearest private training image of the class.
    """

    labels: Tensor
    features: Mapping[str, Tensor]
    logits: tuple[Tensor, ...]
    similarity: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Named tensors to be stored; `of` is the inverse."""
        named = {"labels": self.labels}
        if self.similarity is not None:
            named["similarity"] = self.similarity
        named |= {f"features/{name}": rows for name, rows in self.features.items()}
        return named | {f"logits/{i}": rows for i, rows in enumerate(self.logits)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Observation":
        features = {
            name.removeprefix("features/"): rows for name, rows in tensors.items() if name.startswith("features/")
        }
        count = sum(name.startswith("logits/") for name in tensors)
        logits = tuple(tensors[f"logits/{i}"] for i in range(count))
        return cls(tensors["labels"], features, logits, tensors.get("similarity"))


@dataclass(frozen=True)
class Yardstick:
    """What images are measured against: a sample of the private training images, and as many held-out real ones.

    ``unfit``: why the evaluators can certify nothing.
    """

    private: Observation
    real: Observation
    classes: tuple[str, ...]
    unfit: str | None = None


@dataclass(frozen=True)
class Observer:
    """The auditor's eyes: evaluators trained on data of their own, and the private images for nearest neighbours.

    ``extractors``: name of the distance -> images [N, C, H, W] in the input range to features [N, D].
    """

    evaluators: tuple[nn.Sequential, ...]
    extractors: Mapping[str, Features]
    private: Images
    task: Task
    device: torch.device

    @classmethod
    def of(
        cls,
        evaluators: tuple[nn.Sequential, ...],
        task: Task,
        private: Images,
        settings: MeasureSettings,
        device: torch.device,
    ) -> "Observer":
        """Raises AuditError where Inception weights are named that are not the published ones."""
        extractors: dict[str, Features] = {EVALUATOR_DISTANCE: penultimate(evaluators[0])}
        if settings.inception_weights is not None:
            from audit.metrics.inception import inception_features

            inception = inception_features(settings.inception_weights).to(device)
            low, high = task.input_range
            extractors[INCEPTION_DISTANCE] = lambda x: inception((x - low) * (2 / (high - low)) - 1)
        return cls(evaluators, extractors, private, task, device)

    def observe(self, images: Tensor, labels: Tensor) -> Observation:
        """``images`` float [N, C, H, W] in the input range, ``labels`` int64 [N]."""
        private = self.task.normalise(self.private.pixels)
        near = nearest_similarity(images, labels, private, self.private.labels, self.task.input_range)
        return replace(self._seen(images, labels), similarity=near)

    def sample(self, count: int) -> Observation:
        """About ``count`` of the private training images, as many of every class."""
        classes = len(self.task.classes)
        chosen = first_per_class(self.private, -(-count // classes), classes)
        return self._seen(self.task.normalise(chosen.pixels), chosen.labels)

    def unfit(self, test: Images) -> str | None:
        """Why the evaluators can certify nothing: one of them is no better than chance on the test images."""
        classes = len(self.task.classes)
        for evaluator in self.evaluators:
            logits = _batched(evaluator, self.task.normalise(test.pixels), self.device)
            known = accuracy("accuracy of the evaluator", logits, test.labels)
            if known.low is None or known.low <= 1 / classes:
                reached = "has no accuracy" if known.value is None else f"recognises {known.value:.1%} of real images"
                return f"an evaluator {reached}, no better than chance among {classes} classes: train it better"
        return None

    def _seen(self, images: Tensor, labels: Tensor) -> Observation:
        return Observation(
            labels,
            {name: _batched(extract, images, self.device) for name, extract in self.extractors.items()},
            tuple(_batched(evaluator, images, self.device) for evaluator in self.evaluators),
        )


def measure(found: Observation, yardstick: Yardstick) -> tuple[Measurement, ...]:
    """Every leakage measurement of a set of images but the headline, which needs a control beside it."""
    private, real = yardstick.private, yardstick.real
    near, own = private.features[EVALUATOR_DISTANCE], found.features[EVALUATOR_DISTANCE]
    by_evaluators = (
        frechet_distance(EVALUATOR_DISTANCE, near, own),
        frechet_distance(REAL_DISTANCE, near, real.features[EVALUATOR_DISTANCE]),
        *(
            recognised(logits, found.labels, name)
            for name, logits in zip((RECOGNISED, "recognised by the second evaluator"), found.logits, strict=False)
        ),
        relative_to_real(found.logits, found.labels, real.logits, real.labels),
        kernel_distance("KID, evaluator features", near, own),
        class_conditional_distance(
            "KID within classes, evaluator features", near, private.labels, own, found.labels, yardstick.classes
        ),
        density("density, evaluator features", near, own),
        coverage("coverage, evaluator features", near, own),
        nearest_neighbour(
            "nearest private image, evaluator features",
            own,
            found.labels,
            near,
            private.labels,
            real.features[EVALUATOR_DISTANCE],
            real.labels,
        ),
    )
    if yardstick.unfit:
        by_evaluators = tuple(
            without_value(m.name, m.n, m.unit, m.direction, "undefined", yardstick.unfit) for m in by_evaluators
        )
    others = (
        frechet_distance(name, private.features[name], rows)
        for name, rows in found.features.items()
        if name != EVALUATOR_DISTANCE
    )
    if found.similarity is None:
        return (*by_evaluators, *others)
    alike = mean("SSIM to the nearest private image", found.similarity, [found.labels], "", "higher means more leakage")
    return (*by_evaluators, *others, alike)


def first_per_class(images: Images, per_class: int, classes: int) -> Images:
    """The first ``per_class`` images of every class, or all of a class that has fewer; grouped by class."""
    chosen = torch.cat([(images.labels == label).nonzero()[:per_class, 0] for label in range(classes)])
    return Images(images.pixels[chosen], images.labels[chosen])


def penultimate(network: nn.Sequential) -> Features:
    """Activations that enter the last layer, [N, D]."""
    return network[:-1].eval()


@torch.no_grad()
def _batched(extract: Features, images: Tensor, device: torch.device) -> Tensor:
    return torch.cat([extract(batch.to(device)).cpu() for batch in images.split(250)])
