"""A store behind a URL gives what a folder gives: bit for bit, or made again."""

import logging
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from fsspec.registry import known_implementations

from audit.api import audit
from audit.errors import AuditError
from audit.remote_store import RemoteStore, open_store
from audit.store import Artifact, Store
from tests.conftest import Command
from tests.test_store import ARTIFACT, same

DAY = 24 * 60 * 60
SMALL = Artifact({"x": torch.zeros(1000)})


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return move_to("first", tmp_path, monkeypatch)


def move_to(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """To another machine, as far as a store can tell: one with another cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    return tmp_path / name


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


def url(folder: Path) -> str:
    return folder.as_uri()


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_another_machine_gets_an_artifact_bit_for_bit(
    kind: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = url(shared) if kind == "file" else f"memory://{shared.parent.name}"
    first = open_store(address)
    first.put("stage", "key", ARTIFACT)
    move_to("second", tmp_path, monkeypatch)
    second = open_store(address)
    assert second.root != first.root
    found, cached = second.get_or_make("stage", "key", lambda: pytest.fail("it is there"))
    assert cached
    assert same(found, ARTIFACT)
    for name, tensor in ARTIFACT.tensors.items():
        assert found.tensors[name].numpy().tobytes() == tensor.numpy().tobytes()
    assert second.path("stage", "key").read_bytes() == first.path("stage", "key").read_bytes()
    assert second.get("stage", "yek") is None


def test_what_was_fetched_once_is_read_here(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(url(shared)).put("stage", "key", ARTIFACT)
    move_to("second", tmp_path, monkeypatch)
    store = open_store(url(shared))
    assert same(store.get("stage", "key"), ARTIFACT)
    (shared / "stage" / "key.safetensors").unlink()
    assert same(store.get("stage", "key"), ARTIFACT)


def test_what_changes_under_its_key_is_read_there(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_store(url(shared))
    first.put("unfinished", "key", Artifact(document={"epoch": 1}))
    move_to("second", tmp_path, monkeypatch)
    open_store(url(shared)).put("unfinished", "key", Artifact(document={"epoch": 2}))
    found = first.get("unfinished", "key")
    assert found is not None
    assert found.document == {"epoch": 2}
    open_store(url(shared)).drop("unfinished", "key")
    assert first.get("unfinished", "key") is None


def test_what_is_dropped_is_gone_there_and_here(shared: Path) -> None:
    store = open_store(url(shared))
    store.put("stage", "key", ARTIFACT)
    store.drop("stage", "key")
    store.drop("stage", "key")
    assert store.get("stage", "key") is None
    assert names(shared) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "of another key"])
def test_a_damaged_artifact_behind_the_url_is_named_and_made_again(
    damage: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_store(url(shared)).put("stage", "key", SMALL)
    there = shared / "stage" / "key.safetensors"
    whole = there.read_bytes()
    if damage == "of another key":
        open_store(url(shared)).put("stage", "other", SMALL)
        there.write_bytes((shared / "stage" / "other.safetensors").read_bytes())
    else:
        there.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage == "flipped" else whole[:50])
    move_to("second", tmp_path, monkeypatch)
    store = open_store(url(shared))
    with caplog.at_level(logging.WARNING):
        assert store.get("stage", "key") is None
    assert f"{url(shared)}/stage/key.safetensors is damaged" in caplog.text
    assert not there.exists()
    assert list(store.root.rglob("*.safetensors")) == []
    assert store.get_or_make("stage", "key", lambda: SMALL)[1] is False
    assert there.read_bytes() == whole


def test_a_damaged_copy_is_fetched_again(shared: Path) -> None:
    store = open_store(url(shared))
    store.put("stage", "key", SMALL)
    store.path("stage", "key").write_bytes(b"half")
    assert same(store.get("stage", "key"), SMALL)


def test_nothing_has_its_name_behind_the_url_before_it_is_whole(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(url(shared))
    assert isinstance(store, RemoteStore)
    seen: list[list[str]] = []
    moved = store._files.mv

    def move(*given: str) -> None:
        seen.append(names(shared))
        moved(*given)

    monkeypatch.setattr(store._files, "mv", move)
    store.put("stage", "key", SMALL)
    ((during,),) = seen
    assert during.startswith("stage/.writing-")
    assert names(shared) == ["stage/key.safetensors"]


def test_a_transfer_that_fails_leaves_nothing_and_is_one_line(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(url(shared))
    assert isinstance(store, RemoteStore)

    def fail(*_: str) -> None:
        raise TimeoutError("the network\nis away")

    monkeypatch.setattr(store._files, "mv", fail)
    with pytest.raises(AuditError, match=f"^cannot write to the store {url(shared)}: the network$"):
        store.put("stage", "key", SMALL)
    assert names(shared) == []
    monkeypatch.setattr(store._files, "get_file", fail)
    with pytest.raises(AuditError, match=r"^cannot read from the store .*: the network$"):
        store.get("stage", "yek")


def test_a_checkpoint_that_could_not_be_sent_is_read_here_and_sent(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(url(shared))
    assert isinstance(store, RemoteStore)
    store.put("unfinished", "key", Artifact(document={"epoch": 1}))
    with monkeypatch.context() as broken:
        broken.setattr(store._files, "mv", lambda *_: (_ for _ in ()).throw(TimeoutError("away")))
        with pytest.raises(AuditError, match="away"):
            store.put("unfinished", "key", Artifact(document={"epoch": 2}))
    for _ in range(2):
        found = store.get("unfinished", "key")
        assert found is not None
        assert found.document == {"epoch": 2}


def test_what_is_kept_here_alone_is_pruned_and_named(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(url(shared))
    assert isinstance(store, RemoteStore)
    with monkeypatch.context() as broken:
        broken.setattr(store._files, "mv", lambda *_: (_ for _ in ()).throw(TimeoutError("away")))
        with pytest.raises(AuditError, match="away"):
            store.put("stage", "key", SMALL)
    assert store.prune(0.0) == []
    assert [one.path for one in store.prune(float("inf"))] == [store.path("stage", "key")]
    assert [path for path in store.root.rglob("*.*") if path.suffix in (".unsent", ".safetensors")] == []


def test_what_could_not_be_sent_is_sent_when_it_is_asked_for_again(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(url(shared))
    assert isinstance(store, RemoteStore)

    def fail(*_: str) -> None:
        raise TimeoutError("the network is away")

    with monkeypatch.context() as broken:
        broken.setattr(store._files, "mv", fail)
        with pytest.raises(AuditError, match="the network is away"):
            store.put("stage", "key", SMALL)
        assert same(store.get("stage", "key"), SMALL)
    assert "the network is away; what it lacks is kept here" in caplog.text
    assert store.get_or_make("stage", "key", lambda: ARTIFACT)[1] is True
    move_to("second", tmp_path, monkeypatch)
    assert same(open_store(url(shared)).get("stage", "key"), SMALL)
    assert names(shared) == ["stage/key.safetensors"]


def _make(address: str, ready: object, made: object) -> None:
    ready.wait()  # type: ignore[attr-defined]

    def make() -> Artifact:
        with made.get_lock():  # type: ignore[attr-defined]
            made.value += 1  # type: ignore[attr-defined]
        return Artifact({"a": torch.arange(100_000)})

    for key in "abc":
        open_store(address).get_or_make("stage", key, make)


def test_two_processes_of_one_machine_make_a_stage_once(shared: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, made = context.Barrier(2), context.Value("i", 0)
    processes = [context.Process(target=_make, args=(url(shared), ready, made)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert made.value == 3
    assert names(shared) == [f"stage/{key}.safetensors" for key in "abc"]


def test_two_machines_that_make_the_same_write_the_same(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(url(shared)).put("stage", "key", ARTIFACT)
    whole = (shared / "stage" / "key.safetensors").read_bytes()
    move_to("second", tmp_path, monkeypatch)
    open_store(url(shared)).put("stage", "key", ARTIFACT)
    assert (shared / "stage" / "key.safetensors").read_bytes() == whole


def _age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def test_pruning_removes_what_is_unused_there_and_here_and_what_never_ended(shared: Path, command: Command) -> None:
    store = open_store(url(shared))
    for key in "abc":
        store.put("stage", key, SMALL)
        _age(shared / "stage" / f"{key}.safetensors", 40)
        _age(store.path("stage", key), 40)
    assert same(store.get("stage", "c"), SMALL)  # reading here is use
    store.put("stage", "d", SMALL)
    begun = [shared / "stage" / f".writing-00000000-1-0000000{i}.safetensors" for i in range(2)]
    for path in begun:
        path.write_text("half")
    _age(begun[0], 40)
    assert [one.path.stem for one in store.kept()] == ["a", "b", "c", "d"]
    assert f"4 stages, 17.0 kB, in {url(shared)}" in command("cache", "--store", url(shared)).out
    shown = command("cache", "--prune", "--store", url(shared))
    assert f"removed 2 stages, 8.5 kB, from {url(shared)}" in shown.out
    assert names(shared) == [f"stage/{name}" for name in (begun[1].name, "c.safetensors", "d.safetensors")]
    assert sorted(one.path.stem for one in Store(store.root).kept()) == ["c", "d"]


def test_file_systems_tell_the_time_in_their_own_ways() -> None:
    store = open_store("memory://times")
    store.put("stage", "key", SMALL)
    (one,) = store.kept()
    assert abs(one.used - time.time()) < 60
    assert one.size == store.path("stage", "key").stat().st_size


def test_a_store_that_is_not_there_holds_nothing(shared: Path, command: Command) -> None:
    assert "0 stages, 0 B, in file://" in command("cache", "--store", url(shared)).out
    assert "removed 0 stages" in command("cache", "--prune", "--store", url(shared)).out
    assert not shared.exists()


def test_a_url_that_nothing_can_open_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = command("cache", "--store", "nowhere://bucket/audit")
    assert refused.code == 2
    assert refused.err == "error: cannot open the store nowhere://bucket/audit: Protocol not known: nowhere\n"
    known = {"class": "no_such_package.Files", "err": "Install no_such_package"}
    monkeypatch.setitem(known_implementations, "elsewhere", known)
    with pytest.raises(AuditError, match=r"elsewhere://bucket: Install no_such_package$"):
        audit("none", store="elsewhere://bucket")


def test_a_place_that_cannot_be_written_is_known_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AuditError, match="cannot write to the store file://"):
        open_store(url(tmp_path / "file" / "deeper")).claim()
    store = open_store(url(tmp_path / "new"))
    store.claim()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_path_is_a_folder_and_nothing_is_the_users_own(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT_STORE", raising=False)
    assert open_store().root == machine / "snn-privacy-audit"
    assert open_store(str(tmp_path)).root == tmp_path
    assert type(open_store(tmp_path)) is Store
    monkeypatch.setenv("AUDIT_STORE", "memory://shared")
    assert open_store().address == "memory://shared"
