"""The script for the paper's scale: data unpacked whole or not at all, a budget that ends, audits that go on."""

import importlib.util
import io
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent.parent
SCRIPT = HERE / "scripts" / "paper_run.py"
# In the place of an audit: works for so many seconds, and tells how it ended.
STAND_IN = """
import pathlib, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = pathlib.Path(words["--out"])
out.mkdir(parents=True, exist_ok=True)
try:
    (out / "begun").touch()
    time.sleep(float(words["--defense"]))
    (out / "record.json").touch()
except KeyboardInterrupt:
    (out / "interrupted").touch()
    sys.exit(130)
"""


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("paper_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["paper_run"] = module  # where dataclasses look their names up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stand_in(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package = tmp_path / "code" / "audit"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    for name in ("cli", "run", "output"):
        (package / f"{name}.py").touch()
    monkeypatch.setattr(script, "HERE", tmp_path / "code")
    monkeypatch.setattr(script, "GRACE_SECONDS", 30.0)
    return script


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_data_is_unpacked_once(script: ModuleType, tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.tar.xz", {"cifar10/train/cat/1.jpg": b"one"})
    script.unpack(archive, tmp_path / "data")
    image = tmp_path / "data" / "cifar10" / "train" / "cat" / "1.jpg"
    assert image.read_bytes() == b"one"
    image.write_bytes(b"as it was left")
    script.unpack(archive, tmp_path / "data")
    assert image.read_bytes() == b"as it was left"


def test_archives_of_one_name_are_two_and_none_takes_the_place_of_another(script: ModuleType, tmp_path: Path) -> None:
    for folder, members in (("x", {"a/1": b"1"}), ("y", {"b/2": b"2"}), ("z", {"a/3": b"3"})):
        (tmp_path / folder).mkdir()
        packed(tmp_path / folder / "data.tar.xz", members)
    for folder in ("x", "y"):
        script.unpack(tmp_path / folder / "data.tar.xz", tmp_path / "data")
    with pytest.raises(script.BadInput, match=r"data/a is there already; remove it, or leave this out"):
        script.unpack(tmp_path / "z" / "data.tar.xz", tmp_path / "data")
    there = sorted(path.name for path in (tmp_path / "data").rglob("*") if not path.name.startswith("."))
    assert there == ["1", "2", "a", "b"]


@pytest.mark.parametrize("broken", ["cut", "middle", "end", "outside", "none"])
def test_data_that_cannot_be_unpacked_leaves_nothing(script: ModuleType, tmp_path: Path, broken: str) -> None:
    archive = packed(
        tmp_path / "a.tar.xz", {"cifar10/1.jpg": b"one" * 1000, "../out" if broken == "outside" else "b": b""}
    )
    content = archive.read_bytes()
    if broken in ("middle", "end"):
        at = len(content) // 2 if broken == "middle" else len(content) - 20
        archive.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    if broken == "cut":
        archive.write_bytes(archive.read_bytes()[:100])
    elif broken == "none":
        archive.unlink()
    with pytest.raises(script.BadInput, match=r"^--data .*a\.tar\.xz cannot be unpacked: "):
        script.unpack(archive, tmp_path / "data")
    assert broken == "none" or list((tmp_path / "data").iterdir()) == []
    assert not (tmp_path / "out").exists()


def main(script: ModuleType, work: Path, seconds: float, *more: str, minutes: float = 1.0) -> int:
    words = ["--work", str(work), "--defense", str(seconds), "--budget-minutes", str(minutes), *more]
    return int(script.main(words))


def test_audits_are_run_the_first_seed_first_and_none_twice(
    stand_in: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(stand_in, tmp_path / "work", 0, "--datasets", "cifar10,tinyimagenet") == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("done")]
    names = [line.split()[1].rstrip(":") for line in lines]
    assert [name[:-9] for name in names] == [
        f"{name}-paper-seeds-{seeds}" for seeds in ("0", "0-1-2") for name in ("cifar10", "tinyimagenet")
    ]
    assert main(stand_in, tmp_path / "work", 0, "--datasets", "cifar10,tinyimagenet") == 0
    assert "-m audit" not in capfd.readouterr().out
    assert main(stand_in, tmp_path / "work", 0.01, "--datasets", "cifar10") == 0
    assert capfd.readouterr().out.count("-m audit") == 2, "another defense is another audit"


def test_an_audit_that_outlasts_the_budget_is_interrupted_and_is_to_be_done(
    stand_in: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    minutes = (stand_in.GRACE_SECONDS + 5) / 60
    assert main(stand_in, tmp_path / "work", 300, "--seeds", "0", minutes=minutes) == 75
    assert time.monotonic() - begun < 60
    [folder] = (tmp_path / "work" / "runs").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["begun", "interrupted"]
    assert "to do    cifar10-paper-seeds-0-" in capfd.readouterr().out
    assert "record.json" not in {path.name for path in folder.iterdir()}


def test_an_audit_that_does_not_end_is_killed(
    stand_in: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = STAND_IN.replace(
        "import pathlib,", "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nimport pathlib,"
    )
    (tmp_path / "code" / "audit" / "__main__.py").write_text(deaf)
    monkeypatch.setattr(stand_in, "GRACE_SECONDS", 3.0)
    assert main(stand_in, tmp_path / "work", 300, "--seeds", "0", minutes=10 / 60) == 75
    [folder] = (tmp_path / "work" / "runs").iterdir()
    assert [path.name for path in folder.iterdir()] == ["begun"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_what_ends_the_script_ends_the_audit(stand_in: ModuleType, tmp_path: Path, name: str) -> None:
    script = tmp_path / "code" / "scripts" / "paper_run.py"
    script.parent.mkdir()
    script.write_text(SCRIPT.read_text())
    words = [sys.executable, str(script), "--work", str(tmp_path / "work"), "--defense", "300", "--seeds", "0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    runs = tmp_path / "work" / "runs"
    for _ in range(600):
        if list(runs.glob("*/begun")):
            break
        time.sleep(0.1)
    process.send_signal(getattr(signal, name))
    assert "interrupted; the same command goes on from here" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert len(list(runs.glob("*/interrupted"))) == 1


def test_a_background_job_is_interrupted_as_well(stand_in: ModuleType, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        minutes = (stand_in.GRACE_SECONDS + 3) / 60
        assert main(stand_in, tmp_path / "work", 300, "--seeds", "0", minutes=minutes) == 75
    finally:
        signal.signal(signal.SIGINT, before)
    [folder] = (tmp_path / "work" / "runs").iterdir()
    assert (folder / "interrupted").exists()


def test_bad_input_is_a_line(stand_in: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(stand_in, tmp_path / "work", 0, minutes=0.1) == 2
    assert "error: --budget-minutes 0.1 leaves no time" in capfd.readouterr().err
    assert main(stand_in, tmp_path / "work", -1) == 2  # time.sleep refuses it
    assert re.search("error: cifar10-paper-seeds-0-.* ended with exit code 1", capfd.readouterr().err)
    (tmp_path / "code" / "audit" / "run.py").write_text("import a_package_that_is_not_here")
    assert main(stand_in, tmp_path / "work", 0) == 2
    assert "No module named 'a_package_that_is_not_here'); " in capfd.readouterr().err


def test_a_real_audit_is_done_within_the_budget(
    script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quick = ["teacher.epochs=1", "evaluator.epochs=1", "data.train_images=400", "data.test_images=50"]
    words = ["--datasets", "digits", "--profile", "smoke", "--seeds", "0", "--attack", "weight-recovery"]
    words += [word for setting in quick for word in ("--set", setting)]
    words += ["--defense", "conversion", "--device", "cpu", "--work", str(tmp_path), "--budget-minutes", "5"]
    assert script.main(words) == 0
    assert "done     digits-smoke-seeds-0" in capfd.readouterr().out
    assert len(list((tmp_path / "runs").glob("digits-smoke-seeds-0-*/record.json"))) == 1
