"""Training through quantised weights steps the full-precision ones, repeats itself, and can keep the spike activity."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from audit.contracts import Images
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.spiking.activity import Activity
from audit.spiking.grid import Grid, round_weights
from audit.spiking.grid_training import Batch, Criterion, GridRecipe, activity_distance, activity_into, train_on_grid
from audit.spiking.network import SpikingNetwork
from audit.spiking.watching import watched_logits
from tests.networks.teachers import TASK, generator, rand, tiny_target
from tests.spiking.test_direct_training import bands

RECIPE = GridRecipe(epochs=8, learning_rate=1e-2, batch_size=16, time_steps=8)
IMAGES = bands(96)
NAMES = ("relu1", "relu2", "relu3", "relu_fc1")


def batches(images: Images) -> Batch:
    def batch_of(index: Tensor, order: torch.Generator) -> tuple[Tensor, Criterion]:
        labels = images.labels[index]
        return TASK.normalise(images.pixels[index]), lambda logits: F.cross_entropy(logits, labels)

    return batch_of


def network_with_means() -> SpikingNetwork:
    network = tiny_target("rate", steps=8)
    network.output_scale.fill_(1 / 8)
    return network


def trained(
    grid: Grid | None, recipe: GridRecipe = RECIPE, seed: int = 0, begin: SpikingNetwork | None = None
) -> tuple[SpikingNetwork, list[float]]:
    network = copy.deepcopy(begin) if begin is not None else network_with_means()
    losses = train_on_grid(network, grid, batches(IMAGES), len(IMAGES), recipe, seed, SilentMonitor())
    return network, losses


@pytest.fixture(scope="module")
def full() -> SpikingNetwork:
    """Trained in full precision."""
    return trained(None)[0]


def on_grid(network: SpikingNetwork, bits: int) -> SpikingNetwork:
    found = copy.deepcopy(network)
    round_weights(found.layers, Grid(bits))
    return found


def accuracy(network: SpikingNetwork) -> float:
    unseen = bands(90, seed=1)
    with torch.no_grad():
        found = network(TASK.normalise(unseen.pixels), generator()).argmax(1)
    return float((found == unseen.labels).float().mean())


@pytest.mark.parametrize("bits", [1, 2])
def test_trained_through_few_bits_it_recognises_what_it_no_longer_does_when_it_is_only_rounded(
    full: SpikingNetwork, bits: int
) -> None:
    network, losses = trained(Grid(bits), begin=full)
    assert losses[-1] < 0.7 * losses[0]
    assert not network.training
    assert accuracy(on_grid(network, bits)) > 0.85
    assert accuracy(on_grid(full, bits)) < 0.7


def test_8_bits_after_training_lose_less_than_a_point(full: SpikingNetwork) -> None:
    assert accuracy(full) > 0.9
    assert accuracy(on_grid(full, 8)) > accuracy(full) - 0.01


def test_one_step_is_that_of_an_optimiser_handed_the_gradient_at_the_rounded_weights() -> None:
    grid, recipe = Grid(2), replace(RECIPE, epochs=1, batch_size=len(IMAGES))
    stepped = network_with_means()
    train_on_grid(stepped, grid, batches(IMAGES), len(IMAGES), recipe, 0, SilentMonitor())

    by_hand, at = network_with_means().train(), network_with_means().train()
    round_weights(at.layers, grid)
    index = torch.randperm(len(IMAGES), generator=generator())
    x, criterion = batches(IMAGES)(index, generator())
    criterion(at(x, generator(), 8)).backward()
    for parameter, other in zip(by_hand.parameters(), at.parameters(), strict=True):
        parameter.grad = other.grad
    torch.optim.Adam(by_hand.parameters(), lr=recipe.learning_rate).step()
    for parameter, other in zip(stepped.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_it_leaves_full_precision_weights() -> None:
    network, _ = trained(Grid(2), replace(RECIPE, epochs=1))
    assert not torch.equal(network.layers.conv2.weight, on_grid(network, 2).layers.conv2.weight)


def test_the_seed_alone_decides_the_weights() -> None:
    recipe = replace(RECIPE, epochs=2, perception=1.0)
    torch.manual_seed(1)
    first, losses = trained(Grid(2), recipe)
    torch.manual_seed(2)
    again, same = trained(Grid(2), recipe)
    other, _ = trained(Grid(2), recipe, seed=1)
    assert losses == same
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_a_loss_that_is_not_finite_is_an_error_that_says_what_to_do_and_restores_the_weights() -> None:
    def broken(index: Tensor, order: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return TASK.normalise(IMAGES.pixels[index]), lambda logits: logits.sum() * float("inf")

    network = network_with_means()
    with pytest.raises(AuditError, match=r"lower defense\.tuning_learning_rate"):
        train_on_grid(network, Grid(2), broken, 6, RECIPE, 0, SilentMonitor())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), network_with_means().parameters(), strict=True))


def activities(network: SpikingNetwork) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        watched_logits(network, TASK.normalise(IMAGES.pixels), activity_into(found), generator())
    return found


@pytest.mark.parametrize("bits", [1, 2])
def test_keeping_the_activity_brings_it_nearer_to_that_of_the_unquantised_network(
    full: SpikingNetwork, bits: int
) -> None:
    def distance(perception: float) -> float:
        network, _ = trained(Grid(bits), replace(RECIPE, perception=perception), begin=full)
        assert accuracy(on_grid(network, bits)) > 0.85
        return float(activity_distance(activities(on_grid(network, bits)), activities(full)))

    assert distance(3.0) < 0.5 * distance(0.0)


def test_what_is_watched_is_what_the_simulation_counts() -> None:
    network, x, activity = network_with_means(), TASK.normalise(IMAGES.pixels), Activity()
    with torch.no_grad():
        expected = network.outputs_over_time(x, [8], generator(), activity)[0]
        found: dict[str, Tensor] = {}
        logits = watched_logits(network, x, activity_into(found), generator())
    torch.testing.assert_close(logits, expected)
    assert tuple(found) == NAMES
    for name, per_image in found.items():
        assert per_image.shape == (96,)
        torch.testing.assert_close(float(per_image.sum()) * activity.sizes[name], float(activity.spikes[name]))


def test_the_activity_has_a_gradient_in_the_weights() -> None:
    network = network_with_means()
    found: dict[str, Tensor] = {}
    watched_logits(network, rand(6, *TASK.image_shape), activity_into(found), generator())
    found["relu2"].sum().backward()
    assert network.layers.conv2.weight.grad is not None
    assert network.layers.conv2.weight.grad.any()


def test_a_distance_of_activities_is_0_to_themselves_and_relative() -> None:
    a, b = {"one": torch.tensor([1.0, 2.0])}, {"one": torch.tensor([1.0, 3.0])}
    assert float(activity_distance(a, a)) == 0
    assert float(activity_distance(b, a)) == pytest.approx(1 / 5)
    tenfold = [{name: 10 * tensor for name, tensor in found.items()} for found in (b, a)]
    assert float(activity_distance(*tenfold)) == pytest.approx(1 / 5)


def test_a_layer_that_should_be_silent_is_left_out_of_the_distance() -> None:
    wanted = {"one": torch.ones(2), "silent": torch.zeros(2)}
    assert float(activity_distance({"one": torch.ones(2), "silent": torch.ones(2)}, wanted)) == 0
    assert float(activity_distance({"silent": torch.ones(2)}, {"silent": torch.zeros(2)})) == 0
