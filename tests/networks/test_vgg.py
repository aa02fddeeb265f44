"""The networks are the ones of the paper, layer by layer."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from audit.errors import AuditError
from audit.networks.vgg import NETWORKS, PLANS, vgg

# Kernel weights 3x3 x in x out, then the linear layers, written out for 3x32x32 and 10 classes.
PARAMETERS = {
    "vgg5": 9 * (3 * 64 + 64 * 128 + 128 * 128) + 8 * 8 * 128 * 1024 + 1024 * 10,
    "vgg9": 9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 2 * 256 * 256) + 4 * 4 * 256 * 1024 + 1024 * 10,
    "vgg11": 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512) + 512 * 4096 + 4096 * 10,
    "vgg16": 9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 2 * 256 * 256 + 256 * 512 + 5 * 512 * 512)
    + 512 * 4096
    + 4096 * 10,
}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def weight_layers(network: nn.Sequential) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize(("name", "layers"), [("vgg5", 5), ("vgg9", 9), ("vgg11", 10), ("vgg16", 15)])
def test_a_network_has_its_weight_layers_and_its_number_of_parameters(name: str, layers: int) -> None:
    network = vgg(name, (3, 32, 32), 10)
    assert len(weight_layers(network)) == layers
    assert parameters(network) == PARAMETERS[name]


def test_vgg16_has_16_8_million_parameters_and_280_586_neurons() -> None:
    network = vgg("vgg16", (3, 32, 32), 10).eval()
    assert parameters(network) == 16_848_576
    neurons, h = 0, torch.zeros(1, 3, 32, 32)
    for layer in network:
        h = layer(h)
        neurons += h.numel() if isinstance(layer, nn.ReLU) else 0
    assert neurons + h.numel() == 280_586


@pytest.mark.parametrize("name", PLANS)
def test_every_weight_layer_but_the_last_is_followed_by_relu_and_none_has_a_bias(name: str) -> None:
    layers = list(vgg(name, (3, 32, 32), 10, width=0.05))
    for index, layer in enumerate(layers[:-1]):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is None
            assert isinstance(layers[index + 1], nn.ReLU)
    assert isinstance(layers[-1], nn.Linear)
    assert {type(layer).__name__ for layer in layers} == {"Conv2d", "ReLU", "AvgPool2d", "Dropout", "Flatten", "Linear"}


@pytest.mark.parametrize("name", PLANS)
def test_dropout_follows_the_convolutions_that_no_pooling_follows_and_the_hidden_layer(name: str) -> None:
    layers = list(vgg(name, (3, 32, 32), 10, width=0.05, dropout=0.15, hidden_dropout=0.35))
    for index, layer in enumerate(layers[:-1]):
        if isinstance(layer, nn.ReLU):
            after = layers[index + 1]
            hidden = isinstance(layers[index - 1], nn.Linear)
            assert isinstance(after, nn.Dropout if hidden else nn.Dropout | nn.AvgPool2d)
            if isinstance(after, nn.Dropout):
                assert after.p == (0.35 if hidden else 0.15)


@pytest.mark.parametrize(("name", "smallest"), [("vgg5", 4), ("vgg9", 8), ("vgg11", 32), ("vgg16", 32)])
def test_an_image_too_small_for_the_poolings_is_refused_with_advice(name: str, smallest: int) -> None:
    for shape in ((3, smallest - 1, 64), (3, 64, smallest - 1)):
        with pytest.raises(AuditError, match=rf"{shape[1]}x{shape[2]} is too small; use --image-size {smallest} or"):
            vgg(name, shape, 10, width=0.05)
    assert vgg(name, (3, smallest, smallest), 10, width=0.05).eval()(torch.zeros(1, 3, smallest, smallest)).shape == (
        1,
        10,
    )


@pytest.mark.parametrize("shape", [(1, 17, 9), (3, 8, 33), (2, 5, 5)])
def test_odd_sizes_and_any_number_of_channels_and_classes_fit(shape: tuple[int, int, int]) -> None:
    assert vgg("vgg5", shape, 7, width=0.1)(torch.zeros(2, *shape)).shape == (2, 7)


def test_width_multiplies_the_channels_and_hidden_fixes_the_hidden_units() -> None:
    layers = weight_layers(vgg("vgg5", (3, 16, 16), 10, width=0.25))
    assert [layer.weight.shape[0] for layer in layers] == [16, 32, 32, 256, 10]
    layers = weight_layers(vgg("vgg5", (3, 16, 16), 10, width=0.25, hidden=33))
    assert [layer.weight.shape[0] for layer in layers] == [16, 32, 32, 33, 10]


def test_the_seed_alone_decides_the_first_weights() -> None:
    global_state = torch.get_rng_state()
    first = vgg("vgg5", (1, 8, 8), 3, width=0.1, seed=1).state_dict()
    torch.manual_seed(99)
    again, other = (vgg("vgg5", (1, 8, 8), 3, width=0.1, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert all(not torch.equal(tensor, other[name]) for name, tensor in first.items())
    torch.set_rng_state(global_state)


def test_every_network_is_described_with_batch_norm_and_without() -> None:
    assert set(NETWORKS) == {name + suffix for name in PLANS for suffix in ("", "-bn")}


def test_a_batch_norm_follows_every_convolution_where_the_name_asks_for_it() -> None:
    plain, normed = (list(vgg(name, (3, 32, 32), 10, width=0.05)) for name in ("vgg9", "vgg9-bn"))
    pairs = list(pairwise(normed))
    assert all(isinstance(b, nn.BatchNorm2d) == isinstance(a, nn.Conv2d) for a, b in pairs)
    rest = [layer for layer in normed if not isinstance(layer, nn.BatchNorm2d)]
    assert [type(layer) for layer in rest] == [type(layer) for layer in plain]
