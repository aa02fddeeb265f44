"""The audit as a function, and the examples that show it."""

import runpy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import audit.suites
from audit import audit as run_audit
from audit.api import teacher_images
from audit.contracts import DataAccess, DefenseContext
from audit.errors import AuditError
from audit.records import DefenseResult, Record
from audit.spiking.files import save_network
from audit.suites import PROFILES
from defenses.data_free_conversion import DataFreeConversion
from tests.conftest import TINY, tiny_run

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tiny_store: Path, tmp_path: Path) -> None:
    """The smoke profile with the tiny audit's settings, its store, and a folder to write runs to."""
    smoke = PROFILES["smoke"]
    small = replace(smoke, settings={**smoke.settings, **TINY})
    monkeypatch.setattr(audit.suites, "PROFILES", {**PROFILES, "smoke": small})
    for module in ("audit.run", "audit.api"):
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
    record = run_audit(ScaledDown(factor=0.25, time_steps=11), "reconversion")
    found = audited(record)
    assert (found.defense, found.settings["factor"], found.time_steps) == ("scaled-down", 0.25, 11)
    assert record.settings_passed["scaled-down.factor"] == "0.25"


def test_images_that_a_defense_synthesises_are_those_of_the_network_that_it_hands_over() -> None:
    """A defense that changes the teacher first must neither get nor leave another network's images."""
    plain = audited(run_audit("data-free-conversion", "reconversion"))
    scaled = audited(run_audit(ScaledDown(factor=0.25), "reconversion"))
    again = audited(run_audit("data-free-conversion", "reconversion"))
    assert plain.target_hash == again.target_hash
    assert scaled.notes["thresholds"] != plain.notes["thresholds"]


def test_images_of_the_teacher_are_those_that_the_audit_splits_off() -> None:
    task, images = teacher_images("digits")
    assert len(task.classes) == 10
    assert len(images) == run_audit("none", "weight-recovery").dataset.counts["teacher"]


def test_a_network_per_seed_is_wanted_for_every_seed() -> None:
    with pytest.raises(AuditError, match="there is no network for seed 1"):
        run_audit({0: Odd()}, "reconversion", seeds=(0, 1))


def test_what_is_no_defense_is_refused_in_one_line() -> None:
    with pytest.raises(AuditError, match="neither a name nor an instance of a defense's dataclass"):
        run_audit(3, "reconversion")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["new_defense", "own_checkpoint"])
def test_the_examples_run(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "of the test images correctly" in capsys.readouterr().out
    assert (tmp_path / "runs" / name.replace("new_defense", "noisy-weights").replace("own_checkpoint", "own-network")
            / "report.html").is_file()  # fmt: skip


def test_the_new_defense_takes_less_than_thirty_lines() -> None:
    lines = (EXAMPLES / "new_defense.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 30
