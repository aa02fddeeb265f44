"""A path on the command line to the record that it means, and to its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.entries import UNDEFENDED, Entry, joined, load_folder, networks

RECORD = "record.json"
PICTURES = "pictures"
WHAT = "the folder of a run, the .json of a record, or a folder of committed rows"


@dataclass(frozen=True)
class Run:
    """``pictures``: by defense, the grid that shows it; only what is there."""

    record: Record
    pictures: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> list[Run]:
    """One run, or all those whose rows lie in a folder. Raises AuditError, in one line, where ``path`` is no run."""
    if path.name == RECORD and path.is_file():
        path = path.parent
    if path.is_file():
        record = Record.read(path)
        return [_run(record, dict.fromkeys(_audited(record), path.with_suffix(".png")))]
    if (path / RECORD).is_file():
        record = Record.read(path / RECORD)
        return [_run(record, {name: path / PICTURES / f"{name}.png" for name in _audited(record)})]
    entries = load_folder(path) if path.is_dir() else []
    own = [entry for entry in entries if entry.record.submission is None and entry.record.external is None]
    if not own:
        raise AuditError(f"{path} is no run: give {WHAT}")
    return [_run(record, _pictures(own, record)) for record in joined([entry.record for entry in own], str(path))]


def _pictures(entries: Sequence[Entry], record: Record) -> dict[str, Path]:
    """Those of the rows that are part of the record, and not of others of the same defenses."""
    own = [entry for entry in entries if networks(entry.record) == networks(record)]
    return {entry.defense: entry.pictures for entry in own if entry.pictures is not None}


def _audited(record: Record) -> list[str]:
    return [defense.defense for result in record.results for defense in result.defenses if defense.requested]


def _run(record: Record, places: Mapping[str, Path]) -> Run:
    """Every grid shows the undefended network as well, where the run has it."""
    names = {defense.defense for result in record.results for defense in result.defenses}
    audited = _audited(record)
    pictures = {name: str(path) for name, path in places.items() if name in audited and path.is_file()}
    if pictures and UNDEFENDED in names:
        pictures.setdefault(UNDEFENDED, next(iter(pictures.values())))
    return Run(record, pictures)
