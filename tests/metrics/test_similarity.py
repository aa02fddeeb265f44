"""The similarity is the published SSIM, to the nearest private image of the same class."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from audit.metrics import similarity as module
from audit.metrics.similarity import nearest_similarity

GENERATOR = torch.Generator().manual_seed(0)
RANGE = (-1.0, 1.0)


def drawn(n: int, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=GENERATOR) * 2 - 1


IMAGES, PRIVATE = drawn(12, 3, 16, 16), drawn(30, 3, 16, 16)
LABELS, PRIVATE_LABELS = torch.arange(12) % 3, torch.arange(30) % 3


def ssim_by_scipy(x: np.ndarray, y: np.ndarray, deviation: float) -> float:
    """Wang et al. 2004, Eq. 13, of two images [C, H, W] in 0..1; scipy's window is cut off at 3.5 deviations too."""

    def blur(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, deviation, mode="mirror", truncate=3.5, axes=(1, 2))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    brightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((brightness * (2 * cov + c2) / (var_x + var_y + c2)).mean())


def by_loops(images: Tensor, labels: Tensor, private: Tensor, private_labels: Tensor, deviation: float) -> list[float]:
    found = []
    for image, label in zip(images.double(), labels, strict=True):
        own = private[private_labels == label].double()
        nearest = own[int(torch.stack([(image - other).square().sum() for other in own]).argmin())]
        found.append(ssim_by_scipy(((image + 1) / 2).numpy(), ((nearest + 1) / 2).numpy(), deviation))
    return found


@pytest.mark.parametrize(("shape", "deviation"), [((1, 8, 8), 0.8), ((3, 11, 16), 1.5), ((3, 32, 32), 1.5)])
def test_it_is_the_published_formula_to_the_nearest_of_the_class(shape: tuple[int, ...], deviation: float) -> None:
    images, private = drawn(6, *shape), drawn(20, *shape)
    labels, private_labels = torch.arange(6) % 2, torch.arange(20) % 2
    images[:3] = 0.8 * private[:3] + 0.2 * images[:3]
    found = nearest_similarity(images, labels, private, private_labels, RANGE)
    assert (found.shape, found.dtype) == ((6,), torch.float64)
    assert found.tolist() == pytest.approx(by_loops(images, labels, private, private_labels, deviation), abs=1e-6)
    assert found[:3].min() > 0.5 > found[3:].max()


def test_a_copy_of_a_private_image_is_similar_only_under_its_own_class() -> None:
    copies = nearest_similarity(PRIVATE, PRIVATE_LABELS, PRIVATE, PRIVATE_LABELS, RANGE)
    assert copies.tolist() == pytest.approx([1.0] * 30)
    assert nearest_similarity(PRIVATE, (PRIVATE_LABELS + 1) % 3, PRIVATE, PRIVATE_LABELS, RANGE).max() < 0.5


def test_it_does_not_depend_on_what_black_and_white_are_called() -> None:
    expected = nearest_similarity(IMAGES, LABELS, PRIVATE, PRIVATE_LABELS, RANGE)
    other = nearest_similarity((IMAGES + 1) / 2, LABELS, (PRIVATE + 1) / 2, PRIVATE_LABELS, (0.0, 1.0))
    torch.testing.assert_close(other, expected, atol=1e-5, rtol=0)


def test_it_is_symmetric_where_there_is_one_image_of_a_class_on_each_side() -> None:
    there = nearest_similarity(IMAGES[:3], LABELS[:3], PRIVATE[:3], PRIVATE_LABELS[:3], RANGE)
    back = nearest_similarity(PRIVATE[:3], PRIVATE_LABELS[:3], IMAGES[:3], LABELS[:3], RANGE)
    torch.testing.assert_close(there, back)


@given(st.randoms(use_true_random=False))
def test_each_image_has_its_similarity_in_any_order_of_either_set(random) -> None:
    i, p = (random.sample(range(n), n) for n in (12, 30))
    expected = nearest_similarity(IMAGES, LABELS, PRIVATE, PRIVATE_LABELS, RANGE)
    found = nearest_similarity(IMAGES[i], LABELS[i], PRIVATE[p], PRIVATE_LABELS[p], RANGE)
    torch.testing.assert_close(found, expected[i])


def test_batches_do_not_show_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = nearest_similarity(IMAGES, LABELS, PRIVATE, PRIVATE_LABELS, RANGE)
    monkeypatch.setattr(module, "BATCH", 3)
    monkeypatch.setattr(module, "PRIVATE_BATCH", 4)
    torch.testing.assert_close(nearest_similarity(IMAGES, LABELS, PRIVATE, PRIVATE_LABELS, RANGE), expected)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_broken_image_is_undefined_and_does_not_pass_for_a_dissimilar_one(broken: float) -> None:
    images = IMAGES.clone()
    images[5, 0, 3, 3] = broken
    values = nearest_similarity(images, LABELS, PRIVATE, PRIVATE_LABELS, RANGE)
    assert torch.nonzero(values.isnan()).flatten().tolist() == [5]


def test_what_is_missing_is_named() -> None:
    some = PRIVATE_LABELS != 2
    with pytest.raises(ValueError, match="no private image of class 2"):
        nearest_similarity(IMAGES, LABELS, PRIVATE[some], PRIVATE_LABELS[some], RANGE)


@pytest.mark.parametrize(
    ("images", "labels", "private", "data_range", "message"),
    [
        (IMAGES[0], LABELS, PRIVATE, RANGE, "images must have the shape"),
        (IMAGES, LABELS, PRIVATE[:, :1], RANGE, "private_images must have the shape"),
        (IMAGES[..., :6], LABELS, PRIVATE[..., :6], RANGE, "at least 7 pixels"),
        (IMAGES, LABELS[1:], PRIVATE, RANGE, "differ in length"),
        ((IMAGES * 100).byte(), LABELS, PRIVATE, RANGE, "floating point"),
        (IMAGES, LABELS, PRIVATE, (1.0, -1.0), "low, high"),
        (IMAGES, LABELS, PRIVATE, (0.0, 1.0), r"images must lie in \[0, 1\], found -"),
        (IMAGES, LABELS, 2 * PRIVATE, RANGE, r"private_images must lie in \[-1, 1\]"),
        (IMAGES, LABELS, PRIVATE + 1, RANGE, r"private_images must lie in \[-1, 1\], found "),
        (IMAGES, LABELS, PRIVATE * torch.nan, RANGE, "found nan to nan"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    images: Tensor, labels: Tensor, private: Tensor, data_range: tuple[float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_similarity(images, labels, private, PRIVATE_LABELS, data_range)
