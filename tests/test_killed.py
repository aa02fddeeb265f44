"""A run that is killed at any moment, whose files are damaged, or whose disk is full ends as one that was not."""

import logging
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit import temporary
from audit.cli import main
from audit.monitor import SilentMonitor
from audit.records import Record
from audit.run import run
from audit.store import UNFINISHED, Store
from tests.conftest import Command, tiny_options, tiny_request

ATTACKS = ("reconversion", "adaptive-inversion", "membership-inference")
# Of the modules that a forked process finds loaded, so that it begins at once.
LOADED = ["audit.run", "audit.output", "audit.api", "audit.reporting.headline", "tests.test_killed"]


def told(record: Record) -> dict[str, Any]:
    """A record but for when it was made, what it cost, and how it was asked for."""
    return record.model_dump(exclude={"created", "stages", "command"})


def left_behind(*folders: Path) -> list[Path]:
    """What is there under a name that only lasts while it is written."""
    return [path for folder in folders for path in folder.rglob(".*") if temporary.NAME.fullmatch(path.name)]


def options(store: Path, out: Path, attacks: tuple[str, ...] = ATTACKS) -> list[str]:
    given = ["--defense", "privatesnn", "--attack", ",".join(attacks), "--store", store, "--out", out]
    return [*map(str, given), *tiny_options(attacks=attacks)]


def _audit(arguments: list[str], errors: Path) -> None:
    """In a process of its own."""
    sys.argv = ["audit", *arguments]
    os.environ["AUDIT_CHECKPOINT_SECONDS"] = "0.1"
    with errors.open("a") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)
        main()


def begun(arguments: list[str], errors: Path) -> multiprocessing.Process:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(target=_audit, args=(arguments, errors))
    process.start()
    return process  # type: ignore[return-value]


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_gives_the_record_of_one_that_is_not(kills: int, tmp_path: Path) -> None:
    errors, chosen = tmp_path / "errors", random.Random(kills)
    begin = time.monotonic()
    whole = begun(options(tmp_path / "whole-store", tmp_path / "whole"), errors)
    whole.join()
    assert whole.exitcode == 0, errors.read_text()
    seconds = time.monotonic() - begin
    expected = Record.read(tmp_path / "whole" / "record.json")
    scores = np.load(tmp_path / "whole" / "scores.npz")
    done = runs = 0
    while done < kills:
        store, out = tmp_path / f"store-{runs}", tmp_path / f"run-{runs}"
        for _ in range(200):
            process = begun(options(store, out), errors)
            # At any moment: of its start, of a stage, of the last second in which the folder is written.
            process.join(chosen.uniform(0, seconds))
            if process.exitcode is not None:
                assert process.exitcode == 0, errors.read_text()
                break
            process.kill()
            process.join()
            done += 1
            if (out / "record.json").exists():  # killed between its last file and its end: the run is there
                break
        assert told(Record.read(out / "record.json")) == told(expected)
        found = np.load(out / "scores.npz")
        assert sorted(found) == sorted(scores)
        assert all(np.array_equal(found[name], scores[name], equal_nan=True) for name in scores)
        assert left_behind(tmp_path) == []
        assert not (store / UNFINISHED).exists() or not list((store / UNFINISHED).iterdir())
        runs += 1
    assert "is damaged" not in errors.read_text()


@pytest.mark.slow
def test_several_processes_whose_first_is_killed_go_on_as_well(tmp_path: Path) -> None:
    store, out, chosen = tmp_path / "store", tmp_path / "run", random.Random(0)
    command = [sys.executable, "-m", "audit", *options(store, out)]
    command[command.index("--jobs") + 1] = "2"
    environment = os.environ | {"AUDIT_CHECKPOINT_SECONDS": "0.1"}
    for _ in range(4):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(chosen.uniform(10, 30))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (out / "record.json").exists():
            break
    else:
        subprocess.run(command, env=environment, check=True, capture_output=True)
    made = run(tiny_request("privatesnn", ",".join(ATTACKS)), Store(tmp_path / "alone"), SilentMonitor()).record
    alone = Record.parse(made.text().encode(), "alone")  # as a file holds it: a setting's tuple is a list there
    assert told(Record.read(out / "record.json")) == told(alone) | {
        key: told(Record.read(out / "record.json"))[key] for key in ("settings_passed", "profile", "environment")
    }
    assert left_behind(tmp_path) == []


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_every_kind_of_artifact_that_is_damaged_is_found_named_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, request = Store(tmp_path), tiny_request("privatesnn", ",".join(ATTACKS))
    expected = told(run(request, store, SilentMonitor()).record)
    paths = [kept.path for kept in store.kept()]
    kinds = {path.parent.name for path in paths}
    assert kinds >= {"teacher", "evaluator", "second evaluator", "target", "synthetic-images", "evaluation"}
    assert kinds >= {"untrained", "gradients", "attack", "observation", "measurements"}
    for damage in (flipped, truncated):
        whole = {path: path.read_bytes() for path in paths}
        for path in paths:
            damage(path)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            again = run(request, store, SilentMonitor()).record
        assert told(again) == expected
        assert {path.stem for path in paths} <= {line.key for line in again.stages if not line.cached}
        for path in paths:
            assert f"{path} is damaged" in caplog.text
            assert path.read_bytes() == whole[path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1.5 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1500k", "tmpfs", place], capture_output=True)
    if not made or made.returncode:
        pytest.skip("a small file system cannot be mounted here: it takes the rights to do so")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_an_error_with_what_is_done_kept(small_disk: Path, tmp_path: Path, command: Command) -> None:
    store, out = small_disk / "store", tmp_path / "run"
    filling = small_disk / "filling"
    filling.write_bytes(b"\0" * 1_000_000)
    full = command(*options(store, out, ("reconversion",)))
    assert full.code == 2
    assert "No space left on device" in full.err
    assert f"cannot write to the store {store}" in full.err.replace("\n", " ")
    assert not out.exists()
    assert left_behind(small_disk) == []
    done = [(kept.path, kept.path.read_bytes()) for kept in Store(store).kept()]
    assert "teacher" in {path.parent.name for path, _ in done}
    filling.unlink()
    again = command(*options(store, out, ("reconversion",)))
    assert again.code == 0, again.err
    assert "is damaged" not in again.err
    assert all(path.read_bytes() == content for path, content in done)
    cached = {line.key for line in Record.read(out / "record.json").stages if line.cached}
    assert {path.stem for path, _ in done} <= cached


def test_a_disk_that_is_full_at_the_end_leaves_no_half_of_a_run(
    small_disk: Path, tmp_path: Path, command: Command
) -> None:
    out = small_disk / "run"
    (small_disk / "filling").write_bytes(b"\0" * 1_400_000)
    full = command(*options(tmp_path / "store", out, ("reconversion",)))
    assert full.code == 2
    assert f"cannot write the run to {out}: No space left on device" in full.err.replace("\n", " ")
    assert sorted(path.name for path in small_disk.iterdir()) == ["filling"]
    (small_disk / "filling").unlink()
    again = command(*options(tmp_path / "store", tmp_path / "elsewhere", ("reconversion",)))
    assert again.code == 0, again.err
    assert all(line.cached for line in Record.read(tmp_path / "elsewhere" / "record.json").stages)
