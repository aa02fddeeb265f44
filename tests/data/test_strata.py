"""Stratified choice: fair, nested, and the same everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.data.strata import choose, quotas
from audit.errors import AuditError

NAMES = [f"{label}/{number:04}.png" for label in ("cat", "dog") for number in range(50)]
LABELS = [0] * 50 + [1] * 50


@given(st.data())
def test_quotas_add_up_reach_every_class_and_respect_the_reserve(data: st.DataObject) -> None:
    reserve = data.draw(st.integers(0, 1))
    counts = np.array(data.draw(st.lists(st.integers(1 + reserve, 60), min_size=1, max_size=9)))
    k = len(counts)
    total = data.draw(st.integers(k, int(counts.sum()) - k * reserve))
    shared = quotas(counts, total, reserve)
    assert shared.sum() == total
    assert shared.min() >= 1
    assert (shared <= counts - reserve).all()


def test_quotas_follow_the_sizes_of_the_classes() -> None:
    assert quotas(np.array([901, 91, 11]), 103).tolist() == [91, 10, 2]


def test_the_choice_is_the_same_on_every_machine() -> None:
    assert choose("train", NAMES, LABELS, 2, 6).tolist() == [4, 22, 25, 57, 71, 80]


def test_the_choice_is_not_the_first_by_name_and_differs_between_classes() -> None:
    chosen = choose("train", NAMES, LABELS, 2, 20)
    cats, dogs = chosen[:10], chosen[10:] - 50
    assert cats.tolist() != list(range(10))
    assert cats.tolist() != dogs.tolist()


def test_a_smaller_choice_is_part_of_a_larger_one() -> None:
    assert set(choose("train", NAMES, LABELS, 2, 10)) < set(choose("train", NAMES, LABELS, 2, 30))


def test_the_choice_does_not_depend_on_the_order_of_the_files() -> None:
    backwards = choose("train", NAMES[::-1], LABELS[::-1], 2, 10)
    assert {NAMES[::-1][i] for i in backwards} == {NAMES[i] for i in choose("train", NAMES, LABELS, 2, 10)}


def test_every_image_of_a_class_is_about_as_likely_as_the_others() -> None:
    names = [f"{number}.png" for number in range(2000)]
    chosen = choose("train", names, [0, 1] * 1000, 2, 1000)
    assert chosen.mean() == pytest.approx(1000, abs=80)


def test_fewer_images_than_classes_are_refused() -> None:
    with pytest.raises(AuditError, match="1 train images cannot cover 2 classes; ask for at least 2"):
        choose("train", NAMES, LABELS, 2, 1)
