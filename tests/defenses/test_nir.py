"""A network from a NIR file is audited, submitted and verified like the network that it was written from."""

import re
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.records import DefenseResult, Record
from audit.registry import DEFENSES
from audit.spiking.network import SpikingNetwork
from audit.spiking.nir_export import write_nir
from defenses.nir import Nir
from tests.conftest import Command, tiny_options, tiny_run
from tests.networks.teachers import TASK

pytest.importorskip("nir", reason="NIR files need the package nir")

SHAPE = (1, 16, 16)
ATTACKS = ["reconversion", "direct-inversion"]


@pytest.fixture
def original(tiny_store: Path, tmp_path: Path) -> tuple[DefenseResult, Path]:
    """A converted network's results, and its file."""
    finished = tiny_run(tiny_store, "data-free-conversion", "paper-v1")
    network = finished.targets[0, "data-free-conversion"]
    assert isinstance(network, SpikingNetwork)
    write_nir(network, tmp_path / "network-seed0.nir", SHAPE)
    return finished.record.results[0].defenses[0], tmp_path / "network-seed{seed}.nir"


def test_the_network_behind_a_nir_file_is_audited_submitted_and_verified(
    command: Command, tiny_store: Path, original: tuple[DefenseResult, Path], tmp_path: Path
) -> None:
    expected, graph = original
    run, archive = tmp_path / "run", tmp_path / "submission.zip"
    options = ("--attack", "paper-v1", "--store", tiny_store, "--out", run, "--set", f"nir.graph={graph}")
    outcome = command("--defense", "nir", *options, *tiny_options("defense.epochs", attacks=ATTACKS))
    assert outcome.code == 0, outcome.err
    record = Record.read(run / "record.json")
    (found,) = [defense for defense in record.results[0].defenses if defense.defense == "nir"]
    assert (found.data_access, found.time_steps) == ("unknown", 16)
    assert found.target_hash == expected.target_hash
    assert found.accuracy == expected.accuracy
    assert [(a.attack, a.images_hash) for a in found.attacks] == [(a.attack, a.images_hash) for a in expected.attacks]
    submitted = command("submit", run, "--author", "Ada", "--licence", "CC-BY-4.0", "--out", archive)
    assert submitted.code == 0, submitted.err + submitted.out
    verified = command("verify", archive)
    assert verified.code == 0, verified.err + verified.out
    assert "verdict: accepted" in verified.out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"nir\.graph: cannot read .*network-seed0\.nir: No such file"),
        (b"no HDF5", r"network-seed0\.nir is no readable NIR file: "),
    ],
)
def test_a_file_that_is_missing_or_broken_is_one_line_before_anything_is_trained(
    content: bytes | None, said: str, command: Command, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "network-seed0.nir").write_bytes(content)
    given = (
        "--set",
        f"nir.graph={tmp_path / 'network-seed{seed}.nir'}",
        "--store",
        tmp_path / "store",
        "--out",
        tmp_path / "r",
    )
    outcome = command(
        "--defense", "nir", "--attack", "paper-v1", *given, *tiny_options("defense.epochs", attacks=ATTACKS)
    )
    assert outcome.code == 2
    assert re.search(f"error: .*{said}", " ".join(outcome.err.split()))
    assert not list((tmp_path / "store").rglob("*.safetensors"))


def test_the_setting_that_names_the_file_is_asked_for() -> None:
    with pytest.raises(AuditError, match=r"nir needs a file: --set nir\.graph=network-seed\{seed\}\.nir"):
        Nir().fingerprint(TASK, 0)


def test_nir_is_listed_and_not_among_all() -> None:
    assert "nir" in DEFENSES.names()
    assert "nir" not in [component.name for component in DEFENSES.select("all")]
    assert DEFENSES.get("nir").summary.startswith("Reads the target from a NIR file, ")
