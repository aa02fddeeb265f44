"""The profiles: named defaults for everything that a run can be set to; --set overrides each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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


# 'all' begins with the paper's attack scenarios 1 and 2, as its Fig. 6 does; the others follow by name.
FIRST_ATTACKS = ("reconversion", "direct-inversion")

PROFILES: Mapping[str, Profile] = {
    "smoke": Profile(
        "digits on a small VGG5: minutes on two CPU cores",
        "digits",
        "vgg5",
        {
            "data.evaluator_fraction": 0.3,
            "data.train_images": 4000,
            "data.test_images": 500,
            "teacher.width": 0.25,
            "teacher.epochs": 40,
            "teacher.learning_rate": 0.05,
            "teacher.batch_size": 64,
            "teacher.crop": 1,
            "teacher.dropout": 0.1,
            "evaluator.width": 0.35,
            "evaluator.hidden": 32,
            "evaluator.epochs": 60,
            "evaluator.learning_rate": 0.05,
            "evaluator.batch_size": 64,
            "evaluator.crop": 1,
            "evaluator.dropout": 0.1,
            "defense.time_steps": 64,
            "defense.threshold_images": 256,
            "defense.synthetic_images": 320,
            "defense.synthesis_steps": 300,
            "defense.synthesis_learning_rate": 0.02,
            "defense.epochs": 8,
            "attack.images_per_class": 16,
            "direct-inversion.updates": 20,
            "direct-inversion.time_steps": 32,
            "direct-inversion.normalised_rate": 0.05,
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
            "evaluator.hidden": 48,
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
            "attack.images_per_class": 24,
            "direct-inversion.updates": 30,
            "direct-inversion.normalised_rate": 0.05,
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
