"""Rows of our own runs: ``python -m leaderboards.add RUN`` adds one per audited defense, checked like a stranger's."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.archive import SCORES
from leaderboards.entries import ROOT, Entry, add, audited, remove, row
from leaderboards.submission import pictures_of, scores_of, targets_of
from leaderboards.verification import verify_row


def add_run(run: Path, root: Path = ROOT) -> list[Entry]:
    """Every row of the run, or none: raises AuditError where one is refused, is there already or cannot be written."""
    whole = Record.read(run / "record.json")
    names = list(dict.fromkeys(d.defense for result in whole.results for d in result.defenses if d.requested))
    entries: list[Entry] = []
    try:
        with tempfile.TemporaryDirectory() as work:
            checked = [_checked(run, row(whole, name), Path(work)) for name in names]
            for entry in checked:
                pictures = entry.pictures.read_bytes() if entry.pictures is not None else None
                weights = {seed: path.read_bytes() for seed, path in entry.weights.items()}
                entries.append(add(entry.record, entry.scores.read_bytes(), pictures, root, weights))
    except BaseException as error:
        for entry in entries:
            remove(entry)
        if isinstance(error, OSError):
            raise AuditError(f"cannot add the rows of {run}: {error.strerror or error}") from error
        raise
    return entries


def _checked(run: Path, record: Record, work: Path) -> Entry:
    """The row in a folder of its own. Raises AuditError where it is refused."""
    pictures = pictures_of(run, audited(record))
    weights = targets_of(run, record) if (run / "targets").is_dir() else {}
    entry = add(record, scores_of(run / SCORES, record), pictures, work, weights)
    verdict = verify_row(entry.path)
    if not verdict.accepted:
        found = [finding.detail for finding in verdict.findings if finding.state == "refused"]
        raise AuditError(f"{entry.defense} is refused: {found}")
    return entry


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the rows are there; 2: bad input."""
    parser = argparse.ArgumentParser(prog="python -m leaderboards.add", description="add the rows of a run")
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--records", type=Path, default=ROOT, help=f"default: {ROOT}")
    options = parser.parse_args(arguments)
    try:
        entries = add_run(options.run, options.records)
    except AuditError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write("".join(f"{entry.path}\n" for entry in entries))
    return 0


if __name__ == "__main__":
    sys.exit(main())
