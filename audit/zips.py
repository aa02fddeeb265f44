"""Zip files that a stranger packed: read into memory, within limits, and never trusted with a place to write to."""

import io
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit.errors import AuditError

END = b"PK\x05\x06"
LARGER_END = b"PK\x06\x07"  # zip64: another end record, which is then the one that counts
LARGER_END_BYTES = 20
LONGEST_END = LARGER_END_BYTES + 65_557  # 22 bytes and a comment of at most 65,535
LONGEST_ENTRY = 512
RATIO_FROM = 2**20


@dataclass(frozen=True)
class Limits:
    """``files`` in it, ``packed`` and ``unpacked`` bytes of all; ``ratio`` of a file's, where it has over a MiB."""

    files: int
    packed: int
    unpacked: int
    ratio: int


def read_members(source: Path | bytes, where: str, limits: Limits, allowed: Callable[[str], bool]) -> dict[str, bytes]:
    """Contents by name. Raises AuditError, naming ``where``, for the first thing that is wrong: size, count, ratio, a
    name that is not ``allowed`` or is there twice, links, encryption, other methods than deflate, damage, zip64."""
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            size = file.seek(0, io.SEEK_END)
            if size > limits.packed:
                raise AuditError(f"{where}: {size:,} bytes; at most {limits.packed:,} are read")
            file.seek(max(0, size - LONGEST_END))
            count = _check_count(file.read(), where, limits)
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                if len(entries) != count:
                    raise AuditError(f"{where}: {len(entries):,} files where its end says {count:,}")
                _check(entries, where, limits, allowed)
                return {entry.filename: _content(archive, entry, where) for entry in entries}
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise AuditError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except (ValueError, OverflowError) as error:  # e.g. a name that is no text, an entry at a place that no file has
        raise AuditError(f"{where} is no proper zip file: {error}") from error


def _check_count(tail: bytes, where: str, limits: Limits) -> int:
    """How many entries there shall be, before the directory is read: a million shall not be parsed to be counted."""
    at = tail.rfind(END)
    if at < 0 or len(tail) < at + 22:
        raise AuditError(f"{where} is no zip file: it has no directory")
    count = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    # 65,535 entries, or a directory of 4 GiB, also stand for 'more, see elsewhere'.
    if count > limits.files or directory > limits.files * LONGEST_ENTRY:
        raise AuditError(f"{where}: {count:,} files or more; at most {limits.files:,} are read")
    if tail[max(0, at - LARGER_END_BYTES) : at].startswith(LARGER_END):
        raise AuditError(f"{where} is a zip64 file, which nothing within the limits needs to be")
    return count


def _check(entries: list[zipfile.ZipInfo], where: str, limits: Limits, allowed: Callable[[str], bool]) -> None:
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if not allowed(name):
            raise AuditError(f"{where}: a file named {name[:120]!r} has no place in it")
        if name in seen:
            raise AuditError(f"{where}: {name} is in it twice")
        seen.add(name)
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise AuditError(f"{where}: {name} is a link or another special file")
        if entry.flag_bits & 0x1:
            raise AuditError(f"{where}: {name} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise AuditError(f"{where}: {name} is compressed by another method than deflate")
        if entry.file_size > RATIO_FROM and entry.file_size > limits.ratio * entry.compress_size:
            times = entry.file_size / max(1, entry.compress_size)
            raise AuditError(f"{where}: {name} is {times:,.0f} times its packed size; at most {limits.ratio} times")
    if (total := sum(entry.file_size for entry in entries)) > limits.unpacked:
        raise AuditError(f"{where}: {total:,} bytes unpacked; at most {limits.unpacked:,} are read")


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    """No more than the entry declares, whatever its data unpack to; a wrong checksum raises BadZipFile."""
    with archive.open(entry) as file:
        content = file.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise AuditError(f"{where}: {entry.filename} does not have the size that it declares")
    return content
