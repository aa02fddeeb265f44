"""What is stored comes back bit for bit, under a key that nothing else has, or is made again."""

import errno
import logging
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from audit import store as store_module
from audit.errors import AuditError
from audit.run_log import kept_log, tell
from audit.store import Artifact, Store, Unusable, digest, hash_sources, hash_tensors

ARTIFACT = Artifact(
    {"a": torch.tensor([[1.5, float("nan")], [float("inf"), -0.0]]), "b": torch.arange(3, dtype=torch.uint8)},
    {"notes": {"text": "grün", "numbers": [1, 0.1, None, True]}},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.rglob("*") if path.is_file())


def same(first: Artifact | None, second: Artifact) -> bool:
    return first is not None and first.hash() == second.hash() and first.document == second.document


def test_an_artifact_comes_back_bit_for_bit(store: Store) -> None:
    store.put("stage", "key", ARTIFACT)
    found = store.get("stage", "key")
    assert found is not None
    assert found.document == ARTIFACT.document
    for name, tensor in ARTIFACT.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert found.tensors[name].numpy().tobytes() == tensor.numpy().tobytes()


@pytest.mark.parametrize(
    "artifact",
    [
        Artifact(),
        Artifact(document={"only": "a document"}),
        Artifact({"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4), "true": torch.tensor([True, False])}),
        Artifact({"view": torch.arange(12.0).view(3, 4).T, "step": torch.arange(8)[::2]}),
        Artifact({"graph": torch.ones(2, requires_grad=True) * 2}),
    ],
    ids=["nothing", "document", "odd shapes", "strided", "with a gradient"],
)
def test_any_tensor_can_be_stored(artifact: Artifact, store: Store) -> None:
    store.put("stage", "key", artifact)
    found = store.get("stage", "key")
    assert same(found, artifact)
    assert found is not None
    for name, tensor in artifact.tensors.items():
        assert torch.equal(found.tensors[name], tensor)


def test_what_is_there_is_not_made_again(store: Store) -> None:
    made: list[int] = []

    def make() -> Artifact:
        made.append(1)
        return ARTIFACT

    (first, cached), (second, cached_2) = (store.get_or_make("stage", "key", make) for _ in range(2))
    assert (cached, cached_2, len(made)) == (False, True, 1)
    assert same(first, second)


def test_another_key_and_another_stage_are_another_place(store: Store) -> None:
    store.put("stage", "key", ARTIFACT)
    assert store.get("stage", "yek") is None
    assert store.get("other", "key") is None


def test_the_hash_follows_name_type_shape_and_every_byte() -> None:
    data = torch.tensor([1.0, 0.0])
    variants = [
        {"a": data},
        {"b": data},
        {"a": data.double()},
        {"a": data.view(torch.int32)},
        {"a": data.view(1, 2)},
        {"a": data.view(2, 1)},
        {"a": torch.tensor([1.0, -0.0])},
        {"a": torch.tensor([0.0, 1.0])},
        {"a": data[:1], "b": data[1:]},
        {"a": data, "b": torch.zeros(0)},
        {},
    ]
    assert len({hash_tensors(tensors) for tensors in variants}) == len(variants)


def test_the_hash_does_not_follow_order_and_layout() -> None:
    a, b = torch.rand(3, 4), torch.rand(2)
    assert hash_tensors({"a": a, "b": b}) == hash_tensors({"b": b, "a": a})
    assert hash_tensors({"a": a.T.contiguous().T}) == hash_tensors({"a": a})


def test_a_key_follows_every_value_and_no_order() -> None:
    base = {"seed": 0, "settings": {"rate": 0.1, "name": "x"}, "list": [1, 2]}
    assert digest({"list": [1, 2], "settings": {"name": "x", "rate": 0.1}, "seed": 0}) == digest(base)
    others = [
        base | {"seed": 1},
        base | {"seed": "0"},
        base | {"settings": {"rate": 0.1000001, "name": "x"}},
        base | {"list": [2, 1]},
        base | {"more": None},
    ]
    assert len({digest(value) for value in (base, *others)}) == 6


def test_a_key_of_something_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"rate": float("nan")})


