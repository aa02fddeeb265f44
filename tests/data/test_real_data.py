"""The published data sets, where AUDIT_DATA has them."""

import os
from pathlib import Path

import pytest
import torch

from audit.data import load


@pytest.fixture
def root(request: pytest.FixtureRequest) -> Path:
    folder = Path(os.environ.get("AUDIT_DATA", "data"))
    wanted = request.param
    if not (folder / wanted).is_dir():
        pytest.skip(f"no {wanted} in {folder}; set AUDIT_DATA to a folder that has it")
    return folder


@pytest.mark.parametrize("root", ["cifar10"], indirect=True)
def test_cifar10_is_a_balanced_set_of_small_photographs(root: Path) -> None:
    data = load("cifar10", root, limits={"train": 500, "test": 200})
    assert data.train.pixels.shape == (500, 3, 32, 32)
    assert data.train.labels.bincount().tolist() == [50] * 10
    assert data.test.labels.bincount().tolist() == [20] * 10
    # The published channel means of CIFAR-10: 0.4914, 0.4822, 0.4465.
    means = data.train.pixels.double().mean(dim=(0, 2, 3)) / 255
    assert torch.allclose(means, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=0.03)


@pytest.mark.parametrize("root", ["cifar10"], indirect=True)
def test_ships_and_planes_are_bluer_than_frogs_and_deer(root: Path) -> None:
    data = load("cifar10", root, limits={"train": 1000, "test": 10})
    pixels = data.train.pixels.double()
    blueness = (pixels[:, 2] - pixels[:, 0]).mean(dim=(1, 2))
    by_class = {name: blueness[data.train.labels == label].mean() for label, name in enumerate(data.classes)}
    assert min(by_class["ship"], by_class["airplane"]) > max(by_class["frog"], by_class["deer"])


@pytest.mark.parametrize("root", ["tiny-imagenet-200"], indirect=True)
def test_tiny_imagenet_is_read_with_the_classes_that_wnids_lists(root: Path) -> None:
    wnids = (root / "tiny-imagenet-200" / "wnids.txt").read_text().split()
    data = load("tinyimagenet", root, limits={"train": 2 * len(wnids), "test": len(wnids)})
    assert len(set(data.classes)) == len(wnids)
    assert data.train.pixels.shape == (2 * len(wnids), 3, 64, 64)
    assert data.test.labels.tolist() == list(range(len(wnids)))
