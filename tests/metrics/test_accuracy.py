"""Accuracy counts every image once, and says when it cannot."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.metrics.accuracy import accuracy, accuracy_over_time
from audit.metrics.images import recognised

LABELS = torch.tensor([0, 1, 2, 1])
LOGITS = torch.tensor([[9.0, 1, 0], [0, 5, 1], [7, 0, 1], [0, 3, 2]])


def test_accuracy_of_logits_is_the_accuracy_of_their_largest() -> None:
    assert accuracy("a", LOGITS, LABELS) == accuracy("a", LOGITS.argmax(1), LABELS)
    assert accuracy("a", LOGITS, LABELS).value == 0.75


def test_tensors_arrays_and_lists_give_the_same_measurement() -> None:
    expected = accuracy("a", LOGITS, LABELS)
    assert accuracy("a", LOGITS.numpy(), LABELS.numpy()) == expected
    assert accuracy("a", LOGITS.argmax(1).tolist(), LABELS.tolist()) == expected
    assert accuracy("a", LOGITS.bfloat16(), LABELS) == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1), st.randoms(use_true_random=False))
def test_accuracy_does_not_depend_on_the_order_of_the_images(pairs: list[tuple[int, int]], random) -> None:
    shuffled = random.sample(pairs, len(pairs))
    first, second = (accuracy("a", *map(list, zip(*order, strict=True))) for order in (pairs, shuffled))
    assert first == second
    assert first.value == pytest.approx(np.mean([given == label for given, label in pairs]))


def test_a_logit_that_is_not_a_number_makes_accuracy_undefined_and_not_lower() -> None:
    logits = LOGITS.clone()
    logits[1, 2] = torch.nan
    measured = accuracy("a", logits, LABELS)
    assert (measured.value, measured.status, measured.n) == (None, "undefined", 4)
    assert measured.reason == "1 of 4 images have logits that are not finite"


def test_no_images_is_insufficient_and_not_0() -> None:
    measured = accuracy("a", torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    assert (measured.value, measured.status) == (None, "insufficient")


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (LOGITS, LABELS[:3], "differ in length: 4 and 3"),
        (LOGITS[None], LABELS, "shape"),
        (LOGITS[:, 0], LABELS, "must be integers"),
        (LOGITS[:, :2], LABELS, "label 2 has no column"),
        (LOGITS, LABELS.float(), "labels must be integers"),
        (LOGITS, LABELS[None], r"labels must have the shape \[N\]"),
        (LABELS, LABELS - 1, "from 0, found -1"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(outputs: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy("a", outputs, labels)


def test_the_curve_over_time_keeps_each_number_of_steps_with_its_own_outputs() -> None:
    wrong = LOGITS.roll(1, dims=1)
    curve = accuracy_over_time(torch.stack([wrong, LOGITS]), LABELS, [4, 16])
    assert [steps for steps, _ in curve] == [4, 16]
    assert [point.value for _, point in curve] == [accuracy("a", wrong, LABELS).value, 0.75]
    assert [point.name for _, point in curve] == ["accuracy at T=4", "accuracy at T=16"]


def test_the_curve_of_predictions_is_the_curve_of_the_outputs_they_came_from() -> None:
    outputs = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    assert accuracy_over_time(outputs.argmax(2), LABELS, [1, 2, 8]) == accuracy_over_time(outputs, LABELS, [1, 2, 8])


@pytest.mark.parametrize(("steps", "message"), [([1], "length"), ([2, 2], "distinct"), ([0, 1], "at least 1")])
def test_steps_that_do_not_fit_the_outputs_are_refused(steps: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy_over_time(torch.stack([LOGITS, LOGITS]), LABELS, steps)


def test_a_curve_of_float_vectors_is_not_taken_for_predictions() -> None:
    with pytest.raises(ValueError, match="must be classes"):
        accuracy_over_time(torch.zeros(2, 4), LABELS, [1, 2])


def test_being_recognised_counts_as_leakage_and_accuracy_as_a_virtue() -> None:
    leak, virtue = recognised(LOGITS, LABELS), accuracy("a", LOGITS, LABELS)
    assert (leak.value, leak.low, leak.high) == (virtue.value, virtue.low, virtue.high)
    assert (leak.direction, virtue.direction) == ("higher means more leakage", "higher is better")


def test_an_attack_without_images_is_not_recognised_0_percent() -> None:
    assert recognised([], []).value is None
