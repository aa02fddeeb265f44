"""Rows of our own runs: ``python -m leaderboards.add RUN`` adds one per audited defense, checked like a stranger's."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.archive import PICTURES, SCORES
from leaderboards.entries import ROOT, Entry, add, row
from leaderboards.submission import scores_of
from leaderboards.verification import verify_row


def add_run(run: Path, root: Path = ROOT) -> list[Entry]:
    """Raises AuditError where a row is refused; then it is not there either."""
    whole = Record.read(run / "record.json")
    names = list(dict.fromkeys(d.defense for result in whole.results for d in result.defenses if d.requested))
    pictures = (run / PICTURES).read_bytes() if (run / PICTURES).is_file() else None
    entries = []
    for name in names:
        record = row(whole, name)
        entry = add(record, scores_of(run / SCORES, record), pictures, root)
        verdict = verify_row(entry.path)
        if not verdict.accepted:
            for path in (entry.path, entry.scores, entry.path.with_suffix(".png")):
                path.unlink(missing_ok=True)
            raise AuditError(f"{name} is refused: {[f.detail for f in verdict.findings if f.state == 'refused']}")
        entries.append(entry)
    return entries


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
