"""The folder of a track: its runs, and the reasons of the places that have none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from audit.errors import AuditError
from audit.records import Record

TRACK = "track.json"
RECORD = "record.json"
FULL_PRECISION = 32


@dataclass(frozen=True)
class Place:
    """A cell of a track's grid; ``bits`` None is full precision, ``words`` what else it goes over. ``reason``: why it
    has no run."""

    coding: str
    bits: int | None
    words: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def title(self) -> str:
        words = (f"{name} {value}" for name, value in self.words.items())
        return ", ".join((f"{self.coding} coding", _bits(self.bits or FULL_PRECISION), *words))

    @property
    def folder(self) -> str:
        """What its run's folder is called."""
        parts = (self.coding, f"{self.bits or FULL_PRECISION}-bit", *(f"{k}-{v}" for k, v in self.words.items()))
        return "-".join(parts)


@dataclass(frozen=True)
class Track:
    """What was run, and what was not."""

    records: tuple[Record, ...]
    absent: tuple[Place, ...]


PLACES = TypeAdapter(tuple[Place, ...])


def write_absent(folder: Path, absent: Iterable[Place]) -> None:
    """Atomically: the file is whole or absent. Its being there is what makes a folder that of a track."""
    temporary = folder / f".{TRACK}"
    temporary.write_bytes(PLACES.dump_json(tuple(absent), indent=1) + b"\n")
    temporary.replace(folder / TRACK)


def read_track(folder: Path) -> Track | None:
    """None where ``folder`` is not that of a track. Raises AuditError where what it holds cannot be read."""
    path = folder / TRACK
    if not path.is_file():
        return None
    try:
        absent = PLACES.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise AuditError(f"{path} does not say which places have no run: {error}") from error
    return Track(tuple(Record.read(record) for record in sorted(folder.glob(f"*/{RECORD}"))), absent)


def each_run(paths: Sequence[Path]) -> list[Path]:
    """The runs that lie in the folder of a track in its place; another path as it is."""
    found: list[Path] = []
    for path in paths:
        inside = [record.parent for record in sorted(path.glob(f"*/{RECORD}"))] if (path / TRACK).is_file() else []
        found += inside or [path]
    return found


def _bits(bits: int) -> str:
    return "full precision" if bits == FULL_PRECISION else f"{bits} bit{'s' if bits > 1 else ''}"
