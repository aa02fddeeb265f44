"""Variations stay images; a student comes to answer as its teacher."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.networks.distillation import DistillationRecipe, Variation, distil, distillation_loss
from audit.networks.fresh import fresh_copy
from tests.networks.teachers import TASK, generator, rand, tiny_teacher

STILL = Variation(0, 0, 0, 0)
RECIPE = DistillationRecipe(epochs=8, learning_rate=3e-3, batch_size=16, temperature=4.0, variation=Variation())
PIXELS = torch.randint(0, 256, (48, *TASK.image_shape), generator=generator(5)).to(torch.uint8)


def image() -> torch.Tensor:
    return rand(6, *TASK.image_shape)


def test_nothing_varies_where_every_limit_is_0() -> None:
    assert torch.allclose(STILL(image(), TASK, generator()), image(), atol=1e-5)


@pytest.mark.parametrize("changed", [{"rotation": 20.0}, {"scaling": 0.3}, {"shift": 0.2}, {"noise": 0.1}])
def test_each_limit_changes_the_image_and_keeps_it_in_range(changed: dict[str, float]) -> None:
    varied = replace(STILL, **changed)(image(), TASK, generator())
    assert varied.shape == image().shape
    assert (varied - image()).abs().mean() > 0.01
    assert varied.min() >= -1
    assert varied.max() <= 1


def test_images_are_mirrored_only_where_the_task_allows_it() -> None:
    varied = STILL(image(), replace(TASK, mirror=True), generator())
    mirrored = [torch.allclose(a, b.flip(2), atol=1e-5) for a, b in zip(varied, image(), strict=True)]
    assert 0 < sum(mirrored) < len(mirrored)


def test_a_rotation_turns_an_oblong_image_without_bending_it() -> None:
    oblong = torch.full((200, 1, 8, 16), -1.0)
    oblong[:, :, 2:6, 6:10] = 1.0  # a square of 16 pixels in the middle stays one
    turned = Variation(180, 0, 0, 0)(oblong, TASK, generator())
    area = (turned + 1).sum((1, 2, 3)) / 2
    assert (area - 16).abs().max() < 1.5


def test_the_loss_is_0_for_equal_answers_and_for_those_that_a_softmax_does_not_tell_apart() -> None:
    logits = rand(5, 3)
    assert float(distillation_loss(logits, logits, 20.0)) == pytest.approx(0, abs=1e-5)
    assert float(distillation_loss(logits + 2, logits, 20.0)) == pytest.approx(0, abs=1e-4)
    assert float(distillation_loss(-logits, logits, 20.0)) > 0.01


def test_at_a_high_temperature_the_loss_is_half_the_square_of_the_centred_difference_per_class() -> None:
    first, second = rand(5, 3).double(), rand(5, 3, seed=1).double()
    difference = (first - second) - (first - second).mean(1, keepdim=True)
    expected = difference.square().sum(1).mean() / (2 * 3)
    assert float(distillation_loss(first, second, 1e3)) == pytest.approx(float(expected), rel=1e-2)


def test_a_student_comes_to_answer_as_the_teacher_and_the_teacher_stays() -> None:
    teacher = tiny_teacher()
    student = fresh_copy(teacher, seed=0)
    losses = distil(student, teacher, PIXELS, TASK, RECIPE, 0, SilentMonitor())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), tiny_teacher().parameters(), strict=True))
    assert all(weight.grad is None for weight in teacher.parameters())


def test_the_seed_alone_decides_the_student() -> None:
    students = []
    for noise, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(noise)
        student = fresh_copy(tiny_teacher(), seed=0)
        distil(student, tiny_teacher(), PIXELS, TASK, replace(RECIPE, epochs=1), seed, SilentMonitor())
        students.append(torch.cat([weight.flatten() for weight in student.parameters()]))
    assert torch.equal(students[0], students[1])
    assert not torch.equal(students[0], students[2])


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    nn.init.constant_(student[1].weight, float("inf"))
    with pytest.raises(AuditError, match="distillation diverged"):
        distil(student, tiny_teacher(), PIXELS, TASK, RECIPE, 0, SilentMonitor())
