"""Files and folders that are being written: their names say by whom, so that what a dead process left can go."""

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


def _host() -> str:
    """Of this machine since it was started, and of this container: only within it does a process number mean one."""
    known = [platform.node()]
    with suppress(OSError):
        known += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256("".join(known).encode()).hexdigest()[:8]


HOST = _host()
NAME = re.compile(r"\.writing-(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]+)-[0-9a-f]{8}(\..*)?")


def place(folder: Path, suffix: str = "") -> Path:
    """A path in ``folder`` that no other process takes; nothing is made there."""
    return folder / f".writing-{HOST}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"


def sync(folder: Path) -> None:
    """What was renamed in ``folder`` is on the disk, where the system and the file system can be asked for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise
        finally:
            os.close(descriptor)


def clear(folder: Path, begun_before: float = 0.0) -> list[Path]:
    """Remove what processes of this machine were writing in ``folder`` when they died; what was removed.

    Of other machines, and of this one before it was started anew, nothing is known: what they write stays, but for
    what was last written before ``begun_before``, in seconds since 1970.
    """
    found = left(folder)
    found += [path for path in folder.glob(".writing-*") if _is_old(path, begun_before)]
    for path in found:
        remove(path)
    return found


def left(folder: Path) -> list[Path]:
    """What processes of this machine were writing in ``folder`` when they died."""
    return [path for path in folder.glob(".writing-*") if _is_left(path.name)]


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it; nothing where it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_left(name: str) -> bool:
    written = NAME.fullmatch(name)
    return written is not None and written["host"] == HOST and not _alive(int(written["pid"]))


def _is_old(path: Path, begun_before: float) -> bool:
    written = NAME.fullmatch(path.name)
    with suppress(OSError):
        return written is not None and written["host"] != HOST and path.stat().st_mtime < begun_before
    return False


def _alive(pid: int) -> bool:
    if os.name != "posix":  # where asking ends a process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is there, and another user's
        return True
    return True
