"""Every surrogate is its formula, at every width and gain."""

import math
from collections.abc import Callable

import pytest
import torch

from audit.spiking.surrogate import Shape, Surrogate

# In d = (u - theta) / (width theta); all have the value 1 at the threshold.
FORMULAS: dict[Shape, Callable[[float], float]] = {
    "triangle": lambda d: max(0.0, 1 - abs(d)),
    "rectangle": lambda d: 1.0 if abs(d) <= 0.5 else 0.0,
    "arctan": lambda d: 1 / (1 + (math.pi * d / 2) ** 2),
    "sigmoid": lambda d: 4 * math.exp(-4 * d) / (1 + math.exp(-4 * d)) ** 2,
}
POTENTIALS = torch.linspace(-3, 5, 81, dtype=torch.float64)


def slopes(surrogate: Surrogate, threshold: float) -> list[float]:
    return surrogate(POTENTIALS, torch.tensor(threshold, dtype=torch.float64)).tolist()


def test_the_default_is_equation_5_of_the_paper() -> None:
    theta = 1.7
    expected = [max(0.0, 1 - abs((u - theta) / theta)) for u in POTENTIALS.tolist()]
    assert slopes(Surrogate(), theta) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", FORMULAS)
@pytest.mark.parametrize(("width", "gain", "threshold"), [(1.0, 1.0, 1.0), (0.5, 0.3, 2.3), (3.0, 2.0, 0.4)])
def test_a_shape_is_its_formula_stretched_by_width_and_threshold_and_raised_by_gain(
    shape: Shape, width: float, gain: float, threshold: float
) -> None:
    expected = [gain * FORMULAS[shape]((u - threshold) / (width * threshold)) for u in POTENTIALS.tolist()]
    assert slopes(Surrogate(shape, width, gain), threshold) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", FORMULAS)
def test_every_shape_is_symmetric_and_highest_at_the_threshold(shape: Shape) -> None:
    surrogate, theta = Surrogate(shape, gain=0.7), torch.tensor(1.5)
    offsets = torch.linspace(0, 3, 13)
    torch.testing.assert_close(surrogate(theta + offsets, theta), surrogate(theta - offsets, theta))
    assert float(surrogate(theta, theta)) == pytest.approx(0.7)
    assert bool((surrogate(theta + offsets, theta) <= 0.7 + 1e-6).all())


@pytest.mark.parametrize("shape", FORMULAS)
def test_per_threshold_divides_by_the_threshold(shape: Shape) -> None:
    expected = [slope / 2.5 for slope in slopes(Surrogate(shape), 2.5)]
    assert slopes(Surrogate(shape, per_threshold=True), 2.5) == pytest.approx(expected)


def test_thresholds_per_channel_broadcast() -> None:
    u, thetas = torch.rand(4, 2, 3, 3) * 3, torch.tensor([0.5, 2.0])
    slopes = Surrogate(per_threshold=True)(u, thetas.view(2, 1, 1))
    for channel, theta in enumerate(thetas):
        torch.testing.assert_close(slopes[:, channel], Surrogate(per_threshold=True)(u[:, channel], theta))
