"""`digits` comes with scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from audit.data import Dataset, load
from audit.errors import AuditError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def _rows(pixels: torch.Tensor) -> set[bytes]:
    return {row.tobytes() for row in pixels.numpy()}


def test_digits_are_grey_bytes_of_sixteen_by_sixteen(digits: Dataset) -> None:
    assert digits.train.pixels.shape == (1437, 1, 16, 16)
    assert digits.test.pixels.shape == (360, 1, 16, 16)
    assert digits.train.pixels.dtype == torch.uint8
    assert digits.train.labels.dtype == torch.int64
    assert digits.classes == tuple("0123456789")


def test_full_ink_becomes_255_and_no_ink_becomes_0() -> None:
    native = load("digits", image_size=8)
    pixels = torch.cat([native.train.pixels, native.test.pixels])
    ink = load_digits().images
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert pixels.double().mean().item() == pytest.approx(ink.mean() * 255 / 16, abs=0.5)


def test_train_and_test_are_the_whole_of_the_source_and_share_no_image() -> None:
    native = load("digits", image_size=8)
    train, test = _rows(native.train.pixels), _rows(native.test.pixels)
    source = {row.tobytes() for row in np.rint(load_digits().images * 255 / 16).astype(np.uint8)}
    assert not train & test
    assert train | test == source


def test_labels_stay_with_their_images() -> None:
    native = load("digits", image_size=8)
    source = load_digits()
    rows = [row.tobytes() for row in np.rint(source.images * 255 / 16).astype(np.uint8)]
    of_image = dict(zip(rows, source.target, strict=True))
    for row, label in zip(native.test.pixels.numpy(), native.test.labels.tolist(), strict=True):
        assert of_image[row.tobytes()] == label


def test_the_test_split_is_stratified(digits: Dataset) -> None:
    expected = np.bincount(load_digits().target) * 360 / 1797
    assert np.abs(digits.test.labels.bincount().numpy() - expected).max() <= 1


def test_digits_are_enlarged_bilinearly() -> None:
    native, enlarged = load("digits", image_size=8), load("digits")
    reference = torch.nn.functional.interpolate(native.test.pixels.float(), size=16, mode="bilinear")
    assert (enlarged.test.pixels.float() - reference).abs().max() <= 1


def test_limits_cap_both_splits_evenly() -> None:
    capped = load("digits", limits={"train": 40, "test": 20})
    assert capped.train.labels.bincount().tolist() == [4] * 10
    assert capped.test.labels.bincount().tolist() == [2] * 10


def test_a_limit_above_what_there_is_takes_everything(digits: Dataset) -> None:
    assert torch.equal(load("digits", limits={"train": 10**6}).train.pixels, digits.train.pixels)


@pytest.mark.parametrize("cap", [9, 0, -1])
def test_a_limit_below_one_image_per_class_is_refused(cap: int) -> None:
    with pytest.raises(AuditError, match=f"{cap} test images cannot cover 10 classes; ask for at least 10"):
        load("digits", limits={"test": cap})
