"""Quantised networks: on their grid, from the network that the family makes, and no worse for being trained."""

import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.contracts import DataAccess, DefenseContext
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.networks.quantization import size_in_bits
from audit.pipeline import examine, prepare_data, train_teacher
from audit.pipeline import protect as harness_protect
from audit.registry import DEFENSES
from audit.settings import Settings
from audit.spiking.files import build, describe
from audit.spiking.files import weights as stored
from audit.spiking.grid import levels_of
from audit.spiking.integer import Chip, emulate
from audit.spiking.network import SpikingNetwork
from audit.spiking.rounding import QuantizedInTraining, Rounded
from audit.store import Store
from audit.suites import PROFILES
from audit.workshop import Workshop
from defenses.conversion import RealDataConversion
from defenses.privatesnn import PrivateSNN
from defenses.quantized import (
    Quantized,
    QuantizedConversion,
    QuantizedConversionPtq,
    QuantizedPerception,
    QuantizedPrivateSNN,
    QuantizedPrivateSNNPtq,
    QuantizedPtq,
)
from defenses.surrogate_training import SurrogateTraining
from tests.conftest import tiny_run
from tests.defenses.test_defenses import SMALL, TRAINING, Harness
from tests.networks.teachers import TASK, generator, rand, tiny_teacher
from tests.spiking.test_direct_training import bands

TUNING: dict[str, Any] = {"tuning_epochs": 2, "tuning_batch_size": 8, "bits": 3}
DIRECT: dict[str, Any] = {
    "time_steps": 12,
    "training_time_steps": 6,
    "training_epochs": 1,
    "training_batch_size": 16,
    "training_crop": 1,
    "training_learning_rate": 1e-2,
}
IN_TRAINING: dict[str, QuantizedInTraining] = {
    "quantized": Quantized(**DIRECT, **TUNING),
    "quantized-perception": QuantizedPerception(**DIRECT, **TUNING),
    "quantized-conversion": QuantizedConversion(**SMALL, **TUNING),
    "quantized-privatesnn": QuantizedPrivateSNN(**TRAINING, **TUNING),
}
AFTERWARDS: dict[str, Rounded] = {
    "quantized-ptq": QuantizedPtq(**DIRECT, bits=3),
    "quantized-conversion-ptq": QuantizedConversionPtq(**SMALL, bits=3),
    "quantized-privatesnn-ptq": QuantizedPrivateSNNPtq(**TRAINING, bits=3),
}
CONTROL = {
    "quantized": "quantized-ptq",
    "quantized-perception": "quantized-ptq",
    "quantized-conversion": "quantized-conversion-ptq",
    "quantized-privatesnn": "quantized-privatesnn-ptq",
}
ALL = {**IN_TRAINING, **AFTERWARDS}
EVERY = pytest.mark.parametrize("name", list(ALL))
TRAINED = pytest.mark.parametrize("name", list(IN_TRAINING))
IMAGES = bands(40)


def context(defense: Any, seed: int = 0, harness: Harness | None = None) -> DefenseContext:
    entitled = defense.data_access is DataAccess.TRAINING_IMAGES
    return (harness or Harness()).context(seed, IMAGES if entitled else None)


def protect(defense: Any, seed: int = 0) -> SpikingNetwork:
    network = defense.protect(tiny_teacher(), context(defense, seed))
    assert isinstance(network, SpikingNetwork)
    return network


def same(first: nn.Module, second: nn.Module) -> bool:
    tensors = second.state_dict()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in first.state_dict().items())


def weighted(network: SpikingNetwork) -> list[Tensor]:
    return [layer.weight for layer in network.layers if isinstance(layer, nn.Conv2d | nn.Linear)]


@EVERY
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_every_weight_lies_on_its_grid(name: str, per_channel: bool, bits: int) -> None:
    network = protect(replace(ALL[name], bits=bits, per_channel=per_channel))
    for weight in weighted(network):
        found = levels_of(weight, bits)
        assert found is not None
        assert len(found[1]) == (len(weight) if per_channel else 1)


@EVERY
def test_the_target_is_an_ordinary_network_that_can_be_stored_and_emulated(name: str) -> None:
    network = protect(ALL[name])
    again = build(describe(network), stored(network))
    x = rand(3, *TASK.image_shape)
    assert torch.equal(network(x, generator()), again(x, generator()))
    assert [n for n, _ in network.layers.named_children()] == [n for n, _ in tiny_teacher().named_children()]
    assert not network.training
    assert emulate(network, Chip(weight_bits=3, fraction_bits=4))(x, generator()).shape == (3, 3)


