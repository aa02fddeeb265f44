"""An installed package brings a defense and an attack: what its author would do, in an environment of its own."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from audit.records import Record
from tests.conftest import tiny_options

ROOT = Path(__file__).parent.parent
MODULE = '''
from dataclasses import dataclass
from typing import ClassVar

import torch

from audit.contracts import DataAccess, Reconstructions
from audit.registry import register_attack, register_defense


@dataclass(frozen=True)
class Plain:
    """Ships the teacher."""

    data_access: ClassVar[DataAccess] = DataAccess.NONE

    def protect(self, teacher, context):
        return teacher


@dataclass(frozen=True)
class Grey:
    """Brings back grey images."""

    images_per_class: int = 2

    def reconstruct(self, target, context):
        labels = torch.arange(len(context.task.classes)).repeat(self.images_per_class)
        return Reconstructions(torch.zeros(len(labels), *context.task.image_shape), labels)


register_defense("DEFENSE", Plain)
register_attack("grey", Grey)
'''


def wheel(folder: Path, defense: str) -> Path:
    """A wheel of one module, with both entry points."""
    info = "tiny_plugin-1.0.dist-info"
    files = {
        "tiny_plugin.py": MODULE.replace("DEFENSE", defense),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[snn_privacy_audit.defenses]\ntiny = tiny_plugin\n\n"
        "[snn_privacy_audit.attacks]\ntiny = tiny_plugin\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = folder / "tiny_plugin-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def installed(folder: Path, defense: str) -> Path:
    """The folder that the plugin was installed to."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    done = subprocess.run([*pip, folder / "site", wheel(folder, defense)], capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        pytest.skip("this environment has no pip to install a plugin with")
    assert done.returncode == 0, done.stderr
    return folder / "site"


def audit(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = f"{site}:{ROOT}"
    environment = {"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "audit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=site)


def test_an_installed_package_brings_components_that_audit_like_ours(tmp_path: Path, tiny_store: Path) -> None:
    site = installed(tmp_path, "plain")
    listed = json.loads(audit(site, "list", "--json").stdout)
    assert listed["defenses"]["plain"] == "Ships the teacher."
    assert listed["attacks"]["grey"] == "Brings back grey images."
    options = tiny_options("defense.", attacks=["grey"])
    done = audit(site, "--defense", "plain", "--attack", "grey", "--store", tiny_store, "--out", "run", *options)
    assert done.returncode == 0, done.stderr
    (defense,) = [d for d in Record.read(site / "run" / "record.json").results[0].defenses if d.requested]
    assert (defense.origin, [a.status for a in defense.attacks]) == ("tiny_plugin", ["ok"])


def test_a_name_that_is_taken_is_an_error_naming_both_origins(tmp_path: Path) -> None:
    done = audit(installed(tmp_path, "privatesnn"), "list")
    assert done.returncode == 2
    assert "two defenses are named 'privatesnn': defenses.privatesnn and tiny_plugin" in done.stderr
