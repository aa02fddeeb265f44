"""Networks trained from scratch: they learn, repeat themselves, and hold nothing of the teacher's weights."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from audit.contracts import DataAccess
from audit.errors import AuditError
from audit.registry import DEFENSES
from audit.settings import Settings
from audit.spiking.files import build, describe
from audit.spiking.files import weights as stored
from audit.spiking.network import SpikingNetwork
from defenses.surrogate_training import NormalisedSurrogateTraining, SurrogateTraining
from tests.defenses.test_defenses import Harness
from tests.networks.teachers import TASK, generator, rand, small_ann, tiny_teacher
from tests.spiking.test_direct_training import bands

TINY: dict[str, Any] = {
    "time_steps": 12,
    "training_time_steps": 6,
    "training_epochs": 1,
    "training_batch_size": 16,
    "training_crop": 1,
    "training_learning_rate": 1e-2,
}
PLAIN, NORMED = SurrogateTraining(**TINY), NormalisedSurrogateTraining(**TINY)
IMAGES = bands(48)
BOTH = pytest.mark.parametrize("defense", [PLAIN, NORMED], ids=["plain", "tdbn"])


def protect(defense: SurrogateTraining, seed: int = 0, teacher: int = 0) -> SpikingNetwork:
    return defense.protect(tiny_teacher(teacher), Harness().context(seed, IMAGES))


def same(first: SpikingNetwork, second: SpikingNetwork) -> bool:
    tensors = second.state_dict()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in first.state_dict().items())


@BOTH
def test_the_target_recognises_unseen_images(defense: SurrogateTraining) -> None:
    unseen = bands(60, seed=1)
    network = replace(defense, training_epochs=20).protect(tiny_teacher(), Harness().context(images=bands(96)))
    with torch.no_grad():
        found = network(TASK.normalise(unseen.pixels), generator()).argmax(1)
    assert (found == unseen.labels).float().mean() > 0.8


@BOTH
def test_the_teachers_weights_do_not_matter(defense: SurrogateTraining) -> None:
    assert same(protect(defense, teacher=0), protect(defense, teacher=1))


@BOTH
def test_the_teacher_is_left_alone(defense: SurrogateTraining) -> None:
    teacher = tiny_teacher()
    defense.protect(teacher, Harness().context(images=IMAGES))
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), tiny_teacher().parameters(), strict=True))


@BOTH
def test_the_seed_alone_decides_the_target(defense: SurrogateTraining) -> None:
    torch.manual_seed(1)
    first = protect(defense)
    torch.manual_seed(2)
    assert same(first, protect(defense))
    assert not same(first, protect(defense, seed=1))


@BOTH
def test_it_says_that_it_needs_the_training_images(defense: SurrogateTraining) -> None:
    assert defense.data_access is DataAccess.TRAINING_IMAGES


@BOTH
def test_the_target_can_be_stored_and_has_the_teachers_layers(defense: SurrogateTraining) -> None:
    network = protect(defense)
    again = build(describe(network), stored(network))
    x = rand(3, *TASK.image_shape)
    assert torch.equal(network(x, generator()), again(x, generator()))
    assert [n for n, _ in network.layers.named_children()] == [n for n, _ in tiny_teacher().named_children()]
    assert not network.training


@BOTH
def test_logits_are_means_over_time_whatever_the_number_of_steps(defense: SurrogateTraining) -> None:
    network = protect(replace(defense, time_steps=40, training_epochs=8))
    early, late = network.outputs_over_time(rand(16, *TASK.image_shape), [20, 40], generator())
    assert float(network.output_scale) == pytest.approx(1 / 40)
    assert 0.7 < float(early.norm() / late.norm()) < 1.4


@BOTH
def test_the_notes_say_what_was_trained_on_and_how_it_went(defense: SurrogateTraining) -> None:
    context = Harness().context(images=IMAGES)
    replace(defense, training_epochs=2).protect(tiny_teacher(), context)
    assert context.notes["private images"] == len(IMAGES)
    assert context.notes["trained through time-steps"] == 6
    assert len(context.notes["training_loss"]) == 2


@BOTH
def test_no_more_time_steps_are_trained_through_than_the_target_runs(defense: SurrogateTraining) -> None:
    assert same(protect(replace(defense, time_steps=4)), protect(replace(defense, time_steps=4, training_time_steps=4)))


@pytest.mark.parametrize(
    "changed",
    [
        {"coding": "direct"},
        {"leak": 0.9},
        {"reset": "soft"},
        {"firing_threshold": 0.4},
        {"surrogate": "arctan"},
        {"surrogate_width": 0.5},
        {"surrogate_gain": 0.3},
        {"surrogate_per_threshold": True},
        {"training_time_steps": 5},
        {"training_epochs": 2},
        {"training_learning_rate": 1e-3},
        {"training_batch_size": 15},
        {"training_crop": 0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_an_effect(changed: dict[str, Any]) -> None:
    def weights(network: SpikingNetwork) -> list[Tensor]:
        return list(network.parameters())

    pairs = zip(weights(protect(PLAIN)), weights(protect(replace(PLAIN, **changed))), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_alpha_has_an_effect_with_batch_norm() -> None:
    assert not same(protect(NORMED), protect(replace(NORMED, norm_alpha=2.0)))


def test_the_variants_neuron_is_the_papers() -> None:
    neuron = NormalisedSurrogateTraining().neuron
    assert (float(neuron.threshold), neuron.leak, neuron.reset) == (0.5, 0.25, "hard")
    slope = neuron.surrogate(torch.tensor([-0.1, 0.1, 0.5, 0.9, 1.1]), neuron.threshold)
    assert slope.tolist() == [0, 1, 1, 1, 0]


def test_a_batch_norm_of_the_teachers_is_refused_since_its_statistics_are_of_private_images() -> None:
    teacher = small_ann()
    teacher.add_module("norm", torch.nn.BatchNorm1d(3))
    with pytest.raises(AuditError, match=r"layer 'norm' .* cannot be begun anew"):
        PLAIN.protect(teacher, Harness().context(images=IMAGES))


@pytest.mark.parametrize("name", ["surrogate-training", "surrogate-training-tdbn"])
def test_a_bad_setting_is_refused_by_name(name: str) -> None:
    component = DEFENSES.get(name)
    with pytest.raises(AuditError, match=rf"{name}\.firing_threshold"):
        Settings({}, {"defense.firing_threshold": "0"}).build(component)
    with pytest.raises(AuditError, match=rf"{name}\.coding"):
        Settings({}, {"defense.coding": "latency"}).build(component)
