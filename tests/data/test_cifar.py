"""CIFAR-10 and CIFAR-100: the image-folder copy, the python archive, and the failed download."""

import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from audit.data import load
from audit.data.cifar10 import CLASSES
from audit.data.cifar100 import CLASSES as CLASSES_100
from audit.errors import AuditError

PER_CLASS = 3


def _copy(root: Path, write_classes) -> Path:
    for split in ("train", "test"):
        write_classes(root / "cifar10" / split, list(CLASSES))
    return root


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A python archive of CIFAR-10, 20 images per batch: image i is flat with the value i, save green and one pixel."""
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5=None: Path(path).is_file())
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for batch in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        labels = [index % 10 for index in range(20)]
        data = np.repeat(np.arange(20, dtype=np.uint8)[:, None], 3072, axis=1)
        data[:, 1024:2048] += 100
        data[:, 1] = 255  # red, row 0, column 1
        (folder / batch).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CLASSES)}))
    return tmp_path


def test_the_archive_is_read_with_labels_and_channels_in_place(archive: Path) -> None:
    data = load("cifar10", archive)
    assert data.classes == CLASSES
    assert data.train.pixels.shape == (100, 3, 32, 32)
    assert data.train.pixels.dtype == torch.uint8
    assert data.test.pixels[13, :, 0, 0].tolist() == [13, 113, 13]
    assert data.test.labels[13] == 3
    assert data.test.pixels[13, 0, :2, :2].tolist() == [[13, 255], [13, 13]]


def test_limits_and_image_size_work_on_the_archive(archive: Path) -> None:
    data = load("cifar10", archive, image_size=16, limits={"train": 20, "test": 10})
    assert data.train.pixels.shape == (20, 3, 16, 16)
    assert data.train.labels.bincount().tolist() == [2] * 10
    assert data.test.pixels[:, 0, 8, 8].remainder(10).tolist() == data.test.labels.tolist()


def test_an_image_folder_copy_is_preferred_to_the_archive(archive: Path, write_classes) -> None:
    assert load("cifar10", _copy(archive, write_classes)).train.pixels.shape == (20, 3, 4, 4)


def test_labels_are_the_official_ones_whatever_the_folders_sort_like(
    tmp_path: Path, write_classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = CLASSES[::-1]
    monkeypatch.setattr("audit.data.cifar10.CLASSES", official)
    data = load("cifar10", _copy(tmp_path, write_classes))
    assert data.classes == official
    assert data.train.pixels[data.train.labels == official.index("truck")][0, 0, 0, 0] == 90


def test_a_cifar_class_that_is_not_unpacked_is_named(tmp_path: Path, write_classes) -> None:
    _copy(tmp_path, write_classes)
    (tmp_path / "cifar10" / "test" / "dog").rename(tmp_path / "dog")
    with pytest.raises(AuditError, match=f"class folder 'dog' missing in {tmp_path}/cifar10/test; expected cifar10/"):
        load("cifar10", tmp_path)


def test_a_half_unpacked_copy_is_not_replaced_by_a_download(tmp_path: Path, write_classes) -> None:
    write_classes(tmp_path / "cifar10" / "train", list(CLASSES))
    with pytest.raises(AuditError, match=f"cannot list the folder {tmp_path}/cifar10/test .*; expected cifar10/"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize(("name", "base"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_a_failed_download_is_one_line_with_the_path_and_the_layout(
    name: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no\nroute")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)
    with pytest.raises(AuditError) as raised:
        load(name, tmp_path)
    message = str(raised.value)
    assert message.startswith(f"no {name} in {tmp_path}, and its download failed (<urlopen error no route>)")
    assert f"{name}/train/<class>/*" in message
    assert f"{base}/" in message
    assert "\n" not in message


def test_cifar100_has_its_hundred_fine_classes_in_official_order(tmp_path: Path, write_classes) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / "cifar100" / split, list(CLASSES_100), per_class=1, size=(2, 2))
    data = load("cifar100", tmp_path)
    assert len(set(data.classes)) == 100
    # Three labels of the official file meta.
    assert (data.classes[0], data.classes[47], data.classes[99]) == ("apple", "maple_tree", "worm")
    assert data.train.labels.tolist() == list(range(100))
