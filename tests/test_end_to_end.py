"""The main job on digits, small enough to run again and again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from audit.errors import AuditError
from audit.evaluation import evaluate_target
from audit.monitor import SilentMonitor
from audit.pipeline import prepare_data
from audit.recompute import read_scores, recomputed
from audit.records import DefenseResult, Record
from audit.spiking.files import load_network
from audit.spiking.network import SpikingNetwork
from audit.store import hash_tensors
from tests.conftest import TINY, Command, Outcome, tiny_options, tiny_request, tiny_run

OURS = ("data-free-conversion", "dc-cet", "privatesnn")

DEFENSE = """
from dataclasses import dataclass
from typing import ClassVar
from audit.contracts import DataAccess
from audit.registry import register_defense

@dataclass(frozen=True)
class Halving:
    \"\"\"Halves the last layer's weights.\"\"\"
    factor: float = 0.5
    data_access: ClassVar[DataAccess] = DataAccess.NONE

    def protect(self, teacher, context):
        teacher[-1].weight.data.mul_(self.factor)
        return teacher

register_defense("halving", Halving)
"""

FAILING = """
from dataclasses import dataclass
from audit.registry import register_attack

@dataclass(frozen=True)
class Failing:
    \"\"\"Fails.\"\"\"
    images_per_class: int = 1

    def reconstruct(self, target, context):
        raise ValueError("it was never going to work")

