"""Smooth noise is smooth, and a budget is cut as it says."""

import pytest
import torch

from audit.networks.perturbations import CHECKS, Curve, checkpoints, grid_at, margin, smooth_noise, source, unit_rms
from tests.networks.teachers import generator


def step_size(images: torch.Tensor) -> float:
    return float((images[..., 1:] - images[..., :-1]).square().mean().sqrt())


def test_a_coarser_lattice_gives_smoother_noise_of_the_same_size() -> None:
    noise = {grid: smooth_noise(50, (1, 16, 16), grid, generator()) for grid in (2, 4, 8, 16)}
    for images in noise.values():
        torch.testing.assert_close(images.square().mean((1, 2, 3)), torch.ones(50))
    steps = [step_size(images) for images in noise.values()]
    assert steps == sorted(steps)
    assert steps[0] < 0.3 * steps[-1]


def test_a_lattice_as_fine_as_the_image_gives_white_noise() -> None:
    white = torch.randn(3, 2, 5, 7, generator=generator())
    torch.testing.assert_close(smooth_noise(3, (2, 5, 7), 99, generator()), unit_rms(white))


def test_nothing_divided_by_its_size_is_nothing() -> None:
    assert not unit_rms(torch.zeros(2, 1, 3, 3)).any()


def test_the_lattice_refines_from_the_first_to_the_last_update() -> None:
    grids = [grid_at(n / 10, 4, 16) for n in range(11)]
    assert grids[0] == 4
    assert grids[5] == 8
    assert grids[-1] == 16
    assert grids == sorted(grids)


def test_the_margin_is_to_the_best_of_the_other_classes() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0], [5.0, 4.0, 2.0]])
    assert margin(logits, torch.tensor([2, 0])).tolist() == [-2.0, 1.0]


@pytest.mark.parametrize("updates", [1, 2, 7, 100])
def test_checkpoints_begin_at_the_start_and_end_at_the_end(updates: int) -> None:
    points = checkpoints(updates)
    assert {0, updates} <= points
    assert len(points) <= len(CHECKS)


def test_a_curve_is_the_mean_over_images_not_over_batches() -> None:
    curve = Curve()
    curve.add(20, torch.tensor([0.0]))
    curve.add(3, torch.tensor([True]))
    curve.add(20, torch.tensor([1.0, 1.0, 1.0]))
    assert curve.points() == [[3, 1.0], [20, 0.75]]


def test_every_purpose_has_numbers_of_its_own() -> None:
    drawn = [torch.rand(4, generator=source(*which)) for which in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 1))]
    assert len(torch.stack(drawn).unique(dim=0)) == 4
    assert torch.equal(drawn[0], torch.rand(4, generator=source(0, "a")))
