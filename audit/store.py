"""Content-addressed artifacts: each stage's result under the hash of what made it; written whole or not at all."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from audit import temporary
from audit.costs import Costs
from audit.errors import AuditError

log = logging.getLogger(__name__)
# The folder of the locks: empty files, one for each stage that was ever made, which nobody needs once no run is on.
LOCKS = ".locks"
# The stage of checkpoints, by the key of the stage that they belong to: they are written anew under the same key.
UNFINISHED = "unfinished"
COSTS = "costs.jsonl"


@dataclass(frozen=True)
class Artifact:
    """What a stage made: named tensors and a JSON document."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)

    def hash(self) -> str:
        """sha256 over names, types, shapes and bytes of the tensors, and over the document."""
        return digest({"tensors": hash_tensors(self.tensors), "document": self.document})


class Unusable(AuditError):
    """The store cannot be read or written to, or not be shared."""


@dataclass(frozen=True)
class Kept:
    """An artifact's file: its ``size`` in bytes, and when it was last made or read, in seconds since 1970."""

    stage: str
    path: Path
    size: int
    used: float


class Store:
    """A folder of artifacts, one safetensors file each, named by stage and key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.costs = Costs(root / COSTS)

    @property
    def address(self) -> str:
        """What `audit.remote_store.open_store` opens it with."""
        return str(self.root)

    def claim(self) -> None:
        """Raises AuditError where nothing can be stored, before hours are spent on what should be.

        What a process that died was writing is removed.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in self.root.iterdir():
                temporary.clear(folder)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> "Unusable":
        reason = getattr(error, "strerror", None) or error
        return Unusable(f"cannot write to the store {self.root}: {reason}; pass --store PATH")

    def path(self, stage: str, key: str) -> Path:
        return self.root / stage / f"{key}.safetensors"

    def get(self, stage: str, key: str) -> Artifact | None:
        """The stored artifact, or None where there is none. A damaged file is reported, removed and counts as none.

        Raises `Unusable` for a file that is there and cannot be opened: that is no damage.
        """
        path = self.path(stage, key)
        try:
            with path.open("rb"):
                pass
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unusable(f"cannot read {path} of the store: {error.strerror or error}; pass --store PATH") from error
        try:
            artifact = read(path, stage, key)
            with suppress(OSError):  # for `prune`; a store that may only be read serves as well
                os.utime(path)
        except DAMAGES as error:
            log.warning("stored %s %s is damaged (%s): it is made again", stage, path, error)
            try:
                path.unlink(missing_ok=True)
            except OSError as refused:
                raise self._unusable(refused) from refused
            return None
        return artifact

    def put(self, stage: str, key: str, artifact: Artifact) -> None:
        """Write to a temporary file beside the place, flush it to disk, and rename it there."""
        path = self.path(stage, key)
        written_to = temporary.place(path.parent, path.suffix)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # One entry: safetensors writes several in no fixed order, and the same artifact shall be the same bytes.
            written = {"stage": stage, "key": key, "hash": artifact.hash(), "document": artifact.document}
            metadata = {"artifact": json.dumps(written, sort_keys=True)}
            save_file(_apart(artifact.tensors), written_to, metadata=metadata)
            with written_to.open("rb") as file:
                os.fsync(file.fileno())
            written_to.replace(path)
            temporary.sync(path.parent)
        except (OSError, SafetensorError) as error:
            raise self._unusable(error) from error
        finally:
            with suppress(OSError):
                written_to.unlink()

    def drop(self, stage: str, key: str) -> None:
        """Remove an artifact, if it is there."""
        with suppress(OSError):
            self.path(stage, key).unlink()

    def get_or_make(self, stage: str, key: str, make: Callable[[], Artifact]) -> tuple[Artifact, bool]:
        """The artifact and whether it was already there.

        Of several processes that ask for one at a time, one makes it and the others wait for it. A stage never waits
        for one that it is itself an input of, so that no two wait for each other.
        """
        found = self.get(stage, key)
        if found is not None:
            return found, True
        with self._alone(stage, key):
            found = self.get(stage, key)  # another process may have made it meanwhile
            if found is not None:
                return found, True
            made = make()
            self.put(stage, key, made)
        return made, False

    def kept(self) -> list[Kept]:
        """Every artifact, the one that was not used for longest first."""
        found = []
        for path in self.root.glob("*/*.safetensors"):
            if path.name.startswith("."):
                continue
            with suppress(FileNotFoundError):  # another process may prune as well
                status = path.stat()
                found.append(Kept(path.parent.name, path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda one: (one.used, one.path))

    def take_over(self, folder: Path) -> tuple[list[Kept], int]:
        """Store what lies in ``folder`` as in a store: what is new here, and how many stages were here already.

        Unfinished ones stay there. A stage is whole where it has the hash that it names itself: whether it is what its
        key says is a matter of trust. Raises AuditError, before anything is stored, where one is not, or none is there.
        """
        paths = [path for path in sorted(folder.glob("*/[!.]*.safetensors")) if path.parent.name != UNFINISHED]
        if not paths:
            raise AuditError(f"{folder} holds no stage: STAGE/KEY.safetensors, as in a store")
        for path in paths:
            _taken(path, folder)
        self.claim()
        new: list[Kept] = []
        for path in paths:
            stage, key = path.parent.name, path.stem
            if self.get(stage, key) is None:
                self.put(stage, key, _taken(path, folder))
                status = self.path(stage, key).stat()
                new.append(Kept(stage, self.path(stage, key), status.st_size, status.st_mtime))
        return new, len(paths) - len(new)

    def prune(self, unused_since: float) -> list[Kept]:
        """Remove what was neither made nor read since then, and what dead processes left, of other machines where it
        was begun before then; what was removed.

        A run that is on makes again what it needs of it. Raises AuditError where a file cannot be removed.
        """
        if not self.root.is_dir():
            return []
        removed = [one for one in self.kept() if one.used < unused_since]
        try:
            for one in removed:
                one.path.unlink(missing_ok=True)
                (self.root / LOCKS / one.stage / one.path.stem).unlink(missing_ok=True)
            for folder in self.root.iterdir():
                temporary.clear(folder, unused_since)
        except OSError as error:
            raise AuditError(f"cannot remove {error.filename}: {error.strerror}") from error
        self.claim()
        return removed

    @contextmanager
    def _alone(self, stage: str, key: str) -> Iterator[None]:
        """Holds the lock of a stage, which the system takes back from a process that dies."""
        lock = self.root / LOCKS / stage / key
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            # No marker in its place where the file system has no locks: one that a dead machine left would stay.
            held = FileLock(lock, fallback_to_soft=False)
            held.acquire()
        except (OSError, NotImplementedError) as error:
            raise self._unusable(error) from error
        try:
            yield
        finally:
            held.release()


def _taken(path: Path, folder: Path) -> Artifact:
    try:
        return read(path, path.parent.name, path.stem)
    except DAMAGES as error:
        raise AuditError(f"{path} is no whole stage ({error}); nothing of {folder} was added") from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, no two of them on the same memory: a file keeps each for itself."""
    made: dict[str, Tensor] = {}
    known: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        made[name] = own.clone() if own.untyped_storage().data_ptr() in known else own
        known.add(own.untyped_storage().data_ptr())
    return made


# What reading a file that is not whole, or not what its place says, comes to.
DAMAGES = (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError)


def read(path: Path, stage: str, key: str) -> Artifact:
    """The artifact in a file. Raises one of `DAMAGES` where it is not that of this stage and key, bit for bit."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if "artifact" not in metadata:
        raise ValueError("it does not say which stage it is")
    stored = json.loads(metadata["artifact"])
    artifact = Artifact(tensors, stored["document"])
    if (stored["stage"], stored["key"]) != (stage, key):
        raise ValueError(f"it is {stored['stage']} {stored['key']}")
    if artifact.hash() != stored["hash"]:
        raise ValueError("its content does not have the hash that it names")
    return artifact


def digest(value: Any) -> str:
    """sha256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        data = tensor.detach().cpu().contiguous()
        total.update(f"{name}|{data.dtype}|{tuple(data.shape)}|".encode())
        total.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def hash_sources(modules: Iterable[ModuleType | Path], content: Callable[[Path], bytes] = Path.read_bytes) -> str:
    """sha256 over the source files of modules and of whole packages: the code's part of a key.

    ``content`` of a file: by default what is there now.
    """
    entries: list[tuple[str, bytes]] = []
    for module in modules:
        path = module if isinstance(module, Path) else Path(str(module.__file__))
        package = path.name == "__init__.py"
        files = [file for pattern in ("*.py", "*.cpp") for file in path.parent.rglob(pattern)] if package else [path]
        root = path.parent.parent if package else path.parent
        entries += [(file.relative_to(root).as_posix(), content(file)) for file in files]
    total = hashlib.sha256()
    for name, text in sorted(entries):
        total.update(name.encode() + b"\0" + text + b"\0")
    return total.hexdigest()
