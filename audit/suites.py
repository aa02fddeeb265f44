"""The suites, frozen and versioned lists of attacks; and the profiles, named defaults for all settings of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """An attack of a suite. ``settings`` make it this ``variant``; sizes and budgets come from the profile."""

    attack: str
    variant: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How records and tables name it."""
        return f"{self.attack} ({self.variant})" if self.variant else self.attack


@dataclass(frozen=True)
class Suite:
    """Never changed once released: another attack or another setting makes the next version."""

    summary: str
    entries: tuple[Entry, ...]

    @property
    def names(self) -> str:
        """Its attacks in order, a variant in brackets."""
        return ", ".join(entry.label for entry in self.entries)


RECONVERSION = "adaptive-reconversion"

CLASS_LEAKAGE_1 = (
    Entry("reconversion"),
    Entry("direct-inversion"),
    Entry(RECONVERSION, "relu", {"activation": "relu"}),
    Entry(RECONVERSION, "clip", {"activation": "clip"}),
    Entry(RECONVERSION, "clip-floor", {"activation": "clip-floor"}),
    Entry(RECONVERSION, "rate-curve", {"activation": "rate-curve", "calibrate": True}),
    Entry(RECONVERSION, "distilled", {"activation": "clip", "calibrate": True, "distillation_steps": 300}),
    Entry("adaptive-inversion"),
    Entry("black-box-inversion"),
    Entry("label-only-inversion"),
    Entry("weight-recovery"),
)

# L-infinity bounds of an evasion, in 255ths of the pixel range, by the quantisation paper's numbers.
STRENGTHS: Mapping[str, int] = {"I": 2, "II": 8, "III": 16}
EVASION = "evasion"
BY_GRADIENT: Mapping[str, Mapping[str, Any]] = {
    "fgsm": {"method": "fgsm"},
    "pgd": {"method": "pgd"},
    "apgd": {"method": "apgd"},
    "transfer": {"method": "pgd", "gradient": "reconverted"},
}

ROBUSTNESS_1 = tuple(
    entry
    for number, levels in STRENGTHS.items()
    for entry in (
        *(Entry(EVASION, f"{name} {number}", {**settings, "levels": levels}) for name, settings in BY_GRADIENT.items()),
        Entry("square-evasion", number, {"levels": levels}),
    )
)

SUITES: Mapping[str, Suite] = {
    "class-leakage-v1": Suite(
        "the paper's two attacks, and adaptive ones with weights, with scores and with labels", CLASS_LEAKAGE_1
    ),
    "class-leakage-v2": Suite(
        "the paper's two attacks, adaptive ones with weights, with scores and with labels, and a search of scales",
        (*CLASS_LEAKAGE_1, Entry("scale-search")),
    ),
    "membership-v1": Suite("who was in the training set", (Entry("membership-inference"),)),
    "robustness-v1": Suite(
        "images changed by at most 2, 8 and 16 of 255 levels: by gradients, by transfer, by scores", ROBUSTNESS_1
    ),
    "paper-v1": Suite("PrivateSNN's two attack scenarios", (Entry("reconversion"), Entry("direct-inversion"))),
}
# What --attack all means today.
CURRENT = ("class-leakage-v2", "membership-v1")


@dataclass(frozen=True)
class Track:
    """A grid of runs that make one table: every coding of the image by every number of bits per weight.

    ``suite`` attacks each. ``before``: what stands for the network in full precision, ``after``: for the quantised one,
    the first that is registered; another may be asked for. ``settings`` hold for every run; those of ``by_profile``
    unless others are passed: a grid is many runs, and each has to cost less than one that is alone.
    """

    summary: str
    suite: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    codings: tuple[str, ...]
    bits: tuple[int | None, ...]
    settings: Mapping[str, str]
    by_profile: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


# Coders without a sign take pixels in [0, 1]: all do, so that one teacher serves them.
TRACKS: Mapping[str, Track] = {
    "robustness": Track(
        "accuracy lost to evasion before and after quantisation, for every coding of the image",
        "robustness-v1",
        ("quantized", "conversion"),  # without bits it is trained as long as with them
        ("quantized",),
        ("direct", "unsigned-rate", "phase", "latency"),
        (None, 8, 4, 2, 1),
        {"data.normalisation": "unit"},
        {
            # A latency code is trained through all of them: half of the grid's time with more.
            "smoke": {"defense.time_steps": "16"},
            "small": {
                "data.train_images": "10000",
                "data.evaluator_fraction": "0.2",
                "teacher.width": "0.125",
                "defense.time_steps": "8",
                "defense.training_epochs": "8",
                "defense.tuning_epochs": "2",
                "attack.images": "100",
                "evasion.steps": "5",
                "evasion.widths": "2",
                "evasion.shapes": "arctan",
                "square-evasion.queries_per_image": "30",
            },
        },
    )
}


@dataclass(frozen=True)
class Profile:
    """``settings`` are 'group.field' -> value, as for --set; ``by_dataset`` adds to them for one data set."""

    summary: str
    dataset: str
    model: str
    settings: Mapping[str, Any]
    by_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def settings_for(self, dataset: str) -> dict[str, Any]:
        return {**self.settings, **self.by_dataset.get(dataset, {})}