@EVERY
def test_the_seed_alone_decides_the_target(name: str) -> None:
    torch.manual_seed(1)
    first = protect(ALL[name])
    torch.manual_seed(2)
    assert same(first, protect(ALL[name]))
    assert not same(first, protect(ALL[name], seed=1))


@EVERY
def test_the_teacher_is_left_alone(name: str) -> None:
    teacher = tiny_teacher()
    ALL[name].protect(teacher, context(ALL[name]))
    assert same(teacher, tiny_teacher())


@EVERY
def test_what_it_is_handed_is_what_its_family_needs(name: str) -> None:
    free = "privatesnn" in name
    assert ALL[name].data_access is (DataAccess.NONE if free else DataAccess.TRAINING_IMAGES)
    assert DEFENSES.get(name).factory is type(ALL[name])
    assert not ALL[name].in_all


@EVERY
def test_the_notes_say_how_large_it_is_and_how_far_its_weights_moved(name: str) -> None:
    own = context(ALL[name])
    network = ALL[name].protect(tiny_teacher(), own)
    weights = sum(weight.numel() for weight in weighted(network))
    assert own.notes["bits per weight"] == 3
    assert own.notes["size, bits"] == 3 * weights + 32 * 5 == size_in_bits(network.layers, 3, per_channel=False)
    moved, rounded = (
        own.notes[f"relative distance of the weights, {what}"] for what in ("to those before", "by rounding")
    )
    assert all(0 < distance < 0.6 for distance in rounded.values())
    assert (moved == rounded) == (name in AFTERWARDS)
    assert ("tuning_loss" in own.notes) == (name in IN_TRAINING)
    assert "training_loss" in own.notes or "thresholds" in own.notes


@pytest.mark.parametrize(("name", "control"), CONTROL.items())
def test_it_begins_from_the_network_that_its_control_rounds(name: str, control: str) -> None:
    asked, other = Harness(), Harness()
    first, second = ALL[name], ALL[control]
    first.protect(tiny_teacher(), context(first, harness=asked))
    second.protect(tiny_teacher(), context(second, harness=other))
    assert [what for what in asked.asked if what[0] == "unquantised network"] == [
        what for what in other.asked if what[0] == "unquantised network"
    ]
    assert not same(protect(first), protect(second))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("quantized-ptq", SurrogateTraining),
        ("quantized-conversion-ptq", RealDataConversion),
        ("quantized-privatesnn-ptq", PrivateSNN),
    ],
)
def test_without_bits_the_control_is_the_familys_own_network_in_full_precision(name: str, family: type[Any]) -> None:
    own = family(**{field.name: getattr(ALL[name], field.name) for field in fields(family)})
    expected, whole = protect(own), protect(replace(ALL[name], bits=None))
    for weight, other in zip(weighted(expected), weighted(whole), strict=True):
        assert torch.equal(weight, other)
    assert describe(expected) == describe(whole)
    with torch.no_grad():
        logits = [network(rand(9, *TASK.image_shape), generator()) for network in (expected, whole)]
    assert torch.equal(logits[0].argmax(1), logits[1].argmax(1))


@TRAINED
def test_without_bits_it_is_trained_on_in_full_precision(name: str) -> None:
    own = context(ALL[name])
    network = replace(ALL[name], bits=None).protect(tiny_teacher(), own)
    assert levels_of(network.layers.conv2.weight, 8) is None
    assert own.notes["bits per weight"] == 32
    assert set(own.notes["relative distance of the weights, by rounding"].values()) == {0.0}
    assert all(own.notes["relative distance of the weights, to those before"].values())


def test_what_the_network_depended_on_is_asked_for_and_what_rounds_it_is_not() -> None:
    def asked(defense: Any, images: Any = IMAGES) -> Any:
        harness = Harness()
        defense.protect(tiny_teacher(), harness.context(0, images))
        return harness.asked

    plain = ALL["quantized-ptq"]
    assert asked(plain) == asked(replace(plain, bits=8, per_channel=True, grid_end="error"))
    assert asked(plain) != asked(replace(plain, firing_threshold=0.4))
    other = copy.deepcopy(IMAGES)
    other.pixels[0, 0, 0, 0] ^= 1
    assert asked(plain) != asked(plain, other)


