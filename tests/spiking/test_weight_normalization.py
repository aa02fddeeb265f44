"""Weight normalisation divides every layer by a scale, and changes no answer but by what spikes cannot say."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from audit.errors import AuditError
from audit.spiking.encoding import Encoder
from audit.spiking.qcfs import QuantizedClip
from audit.spiking.twin import spiking_twin
from audit.spiking.weight_normalization import activation_scales, scale_layers
from tests.networks.teachers import rand, small_ann, tiny_teacher

IMAGES = rand(40, 2, 6, 6, seed=3)


def test_the_maximum_is_the_largest_activation_of_each_layer() -> None:
    ann = small_ann()
    scales = activation_scales(ann, IMAGES, 100.0, batch_size=7)
    first = ann[1](ann[0](IMAGES))
    assert scales["relu1"] == pytest.approx(float(first.max()))
    assert list(scales) == ["relu1", "relu2"]


def test_a_percentile_is_that_of_the_positive_activations() -> None:
    ann = small_ann()
    first = ann[1](ann[0](IMAGES))
    half = activation_scales(ann, IMAGES, 50.0)["relu1"]
    assert float((first[first > 0] <= half).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_a_layer_that_is_never_active_is_named() -> None:
    ann = small_ann()
    nn.init.constant_(ann.conv2.weight, 0.0)
    nn.init.constant_(ann.conv2.bias, -1.0)
    with pytest.raises(AuditError, match="layer 'relu2' is never active"):
        activation_scales(ann, IMAGES, 99.9)


@pytest.mark.parametrize("bias", [False, True])
def test_the_normalised_ann_gives_the_same_logits_and_activations_of_at_most_one(bias: bool) -> None:
    ann = small_ann() if bias else tiny_teacher()
    images = IMAGES if bias else rand(40, 2, 8, 8, seed=3)
    wanted = ann(images)
    scales = activation_scales(ann, images, 100.0)
    scale_layers(ann, scales)
    torch.testing.assert_close(ann(images), wanted, rtol=1e-4, atol=1e-6)
    assert all(value == pytest.approx(1.0) for value in activation_scales(ann, images, 100.0).values())


def test_the_spiking_network_comes_to_the_logits_of_the_ann() -> None:
    ann = small_ann()
    network = spiking_twin(ann, Encoder("direct"), 2000)
    scale_layers(network.layers, activation_scales(ann, IMAGES, 100.0))
    for neuron in network.neurons.values():
        neuron.threshold.fill_(1.0)
    torch.testing.assert_close(network(IMAGES) / 2000, ann(IMAGES), rtol=0.02, atol=0.01)


def test_a_height_is_taken_out_of_the_weights_that_follow() -> None:
    ann, scaled = small_ann(), small_ann()
    scale_layers(scaled, {"relu1": 2.0, "relu2": 3.0}, height=0.5)
    torch.testing.assert_close(scaled.conv1.weight, ann.conv1.weight / 2)
    torch.testing.assert_close(scaled.conv2.weight, ann.conv2.weight * 4 / 3)
    torch.testing.assert_close(scaled.conv2.bias, ann.conv2.bias / 3)
    torch.testing.assert_close(scaled.fc.weight, ann.fc.weight * 6)
    torch.testing.assert_close(scaled.fc.bias, ann.fc.bias)


def test_quantised_clip_has_its_levels_and_the_gradient_of_the_clip() -> None:
    clip, z = QuantizedClip(2.0, 4), torch.linspace(-1, 3, 81, requires_grad=True)
    out = clip(z)
    assert sorted(set(out.detach().mul(2).round().tolist())) == [0, 1, 2, 3, 4]
    torch.testing.assert_close(out.detach(), (torch.floor(2 * z + 0.5) / 2).clamp(0, 2).detach())
    (slope,) = torch.autograd.grad(out.sum(), z)
    inside = (z > 0.01) & (z < 1.99)
    assert slope[inside].tolist() == pytest.approx([1.0] * int(inside.sum()))
    assert slope[(z < -0.01) | (z > 2.01)].abs().max() == 0


@pytest.mark.parametrize("steps", [4, 8])
def test_a_neuron_that_starts_half_full_does_what_a_quantised_clip_does(steps: int) -> None:
    """Theorem: with as many levels as time-steps, and a constant current, they are the same but at the edges."""
    from audit.spiking.neuron import LIF

    current = torch.linspace(-0.5, 1.5, 83)
    spikes, _ = LIF(1.0, initial=0.5)(current.expand(steps, 83))
    torch.testing.assert_close(spikes.mean(0), QuantizedClip(1.0, steps)(current).detach())


def test_of_two_weight_layers_in_a_row_the_scales_enter_once() -> None:
    ann = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 4, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(4, 4, 3),
            conv3=nn.Conv2d(4, 4, 1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64, 6),
            fc2=nn.Linear(6, 3),
        )
    )
    x = rand(5, 2, 8, 8)
    wanted, inside = ann(x), ann[:5](x)
    scale_layers(ann, {"relu1": 2.0, "relu2": 3.0})
    torch.testing.assert_close(ann[:5](x), inside / 3)
    torch.testing.assert_close(ann(x), wanted)
