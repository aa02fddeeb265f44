"""The audit as a function, and the examples that show it."""

import copy
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import audit.suites
from attacks.direct_inversion import DirectInversion
from attacks.reconversion import Reconversion
from audit import audit as run_audit
from audit.api import teacher_images
from audit.contracts import DataAccess, DefenseContext
from audit.own_network import NOT_SUBMITTABLE
from audit.records import DefenseResult, Record
from audit.registry import DEFENSES
from audit.spiking.files import save_network, weights
from audit.store import hash_tensors
from audit.suites import PROFILES
from defenses.data_free_conversion import DataFreeConversion
from tests.conftest import TINY, tiny_run

EXAMPLES = Path(__file__).parent.parent / "examples"
# An instance stands for all its values, and those of a defense are for a GPU.
QUICK = {"threshold_images": 20, "synthetic_images": 20, "synthesis_steps": 5}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tiny_store: Path, tmp_path: Path) -> None:
    """The smoke profile with the tiny audit's settings, its store, and a folder to write runs to."""
    smoke = PROFILES["smoke"]
    small = replace(smoke, settings={**smoke.settings, **TINY})
    monkeypatch.setattr(audit.suites, "PROFILES", {**PROFILES, "smoke": small})
    for module in ("audit.request", "audit.api"):
        monkeypatch.setattr(f"{module}.PROFILES", {**PROFILES, "smoke": small})
    monkeypatch.setenv("AUDIT_STORE", str(tiny_store))
    monkeypatch.chdir(tmp_path)


class Odd(nn.Module):
    """No sequence of layers, a batch norm, and a choice of its own in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(256), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(torch.tanh(self.norm(x.flatten(1))))
        return logits


@dataclass(frozen=True)
class ScaledDown(DataFreeConversion):
    """Weights times ``factor``, then the conversion."""

    data_access: ClassVar[DataAccess] = DataAccess.NONE
    factor: float = 0.5

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        for weight in teacher.parameters():
            weight.data *= self.factor
        return super().protect(teacher, context)


def audited(record: Record) -> DefenseResult:
    (found,) = [d for d in record.results[0].defenses if d.requested]
    return found


def test_a_name_gives_what_the_command_gives(tiny_store: Path) -> None:
    record = run_audit("data-free-conversion", "reconversion")
    same = tiny_run(tiny_store, "data-free-conversion", "reconversion").record
    assert record.results == same.results
    assert record.environment == same.environment


def test_a_module_of_any_kind_is_attacked_and_stays_as_it_is() -> None:
    network = Odd()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = audited(run_audit(network, "class-leakage-v1,membership-v1"))
    assert found.data_access == "unknown"
    status = {attack.attack: attack.status for attack in found.attacks}
    assert status["reconversion"] == status["adaptive-reconversion (relu)"] == status["label-only-inversion"] == "ok"
    assert status["membership-inference"] == "ok"
    assert status["weight-recovery"] == status["adaptive-inversion"] == "not-applicable"
    assert {a.status for a in found.untrained if a.attack == "reconversion"} == {"ok"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.training


def test_the_untrained_twin_of_a_module_knows_nothing_of_its_weights(tiny_store: Path) -> None:
    twins = []
    for bias in (0.0, 50.0):
        network = Odd()
        nn.init.constant_(network.out.bias, bias)
        found = audited(run_audit(network, "reconversion"))
        twins.append(found.untrained[0].images_hash)
    assert twins[0] == twins[1]


def test_a_spiking_network_of_ones_own_goes_through_every_attack(tiny_store: Path, tmp_path: Path) -> None:
    finished = tiny_run(tiny_store, "data-free-conversion", "paper-v1")
    network = finished.targets[0, "data-free-conversion"]
    own = audited(run_audit(network, "paper-v1"))
    theirs = audited(finished.record)
    assert own.target_hash == theirs.target_hash
    assert [a.status for a in own.attacks] == ["ok", "ok"]
    assert own.accuracy == theirs.accuracy
    save_network(network, tmp_path / "network-seed0.safetensors")
    path = {"checkpoint.path": tmp_path / "network-seed{seed}.safetensors"}
    read = audited(run_audit("checkpoint", "paper-v1", settings=path))
    assert read.target_hash == own.target_hash
    assert [a.images_hash for a in read.attacks] == [a.images_hash for a in own.attacks]


class Signed(nn.Module):
    """The same layers and weights whatever its sign."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.out, self.sign = nn.Linear(256, 10), sign
        nn.init.eye_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.sign * self.out(x.flatten(1))
        return logits


