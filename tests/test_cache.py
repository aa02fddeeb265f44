"""The store's size and pruning, and what a dead process leaves behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from audit import temporary
from audit.errors import AuditError
from audit.store import UNFINISHED, Artifact, Store
from tests.conftest import Command

DAY = 24 * 60 * 60


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    for stage, key in (("teacher", "a"), ("attack", "b"), ("attack", "c")):
        store.put(stage, key, Artifact({"x": torch.zeros(1000)}))
    _age(store.path("attack", "b"), 40)
    _age(store.path("teacher", "a"), 10)
    return store


def _age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def test_what_is_kept_is_listed_the_longest_unused_first(store: Store) -> None:
    kept = store.kept()
    assert [(one.stage, one.path.stem) for one in kept] == [("attack", "b"), ("teacher", "a"), ("attack", "c")]
    assert all(one.size == one.path.stat().st_size > 4000 for one in kept)


def test_reading_is_use(store: Store) -> None:
    assert store.get("attack", "b") is not None
    assert store.prune(time.time() - 30 * DAY) == []


def test_pruning_removes_what_is_unused_and_nothing_else(store: Store) -> None:
    removed = store.prune(time.time() - 30 * DAY)
    assert [one.path.stem for one in removed] == ["b"]
    assert [one.path.stem for one in store.kept()] == ["a", "c"]
    artifact, cached = store.get_or_make("attack", "b", lambda: Artifact({"x": torch.zeros(1000)}))
    assert not cached
    assert torch.equal(artifact.tensors["x"], torch.zeros(1000))


def test_the_command_says_what_is_there_and_what_it_removed(store: Store, command: Command) -> None:
    shown = command("cache", "--store", store.root)
    assert (shown.code, shown.err) == (0, "")
    assert "3 stages, 12.7 kB, in" in shown.out
    assert [line.split()[:2] for line in shown.out.splitlines() if line.startswith("  attack")] == [["attack", "2"]]
    assert "removed 2 stages" in command("cache", "--prune", "--unused", "9", "--store", store.root).out
    assert "removed 0 stages" in command("cache", "--prune", "--unused", "9", "--store", store.root).out
    assert "removed 1 stage, 4.2 kB," in command("cache", "--prune", "--unused", "0", "--store", store.root).out


@pytest.mark.parametrize("days", ["-1", "inf", "nan"])
def test_a_number_of_days_that_is_none_is_refused(days: str, command: Command, tmp_path: Path) -> None:
    refused = command("cache", "--unused", days, "--store", tmp_path)
    assert refused.code == 2
    assert "a number of days, 0 or more" in refused.err


def test_a_store_that_is_not_there_holds_nothing(command: Command, tmp_path: Path) -> None:
    assert "0 stages, 0 B, in" in command("cache", "--store", tmp_path / "none").out
    assert "removed 0 stages" in command("cache", "--prune", "--store", tmp_path / "none").out
    assert not (tmp_path / "none").exists()


def test_what_a_dead_process_was_writing_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from audit import temporary\n"
            "place = temporary.place(Path(sys.argv[1]), '.safetensors'); place.write_text('half')\n"
            "folder = temporary.place(Path(sys.argv[1])); (folder / 'tables').mkdir(parents=True)",
            str(tmp_path),
        ],
        check=True,
        cwd=Path(temporary.__file__).parents[1],
    )
    assert child.returncode == 0
    mine = temporary.place(tmp_path, ".safetensors")
    mine.write_text("being written")
    elsewhere = tmp_path / ".writing-00000000-1-00000000.safetensors"
    elsewhere.write_text("of another machine")
    strange = tmp_path / ".writing-by-hand"
    strange.write_text("somebody's")
    assert len(temporary.clear(tmp_path)) == 2
    assert set(tmp_path.iterdir()) == {mine, elsewhere, strange}
    os.utime(elsewhere, (1000, 1000))
    os.utime(mine, (1000, 1000))
    assert temporary.clear(tmp_path, begun_before=999) == []
    assert temporary.clear(tmp_path, begun_before=1001) == [elsewhere]
    assert set(tmp_path.iterdir()) == {mine, strange}


def test_a_store_is_cleared_before_it_is_used(store: Store) -> None:
    dead = store.root / "attack" / temporary.place(Path()).name.replace(str(os.getpid()), str(2**22 + 1))
    dead.write_text("half")
    store.claim()
    assert not dead.exists()


def test_what_cannot_be_removed_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(AuditError, match=r"cannot remove .*b\.safetensors: Permission denied"):
        store.prune(time.time() - 30 * DAY)


def test_stages_of_another_store_are_taken_over(store: Store, command: Command, tmp_path: Path) -> None:
    own = Store(tmp_path / "own")
    own.put("teacher", "a", Artifact({"x": torch.ones(1)}))
    store.put(UNFINISHED, "e", Artifact())
    done = command("cache", "--add", store.root, "--store", own.root)
    assert (done.code, done.err) == (0, "")
    assert "added 2 stages, 8.5 kB, to" in done.out
    assert ", 1 there already" in done.out
    assert {one.path.stem for one in own.kept()} == {"a", "b", "c"}
    mine = own.get("teacher", "a")
    assert mine is not None
    assert torch.equal(mine.tensors["x"], torch.ones(1)), "what is there stays"
    taken = own.get("attack", "b")
    assert taken is not None
    assert torch.equal(taken.tensors["x"], torch.zeros(1000))


def test_nothing_is_taken_over_where_one_stage_is_damaged(store: Store, command: Command, tmp_path: Path) -> None:
    path = store.path("attack", "c")
    path.write_bytes(path.read_bytes()[:-1])
    done = command("cache", "--add", store.root, "--store", tmp_path / "own")
    assert (done.code, f"{path} is no whole stage (" in done.err) == (2, True)
    assert not (tmp_path / "own").exists()

    def refused(what: str) -> bool:
        done = command("cache", "--add", store.root, "--store", tmp_path / "own")
        return done.code == 2 and f"{path} is no whole stage ({what}" in done.err

    save_file({}, path)
    assert refused("it does not say which stage it is)")
    save_file({}, path, metadata={"artifact": "[" * 100_000})
    assert refused("maximum recursion depth exceeded")
    path.unlink()
    store.path("attack", "b").rename(path)
    assert refused("it is attack b)")


def test_a_folder_without_stages_and_two_orders_at_once_are_refused(command: Command, tmp_path: Path) -> None:
    done = command("cache", "--add", tmp_path, "--store", tmp_path / "own")
    assert (done.code, f"{tmp_path} holds no stage: STAGE/KEY.safetensors" in done.err) == (2, True)
    done = command("cache", "--add", tmp_path, "--prune", "--store", tmp_path / "own")
    assert (done.code, "pass --add or --prune, not both" in done.err) == (2, True)
