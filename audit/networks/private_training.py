"""Training with differential privacy: DP-SGD (Abadi et al. 2016, Algorithm 1)."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Images, Monitor, Task
from audit.errors import AuditError
from audit.networks.accounting import epsilon_spent, noise_multiplier
from audit.networks.ascent import derived_seed
from audit.networks.clipping import clipped_gradient_sum

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class PrivateRecipe:
    """``epochs`` / ``sample_rate`` steps of SGD with momentum, each on a Poisson sample, with noise for ``epsilon``.

    The learning rate falls linearly from ``learning_rate`` to 0, so that the noise of the last steps weighs little.
    """

    epsilon: Positive
    delta: Positive
    epochs: Positive
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    clipping_norm: Positive
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]

    @property
    def steps(self) -> int:
        return max(1, round(self.epochs / self.sample_rate))


@dataclass(frozen=True)
class Spent:
    """What a training took: ``epsilon`` is the accountant's, of the ``steps`` that were made with this noise."""

    epsilon: float
    noise_multiplier: float
    steps: int


def train_privately(
    network: nn.Sequential,
    images: Images,
    task: Task,
    recipe: PrivateRecipe,
    seed: int,
    device: torch.device,
    monitor: Monitor,
) -> Spent:
    """Train ``network`` in place so that its weights are (epsilon, delta)-differentially private in ``images``.

    Neighbouring sets differ in one image, added or removed; how many images there are is taken to be public. Each step
    draws every image independently with probability ``sample_rate``, sums their clipped gradients, adds Gaussian noise
    of standard deviation sigma * ``clipping_norm`` to each coordinate, and divides by the expected, not the drawn,
    number of images. Dropout is off, and no image is augmented: one image, one gradient.

    The noise comes from ``seed`` through torch's generator and floating-point arithmetic, not from a cryptographic
    source: the guarantee is that of the algorithm with ideal noise, for whoever does not know the seed.
    Raises AuditError where the weights leave the finite numbers.
    """
    sigma = noise_multiplier(recipe.epsilon, recipe.delta, recipe.sample_rate, recipe.steps)
    generator = torch.Generator().manual_seed(derived_seed(seed, "private training", 0))
    network.to(device).eval()
    optimizer = torch.optim.SGD(network.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=recipe.steps)
    state = {"network": network, "optimizer": optimizer, "scheduler": scheduler, "generator": generator}
    with monitor.loop("private training steps", recipe.steps, taken=0, **state) as loop:
        for _ in loop:
            index = poisson_sample(len(images), recipe.sample_rate, generator)
            x = task.normalise(images.pixels[index].to(device))
            total = clipped_gradient_sum(network, x, images.labels[index].to(device), recipe.clipping_norm)
            for parameter, gradient in zip(network.parameters(), total, strict=True):
                noise = torch.randn(parameter.shape, generator=generator).to(device)
                parameter.grad = (gradient + sigma * recipe.clipping_norm * noise) / (recipe.sample_rate * len(images))
            optimizer.step()
            scheduler.step()
            loop.taken += 1
    optimizer.zero_grad(set_to_none=True)
    if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
        raise AuditError(f"private training diverged; lower the learning rate (now {recipe.learning_rate:g})")
    return Spent(epsilon_spent(sigma, recipe.delta, recipe.sample_rate, loop.taken), sigma, loop.taken)


def poisson_sample(count: int, rate: float, generator: torch.Generator) -> Tensor:
    """Indices below ``count``, each there with probability ``rate`` and independently of the others; maybe none."""
    return (torch.rand(count, generator=generator, dtype=torch.float64) < rate).nonzero().squeeze(1)
