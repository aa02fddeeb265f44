"""An accepted submission becomes a row."""

from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.archive import PICTURES, RECORD, SCORES, unpack
from leaderboards.entries import Entry, add
from leaderboards.verification import Verdict


def accept(archive: Path, verdict: Verdict, root: Path) -> Entry:
    """Add the archive's row under ``root``, with what was found beside it. Raises AuditError where it is there."""
    if not verdict.accepted:
        raise AuditError(f"{archive} was refused")
    _, contents = unpack(archive)
    entry = add(Record.parse(contents[RECORD], RECORD), contents[SCORES], contents.get(PICTURES), root)
    entry.verification.write_text(verdict.document(), encoding="utf-8")
    return entry
