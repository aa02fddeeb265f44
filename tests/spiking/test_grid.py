"""Weights go onto their grid, are found on it again, and come back unrounded."""

import copy
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from audit.networks.quantization import largest_level
from audit.spiking.grid import Grid, levels_of, round_weights, rounded
from tests.networks.teachers import rand, small_snn, tiny_target

ALL_BITS = range(1, 9)
WEIGHT = rand(5, 3, 3, 3) ** 3


def weights(layers: nn.Sequential) -> list[Tensor]:
    return [layer.weight for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_every_weight_is_a_whole_number_of_steps(bits: int, per_channel: bool) -> None:
    grid = Grid(bits, per_channel)
    step = grid.step(WEIGHT)
    assert step.shape == ((5 if per_channel else 1), 1, 1, 1)
    levels = grid.round(WEIGHT) / step
    torch.testing.assert_close(levels, levels.round())
    assert levels.abs().max() <= (1 if bits == 1 else largest_level(bits)) + 1e-4


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_rounded_weight_is_found_on_its_grid_again(bits: int, per_channel: bool) -> None:
    grid = Grid(bits, per_channel)
    found = levels_of(grid.round(WEIGHT), bits)
    assert found is not None
    levels, step = found
    assert torch.equal(levels, grid.level(WEIGHT, grid.step(WEIGHT)).long())
    torch.testing.assert_close(step, grid.step(WEIGHT))


def test_from_2_bits_on_a_weight_moves_by_half_a_step_at_most() -> None:
    for bits in range(2, 9):
        step = float(WEIGHT.abs().max()) / (2 ** (bits - 1) - 1)
        assert (Grid(bits).round(WEIGHT) - WEIGHT).abs().max() <= step / 2 + 1e-7


def test_one_bit_is_the_sign_times_the_mean_absolute_weight_and_no_other_scale_is_nearer() -> None:
    binary = Grid(1).round(WEIGHT)
    assert torch.equal(binary.sign(), WEIGHT.sign())
    torch.testing.assert_close(binary.abs(), WEIGHT.abs().mean().expand_as(binary))
    errors = [(WEIGHT - binary * factor).square().sum() for factor in (0.9, 1.0, 1.1)]
    assert errors[1] == min(errors)


def test_more_bits_are_nearer_and_so_is_a_step_per_channel() -> None:
    def error(bits: int, per_channel: bool) -> float:
        return float((Grid(bits, per_channel).round(WEIGHT) - WEIGHT).norm())

    for per_channel in (False, True):
        errors = [error(bits, per_channel) for bits in range(2, 9)]
        assert errors == sorted(errors, reverse=True)
    for bits in ALL_BITS:
        assert error(bits, per_channel=True) < error(bits, per_channel=False)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_grid_may_end_where_the_squared_error_is_smallest(bits: int, per_channel: bool) -> None:
    widest, nearest = (Grid(bits, per_channel, grid_end).round(WEIGHT) for grid_end in ends())
    assert (nearest - WEIGHT).norm() < (widest - WEIGHT).norm()
    assert levels_of(nearest, bits) is not None


def ends() -> tuple[Literal["largest"], Literal["error"]]:
    return "largest", "error"


@pytest.mark.parametrize("bits", [1, 4])
def test_a_tensor_of_zeros_stays_one(bits: int) -> None:
    zeros = torch.zeros(2, 3)
    assert torch.equal(Grid(bits).round(zeros), zeros)
    assert torch.equal(Grid(bits, per_channel=True).round(zeros), zeros)


def test_a_weight_between_the_levels_lies_on_no_grid() -> None:
    assert all(levels_of(WEIGHT, bits) is None for bits in ALL_BITS)
    assert levels_of(Grid(4).round(WEIGHT), 3) is None
    assert levels_of(torch.tensor([[0.0, 1.0, -1.0]]), 1) is None


def test_rounding_a_network_leaves_biases_and_thresholds() -> None:
    before, network = small_snn(), small_snn()
    round_weights(network.layers, Grid(3))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]) == (not name.endswith("weight"))


def test_after_the_block_the_full_precision_weights_are_back_bit_for_bit() -> None:
    network = tiny_target()
    before = copy.deepcopy(network.state_dict())
    with rounded(network.layers, Grid(2)):
        assert all(levels_of(weight, 2) is not None for weight in weights(network.layers))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_they_are_back_even_where_the_block_fails() -> None:
    network = tiny_target()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(RuntimeError, match="on the way"), rounded(network.layers, Grid(2)):
        raise RuntimeError("on the way")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_gradient_of_the_block_outlives_it_and_is_that_of_the_rounded_network() -> None:
    network, plain = tiny_target(), tiny_target()
    round_weights(plain.layers, Grid(3))
    x = rand(4, 2, 8, 8)
    with rounded(network.layers, Grid(3)):
        network(x).square().sum().backward()
    plain(x).square().sum().backward()
    for weight, other in zip(weights(network.layers), weights(plain.layers), strict=True):
        assert weight.grad is not None
        assert other.grad is not None
        assert torch.equal(weight.grad, other.grad)
        assert weight.grad.any()


def test_where_nothing_rounds_the_gradient_is_the_full_precision_one() -> None:
    network = tiny_target()
    round_weights(network.layers, Grid(4))
    through = copy.deepcopy(network)
    x = rand(4, 2, 8, 8)
    network(x).square().sum().backward()
    with rounded(through.layers, Grid(4)):
        through(x).square().sum().backward()
    for weight, other in zip(weights(network.layers), weights(through.layers), strict=True):
        assert weight.grad is not None
        assert weight.grad.any()
        torch.testing.assert_close(other.grad, weight.grad, rtol=1e-4, atol=1e-5)
