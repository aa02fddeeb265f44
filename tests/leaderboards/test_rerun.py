"""A submission run again: what is run, what is trusted, and how near the numbers have to be."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError, Unchecked
from audit.records import Record
from leaderboards.archive import ATTACK, unpack
from leaderboards.rerun import Machine, compare, rerun_all, rerun_attacks
from leaderboards.verification import Opened
from tests.conftest import Command
from tests.leaderboards.hostile import Contents, put


def opened(good: Contents, tmp_path: Path) -> Opened:
    manifest, contents = unpack(good.write(tmp_path / "a.zip"))
    return Opened(manifest, contents, good.record)


def test_a_rerun_that_gives_the_same_numbers_has_no_differences(good: Contents) -> None:
    said = compare(good.record, good.record, "privatesnn")
    assert said.startswith(
        "largest differences: accuracy 0.000 (of 0.02), energy 0.000 (of 0.05), leakage of an attack 0.000"
    )


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("accuracy", "value"), 0.9, "seed 0, privatesnn: accuracy is 0.483 in the record and 0.900 here; 0.02 is"),
        (("attacks", 0, "leakage", "value"), 0.99, "reconversion: leakage is 0.842 in the record and 0.990 here"),
        (
            ("energy", "measurements", 0, "value"),
            50.0,
            "seed 0, privatesnn: energy ratio is .* and 50.000 here; 0.05 is",
        ),
        (("attacks", 0, "status"), "failed", "reconversion is 'ok' in the record, 'failed' here"),
        (("attacks", 0, "attack"), "mine", "reconversion is 'ok' in the record, 'absent' here"),
        (("attacks", 0, "leakage", "value"), None, "leakage is 0.842 in the record and without a value here"),
        (("attacks", 11, "measurements", 1, "value"), 0.1, "membership-inference: AUC, .* is 0.5.. in the record"),
    ],
)
def test_a_rerun_that_gives_other_numbers_names_the_first(
    path: tuple[Any, ...], value: Any, reason: str, good: Contents
) -> None:
    again = good.at(("results", 0, "defenses", 1, *path), value).record
    with pytest.raises(AuditError, match=reason):
        compare(good.record, again, "privatesnn")


def test_a_rerun_of_an_external_attack_needs_its_code_and_trust_in_it(
    good: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        called.append(command)
        return subprocess.CompletedProcess(command, 2, "", "no\n")

    monkeypatch.setattr(subprocess, "run", run)
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
    assert not called
    with pytest.raises(AuditError, match="the re-run ended"):
        rerun_attacks(Machine(None), trust_code=True)(brought)
    [words] = called
    asked = next(word for word in words if word.startswith("--attack=")).split(",")
    assert asked[-1].endswith("/attack.py")
    assert "my-attack" not in asked
    assert next(word for word in words if word.startswith("--store=")).endswith("/store")


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


def test_a_rerun_takes_no_value_of_a_stranger_for_an_option_and_reads_no_file_that_he_names(
    good: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        called.append(command)
        return subprocess.CompletedProcess(command, 2, "", "no such option\n")

    monkeypatch.setattr(subprocess, "run", run)
    passed = {**good.record.settings_passed, "measure.inception_weights": "/etc/passwd", "data.mirror": "--out=/"}
    strange = opened(good, tmp_path)
    record = strange.record.model_copy(update={"settings_passed": passed})
    with pytest.raises(AuditError, match="the re-run ended with exit code 2: no such option"):
        rerun_attacks(Machine(None))(replace(strange, record=record))
    [words] = called
    assert words[1:3] == ["-m", "audit"]
    assert all(word.startswith("--") for word in words[3:])
    assert "--set=data.mirror=--out=/" in words
    assert not [word for word in words if "passwd" in word]
    assert "--defense=checkpoint" in words