def test_a_flipped_bit_anywhere_is_noticed_reported_and_repaired(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = Artifact({"a": torch.arange(6, dtype=torch.int16)}, {"n": 1})
    store.put("stage", "key", artifact)
    path = store.path("stage", "key")
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = store.get("stage", "key")
        # A flip may leave the content as it was (the padding of the header, for one): then it may be handed out.
        assert found is None or same(found, artifact), position
        if found is None:
            assert "is damaged" in caplog.text
            assert not path.exists()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again, cached = store.get_or_make("stage", "key", lambda: artifact)
    assert not cached
    assert same(again, artifact)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_a_truncated_file_is_reported_and_made_again(kept: int, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.put("stage", "key", ARTIFACT)
    path = store.path("stage", "key")
    path.write_bytes(path.read_bytes()[:kept])
    assert store.get_or_make("stage", "key", lambda: ARTIFACT)[1] is False
    assert str(path) in caplog.text
    assert "it is made again" in caplog.text
    assert same(store.get("stage", "key"), ARTIFACT)


def test_another_file_in_the_place_of_an_artifact_is_not_taken_for_it(store: Store) -> None:
    store.put("stage", "key", ARTIFACT)
    path = store.path("stage", "key")
    save_file({"a": torch.zeros(2)}, path)
    assert store.get("stage", "key") is None
    path.write_text("not a safetensors file")
    assert store.get("stage", "key") is None


def test_an_exception_while_writing_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.put("stage", "key", ARTIFACT)
    assert files(store) == []


def test_an_exception_while_making_leaves_nothing_and_comes_through(store: Store) -> None:
    def make() -> Artifact:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get_or_make("stage", "key", make)
    assert store.kept() == []
    assert store.get_or_make("stage", "key", lambda: ARTIFACT)[1] is False  # nobody holds it any more


def test_a_failed_write_leaves_the_earlier_artifact(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("stage", "key", ARTIFACT)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "save_file", full)
    with pytest.raises(AuditError, match="No space left on device"):
        store.put("stage", "key", Artifact())
    assert files(store) == ["key.safetensors"]
    assert same(store.get("stage", "key"), ARTIFACT)


def test_a_file_is_complete_before_it_has_its_name_and_the_name_is_on_the_disk_as_well(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(files(store)))
    store.put("stage", "key", ARTIFACT)
    (during,), after = seen
    assert during.startswith(".writing-")
    assert after == files(store) == ["key.safetensors"]


def test_a_root_that_cannot_be_written_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "deeper"):
        store = Store(root)
        assert store.get("stage", "key") is None
        with pytest.raises(AuditError, match=r"cannot write to the store .*file.*; pass --store PATH"):
            store.put("stage", "key", ARTIFACT)
        with pytest.raises(AuditError, match="pass --store PATH"):
            store.claim()


def test_a_read_only_root_is_an_error_with_advice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_module, "save_file", read_only)
    with pytest.raises(AuditError, match="Permission denied; pass --store PATH"):
        store.put("stage", "key", ARTIFACT)


def test_the_hash_of_sources_follows_every_file_and_its_name(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "a.py", "inner/b.py"):
        (package / name).write_text(name)
    init = package / "__init__.py"
    hashes = [hash_sources([init])]
    (package / "inner" / "b.py").write_text("changed")
    hashes.append(hash_sources([init]))
    (package / "a.py").rename(package / "c.py")
    hashes.append(hash_sources([init]))
    (package / "data.txt").write_text("no source")
    assert hash_sources([init]) == hashes[-1]
    assert len(set(hashes)) == 3


def test_two_source_files_of_one_name_both_count(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "a.py", tmp_path / "y" / "a.py"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("first")
    before = hash_sources(paths)
    for path in paths:
        path.write_text("second")
        changed = hash_sources(paths)
        assert changed != before
        before = changed


def test_a_file_that_cannot_be_opened_is_no_damage_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put("stage", "key", Artifact({"a": torch.ones(2)}))
    path = store.path("stage", "key")

    def refused(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)
        with pytest.raises(Unusable, match=r"cannot read .* of the store: Too many open files"):
            store.get("stage", "key")
    assert path.exists()
    assert store.get("stage", "key") is not None


def test_tensors_on_one_memory_are_kept_each_for_itself(tmp_path: Path) -> None:
    one = torch.arange(6.0)
    Store(tmp_path).put("stage", "key", Artifact({"one": one, "same": one.detach(), "view": one.view(2, 3)}))
    found = Store(tmp_path).get("stage", "key")
    assert found is not None
    assert torch.equal(found.tensors["one"], found.tensors["same"])
    assert torch.equal(found.tensors["view"], one.view(2, 3))


def test_without_locks_a_store_is_refused_and_no_marker_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.raises(Unusable, match="cannot write to the store"):
        store.get_or_make("stage", "key", lambda: Artifact())
    assert list(store.root.rglob("*.safetensors")) == []


@pytest.mark.parametrize(("error", "kept"), [(AuditError("bad input"), False), (RuntimeError("unforeseen"), True)])
def test_a_log_of_what_nobody_foresaw_stays(error: Exception, kept: bool, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log.jsonl"

    def begin() -> None:
        with kept_log(path, asked=False):
            tell("begins")
            raise error

    with pytest.raises(type(error)):
        begin()
    assert path.exists() is kept


def test_a_log_on_a_full_disk_ends_and_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with kept_log(Path("/dev/full"), asked=True):
        for n in range(3):
            tell("stage", n=n)
    assert [record.getMessage().split(":")[0] for record in caplog.records if record.levelno == logging.WARNING] == [
        "the log /dev/full ends here"
    ]
