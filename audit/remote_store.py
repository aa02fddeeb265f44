"""A store behind a URL, on any file system that fsspec knows, with a folder of this machine in front of it."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from audit import temporary
from audit.errors import AuditError
from audit.store import DAMAGES, UNFINISHED, Artifact, Kept, Store, Unusable, digest, read

log = logging.getLogger(__name__)
SUFFIX, UNSENT = ".safetensors", ".unsent"
# Stages that are written anew under the same key: what is here of them may be older than what is there.
CHANGING = (UNFINISHED,)
# When a file was last written, as the file systems call it.
WRITTEN = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")


def open_store(address: str | Path | None = None) -> Store:
    """The store at a path or a URL; without one that of AUDIT_STORE, else a folder in the user's cache.

    Raises AuditError for a URL that no file system is installed for.
    """
    chosen = address or os.environ.get("AUDIT_STORE") or user_cache() / "snn-privacy-audit"
    return RemoteStore(str(chosen)) if is_url(chosen) else Store(Path(chosen).expanduser())


def is_url(address: str | Path) -> bool:
    return isinstance(address, str) and "://" in address


def user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


class RemoteStore(Store):
    """What is made or asked for is kept in a folder here as well, an ordinary store that is named by the URL.

    There are no locks between machines: a run hands each piece out once, and two machines that make the same artifact
    write the same file. What stages have cost is known of this machine alone.
    """

    def __init__(self, url: str) -> None:
        super().__init__(user_cache() / "snn-privacy-audit-copies" / digest(url)[:16])
        self.url = url
        try:
            self._files, folder = fsspec.core.url_to_fs(url)
        except Exception as error:  # of any file system's own kind
            raise AuditError(f"cannot open the store {url}: {_line(error)}") from error
        self._folder = str(folder).rstrip("/")

    @property
    def address(self) -> str:
        return self.url

    def claim(self) -> None:
        super().claim()
        probe = f"{self._folder}/{temporary.place(Path()).name}"
        with self._reaching("write to"):
            self._files.makedirs(self._folder, exist_ok=True)
            self._files.pipe_file(probe, b"")
            self._files.rm(probe)

    def get(self, stage: str, key: str) -> Artifact | None:
        """From this machine, else from the URL. Damaged files of either are reported, removed and count as none."""
        unsent = self._unsent(stage, key).exists()
        here = super().get(stage, key) if unsent or stage not in CHANGING else None
        if here is not None and unsent:
            try:
                self._send(stage, key)
            except Unusable as error:  # the copy here is as good
                log.warning("%s; what it lacks is kept here", error)
        return here or self._fetch(stage, key)

    def _fetch(self, stage: str, key: str) -> Artifact | None:
        path = self.path(stage, key)
        arriving = temporary.place(path.parent, path.suffix)
        try:
            with self._reaching("read from"):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._files.get_file(self._there(stage, key), str(arriving))
                except FileNotFoundError:
                    return None
            try:
                artifact = read(arriving, stage, key)
            except DAMAGES as error:
                there = f"{self.url.rstrip('/')}/{stage}/{path.name}"
                log.warning("stored %s %s is damaged (%s): it is made again", stage, there, error)
                self.drop(stage, key)
                return None
            with self._reaching("keep a copy of what is in"):
                arriving.replace(path)
            return artifact
        finally:
            with suppress(OSError):
                arriving.unlink()

    def put(self, stage: str, key: str, artifact: Artifact) -> None:
        """Write it here, send it to a temporary name beside its place, and move it there.

        The move is atomic where the file system's is; an object store gives an object its name when it is whole. What
        could not be sent, or was not when the process was killed, is sent when it is asked for again.
        """
        unsent = self._unsent(stage, key)
        try:
            unsent.parent.mkdir(parents=True, exist_ok=True)
            unsent.touch()
        except OSError as error:
            raise self._unusable(error) from error
        super().put(stage, key, artifact)
        self._send(stage, key)

    def _send(self, stage: str, key: str) -> None:
        there = self._there(stage, key)
        folder = there.rpartition("/")[0]
        sent = f"{folder}/{temporary.place(Path()).name}{SUFFIX}"
        with self._reaching("write to"):
            self._files.makedirs(folder, exist_ok=True)
            try:
                self._files.put_file(str(self.path(stage, key)), sent)
                self._files.mv(sent, there)
            except BaseException:
                with suppress(Exception):
                    self._files.rm(sent)
                raise
        self._unsent(stage, key).unlink(missing_ok=True)

    def _unsent(self, stage: str, key: str) -> Path:
        """There while the copy here is the only one."""
        return self.path(stage, key).with_suffix(UNSENT)

    def drop(self, stage: str, key: str) -> None:
        super().drop(stage, key)
        self._unsent(stage, key).unlink(missing_ok=True)
        self._remove(self._there(stage, key))

    def kept(self) -> list[Kept]:
        """Every artifact behind the URL, by the place of its copy here.

        It was used when it was written there, or last read on this machine: file systems do not tell of other readers.
        """
        here = {one.path: one.used for one in super().kept()}
        found = []
        for name, info in self._listed().items():
            stage, _, file = name.partition("/")
            if not file.endswith(SUFFIX) or file.startswith(".") or "/" in file:
                continue
            path = self.path(stage, file.removesuffix(SUFFIX))
            found.append(Kept(stage, path, int(info["size"]), max(_written(info), here.get(path, 0.0))))
        return sorted(found, key=lambda one: (one.used, one.path))

    def prune(self, unused_since: float) -> list[Kept]:
        """Remove what `kept` says was not used since then, there and here, and what was begun before and never ended;
        what is kept here alone, since it could not be sent, as well.

        Who reads on other machines only does not keep an artifact from being removed: it is made again.
        """
        removed = [one for one in self.kept() if one.used < unused_since]
        begun = [n for n, info in self._listed().items() if "/.writing-" in f"/{n}" and _written(info) < unused_since]
        for one in removed:
            self._remove(self._there(one.stage, one.path.stem))
        for name in begun:
            self._remove(f"{self._folder}/{name}")
        alone = [one for one in Store(self.root).prune(unused_since) if one.path.with_suffix(UNSENT).exists()]
        for one in (*removed, *alone):
            one.path.with_suffix(UNSENT).unlink(missing_ok=True)
        return removed + alone

    def _there(self, stage: str, key: str) -> str:
        return f"{self._folder}/{stage}/{key}{SUFFIX}"

    def _listed(self) -> dict[str, Mapping[str, Any]]:
        """What is known of every file, by its name below the URL."""
        with self._reaching("list what is in"):
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._folder, detail=True)
            except FileNotFoundError:
                return {}
        return {name.removeprefix(self._folder).lstrip("/"): info for name, info in found.items()}

    def _remove(self, there: str) -> None:
        with self._reaching("remove from"), suppress(FileNotFoundError):
            self._files.rm(there)

    @contextmanager
    def _reaching(self, what: str) -> Iterator[None]:
        """Every file system, and what it stands on, fails in its own way."""
        try:
            yield
        except Exception as error:
            raise Unusable(f"cannot {what} the store {self.url}: {_line(error)}") from error


def _written(info: Mapping[str, Any]) -> float:
    """In seconds since 1970; now, where it is not known, so that nothing is taken for old."""
    value = next((info[name] for name in WRITTEN if info.get(name) is not None), None)
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.timestamp()
    return float(value) if isinstance(value, int | float) else time.time()


def _line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.strip().partition("\n")[0]
