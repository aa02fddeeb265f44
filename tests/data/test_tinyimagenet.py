"""Tiny ImageNet in its official layout, whole or half unpacked."""

from pathlib import Path

import pytest

from audit.data import load
from audit.errors import AuditError


@pytest.fixture
def root(tmp_path: Path, write_image) -> Path:
    """Three classes on disk, of which wnids.txt lists two, against the alphabet; one training image is grey."""
    folder = tmp_path / "tiny-imagenet-200"
    for value, wnid in enumerate(("n1", "n2", "n3")):
        for number in range(3):
            mode = "L" if (wnid, number) == ("n2", 0) else "RGB"
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", 50 * value, mode=mode)
        write_image(folder / "val" / "images" / f"val_{value}.JPEG", 50 * value)
    annotations = "".join(f"val_{value}.JPEG\tn{value + 1}\t0\t0\t3\t3\n" for value in (1, 2, 0))
    (folder / "val" / "val_annotations.txt").write_text(annotations)
    (folder / "wnids.txt").write_text("n2\nn1\n")
    (folder / "words.txt").write_text("n1\tgoldfish, Carassius auratus\nn2\tbullfrog\nn3\tbullfrog, other\n")
    return tmp_path


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "tiny-imagenet-200"


def test_the_classes_are_those_of_wnids_in_its_order_with_readable_names(root: Path) -> None:
    data = load("tinyimagenet", root)
    assert data.classes == ("bullfrog", "goldfish")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_validation_labels_come_from_the_annotations(root: Path) -> None:
    data = load("tinyimagenet", root)
    assert data.test.labels.tolist() == [0, 1]
    assert data.test.pixels[:, 0, 0, 0].tolist() == [50, 0]


def test_grey_images_become_rgb(root: Path) -> None:
    assert load("tinyimagenet", root).train.pixels.shape == (6, 3, 4, 4)


def test_classes_that_share_a_word_are_told_apart(root: Path, folder: Path) -> None:
    (folder / "wnids.txt").write_text("n2\nn3\n")
    assert load("tinyimagenet", root).classes == ("bullfrog (n2)", "bullfrog (n3)")


def test_without_words_the_wnids_are_the_names(root: Path, folder: Path) -> None:
    (folder / "words.txt").unlink()
    assert load("tinyimagenet", root).classes == ("n2", "n1")


def test_limits_and_image_size_work_on_tiny_imagenet(root: Path) -> None:
    data = load("tinyimagenet", root, image_size=8, limits={"train": 4})
    assert data.train.pixels.shape == (4, 3, 8, 8)
    assert data.train.labels.tolist() == [0, 0, 1, 1]


def test_an_annotated_image_that_is_missing_is_named(root: Path, folder: Path) -> None:
    missing = folder / "val" / "images" / "val_0.JPEG"
    missing.unlink()
    with pytest.raises(AuditError, match=f"val_annotations.txt names {missing}, which is missing"):
        load("tinyimagenet", root)


def test_a_class_without_validation_images_is_named(root: Path, folder: Path) -> None:
    (folder / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn2\t0\t0\t3\t3\n")
    with pytest.raises(AuditError, match=r"names no image of the class n1; expected tiny-imagenet-200/wnids.txt"):
        load("tinyimagenet", root)


def test_a_damaged_annotation_line_is_named(root: Path, folder: Path) -> None:
    (folder / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn2\t0\t0\t3\t3\nval_0.JPEG n1\n")
    with pytest.raises(AuditError, match=r"val_annotations.txt, line 2: no tab"):
        load("tinyimagenet", root)


@pytest.mark.parametrize("part", ["wnids.txt", "train/n2/images", "val/images", "val/val_annotations.txt"])
def test_each_missing_part_is_named_with_the_layout(root: Path, folder: Path, part: str) -> None:
    (folder / part).rename(root / "elsewhere")
    with pytest.raises(AuditError, match=f"{folder / part} .*expected tiny-imagenet-200/wnids.txt, tiny"):
        load("tinyimagenet", root)


def test_one_listed_class_is_not_enough(root: Path, folder: Path) -> None:
    (folder / "wnids.txt").write_text("n2\n\n")
    with pytest.raises(AuditError, match=r"wnids.txt lists 1 classes; an audit needs two"):
        load("tinyimagenet", root)
