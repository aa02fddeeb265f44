"""An accepted submission becomes a row."""

from pathlib import Path

from audit.errors import AuditError
from leaderboards.archive import PICTURES, SCORES
from leaderboards.entries import Entry, add
from leaderboards.verification import Verdict


def accept(verdict: Verdict, root: Path) -> Entry:
    """Add the row that was checked under ``root``, with what was found beside it.

    Raises AuditError where it was refused, is no archive, or is there already.
    """
    if not verdict.accepted or verdict.opened is None:
        raise AuditError("only an archive that was accepted becomes a row")
    contents = verdict.opened.contents
    entry = add(verdict.opened.record, contents[SCORES], contents.get(PICTURES), root)
    entry.verification.write_text(verdict.document(entry.hash), encoding="utf-8")
    return entry
