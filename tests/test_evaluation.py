"""Operations are those of a hand count; accuracy over time comes from one run; a silent failure has no place here."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from audit.contracts import Images, Task
from audit.evaluation import count_operations, evaluate_target
from audit.metrics.energy import HEADLINE
from audit.monitor import SilentMonitor
from audit.records import LayerOperations
from audit.settings import MeasureSettings
from audit.spiking.activity import Activity
from audit.spiking.encoding import Coding, Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from tests.networks.teachers import CPU, generator, small_ann, tiny_target, tiny_teacher

# A cross of signs on 3x3 pixels: +1 in a corner, -1 in the middle, and a second image that is empty.
SIGNS = torch.tensor([[[[1.0, 0, 0], [0, -1, 0], [0, 0, 0]]], [[[0.0, 0, 0], [0, 0, 0], [0, 0, 0]]]])
TOY = Task("toy", ("a", "b"), (1, 3, 3))
STEPS = 3


def counted(coding: Coding, *layers: tuple[str, nn.Module], images: torch.Tensor = SIGNS) -> dict[str, LayerOperations]:
    network = SpikingNetwork(nn.Sequential(OrderedDict(layers)), Encoder(coding), STEPS).eval()
    activity = Activity()
    for batch in images.split(1):
        network.outputs_over_time(batch, [1, STEPS], generator(), activity)
    task = replace(TOY, image_shape=tuple(images.shape[1:]))
    return {layer.name: layer for layer in count_operations(network, task, activity)}


def convolution() -> nn.Conv2d:
    """One channel that sums its 3x3 neighbourhood negatively, one that sums it positively."""
    conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight[0].fill_(-1.0)
        conv.weight[1].fill_(1.0)
    return conv


# What the corner and the middle reach with 3x3 and padding: 4 and 9 positions, of two channels each. Where both reach
# (4 positions) they cancel; the five others get -1: channel 0 receives +1 there and fires at every step.
FIRST_EVENTS = (4 + 9) * 2 / 2  # per step, mean of the two images
ANN_FIRST = (4 * 4 + 4 * 6 + 9) * 2  # corners, edges, middle; two channels


def test_a_signed_first_layer_with_borders_accumulates_what_its_events_reach() -> None:
    layers = ("conv", convolution()), ("lif", LIF(0.5)), ("flatten", nn.Flatten()), ("fc", nn.Linear(18, 2))
    operations = counted("rate", *layers)
    conv, fc = operations["conv"], operations["fc"]
    assert (conv.accumulates, conv.multiply_accumulates) == (STEPS * FIRST_EVENTS, 0)
    assert conv.ann_multiply_accumulates == ANN_FIRST
    assert conv.input_density == pytest.approx(2 / 9 / 2)
    assert conv.spikes_per_neuron == pytest.approx(5 * STEPS / 18 / 2)
    assert (fc.accumulates, fc.multiply_accumulates) == (5 * 2 * STEPS / 2, 0)
    assert fc.ann_multiply_accumulates == 36
    assert fc.input_density == pytest.approx(5 / 18 / 2)
    assert fc.spikes_per_neuron is None


def test_behind_a_pooling_every_non_zero_input_is_a_multiply_accumulate() -> None:
    layers = ("conv", convolution()), ("lif", LIF(0.5)), ("pool", nn.AvgPool2d(3)), ("flatten", nn.Flatten())
    operations = counted("rate", *layers, ("fc", nn.Linear(2, 2)))
    fc = operations["fc"]
    assert (fc.accumulates, fc.multiply_accumulates) == (0, 1 * 2 * STEPS / 2)
    assert fc.input_density == pytest.approx(1 / 2 / 2)
    assert (operations["conv"].accumulates, operations["conv"].multiply_accumulates) == (STEPS * FIRST_EVENTS, 0)


def test_behind_the_next_neuron_inputs_are_binary_again() -> None:
    second = nn.Conv2d(2, 1, 1, bias=False)
    nn.init.ones_(second.weight)
    operations = counted(
        "rate",
        ("conv", convolution()),
        ("lif", LIF(0.5)),
        ("pool", nn.AvgPool2d(3)),
        ("conv2", second),
        ("lif2", LIF(0.5)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(1, 2)),
    )
    assert operations["conv2"].multiply_accumulates == STEPS / 2
    # 5/9 at every step: over 0.5 at each of the three.
    assert (operations["fc"].accumulates, operations["fc"].multiply_accumulates) == (2 * STEPS / 2, 0)
    assert operations["conv2"].spikes_per_neuron == pytest.approx(STEPS / 2)


@pytest.mark.parametrize("coding", ["rate", "direct"])
def test_a_network_with_borders_and_a_pooling_costs_what_a_hand_counts(coding: Coding) -> None:
    # +1 in the corner of 4x4 pixels reaches 2x2 positions, -1 at (1, 2) reaches 3x3; two of them are common and cancel.
    # Of channel 0 (minus the sum) 7 neurons fire at every step, of channel 1 two: 1 + 3 pooled values are not 0.
    image = torch.zeros(2, 1, 4, 4)  # and an image that is empty
    image[0, 0, 0, 0], image[0, 0, 1, 2] = 1.0, -1.0
    second = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    nn.init.ones_(second.weight)
    operations = counted(
        coding,
        ("conv", convolution()),
        ("lif", LIF(0.5)),
        ("pool", nn.AvgPool2d(2)),
        ("conv2", second),
        ("lif2", LIF(0.5)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(12, 5)),
        images=image,
    )
    conv, conv2, fc = (operations[name] for name in ("conv", "conv2", "fc"))
    first = (4 + 9) * 2 / 2
    expected = (STEPS * first, 0) if coding == "rate" else (0, first)
    assert (conv.accumulates, conv.multiply_accumulates) == expected
    assert conv.input_density == pytest.approx(2 / 16 / 2)
    assert conv.spikes_per_neuron == pytest.approx(9 * STEPS / 32 / 2)
    # A 3x3 kernel on the 2x2 pooled map: every value reaches 2x2 positions of three channels, not 3x3.
    assert (conv2.accumulates, conv2.multiply_accumulates) == (0, STEPS * 4 * 2 * 2 * 3 / 2)
    assert conv2.input_density == pytest.approx(4 / 8 / 2)
    assert conv2.spikes_per_neuron == pytest.approx(STEPS / 2), "every neuron sees the whole map and fires"
    assert (fc.accumulates, fc.multiply_accumulates) == (STEPS * 12 * 5 / 2, 0)
    found = [layer.ann_multiply_accumulates for layer in (conv, conv2, fc)]
    assert found == [(4 * 4 + 8 * 6 + 4 * 9) * 2, 4 * 4 * 2 * 3, 60]


def test_under_direct_coding_the_first_layer_multiplies_once_for_all_time_steps() -> None:
    layers = ("conv", convolution()), ("lif", LIF(0.5)), ("flatten", nn.Flatten()), ("fc", nn.Linear(18, 2))
    operations = counted("direct", *layers)
    assert (operations["conv"].accumulates, operations["conv"].multiply_accumulates) == (0, FIRST_EVENTS)
    assert (operations["fc"].accumulates, operations["fc"].multiply_accumulates) == (5 * 2 * STEPS / 2, 0)


def test_without_a_neuron_in_between_the_next_layer_multiplies() -> None:
    layers = ("conv", convolution()), ("flatten", nn.Flatten()), ("fc", nn.Linear(18, 2))
    operations = counted("rate", *layers)
    assert (operations["fc"].accumulates, operations["fc"].multiply_accumulates) == (0, 5 * 2 * 2 * STEPS / 2)
    assert operations["conv"].spikes_per_neuron is None


def test_a_network_that_fires_everywhere_does_the_anns_operations_at_every_step() -> None:
    ann, layers = small_ann(), OrderedDict[str, nn.Module]()
    for name, layer in ann.named_children():
        layers[name] = LIF(1e-6) if isinstance(layer, nn.ReLU) else layer
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    network = SpikingNetwork(nn.Sequential(layers), Encoder("rate"), 4).eval()
    activity = Activity()
    network.outputs_over_time(torch.ones(2, 2, 6, 6), [4], generator(), activity)
    for counts in count_operations(network, Task("full", ("a", "b", "c"), (2, 6, 6)), activity):
        assert counts.accumulates + counts.multiply_accumulates == 4 * counts.ann_multiply_accumulates
        assert counts.input_density == 1


TASK = Task("toy", ("a", "b", "c"), (2, 8, 8))
TEST = Images(torch.randint(0, 256, (10, 2, 8, 8), generator=generator(1)).to(torch.uint8), torch.arange(10) % 3)
MEASURE = MeasureSettings(batch_size=4, curve_points=4)


def test_the_curve_over_time_ends_at_the_accuracy_and_every_point_is_a_run_of_its_own() -> None:
    target = tiny_target("direct", steps=16)
    report = evaluate_target(target, TASK, TEST, MEASURE, 0, CPU, SilentMonitor())
    assert [steps for steps, _ in report.accuracy_over_time] == [4, 8, 12, 16]
    for steps, point in report.accuracy_over_time:
        right = target(TASK.normalise(TEST.pixels), time_steps=steps).argmax(1) == TEST.labels
        assert point.value == pytest.approx(float(right.float().mean()))
    assert report.accuracy.value == report.accuracy_over_time[-1][1].value


def test_more_curve_points_than_time_steps_are_one_per_time_step() -> None:
    settings = replace(MEASURE, curve_points=50)
    report = evaluate_target(tiny_target(steps=16), TASK, TEST, settings, 0, CPU, SilentMonitor())
    assert [steps for steps, _ in report.accuracy_over_time] == list(range(1, 17))


def test_an_evaluation_follows_the_seed_and_counts_every_image() -> None:
    first, again, other = (
        evaluate_target(tiny_target("rate"), TASK, TEST, MEASURE, seed, CPU, SilentMonitor()) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first.energy is not None
    assert first.energy.images == first.accuracy.n == 10
    assert first.energy.measurements[0].name == HEADLINE


def test_the_operations_of_direct_coding_do_not_depend_on_the_batch_size() -> None:
    energies = [
        evaluate_target(
            tiny_target("direct"), TASK, TEST, replace(MEASURE, batch_size=n), 0, CPU, SilentMonitor()
        ).energy
        for n in (1, 10)
    ]
    assert energies[0] == energies[1]


def test_an_ann_has_an_accuracy_and_neither_a_curve_nor_spikes_to_count() -> None:
    report = evaluate_target(tiny_teacher(), TASK, TEST, MEASURE, 0, CPU, SilentMonitor())
    right = tiny_teacher()(TASK.normalise(TEST.pixels)).argmax(1) == TEST.labels
    assert report.accuracy.value == pytest.approx(float(right.float().mean()))
    assert report.accuracy_over_time == ()
    assert report.energy is None