def test_what_forward_does_is_never_taken_from_the_store() -> None:
    """Class, weights and layers are equal; the answers are not."""
    found = [audited(run_audit(Signed(sign), "reconversion")) for sign in (1, -1)]
    assert found[0].target_hash == found[1].target_hash
    assert found[0].attacks[0].images_hash != found[1].attacks[0].images_hash


def test_another_network_under_the_same_name_is_not_taken_from_the_store() -> None:
    first, second = nn.Sequential(nn.Flatten(), nn.Linear(256, 10)), nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    hashes = {audited(run_audit(network, "reconversion")).target_hash for network in (first, second)}
    assert len(hashes) == 2


def test_a_defense_that_nobody_registered_is_audited_and_its_fields_are_in_the_record() -> None:
    record = run_audit(ScaledDown(factor=0.25, time_steps=11, **QUICK), "reconversion")
    found = audited(record)
    assert (found.defense, found.settings["factor"], found.time_steps) == ("scaled-down", 0.25, 11)
    assert record.settings_passed["scaled-down.factor"] == "0.25"


def test_images_that_a_defense_synthesises_are_those_of_the_network_that_it_hands_over() -> None:
    """A defense that changes the teacher first must neither get nor leave another network's images."""
    plain = audited(run_audit("data-free-conversion", "reconversion"))
    scaled = audited(run_audit(ScaledDown, "reconversion", settings={"scaled-down.factor": 0.25}))
    again = audited(run_audit("data-free-conversion", "reconversion"))
    assert plain.target_hash == again.target_hash
    assert scaled.notes["thresholds"] != plain.notes["thresholds"]


def test_images_of_the_teacher_are_those_that_the_audit_splits_off() -> None:
    task, images = teacher_images("digits")
    assert len(task.classes) == 10
    assert len(images) == run_audit("none", "weight-recovery").dataset.counts["teacher"]


def test_an_instance_stands_for_its_values_and_a_class_for_those_of_the_profile() -> None:
    default = Reconversion().updates
    assert default != int(TINY["reconversion.updates"])
    given = run_audit("none", Reconversion(images_per_class=2))
    assert audited(given).attacks[0].settings["updates"] == default
    passed = {f"reconversion.{name}" for name in audited(given).attacks[0].settings}
    assert set(given.settings_passed) == passed
    assert given.settings_passed["reconversion.updates"] == str(default)
    plain = run_audit("none", Reconversion)
    assert audited(plain).attacks[0].settings["updates"] == int(TINY["reconversion.updates"])
    assert plain.settings_passed == {}


def test_settings_reach_the_baselines_of_an_instance_and_not_the_instance() -> None:
    given = ScaledDown(time_steps=11, **QUICK)
    record = run_audit(given, "weight-recovery", settings={"defense.time_steps": 7})
    assert {d.defense: d.time_steps for d in record.results[0].defenses} == {
        "data-free-conversion": 7,
        "scaled-down": 11,
    }


def test_attacks_come_by_name_by_class_and_as_instances_in_the_order_given() -> None:
    record = run_audit("none", ["weight-recovery", Reconversion(updates=3, images_per_class=2), DirectInversion])
    found = audited(record).attacks
    assert [attack.attack for attack in found] == ["weight-recovery", "reconversion", "direct-inversion"]
    assert found[1].settings["updates"] == 3
    assert found[2].settings["updates"] == int(TINY["direct-inversion.updates"])


