"""The negative controls know nothing."""

import torch
from torch import nn

from audit.contracts import Images
from audit.controls import image_controls, untrained_twin
from audit.spiking.files import describe, weights
from audit.spiking.network import SpikingNetwork
from tests.networks.teachers import CPU, TASK, tiny_target, tiny_teacher


def test_an_untrained_twin_has_the_shape_and_nothing_of_the_weights() -> None:
    target = tiny_target("rate")
    twin = untrained_twin(target, TASK, 1, CPU)
    assert isinstance(twin, SpikingNetwork)
    assert describe(twin) == describe(target)
    for name, layer in twin.layers.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            other = target.layers.get_submodule(name).weight.flatten()  # type: ignore[union-attr, operator]
            assert abs(float(nn.functional.cosine_similarity(layer.weight.flatten(), other, dim=0))) < 0.3
    assert all(float(neuron.threshold) > 0 for neuron in twin.neurons.values())


def test_a_twin_depends_on_the_shape_and_the_seed_alone() -> None:
    first, second = tiny_target("rate", seed=0), tiny_target("rate", seed=5)
    twins = [weights(untrained_twin(network, TASK, 1, CPU)) for network in (first, second)]
    assert all(torch.equal(twins[0][name], twins[1][name]) for name in twins[0])
    other = weights(untrained_twin(first, TASK, 2, CPU))
    assert not torch.equal(other["layers.conv1.weight"], twins[0]["layers.conv1.weight"])


def test_an_ann_has_a_twin_too() -> None:
    twin = untrained_twin(tiny_teacher(), TASK, 1, CPU)
    assert describe(twin) == describe(tiny_teacher())


def test_image_controls_are_as_many_of_every_class() -> None:
    test = Images(torch.zeros(30, *TASK.image_shape, dtype=torch.uint8), torch.arange(30) % 3)
    made = image_controls(TASK, test, 4, 0)
    for images, labels in made.values():
        assert torch.bincount(labels).tolist() == [4, 4, 4]
        assert images.shape == (12, *TASK.image_shape)
    noise = made["uniform noise"][0]
    low, high = TASK.input_range
    assert low <= float(noise.min())
    assert float(noise.max()) <= high
