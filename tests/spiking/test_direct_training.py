"""Training through time learns, repeats itself, and says when it diverges."""

import pytest
import torch
from torch import Tensor, nn

from audit.contracts import Images
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.spiking.direct_training import DirectRecipe, train_directly
from tests.networks.teachers import TASK, generator, tiny_target

RECIPE = DirectRecipe(epochs=10, learning_rate=1e-2, batch_size=16, crop=1)


def bands(count: int, seed: int = 0) -> Images:
    """Noise with a bright band of rows where the class says: a problem that is easy, and not linear in one pixel."""
    labels = torch.arange(count) % len(TASK.classes)
    pixels = torch.randint(0, 120, (count, *TASK.image_shape), generator=generator(seed))
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[:, 3 * label : 3 * label + 2] += 130
    return Images(pixels.to(torch.uint8), labels)


def trained(seed: int = 0, recipe: DirectRecipe = RECIPE) -> tuple[nn.Module, list[float]]:
    network = tiny_target("rate", steps=8)
    network.output_scale.fill_(1 / 8)
    losses = train_directly(network, network, bands(96), TASK, recipe, seed, SilentMonitor())
    return network, losses


def test_the_loss_falls_and_unseen_images_are_recognised() -> None:
    network, losses = trained()
    unseen = bands(60, seed=1)
    with torch.no_grad():
        found = network(TASK.normalise(unseen.pixels), generator()).argmax(1)
    assert losses[-1] < 0.6 * losses[0]
    assert (found == unseen.labels).float().mean() > 0.8
    assert not network.training


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    first, losses = trained()
    torch.manual_seed(2)
    again, same = trained()
    other, _ = trained(seed=1)
    assert losses == same
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_a_loss_that_is_not_finite_is_an_error_that_says_what_to_do() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))

    def broken(x: Tensor, _: torch.Generator) -> Tensor:
        return network(x) * float("inf")

    with pytest.raises(AuditError, match=r"lower defense\.training_learning_rate"):
        train_directly(network, broken, bands(6), TASK, RECIPE, 0, SilentMonitor())
