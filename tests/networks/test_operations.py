"""Operations are counted connection by connection."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from audit.networks.operations import fan_out, multiply_accumulates
from audit.networks.vgg import vgg
from tests.oracles.connections import fan_out_by_counting

PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(deadline=None, max_examples=80)
@given(PAIRS, PAIRS, st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 9), st.integers(1, 9))
def test_a_convolutions_fan_out_is_that_of_counting_its_connections(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], height: int, width: int
) -> None:
    assume(height + 2 * padding[0] >= kernel[0])
    assume(width + 2 * padding[1] >= kernel[1])
    layers = nn.Sequential(nn.Conv2d(2, 5, kernel, stride=stride, padding=padding))
    reach = fan_out(layers, (2, height, width))["0"]
    expected = 5 * torch.from_numpy(fan_out_by_counting(height, width, kernel, stride, padding))
    assert torch.equal(reach, expected.expand(2, height, width))


def test_layers_behind_poolings_and_strides_see_their_own_input() -> None:
    pool = nn.AvgPool2d(2)  # one module in two places
    layers = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), pool, nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), pool,
        nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 7),
    )  # fmt: skip
    reach = fan_out(layers, (1, 11, 10))
    shapes = {name: tuple(map_.shape) for name, map_ in reach.items()}
    assert shapes == {"0": (1, 11, 10), "2": (2, 5, 5), "5": (3, 1, 1), "7": (4,)}
    assert torch.equal(reach["2"][0], 3 * torch.from_numpy(fan_out_by_counting(5, 5, (3, 3), (2, 2), (1, 1))))
    assert reach["7"].tolist() == [7.0] * 4


def test_padding_is_not_counted_in_the_operations_of_vgg16() -> None:
    network = vgg("vgg16", (3, 32, 32), 10, width=1.0)
    total = sum(multiply_accumulates(network, (3, 32, 32)).values())
    padded, h = 0, torch.zeros(1, 3, 32, 32)
    for layer in network.eval():
        h = layer(h)
        padded += h[0].numel() * layer.weight[0].numel() if isinstance(layer, nn.Conv2d | nn.Linear) else 0
    assert round(total / 1e6) == 249
    assert round(padded / 1e6) == 315
