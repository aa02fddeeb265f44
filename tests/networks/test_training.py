"""Training learns, and its result depends on the seed only."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audit.contracts import Images, Task
from audit.monitor import SilentMonitor
from audit.networks.training import TrainingRecipe, predict, train
from audit.networks.vgg import vgg
from tests.networks.teachers import CPU, generator, rand, tiny_teacher

TASK = Task("toy", ("dark", "bright"), (1, 8, 8))
RECIPE = TrainingRecipe(epochs=5, learning_rate=0.05, batch_size=8, crop=1, dropout=0.1)


def halves() -> Images:
    """Dark and bright noise."""
    labels = torch.arange(32) % 2
    noise = torch.randint(0, 100, (32, 1, 8, 8), generator=generator())
    return Images((noise + 150 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels)


def trained(recipe: TrainingRecipe = RECIPE, seed: int = 0, task: Task = TASK) -> tuple[dict[str, Tensor], list[float]]:
    network = vgg("vgg5", TASK.image_shape, 2, width=0.1, hidden=8, dropout=recipe.dropout)
    losses = train(network, halves(), task, recipe, seed, CPU, SilentMonitor())
    assert not network.training
    return network.state_dict(), losses


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_loss_falls() -> None:
    _, losses = trained(replace(RECIPE, epochs=15))
    assert len(losses) == 15
    assert losses[-1] < 0.5 * losses[0], losses


def test_the_seed_alone_decides_the_result() -> None:
    torch.manual_seed(1)
    first, losses = trained()
    torch.manual_seed(2)
    again, losses_again = trained()
    assert same(first, again)
    assert losses == losses_again
    assert not same(first, trained(seed=1)[0])


def test_torchs_own_generator_is_left_as_it_was() -> None:
    network, before = vgg("vgg5", TASK.image_shape, 2, width=0.1, hidden=8), torch.get_rng_state()
    train(network, halves(), TASK, RECIPE, 0, CPU, SilentMonitor())
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_crop_and_mirror_each_change_what_is_learned() -> None:
    plain = replace(RECIPE, crop=0, dropout=0.0)
    first = trained(plain)[0]
    assert not same(first, trained(replace(plain, crop=1))[0])
    assert not same(first, trained(replace(plain, dropout=0.3))[0])
    assert not same(first, trained(plain, task=replace(TASK, mirror=True))[0])


def rates(recipe: TrainingRecipe, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every epoch, in units of the first one that was asked for."""
    seen: list[float] = []
    step = torch.optim.SGD.step

    def noted(self: torch.optim.SGD, *arguments: object) -> object:
        seen.append(self.param_groups[0]["lr"] / recipe.learning_rate)
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    trained(replace(recipe, batch_size=32))
    return seen


@pytest.mark.parametrize(("epochs", "expected"), [(10, [1] * 4 + [0.1] * 2 + [0.01] * 2 + [0.001] * 2), (1, [1])])
def test_the_rate_falls_to_a_tenth_at_40_60_and_80_percent_of_the_epochs(
    epochs: int, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rates(replace(RECIPE, epochs=epochs), monkeypatch) == pytest.approx(expected)


def test_a_cosine_schedule_falls_along_a_half_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [(1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]
    assert rates(replace(RECIPE, epochs=6, schedule="cosine"), monkeypatch) == pytest.approx(expected)


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    network, x = tiny_teacher(), rand(7, 2, 8, 8)
    torch.testing.assert_close(predict(network, x, batch_size=2), predict(network, x, batch_size=7))
    assert not predict(network, x).requires_grad