register_attack("failing", Failing)
"""


PAPER = ["reconversion", "direct-inversion"]


@pytest.fixture
def halving(tmp_path: Path) -> str:
    (tmp_path / "halving.py").write_text(DEFENSE)
    return str(tmp_path / "halving.py")


def _record(audited: tuple[Path, Outcome]) -> Record:
    return Record.read(audited[0] / "record.json")


def _defenses(record: Record) -> dict[str, DefenseResult]:
    return {defense.defense: defense for defense in record.results[0].defenses}


def test_the_command_writes_record_report_tables_and_targets_and_leaves_no_temporary_file(
    audited: tuple[Path, Outcome],
) -> None:
    folder, outcome = audited
    assert outcome.code == 0, outcome.err
    tables = {f"tables/{name}.{end}" for name in ("accuracy", "leakage", "energy", "ablation")
              for end in ("csv", "md", "tex")}  # fmt: skip
    targets = {f"targets/{name}-seed0.safetensors" for name in OURS}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found >= {"record.json", "report.html", "pictures/privatesnn.png"} | tables | targets
    assert all((folder / name).stat().st_size > 50 for name in found)
    assert {Path(name).suffix for name in found} <= {
        ".json",
        ".html",
        ".csv",
        ".md",
        ".tex",
        ".npz",
        ".safetensors",
        ".png",
    }
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert len(list((folder / "targets").iterdir())) == len(targets)
    assert len(list((folder / "pictures").iterdir())) == 1


def test_the_command_ends_with_the_tables_and_the_places(audited: tuple[Path, Outcome]) -> None:
    folder, outcome = audited
    flat = "".join(outcome.out.split())
    assert "".join(f"{folder}/report.html".split()) in flat
    assert "".join(f"{folder}/record.json".split()) in flat
    for title in ("Test accuracy", "Class leakage", "energy", "Ablation"):
        assert title in outcome.out


def test_the_record_holds_the_settings_as_passed_and_as_resolved(audited: tuple[Path, Outcome]) -> None:
    record = _record(audited)
    assert record.settings_passed == TINY
    assert record.settings_resolved["teacher"]["epochs"] == 8
    assert record.settings_resolved["teacher"]["learning_rate"] == 0.05
    assert record.settings_resolved["data"]["split_seed"] == 0
    targets = _defenses(record)
    assert {d.settings["time_steps"] for d in targets.values()} == {16}
    assert targets["privatesnn"].settings["distillation"] == 0.7
    assert [(d.defense, d.requested, d.data_access) for d in record.results[0].defenses] == [
        ("data-free-conversion", False, "none"),
        ("dc-cet", False, "none"),
        ("privatesnn", True, "none"),
    ]
    settings = {a.attack: a.settings for a in targets["dc-cet"].attacks}
    assert (settings["direct-inversion"]["updates"], settings["reconversion"]["updates"]) == (2, 2)
    assert settings["adaptive-reconversion (clip-floor)"]["activation"] == "clip-floor"
    assert "--defense privatesnn" in record.command


def test_the_record_holds_what_its_numbers_depend_on(audited: tuple[Path, Outcome]) -> None:
    record = _record(audited)
    assert record.dataset.counts == {"teacher": 84, "evaluator": 36, "test": 60}
    assert record.environment.threads == 1
    assert record.environment.packages["torch"] == torch.__version__.partition("+")[0]
    assert record.environment.device
    assert [stage.name for stage in record.stages][:2] == ["teacher", "evaluator"]


def test_the_record_is_strict_json(audited: tuple[Path, Outcome]) -> None:
    def refuse(text: str) -> Any:
        raise AssertionError(f"{text} is no JSON")

    json.loads((audited[0] / "record.json").read_text(), parse_constant=refuse)


def test_the_hash_in_the_record_is_that_of_the_stored_weights(audited: tuple[Path, Outcome]) -> None:
    for name, defense in _defenses(_record(audited)).items():
        with safe_open(audited[0] / "targets" / f"{name}-seed0.safetensors", framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert hash_tensors(tensors) == defense.target_hash


def test_a_stored_target_gives_the_recorded_accuracy_curve_and_energy(audited: tuple[Path, Outcome]) -> None:
    options = tiny_request("privatesnn", "all").settings
    data = prepare_data("digits", None, options.group("data"))
    for name, defense in _defenses(_record(audited)).items():
        network = load_network(audited[0] / "targets" / f"{name}-seed0.safetensors")
        assert isinstance(network, SpikingNetwork)
        measure, device = options.group("measure"), torch.device("cpu")
        report = evaluate_target(network, data.task, data.parts.test, measure, 0, device, SilentMonitor())
        assert report.accuracy == defense.accuracy
        assert report.accuracy_over_time == defense.accuracy_over_time
        assert report.energy == defense.energy


def test_a_run_with_everything_in_the_store_measures_the_same(audited: tuple[Path, Outcome], tiny_store: Path) -> None:
    again = tiny_run(tiny_store, "privatesnn", "all").record
    assert all(stage.cached for stage in again.stages)
    assert list(again.measurements()) == list(_record(audited).measurements())


def test_the_same_seed_gives_the_same_record_measurement_by_measurement(
    audited: tuple[Path, Outcome], tmp_path: Path
) -> None:
    torch.manual_seed(12345)  # the global generator is nobody's business
    torch.rand(7)
    again = tiny_run(tmp_path, "privatesnn", "all").record
    own = [stage for stage in again.stages if stage.name in ("teacher", "evaluator") and stage.seed in (0, 1_000_003)]
    assert not any(stage.cached for stage in own)
    first = _record(audited)
    paths = [path for path, _ in first.measurements()]
    assert len(paths) > 50
    assert len(set(paths)) == len(paths)
    for (path, measured), (same, repeated) in zip(first.measurements(), again.measurements(), strict=True):
        assert (path, measured) == (same, repeated)
    for name, defense in _defenses(first).items():
        twin = _defenses(again)[name]
        assert twin.target_hash == defense.target_hash
        assert [a.images_hash for a in twin.attacks] == [a.images_hash for a in defense.attacks]
        assert twin.notes == defense.notes
        # Otherwise the agreement would mean nothing.
        moved = [a.notes["image moved by, grey levels"] for a in defense.attacks if a.attack in PAPER]
        assert len(moved) == 2
        assert min(moved) > 0


def test_two_seeds_are_two_results_and_two_sets_of_targets(command: Command, tiny_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ("--defense", "data-free-conversion", "--attack", "paper-v1", "--seeds", "0,1", "--store", tiny_store)
    outcome = command(*given, "--out", out, *tiny_options("defense.epochs", attacks=PAPER))
    assert outcome.code == 0, outcome.err
    record = Record.read(out / "record.json")
    first, second = record.results
    assert (first.seed, second.seed) == (0, 1)
    assert first.teacher.hash != second.teacher.hash
    assert first.evaluator.hash == second.evaluator.hash, "distances compare only within one network"
    assert first.defenses[0].target_hash != second.defenses[0].target_hash
    assert len(list((out / "targets").iterdir())) == 2
    assert {stage.seed % 1_000_003 for stage in record.stages} == {0, 1}


def test_a_failing_attack_keeps_its_place_and_the_run_goes_on(
    command: Command, tiny_store: Path, tmp_path: Path
) -> None:
    attack = tmp_path / "failing.py"
    attack.write_text(FAILING)
    out = tmp_path / "run"
    given = ("--defense", "data-free-conversion", "--attack", f"{attack},direct-inversion,reconversion")
    outcome = command(*given, "--store", tiny_store, "--out", out, *tiny_options("defense.epochs", attacks=PAPER))
    assert outcome.code == 0, outcome.err
    (defense,) = Record.read(out / "record.json").results[0].defenses
    failed, *others = defense.attacks
    assert (failed.attack, failed.status, failed.measurements) == ("failing", "failed", ())
    assert failed.reason == "ValueError: it was never going to work"
    assert [(a.attack, a.status) for a in others] == [("direct-inversion", "ok"), ("reconversion", "ok")]
    for page in ("report.html", "tables/leakage.md"):
        assert "it was never going to work" in (out / page).read_text()


def test_a_run_whose_only_attack_fails_is_still_a_run(command: Command, tiny_store: Path, tmp_path: Path) -> None:
    attack = tmp_path / "failing.py"
    attack.write_text(FAILING)
    given = ("--defense", "none,data-free-conversion", "--attack", attack, "--store", tiny_store)
    settings = tiny_options("defense.epochs", attacks=[])
    outcome = command(*given, "--out", tmp_path / "run", *settings)
    assert outcome.code == 0, outcome.err
    record = Record.read(tmp_path / "run" / "record.json")
    assert {a.status for d in record.results[0].defenses for a in d.attacks} == {"failed"}


def test_an_attack_that_does_not_apply_to_the_ann_is_recorded_with_its_reason(tiny_store: Path) -> None:
    record = tiny_run(tiny_store, "none", "paper-v1").record
    (defense,) = record.results[0].defenses
    assert [(a.attack, a.status) for a in defense.attacks] == [
        ("reconversion", "ok"),
        ("direct-inversion", "not-applicable"),
    ]
    assert defense.attacks[1].reason == "the target is an ANN: it has no surrogate gradient to follow"
    assert (defense.time_steps, defense.energy) == (None, None)
    assert defense.target_hash == record.results[0].teacher.hash


def test_anybody_s_defense_runs_beside_the_conversion_that_it_is_compared_with(halving: str, tiny_store: Path) -> None:
    finished = tiny_run(tiny_store, halving)
    targets = _defenses(finished.record)
    assert {name: d.requested for name, d in targets.items()} == {"data-free-conversion": False, "halving": True}
    assert targets["halving"].origin == halving
    assert targets["halving"].summary == "Halves the last layer's weights."
    assert targets["data-free-conversion"].origin == "defenses.data_free_conversion"
    assert targets["halving"].accuracy.value == finished.record.results[0].teacher.accuracy.value
    assert targets["halving"].target_hash != finished.record.results[0].teacher.hash


def test_an_edited_defense_is_run_again(halving: str, tiny_store: Path) -> None:
    first = tiny_run(tiny_store, halving).record
    Path(halving).write_text(DEFENSE.replace("mul_(self.factor)", "mul_(-self.factor)"))
    second = tiny_run(tiny_store, halving).record
    assert _defenses(first)["halving"].target_hash != _defenses(second)["halving"].target_hash
    assert {stage.name: stage.cached for stage in second.stages}["teacher"]


def test_a_defense_cannot_change_the_teacher_for_those_after_it(halving: str, tiny_store: Path) -> None:
    alone = _defenses(tiny_run(tiny_store, "none").record)["none"]
    after = _defenses(tiny_run(tiny_store, f"{halving},none").record)["none"]
    assert after.target_hash == alone.target_hash


def test_a_target_whose_surrogate_has_no_width_is_flagged_in_the_record(tiny_store: Path) -> None:
    masked = {"dc-cet__surrogate_width": "1e-9"}
    result = tiny_run(tiny_store, "dc-cet", "direct-inversion", **masked).record.results[0]
    undefended, target = result.defenses
    assert target.gradients is not None
    assert target.gradients.missing == 1
    assert "masked-gradients" in target.flags
    assert "masked-gradients" not in undefended.flags


def test_every_leakage_measurement_can_be_made_again_from_the_raw_scores(audited: tuple[Path, Outcome]) -> None:
    record, scores = _record(audited), read_scores(audited[0] / "scores.npz")
    made = dict(recomputed(record, scores))
    sets = [("", c) for c in record.results[0].controls]
    for d in record.results[0].defenses:
        sets += [(f"{d.defense}/", a) for a in d.attacks] + [(f"{d.defense} (untrained)/", a) for a in d.untrained]
    sets = [(where, a) for where, a in sets if a.scores_hash]
    assert {a.evidence for _, a in sets} == {"images", "membership"}
    assert len(made) == len(sets) > 30
    for where, attack in sets:
        assert made[f"seed 0/{where}{attack.attack}"] == attack.measurements
    scores["seed 0/privatesnn/reconversion/similarity"] += 0.1
    with pytest.raises(AuditError, match="seed 0/privatesnn/reconversion do not have the hash"):
        dict(recomputed(record, scores))
