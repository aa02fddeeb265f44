"""A path on the command line to the record that it means, and to its pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.entries import joined, load_folder

RECORD = "record.json"
PICTURES = "pictures.png"
WHAT = "the folder of a run, the .json of a record, or a folder of committed rows"


@dataclass(frozen=True)
class Run:
    """``pictures``: by defense, '' for a sheet of all; only what is there."""

    record: Record
    pictures: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Run:
    """Raises AuditError, in one line, where ``path`` is no run."""
    if path.is_file():
        return Run(Record.read(path), _sheet(path.with_name(PICTURES) if path.name == RECORD else _beside(path)))
    if (path / RECORD).is_file():
        return Run(Record.read(path / RECORD), _sheet(path / PICTURES))
    entries = load_folder(path) if path.is_dir() else []
    own = [entry for entry in entries if entry.record.submission is None and entry.record.external is None]
    if not own:
        raise AuditError(f"{path} is no run: give {WHAT}")
    pictures = {entry.defense: str(entry.pictures) for entry in own if entry.pictures is not None}
    return Run(joined([entry.record for entry in own], str(path)), pictures)


def _sheet(path: Path) -> dict[str, str]:
    return {"": str(path)} if path.is_file() else {}


def _beside(path: Path) -> Path:
    return path.with_suffix(".png")