def test_names_in_a_list_are_what_they_are_with_commas() -> None:
    several = run_audit("none", ["paper-v1", "weight-recovery", "reconversion"])
    assert several.results == run_audit("none", "paper-v1,weight-recovery").results


def test_paths_are_texts_as_well_and_one_seed_needs_no_brackets(tmp_path: Path, tiny_store: Path) -> None:
    record = run_audit(
        "none", "weight-recovery", seeds=1, store=str(tiny_store), data_root=str(tmp_path), out=str(tmp_path / "run")
    )
    assert [result.seed for result in record.results] == [1]
    assert Record.read(tmp_path / "run" / "record.json") == record
    assert len(teacher_images("digits", data_root=str(tmp_path))[1]) == record.dataset.counts["teacher"]


def test_the_device_may_be_the_object_and_seeds_any_whole_numbers() -> None:
    record = run_audit("none", "weight-recovery", seeds=np.arange(2), device=torch.device("cpu"))
    assert [result.seed for result in record.results] == [0, 1]


def test_networks_by_seed_are_audited_under_all_their_seeds() -> None:
    networks = {seed: nn.Sequential(nn.Flatten(), nn.Linear(256, 10)) for seed in (3, 1)}
    record = run_audit(networks, "reconversion")
    hashes = {result.seed: result.defenses[-1].target_hash for result in record.results}
    assert hashes == {seed: hash_tensors(weights(network)) for seed, network in networks.items()}


def test_whoever_calls_without_gradients_gets_the_same_record() -> None:
    network = Odd()
    with torch.inference_mode():
        without = audited(run_audit(network, "reconversion"))
    with_gradients = audited(run_audit(network, "reconversion"))
    assert without.attacks == with_gradients.attacks
    assert without.gradients == with_gradients.gradients


class Mirrored(nn.Sequential):
    """The known layers, and a change of its own in forward."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = -super().forward(x)
        return logits


def negate(layer: nn.Module, given: object, found: Tensor) -> Tensor:
    return -found


def test_a_sequence_of_known_layers_that_computes_something_else_is_audited_as_it_is() -> None:
    """Its layers have a description, and what is built again from that would be another network."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    mirrored, hooked = Mirrored(*copy.deepcopy(plain)), copy.deepcopy(plain)
    hooked[1].register_forward_hook(negate)
    first, second, third = (audited(run_audit(network, "reconversion")) for network in (plain, mirrored, hooked))
    assert NOT_SUBMITTABLE not in first.notes
    assert first.accuracy != second.accuracy == third.accuracy
    assert first.attacks[0].images_hash != second.attacks[0].images_hash == third.attacks[0].images_hash


def test_the_record_of_a_module_without_a_description_says_that_it_cannot_be_submitted(tmp_path: Path) -> None:
    record = run_audit(Odd(), "reconversion", out=tmp_path / "run")
    assert "test_api.Odd cannot be described in a file" in audited(record).notes[NOT_SUBMITTABLE]
    load = "from audit.spiking.files import load_network; from pathlib import Path; load_network(Path({!r}))"
    path = str(tmp_path / "run" / "targets" / "own-network-seed0.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", load.format(path)],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AuditError: the layers of a tests.test_api.Odd cannot be described" in done.stderr
    assert "build it as an audit.spiking.network.SpikingNetwork, or an nn.Sequential" in done.stderr


@pytest.mark.parametrize("name", ["new_defense", "own_checkpoint"])
def test_the_examples_run(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "of the test images correctly" in capsys.readouterr().out
    assert (tmp_path / "runs" / name.replace("new_defense", "noisy-weights").replace("own_checkpoint", "own-network")
            / "report.html").is_file()  # fmt: skip


@pytest.mark.parametrize("asked", ["{}", "all,{}"])
def test_the_new_defense_is_known_on_the_command_line_as_well(asked: str) -> None:
    assert DEFENSES.select(asked.format(EXAMPLES / "new_defense.py"))[-1].name == "noisy-weights"


def test_the_new_defense_takes_less_than_thirty_lines() -> None:
    lines = (EXAMPLES / "new_defense.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 30
