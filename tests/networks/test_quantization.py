"""Quantised weights lie on their grid, and train through it."""

import copy

import pytest
import torch
from torch import Tensor, nn

from audit.networks.quantization import (
    QuantizedWeight,
    finish,
    grid_step,
    largest_level,
    quantize,
    relative_distances,
    size_in_bits,
)
from tests.networks.teachers import TASK, rand, tiny_teacher


def weights(network: nn.Sequential) -> list[Tensor]:
    return [layer.weight for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]


def rounded(bits: int) -> nn.Sequential:
    network = copy.deepcopy(tiny_teacher())
    quantize(network, bits)
    finish(network)
    return network


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_channel_takes_whole_steps_of_a_symmetric_grid(bits: int) -> None:
    for weight, original in zip(weights(rounded(bits)), weights(tiny_teacher()), strict=True):
        levels = weight / grid_step(original, bits)
        assert (levels - levels.round()).abs().max() < 1e-4
        assert levels.abs().max() <= largest_level(bits) + 1e-4
        for channel in levels.round().flatten(1):
            assert len(channel.unique()) <= 2**bits


def test_more_bits_are_nearer_to_the_teacher() -> None:
    far, near, nearest = (relative_distances(rounded(bits), tiny_teacher()) for bits in (2, 4, 8))
    for name in far:
        assert far[name] > near[name] > nearest[name] > 0
    assert max(nearest.values()) < 0.02


def test_the_step_has_the_least_error_of_its_candidates() -> None:
    weight = rand(5, 30) ** 3
    step = grid_step(weight, 3)

    def error(step: Tensor) -> Tensor:
        return (QuantizedWeight(step, 3)(weight) - weight).square().sum(1)

    widest = weight.abs().amax(1, keepdim=True) / largest_level(3)
    for clip in (1.0, 0.8, 0.6, 0.4):
        assert (error(step) <= error(widest * clip) + 1e-6).all()
    assert (error(step) < error(widest)).any()


def test_a_channel_of_zeros_stays_one() -> None:
    weight = torch.zeros(2, 3)
    assert torch.equal(QuantizedWeight(grid_step(weight, 4), 4)(weight), weight)


def test_where_nothing_rounds_the_gradient_is_the_unquantised_one() -> None:
    plain = rounded(4)
    through = copy.deepcopy(plain)
    for layer, original in zip(weighted(through), weighted(tiny_teacher()), strict=True):
        nn.utils.parametrize.register_parametrization(
            layer, "weight", QuantizedWeight(grid_step(original.weight.detach(), 4), 4)
        )
    x = rand(6, *TASK.image_shape)
    for network in (plain, through):
        network.requires_grad_(True)(x).square().sum().backward()
    for first, second in zip(weighted(plain), weighted(through), strict=True):
        beneath = second.parametrizations.weight.original
        assert torch.allclose(first.weight, second.weight, atol=1e-6)
        assert first.weight.grad is not None
        assert first.weight.grad.abs().max() > 0
        assert torch.allclose(first.weight.grad, beneath.grad, rtol=1e-3, atol=1e-4)


def weighted(network: nn.Sequential) -> list[nn.Module]:
    return [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]


def test_what_lies_beyond_the_grid_gets_no_gradient() -> None:
    weight = torch.tensor([[0.4, 3.0, -3.6, 3.4]], requires_grad=True)
    QuantizedWeight(torch.ones(1, 1), 3)(weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 1.0, 0.0, 1.0]]


def test_a_finished_network_is_an_ordinary_one_with_the_same_answers() -> None:
    network = copy.deepcopy(tiny_teacher())
    quantize(network, 4)
    x = rand(3, *TASK.image_shape)
    before = network(x)
    finish(network)
    assert torch.equal(network(x), before)
    assert list(network.state_dict()) == list(tiny_teacher().state_dict())


def test_the_size_counts_weights_steps_and_biases() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3, 4, bias=False))
    assert size_in_bits(network, 4) == 4 * (54 + 12) + 32 * (3 + 3) + 32 * 4
    assert size_in_bits(network, 4, per_channel=False) == 4 * (54 + 12) + 32 * (1 + 3) + 32 * 1


def test_one_bit_has_no_symmetric_grid() -> None:
    with pytest.raises(ValueError, match="at least 2 bits"):
        quantize(tiny_teacher(), 1)