PROFILES: Mapping[str, Profile] = {
    "smoke": Profile(
        "digits on a small VGG5: minutes on two CPU cores",
        "digits",
        "vgg5",
        {
            "data.evaluator_fraction": 0.3,
            "data.train_images": 4000,
            "data.test_images": 500,
            "teacher.width": 0.125,
            "teacher.epochs": 40,
            "teacher.learning_rate": 0.05,
            "teacher.batch_size": 64,
            "teacher.crop": 1,
            "teacher.dropout": 0.1,
            "teacher.hidden_dropout": 0.2,
            "evaluator.width": 0.35,
            "evaluator.hidden": 20,
            "evaluator.epochs": 90,
            "evaluator.learning_rate": 0.03,
            "evaluator.batch_size": 64,
            "evaluator.crop": 1,
            "evaluator.dropout": 0.1,
            "evaluator.hidden_dropout": 0.1,
            "defense.time_steps": 40,
            "defense.threshold_images": 256,
            "defense.synthetic_images": 320,
            "defense.synthesis_steps": 200,
            "defense.synthesis_learning_rate": 0.02,
            "defense.epochs": 8,
            "attack.images_per_class": 10,
            "defense.tuning_epochs": 20,
            "defense.tuning_crop": 1,
            "defense.training_crop": 1,
            "defense.training_epochs": 20,
            "defense.training_batch_size": 32,
            "defense.sample_rate": 0.25,
            "defense.private_epochs": 30,
            "direct-inversion.updates": 10,
            "direct-inversion.time_steps": 16,
            "direct-inversion.normalised_rate": 0.05,
            "adaptive-reconversion.updates": 100,
            "adaptive-inversion.updates": 20,
            "adaptive-inversion.pilot_updates": 4,
            "adaptive-inversion.time_steps": 24,
            "scale-search.updates": 100,
            "black-box-inversion.images_per_class": 3,
            "black-box-inversion.queries_per_image": 200,
            "label-only-inversion.images_per_class": 3,
            "label-only-inversion.queries_per_image": 200,
            "membership-inference.shadows": 1,
            "membership-inference.masks": 2,
            "measure.reference_images": 1000,
            "attack.images": 50,
            "evasion.steps": 5,
            "evasion.encodings": 1,
            "evasion.widths": "2",
            "evasion.shapes": "arctan",
            "square-evasion.queries_per_image": 50,
        },
        {
            "tinyimagenet": {
                "data.image_size": 32,
                "attack.images_per_class": 4,
                "evaluator.hidden": 48,
                "evaluator.learning_rate": 0.02,
                "evaluator.hidden_dropout": 0.1,
            }
        },
    ),
    "small": Profile(
        "CIFAR-10 on a reduced VGG9: an hour on two CPU cores",
        "cifar10",
        "vgg9",
        {
            "data.evaluator_fraction": 0.4,
            "data.test_images": 1000,
            "teacher.width": 0.25,
            "teacher.epochs": 16,
            "teacher.learning_rate": 0.05,
            "teacher.batch_size": 64,
            "teacher.schedule": "cosine",
            "teacher.dropout": 0.0,
            "teacher.hidden_dropout": 0.1,
            "evaluator.width": 0.3,
            "evaluator.hidden": 40,
            "evaluator.epochs": 16,
            "evaluator.learning_rate": 0.05,
            "evaluator.batch_size": 64,
            "evaluator.schedule": "cosine",
            "evaluator.dropout": 0.0,
            "evaluator.hidden_dropout": 0.1,
            "defense.time_steps": 32,
            "defense.threshold_percentile": 90,
            "defense.threshold_images": 128,
            "defense.synthetic_images": 500,
            "defense.synthesis_steps": 300,
            "defense.synthesis_learning_rate": 0.02,
            "defense.epochs": 8,
            "defense.tuning_epochs": 5,
            "defense.training_epochs": 6,
            "defense.training_time_steps": 4,
            "adaptive-conversion.tuning_learning_rate": 1e-3,
            "surrogate-training.training_epochs": 6,
            "surrogate-training.training_time_steps": 4,
            "surrogate-training-tdbn.training_epochs": 7,
            "surrogate-training-tdbn.training_time_steps": 2,
            "data-free-distillation.student_epochs": 200,
            "data-free-quantization.finetuning_epochs": 10,
            "defense.sample_rate": 0.03,
            "defense.private_epochs": 6,
            "attack.images_per_class": 10,
            "direct-inversion.updates": 20,
            "direct-inversion.time_steps": 16,
            "direct-inversion.normalised_rate": 0.05,
            "adaptive-reconversion.updates": 100,
            "scale-search.updates": 100,
            "adaptive-inversion.updates": 30,
            "adaptive-inversion.pilot_updates": 5,
            "adaptive-inversion.time_steps": 16,
            "black-box-inversion.images_per_class": 5,
            "black-box-inversion.queries_per_image": 120,
            "label-only-inversion.images_per_class": 5,
            "label-only-inversion.queries_per_image": 120,
            "membership-inference.shadows": 1,
            "membership-inference.masks": 4,
            "attack.images": 200,
            "evasion.steps": 10,
            "evasion.encodings": 2,
            "square-evasion.queries_per_image": 200,
        },
    ),
    "paper": Profile(
        "the paper's settings (VGG16, T = 150 or 200): for a GPU",
        "cifar10",
        "vgg16",
        {
            "data.evaluator_fraction": 0.2,
            "teacher.epochs": 200,
            "evaluator.width": 0.5,
            "evaluator.hidden": 256,
            "evaluator.epochs": 100,
            "defense.time_steps": 150,
            "defense.synthetic_images": 5000,
            "attack.images_per_class": 210,
        },
        {
            dataset: {"defense.time_steps": 200, "defense.synthetic_images": 10000, "attack.images_per_class": 25}
            for dataset in ("cifar100", "tinyimagenet")
        },
    ),
}