@TRAINED
@pytest.mark.parametrize(
    "changed",
    [
        {"bits": 4},
        {"per_channel": True},
        {"grid_end": "error"},
        {"tuning_epochs": 3},
        {"tuning_learning_rate": 1e-2},
        {"tuning_batch_size": 7},
        {"perception": 5.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_an_effect(name: str, changed: dict[str, Any]) -> None:
    defense = replace(ALL[name], tuning_learning_rate=5e-3)
    assert not same(protect(defense), protect(replace(defense, **changed)))


@pytest.mark.parametrize("name", ["quantized", "quantized-perception", "quantized-conversion"])
def test_private_images_are_shifted_as_the_setting_says(name: str) -> None:
    assert not same(*(protect(replace(ALL[name], tuning_crop=crop)) for crop in (0, 1)))


@pytest.mark.parametrize("coding", ["rate", "unsigned-rate", "direct", "phase", "latency", "log-latency"])
def test_any_coding_of_the_image_can_be_trained_through(coding: Any) -> None:
    unit = replace(TASK, input_range=(0.0, 1.0))
    defense = replace(IN_TRAINING["quantized"], coding=coding, phases=4)
    own = replace(context(defense), task=unit)
    network = defense.protect(tiny_teacher(), own)
    assert network.encoder.coding == coding
    assert own.notes["tuned through time-steps"] == (12 if "latency" in coding else 6)
    assert own.notes["trained through time-steps"] == own.notes["tuned through time-steps"]


def test_a_phase_code_is_trained_through_one_period_at_least() -> None:
    assert Quantized(**DIRECT, coding="phase", phases=8).steps == 8
    assert Quantized(**{**DIRECT, "time_steps": 7}, coding="phase", phases=8).steps == 7


@EVERY
@pytest.mark.parametrize(("field", "value"), [("bits", "0"), ("bits", "9"), ("grid_end", "middle")])
def test_a_bad_setting_is_refused_by_name(name: str, field: str, value: str) -> None:
    with pytest.raises(AuditError, match=rf"^{name}\.{field} = '{value}'"):
        Settings({}, {f"defense.{field}": value}).build(DEFENSES.get(name))


@TRAINED
@pytest.mark.parametrize(("field", "value"), [("tuning_epochs", "0"), ("perception", "-1")])
def test_a_bad_setting_of_its_training_is_as_well(name: str, field: str, value: str) -> None:
    with pytest.raises(AuditError, match=rf"^{name}\.{field} = '{value}'"):
        Settings({}, {f"defense.{field}": value}).build(DEFENSES.get(name))


def test_full_precision_can_be_asked_for() -> None:
    assert Settings({}, {"defense.bits": "none"}).build(DEFENSES.get("quantized")).bits is None


def test_perception_is_a_weight_of_1_and_otherwise_0() -> None:
    assert QuantizedPerception().perception == 1
    assert replace(QuantizedPerception(), perception=0.0) != Quantized()
    assert all(type(defense)().perception == 0 for name, defense in IN_TRAINING.items() if "perception" not in name)


def test_the_variant_without_its_weight_is_quantized() -> None:
    assert same(protect(replace(IN_TRAINING["quantized-perception"], perception=0.0)), protect(ALL["quantized"]))


def test_a_quantised_privatesnn_is_audited_for_leakage_beside_its_controls(tiny_store: Path) -> None:
    finished = tiny_run(
        tiny_store, "quantized-privatesnn", defense__bits="2", defense__tuning_epochs="1", measure__curve_points="1"
    )
    results = {result.defense: result for result in finished.record.results[0].defenses}
    assert {"quantized-privatesnn", "quantized-privatesnn-ptq", "privatesnn"} <= set(results)
    for name in ("quantized-privatesnn", "quantized-privatesnn-ptq"):
        assert results[name].data_access == "none"
        assert results[name].notes["bits per weight"] == 2
        assert [attack.status for attack in results[name].attacks] == ["ok"]


@pytest.mark.slow
def test_on_digits_8_bits_lose_less_than_a_point_and_2_bits_need_to_be_trained_through(tiny_store: Path) -> None:
    options = Settings(PROFILES["smoke"].settings_for("digits"), {})
    data = prepare_data("digits", None, options.group("data"))
    shop = Workshop(Store(tiny_store), SilentMonitor(), torch.device("cpu"))
    teacher = train_teacher(shop, data, "vgg5", options.group("teacher"), 0)

    def accuracy(name: str, bits: str) -> float:
        component, chosen = DEFENSES.get(name), replace(options, passed={f"{name}.bits": bits})
        made = harness_protect(shop, data, teacher, component, chosen, 0)
        value = examine(shop, data, made, component, chosen, 0).report.accuracy.value
        assert value is not None
        return value

    whole = accuracy("quantized-ptq", "none")
    assert whole > 0.95
    assert accuracy("quantized-ptq", "8") > whole - 0.01
    assert accuracy("quantized-ptq", "2") < 0.5
    assert accuracy("quantized", "2") > 0.9
