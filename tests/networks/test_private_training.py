"""DP-SGD draws each image by itself, clips it, adds the noise that the accountant asked for, and nothing else."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from audit.contracts import Images
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.networks import private_training
from audit.networks.private_training import PrivateRecipe, Spent, poisson_sample, train_privately
from tests.networks.teachers import CPU, TASK, generator, tiny_teacher

RECIPE = PrivateRecipe(
    epsilon=8.0,
    delta=1e-5,
    epochs=4,
    sample_rate=0.5,
    clipping_norm=0.5,
    learning_rate=0.1,
    momentum=0.0,
)
COUNT = 24


@pytest.fixture(autouse=True)
def fake_accountant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accounting has tests of its own; here a multiple of the settings stands for it."""
    monkeypatch.setattr(private_training, "noise_multiplier", lambda epsilon, delta, rate, steps: 10 / epsilon)
    monkeypatch.setattr(private_training, "epsilon_spent", lambda sigma, delta, rate, steps: sigma * steps)


def separable(seed: int = 0) -> Images:
    """Three classes, each bright in rows of its own, under noise."""
    labels = torch.arange(COUNT) % 3
    pixels = torch.randint(0, 100, (COUNT, *TASK.image_shape), generator=generator(seed))
    for row in range(2):
        pixels[torch.arange(COUNT), :, 3 * labels + row] += 150
    return Images(pixels.to(torch.uint8), labels)


def trained(recipe: PrivateRecipe = RECIPE, images: Images | None = None, seed: int = 0) -> tuple[nn.Sequential, Spent]:
    network = tiny_teacher()
    return network, train_privately(network, images or separable(), TASK, recipe, seed, CPU, SilentMonitor())


def flat(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def without_gradient(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Leave nothing but the noise; the list fills with the sizes of the batches."""
    sizes: list[int] = []

    def nothing(network: nn.Sequential, x: Tensor, labels: Tensor, bound: float) -> list[Tensor]:
        sizes.append(len(x))
        return [torch.zeros_like(parameter) for parameter in network.parameters()]

    monkeypatch.setattr(private_training, "clipped_gradient_sum", nothing)
    return sizes


def test_a_sample_holds_each_image_with_the_rate_and_independently_of_the_others() -> None:
    source = generator(1)
    drawn = torch.zeros(2000, 30)
    for row in drawn:
        row[poisson_sample(30, 0.3, source)] = 1
    assert float((drawn.mean(0) - 0.3).abs().max()) < 0.05
    sizes = drawn.sum(1)
    # Binomial(30, 0.3): a batch of fixed size has no variance, and its images exclude each other.
    assert float(sizes.var()) == pytest.approx(30 * 0.3 * 0.7, rel=0.1)
    covariance = torch.cov(drawn.T) - torch.diag(drawn.var(0))
    assert float(covariance.abs().max()) < 0.03


def test_a_rate_of_1_takes_all_images_and_a_tiny_one_may_take_none() -> None:
    assert poisson_sample(9, 1.0, generator()).tolist() == list(range(9))
    assert len(poisson_sample(9, 1e-9, generator())) == 0


def test_the_batches_of_a_training_differ_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = without_gradient(monkeypatch)
    _, spent = trained(replace(RECIPE, epochs=20))
    assert len(sizes) == spent.steps == 40
    assert len(set(sizes)) > 4
    assert sum(sizes) / 40 == pytest.approx(COUNT / 2, rel=0.2)


def test_the_noise_has_the_deviation_that_the_accountant_assumes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gradient(monkeypatch)
    # One step at the full rate: the whole move is noise, sigma * clipping norm / expected batch * learning rate.
    network, spent = trained(replace(RECIPE, epochs=0.5))
    moved = flat(network) - flat(tiny_teacher())
    assert spent == Spent(epsilon=10 / 8, noise_multiplier=10 / 8, steps=1)
    assert float(moved.std()) == pytest.approx(10 / 8 * 0.5 / (0.5 * COUNT) * 0.1, rel=0.1)
    assert abs(float(moved.mean())) < 4 * float(moved.std()) / len(moved) ** 0.5


def test_one_image_more_moves_a_step_by_at_most_the_clipping_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_training, "noise_multiplier", lambda *_: 0.0)
    images = separable()
    fewer = Images(images.pixels[:-1], images.labels[:-1])
    step = replace(RECIPE, epochs=1, sample_rate=1.0, clipping_norm=0.01)
    before = flat(tiny_teacher())
    # The sums of gradients: the moves without the factors rate / number of images.
    first = (flat(trained(step, images)[0]) - before) * len(images) / step.learning_rate
    second = (flat(trained(step, fewer)[0]) - before) * len(fewer) / step.learning_rate
    assert 0.5 * 0.01 < float((first - second).norm()) < 1.01 * 0.01


@pytest.mark.parametrize("rate", [1e-6, 0.2])
def test_a_step_without_images_still_adds_noise(rate: float) -> None:
    network, spent = trained(replace(RECIPE, epochs=3 * rate, sample_rate=rate, learning_rate=rate))
    assert spent.steps == 3
    assert not torch.equal(flat(network), flat(tiny_teacher()))


def test_the_seed_and_the_images_decide_the_weights_and_the_global_generator_does_not() -> None:
    state = torch.get_rng_state()
    images = separable()
    network, _ = trained(images=images)
    assert torch.equal(flat(trained(images=images)[0]), flat(network))
    assert not torch.equal(flat(trained(images=images, seed=1)[0]), flat(network))
    assert not torch.equal(flat(trained(images=separable(1))[0]), flat(network))
    assert not network.training
    # `tiny_teacher` draws what torch's layers begin with; the training adds nothing to it.
    torch.set_rng_state(state)
    reference = tiny_teacher()
    state = torch.get_rng_state()
    train_privately(reference, images, TASK, RECIPE, 0, CPU, SilentMonitor())
    assert torch.equal(torch.get_rng_state(), state)


def test_with_little_noise_it_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_training, "noise_multiplier", lambda *_: 0.1)
    images = separable()
    network, _ = trained(replace(RECIPE, epochs=40, learning_rate=0.2, momentum=0.9), images)
    answers = network(TASK.normalise(images.pixels)).argmax(1)
    assert float((answers == images.labels).float().mean()) > 0.9


def test_weights_that_are_no_numbers_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_training, "noise_multiplier", lambda *_: float("inf"))
    with pytest.raises(AuditError, match=r"private training diverged; lower the learning rate \(now 0.1\)"):
        trained()
