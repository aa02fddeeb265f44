"""Each defense does to the teacher what its name says, from what it is handed, as its settings say."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.contracts import DataAccess, Defense, DefenseContext, Images
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.networks.synthesis import Synthesis
from audit.spiking.conversion import balance_thresholds
from audit.spiking.network import SpikingNetwork
from defenses.conversion import RealDataConversion
from defenses.data_free_conversion import DataFreeConversion
from defenses.dc_cet import ClassEncryptionTraining
from defenses.none import NoDefense
from defenses.privatesnn import PrivateSNN
from tests.networks.teachers import CPU, TASK, generator, rand, tiny_teacher

SMALL: dict[str, Any] = {"time_steps": 12, "threshold_images": 8, "threshold_scale": 0.7}
SYNTHESIS: dict[str, Any] = {**SMALL, "synthetic_images": 12, "synthesis_steps": 10, "synthesis_learning_rate": 0.05}
TRAINING: dict[str, Any] = {**SYNTHESIS, "epochs": 2, "learning_rate": 2e-3, "batch_size": 6}

REAL = RealDataConversion(**SMALL)
DATA_FREE = DataFreeConversion(**SYNTHESIS)
ENCRYPTED = ClassEncryptionTraining(**TRAINING)
PRIVATE = PrivateSNN(**TRAINING)
IMAGES = Images(
    torch.randint(0, 256, (20, *TASK.image_shape), generator=generator(3)).to(torch.uint8), torch.arange(20)
)


@dataclass
class Harness:
    """A fake of it: hands out contexts, and writes down what a defense asked to have stored."""

    asked: list[tuple[str, Any]] = field(default_factory=list)
    instead: dict[str, Tensor] = field(default_factory=dict)
    made: dict[str, Tensor] = field(default_factory=dict)

    def stored(
        self, stage: str, network: nn.Module, settings: Any, make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        self.asked.append((stage, settings))
        self.made = make() | self.instead
        return self.made

    def context(self, seed: int = 0, images: Images | None = None) -> DefenseContext:
        return DefenseContext(TASK, seed, CPU, SilentMonitor(), self.stored, images)

    def protect(self, defense: Any, seed: int = 0) -> SpikingNetwork:
        entitled = defense.data_access is DataAccess.TRAINING_IMAGES
        network = defense.protect(tiny_teacher(), self.context(seed, IMAGES if entitled else None))
        assert isinstance(network, SpikingNetwork)
        return network


@pytest.fixture
def harness() -> Harness:
    return Harness()


def weights(network: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def thresholds(network: SpikingNetwork) -> dict[str, float]:
    return {name: float(neuron.threshold) for name, neuron in network.neurons.items()}


def test_without_a_defense_the_teacher_itself_ships(harness: Harness) -> None:
    teacher = tiny_teacher()
    assert NoDefense().protect(teacher, harness.context()) is teacher


def test_only_the_conversion_with_real_images_says_that_it_needs_them() -> None:
    assert REAL.data_access is DataAccess.TRAINING_IMAGES
    for defense in (NoDefense(), DATA_FREE, ENCRYPTED, PRIVATE):
        assert defense.data_access is DataAccess.NONE


@pytest.mark.parametrize("defense", [REAL, DATA_FREE])
def test_conversion_leaves_the_weights_to_whoever_reconverts_them(defense: Defense, harness: Harness) -> None:
    network, x = harness.protect(defense), rand(4, *TASK.image_shape)
    assert same(weights(network), weights(tiny_teacher()))
    assert (network.to_ann()(x) - tiny_teacher()(x)).abs().max() <= 1e-4
    assert not network.training


def test_thresholds_come_from_the_images_that_a_defense_may_see(harness: Harness) -> None:
    every = replace(REAL, threshold_images=20)
    expected = harness.protect(every)
    again = balance_thresholds(expected, TASK.normalise(IMAGES.pixels), seed=0, scale=0.7)
    assert thresholds(harness.protect(every)) == again
    other = Images(255 - IMAGES.pixels, IMAGES.labels)
    network = every.protect(tiny_teacher(), harness.context(images=other))
    assert thresholds(network) != again


def test_the_notes_say_how_many_images_and_which_thresholds(harness: Harness) -> None:
    context = harness.context(images=IMAGES)
    network = REAL.protect(tiny_teacher(), context)
    assert context.notes["threshold_images"] == 8
    assert context.notes["thresholds"] == thresholds(network)


@pytest.mark.parametrize("defense", [DATA_FREE, ENCRYPTED, PRIVATE])
def test_synthetic_images_are_stored_once_under_their_own_settings(defense: Defense, harness: Harness) -> None:
    harness.protect(defense)
    assert harness.asked == [("synthetic-images", Synthesis(12, "cosine", 1.0, 10, 0.05, 20.0))]


@pytest.mark.parametrize("defense", [DATA_FREE, ENCRYPTED, PRIVATE])
def test_the_notes_say_how_far_the_teacher_agrees_with_the_synthetic_labels(defense: Defense, harness: Harness) -> None:
    context = harness.context()
    harness.instead = {
        "argmax": torch.tensor([0, 1, 2, 0] * 3),
        "nominal": torch.tensor([0, 1, 2, 1] * 3),
        "soft_labels": torch.eye(3)[torch.tensor([0, 0, 0, 1] * 3)],
    }
    defense.protect(tiny_teacher(), context)
    assert context.notes["synthetic_images"] == 12
    assert context.notes["teacher agrees with the nominal class"] == 0.75
    assert context.notes["teacher agrees with the soft label's peak"] == 0.25


@pytest.mark.parametrize("defense", [ENCRYPTED, PRIVATE])
def test_encryption_changes_every_weight_and_no_threshold(defense: Defense, harness: Harness) -> None:
    network = harness.protect(defense)
    for before, after in zip(weights(tiny_teacher()), weights(network), strict=True):
        assert not torch.equal(before, after)
    assert thresholds(network) == thresholds(harness.protect(DATA_FREE))
    assert not network.training


def test_the_notes_hold_a_loss_for_every_epoch(harness: Harness) -> None:
    context = harness.context()
    ENCRYPTED.protect(tiny_teacher(), context)
    assert len(context.notes["training_loss"]) == 2


@pytest.mark.parametrize("defense", [DATA_FREE, ENCRYPTED, PRIVATE])
def test_the_teachers_weights_are_left_alone(defense: Defense, harness: Harness) -> None:
    teacher = tiny_teacher()
    defense.protect(teacher, harness.context())
    assert same(weights(teacher), weights(tiny_teacher()))


@pytest.mark.parametrize("defense", [REAL, DATA_FREE, PRIVATE])
def test_the_seed_alone_decides_the_target(defense: Defense, harness: Harness) -> None:
    torch.manual_seed(1)
    first = harness.protect(defense).state_dict()
    torch.manual_seed(2)
    again, other = harness.protect(defense).state_dict(), harness.protect(defense, seed=1).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_privatesnn_is_encryption_training_with_distillation(harness: Harness) -> None:
    assert (PRIVATE.distillation, ENCRYPTED.distillation, PrivateSNN().temperature) == (0.7, 0.0, 20.0)
    encrypted = weights(harness.protect(ENCRYPTED))
    assert same(weights(harness.protect(replace(PRIVATE, distillation=0.0))), encrypted)
    assert not same(weights(harness.protect(PRIVATE)), encrypted)


def test_with_distillation_alone_the_teacher_teaches_and_the_labels_do_not(harness: Harness) -> None:
    distilled = replace(PRIVATE, distillation=1.0)
    first = weights(harness.protect(distilled))
    harness.instead = {"argmax": torch.zeros(12, dtype=torch.long)}
    assert same(weights(harness.protect(distilled)), first)
    assert not same(weights(harness.protect(replace(distilled, temperature=2.0))), first)


def test_labels_are_the_teachers_or_the_nominal_classes(harness: Harness) -> None:
    argmax, nominal = torch.tensor([0, 1, 2, 2] * 3), torch.tensor([2, 0, 1, 2] * 3)
    harness.instead = {"argmax": argmax, "nominal": nominal}
    by_argmax, by_nominal = (
        weights(harness.protect(replace(ENCRYPTED, labels=kind))) for kind in ("argmax", "nominal")
    )
    assert not same(by_argmax, by_nominal)
    harness.instead = {"argmax": nominal, "nominal": argmax}
    assert same(weights(harness.protect(ENCRYPTED)), by_nominal)


def test_logits_are_scaled_as_the_setting_says(harness: Harness) -> None:
    networks = {kind: harness.protect(replace(ENCRYPTED, logits=kind)) for kind in ("mean", "sum", "teacher")}
    assert float(networks["mean"].output_scale) == pytest.approx(1 / 12)
    assert float(networks["sum"].output_scale) == 1.0
    assert float(networks["teacher"].output_scale) not in (pytest.approx(1 / 12), 1.0)
    trained = [weights(network) for network in networks.values()]
    assert not same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_rebalanced_thresholds_are_those_of_the_trained_weights(harness: Harness) -> None:
    kept, again = harness.protect(ENCRYPTED), harness.protect(replace(ENCRYPTED, thresholds="rebalanced"))
    assert same(weights(kept), weights(again))
    assert thresholds(kept) != thresholds(again)
    context = harness.context()
    network = replace(ENCRYPTED, thresholds="rebalanced").protect(tiny_teacher(), context)
    assert context.notes["thresholds"] == thresholds(network) == thresholds(again)
    images = TASK.normalise(harness.made["pixels"][:8])
    assert balance_thresholds(kept, images, seed=0, scale=0.7) == thresholds(again)


@pytest.mark.parametrize(
    "changed",
    [
        {"coding": "direct"},
        {"leak": 0.9},
        {"time_steps": 13},
        {"reset": "hard"},
        {"surrogate": "arctan"},
        {"surrogate_width": 0.5},
        {"surrogate_gain": 0.3},
        {"surrogate_per_threshold": True},
        {"threshold_percentile": 90.0},
        {"threshold_scale": 0.6},
        {"threshold_images": 4},
        {"threshold_crop": 2},
        {"epochs": 3},
        {"learning_rate": 1e-3},
        {"batch_size": 5},
        {"similarity": "printed"},
        {"synthesis_steps": 11},
        {"synthesis_learning_rate": 0.06},
        {"synthesis_temperature": 0.1},
        {"synthesis_concentration": 3.0},
        {"synthetic_images": 11},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_an_effect(changed: dict[str, Any], harness: Harness) -> None:
    assert not same(weights(harness.protect(replace(ENCRYPTED, **changed))), weights(harness.protect(ENCRYPTED)))


def test_too_few_time_steps_are_an_error_that_names_a_layer(harness: Harness) -> None:
    with pytest.raises(AuditError, match="layer 'relu2' received no positive current in 1 time-steps of 8 images"):
        harness.protect(replace(DATA_FREE, time_steps=1, threshold_scale=1.0))
