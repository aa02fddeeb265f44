"""An accepted submission becomes a row; accepted again after a further re-run, the row says so."""

from pathlib import Path

from audit.errors import AuditError
from leaderboards.archive import PICTURES, SCORES
from leaderboards.checking import CLAIMED, SPLIT, checked, rerun_of
from leaderboards.entries import Entry, add, add_weights, place
from leaderboards.verification import Verdict

# From the least to the most.
LEVELS = (CLAIMED, "attacks", "all")


def accept(verdict: Verdict, root: Path) -> Entry:
    """Add the row that was checked under ``root``, with what was found beside it.

    Of a row that is there already only the latter is written, where no more than that had been found before (`kept`),
    and its weights, where they are small and it has none. Raises AuditError where it was refused, is no archive, or has
    other raw scores than the row.
    """
    if not verdict.accepted or verdict.opened is None:
        raise AuditError("only an archive that was accepted becomes a row")
    contents = verdict.opened.contents
    entry = Entry(verdict.opened.record, root / place(verdict.opened.record))
    if not entry.path.exists():
        entry = add(entry.record, contents[SCORES], contents.get(PICTURES), root, verdict.opened.targets)
    elif not _same_scores(entry.scores, contents[SCORES]):
        raise AuditError(f"{entry.path} is there already, and its raw scores are not those of the archive")
    else:
        add_weights(entry, verdict.opened.targets)
    if kept(verdict, root) is None:
        entry.verification.write_text(verdict.document(entry.hash), encoding="utf-8")
    return entry


def kept(verdict: Verdict, root: Path) -> str | None:
    """Where the row was checked further before, in a line how far: nothing of that is taken back."""
    if verdict.opened is None:
        return None
    entry = Entry(verdict.opened.record, root / place(verdict.opened.record))
    if not entry.path.exists():
        return None
    before = (_level(rerun_of(entry)), SPLIT not in checked(entry))
    now = (_level(verdict.reached), (SPLIT, "not checked") not in [(f.check, f.state) for f in verdict.findings])
    return f"the row was checked further before ({checked(entry)}): this stays" if now < before else None


def _level(rerun: str) -> int:
    return LEVELS.index(rerun) if rerun in LEVELS else 0


def _same_scores(path: Path, content: bytes) -> bool:
    from audit.recompute import read_scores
    from audit.store import hash_tensors

    own, given = (hash_tensors(read_scores(source, "the raw scores")) for source in (path, content))
    return own == given
