"""A zip file that a stranger packed is read whole, within its limits, or refused for what is wrong with it."""

import io
import stat
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.zips import Limits, read_members

LIMITS = Limits(files=5, packed=2**20, unpacked=2**22, ratio=100)
MIB = 2**20


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def read(content: bytes, allowed: Callable[[str], bool] = lambda name: True) -> dict[str, bytes]:
    return read_members(content, "x.zip", LIMITS, allowed)


def patched(content: bytes, signature: bytes, at: int, value: bytes) -> bytes:
    """With ``value`` written ``at`` bytes after the first ``signature``."""
    start = content.index(signature) + at
    return content[:start] + value + content[start + len(value) :]


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
TWO = {"a": b"first", "b": bytes(1000)}


@given(st.dictionaries(st.text("abc._- ", min_size=1, max_size=20), st.binary(max_size=300), max_size=5))
@settings(max_examples=40, deadline=None)
def test_what_was_packed_is_what_is_read(files: dict[str, bytes]) -> None:
    assert read(pack(files)) == files


def test_a_file_on_disk_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(pack(TWO))
    assert read_members(tmp_path / "x.zip", "x.zip", LIMITS, lambda name: True) == TWO


def linked() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        entry = zipfile.ZipInfo("a")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return file.getvalue()


def twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"two")
    return file.getvalue()


def larger_end(entries: int) -> bytes:
    """An end record of one entry, and a zip64 one of a whole million, which is the one that readers follow."""
    content = pack({"a": b""})
    at = content.index(END)
    other = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, 46 * entries, at)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    return content[:at] + other + locator + content[at:]


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"\x80\x04" + bytes(100), "no zip file: it has no directory"),
    "nothing": (lambda: b"", "no zip file"),
    "cut end": (lambda: pack(TWO)[:-3], "no zip file"),
    "cut front": (lambda: pack(TWO)[40:], "cannot be read|no proper zip"),
    "link": (linked, "a is a link or another special file"),
    "twice": (twice, "a is in it twice"),
    "encrypted": (lambda: patched(pack(TWO), CENTRAL, 8, b"\x01\x00"), "a is encrypted"),
    "method": (lambda: pack(TWO, zipfile.ZIP_LZMA), "a is compressed by another method"),
    "unknown method": (lambda: patched(pack(TWO), CENTRAL, 10, b"\x63\x00"), "a is compressed by another method"),
    "six files": (lambda: pack({str(i): b"" for i in range(6)}), "6 files or more; at most 5"),
    "count too small": (lambda: patched(pack(TWO), END, 8, b"\x01\x00\x01\x00"), "2 files where its end says 1"),
    "large": (lambda: pack({"a": bytes(MIB)}, zipfile.ZIP_STORED), "bytes; at most 1,048,576 are read"),
    "ratio": (lambda: pack({"a": bytes(2 * MIB)}), "times its packed size; at most 100 times"),
    "total": (lambda: pack({str(i): b"ab" * 2**19 for i in range(5)}), "5,242,880 bytes unpacked; at most 4,194,304"),
    "claims more": (lambda: patched(pack(TWO), CENTRAL, 24, struct.pack("<L", 50)), "the size that it declares|CRC"),
    "claims less": (lambda: patched(pack(TWO), CENTRAL, 24, struct.pack("<L", 3)), "CRC"),
    "claims gigabytes": (
        lambda: patched(pack(TWO), CENTRAL, 24, struct.pack("<L", 2**32 - 2)),
        "times its packed size",
    ),
    "other content": (lambda: pack({"a": b"secret"}, zipfile.ZIP_STORED).replace(b"secret", b"public"), "CRC"),
    "damaged stream": (lambda: patched(pack({"a": b"x" * 99}), LOCAL, 31, b"\xff" * 9), "cannot be read"),
    "other name inside": (lambda: patched(pack(TWO), LOCAL, 30, b"z"), "cannot be read: File name"),
    "before its start": (lambda: patched(pack(TWO), END, 16, b"\xff\xff\xff\x7f"), "cannot be read|no proper zip"),
    "beyond its end": (lambda: patched(pack(TWO), CENTRAL, 42, b"\xff\xff\xff\x7f"), "cannot be read|no proper zip"),
    "zip64": (lambda: larger_end(10**6), "zip64"),
    "name is no text": (
        lambda: patched(patched(pack(TWO), CENTRAL, 8, b"\x00\x08"), CENTRAL, 46, b"\xff"),
        "proper zip",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_for_what_it_is(kind: str) -> None:
    make, reason = HOSTILE[kind]
    with pytest.raises(AuditError, match=f"^x.zip.*({reason})"):
        read(make())


def test_an_entry_at_a_place_that_no_file_has_is_refused() -> None:
    content = pack({"a": b""})
    extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    at = content.index(CENTRAL)
    entry = content[at : at + 30] + struct.pack("<H", len(extra)) + content[at + 32 : at + 42] + b"\xff" * 4 + b"a"
    end = patched(content[content.index(END) :], END, 12, struct.pack("<L", len(entry + extra)))
    with pytest.raises(AuditError, match=r"no proper zip|cannot be read"):
        read(content[:at] + entry + extra + end)


def test_a_million_entries_are_counted_before_one_of_them_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    one = pack({"a": b""})
    entry = one[one.index(CENTRAL) : one.index(END)]
    directory = entry * 10**6
    end = struct.pack("<4s4H2LH", END, 0, 0, 65_535, 65_535, len(directory), 0, 0)
    limits = Limits(files=200, packed=2**30, unpacked=2**30, ratio=100)

    def forbidden(*_: object) -> None:
        raise AssertionError("the directory was parsed")

    monkeypatch.setattr(zipfile, "ZipFile", forbidden)
    for lie in (end, patched(end, END, 8, b"\x01\x00\x01\x00")):
        with pytest.raises(AuditError, match="files or more; at most 200 are read"):
            read_members(directory + lie, "x.zip", limits, lambda name: True)


def test_a_large_file_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "x.zip").open("wb") as file:
        file.truncate(2**40)
    start = time.monotonic()
    with pytest.raises(AuditError, match="1,099,511,627,776 bytes; at most"):
        read_members(tmp_path / "x.zip", "x.zip", LIMITS, lambda name: True)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "..\\a", "C:\\a", "a\n", "a\x00b/../c", "a/"])
def test_a_name_that_has_no_place_is_refused_by_name(name: str) -> None:
    with pytest.raises(AuditError, match="has no place in it"):
        read(pack({name: b""}), lambda name: name in ("manifest.json",))


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_whatever_bytes_are_written_into_it_it_is_read_or_refused(noise: bytes, at: int, end: int) -> None:
    content = pack({"a": b"first" * 20, "b": b"second"})
    try:
        read(content[:at] + noise + content[at + min(len(noise), end) :])
    except AuditError as error:
        assert str(error).startswith("x.zip")  # noqa: PT017
