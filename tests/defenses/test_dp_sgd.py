"""DP-SGD: nothing of the teacher but its layers, and nothing of an image but through the private training."""

import json
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.contracts import DataAccess, DefenseContext, Images
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.networks.accounting import epsilon_spent
from audit.networks.fresh import fresh_copy
from audit.registry import DEFENSES
from audit.spiking.network import SpikingNetwork
from defenses.dp_sgd import DpSgd, LooseDpSgd, StrictDpSgd
from tests.networks.teachers import CPU, TASK, generator, tiny_teacher

pytest.importorskip("opacus", reason="the accounting needs the package opacus")

SMALL: dict[str, Any] = {
    "time_steps": 12,
    "threshold_images": 8,
    "threshold_scale": 0.7,
    "synthetic_images": 12,
    "synthesis_steps": 3,
    "synthesis_learning_rate": 0.05,
    "private_epochs": 2,
    "sample_rate": 0.2,
}
DEFENSE = DpSgd(**SMALL)


def images(seed: int = 3, count: int = 20) -> Images:
    pixels = torch.randint(0, 256, (count, *TASK.image_shape), generator=generator(seed))
    return Images(pixels.to(torch.uint8), torch.arange(count) % 3)


class Stored:
    """Makes what it is asked for, and keeps it and the network that it was to be made from."""

    def __init__(self) -> None:
        self.networks: list[nn.Module] = []
        self.made: dict[str, Tensor] = {}

    def __call__(self, stage: str, network: nn.Module, settings: Any, make: Any) -> dict[str, Tensor]:
        self.networks.append(network)
        self.made = make()
        return self.made


def context(private: Images | None = None, seed: int = 0, stored: Stored | None = None) -> DefenseContext:
    return DefenseContext(TASK, seed, CPU, SilentMonitor(), stored or Stored(), private or images())


def protect(
    defense: DpSgd = DEFENSE, teacher: nn.Sequential | None = None, seed: int = 0, private: Images | None = None
) -> SpikingNetwork:
    return defense.protect(teacher or tiny_teacher(), context(private, seed))


def same(first: nn.Module, second: nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_two_teachers_of_one_shape_give_the_same_target_bit_for_bit() -> None:
    first, second = tiny_teacher(seed=0), tiny_teacher(seed=1)
    assert not same(first, second)
    assert same(protect(teacher=first), protect(teacher=second))


def test_the_seed_and_the_private_images_decide_the_target() -> None:
    target = protect()
    assert same(target, protect())
    assert not same(target, protect(seed=1))
    assert not same(target, protect(private=images(4)))


def test_the_teacher_is_unchanged_and_its_layers_keep_their_names() -> None:
    teacher = tiny_teacher()
    target = protect(teacher=teacher)
    assert same(teacher, tiny_teacher())
    assert [name for name, _ in target.to_ann().named_children()] == [name for name, _ in teacher.named_children()]
    assert not target.training


def test_what_ships_was_trained_and_not_left_as_it_began() -> None:
    begun, ships = fresh_copy(tiny_teacher(), 0), protect().to_ann()
    assert all(not torch.equal(a, b) for a, b in zip(begun.parameters(), ships.parameters(), strict=True))


def test_synthetic_images_are_made_from_the_private_network_and_kept_under_it() -> None:
    stored = Stored()
    teacher = tiny_teacher()
    target = DEFENSE.protect(teacher, context(stored=stored))
    (network,) = stored.networks
    assert network is not teacher
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), target.parameters(), strict=True))


def test_no_private_image_reaches_the_balancing_of_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    private, stored, balanced = images(), Stored(), []
    convert = DpSgd.convert

    def watched(self: DpSgd, network: nn.Sequential, pixels: Tensor, seen: DefenseContext) -> SpikingNetwork:
        balanced.append(pixels)
        assert seen.private_images is None
        return convert(self, network, pixels, seen)

    monkeypatch.setattr(DpSgd, "convert", watched)
    DEFENSE.protect(tiny_teacher(), context(private, stored=stored))
    (pixels,) = balanced
    assert torch.equal(pixels, stored.made["pixels"])
    assert not any(torch.equal(made, image) for made in pixels for image in private.pixels)


def test_the_notes_state_the_guarantee_and_it_is_the_accountants() -> None:
    seen = context()
    DEFENSE.protect(tiny_teacher(), seen)
    notes = json.loads(json.dumps(seen.notes))
    assert notes["epsilon"] == epsilon_spent(notes["noise multiplier"], 1e-5, 0.2, 10)
    assert 0.99 * 8 < notes["epsilon"] <= 8
    assert (notes["delta"], notes["sample rate"], notes["steps"], notes["clipping norm"]) == (1e-5, 0.2, 10, 0.1)
    assert notes["private images"] == 20
    assert notes["accountant"].startswith("RDP, Opacus")
    assert notes["neighbouring relation"] == "one image added or removed"
    assert "whoever does not know the run's seed" in notes["noise"]


def test_no_loss_on_private_images_is_noted() -> None:
    seen = context()
    DEFENSE.protect(tiny_teacher(), seen)
    assert not [key for key in seen.notes if "loss" in key]


def test_a_stricter_epsilon_has_more_noise() -> None:
    noise = []
    for defense in (StrictDpSgd, DpSgd, LooseDpSgd):
        seen = context()
        defense(**SMALL).protect(tiny_teacher(), seen)
        assert seen.notes["epsilon"] <= defense().epsilon
        noise.append(seen.notes["noise multiplier"])
    assert noise == sorted(noise, reverse=True)
    assert len(set(noise)) == 3


def test_three_epsilons_are_registered_and_say_what_they_need() -> None:
    DEFENSES.discover()
    for name, epsilon in {"dp-sgd": 8.0, "dp-sgd-1": 1.0, "dp-sgd-50": 50.0}.items():
        component = DEFENSES.get(name)
        assert component.fields["epsilon"] == epsilon
        assert component.factory.data_access is DataAccess.TRAINING_IMAGES
        assert component.factory.requires == ("opacus",)  # type: ignore[attr-defined]


def test_a_delta_that_says_nothing_about_so_many_images_is_refused() -> None:
    with pytest.raises(AuditError, match=r"delta = 0.1 allows to publish one of 20 private images outright; set it b"):
        protect(replace(DEFENSE, delta=0.1))


def test_a_teacher_with_batch_norm_is_refused_by_the_name_of_the_layer() -> None:
    normalised = nn.Sequential()
    for name, layer in tiny_teacher().named_children():
        normalised.add_module(name, layer)
        if name == "conv1":
            normalised.add_module("norm1", nn.BatchNorm2d(4))
    with pytest.raises(AuditError, match=r"layer 'norm1' \(BatchNorm2d\) cannot be begun anew"):
        protect(teacher=normalised)


def test_without_opacus_it_is_refused_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    DEFENSE.check(TASK, 0, CPU)
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(AuditError, match=r"DP-SGD needs Opacus, .* pip install 'snn-privacy-audit\[dp\]'"):
        DEFENSE.check(TASK, 0, CPU)
