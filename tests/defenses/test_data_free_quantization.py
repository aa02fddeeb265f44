"""A copy of the teacher with few bits per weight: on its grid, near the teacher, and made without an image."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from audit.contracts import DataAccess
from audit.errors import AuditError
from audit.networks.quantization import grid_step, largest_level
from audit.registry import DEFENSES
from audit.settings import Settings
from audit.spiking.files import build, describe
from audit.spiking.files import weights as stored
from defenses.data_free_conversion import DataFreeConversion
from defenses.data_free_quantization import DataFreeQuantization
from tests.defenses.test_defenses import Harness
from tests.networks.teachers import TASK, rand, tiny_teacher

SYNTHESIS: dict[str, Any] = {"synthetic_images": 24, "synthesis_steps": 10, "synthesis_learning_rate": 0.05}
TUNING: dict[str, Any] = {"finetuning_epochs": 3, "finetuning_learning_rate": 1e-2, "finetuning_batch_size": 8}
QUANTIZED = DataFreeQuantization(**SYNTHESIS, **TUNING)


def protect(defense: DataFreeQuantization, seed: int = 0) -> nn.Sequential:
    return defense.protect(tiny_teacher(), Harness().context(seed))


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("bits", [2, 4])
def test_tuned_weights_lie_on_the_grid_of_the_teachers(bits: int) -> None:
    network = protect(replace(QUANTIZED, bits=bits))
    for weight, original in zip(network.parameters(), tiny_teacher().parameters(), strict=True):
        levels = weight / grid_step(original.detach(), bits)
        assert (levels - levels.round()).abs().max() < 1e-4
        assert levels.abs().max() <= largest_level(bits) + 1e-4
        assert all(len(channel.unique()) <= 2**bits for channel in levels.round().flatten(1))


def test_it_works_without_an_image_and_says_so() -> None:
    context = Harness().context()
    assert context.private_images is None
    QUANTIZED.protect(tiny_teacher(), context)
    assert QUANTIZED.data_access is DataAccess.NONE
    assert context.notes["bits per weight"] == 4
    weights = sum(weight.numel() for weight in tiny_teacher().parameters())
    assert 4 * weights < context.notes["size, bits"] < 32 * weights
    assert len(context.notes["training_loss"]) == 3


def test_its_images_are_those_of_the_data_free_conversion() -> None:
    quantization, conversion = Harness(), Harness()
    QUANTIZED.protect(tiny_teacher(), quantization.context())
    DataFreeConversion(**SYNTHESIS, time_steps=12, threshold_scale=0.7).protect(tiny_teacher(), conversion.context())
    assert quantization.asked == conversion.asked


def test_the_notes_hold_the_distance_to_the_teacher_before_and_after_tuning() -> None:
    context = Harness().context()
    network = QUANTIZED.protect(tiny_teacher(), context)
    teacher = tiny_teacher().fc1.weight
    rounded, tuned = (context.notes[f"relative distance to the teacher, {when}"] for when in ("rounded", "tuned"))
    assert tuned["fc1"] == pytest.approx(float((network.fc1.weight - teacher).norm() / teacher.norm()))
    assert rounded.keys() == tuned.keys()
    assert all(rounded[name] < tuned[name] < 0.6 for name in rounded)


def test_tuning_brings_the_answers_nearer_to_the_teachers() -> None:
    context = Harness().context()
    replace(QUANTIZED, bits=2, finetuning_epochs=30).protect(tiny_teacher(), context)
    losses = context.notes["training_loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_the_target_can_be_stored_and_the_teacher_is_left_alone() -> None:
    teacher = tiny_teacher()
    network = QUANTIZED.protect(teacher, Harness().context())
    x = rand(3, *TASK.image_shape)
    assert torch.equal(build(describe(network), stored(network))(x), network(x))
    assert same(teacher, tiny_teacher())
    assert not network.training


def test_the_seed_alone_decides_the_target() -> None:
    torch.manual_seed(1)
    first = protect(QUANTIZED)
    torch.manual_seed(2)
    assert same(first, protect(QUANTIZED))
    assert not same(first, protect(QUANTIZED, seed=1))


@pytest.mark.parametrize(
    "changed",
    [
        {"bits": 3},
        {"finetuning_epochs": 4},
        {"finetuning_learning_rate": 3e-2},
        {"finetuning_batch_size": 5},
        {"finetuning_temperature": 1.0},
        {"synthesis_temperature": 0.1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_an_effect(changed: dict[str, Any]) -> None:
    assert not same(protect(QUANTIZED), protect(replace(QUANTIZED, **changed)))


def test_one_bit_is_refused_by_name() -> None:
    component = DEFENSES.get("data-free-quantization")
    with pytest.raises(AuditError, match=r"data-free-quantization\.bits"):
        Settings({}, {"defense.bits": "1"}).build(component)
