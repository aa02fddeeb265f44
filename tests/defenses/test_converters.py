"""The conversion methods of the literature, each on a teacher that was trained for the purpose."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.contracts import DataAccess, DefenseContext, Images, Task
from audit.monitor import SilentMonitor
from audit.networks.folding import fold_batch_norms
from audit.networks.training import TrainingRecipe, train
from audit.networks.vgg import vgg
from audit.registry import DEFENSES
from audit.spiking.adaptive_neuron import AdaptiveLIF
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from tests.networks.teachers import CPU, generator

TASK = Task("toy", ("a", "b", "c"), (1, 8, 8))
NAMES = ("conversion", "rmp-snn", "weight-normalization", "weight-normalization-max", "qcfs", "adaptive-conversion")
TUNED: dict[str, Any] = {"tuning_epochs": 4, "tuning_batch_size": 16, "tuning_crop": 0}


def images(count: int, seed: int) -> Images:
    """A bright bar in noise: on the left, in the middle or on the right."""
    source = generator(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 120, (count, 1, 8, 8), generator=source)
    for index, label in enumerate(labels.tolist()):
        pixels[index, :, :, 3 * label : 3 * label + 2] += 120
    return Images(pixels.to(torch.uint8), labels)


TRAIN, TEST = images(180, 0), images(90, 1)


@cache
def teacher(model: str = "vgg5") -> nn.Sequential:
    network = vgg(model, TASK.image_shape, 3, width=0.07, hidden=12, dropout=0.0, hidden_dropout=0.0, seed=2)
    train(network, TRAIN, TASK, TrainingRecipe(8, 0.05, 16, crop=0, schedule="cosine"), 0, CPU, SilentMonitor())
    return fold_batch_norms(network).eval().requires_grad_(False)


@cache
def converted(name: str, model: str = "vgg5", steps: int = 256) -> tuple[SpikingNetwork, dict[str, Any]]:
    component = DEFENSES.get(name)
    settings = TUNED if "tuning_epochs" in component.fields else {}
    defense = component.factory(time_steps=steps, **settings)
    assert defense.data_access is DataAccess.TRAINING_IMAGES
    context = DefenseContext(TASK, 0, CPU, SilentMonitor(), never, TRAIN)
    network = defense.protect(teacher(model), context)
    assert isinstance(network, SpikingNetwork)
    return network, context.notes


def never(*_: Any) -> dict[str, Tensor]:
    raise AssertionError("these defenses store nothing")


def right(logits: Tensor) -> float:
    return float((logits.argmax(1) == TEST.labels).float().mean())


def over_time(network: SpikingNetwork, at: list[int]) -> list[float]:
    with torch.no_grad():
        return [right(o) for o in network.outputs_over_time(TASK.normalise(TEST.pixels), at, generator(3))]


@pytest.mark.parametrize("model", ["vgg5", "vgg5-bn"])
@pytest.mark.parametrize("name", NAMES)
def test_with_many_time_steps_it_is_as_right_as_its_teacher(name: str, model: str) -> None:
    wanted = right(teacher(model)(TASK.normalise(TEST.pixels)))
    assert wanted > 0.95
    assert over_time(converted(name, model)[0], [256])[0] >= wanted - 0.02


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_left_as_it_was(name: str) -> None:
    network = teacher()
    before = [p.clone() for p in network.parameters()]
    converted(name)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))
    assert all(isinstance(layer, nn.ReLU) for key, layer in network.named_children() if key.startswith("relu"))


def test_thresholds_below_the_maximum_answer_sooner() -> None:
    """RMP-SNN against threshold balancing at the maximum: fewer time-steps to the teacher's accuracy."""
    at = [4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    wanted = right(teacher()(TASK.normalise(TEST.pixels))) - 0.02
    needed = [
        next(t for t, accuracy in zip(at, over_time(converted(name)[0], at), strict=True) if accuracy >= wanted)
        for name in ("rmp-snn", "conversion")
    ]
    assert needed[0] < needed[1]


def test_the_thresholds_of_rmp_snn_are_its_share_of_the_maximum_in_the_first_layer() -> None:
    first = [next(iter(converted(name)[1]["thresholds"].values())) for name in ("rmp-snn", "conversion")]
    assert first[0] == pytest.approx(0.7 * first[1], rel=1e-5)


@pytest.mark.parametrize("name", ["weight-normalization", "weight-normalization-max", "qcfs"])
def test_weights_are_normalised_so_that_every_threshold_is_one(name: str) -> None:
    network, notes = converted(name)
    assert all(float(neuron.threshold) == 1 for neuron in network.neurons.values())
    assert list(notes["layer scales"]) == list(network.neurons)


def test_the_maximum_scales_more_than_a_percentile() -> None:
    small, large = (converted(f"weight-normalization{x}")[1]["layer scales"] for x in ("", "-max"))
    assert all(small[name] < large[name] for name in small)


def test_the_potentials_of_qcfs_start_half_full_and_no_others() -> None:
    assert {neuron.initial for neuron in converted("qcfs")[0].neurons.values()} == {0.5}
    assert {neuron.initial for neuron in converted("weight-normalization")[0].neurons.values()} == {0.0}


def test_qcfs_answers_as_its_ann_after_as_many_steps_as_it_has_levels() -> None:
    assert over_time(converted("qcfs")[0], [4])[0] >= 0.9


def test_adaptive_conversion_has_adaptive_neurons_and_tuned_thresholds() -> None:
    network, notes = converted("adaptive-conversion")
    assert {type(neuron) for neuron in network.neurons.values()} == {AdaptiveLIF}
    assert all(float(n.threshold) == pytest.approx(notes["thresholds"][k]) for k, n in network.neurons.items())
    assert notes["tuning_loss"][-1] < 0.5


@pytest.mark.parametrize("name", ["qcfs", "adaptive-conversion"])
def test_what_was_trained_on_is_what_is_converted(name: str) -> None:
    """The rates of the first layer are those that its activation in the ANN gives, for a constant image."""
    network, _ = converted(name)
    x = TASK.normalise(TEST.pixels[:4])
    current = network.layers.conv1(x)
    neuron = network.layers.relu1
    assert isinstance(neuron, LIF)
    spikes, _ = neuron(current.expand(network.time_steps, *current.shape))
    if name == "qcfs":
        wanted = current.clamp(0, 1)
    else:
        from audit.spiking.adaptive_neuron import AdaptiveRate

        assert isinstance(neuron, AdaptiveLIF)
        wanted = AdaptiveRate(float(neuron.threshold), neuron.adaptation, neuron.decay, network.time_steps)(current)
    torch.testing.assert_close(spikes.mean(0), wanted, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_target_and_another_draws_other_images(name: str) -> None:
    component = DEFENSES.get(name)
    settings = {**TUNED, "tuning_epochs": 1} if "tuning_epochs" in component.fields else {}
    defense = component.factory(time_steps=24, threshold_images=9, **settings)
    made = []
    for seed in (0, 0, 1):
        context = DefenseContext(TASK, seed, CPU, SilentMonitor(), never, TRAIN)
        made.append(defense.protect(teacher(), context).state_dict())
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])
    assert any(not torch.equal(made[0][key], made[2][key]) for key in made[0])


def test_a_change_of_the_percentile_is_a_change_of_the_scales() -> None:
    component = DEFENSES.get("weight-normalization").factory()
    scales = []
    for percentile in (50.0, 99.0):
        context = DefenseContext(TASK, 0, CPU, SilentMonitor(), never, TRAIN)
        replace(component, normalization_percentile=percentile, time_steps=4).protect(teacher(), context)
        scales.append(context.notes["layer scales"]["relu1"])
    assert scales[0] < scales[1]
