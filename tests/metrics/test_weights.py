"""A recovered network beside the teacher: itself is all of it, a stranger nothing."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.metrics.weights import compare_networks, linear_cka
from audit.records import Measurement
from tests.networks.teachers import TASK, rand, tiny_teacher

X = rand(60, *TASK.image_shape)


def compared(recovered: nn.Sequential, labels: Tensor | None = None) -> dict[str, Measurement]:
    teacher = tiny_teacher()
    labels = teacher(X).argmax(1) if labels is None else labels
    return {m.name: m for m in compare_networks(recovered, teacher, X, labels)}


def test_the_teacher_itself_is_all_of_it() -> None:
    found = compared(tiny_teacher())
    assert found["weight cosine"].value == pytest.approx(1)
    assert found["relative weight distance"].value == 0
    assert found["interpolation barrier"].value == 0
    assert found["linear CKA with the teacher"].value == pytest.approx(1)
    assert found["accuracy of the recovered network"].value == 1
    assert found["accuracy of the recovered network"].direction == "higher means more leakage"


def test_a_stranger_is_nothing_of_it() -> None:
    found = compared(tiny_teacher(seed=7))
    assert abs(found["weight cosine"].value or 1) < 0.2
    assert found["relative weight distance"].value == pytest.approx(2**0.5, rel=0.2)
    assert (found["interpolation barrier"].value or 0) > 0.02


def test_a_rescaled_copy_has_the_cosine_and_not_the_distance() -> None:
    copy = deepcopy(tiny_teacher())
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(3)
    found = compared(copy)
    assert found["weight cosine"].value == pytest.approx(1)
    assert found["relative weight distance"].value == pytest.approx(2)
    assert found["linear CKA with the teacher"].value == pytest.approx(1)


def test_the_barrier_is_the_largest_rise_above_the_chord() -> None:
    """Weight w -> sign of the logit; between +1 and -1 the network passes through 0, where it is right by ties only."""
    teacher = nn.Sequential(nn.Identity(), nn.Linear(1, 2, bias=False))
    recovered = deepcopy(teacher)
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    with torch.no_grad():
        teacher[1].weight.copy_(torch.tensor([[0.0], [1.0]]))  # type: ignore[union-attr, operator]
        recovered[1].weight.copy_(torch.tensor([[0.0], [-1.0]]))  # type: ignore[union-attr, operator]
    labels = torch.ones(4, dtype=torch.int64)
    found = {m.name: m for m in compare_networks(recovered, teacher, x, labels)}
    # Errors along the line: 0 for the first five points, 1 from the middle on; the chord rises from 0 to 1.
    assert found["interpolation barrier"].value == pytest.approx(0.5)


def test_layers_that_do_not_match_are_not_compared_and_the_rest_is() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(X[0].numel(), 12), nn.Linear(12, 3))
    found = compared(other)
    assert found["weight cosine"].status == "not-applicable"
    assert found["interpolation barrier"].status == "not-applicable"
    assert found["accuracy of the recovered network"].status == "ok"


def test_cka_is_that_of_the_centred_gram_matrices() -> None:
    a, b = rand(40, 5, seed=1), rand(40, 8, seed=2)
    centre = np.eye(40) - 1 / 40
    k, m = (centre @ (x.double().numpy() @ x.double().numpy().T) @ centre for x in (a, b))
    expected = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert linear_cka(a, b) == pytest.approx(float(expected))
    rotation = torch.linalg.qr(rand(5, 5, seed=3)).Q
    assert linear_cka(a, 3 * a @ rotation + 1) == pytest.approx(1)
    assert linear_cka(a, torch.ones(40, 3)) == 0
