"""`partition`: who gets which images."""

from dataclasses import replace

import pytest
import torch

from audit.contracts import Images
from audit.data import Dataset, Parts, partition
from audit.errors import AuditError

# Changing this makes every published record incomparable with the ones to come.
PINNED = "b2f9556cba1bc551689b9d3c96dd1302a0cf6b549470c51af7bc32f74db83a44"


def _images(per_class: list[int], first: int = 0) -> Images:
    """Images of 1x1x4 pixels that hold the bytes of their own number."""
    count = sum(per_class)
    numbers = torch.arange(first, first + count, dtype=torch.int32)
    labels = torch.repeat_interleave(torch.arange(len(per_class)), torch.tensor(per_class))
    return Images(numbers.view(torch.uint8).reshape(count, 1, 1, 4), labels)


def _numbers(images: Images) -> list[int]:
    return images.pixels.contiguous().reshape(-1).view(torch.int32).tolist()


@pytest.fixture
def data() -> Dataset:
    return Dataset("numbers", ("a", "b", "c"), _images([60, 60, 60]), _images([20, 20, 20], first=1000))


def test_the_parts_are_disjoint_and_together_they_are_everything(data: Dataset) -> None:
    parts = partition(data, 0.3, None, None, None)
    assert sorted(_numbers(parts.teacher) + _numbers(parts.evaluator)) == list(range(180))
    assert sorted(_numbers(parts.test)) == list(range(1000, 1060))
    assert parts.counts() == {"teacher": 126, "evaluator": 54, "test": 60}


def test_every_part_is_stratified_and_capped(data: Dataset) -> None:
    parts = partition(data, 0.5, 30, 15, 9)
    assert parts.counts() == {"teacher": 30, "evaluator": 15, "test": 9}
    for images, each in ((parts.teacher, 10), (parts.evaluator, 5), (parts.test, 3)):
        assert images.labels.bincount().tolist() == [each] * 3


def test_labels_stay_with_their_pixels(data: Dataset) -> None:
    teacher = partition(data, 0.3, None, None, None).teacher
    assert teacher.labels.tolist() == [number // 60 for number in _numbers(teacher)]


def test_the_first_images_of_a_part_are_a_mix_of_classes(data: Dataset) -> None:
    parts = partition(data, 0.3, None, None, None)
    assert set(parts.test.labels[:15].tolist()) == {0, 1, 2}


def test_a_cap_on_one_part_leaves_the_others_as_they_are(data: Dataset) -> None:
    free, capped = partition(data, 0.3, None, None, None), partition(data, 0.3, 30, None, None)
    assert torch.equal(free.evaluator.pixels, capped.evaluator.pixels)
    assert torch.equal(free.test.pixels, capped.test.pixels)
    assert set(_numbers(capped.teacher)) < set(_numbers(free.teacher))


def test_the_split_is_decided_by_the_seed_alone(data: Dataset) -> None:
    first, again, other = (partition(data, 0.3, 30, 15, 9, seed).split_hash() for seed in (1, 1, 2))
    assert first == again != other


def test_the_split_of_a_seed_never_changes_so_that_records_stay_comparable(data: Dataset) -> None:
    assert partition(data, 0.3, 30, 15, 9).split_hash() == PINNED


def test_no_global_random_state_is_used(data: Dataset) -> None:
    before = torch.random.get_rng_state()
    partition(data, 0.3, None, None, None)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_teacher_and_evaluator_see_every_class_whatever_the_fraction(fraction: float) -> None:
    data = Dataset("uneven", ("a", "b"), _images([2, 200]), _images([1, 1]))
    parts = partition(data, fraction, None, None, None)
    assert parts.teacher.labels.bincount().min() >= 1
    assert parts.evaluator.labels.bincount().min() >= 1


def test_the_hash_notices_a_pixel_a_label_a_shape_and_a_move_between_parts(data: Dataset) -> None:
    parts = partition(data, 0.3, 30, 15, 9)
    test = parts.test
    pixel = test.pixels.clone()
    pixel[4, 0, 0, 0] ^= 1
    variants = [
        replace(parts, test=Images(pixel, test.labels)),
        replace(parts, test=Images(test.pixels, test.labels.roll(1))),
        replace(parts, test=Images(test.pixels.reshape(-1, 1, 2, 2), test.labels)),
        Parts(teacher=parts.evaluator, evaluator=parts.teacher, test=test),
    ]
    assert len({parts.split_hash(), *(variant.split_hash() for variant in variants)}) == 5


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_fraction_that_leaves_someone_without_images_is_refused(data: Dataset, fraction: float) -> None:
    with pytest.raises(AuditError, match=r"fraction .* is not between 0 and 1"):
        partition(data, fraction, None, None, None)


def test_a_cap_below_one_image_per_class_is_refused(data: Dataset) -> None:
    with pytest.raises(AuditError, match="2 evaluator images cannot cover 3 classes"):
        partition(data, 0.3, None, 2, None)


def test_a_class_with_too_few_images_is_named() -> None:
    data = Dataset("tiny", ("a", "b"), _images([1, 5]), _images([1, 1]))
    with pytest.raises(AuditError, match=r"class 'a' of tiny has too few train images \(1\); it needs 2 or more"):
        partition(data, 0.3, None, None, None)
