"""``python -m leaderboards.changes BASE HEAD``: the rows that a branch adds, fetched as data and checked.

For a check of pull requests: what runs is the base's code, and of the branch only the bytes of records are read.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.board import boards, table
from leaderboards.entries import Entry, load
from leaderboards.rendering import Format, render
from leaderboards.site.build import write_site
from leaderboards.tables import build, readable
from leaderboards.verification import verify_row

PLACE = "leaderboards/records"
OF_A_ROW = re.compile(r"[0-9a-f]{64}(\.json|\.npz|\.png|-seed(0|[1-9][0-9]{0,9})\.safetensors)")
FORMATS: tuple[Format, ...] = ("csv", "md", "tex", "html")
REGULAR = "100644"
LARGEST = 256 * 2**20
LONGEST = 1000


def added(base: str, head: str, repository: Path) -> list[str]:
    """Paths of what ``head`` adds to `PLACE` since it left ``base``.

    Raises AuditError where a record is changed or removed, where something is added that is no file of a row, and where
    git cannot tell.
    """
    found = _git(repository, "diff", "--raw", "-z", "--no-renames", "--abbrev=40", f"{base}...{head}", "--", PLACE)
    words = found.decode("utf-8", "surrogateescape").split("\0")
    paths = []
    for about, path in zip(words[::2], words[1::2], strict=False):
        _, mode, _, _, status = about.split(" ")
        shown = path.encode("unicode_escape", "backslashreplace").decode()[:200]
        if status != "A":
            raise AuditError(f"{shown} is changed or removed: a row stays as it was added")
        if mode != REGULAR or not OF_A_ROW.fullmatch(Path(path).name):
            files = "HASH.json, HASH.npz, HASH.png or HASH-seed0.safetensors"
            raise AuditError(f"{shown} is no file of a row, that is {files}, and nothing else")
        paths.append(path)
    return paths


def fetch(paths: Sequence[str], head: str, repository: Path) -> None:
    """Write these files as they are in ``head``. Raises AuditError for one that is too large, before it is read."""
    for path in paths:
        size = int(_git(repository, "cat-file", "-s", f"{head}:{path}"))
        if size > LARGEST:
            raise AuditError(f"{path} has {size:,} bytes; at most {LARGEST:,}")
        place = repository / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(_git(repository, "cat-file", "blob", f"{head}:{path}"))


def check(paths: Sequence[str], repository: Path) -> bool:
    """Whether every row of these files is accepted, and the boards can be made with them; what was found is printed.

    Raises AuditError where a file belongs to no row, or a row does not lie where it belongs.
    """
    rows = {path for path in paths if path.endswith(".json")}
    if alone := [path for path in paths if _record_of(path) not in rows]:
        raise AuditError(f"{alone[0]} belongs to no record that is added with it")
    accepted = True
    for path in sorted(rows):
        verdict = verify_row(repository / path)
        if verdict.accepted and Record.read(repository / path).submission is None:
            verdict.add("submission", "refused", "a row without one is the maintainers' own: name who submits it")
        sys.stdout.write(f"== {path}\n{verdict.text()}\n")
        accepted &= verdict.accepted
    entries = load(repository / PLACE)
    return accepted and _can_be_shown(entries, sorted(rows))


def _can_be_shown(entries: Sequence[Entry], paths: Sequence[str]) -> bool:
    """Whether tables and site come out of all rows: one that breaks them would take everybody's away."""
    try:
        with tempfile.TemporaryDirectory() as work:
            write_site(entries, Path(work) / "site")
            tables = [table(board) for board in boards(entries)]
            tables += [build(entry.record, name) for entry in entries for name in readable(entry.record)]
            for each in tables:
                for form in FORMATS:
                    render(each, form).encode()
    except Exception as error:  # noqa: BLE001 - whatever a stranger's row makes them raise
        said = f"{type(error).__name__}: {error}".encode("unicode_escape").decode()[:LONGEST]
        sys.stdout.write(f"refused: with {', '.join(paths)} the boards cannot be made: {said}\n")
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is accepted; 1: one is refused, or breaks the boards; 2: the branch does something else to them."""
    parser = argparse.ArgumentParser(prog="python -m leaderboards.changes", description="check the rows of a branch")
    parser.add_argument("base", help="a commit")
    parser.add_argument("head", help="a commit")
    parser.add_argument("--repository", type=Path, default=Path(), help="default: the current folder")
    options = parser.parse_args(arguments)
    try:
        paths = added(options.base, options.head, options.repository)
        fetch(paths, options.head, options.repository)
        return 0 if check(paths, options.repository) else 1
    except AuditError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _git(repository: Path, *words: str) -> bytes:
    done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, check=False)
    if done.returncode:
        raise AuditError(f"git {words[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _record_of(path: str) -> str:
    """The .json that a file of a row belongs to."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name[:64]}.json"


if __name__ == "__main__":
    sys.exit(main())
