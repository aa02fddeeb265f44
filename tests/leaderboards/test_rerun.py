"""A submission run again: what is run, what is trusted, and what is read."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError, Unchecked
from audit.records import Record
from audit.registry import ATTACKS
from leaderboards.archive import ATTACK, DEFENSE, SCORES, unpack
from leaderboards.comparison import CHECKPOINT
from leaderboards.entries import add
from leaderboards.rerun import Machine, rerun_all, rerun_attacks
from leaderboards.verification import Opened
from tests.conftest import Command
from tests.leaderboards.hostile import Contents, put


def opened(good: Contents, tmp_path: Path) -> Opened:
    manifest, contents = unpack(good.write(tmp_path / "a.zip"))
    return Opened(manifest, contents, good.record)


class Processes:
    """What is run instead of audits: every command is kept; ``records`` are what they write, in turn, then exit 2."""

    def __init__(self, *records: Record) -> None:
        self.commands: list[list[str]] = []
        self.seen: list[dict[str, bytes]] = []
        self.records = list(records)
        self.targets = b"made"

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        out = Path(self.option("out"))
        self.seen.append({path.name: path.read_bytes() for path in out.parent.iterdir() if path.is_file()})
        if not self.records:
            return subprocess.CompletedProcess(command, 2, "", "no such option\n")
        record = self.records.pop(0)
        (out / "targets").mkdir(parents=True)
        record.write(out / "record.json")
        for result in record.results:
            for defense in result.defenses:
                (out / "targets" / f"{defense.defense}-seed{result.seed}.safetensors").write_bytes(self.targets)
        return subprocess.CompletedProcess(command, 0, "", "")

    def option(self, name: str, which: int = -1) -> str:
        [found] = [word for word in self.commands[which] if word.startswith(f"--{name}=")]
        return found.partition("=")[2]

    def settings(self, which: int = -1) -> dict[str, str]:
        words = [word.removeprefix("--set=") for word in self.commands[which] if word.startswith("--set=")]
        return {word.partition("=")[0]: word.partition("=")[2] for word in words}


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    made = Processes()
    monkeypatch.setattr(subprocess, "run", made)
    return made


def renamed(record: Record, name: str, **changed: Any) -> Record:
    """The same with the audited defense under another name."""
    results = []
    for result in record.results:
        twin, own = result.defenses
        own = own.model_copy(update={"defense": name, **changed})
        results.append(result.model_copy(update={"defenses": (twin, own)}))
    return record.model_copy(update={"results": tuple(results)})


def with_option(opened: Opened, key: str, value: str) -> Opened:
    passed = {**opened.record.settings_passed, key: value}
    return replace(opened, record=opened.record.model_copy(update={"settings_passed": passed}))


def test_a_rerun_of_an_external_attack_needs_its_code_and_trust_in_it(
    good: Contents, tmp_path: Path, processes: Processes
) -> None:
    strange = opened(good, tmp_path)
    own = put(good.document, ("results", 0, "defenses", 1, "attacks", 0, "attack"), "my-attack")
    own = {**own, "suites": [], "external": {"about": "0" * 64}}
    record = Record.model_validate(own)
    bare = replace(strange, record=record)
    with pytest.raises(Unchecked, match="the code of 'my-attack' is neither here nor in the archive"):
        rerun_attacks(Machine(None))(bare)
    brought = replace(bare, contents={**bare.contents, ATTACK: b"1 / 0\n"})
    with pytest.raises(Unchecked, match=r"attack\.py is somebody else's code"):
        rerun_attacks(Machine(None))(brought)
    assert not processes.commands
    with pytest.raises(AuditError, match="the re-run ended"):
        rerun_attacks(Machine(None), trust_code=True)(brought)
    asked = processes.option("attack").split(",")
    assert asked[-1].endswith("/attack.py")
    assert "my-attack" not in asked
    assert processes.option("store").endswith("/store")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mine", "the code of 'mine' is neither here nor in the archive"),
        ("checkpoint", "what 'checkpoint' read is a file of the submitter's"),
        ("nir", "what 'nir' read is a file of the submitter's"),
    ],
)
def test_what_cannot_be_made_again_is_not_run_and_reads_no_file_of_ours(
    name: str, reason: str, good: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    record = Record.model_validate(put(good.document, ("results", 0, "defenses", 1, "defense"), name))
    with pytest.raises(Unchecked, match=reason):
        rerun_all(Machine(None), trust_code=True)(replace(opened(good, tmp_path), record=record))


def test_code_that_is_trusted_gets_no_store_of_somebody_elses(command: Command, tmp_path: Path) -> None:
    done = command("verify", tmp_path / "a.zip", "--rerun", "all", "--trust-code", "--store", tmp_path)
    assert (done.code, "--store and --trust-code do not go together" in done.err) == (2, True)


def test_a_rerun_takes_no_value_of_a_stranger_for_an_option(
    good: Contents, tmp_path: Path, processes: Processes
) -> None:
    strange = with_option(opened(good, tmp_path), "data.mirror", "--out=/")
    with pytest.raises(AuditError, match="the re-run ended with exit code 2: no such option"):
        rerun_attacks(Machine(None))(strange)
    [words] = processes.commands
    assert words[1:3] == ["-m", "audit"]
    assert all(word.startswith("--") for word in words[3:])
    assert "--set=data.mirror=--out=/" in words
    assert "--defense=checkpoint" in words


def test_code_that_makes_targets_never_was_in_the_process_that_measures_them(
    good: Contents, tmp_path: Path, processes: Processes
) -> None:
    mine = renamed(good.record, "mine")
    brought = replace(opened(good, tmp_path), record=mine)
    brought = replace(brought, contents={**brought.contents, DEFENSE: b"1 / 0\n"})
    brought = with_option(with_option(brought, "mine.noise", "0.2"), "defense.loudness", "soft")
    processes.records = [renamed(mine, "mine"), renamed(mine, CHECKPOINT, data_access="unknown")]
    said = rerun_all(Machine(None), trust_code=True)(brought)
    assert said.startswith("largest differences: accuracy 0.000")
    assert "other weights" not in said
    first, second = 0, 1
    assert Path(processes.option("defense", first)).name == DEFENSE
    assert processes.option("attack", first) == "weight-recovery"
    assert processes.settings(first)["mine.noise"] == "0.2"
    assert processes.settings(first)["defense.loudness"] == "soft"
    assert not [key for key in processes.settings(first) if key.partition(".")[0] in ("attack", *ATTACKS.names())]
    assert processes.seen[first] == {DEFENSE: b"1 / 0\n"}

    assert processes.option("defense", second) == CHECKPOINT
    assert processes.option("attack", second) == "class-leakage-v1,class-leakage-v2,membership-v1,paper-v1"
    assert not [key for key in processes.settings(second) if "noise" in key or "loudness" in key]
    assert "attack.images_per_class" in processes.settings(second)
    assert processes.seen[second] == {"target-seed0.safetensors": b"made"}
    for option in ("out", "store"):
        assert Path(processes.option(option, first)).parent != Path(processes.option(option, second)).parent


def test_code_that_makes_other_targets_is_said_to_and_one_that_is_another_defense_is_refused(
    good: Contents, tmp_path: Path, processes: Processes
) -> None:
    brought = replace(opened(good, tmp_path), record=renamed(good.record, "mine"))
    brought = replace(brought, contents={**brought.contents, DEFENSE: b""})
    mine = brought.record
    processes.records = [mine, renamed(mine, CHECKPOINT, target_hash="0" * 64)]
    said = rerun_all(Machine(None), trust_code=True)(brought)
    assert (
        "the targets made again are other weights than the submitted ones, as on another machine; --rerun att" in said
    )
    processes.records = [renamed(mine, "mine", data_access="training-images")]
    with pytest.raises(AuditError, match="the access to private data is none in the record and training-images here"):
        rerun_all(Machine(None), trust_code=True)(brought)
    processes.records = [renamed(mine, "yours")]
    with pytest.raises(AuditError, match=r"its defense\.py registers 'yours', the record is about 'mine'"):
        rerun_all(Machine(None), trust_code=True)(brought)
    assert len(processes.commands) == 4


def test_what_a_stranger_measured_stays_out_of_the_store_of_others(
    good: Contents, tmp_path: Path, processes: Processes
) -> None:
    brought = replace(opened(good, tmp_path), record=renamed(good.record, "mine"))
    brought = replace(brought, contents={**brought.contents, DEFENSE: b""})
    with pytest.raises(AuditError, match="the re-run ended"):
        rerun_all(Machine(store=tmp_path), trust_code=True)(brought)
    assert Path(processes.option("store")).parent != tmp_path.parent


@pytest.mark.parametrize("level", ["attacks", "all", "code"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generative-inversion.public", "/home/maintainer/photos"),
        ("generative-inversion.public", "folder"),
        ("attack.public", "photos"),
        ("my-attack.from", "../photos"),
        ("attack.from", "~/photos"),
    ],
)
def test_an_attack_that_would_read_a_file_that_the_submitter_names_is_not_run_again(
    key: str, value: str, level: str, good: Contents, tmp_path: Path, processes: Processes
) -> None:
    strange = with_option(opened(good, tmp_path), key, value)
    if level == "code":
        strange = replace(strange, contents={**strange.contents, DEFENSE: b""})
    again = rerun_attacks(Machine(None)) if level == "attacks" else rerun_all(Machine(None), trust_code=True)
    with pytest.raises(
        Unchecked, match=f"the option '{key}' may name a file, and a re-run reads none that a submitter"
    ):
        again(strange)
    assert processes.commands == []


@pytest.mark.parametrize("key", ["defense.path", "defense.graph", "mine.images"])
def test_a_defense_that_would_read_such_a_file_is_not_made_again_and_its_weights_are_attacked(
    key: str, good: Contents, tmp_path: Path, processes: Processes
) -> None:
    strange = replace(opened(good, tmp_path), record=renamed(good.record, "mine"))
    strange = with_option(replace(strange, contents={**strange.contents, DEFENSE: b""}), key, "/home/maintainer/x")
    with pytest.raises(Unchecked, match=f"the option '{key}' may name a file"):
        rerun_all(Machine(None), trust_code=True)(strange)
    assert processes.commands == []
    with pytest.raises(AuditError, match="the re-run ended"):
        rerun_attacks(Machine(None))(strange)
    assert not [word for word in processes.commands[0] if "maintainer" in word]


def test_a_file_that_only_measures_more_is_left_out_and_said_to_be(
    good: Contents, tmp_path: Path, processes: Processes
) -> None:
    strange = with_option(opened(good, tmp_path), "measure.inception_weights", "/etc/passwd")
    processes.records = [renamed(good.record, CHECKPOINT)]
    said = rerun_attacks(Machine(None))(strange)
    assert said.endswith("; left out, as it may name a file: measure.inception_weights")
    assert not [word for word in processes.commands[0] if "passwd" in word]


@pytest.mark.parametrize("name", ["conversion", "none"])
def test_what_protects_nothing_is_made_again_beside_the_undefended_network(
    name: str, good: Contents, tmp_path: Path, processes: Processes
) -> None:
    record = renamed(good.record, name)
    processes.records = [record]
    said = rerun_all(Machine(None), trust_code=False)(replace(opened(good, tmp_path), record=record))
    assert said.startswith("largest differences")
    assert processes.option("defense") == f"{name},data-free-conversion"


def test_images_that_are_not_here_are_no_reason_to_refuse(
    good: Contents, tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT_DATA", raising=False)
    strange = opened(good, tmp_path)

    def of(name: str) -> Opened:
        dataset = strange.record.dataset.model_copy(update={"name": name})
        return replace(strange, record=strange.record.model_copy(update={"dataset": dataset}))

    with pytest.raises(Unchecked, match="the submitter's own images: nobody else has them"):
        rerun_attacks(Machine(tmp_path))(of("folder"))
    assert processes.commands == []
    with pytest.raises(Unchecked, match=r"cifar10 needs a data folder .* pass --data-root or set AUDIT_DATA"):
        rerun_attacks(Machine(None))(of("cifar10"))


def test_a_committed_row_is_run_again_on_the_weights_beside_it(
    good: Contents, command: Command, tmp_path: Path, processes: Processes
) -> None:
    own = good.weights
    entry = add(good.record, good.files[SCORES], None, tmp_path, own)
    done = command("verify", entry.path, "--rerun", "attacks")
    assert (done.code, "the re-run ended with exit code 2: no such option" in done.out) == (1, True)
    assert processes.option("defense") == CHECKPOINT
    [seen] = processes.seen
    assert [seen[f"target-seed{seed}.safetensors"] for seed in own] == list(own.values())


def test_a_row_without_weights_is_attacked_by_nobody_and_is_accepted_already(
    good: Contents, command: Command, tmp_path: Path, processes: Processes
) -> None:
    entry = add(good.record, good.files[SCORES], None, tmp_path)
    done = command("verify", entry.path, "--rerun", "attacks")
    assert (done.code, processes.commands) == (2, [])
    assert re.search("the weights are not beside .*; give its archive, or --rerun all", done.err)
    done = command("verify", entry.path, "--accept", tmp_path / "rows")
    assert (done.code, "--accept makes a row of an archive" in done.err) == (2, True)
    assert not (tmp_path / "rows").exists()
    assert command("verify", entry.path).code == 0
