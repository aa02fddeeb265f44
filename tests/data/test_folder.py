"""`folder`: anybody's images, and everything that can be wrong with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from audit.data import load
from audit.errors import AuditError


@pytest.fixture
def pets(tmp_path: Path, write_classes) -> Path:
    for split in ("train", "test"):
        write_classes(tmp_path / "pets" / split, ["cat", "dog"])
    return tmp_path / "pets"


def test_images_arrive_in_the_order_of_class_and_name_with_their_labels(pets: Path) -> None:
    data = load("folder", pets)
    assert data.classes == ("cat", "dog")
    assert data.train.pixels.shape == (4, 3, 4, 4)
    assert data.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 10, 11]
    assert data.train.labels.tolist() == [0, 0, 1, 1]


def test_the_test_split_may_be_called_val(pets: Path) -> None:
    (pets / "test").rename(pets / "val")
    assert len(load("folder", pets).test) == 4


def test_class_folders_are_sorted_by_the_numbers_in_their_names(tmp_path: Path, write_classes) -> None:
    names = ["10", "class10", "class2", "2", "Class1"]
    for split in ("train", "test"):
        write_classes(tmp_path / split, names, per_class=1)
    assert load("folder", tmp_path).classes == ("2", "10", "Class1", "class2", "class10")


def test_hidden_files_and_other_suffixes_are_skipped(pets: Path) -> None:
    (pets / "train" / ".cache").mkdir()
    (pets / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (pets / "train" / "cat" / "notes.txt").write_text("not an image")
    assert len(load("folder", pets).train) == 4


def test_grey_files_stay_one_channel(tmp_path: Path, write_classes) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / split, ["cat", "dog"], mode="L")
    data = load("folder", tmp_path)
    assert data.train.pixels.shape == data.test.pixels.shape == (4, 1, 4, 4)
    assert data.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 10, 11]


def test_one_colour_image_in_the_test_split_makes_both_splits_rgb(tmp_path: Path, write_classes, write_image) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / split, ["cat", "dog"], mode="L")
    write_image(tmp_path / "test" / "dog" / "9.png", 9)
    data = load("folder", tmp_path)
    assert data.train.pixels.shape[1] == data.test.pixels.shape[1] == 3
    assert data.train.pixels[2, :, 0, 0].tolist() == [10, 10, 10]


def test_channels_and_axes_are_not_mixed_up(pets: Path) -> None:
    pixels = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    Image.fromarray(pixels).save(pets / "train" / "cat" / "0.png")
    assert torch.equal(load("folder", pets).train.pixels[0], torch.from_numpy(pixels).permute(2, 0, 1))


def test_images_of_different_sizes_are_refused_and_image_size_is_suggested(pets: Path, write_image) -> None:
    odd = write_image(pets / "test" / "dog" / "1.png", size=(6, 4))
    with pytest.raises(AuditError, match=f"{odd} is 6x4 pixels but .*0.png is 4x4; pass --image-size"):
        load("folder", pets)


def test_image_size_resizes_the_shorter_side_and_crops_the_centre(pets: Path) -> None:
    stripes = np.zeros((4, 12), dtype=np.uint8)
    stripes[:, 4:8] = 200
    Image.fromarray(stripes).save(pets / "train" / "cat" / "0.png")
    data = load("folder", pets, image_size=4)
    assert data.train.pixels.shape == (4, 3, 4, 4)
    assert (data.train.pixels[0] == 200).all()
    assert load("folder", pets, image_size=9).train.pixels.shape == (4, 3, 9, 9)


def test_photographs_are_turned_upright(pets: Path) -> None:
    dark_above_light = np.repeat(np.array([[0], [255]], dtype=np.uint8), 4, axis=0).repeat(8, axis=1)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(dark_above_light).save(pets / "train" / "cat" / "0.png", exif=exif)
    assert load("folder", pets, image_size=8).train.pixels[0, 0, 0, 0] == 255


def test_limits_are_applied_before_decoding(pets: Path, write_image) -> None:
    first = load("folder", pets, limits={"train": 2}).train
    for label, kept in zip(("cat", "dog"), first.pixels[:, 0, 0, 0].tolist(), strict=True):
        (pets / "train" / label / f"{1 - kept % 10}.png").write_bytes(b"damaged")
    assert torch.equal(load("folder", pets, limits={"train": 2}).train.pixels, first.pixels)
    with pytest.raises(AuditError, match="cannot decode"):
        load("folder", pets)


def test_a_truncated_image_is_named(pets: Path) -> None:
    path = pets / "train" / "dog" / "big.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=100)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AuditError, match=f"^cannot decode the image {path} .*; replace or remove it$"):
        load("folder", pets)


def test_a_file_that_is_no_image_is_named(pets: Path) -> None:
    path = pets / "test" / "cat" / "0.png"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(AuditError, match=f"cannot decode the image {path}"):
        load("folder", pets)


def test_sixteen_bit_images_are_refused_rather_than_clipped(pets: Path) -> None:
    path = pets / "test" / "cat" / "0.png"
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(path)
    with pytest.raises(AuditError, match=f"{path} has pixels of mode I;16; save it with 8 bits"):
        load("folder", pets)


def test_a_class_folder_without_images_is_named(pets: Path) -> None:
    empty = pets / "train" / "emu"
    empty.mkdir()
    (pets / "test" / "emu").mkdir()
    with pytest.raises(AuditError, match=f"no images in the class folder {empty}; expected train/<class>"):
        load("folder", pets)


def test_train_and_test_must_have_the_same_classes(pets: Path) -> None:
    (pets / "test" / "dog").rename(pets / "test" / "wolf")
    with pytest.raises(AuditError, match=f"class folder 'dog' missing in {pets / 'test'}"):
        load("folder", pets)
    (pets / "test" / "dog").mkdir()
    with pytest.raises(AuditError, match=f"unexpected class folder 'wolf' in {pets / 'test'}"):
        load("folder", pets)


@pytest.mark.parametrize(("split", "named"), [("train", "train/"), ("test", r"test/ \(or val/\)")])
def test_a_missing_split_is_named_with_the_layout(pets: Path, split: str, named: str) -> None:
    (pets / split).rename(pets / "elsewhere")
    with pytest.raises(AuditError, match=f"no {named} in {pets}; expected train/<class>"):
        load("folder", pets)


def test_one_class_is_not_enough(tmp_path: Path, write_classes) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / split, ["cat"])
    with pytest.raises(AuditError, match=f"{tmp_path / 'train'} has 1 class folders, an audit needs two"):
        load("folder", tmp_path)
