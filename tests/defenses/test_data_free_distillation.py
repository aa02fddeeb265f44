"""A student of synthetic images: it follows the teacher's answers, shares no weight, and needs no image."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.contracts import DataAccess
from audit.errors import AuditError
from audit.networks.fresh import fresh_copy
from audit.registry import DEFENSES
from audit.settings import Settings
from audit.spiking.files import build, describe
from audit.spiking.files import weights as stored
from defenses.data_free_conversion import DataFreeConversion
from defenses.data_free_distillation import DataFreeDistillation
from tests.defenses.test_defenses import Harness
from tests.networks.teachers import TASK, rand, tiny_teacher

SYNTHESIS: dict[str, Any] = {"synthetic_images": 24, "synthesis_steps": 10, "synthesis_learning_rate": 0.05}
DISTILLED = DataFreeDistillation(**SYNTHESIS, student_epochs=3, student_batch_size=8)


def protect(defense: DataFreeDistillation, seed: int = 0) -> nn.Sequential:
    return defense.protect(tiny_teacher(), Harness().context(seed))


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_it_works_without_an_image_and_says_so() -> None:
    context = Harness().context()
    assert context.private_images is None
    DISTILLED.protect(tiny_teacher(), context)
    assert DISTILLED.data_access is DataAccess.NONE
    assert context.notes["synthetic_images"] == 24
    assert len(context.notes["training_loss"]) == 3


def test_its_images_are_those_of_the_data_free_conversion() -> None:
    distillation, conversion = Harness(), Harness()
    DISTILLED.protect(tiny_teacher(), distillation.context())
    DataFreeConversion(**SYNTHESIS, time_steps=12, threshold_scale=0.7).protect(tiny_teacher(), conversion.context())
    assert distillation.asked == conversion.asked
    assert torch.equal(distillation.made["pixels"], conversion.made["pixels"])


def test_the_student_is_taught_on_the_stored_images() -> None:
    harness = Harness(instead={"pixels": torch.zeros(24, *TASK.image_shape, dtype=torch.uint8)})
    assert not same(DISTILLED.protect(tiny_teacher(), harness.context()), protect(DISTILLED))


def test_the_student_comes_to_answer_as_the_teacher_on_its_images_and_on_others() -> None:
    harness = Harness()
    student = replace(DISTILLED, student_epochs=150).protect(tiny_teacher(), harness.context())

    def distance(network: nn.Sequential, x: Tensor) -> float:
        answers, taught = network(x).detach(), tiny_teacher()(x).detach()
        return float((answers - taught - (answers - taught).mean(1, keepdim=True)).norm())

    begun, own, others = (
        fresh_copy(tiny_teacher(), 0),
        TASK.normalise(harness.made["pixels"]),
        rand(64, *TASK.image_shape),
    )
    assert distance(student, own) < 0.6 * distance(begun, own)
    assert distance(student, others) < 0.9 * distance(begun, others)


def test_the_student_begins_with_weights_of_its_own() -> None:
    student = protect(replace(DISTILLED, student_epochs=1, student_learning_rate=1e-6))
    for weight, own, theirs in zip(
        student.parameters(), fresh_copy(tiny_teacher(), 0).parameters(), tiny_teacher().parameters(), strict=True
    ):
        assert torch.allclose(weight, own, atol=1e-4)
        assert not torch.allclose(weight, theirs, atol=0.01)


def test_the_target_can_be_stored_and_the_teacher_is_left_alone() -> None:
    teacher = tiny_teacher()
    student = DISTILLED.protect(teacher, Harness().context())
    x = rand(3, *TASK.image_shape)
    assert torch.equal(build(describe(student), stored(student))(x), student(x))
    assert same(teacher, tiny_teacher())
    assert not student.training


def test_the_seed_alone_decides_the_student() -> None:
    torch.manual_seed(1)
    first = protect(DISTILLED)
    torch.manual_seed(2)
    assert same(first, protect(DISTILLED))
    assert not same(first, protect(DISTILLED, seed=1))


@pytest.mark.parametrize(
    "changed",
    [
        {"student_epochs": 4},
        {"student_learning_rate": 1e-3},
        {"student_batch_size": 7},
        {"student_temperature": 2.0},
        {"variation_rotation": 5.0},
        {"variation_scaling": 0.0},
        {"variation_shift": 0.3},
        {"variation_noise": 0.0},
        {"synthesis_temperature": 0.1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_an_effect(changed: dict[str, Any]) -> None:
    assert not same(protect(DISTILLED), protect(replace(DISTILLED, **changed)))


def test_a_bad_setting_is_refused_by_name() -> None:
    component = DEFENSES.get("data-free-distillation")
    with pytest.raises(AuditError, match=r"data-free-distillation\.variation_scaling"):
        Settings({}, {"defense.variation_scaling": "1.5"}).build(component)
